//! From a URL and the environment to a store: S3, Google Cloud Storage, Azure Blob Storage, a
//! local directory or memory. Opening reaches for nothing over the network.

use std::path::{Path as FilePath, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, RetryConfig};

use super::settings::{Environment, Mode, Settings};
use super::transport::Connector;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is not one of those that are understood.
    #[error("{url:?}: {wrong}; accepted are {ACCEPTED}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        wrong: &'static str,
    },
    /// The environment lacks something, or has something wrong.
    #[error("{url:?}: {source}; {hint}")]
    Environment {
        /// The URL.
        url: String,
        /// What is wrong.
        source: object_store::Error,
        /// Which variables are read.
        hint: &'static str,
    },
    /// The directory cannot be used.
    #[error("{}: the directory of the object store cannot be used", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No thread for it.
    #[error("the thread of the object store cannot be started")]
    Thread(#[source] std::io::Error),
    /// The system's certificates, for the encrypted connection.
    #[error("the encrypted connection to the object store cannot be set up")]
    Tls(#[source] rustls::Error),
}

const ACCEPTED: &str = "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, \
    file:///directory and memory://";
const AWS: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), or \
    AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, or run where a container or an instance has a \
    role; AWS_REGION, AWS_ENDPOINT_URL and AWS_ALLOW_HTTP say where";
const GOOGLE: &str = "set GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT to a key file, \
    or GOOGLE_SERVICE_ACCOUNT_KEY to its content, or run where an instance has a service account";
const AZURE: &str = "set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY, \
    AZURE_STORAGE_SAS_TOKEN, or AZURE_STORAGE_CLIENT_ID with AZURE_STORAGE_CLIENT_SECRET and \
    AZURE_STORAGE_TENANT_ID, or run where an identity is managed";

/// A store that was opened.
#[derive(Debug)]
pub(super) struct Location {
    /// The store.
    pub(super) store: Arc<dyn ObjectStore>,
    /// Where in it everything is.
    pub(super) prefix: Path,
    /// The directory, if it is one.
    pub(super) directory: Option<PathBuf>,
    /// Which variables its credentials come from.
    pub(super) hint: &'static str,
}

/// What a URL names.
#[derive(Debug, PartialEq, Eq)]
enum Target<'a> {
    S3 { bucket: &'a str, prefix: Path },
    Google { bucket: &'a str, prefix: Path },
    Azure { container: &'a str, prefix: Path },
    Directory(&'a str),
    Memory,
}

impl Location {
    /// Opens what `settings` say.
    ///
    /// # Errors
    /// The URL is not understood, the environment lacks what the service needs, or the directory
    /// cannot be made.
    pub(super) fn open(settings: &Settings) -> Result<Self, OpenError> {
        let url = settings.url.as_str();
        let target = parse(url).map_err(|wrong| OpenError::Url {
            url: url.to_owned(),
            wrong,
        })?;
        let environment = &settings.environment;
        let connector = || Connector::new(settings.deadlines.connect, environment);
        let (opened, prefix, hint) = match target {
            Target::Memory => (Ok(arc(InMemory::new())), Path::default(), ""),
            Target::Directory(path) => return directory(path.into(), settings.mode),
            Target::S3 { bucket, prefix } => (s3(bucket, environment, connector()?), prefix, AWS),
            Target::Google { bucket, prefix } => {
                (google(bucket, environment, connector()?), prefix, GOOGLE)
            }
            Target::Azure { container, prefix } => {
                (azure(container, environment, connector()?), prefix, AZURE)
            }
        };
        let store = opened.map_err(|source| OpenError::Environment {
            url: url.to_owned(),
            source,
            hint,
        })?;
        Ok(Self {
            store,
            prefix,
            directory: None,
            hint,
        })
    }
}

fn arc(store: impl ObjectStore) -> Arc<dyn ObjectStore> {
    Arc::new(store)
}

/// One try a request: repetitions are decided by the tier, which has a budget for them.
fn no_retries() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

fn s3(
    bucket: &str,
    environment: &Environment,
    connector: Connector,
) -> object_store::Result<Arc<dyn ObjectStore>> {
    // Objects are deleted one by one, and a request that names its object is one that rules for a
    // prefix can judge by its path alone. Not every service knows the other form.
    let mut builder = AmazonS3Builder::new()
        .with_client_options(ClientOptions::new())
        .with_disable_bulk_delete(true)
        .with_retry(no_retries());
    for (name, value) in environment.below("AWS_") {
        if let Ok(key) = FromStr::from_str(&name) {
            builder = builder.with_config(key, value);
        }
    }
    let builder = builder.with_bucket_name(bucket);
    Ok(arc(builder.with_http_connector(connector).build()?))
}

fn google(
    bucket: &str,
    environment: &Environment,
    connector: Connector,
) -> object_store::Result<Arc<dyn ObjectStore>> {
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_client_options(ClientOptions::new())
        .with_retry(no_retries());
    if let Some(path) = environment.get("SERVICE_ACCOUNT") {
        builder = builder.with_service_account_path(path);
    }
    for (name, value) in environment.below("GOOGLE_") {
        if let Ok(key) = FromStr::from_str(&name) {
            builder = builder.with_config(key, value);
        }
    }
    let builder = builder.with_bucket_name(bucket);
    Ok(arc(builder.with_http_connector(connector).build()?))
}

fn azure(
    container: &str,
    environment: &Environment,
    connector: Connector,
) -> object_store::Result<Arc<dyn ObjectStore>> {
    let mut builder = MicrosoftAzureBuilder::new()
        .with_client_options(ClientOptions::new())
        .with_retry(no_retries());
    for (name, value) in environment.below("AZURE_") {
        if let Ok(key) = FromStr::from_str(&name) {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(endpoint) = environment.get("IDENTITY_ENDPOINT") {
        builder = builder.with_msi_endpoint(endpoint);
    }
    let builder = builder.with_container_name(container);
    Ok(arc(builder.with_http_connector(connector).build()?))
}

fn directory(path: PathBuf, mode: Mode) -> Result<Location, OpenError> {
    let open = |path: &FilePath| {
        if mode == Mode::ReadWrite {
            std::fs::create_dir_all(path)?;
        }
        let path = path.canonicalize()?;
        if !path.is_dir() {
            return Err(std::io::ErrorKind::NotADirectory.into());
        }
        let store = LocalFileSystem::new_with_prefix(&path).map_err(std::io::Error::other)?;
        Ok((arc(store), path))
    };
    match open(&path) {
        Ok((store, directory)) => Ok(Location {
            store,
            prefix: Path::default(),
            directory: Some(directory),
            hint: "",
        }),
        Err(source) => Err(OpenError::Directory { path, source }),
    }
}

fn parse(url: &str) -> Result<Target<'_>, &'static str> {
    let (scheme, rest) = url.split_once("://").ok_or("not a URL")?;
    match scheme {
        "memory" if rest.is_empty() || rest == "/" => return Ok(Target::Memory),
        "memory" => return Err("memory:// has no name and no path"),
        "file" if rest.starts_with('/') => return Ok(Target::Directory(rest)),
        "file" => return Err("the directory must be absolute, after three slashes"),
        _ => {}
    }
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let plain = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        !text.is_empty() && text.bytes().all(plain) && text != "." && text != ".."
    };
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if !matches!(scheme, "s3" | "gs" | "az") {
        return Err("the scheme is not known");
    }
    if !plain(name) {
        return Err(
            "the name of the bucket or container is missing or has other characters than \
            letters, digits, `-`, `.` and `_`",
        );
    }
    if !(prefix.is_empty() || prefix.split('/').all(plain)) {
        return Err("the prefix may have letters, digits, `-`, `.` and `_` between slashes");
    }
    let prefix = Path::from(prefix);
    Ok(match scheme {
        "s3" => Target::S3 {
            bucket: name,
            prefix,
        },
        "gs" => Target::Google {
            bucket: name,
            prefix,
        },
        _ => Target::Azure {
            container: name,
            prefix,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(url: &str, environment: Environment) -> Result<Location, OpenError> {
        let settings = Settings {
            environment,
            ..Settings::new(url)
        };
        Location::open(&settings)
    }

    #[test]
    fn urls_name_a_store_and_a_prefix() {
        let edge = || Path::from("edge/one");
        let (bucket, container) = ("b-1.x", "c");
        let check = |url, target| assert_eq!(parse(url), Ok(target), "{url}");
        let prefix = Path::default();
        check("s3://b-1.x", Target::S3 { bucket, prefix });
        let prefix = edge();
        check("s3://b-1.x/edge/one/", Target::S3 { bucket, prefix });
        let prefix = edge();
        check("gs://b-1.x/edge/one", Target::Google { bucket, prefix });
        let prefix = edge();
        check("az://c/edge/one", Target::Azure { container, prefix });
        check("file:///a b/c", Target::Directory("/a b/c"));
        check("memory://", Target::Memory);
        check("memory:///", Target::Memory);
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_accepted() {
        for (url, wrong) in [
            ("", "not a URL"),
            ("bucket/prefix", "not a URL"),
            ("https://b/p", "scheme"),
            ("s3a://b/p", "scheme"),
            ("s3://", "name of the bucket"),
            ("s3://user:pass@b/p", "name of the bucket"),
            ("s3://b?x", "name of the bucket"),
            ("gs://b/../p", "prefix"),
            ("gs://b//p", "prefix"),
            ("az://c/p%2f", "prefix"),
            ("file://relative", "absolute"),
            ("memory://name", "no name"),
        ] {
            let error = open(url, Environment::default()).unwrap_err().to_string();
            assert!(error.contains(wrong), "{url}: {error}");
            for scheme in ["s3://", "gs://", "az://", "file://", "memory://"] {
                assert!(error.contains(scheme), "{url}: {error}");
            }
        }
    }

    #[test]
    fn credentials_come_from_the_environment() {
        let none = Environment::default;
        let aws = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")];
        assert!(open("s3://b/p", Environment::of(aws)).is_ok());
        let half = Environment::of([("AWS_ACCESS_KEY_ID", "k")]);
        let error = open("s3://b/p", half).unwrap_err().to_string();
        assert!(error.contains("AWS_SECRET_ACCESS_KEY"), "{error}");
        // An instance may have a role: that is seen when the first request is signed.
        assert!(open("s3://b/p", none()).is_ok());
        let error = open("az://c", none()).unwrap_err().to_string();
        assert!(error.contains("AZURE_STORAGE_ACCOUNT_NAME"), "{error}");
        let azure = [
            ("AZURE_STORAGE_ACCOUNT_NAME", "a"),
            ("AZURE_STORAGE_ACCOUNT_KEY", "aGVsbG8="),
        ];
        assert!(open("az://c", Environment::of(azure)).is_ok());
        let google = Environment::of([("GOOGLE_SERVICE_ACCOUNT", "/no/such/file")]);
        let error = open("gs://b", google).unwrap_err().to_string();
        assert!(error.contains("GOOGLE_APPLICATION_CREDENTIALS"), "{error}");
        let shown = format!("{:?}", Environment::of(aws));
        assert_eq!(shown, r#"{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}"#);
    }

    #[test]
    fn a_directory_is_made_unless_it_is_only_read() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b");
        let url = format!("file://{}", path.display());
        let mut settings = Settings {
            mode: Mode::ReadOnly,
            ..Settings::new(url)
        };
        let error = Location::open(&settings).unwrap_err();
        assert!(matches!(error, OpenError::Directory { .. }), "{error}");
        assert!(!path.exists());
        settings.mode = Mode::ReadWrite;
        assert!(Location::open(&settings).is_ok());
        assert!(path.is_dir());
        std::fs::write(path.join("file"), b"").unwrap();
        settings.url = format!("file://{}/file", path.display());
        let error = Location::open(&settings).unwrap_err();
        assert!(matches!(error, OpenError::Directory { .. }), "{error}");
    }
}

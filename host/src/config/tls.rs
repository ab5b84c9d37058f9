//! The section `[listen.tls]`: HTTPS, and the files of its certificates.
//!
//! [`Certificate::read`] is the one place that reads those files: `check`, the start and every
//! reload judge them by the same rules.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use serde::Deserialize;

use super::address::ListenAddress;
use super::source::Unusable;

/// Bytes of a file, at most: a chain has a few certificates of a few KiB.
const FILE_MAX: u64 = 1 << 20;

/// The section `[listen.tls]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Where clients connect with TLS, for HTTP/2 and HTTP/1.1. Default (unset): nowhere.
    pub https: Option<ListenAddress>,
    /// The certificates. A client gets the first that bears the name it asks for, or else the
    /// first of all.
    #[serde(rename = "certificate")]
    pub certificates: Vec<CertificateFiles>,
}

/// A certificate and its key, as `[[listen.tls.certificate]]`. Both files are read again when the
/// configuration is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// PEM file of the certificate, followed by those that lead to its root.
    pub chain: PathBuf,
    /// PEM file of the private key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: PathBuf,
}

/// A certificate that was read.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The chain and the key.
    pub certified: Arc<CertifiedKey>,
    /// The DNS names it bears, in lower case; a first label may be `*`.
    pub names: Vec<String>,
}

impl Certificate {
    /// Reads the files of the certificate at `position` of the section.
    ///
    /// # Errors
    /// A file cannot be read, holds something else, or the two do not belong together.
    pub fn read(position: usize, files: &CertificateFiles) -> Result<Self, Unusable> {
        let wrong = |name: &str, path: &Path, what: &str| Unusable {
            key: format!("listen.tls.certificate[{position}].{name}"),
            clause: format!("\"{}\" {what}", path.display()),
        };
        let chain = read(&files.chain).map_err(|what| wrong("chain", &files.chain, &what))?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
        let chain = match chain {
            Ok(chain) if !chain.is_empty() => chain,
            Ok(_) => {
                let what = "holds no certificate; write a PEM file with \"BEGIN CERTIFICATE\"";
                return Err(wrong("chain", &files.chain, what));
            }
            Err(error) => {
                let what = format!("is not PEM: {error}");
                return Err(wrong("chain", &files.chain, &what));
            }
        };
        let key = read(&files.key).map_err(|what| wrong("key", &files.key, &what))?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| {
            let what = format!(
                "holds no private key: {error}; write a PEM file with \"BEGIN PRIVATE KEY\""
            );
            wrong("key", &files.key, &what)
        })?;
        let key = any_supported_type(&key).map_err(|_| {
            let what = "holds a key of a kind that is not supported; use RSA, ECDSA or Ed25519";
            wrong("key", &files.key, what)
        })?;
        let names = match chain.first().map(names) {
            Some(Ok(names)) => names,
            Some(Err(error)) => {
                let what = format!("holds a certificate that cannot be read: {error}");
                return Err(wrong("chain", &files.chain, &what));
            }
            None => Vec::new(),
        };
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Self {
                certified: Arc::new(certified),
                names,
            }),
            Err(_) => {
                let what = format!(
                    "is not the key of the certificate in \"{}\"",
                    files.chain.display()
                );
                Err(wrong("key", &files.key, &what))
            }
        }
    }

    /// Reads every certificate of the section.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn read_all(tls: &Tls) -> Result<Vec<Self>, Unusable> {
        let files = tls.certificates.iter().enumerate();
        files
            .map(|(position, files)| Self::read(position, files))
            .collect()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= FILE_MAX => Ok(bytes),
        _ => Err("is larger than 1MiB, which no such file is".to_owned()),
    }
}

fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, webpki::Error> {
    let parsed = webpki::EndEntityCert::try_from(certificate)?;
    Ok(parsed
        .valid_dns_names()
        .map(str::to_ascii_lowercase)
        .collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertifiedKey as Generated, generate_simple_self_signed};

    use super::*;

    struct Files {
        dir: tempfile::TempDir,
    }

    impl Files {
        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        }
    }

    fn generated(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let Generated { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_is_read_with_its_names() {
        let dir = Files {
            dir: tempfile::tempdir().unwrap(),
        };
        let (chain, key) = generated(&["A.test", "*.b.test", "192.0.2.1"]);
        let files = CertificateFiles {
            chain: dir.write("chain", &chain),
            key: dir.write("key", &key),
        };
        let read = Certificate::read(0, &files).unwrap();
        assert_eq!(read.names, ["a.test", "*.b.test"]);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let dir = Files {
            dir: tempfile::tempdir().unwrap(),
        };
        let (chain, key) = generated(&["a.test"]);
        let (_, other) = generated(&["a.test"]);
        let (good, good_key) = (dir.write("good", &chain), dir.write("good.key", &key));
        let other = dir.write("other.key", &other);
        let empty = dir.write("empty", "");
        let broken = dir.write(
            "broken",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        );
        let large = dir.write("large", &"x".repeat(2 << 20));
        for (chain, key, at, clause) in [
            (&empty, &good_key, "chain", "holds no certificate"),
            (&broken, &good_key, "chain", "cannot be read"),
            (&large, &good_key, "chain", "larger than 1MiB"),
            (
                &dir.dir.path().join("none"),
                &good_key,
                "chain",
                "No such file",
            ),
            (&good, &empty, "key", "holds no private key"),
            (&good, &good, "key", "holds no private key"),
            (&good, &other, "key", "is not the key of the certificate"),
        ] {
            let files = CertificateFiles {
                chain: chain.clone(),
                key: key.clone(),
            };
            let unusable = Certificate::read(3, &files).unwrap_err();
            assert_eq!(unusable.key, format!("listen.tls.certificate[3].{at}"));
            assert!(unusable.clause.contains(clause), "{unusable}");
        }
    }
}

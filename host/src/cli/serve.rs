//! `serve` and `check`: the same settings, run or only examined.

#![expect(
    clippy::doc_markdown,
    reason = "comments on arguments are the text of --help"
)]

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::{Failure, logging, output};
use crate::config::{
    self, ByteSize, Config, ConfigError, Inputs, Key, ListenAddress, Loaded, Origin, PolicyChoice,
    Site, TierName, Unusable, Variables,
};
use crate::control;

/// What a configuration is made of. A flag left out leaves its key to the environment, the file
/// and the default, in that order.
#[derive(Debug, Args)]
pub(super) struct Settings {
    /// Configuration file (TOML) [env: LARDER_CONFIG]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where clients connect [env: LARDER_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<ListenAddress>,
    /// Where responses come from, as http[s]://HOST[:PORT] [env: LARDER_ORIGIN]
    #[arg(long, value_name = "URL")]
    origin: Option<Origin>,
    /// Where operators connect [env: LARDER_ADMIN] [default: 127.0.0.1:9080]
    #[arg(long, value_name = "ADDR")]
    admin: Option<ListenAddress>,
    /// File with the token that operators must give [env: LARDER_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Directory that keeps policies across restarts [env: LARDER_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Size of the memory tier [env: LARDER_MEMORY] [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// Size of the disk tier, which needs a data directory; 0 turns it off [env: LARDER_DISK]
    /// [default: 10GiB, at most half of what is free]
    #[arg(long, value_name = "SIZE")]
    disk: Option<ByteSize>,
    /// Where the object store is: s3://, gs://, az://, file:// or memory:// [env:
    /// LARDER_OBJECT_STORE]
    #[arg(long, value_name = "URL")]
    object_store: Option<String>,
}

impl Settings {
    fn inputs(self, variables: Variables) -> Inputs {
        let path = |path: PathBuf| path.display().to_string();
        let flags = [
            (
                "--listen",
                "listen.http",
                self.listen.map(|address| address.to_string()),
            ),
            (
                "--admin",
                "admin.listen",
                self.admin.map(|address| address.to_string()),
            ),
            (
                "--token-file",
                "admin.token_file",
                self.token_file.map(path),
            ),
            ("--data-dir", "data_dir", self.data_dir.map(path)),
            (
                "--memory",
                "memory.capacity",
                self.memory.map(|size| size.to_string()),
            ),
            (
                "--disk",
                "disk.capacity",
                self.disk.map(|size| size.to_string()),
            ),
            ("--object-store", "object_store.url", self.object_store),
        ];
        let file = self
            .config
            .or_else(|| variables.get("LARDER_CONFIG").map(PathBuf::from));
        Inputs {
            file,
            variables,
            flags: flags
                .into_iter()
                .filter_map(|(f, k, text)| Some((f, k, text?)))
                .collect(),
            origin: self.origin,
        }
    }
}

/// Runs the edge until it is told to stop.
pub(super) fn serve(settings: Settings) -> Result<(), Failure> {
    let inputs = settings.inputs(Variables::of_process());
    let loaded = config::load(&inputs)?;
    logging::start(loaded.config.log.level);
    for name in inputs.variables.unknown() {
        tracing::warn!(name, "this variable starts with LARDER_ and means nothing");
    }
    loaded.verify()?;
    let Loaded { config, sources } = loaded;
    let reload = move || config::load(&inputs);
    crate::server::serve(&config, reload).map_err(|error| match error.downcast::<Unusable>() {
        Ok(unusable) => ConfigError::Invalid(vec![sources.locate(&unusable)]).into(),
        Err(error) => Failure::Run(error),
    })
}

/// Examines a configuration and prints it.
pub(super) fn check(settings: Settings, out: &mut impl Write) -> Result<(), Failure> {
    check_inputs(&settings.inputs(Variables::of_process()), out)
}

fn check_inputs(inputs: &Inputs, out: &mut impl Write) -> Result<(), Failure> {
    let loaded = config::load(inputs)?;
    loaded.verify()?;
    let unknown = crate::policy::examine::unknown_choices(&loaded.config);
    if !unknown.is_empty() {
        let problems = unknown
            .iter()
            .map(|choice| loaded.sources.locate(choice))
            .collect();
        return Err(ConfigError::Invalid(problems).into());
    }
    output::columns(out, "", &effective(&loaded))?;
    writeln!(out, "tiers, in the order in which they are asked:")?;
    output::columns(out, "  ", &chain(&loaded.config))?;
    for name in inputs.variables.unknown() {
        writeln!(
            out,
            "note: {} is set and means nothing",
            output::printable(name)
        )?;
    }
    writeln!(out, "the configuration is sound")?;
    Ok(())
}

/// One row a tier: its name, what it may use, and where it is.
fn chain(config: &Config) -> Vec<Vec<String>> {
    let row = |tier: &TierName| {
        let (size, place) = match tier {
            TierName::Memory => (config.memory.capacity.to_string(), String::new()),
            TierName::Disk => {
                let size = match control::disk_capacity(config) {
                    Some(Ok(bytes)) => ByteSize::new(bytes).to_string(),
                    Some(Err(error)) => format!("(unknown: {error})"),
                    None => "(unset)".to_owned(),
                };
                let dir = config.disk_dir().unwrap_or_default();
                (size, dir.display().to_string())
            }
            TierName::ObjectStore => {
                let url = config.object_store.url.clone().unwrap_or_default();
                (
                    "unbounded".to_owned(),
                    format!("{url} {}", config.object_store.mode),
                )
            }
        };
        vec![tier.to_string(), size, output::printable(&place)]
    };
    config.chain().iter().map(row).collect()
}

/// One row a key: its path, its value, and where that was written.
fn effective(loaded: &Loaded) -> Vec<Vec<String>> {
    let Loaded { config, sources } = loaded;
    let mut rows: Vec<_> = Key::all()
        .iter()
        .map(|key| (key.path.to_owned(), key.value(config)))
        .collect();
    for (position, site) in config.sites.iter().enumerate() {
        let own = site_rows(site);
        rows.extend(own.map(|(name, value)| (format!("site[{position}].{name}"), value)));
    }
    rows.into_iter()
        .map(|(key, value)| {
            let place = sources.place(&key).to_string();
            let value = value.unwrap_or_else(|| "(unset)".to_owned());
            vec![output::printable(&key), output::printable(&value), place]
        })
        .collect()
}

fn site_rows(site: &Site) -> impl Iterator<Item = (&'static str, Option<String>)> {
    let choice = |choice: &PolicyChoice| {
        let params = Value::Object(choice.params.clone());
        Some(if choice.params.is_empty() {
            choice.to_string()
        } else {
            format!("{choice} {params}")
        })
    };
    let by_status = site.status_ttl.iter();
    let by_status: Vec<_> = by_status
        .map(|(status, ttl)| format!("{status} = {ttl}"))
        .collect();
    let by_status = (!by_status.is_empty()).then(|| by_status.join(", "));
    let hosts = (!site.hosts.is_empty()).then(|| site.hosts.join(", "));
    [
        ("name", Some(site.name.clone())),
        ("hosts", hosts.or_else(|| Some("(every other)".to_owned()))),
        ("origin", Some(site.origin.to_string())),
        ("host", site.host.clone()),
        ("forward", Some(site.forward.to_string())),
        ("honour", Some(site.honour.to_string())),
        ("default_ttl", site.default_ttl.map(|ttl| ttl.to_string())),
        ("status_ttl", by_status),
        (
            "stale_while_revalidate",
            site.stale_while_revalidate.map(|time| time.to_string()),
        ),
        (
            "stale_if_error",
            site.stale_if_error.map(|time| time.to_string()),
        ),
        ("hit_for_miss", Some(site.hit_for_miss.to_string())),
        ("ttl_min", site.ttl_min.map(|ttl| ttl.to_string())),
        ("ttl_max", site.ttl_max.map(|ttl| ttl.to_string())),
        ("write_policy", Some(site.write_policy.to_string())),
        ("memory", site.memory.map(|size| size.to_string())),
        ("policy.keying", choice(&site.policy.keying)),
        ("policy.freshness", choice(&site.policy.freshness)),
        ("policy.eviction", choice(&site.policy.eviction)),
    ]
    .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::collections::BTreeMap;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    fn inputs(line: &str, variables: &[(&str, &str)]) -> Inputs {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let variables = Variables(variables.iter().map(owned).collect::<BTreeMap<_, _>>());
        Line::try_parse_from(line.split_whitespace())
            .unwrap()
            .settings
            .inputs(variables)
    }

    #[test]
    fn flags_beat_variables_and_the_place_says_so() {
        let line = "x --origin http://127.0.0.1:1 --memory 1MiB --listen :1 --admin localhost:2 \
                    --data-dir d --token-file t";
        let loaded = config::load(&inputs(line, &[("LARDER_MEMORY", "2MiB")])).unwrap();
        assert_eq!(loaded.config.memory.capacity, ByteSize::mib(1));
        let shown = effective(&loaded);
        let row = |key: &str| shown.iter().find(|row| row[0] == key).unwrap().join(" ");
        assert_eq!(row("memory.capacity"), "memory.capacity 1MiB --memory");
        assert_eq!(row("listen.http"), "listen.http 0.0.0.0:1 --listen");
        assert_eq!(row("admin.listen"), "admin.listen 127.0.0.1:2 --admin");
        assert_eq!(row("admin.token_file"), "admin.token_file t --token-file");
        assert_eq!(row("data_dir"), "data_dir d --data-dir");
        assert_eq!(
            row("site[0].origin"),
            "site[0].origin http://127.0.0.1:1 --origin"
        );
        assert_eq!(
            row("site[0].policy.eviction"),
            "site[0].policy.eviction s3-fifo default"
        );
        assert_eq!(row("limits.connect"), "limits.connect 5s default");
        assert_eq!(
            row("limits.connections"),
            "limits.connections (unset) default"
        );
    }

    #[test]
    fn the_file_may_come_from_the_environment() {
        let file = |line: &str, variable: &str| inputs(line, &[("LARDER_CONFIG", variable)]).file;
        assert_eq!(file("x", "a.toml"), Some(PathBuf::from("a.toml")));
        assert_eq!(file("x -c b.toml", "a.toml"), Some(PathBuf::from("b.toml")));
        assert_eq!(file("x", ""), None);
    }

    #[test]
    fn check_names_an_origin_that_does_not_resolve() {
        let mut out = Vec::new();
        let inputs = inputs("x --origin http://no-such-name.invalid:1", &[]);
        let failure = check_inputs(&inputs, &mut out).unwrap_err();
        assert_eq!(failure.code(), 2);
        let text = failure.to_string();
        let start =
            "--origin: site[0].origin: \"http://no-such-name.invalid:1\" cannot be reached: ";
        assert!(text.starts_with(start), "{text}");
        assert!(out.is_empty());
    }

    #[test]
    fn check_prints_the_chain_and_what_the_disk_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let checked = |more: &str| {
            let line = format!(
                "x --origin http://127.0.0.1:1 --data-dir {}",
                dir.path().display()
            );
            let mut out = Vec::new();
            check_inputs(&inputs(&format!("{line} {more}"), &[]), &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            let (_, chain) = text.split_once("are asked:\n").unwrap();
            let rows: Vec<Vec<String>> = chain
                .lines()
                .take_while(|line| line.starts_with("  "))
                .map(|line| line.split_whitespace().map(str::to_owned).collect())
                .collect();
            rows
        };
        let cache = dir.path().join("cache").display().to_string();
        let rows = checked("--disk 64MiB --memory 8MiB --object-store s3://bucket/a");
        assert_eq!(rows[0], ["memory", "8MiB"]);
        assert_eq!(rows[1], ["disk", "64MiB", &cache]);
        assert_eq!(
            rows[2],
            ["object_store", "unbounded", "s3://bucket/a", "rw"]
        );
        let rows = checked("");
        assert_eq!((rows.len(), &*rows[1][0], &rows[1][2]), (2, "disk", &cache));
        let given: ByteSize = rows[1][1].parse().unwrap();
        assert!((1..=10 << 30).contains(&given.bytes()), "{given}");
        assert_eq!(checked("--disk 0").len(), 1);
    }

    #[test]
    fn check_prints_what_is_in_effect() {
        let mut out = Vec::new();
        let inputs = inputs("x --origin http://127.0.0.1:1", &[("LARDER_MEMROY", "1")]);
        check_inputs(&inputs, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.ends_with(
                "note: LARDER_MEMROY is set and means nothing\nthe configuration is sound\n"
            ),
            "{text}"
        );
    }
}

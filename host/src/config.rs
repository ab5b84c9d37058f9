//! The configuration: plain data that every other part reads, and how it comes about.
//!
//! One struct a section, every key with its meaning, unit, range and default; unknown keys are
//! refused. [`load`] lays the file over the defaults, the environment over the file and flags
//! over the environment, remembers where each value came from, and checks what no single key
//! shows. A [`Config`] that [`load`] returned keeps every rule of `rules.rs`; nothing in here has
//! looked at the machine (`environment.rs` does, on request).

mod address;
mod domain;
mod environment;
mod limits;
mod load;
mod number;
mod origin;
mod policy;
mod purge;
mod rules;
mod settings;
mod site;
mod source;
mod status;
mod storage;
mod text;
mod tls;

pub use address::{ListenAddress, Network};
pub use domain::{Share, shares};
pub use environment::{read_certificates, read_token};
pub use limits::Limits;
pub use load::{Inputs, Loaded, Variables, load};
pub use number::{ByteSize, Count, TimeSpan};
pub use origin::{Origin, OriginProtocol, OriginScheme, Origins};
pub use policy::{Policies, PolicyChoice, check_name};
pub use purge::Purge;
pub use settings::Key;
pub use site::{Coding, Forward, Honour, Site, WritePolicy};
pub use source::{ConfigError, Place, Problem, Sources, Unusable};
pub use status::{StatusKey, StatusTtl, by_status};
pub use storage::{Disk, Mode, ObjectStore, TierName};
pub use text::Rejected;
pub use tls::{Certificate, CertificateFiles, Tls};

use std::path::PathBuf;

use serde::Deserialize;

/// Everything an operator can set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Directory of `policies/`, `compiled/`, `state/` and `cache/`; a relative path starts at
    /// the working directory. Default (unset): policies and their activation live in memory.
    pub data_dir: Option<PathBuf>,
    /// Where clients connect.
    pub listen: Listen,
    /// Where operators connect.
    pub admin: Admin,
    /// The method `PURGE`.
    pub purge: Purge,
    /// The memory tier.
    pub memory: Memory,
    /// The disk tier.
    pub disk: Disk,
    /// The object store.
    pub object_store: ObjectStore,
    /// The tiers, in the order in which they are looked through, memory first: one that is left out
    /// is not used. Default: all that are configured, in the order `memory`, `disk`,
    /// `object_store`.
    pub tiers: Vec<TierName>,
    /// Bounds on clients, origins and policies.
    pub limits: Limits,
    /// What is logged.
    pub log: Log,
    /// Recording of requests.
    pub record: Record,
    /// Clients that see `key` and `detail` in `Cache-Status`. Default: none.
    pub trusted: Vec<Network>,
    /// The sites, in the order of the file. At least one once loaded.
    #[serde(rename = "site")]
    pub sites: Vec<Site>,
}

/// The section `[listen]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// Plain HTTP. Default `127.0.0.1:8080`.
    pub http: ListenAddress,
    /// HTTPS.
    pub tls: Tls,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            http: ListenAddress::loopback(8080),
            tls: Tls::default(),
        }
    }
}

/// The section `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// The admin API. An address that other machines reach needs a `token_file`. Default
    /// `127.0.0.1:9080`.
    pub listen: ListenAddress,
    /// File whose only line is the token that calls must carry. Default (unset): none is asked.
    pub token_file: Option<PathBuf>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: ListenAddress::loopback(9080),
            token_file: None,
        }
    }
}

/// The section `[memory]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// Bytes that the tier holds, bookkeeping included; 0 keeps nothing. Default 256MiB.
    pub capacity: ByteSize,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            capacity: ByteSize::mib(256),
        }
    }
}

/// The section `[log]`. Logs go to standard error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least severe events that are logged. `RUST_LOG` overrides it. Default `info`.
    pub level: Level,
    /// Whether each request is logged. Default `off`.
    pub access: Access,
}

/// The section `[record]`: what clients ask for, recorded as a trace for `larder simulate`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Record {
    /// Directory of the recording, which nothing else writes to. Default (unset): none is made.
    pub dir: Option<PathBuf>,
    /// Bytes that its two files take together at most; 1MiB or more. Default 256MiB.
    pub size: ByteSize,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            dir: None,
            size: ByteSize::mib(256),
        }
    }
}

text::words! {
    /// How severe an event must be to be logged.
    pub enum Level ("a log level") {
        /// Only what failed.
        Error = "error",
        /// And what an operator should look at.
        Warn = "warn",
        /// And what happened to the process as a whole.
        #[default]
        Info = "info",
        /// And what happened to single requests.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

text::words! {
    /// Whether each request is logged, and how.
    pub enum Access ("a form of access log") {
        /// Not at all.
        #[default]
        Off = "off",
        /// One JSON object a line.
        Json = "json",
    }
}

#[cfg(test)]
mod tests;

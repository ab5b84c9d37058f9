//! The tiers below memory, and the order of all of them.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Config;
use super::number::{ByteSize, TimeSpan};
use super::text::words;

/// The section `[disk]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Disk {
    /// Directory of the tier, which nothing else writes to. Default: `cache` in the data directory.
    pub dir: Option<PathBuf>,
    /// Bytes of the disk that the tier uses, never one more; 0 turns it off. Default: with a data
    /// directory 10GiB, but at most half of what is free there; without one, no disk tier.
    pub capacity: Option<ByteSize>,
    /// How long a lookup may take before the next tier, or the origin, is asked; 1ms to 60s.
    /// Default 250ms.
    pub timeout: TimeSpan,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            dir: None,
            capacity: None,
            timeout: TimeSpan::millis(250),
        }
    }
}

/// The section `[object_store]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectStore {
    /// Where the store is: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX`,
    /// `file:///DIR` or `memory://`. Credentials come from the environment. Default (unset): no
    /// object store.
    pub url: Option<String>,
    /// Whether it is written to. Default `rw`.
    pub mode: Mode,
    /// How long a lookup may take before the origin is asked; 1ms to 60s. Default 2s.
    pub timeout: TimeSpan,
}

impl Default for ObjectStore {
    fn default() -> Self {
        Self {
            url: None,
            mode: Mode::ReadWrite,
            timeout: TimeSpan::seconds(2),
        }
    }
}

words! {
    /// Whether a tier is written to.
    pub enum Mode ("a mode") {
        /// It is read and written.
        #[default]
        ReadWrite = "rw",
        /// It is only read.
        ReadOnly = "ro",
    }
}

words! {
    /// A tier, by its name.
    pub enum TierName ("a tier") {
        /// The memory tier.
        #[default]
        Memory = "memory",
        /// The disk tier.
        Disk = "disk",
        /// The object store.
        ObjectStore = "object_store",
    }
}

impl Config {
    /// Where the disk tier lies, if there is to be one.
    pub fn disk_dir(&self) -> Option<PathBuf> {
        let off = self.disk.capacity == Some(ByteSize::new(0));
        let in_data_dir = |data_dir: &Path| data_dir.join("cache");
        let dir = self.disk.dir.clone();
        dir.or_else(|| self.data_dir.as_deref().map(in_data_dir))
            .filter(|_| !off)
    }

    /// The tiers that there are to be, in the order in which they are looked through.
    pub fn chain(&self) -> Vec<TierName> {
        if !self.tiers.is_empty() {
            return self.tiers.clone();
        }
        let disk = self.disk_dir().map(|_| TierName::Disk);
        let store = self
            .object_store
            .url
            .as_ref()
            .map(|_| TierName::ObjectStore);
        std::iter::once(TierName::Memory)
            .chain(disk)
            .chain(store)
            .collect()
    }
}

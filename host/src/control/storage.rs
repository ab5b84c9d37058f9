//! Opens the tiers below memory as the configuration says, and what purges are remembered in.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::Cache;
use crate::cache::lower::Lower;
use crate::cache::purge_log::PurgeLog;
use crate::cache::purges::Purges;
use crate::config::{Config, Mode, ObjectStore, TierName, Unusable};
use crate::tier::object::{self, Deadlines, ObjectTier};
use crate::tier::slow::SlowTier;

/// A cache with the tiers of `config`.
///
/// # Errors
/// A tier, or the log of purges, cannot be opened: the key that says where it is, and why.
pub(super) fn open(config: &Config) -> Result<Cache, Unusable> {
    let purges = Arc::new(match &config.data_dir {
        Some(data_dir) => remembered(data_dir)?,
        None => Purges::default(),
    });
    let mut tiers: Vec<(Arc<dyn SlowTier>, Duration)> = Vec::new();
    for name in config.chain() {
        match name {
            TierName::Memory => {}
            TierName::Disk => {}
            TierName::ObjectStore => {
                let store = &config.object_store;
                if let Some(url) = &store.url {
                    tiers.push((object_store(url, store)?, store.timeout.duration()));
                }
            }
        }
    }
    Ok(Cache::new(Lower::new(tiers, Arc::clone(&purges)), purges))
}

/// Purges that outlast the process, in `data_dir`.
fn remembered(data_dir: &Path) -> Result<Purges, Unusable> {
    let unusable = |error: &dyn std::fmt::Display| Unusable {
        key: "data_dir".to_owned(),
        clause: error.to_string(),
    };
    let state = data_dir.join("state");
    fs::create_dir_all(&state).map_err(|error| unusable(&error))?;
    let log = PurgeLog::open(&state.join("purges.log")).map_err(|error| unusable(&error))?;
    Ok(Purges::open(log))
}

fn object_store(url: &str, configured: &ObjectStore) -> Result<Arc<ObjectTier>, Unusable> {
    let settings = object::Settings {
        mode: match configured.mode {
            Mode::ReadWrite => object::Mode::ReadWrite,
            Mode::ReadOnly => object::Mode::ReadOnly,
        },
        deadlines: Deadlines {
            small: configured.timeout.duration(),
            ..Deadlines::default()
        },
        ..object::Settings::new(url)
    };
    ObjectTier::open(settings).map_err(|error| Unusable {
        key: "object_store.url".to_owned(),
        clause: error.to_string(),
    })
}

//! Opens the tiers below memory as the configuration says, and what purges are remembered in.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::statvfs;

use crate::cache::Cache;
use crate::cache::lower::Lower;
use crate::cache::purge_log::PurgeLog;
use crate::cache::purges::{Purges, Standing};
use crate::config::{Config, Mode, ObjectStore, TierName, Unusable};
use crate::entry::KeyHasher;
use crate::front::site::Site;
use crate::policy::reinserter::GuestReinsertion;
use crate::tier::disk::{self, DiskTier, OpenError, Valid};
use crate::tier::eviction::{HitSinceWritten, Reinsertion};
use crate::tier::object::{self, Deadlines, ObjectTier};
use crate::tier::slow::SlowTier;

/// A cache with the tiers of `config`.
///
/// # Errors
/// A tier, or the log of purges, cannot be opened: the key that says where it is, and why.
pub(super) fn open(config: &Config) -> Result<Cache, Unusable> {
    let purges = Arc::new(match &config.data_dir {
        Some(data_dir) => remembered(data_dir, config.disk_dir().as_deref())?,
        None => Purges::default(),
    });
    let mut tiers: Vec<(Arc<dyn SlowTier>, Duration)> = Vec::new();
    for name in config.chain() {
        match name {
            TierName::Memory => {}
            TierName::Disk => {
                if let Some(dir) = config.disk_dir() {
                    tiers.push((disk(&dir, config, &purges)?, config.disk.timeout.duration()));
                }
            }
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

/// Bytes that the disk tier of `config` is given, if there is one: what is configured, or what it is
/// given by default on this machine as it is now.
///
/// # Errors
/// What is free on the device cannot be told.
pub fn disk_capacity(config: &Config) -> Option<io::Result<u64>> {
    let dir = config.disk_dir()?;
    Some(match config.disk.capacity {
        Some(capacity) => Ok(capacity.bytes()),
        None => by_default(&dir),
    })
}

/// Takes over what of the tiers below memory can change while they run. What is kept of a segment
/// of the disk tier the eviction policy says if all `sites` have the same, and the tier's own rule
/// otherwise: a segment holds entries of every site.
pub(super) fn follow(config: &Config, cache: &Cache, sites: &[Arc<Site>]) {
    let mut slots = sites.iter().map(|site| &site.hooks.eviction);
    let slot = slots
        .next()
        .filter(|first| slots.all(|slot| Arc::ptr_eq(slot, first)));
    let rule: Arc<dyn Reinsertion> = match slot {
        Some(slot) => Arc::new(GuestReinsertion::new(Arc::clone(slot))),
        None => Arc::new(HitSinceWritten),
    };
    for member in cache.lower.members() {
        member.tier.set_reinsertion(Arc::clone(&rule));
    }
    let Some(capacity) = config.disk.capacity else {
        return;
    };
    let disk = TierName::Disk.as_str();
    let mut members = cache.lower.members().iter();
    if let Some(member) = members.find(|member| member.tier.name() == disk)
        && member.tier.usage().capacity != capacity.bytes()
        && let Err(error) = member.tier.resize(capacity.bytes())
    {
        tracing::error!(%capacity, %error, "the disk tier keeps its capacity");
    }
}

/// Purges that outlast the process, in `data_dir`. Where they are lost, nothing that lies in `disk`
/// is believed.
fn remembered(data_dir: &Path, disk: Option<&Path>) -> Result<Purges, Unusable> {
    let unusable = |error: &dyn std::fmt::Display| Unusable {
        key: "data_dir".to_owned(),
        clause: error.to_string(),
    };
    let state = data_dir.join("state");
    fs::create_dir_all(&state).map_err(|error| unusable(&error))?;
    let path = state.join("purges.log");
    let is_new = !path.exists();
    let entries = disk.and_then(|disk| fs::read_dir(disk).ok());
    let is_missing = is_new && entries.is_some_and(|mut entries| entries.next().is_some());
    if is_missing {
        tracing::warn!(
            "{} is missing: what the disk tier holds may have been purged, and is not used",
            path.display()
        );
    }
    let log = PurgeLog::open(&path, is_missing).map_err(|error| unusable(&error))?;
    Ok(Purges::open(log))
}

/// The disk tier in `dir`.
fn disk(dir: &Path, config: &Config, purges: &Arc<Purges>) -> Result<Arc<DiskTier>, Unusable> {
    let unusable = |key: &str, error: &dyn std::fmt::Display| Unusable {
        key: key.to_owned(),
        clause: error.to_string(),
    };
    let configured = &config.disk;
    let capacity = disk_capacity(config).unwrap_or_else(|| by_default(dir));
    let capacity = capacity.map_err(|error| unusable("disk.dir", &error))?;
    let (purges, hasher) = (Arc::clone(purges), KeyHasher::default());
    let valid: Valid = Arc::new(move |envelope| purges.of(&hasher, envelope) != Standing::Purged);
    let settings = disk::Settings {
        read_deadline: configured.timeout.duration(),
        ..disk::Settings::new(dir, capacity)
    };
    DiskTier::open(&settings, valid).map_err(|error| match error {
        OpenError::TooSmall { .. } => unusable("disk.capacity", &error),
        _ if configured.dir.is_some() => unusable("disk.dir", &error),
        _ => unusable("data_dir", &error),
    })
}

/// What a disk tier in `dir` is given that nobody has sized: 10 GiB, and at most half of what is
/// free there once it is gone.
fn by_default(dir: &Path) -> io::Result<u64> {
    let there = dir.ancestors().find(|above| above.is_dir());
    let stat = statvfs(there.unwrap_or(dir))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let mut own = 0;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        own += entry.metadata().map_or(0, |found| found.blocks() * 512);
    }
    Ok((free.saturating_add(own) / 2).min(10 << 30))
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

//! Looking through a shard without changing it: for purges, listings and orders that start late.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{Locked, SLOTS};
use crate::clock::Moment;
use crate::entry::{Entry, SiteId, Tag};

/// A resident as an order that starts late is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::tier::memory) struct Listed {
    /// Orders residents by use, least recent first.
    pub(in crate::tier::memory) last_access: u64,
    /// Its slot.
    pub(in crate::tier::memory) slot: u32,
    /// Keyed hash of its key.
    pub(in crate::tier::memory) hash: u64,
    /// Its charge.
    pub(in crate::tier::memory) size: u64,
    /// Seconds of lifetime left.
    pub(in crate::tier::memory) lifetime: Option<u64>,
}

impl Locked<'_> {
    /// Residents.
    pub(in crate::tier::memory) fn entries(&self) -> u64 {
        self.shard.gauges.entries.load(Relaxed)
    }

    /// The number of the latest insertion.
    pub(in crate::tier::memory) fn horizon(&self) -> u64 {
        self.state.insertions
    }

    /// One past the highest slot.
    pub(in crate::tier::memory) fn slots_end(&self) -> u32 {
        self.state.slots.end()
    }

    /// Entries that carry `tag`, and their bytes.
    pub(in crate::tier::memory) fn count_tag(&self, tag: Tag) -> (u64, u64) {
        self.state.tags.count(tag)
    }

    /// Entries of `site`.
    pub(in crate::tier::memory) fn count_site(&self, site: SiteId) -> u64 {
        self.state.sites.get(&site).copied().unwrap_or(0)
    }

    /// The oldest insertion that carries `tag`, if it is no later than `horizon`.
    pub(in crate::tier::memory) fn oldest_tagged(&self, tag: Tag, horizon: u64) -> Option<u64> {
        let slot = self.state.slots.get(self.state.tags.oldest(tag)?)?;
        (slot.inserted <= horizon).then_some(slot.hash)
    }

    /// The entry in `slot` if it is one of `site`, inserted no later than `horizon`.
    pub(in crate::tier::memory) fn of_site(
        &self,
        slot: u32,
        site: SiteId,
        horizon: u64,
    ) -> Option<&Arc<Entry>> {
        let slot = self.state.slots.get(slot)?;
        let wanted = slot.site == site && slot.inserted <= horizon;
        let resident = wanted.then(|| self.state.residents.peek(&slot.hash))??;
        Some(&resident.entry)
    }

    /// Lists up to a chunk of residents, from slot `from`, inserted no later than `horizon`.
    pub(in crate::tier::memory) fn list(
        &self,
        from: u32,
        horizon: u64,
        now: Moment,
        into: &mut Vec<Listed>,
    ) -> u32 {
        let until = from.saturating_add(SLOTS);
        for at in from..until.min(self.slots_end()) {
            let Some(slot) = self.state.slots.get(at).filter(|s| s.inserted <= horizon) else {
                continue;
            };
            if let Some(resident) = self.state.residents.peek(&slot.hash) {
                into.push(Listed {
                    last_access: resident.last_access,
                    slot: at,
                    hash: slot.hash,
                    size: resident.entry.charge(),
                    lifetime: resident.entry.remaining(now).map(|left| left.as_secs()),
                });
            }
        }
        until
    }
}

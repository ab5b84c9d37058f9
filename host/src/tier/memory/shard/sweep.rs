//! A purge of many entries, in force in the whole shard at once and carried out bit by bit.
//!
//! One shard has one sweep at most. Whoever looks for an entry that it covers carries it out on
//! that entry first, so nobody sees what a purge has covered.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{Departed, Locked, Resident, State};
use crate::clock::Moment;
use crate::entry::{Entry, SiteId, Tag};
use crate::tier::Purged;

/// What a sweep covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tier::memory) enum Part {
    /// Everything.
    All,
    /// Everything of a site.
    Site(SiteId),
    /// What carries a tag.
    Tag(Tag),
}

impl Part {
    fn covers(self, entry: &Entry) -> bool {
        match self {
            Self::All => true,
            Self::Site(site) => entry.site == site,
            Self::Tag(tag) => entry.tags.contains(&tag),
        }
    }
}

/// What becomes of what a sweep covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tier::memory) enum Manner {
    /// It goes.
    Remove,
    /// It is stale from this moment on.
    Soften(Moment),
}

/// A purge that is in force, and not carried out on every entry yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tier::memory) struct Sweep {
    /// What it covers.
    pub(in crate::tier::memory) part: Part,
    /// What becomes of that.
    pub(in crate::tier::memory) manner: Manner,
    /// The latest insertion that it covers.
    pub(in crate::tier::memory) horizon: u64,
}

impl State {
    /// The sweep, if it covers `resident`.
    fn sweep_of(&self, resident: &Resident) -> Option<Sweep> {
        let sweep = self.sweep?;
        (resident.inserted <= sweep.horizon && sweep.part.covers(&resident.entry)).then_some(sweep)
    }
}

impl Locked<'_> {
    /// The sweep under way.
    pub(in crate::tier::memory) fn sweep(&self) -> Option<Sweep> {
        self.state.sweep
    }

    /// Entries that `part` covers and their bytes, from the index. What a sweep under way removes
    /// counts as long as it is there.
    pub(in crate::tier::memory) fn count(&self, part: Part) -> Purged {
        let (entries, bytes) = match part {
            Part::All => (self.entries(), self.shard.gauges.bytes.load(Relaxed)),
            Part::Site(site) => self.state.sites.get(&site).copied().unwrap_or_default(),
            Part::Tag(tag) => self.state.tags.count(tag),
        };
        Purged { entries, bytes }
    }

    /// Puts a purge of all that is here now and that `part` covers in force. The caller has carried
    /// out the one before.
    pub(in crate::tier::memory) fn begin_sweep(&mut self, part: Part, manner: Manner) {
        debug_assert!(self.state.sweep.is_none(), "two sweeps at once");
        self.state.sweep = Some(Sweep {
            part,
            manner,
            horizon: self.horizon(),
        });
    }

    /// Says that the sweep has been carried out.
    pub(in crate::tier::memory) fn end_sweep(&mut self) {
        self.state.sweep = None;
    }

    /// Whether a sweep has purged the entry with this hash, which is still there.
    pub(in crate::tier::memory) fn is_swept(&self, hash: u64) -> bool {
        let sweep = || self.state.sweep_of(self.state.residents.peek(hash)?);
        self.state.sweep.is_some() && sweep().is_some_and(|sweep| sweep.manner == Manner::Remove)
    }

    /// Whether a sweep has still to be carried out on the entry with this hash.
    #[inline]
    pub(in crate::tier::memory) fn owes(&self, hash: u64) -> bool {
        self.state.sweep.is_some() && self.owed(hash).is_some()
    }

    #[cold]
    fn owed(&self, hash: u64) -> Option<Manner> {
        let resident = self.state.residents.peek(hash)?;
        let sweep = self.state.sweep_of(resident)?;
        let owed = match sweep.manner {
            Manner::Remove => true,
            Manner::Soften(now) => resident.entry.is_fresh_at(now),
        };
        owed.then_some(sweep.manner)
    }

    /// Carries the sweep out on the entry with this hash.
    pub(in crate::tier::memory) fn catch_up(&mut self, hash: u64, departed: &mut Departed<'_>) {
        match self.owed(hash) {
            Some(Manner::Remove) => self.take(hash, departed),
            Some(Manner::Soften(now)) => {
                if let Some(slot) = self.state.residents.find(hash)
                    && let Some(resident) = self.state.residents.at_mut(slot)
                    && let Some(stale) = resident.entry.softened(now)
                {
                    let fresh = std::mem::replace(&mut resident.entry, Arc::new(stale));
                    departed.entries.push(fresh);
                }
            }
            None => {}
        }
    }
}

//! Purges of many entries, in force in the whole stripe at once and carried out bit by bit.
//!
//! Several may wait: they are carried out together, in passes over the slots. A pass does what every
//! purge in force wants, and ends those that were in force when it began. Whoever looks for an entry
//! that is covered carries the purges out on that entry first, so nobody sees what one has covered.

use std::ops::Range;

use super::walk::Spot;
use super::{CHUNK, Contents, Departed, Locked, Resident, State, Tell};
use crate::clock::Moment;
use crate::entry::{Entry, SiteId, Tag};
use crate::sync::Arc;
use crate::sync::atomic::Ordering::Relaxed;
use crate::tier::Purged;

/// Purges that may wait in a stripe. Every lookup asks each of them.
pub(in super::super) const SWEEPS_MAX: usize = 32;
/// Slots that one hold of the lock looks at, at most: each takes a look at its tags.
const SLOTS: u32 = 128;

/// What a sweep covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Part {
    /// Everything.
    All,
    /// Everything of a site.
    Site(SiteId),
    /// What carries a tag.
    Tag(Tag),
}

/// What becomes of what a sweep covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Manner {
    /// It goes.
    Remove,
    /// It is stale from this moment on.
    Soften(Moment),
}

/// A purge that is in force, and not carried out on every entry yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Sweep {
    /// What it covers.
    part: Part,
    /// What becomes of that.
    manner: Manner,
    /// The latest insertion that it covers.
    horizon: u64,
    /// Sweeps of a stripe are numbered.
    number: u64,
}

/// The sweeps of one stripe.
#[derive(Debug, Default)]
pub(super) struct Sweeps {
    /// In force, the oldest first.
    pending: Vec<Sweep>,
    /// The number of the latest.
    latest: u64,
    /// The pass under way: the latest sweep that it ends, and the slots that are left to it.
    pass: Option<(u64, Range<u32>)>,
}

/// An entry that a pass makes stale.
#[derive(Debug)]
pub(in super::super) struct Fresh {
    /// Where it is.
    pub(in super::super) spot: Spot,
    /// As it is.
    pub(in super::super) entry: Arc<Entry>,
    /// Since when it is stale.
    pub(in super::super) since: Moment,
}

impl Sweeps {
    /// No sweep, in a stripe that had these.
    pub(super) fn successor(&self) -> Self {
        Self {
            latest: self.latest,
            ..Self::default()
        }
    }
}

impl State {
    fn is_of(&self, resident: &Resident, part: Part, horizon: u64) -> bool {
        resident.inserted <= horizon
            && match part {
                Part::All => true,
                Part::Site(site) => resident.site == site,
                Part::Tag(tag) => self.tags.carries(resident.tags, tag),
            }
    }

    fn is_covered(&self, resident: &Resident, sweep: &Sweep) -> bool {
        self.is_of(resident, sweep.part, sweep.horizon)
    }

    /// What the sweeps have still to do to the resident in `slot`.
    fn due(&self, slot: u32) -> Option<Manner> {
        let resident = self.residents.at(slot)?;
        let mut due = None;
        for sweep in &self.sweeps.pending {
            if due.is_some() && sweep.manner != Manner::Remove || !self.is_covered(resident, sweep)
            {
                continue;
            }
            match sweep.manner {
                Manner::Remove => return Some(sweep.manner),
                // What is stale since one of them is stale for all that came later.
                Manner::Soften(since) => {
                    let is_fresh = self.residents.entry(slot)?.is_fresh_at(since);
                    due = is_fresh.then_some(sweep.manner);
                }
            }
        }
        due
    }

    /// Entries of `part` in the slots of `range`, inserted no later than `horizon` and not covered
    /// by any of `gone`.
    fn count_without(&self, range: Range<u32>, part: Part, horizon: u64, gone: &[Sweep]) -> Purged {
        let mut counted = Purged::default();
        for slot in range {
            let Some(resident) = self.residents.at(slot) else {
                continue;
            };
            if self.is_of(resident, part, horizon)
                && !gone.iter().any(|sweep| self.is_covered(resident, sweep))
            {
                counted += Purged {
                    entries: 1,
                    bytes: resident.charge,
                };
            }
        }
        counted
    }

    fn removals(&self) -> Vec<Sweep> {
        let pending = self.sweeps.pending.iter();
        let removals = pending.filter(|sweep| sweep.manner == Manner::Remove);
        removals.copied().collect()
    }
}

impl Contents {
    /// What of it no earlier purge had covered.
    pub(in super::super) fn uncounted(&self) -> Purged {
        let gone = self.state.removals();
        if gone.is_empty() {
            return Purged {
                entries: self.entries,
                bytes: self.bytes,
            };
        }
        let all = 0..self.state.residents.end();
        self.state.count_without(all, Part::All, u64::MAX, &gone)
    }
}

impl Locked<'_> {
    /// Sweeps that have still to be carried out.
    pub(in super::super) fn sweeps(&self) -> usize {
        self.state.sweeps.pending.len()
    }

    /// Sweeps that will have removed what they cover, which must not count any more.
    pub(in super::super) fn removals(&self) -> Vec<Sweep> {
        self.state.removals()
    }

    /// Entries that `part` covers and their bytes, from the index. What a sweep removes counts as
    /// long as it is there.
    pub(in super::super) fn count(&self, part: Part) -> Purged {
        let (entries, bytes) = match part {
            Part::All => (self.entries(), self.stripe.gauges.bytes.load(Relaxed)),
            Part::Site(site) => self.state.sites.get(site),
            Part::Tag(tag) => self.state.tags.count(tag),
        };
        Purged { entries, bytes }
    }

    /// Counts as [`Self::count`] does, but only in the slots of `range`, what was inserted no later
    /// than `horizon`, and without what `gone` cover.
    pub(in super::super) fn count_without(
        &self,
        range: Range<u32>,
        part: Part,
        horizon: u64,
        gone: &[Sweep],
    ) -> Purged {
        self.state.count_without(range, part, horizon, gone)
    }

    /// Puts a purge of all that `part` covers and that was inserted no later than `horizon` in
    /// force. The caller has made sure that there is room for it.
    pub(in super::super) fn begin_sweep(&mut self, part: Part, manner: Manner, horizon: u64) {
        let sweeps = &mut self.state.sweeps;
        debug_assert!(sweeps.pending.len() < SWEEPS_MAX, "too many sweeps");
        sweeps.latest = sweeps.latest.wrapping_add(1);
        let number = sweeps.latest;
        if manner == Manner::Remove {
            // It covers all that an earlier one of the same covers.
            let same = |sweep: &Sweep| (sweep.part, sweep.manner) == (part, manner);
            sweeps.pending.retain(|sweep| !same(sweep));
        }
        sweeps.pending.push(Sweep {
            part,
            manner,
            horizon,
            number,
        });
        self.note_sweeps();
    }

    /// Begins a pass; false if there is nothing to do.
    pub(in super::super) fn begin_pass(&mut self) -> bool {
        let end = self.slots_end();
        let sweeps = &mut self.state.sweeps;
        let ends = sweeps.pending.last().map(|sweep| sweep.number);
        sweeps.pass = ends.map(|ends| (ends, 0..end));
        ends.is_some()
    }

    /// Takes the pass one step further: what is to go goes to `departed`, and what is to become
    /// stale is listed in `fresh`. False once it has ended.
    pub(in super::super) fn go_on(
        &mut self,
        departed: &mut Departed<'_>,
        fresh: &mut Vec<Fresh>,
    ) -> bool {
        let Some((ends, mut slots)) = self.state.sweeps.pass.take() else {
            return false;
        };
        let mut looked = 0;
        while looked < SLOTS && departed.entries.len() + fresh.len() < CHUNK {
            let Some(at) = slots.next() else { break };
            looked += 1;
            match self.state.due(at) {
                Some(Manner::Remove) => {
                    self.depart(at, Tell::Order, departed);
                }
                Some(Manner::Soften(since)) => fresh.extend(self.fresh(at, since)),
                None => {}
            }
        }
        let goes_on = !slots.is_empty() || !fresh.is_empty();
        let sweeps = &mut self.state.sweeps;
        if goes_on {
            sweeps.pass = Some((ends, slots));
        } else {
            sweeps.pending.retain(|sweep| sweep.number > ends);
        }
        self.note_sweeps();
        goes_on
    }

    /// The resident in `slot`, as one to become stale.
    fn fresh(&self, slot: u32, since: Moment) -> Option<Fresh> {
        let residents = &self.state.residents;
        Some(Fresh {
            spot: Spot::new(slot, residents.at(slot)?.inserted),
            entry: Arc::clone(residents.entry(slot)?),
            since,
        })
    }

    /// Writes the gauges.
    pub(super) fn note_sweeps(&self) {
        let sweeps = &self.state.sweeps;
        let (ended, left) = match &sweeps.pass {
            Some((ends, slots)) => (*ends, slots.end.saturating_sub(slots.start)),
            None => (0, 0),
        };
        let waits = sweeps.pending.iter().any(|sweep| sweep.number > ended);
        let next = if waits { self.slots_end() } else { 0 };
        let gauges = &self.stripe.gauges;
        let pending = u64::try_from(sweeps.pending.len()).unwrap_or(u64::MAX);
        gauges.sweeps.store(pending, Relaxed);
        let unswept = u64::from(left).saturating_add(u64::from(next));
        gauges.unswept.store(unswept, Relaxed);
    }

    /// Whether a sweep has purged the entry with this hash, which is still there.
    pub(in super::super) fn is_swept(&self, hash: u64) -> bool {
        let state = &*self.state;
        if state.sweeps.pending.is_empty() {
            return false;
        }
        let mut pending = state.sweeps.pending.iter();
        state.residents.peek(hash).is_some_and(|resident| {
            pending.any(|sweep| sweep.manner == Manner::Remove && state.is_covered(resident, sweep))
        })
    }

    /// Whether a sweep has still to be carried out on the entry with this hash.
    #[inline]
    pub(in super::super) fn owes(&self, hash: u64) -> bool {
        !self.state.sweeps.pending.is_empty() && self.owed(hash).is_some()
    }

    #[cold]
    fn owed(&self, hash: u64) -> Option<Manner> {
        self.state.due(self.slot_of(hash)?)
    }

    /// Carries the sweeps out on the entry with this hash.
    pub(in super::super) fn catch_up(&mut self, hash: u64, departed: &mut Departed<'_>) {
        match self.owed(hash) {
            Some(Manner::Remove) => self.take(hash, departed),
            Some(Manner::Soften(since)) => {
                if let Some(slot) = self.slot_of(hash)
                    && let Some(entry) = self.state.residents.entry_mut(slot)
                    && let Some(stale) = entry.softened(since)
                {
                    let fresh = std::mem::replace(entry, Arc::new(stale));
                    departed.entries.push(fresh);
                }
            }
            None => {}
        }
    }
}

//! Looking through a stripe without changing it: for purges, listings and orders that start late.

use std::ops::{ControlFlow, Range};

use super::{Locked, SLOTS};
use crate::clock::Moment;
use crate::entry::{Entry, KeyView, SiteId, Tag};
use crate::sync::Arc;
use crate::sync::atomic::Ordering::Relaxed;

/// A resident as an order that starts late is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Listed {
    /// With the next, orders residents by use, least recent first: whether it was used since.
    pub(in super::super) is_used: bool,
    /// Its latest use, but for one since.
    pub(in super::super) last_access: u64,
    /// Its slot.
    pub(in super::super) slot: u32,
    /// Keyed hash of its key.
    pub(in super::super) hash: u64,
    /// Its charge.
    pub(in super::super) size: u64,
    /// Seconds of lifetime left.
    pub(in super::super) lifetime: Option<u64>,
}

/// A place in a stripe as of one insertion: what is there later under the same number is the same
/// entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Spot {
    slot: u32,
    inserted: u64,
}

impl Spot {
    /// Slot number `slot`, as insertion number `inserted` has filled it.
    pub(super) fn new(slot: u32, inserted: u64) -> Self {
        Self { slot, inserted }
    }
}

/// Where a walk along the entries of a tag goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Resume {
    node: u32,
    spot: Spot,
}

/// What came of a step of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Walk {
    /// There is no more.
    Done,
    /// It goes on there.
    More(Resume),
    /// Where it was to go on has left.
    Lost,
}

impl Locked<'_> {
    /// Lists up to `most` entries that carry `tag`, inserted no later than `horizon`, from where
    /// an earlier step stopped.
    pub(in super::super) fn walk_tag(
        &self,
        tag: Tag,
        after: Option<Resume>,
        horizon: u64,
        most: usize,
        into: &mut Vec<Spot>,
    ) -> Walk {
        let tags = &self.state.tags;
        let stands = |resume: &Resume| {
            let slot = self.state.residents.at(resume.spot.slot);
            slot.is_some_and(|slot| slot.inserted == resume.spot.inserted)
                && tags.is_node(resume.node, resume.spot.slot, tag)
        };
        if after.is_some_and(|after| !stands(&after)) {
            return Walk::Lost;
        }
        let end = into.len().saturating_add(most);
        let mut last = None;
        let stopped = tags.walk(tag, after.map(|after| after.node), |slot| {
            let found = self.state.residents.at(slot);
            let Some(found) = found.filter(|found| found.inserted <= horizon) else {
                last = None;
                return ControlFlow::Break(());
            };
            let spot = Spot {
                slot,
                inserted: found.inserted,
            };
            into.push(spot);
            last = Some(spot);
            if into.len() >= end {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        match (stopped, last) {
            (Some(node), Some(spot)) => Walk::More(Resume { node, spot }),
            _ => Walk::Done,
        }
    }

    /// Lists the slots in `range` that hold entries of `wanted` sites, inserted no later than
    /// `horizon`.
    pub(in super::super) fn spots(
        &self,
        range: Range<u32>,
        horizon: u64,
        wanted: impl Fn(SiteId) -> bool,
        into: &mut Vec<Spot>,
    ) {
        for at in range {
            let slot = self.state.residents.at(at);
            let slot = slot.filter(|slot| slot.inserted <= horizon && wanted(slot.site));
            into.extend(slot.map(|slot| Spot {
                slot: at,
                inserted: slot.inserted,
            }));
        }
    }

    /// Where the entry of exactly this key is.
    pub(in super::super) fn spot_of(&self, key: KeyView<'_>) -> Option<Spot> {
        let (slot, _) = self.state.residents.lookup(key)?;
        let inserted = self.state.residents.at(slot)?.inserted;
        Some(Spot { slot, inserted })
    }

    /// The entry at `spot`, if it is there still and no sweep has purged it.
    pub(in super::super) fn at(&self, spot: Spot) -> Option<&Arc<Entry>> {
        let there = self.state.residents.at(spot.slot)?;
        let same = there.inserted == spot.inserted && !self.is_swept(there.hash);
        if same {
            self.state.residents.entry(spot.slot)
        } else {
            None
        }
    }

    /// Puts `entry`, which differs only in what nothing here looks at, in place of the one at
    /// `spot`, if that is there still, and leaves that one in `entry`.
    pub(in super::super) fn exchange(&mut self, spot: Spot, entry: &mut Arc<Entry>) {
        if self.at(spot).is_some()
            && let Some(there) = self.state.residents.entry_mut(spot.slot)
        {
            debug_assert_eq!(there.charge(), entry.charge(), "another charge");
            std::mem::swap(there, entry);
        }
    }

    /// Residents.
    pub(in super::super) fn entries(&self) -> u64 {
        self.stripe.gauges.entries.load(Relaxed)
    }

    /// The number of the latest insertion.
    pub(in super::super) fn horizon(&self) -> u64 {
        self.state.insertions
    }

    /// Accesses so far, but for those that residents are marked for.
    pub(in super::super) fn accesses(&self) -> u64 {
        self.state.accesses
    }

    /// One past the highest slot.
    pub(in super::super) fn slots_end(&self) -> u32 {
        self.state.residents.end()
    }

    /// The oldest insertion that carries `tag`, if it is no later than `horizon`.
    pub(in super::super) fn oldest_tagged(&self, tag: Tag, horizon: u64) -> Option<u64> {
        let slot = self.state.residents.at(self.state.tags.oldest(tag)?)?;
        (slot.inserted <= horizon).then_some(slot.hash)
    }

    /// The hash of the entry in `slot` if it is one of `wanted` sites, inserted no later than
    /// `horizon`.
    pub(in super::super) fn of_site(
        &self,
        slot: u32,
        wanted: impl Fn(SiteId) -> bool,
        horizon: u64,
    ) -> Option<u64> {
        let slot = self.state.residents.at(slot)?;
        (wanted(slot.site) && slot.inserted <= horizon).then_some(slot.hash)
    }

    /// Lists up to a chunk of residents, from slot `from`, inserted no later than `horizon`.
    pub(in super::super) fn list(
        &self,
        from: u32,
        horizon: u64,
        now: Moment,
        into: &mut Vec<Listed>,
    ) -> u32 {
        let until = from.saturating_add(SLOTS);
        for at in from..until.min(self.slots_end()) {
            let residents = &self.state.residents;
            let resident = residents.at(at).filter(|it| it.inserted <= horizon);
            if let Some((resident, entry)) = resident.zip(residents.entry(at)) {
                into.push(Listed {
                    is_used: residents.is_marked(at),
                    last_access: resident.last_access,
                    slot: at,
                    hash: resident.hash,
                    size: resident.charge,
                    lifetime: entry.remaining(now).map(|left| left.as_secs()),
                });
            }
        }
        until
    }
}

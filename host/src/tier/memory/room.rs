//! Making room in native order: which stripe gives, and how much.
//!
//! The budget belongs to the whole domain, so a stripe that chance gave more entries than others gives
//! first, and no stripe loses capacity to skew. Entries are counted, not their bytes: keys are spread
//! evenly, so the least recently used of stripes with as many entries are about as old, whatever
//! their sizes, as they would be in one list of all. One stripe lock at a time.

use std::ops::Range;

use super::Inner;
use super::budget::Short;
use super::stats::EvictionReason;
use super::stripe::{CHUNK, Departed, Stripe};
use crate::sync::atomic::Ordering::Relaxed;

/// Stripes that one is compared with before it makes room.
const LOOKED_AT: usize = 8;

/// What an operation must hold before it can go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

fn entries(stripe: &Stripe) -> u64 {
    stripe.gauges.entries.load(Relaxed)
}

/// Who has the most, if any of these has something.
fn most(sizes: impl Iterator<Item = (usize, u64)>) -> Option<usize> {
    sizes
        .filter(|(_, size)| *size > 0)
        .max_by_key(|(_, size)| *size)
        .map(|(index, _)| index)
}

impl Inner {
    /// The stripe with the most entries among these, if any has some.
    pub(super) fn fullest(&self, stripes: Range<usize>) -> Option<usize> {
        most(stripes.map(|index| (index, entries(self.stripe(index)))))
    }

    /// The shard that holds the most, if any holds anything.
    pub(super) fn fullest_shard(&self, by: Short) -> Option<usize> {
        most((0..self.layout.shards()).map(|shard| {
            let (bytes, entries) = self.held_by(self.layout.stripes_of(shard));
            match by {
                Short::Bytes => (shard, bytes),
                Short::Entries => (shard, entries),
            }
        }))
    }

    /// Bytes and entries in these stripes.
    pub(super) fn held_by(&self, stripes: Range<usize>) -> (u64, u64) {
        stripes.fold((0, 0), |(bytes, count), index| {
            let stripe = self.stripe(index);
            let more = stripe.gauges.bytes.load(Relaxed);
            (
                more.saturating_add(bytes),
                entries(stripe).saturating_add(count),
            )
        })
    }

    /// Whether a stripe makes room for itself: unless another has clearly more entries. Of many, some
    /// are looked at, others for every hash.
    pub(super) fn pays_itself(&self, index: usize, hash: u64) -> bool {
        let count = self.stripes.len();
        let first = usize::try_from(hash >> 48).unwrap_or_default();
        let most = (first..)
            .take(LOOKED_AT.min(count))
            .map(|at| entries(self.stripe(at % count)))
            .max()
            .unwrap_or(0);
        // Stripes that differ by less do so by chance, and another lock would buy nothing.
        entries(self.stripe(index)) >= most - most / 8
    }

    /// The reason for an eviction that a put cannot wait for.
    pub(super) fn native_reason(&self) -> EvictionReason {
        if self.signals.is_guided() {
            EvictionReason::NativeOverrun
        } else {
            EvictionReason::Capacity
        }
    }

    /// Evicts from the fullest stripe until `departed` holds what is wanted, or a chunk left.
    /// Answers whether there was anything to evict.
    pub(super) fn evict_elsewhere(&self, wanted: Wanted, departed: &mut Departed<'_>) -> bool {
        let Some(index) = self.fullest(0..self.stripes.len()) else {
            return false;
        };
        let mut stripe = self.lock(index);
        for _ in 0..CHUNK {
            if departed.hold.top_up(wanted.bytes, wanted.entries).is_ok() {
                break;
            }
            let Some(charge) = stripe.evict_oldest(departed) else {
                break;
            };
            self.counters.evicted(self.native_reason(), 1, charge);
        }
        self.unlock(stripe);
        true
    }

    /// Acquires `more` bytes for a reservation that will have `bytes` in all.
    pub(super) fn acquire(&self, bytes: u64, more: u64) -> bool {
        if bytes > self.pace.largest(&self.budget) {
            return false;
        }
        let mut departed = Departed::new(&self.budget);
        let wanted = Wanted {
            bytes: more,
            entries: 0,
        };
        while departed.hold.top_up(more, 0).is_err() {
            if !self.evict_elsewhere(wanted, &mut departed) {
                return false;
            }
        }
        departed.hold.reserve(more);
        self.signals.wake_if_above(&self.budget);
        true
    }

    /// Evicts until use is within a limit that was lowered.
    pub(super) fn shrink_to_limit(&self) {
        loop {
            // The capacity follows what leaves; until it is at the limit more may be acquired.
            let over = self.budget.capacity().saturating_sub(self.budget.limit());
            let fullest = self.fullest(0..self.stripes.len());
            let Some(index) = fullest.filter(|_| over > 0) else {
                return;
            };
            let mut departed = Departed::new(&self.budget);
            let mut stripe = self.lock(index);
            for _ in 0..CHUNK {
                if departed.hold.bytes() >= over {
                    break;
                }
                let Some(charge) = stripe.evict_oldest(&mut departed) else {
                    break;
                };
                self.counters.evicted(EvictionReason::Capacity, 1, charge);
            }
            self.unlock(stripe);
        }
    }
}

//! Making room in native order: which shard gives, and how much.
//!
//! The budget belongs to the whole domain, so a shard that chance or large entries made fuller
//! than its share gives first, and no shard loses capacity to skew. One shard lock at a time.

use super::Inner;
use super::budget::Short;
use super::shard::{CHUNK, Departed, Shard};
use super::stats::EvictionReason;
use crate::sync::atomic::Ordering::Relaxed;

/// What an operation must hold before it can go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) bytes: u64,
    pub(super) entries: u64,
    /// Which of the two was missing.
    pub(super) short: Short,
}

fn size(shard: &Shard, by: Short) -> u64 {
    match by {
        Short::Bytes => shard.gauges.bytes.load(Relaxed),
        Short::Entries => shard.gauges.entries.load(Relaxed),
    }
}

impl Inner {
    /// The shard that holds the most, if any holds anything.
    pub(super) fn fullest(&self, by: Short) -> Option<usize> {
        let sizes = self.shards.iter().map(|shard| size(shard, by)).enumerate();
        sizes
            .filter(|(_, size)| *size > 0)
            .max_by_key(|(_, size)| *size)
            .map(|(index, _)| index)
    }

    /// Whether a shard makes room for itself: unless another is clearly fuller.
    pub(super) fn pays_itself(&self, index: usize, by: Short) -> bool {
        let most = self
            .shards
            .iter()
            .map(|shard| size(shard, by))
            .max()
            .unwrap_or(0);
        // Shards that differ by less do so by chance, and another lock would buy nothing.
        size(self.shard(index), by) >= most - most / 8
    }

    /// The reason for an eviction that a put cannot wait for.
    pub(super) fn native_reason(&self) -> EvictionReason {
        if self.signals.is_guided() {
            EvictionReason::NativeOverrun
        } else {
            EvictionReason::Capacity
        }
    }

    /// Evicts from the fullest shard until `departed` holds what is wanted, or a chunk left.
    /// Answers whether there was anything to evict.
    pub(super) fn evict_elsewhere(&self, wanted: Wanted, departed: &mut Departed<'_>) -> bool {
        let Some(index) = self.fullest(wanted.short) else {
            return false;
        };
        let mut shard = self.lock(index);
        for _ in 0..CHUNK {
            if departed.hold.top_up(wanted.bytes, wanted.entries).is_ok() {
                break;
            }
            let Some(charge) = shard.evict_oldest(departed) else {
                break;
            };
            self.counters.evicted(self.native_reason(), 1, charge);
        }
        self.unlock(shard);
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
            short: Short::Bytes,
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
            let Some(index) = self.fullest(Short::Bytes).filter(|_| over > 0) else {
                return;
            };
            let mut departed = Departed::new(&self.budget);
            let mut shard = self.lock(index);
            for _ in 0..CHUNK {
                if departed.hold.bytes() >= over {
                    break;
                }
                let Some(charge) = shard.evict_oldest(&mut departed) else {
                    break;
                };
                self.counters.evicted(EvictionReason::Capacity, 1, charge);
            }
            self.unlock(shard);
        }
    }
}

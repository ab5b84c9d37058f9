//! What a domain counts, and why entries leave it.

use std::ops::AddAssign;

use crate::metrics::Counter;

/// Why an entry left. Replacing an entry by a newer one of its key is not an eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EvictionReason {
    /// The native order made room, as it does for a domain without a guest order.
    Capacity,
    /// The guest order named it.
    Policy,
    /// The guest order named it although it came after the order was last asked: a newcomer that
    /// was not worth its room.
    Refused,
    /// A put found no room and could not wait for the guest order.
    NativeOverrun,
    /// The guest order faulted or named too little, and the native order completed.
    NativeFallback,
    /// A purge or an invalidation.
    Purged,
    /// A newer response of its key could not be stored.
    RejectedPut,
}

impl EvictionReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Capacity,
        Self::Policy,
        Self::Refused,
        Self::NativeOverrun,
        Self::NativeFallback,
        Self::Purged,
        Self::RejectedPut,
    ];

    /// The word in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Policy => "policy",
            Self::Refused => "refused",
            Self::NativeOverrun => "native_overrun",
            Self::NativeFallback => "native_fallback",
            Self::Purged => "purged",
            Self::RejectedPut => "rejected_put",
        }
    }
}

/// Entries that left for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Entries.
    pub entries: u64,
    /// Bytes they were charged.
    pub bytes: u64,
}

impl AddAssign for Evicted {
    fn add_assign(&mut self, other: Self) {
        self.entries = self.entries.saturating_add(other.entries);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// A reading of every counter. Each only rises; together they are not one snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Lookups that found an entry.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Entries stored.
    pub puts: u64,
    /// Puts refused because the entry is larger than a quarter of the capacity.
    pub rejected_too_large: u64,
    /// Puts refused because everything is reserved.
    pub rejected_no_room: u64,
    /// Puts refused because the capacity is zero.
    pub rejected_disabled: u64,
    /// Puts that a purge or a newer response overtook.
    pub superseded: u64,
    /// Hits that the guest order was not told of.
    pub lost_events: u64,
    /// Orders that were told of the residents anew because events had been dropped.
    pub resyncs: u64,
    /// Orders that faulted and were dropped.
    pub order_faults: u64,
    /// Answers that named a slot without a resident, or one slot twice, or far too much.
    pub wrong_answers: u64,
    /// Stripes emptied after a panic.
    pub shard_resets: u64,
    evictions: [Evicted; EvictionReason::ALL.len()],
}

impl Stats {
    /// Lookups: hits and misses.
    pub fn lookups(&self) -> u64 {
        self.hits.saturating_add(self.misses)
    }

    /// What left, by reason.
    pub fn evictions(&self) -> impl Iterator<Item = (EvictionReason, Evicted)> {
        EvictionReason::ALL.into_iter().zip(self.evictions)
    }

    /// What left for `reason`.
    pub fn evicted(&self, reason: EvictionReason) -> Evicted {
        self.evictions()
            .find(|(each, _)| *each == reason)
            .map(|(_, n)| n)
            .unwrap_or_default()
    }
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        for (mine, theirs) in [
            (&mut self.hits, other.hits),
            (&mut self.misses, other.misses),
            (&mut self.puts, other.puts),
            (&mut self.rejected_too_large, other.rejected_too_large),
            (&mut self.rejected_no_room, other.rejected_no_room),
            (&mut self.rejected_disabled, other.rejected_disabled),
            (&mut self.superseded, other.superseded),
            (&mut self.lost_events, other.lost_events),
            (&mut self.resyncs, other.resyncs),
            (&mut self.order_faults, other.order_faults),
            (&mut self.wrong_answers, other.wrong_answers),
            (&mut self.shard_resets, other.shard_resets),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        for (mine, theirs) in self.evictions.iter_mut().zip(other.evictions) {
            *mine += theirs;
        }
    }
}

/// Purges that are in force and have still to be carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// How many wait, at most, in one stripe.
    pub purges: u64,
    /// Places of entries that they have still to look at.
    pub places: u64,
}

impl AddAssign for UnderWay {
    fn add_assign(&mut self, other: Self) {
        self.purges = self.purges.saturating_add(other.purges);
        self.places = self.places.saturating_add(other.places);
    }
}

/// The counters of a domain that are not kept by its stripes.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) puts: Counter,
    pub(super) rejected_too_large: Counter,
    pub(super) rejected_no_room: Counter,
    pub(super) rejected_disabled: Counter,
    pub(super) superseded: Counter,
    pub(super) resyncs: Counter,
    pub(super) order_faults: Counter,
    pub(super) wrong_answers: Counter,
    pub(super) shard_resets: Counter,
    evictions: [(Counter, Counter); EvictionReason::ALL.len()],
}

impl Counters {
    /// Counts entries that left.
    pub(super) fn evicted(&self, reason: EvictionReason, entries: u64, bytes: u64) {
        if entries == 0 {
            return;
        }
        // In the order of `EvictionReason::ALL`.
        let [
            capacity,
            policy,
            refused,
            native_overrun,
            native_fallback,
            purged,
            rejected_put,
        ] = &self.evictions;
        let counters = match reason {
            EvictionReason::Capacity => capacity,
            EvictionReason::Policy => policy,
            EvictionReason::Refused => refused,
            EvictionReason::NativeOverrun => native_overrun,
            EvictionReason::NativeFallback => native_fallback,
            EvictionReason::Purged => purged,
            EvictionReason::RejectedPut => rejected_put,
        };
        counters.0.add(entries);
        counters.1.add(bytes);
    }

    /// Reads the counters; those of the stripes are left at zero.
    pub(super) fn read(&self) -> Stats {
        let evicted = |(entries, bytes): &(Counter, Counter)| Evicted {
            entries: entries.get(),
            bytes: bytes.get(),
        };
        Stats {
            puts: self.puts.get(),
            rejected_too_large: self.rejected_too_large.get(),
            rejected_no_room: self.rejected_no_room.get(),
            rejected_disabled: self.rejected_disabled.get(),
            superseded: self.superseded.get(),
            resyncs: self.resyncs.get(),
            order_faults: self.order_faults.get(),
            wrong_answers: self.wrong_answers.get(),
            shard_resets: self.shard_resets.get(),
            evictions: self.evictions.each_ref().map(evicted),
            ..Stats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_left_is_counted_under_its_reason() {
        for reason in EvictionReason::ALL {
            let counters = Counters::default();
            counters.evicted(reason, 2, 7);
            counters.evicted(reason, 0, 9);
            for (each, evicted) in counters.read().evictions() {
                let (entries, bytes) = if each == reason { (2, 7) } else { (0, 0) };
                assert_eq!(evicted, Evicted { entries, bytes }, "{each:?}");
            }
        }
    }
}

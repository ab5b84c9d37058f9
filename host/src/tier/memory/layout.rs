//! How a domain is divided: into shards, and those into stripes.
//!
//! A shard is what one guest order sees. The more it sees, the better it knows which entries are
//! worth their room, and the fewer instances there are of whatever each of them needs for itself. A
//! stripe is what one lock is for, and the more of them there are, the less do threads wait for each
//! other. So a shard is several stripes, and its order knows their slots by numbers that no two of
//! them share: those of one stripe are as far apart as there are stripes, so that all of them
//! together are as dense as each is.

use std::num::NonZeroU32;
use std::ops::Range;

/// Into how many shards a domain is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// As the capacity and the CPUs suggest.
    Auto,
    /// So many, and each into so many stripes; both are rounded up to a power of two.
    Exactly(NonZeroU32, NonZeroU32),
}

impl Shards {
    /// So many, each with one lock. One of them is in exactly the order of use.
    pub fn exactly(count: NonZeroU32) -> Self {
        Self::Exactly(count, NonZeroU32::MIN)
    }
}

/// The capacity of a shard, at least, if there are several.
const SHARD_MIN: u64 = 64 << 20;
/// The same of a stripe. One of less holds so little that chance decides what it gives.
const STRIPE_MIN: u64 = 2 << 20;
/// A domain of less than this is in exactly the order of use.
const STRIPED_MIN: u64 = 16 << 20;
/// Stripes for each CPU: so threads seldom meet.
const STRIPES_OF_CPU: u32 = 4;
const SHARDS_MAX: u32 = 16;
/// Stripes that a hash can name.
const HASHED_TO: u32 = 1 << 16;
const STRIPES_MAX: u32 = 256;

/// Shards and stripes, numbered from zero; the stripes of a shard are neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// INVARIANT: both are powers of two.
    shards: u32,
    stripes_of_each: u32,
}

impl Layout {
    /// The layout of a domain of so many bytes.
    pub(super) fn new(shards: Shards, capacity: u64) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self::on(u32::try_from(cpus).unwrap_or(u32::MAX), shards, capacity)
    }

    fn on(cpus: u32, shards: Shards, capacity: u64) -> Self {
        if let Shards::Exactly(shards, stripes_of_each) = shards {
            let shards = shards.get().min(1 << 15).next_power_of_two();
            let most = STRIPES_MAX.min(HASHED_TO / shards);
            return Self {
                shards,
                stripes_of_each: stripes_of_each.get().min(most).next_power_of_two(),
            };
        }
        // As many as that is enough for, a power of two.
        let parts = |of_each: u64, most: u32| {
            let enough_for = u32::try_from(capacity / of_each).unwrap_or(u32::MAX);
            1 << enough_for.clamp(1, most.max(1)).ilog2()
        };
        let stripes = match capacity < STRIPED_MIN {
            true => 1,
            false => parts(
                STRIPE_MIN,
                cpus.saturating_mul(STRIPES_OF_CPU).min(STRIPES_MAX),
            ),
        };
        let shards = parts(SHARD_MIN, SHARDS_MAX.min(stripes));
        Self {
            shards,
            stripes_of_each: stripes / shards,
        }
    }

    /// Shards.
    pub(super) fn shards(self) -> usize {
        usize::try_from(self.shards).unwrap_or(usize::MAX)
    }

    /// Stripes of each shard.
    pub(super) fn stripes_of_each(self) -> u32 {
        self.stripes_of_each
    }

    /// Stripes of all shards.
    pub(super) fn stripes(self) -> usize {
        let stripes = self.shards.saturating_mul(self.stripes_of_each);
        usize::try_from(stripes).unwrap_or(usize::MAX)
    }

    /// The stripe that a key belongs to.
    #[inline]
    pub(super) fn stripe_of(self, hash: u64) -> usize {
        // Bits that the tables make nothing of: they use the lower half.
        usize::try_from(hash >> 32 & u64::from(HASHED_TO - 1)).unwrap_or(0) & (self.stripes() - 1)
    }

    /// The stripes of a shard.
    pub(super) fn stripes_of(self, shard: usize) -> Range<usize> {
        let bits = self.stripes_of_each.trailing_zeros();
        shard << bits..(shard + 1) << bits
    }

    /// Slots of one stripe: its share of the entries and what chance may put above it.
    pub(super) fn slots_of_each(self, max_entries: u32) -> u32 {
        let stripes = u32::try_from(self.stripes()).unwrap_or(u32::MAX);
        if stripes == 1 {
            return max_entries;
        }
        let share = max_entries.div_ceil(stripes);
        // The spread of n keys over stripes is about the root of n; this is beyond eight times that.
        share
            .saturating_add(share / 4)
            .saturating_add(64)
            .min(max_entries)
            .min(u32::MAX / self.stripes_of_each)
    }
}

/// How the order of a shard knows the slots of its stripes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbering {
    /// INVARIANT: a power of two.
    stripes: u32,
}

impl Numbering {
    /// That of a shard of so many stripes, which is a power of two.
    pub(super) fn new(stripes: u32) -> Self {
        Self { stripes }
    }

    /// The number of a `slot` of the shard's stripe `stripe`.
    #[inline]
    pub(super) fn number(self, stripe: u32, slot: u32) -> u32 {
        slot.wrapping_mul(self.stripes) | stripe
    }

    /// The slots of the shard's stripe `stripe` among these numbers.
    pub(super) fn of(self, stripe: u32, numbers: &[u32]) -> impl Iterator<Item = u32> {
        let in_it = move |number: &u32| number & (self.stripes - 1) == stripe;
        let slot = move |number: u32| number >> self.stripes.trailing_zeros();
        numbers.iter().copied().filter(in_it).map(slot)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_domain_is_divided_as_its_size_and_the_cpus_suggest() {
        for (cpus, mib, shards, stripes) in [
            (2, 0, 1, 1),
            (2, 15, 1, 1),
            (2, 16, 1, 8),
            (2, 100, 1, 8),
            (2, 128, 2, 8),
            (2, 1 << 20, 8, 8),
            (1, 1 << 20, 4, 4),
            (3, 1 << 20, 8, 8),
            (64, 16, 1, 8),
            (64, 1 << 20, 16, 256),
            (1_000, 1 << 20, 16, 256),
        ] {
            let layout = Layout::on(cpus, Shards::Auto, mib * MIB);
            assert_eq!(
                (layout.shards(), layout.stripes()),
                (shards, stripes),
                "{mib} MiB on {cpus} CPUs"
            );
        }
        for (asked, shards) in [(1, 1), (2, 2), (3, 4), (u32::MAX, 1 << 15)] {
            let asked = Shards::exactly(NonZeroU32::new(asked).unwrap());
            let layout = Layout::on(2, asked, MIB);
            assert_eq!((layout.shards(), layout.stripes()), (shards, shards));
        }
        let three = NonZeroU32::new(3).unwrap();
        let layout = Layout::on(2, Shards::Exactly(three, three), MIB);
        assert_eq!((layout.shards(), layout.stripes()), (4, 16));
        let many = Shards::Exactly(NonZeroU32::MAX, NonZeroU32::MAX);
        assert_eq!(Layout::on(2, many, MIB).stripes(), 1 << 16);
    }

    #[test]
    fn every_stripe_is_of_one_shard() {
        for mib in [1, 64, 256, 1 << 20] {
            let layout = Layout::on(8, Shards::Auto, mib * MIB);
            let all: Vec<usize> = (0..layout.shards())
                .flat_map(|shard| layout.stripes_of(shard))
                .collect();
            assert_eq!(all, (0..layout.stripes()).collect::<Vec<_>>());
            let hashed_to: HashSet<usize> = (0..u64::from(HASHED_TO))
                .map(|bits| layout.stripe_of(bits << 32))
                .collect();
            assert_eq!(hashed_to, all.into_iter().collect());
        }
    }

    #[test]
    fn no_two_slots_of_a_shard_have_one_number() {
        for stripes in [1, 2, 16] {
            let numbering = Numbering::new(stripes);
            let places = (0..100).flat_map(|slot| (0..stripes).map(move |it| (it, slot)));
            for (number, (stripe, slot)) in (0..).zip(places) {
                assert_eq!(numbering.number(stripe, slot), number);
                for other in 0..stripes {
                    let found: Vec<u32> = numbering.of(other, &[number]).collect();
                    let expected: &[u32] = if other == stripe { &[slot] } else { &[] };
                    assert_eq!(found, expected);
                }
            }
        }
    }
}

//! How often keys were asked for that have left: the ghosts.
//!
//! A key is remembered while what left after it would not fill the shard [`SPAN_MAX`] times, or
//! fewer times if it is asked for with a shorter memory. Its time
//! is the count of bytes that had left by then, in parts of the capacity, so that nothing has to
//! be taken out when it is forgotten. A ghost is four bytes: 12 bits of the key's hash that do not
//! choose its bucket, so that one newcomer in a few hundred is taken for another; 6 bits of uses;
//! 14 bits of time. A bucket is one cache line with the last fifteen keys that came to it; on
//! average it holds twelve.
//!
//! The table grows one bucket at a time, and no call pays for a copy. A new bucket begins as a copy
//! of the one whose keys it shares from then on; what does not belong in either is forgotten with
//! the rest.

use larder_guest::eviction::{Buckets, Slots};

/// Capacities of bytes that leave before a key is forgotten for good.
pub(crate) const SPAN_MAX: u32 = 4;
/// Parts of a capacity that times are counted in. Times wrap after 64 capacities.
const PARTS: u64 = 256;

/// Keys that a bucket holds on average, and at most.
const LOAD: u32 = 12;
const GHOSTS_MAX: u32 = 15;
const BUCKETS_MIN: u32 = 16;

/// Of a ghost, from the lowest bit.
const TIME_BITS: u32 = 14;
const USES_BITS: u32 = 6;
const TIME_MASK: u32 = (1 << TIME_BITS) - 1;
const USES_MAX: u32 = (1 << USES_BITS) - 1;
const TAG_SHIFT: u32 = TIME_BITS + USES_BITS;
/// As far from now as times go.
const FORGOTTEN: u32 = 1 << (TIME_BITS - 1);

/// Uses of the keys that left lately.
#[derive(Debug)]
pub(crate) struct Memory {
    table: Slots<Bucket, 64>,
    buckets: Buckets,
    time: u32,
    /// What the shard holds.
    capacity_bytes: u64,
    /// The part of it by which times pass.
    part_bytes: u64,
    /// Times pass by this many while a capacity leaves.
    capacity_age: u32,
    /// Bytes that left since `time` began.
    bytes: u64,
}

// A bucket across two cache lines would be read twice as slowly.
#[repr(align(64))]
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Where the next key goes, in the place of the oldest.
    next: u32,
    ghosts: [u32; 15],
}

/// An entry that left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    pub(crate) hash: u32,
    pub(crate) uses: u8,
    pub(crate) size_bytes: u32,
}

impl Memory {
    pub(crate) const fn new() -> Self {
        let empty = Bucket {
            next: 0,
            ghosts: [0; 15],
        };
        Self {
            table: Slots::new(u32::MAX, empty),
            buckets: Buckets::new(BUCKETS_MIN),
            // INVARIANT: a ghost that was never written is FORGOTTEN old at the start.
            time: FORGOTTEN,
            capacity_bytes: 0,
            part_bytes: 1,
            capacity_age: 0,
            bytes: 0,
        }
    }

    /// Remembers what `left` a shard that holds `residents` entries in `capacity_bytes`.
    pub(crate) fn keep(&mut self, left: Left, residents: u32, capacity_bytes: u64) {
        if capacity_bytes != self.capacity_bytes {
            self.capacity_bytes = capacity_bytes;
            self.part_bytes = (capacity_bytes / PARTS).max(1);
            self.capacity_age = u32::try_from(capacity_bytes / self.part_bytes).unwrap_or_default();
        }
        self.bytes = self.bytes.saturating_add(left.size_bytes.into());
        if self.bytes >= self.part_bytes {
            self.pass();
        }
        if self.buckets.count() < residents.saturating_mul(SPAN_MAX) / LOAD {
            self.split_a_bucket();
        }
        let uses = u32::from(left.uses).min(USES_MAX);
        let ghost = tag(left.hash) << TAG_SHIFT | uses << TIME_BITS | self.time;
        if let Some(bucket) = self.table.get_or_grow(self.buckets.of(left.hash)) {
            let at = usize::try_from(bucket.next).unwrap_or_default();
            if let Some(place) = bucket.ghosts.get_mut(at) {
                *place = ghost;
            }
            bucket.next = (bucket.next + 1) % GHOSTS_MAX;
        }
    }

    /// Lets as much time pass as left.
    #[cold]
    fn pass(&mut self) {
        let parts = (self.bytes / self.part_bytes) & u64::from(TIME_MASK);
        self.bytes %= self.part_bytes;
        let parts = u32::try_from(parts).unwrap_or_default();
        self.time = self.time.wrapping_add(parts) & TIME_MASK;
    }

    /// Forgets `hash`, and answers how often it had been used; 0: not remembered, or left more than
    /// `span` capacities ago.
    pub(crate) fn take(&mut self, hash: u32, span: u32) -> u8 {
        let age_max = self.capacity_age * span.min(SPAN_MAX);
        let (now, bucket) = (self.time, self.buckets.of(hash));
        let mut uses = 0;
        if let Some(bucket) = self.table.get_mut(bucket) {
            for ghost in &mut bucket.ghosts {
                let age = now.wrapping_sub(*ghost) & TIME_MASK;
                if *ghost >> TAG_SHIFT == tag(hash) && age <= age_max {
                    uses = uses.max((*ghost >> TIME_BITS) & USES_MAX);
                    *ghost = now.wrapping_sub(FORGOTTEN) & TIME_MASK;
                }
            }
        }
        u8::try_from(uses).unwrap_or(u8::MAX)
    }

    /// Reads what [`Self::keep`] and [`Self::take`] would, to have it at hand.
    #[inline]
    pub(crate) fn touch(&self, hash: u32) -> u32 {
        let bucket = self.table.get(self.buckets.of(hash));
        bucket.map_or(0, |bucket| bucket.next)
    }

    fn split_a_bucket(&mut self) {
        let (old, new) = self.buckets.split();
        if let Some(shared) = self.table.get(old).copied()
            && let Some(place) = self.table.get_or_grow(new)
        {
            *place = shared;
        }
    }
}

fn tag(hash: u32) -> u32 {
    hash >> TAG_SHIFT
}

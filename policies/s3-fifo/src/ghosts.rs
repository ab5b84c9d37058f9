//! The ghost queue: which hashes left the small queue lately.
//!
//! As the paper proposes, it is no queue but a table of hash and time, the time being the count of
//! insertions so far: a hash is remembered while it is among the last so many, and nothing has to
//! be taken out when it no longer is. A bucket is one cache line with the last eight that came to
//! it, newest first; one that takes in more than that within the queue's length forgets early. It
//! takes in four on average, so that this loses one or two in a hundred.
//!
//! The table grows by splitting one bucket at a time (linear hashing): no call pays for a copy.

use larder_guest::eviction::Slots;

/// Insertions that a bucket takes in on average, within the queue's length.
const LOAD: u32 = 4;
const BUCKETS_MIN: u32 = 64;
/// An age that no queue length reaches. Times wrap, and this is as far from now as they go.
const FORGOTTEN: u32 = 1 << 31;

/// The remembered hashes.
#[derive(Debug)]
pub(crate) struct Ghosts {
    buckets: Slots<Bucket, 512>,
    bucket_count: u32,
    now: u32,
}

// A bucket across two cache lines would be read twice as slowly.
#[repr(align(64))]
#[derive(Clone, Copy, Debug)]
struct Bucket([Ghost; 8]);

#[derive(Clone, Copy, Debug)]
struct Ghost {
    hash: u32,
    time: u32,
}

impl Ghosts {
    pub(crate) const fn new() -> Self {
        let empty = Bucket([Ghost { hash: 0, time: 0 }; 8]);
        Self {
            buckets: Slots::new(u32::MAX, empty),
            bucket_count: BUCKETS_MIN,
            // INVARIANT: a ghost that was never written is FORGOTTEN old at the start.
            now: FORGOTTEN,
        }
    }

    /// Remembers `hash` as the newest of a queue of `length`.
    pub(crate) fn insert(&mut self, hash: u32, length: u32) {
        if self.bucket_count < length / LOAD {
            self.split_a_bucket();
        }
        let time = self.now;
        self.now = time.wrapping_add(1);
        if let Some(bucket) = self.buckets.get_or_grow(self.bucket_of(hash)) {
            // Moving all of them costs less than searching for the oldest.
            let [g0, g1, g2, g3, g4, g5, g6, _] = bucket.0;
            bucket.0 = [Ghost { hash, time }, g0, g1, g2, g3, g4, g5, g6];
        }
    }

    /// Forgets `hash`, and answers whether a queue of `length` remembered it.
    pub(crate) fn take(&mut self, hash: u32, length: u32) -> bool {
        let now = self.now;
        let bucket = self.bucket_of(hash);
        let mut remembered = false;
        if let Some(Bucket(ghosts)) = self.buckets.get_mut(bucket) {
            for ghost in ghosts {
                if ghost.hash == hash && now.wrapping_sub(ghost.time) <= length {
                    ghost.time = now.wrapping_sub(FORGOTTEN);
                    remembered = true;
                }
            }
        }
        remembered
    }

    /// Buckets are numbered by the low bits of a hash, by one bit fewer where the bucket with that
    /// many has not been split off yet.
    fn bucket_of(&self, hash: u32) -> u32 {
        let mask = u32::MAX >> (self.bucket_count - 1).leading_zeros();
        let bucket = hash & mask;
        if bucket < self.bucket_count {
            bucket
        } else {
            bucket & (mask >> 1)
        }
    }

    fn split_a_bucket(&mut self) {
        let new = self.bucket_count;
        let old = self.bucket_of(new);
        self.bucket_count += 1;
        let Some(mut low) = self.buckets.get(old).copied() else {
            return;
        };
        let mut high = low;
        let forgotten = self.now.wrapping_sub(FORGOTTEN);
        for (low, high) in low.0.iter_mut().zip(&mut high.0) {
            // Each hash stays remembered in one of the two and is forgotten in the other.
            if self.bucket_of(low.hash) == new {
                low.time = forgotten;
            } else {
                high.time = forgotten;
            }
        }
        for (bucket, half) in [(old, low), (new, high)] {
            if let Some(place) = self.buckets.get_or_grow(bucket) {
                *place = half;
            }
        }
    }
}

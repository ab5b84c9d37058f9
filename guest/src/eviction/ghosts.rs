//! A ghost queue: which hashes left a queue lately.
//!
//! As the S3-FIFO paper proposes, it is no queue but a table of hash and time, the time being the count of
//! insertions so far: a hash is remembered while it is among the last so many, and nothing has to
//! be taken out when it no longer is. A bucket is one cache line with the last eight that came to
//! it, newest first; one that takes in more than that within the queue's length forgets early. It
//! takes in four on average, so that this loses one or two in a hundred.
//!
//! The table grows by splitting one bucket at a time (linear hashing): no call pays for a copy.

use super::{Buckets, Slots};

/// Insertions that a bucket takes in on average, within the queue's length.
const LOAD: u32 = 4;
const BUCKETS_MIN: u32 = 64;
/// An age that no queue length reaches. Times wrap, and this is as far from now as they go.
const FORGOTTEN: u32 = 1 << 31;

/// The remembered hashes.
#[derive(Debug)]
pub struct Ghosts {
    table: Slots<Bucket, 512>,
    buckets: Buckets,
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

impl Default for Ghosts {
    fn default() -> Self {
        Self::new()
    }
}

impl Ghosts {
    /// Nothing remembered.
    pub const fn new() -> Self {
        let empty = Bucket([Ghost { hash: 0, time: 0 }; 8]);
        Self {
            table: Slots::new(u32::MAX, empty),
            buckets: Buckets::new(BUCKETS_MIN),
            // INVARIANT: a ghost that was never written is FORGOTTEN old at the start.
            now: FORGOTTEN,
        }
    }

    /// Remembers `hash` as the newest of a queue of `length`.
    pub fn insert(&mut self, hash: u32, length: u32) {
        if self.buckets.count() < length / LOAD {
            self.split_a_bucket();
        }
        let time = self.now;
        self.now = time.wrapping_add(1);
        if let Some(bucket) = self.table.get_or_grow(self.buckets.of(hash)) {
            // Moving all of them costs less than searching for the oldest.
            let [g0, g1, g2, g3, g4, g5, g6, _] = bucket.0;
            bucket.0 = [Ghost { hash, time }, g0, g1, g2, g3, g4, g5, g6];
        }
    }

    /// Forgets `hash`, and answers whether a queue of `length` remembered it.
    pub fn take(&mut self, hash: u32, length: u32) -> bool {
        let now = self.now;
        let bucket = self.buckets.of(hash);
        let mut remembered = false;
        if let Some(Bucket(ghosts)) = self.table.get_mut(bucket) {
            for ghost in ghosts {
                if ghost.hash == hash && now.wrapping_sub(ghost.time) <= length {
                    ghost.time = now.wrapping_sub(FORGOTTEN);
                    remembered = true;
                }
            }
        }
        remembered
    }

    fn split_a_bucket(&mut self) {
        let (old, new) = self.buckets.split();
        let Some(mut low) = self.table.get(old).copied() else {
            return;
        };
        let mut high = low;
        let forgotten = self.now.wrapping_sub(FORGOTTEN);
        for (low, high) in low.0.iter_mut().zip(&mut high.0) {
            // Each hash stays remembered in one of the two and is forgotten in the other.
            if self.buckets.of(low.hash) == new {
                low.time = forgotten;
            } else {
                high.time = forgotten;
            }
        }
        for (bucket, half) in [(old, low), (new, high)] {
            if let Some(place) = self.table.get_or_grow(bucket) {
                *place = half;
            }
        }
    }
}

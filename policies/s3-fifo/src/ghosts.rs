//! The ghost queue: which hashes left the small queue lately.
//!
//! As the paper proposes, it is no queue but a table of hash and time, the time being the count of
//! insertions so far: a hash is remembered while it is among the last so many, and nothing has to
//! be taken out when it no longer is. A bucket is one cache line of eight places; the oldest place
//! is used again, so a bucket with more than eight remembered hashes forgets early. Buckets hold
//! four on average, which makes that rare.
//!
//! The table grows by splitting one bucket at a time (linear hashing): no call pays for a copy.

use larder_guest::eviction::Slots;

const PLACES: usize = 8;
/// The load at which the table grows: half the places.
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

#[derive(Clone, Copy, Debug)]
struct Bucket {
    hashes: [u32; PLACES],
    times: [u32; PLACES],
}

impl Ghosts {
    pub(crate) const fn new() -> Self {
        let empty = Bucket {
            hashes: [0; PLACES],
            times: [0; PLACES],
        };
        Self {
            buckets: Slots::new(u32::MAX, empty),
            bucket_count: BUCKETS_MIN,
            // INVARIANT: a place that was never written is FORGOTTEN old at the start.
            now: FORGOTTEN,
        }
    }

    /// Remembers `hash` as the newest of a queue of `length`.
    pub(crate) fn insert(&mut self, hash: u32, length: u32) {
        if self.bucket_count < length / LOAD {
            self.split_a_bucket();
        }
        let now = self.now;
        self.now = now.wrapping_add(1);
        let Some(bucket) = self.buckets.get_or_grow(self.bucket_of(hash)) else {
            return;
        };
        let oldest = (bucket.hashes.iter_mut().zip(&mut bucket.times))
            .max_by_key(|(_, time)| now.wrapping_sub(**time));
        if let Some((place, time)) = oldest {
            *place = hash;
            *time = now;
        }
    }

    /// Forgets `hash`, and answers whether a queue of `length` remembered it.
    pub(crate) fn take(&mut self, hash: u32, length: u32) -> bool {
        let now = self.now;
        let bucket = self.bucket_of(hash);
        let mut remembered = false;
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            for (place, time) in bucket.hashes.iter().zip(&mut bucket.times) {
                if *place == hash && now.wrapping_sub(*time) <= length {
                    *time = now.wrapping_sub(FORGOTTEN);
                    remembered = true;
                }
            }
        }
        remembered
    }

    /// Buckets are numbered by the low bits of a hash, by one bit fewer where the bucket with that
    /// many has not been split off yet.
    fn bucket_of(&self, hash: u32) -> u32 {
        let mask = self.bucket_count.next_power_of_two() - 1;
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
        for (hash, (low, high)) in low
            .hashes
            .iter()
            .zip(low.times.iter_mut().zip(&mut high.times))
        {
            // Each hash stays remembered in one of the two and is forgotten in the other.
            if self.bucket_of(*hash) == new {
                *low = forgotten;
            } else {
                *high = forgotten;
            }
        }
        for (bucket, half) in [(old, low), (new, high)] {
            if let Some(place) = self.buckets.get_or_grow(bucket) {
                *place = half;
            }
        }
    }
}

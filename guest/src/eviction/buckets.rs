//! Which bucket of a growing table a hash belongs in: linear hashing (Litwin, VLDB 1980).
//!
//! A table that doubles would move all it holds inside one call, which has five milliseconds; this
//! grows by splitting one bucket at a time, in a fixed order.

/// The buckets of a table: how many there are, and whose hashes they hold.
#[derive(Clone, Copy, Debug)]
pub struct Buckets {
    count: u32,
}

impl Buckets {
    /// `count` buckets.
    ///
    /// # Panics
    /// That is no power of two.
    pub const fn new(count: u32) -> Self {
        assert!(count.is_power_of_two(), "it grows from a full round");
        Self { count }
    }

    /// How many there are.
    #[inline]
    pub const fn count(self) -> u32 {
        self.count
    }

    /// The bucket of `hash`, whose low bits choose it: by one bit fewer where the bucket with that
    /// many has not been split off yet.
    #[inline]
    pub const fn of(self, hash: u32) -> u32 {
        let mask = u32::MAX >> (self.count - 1).leading_zeros();
        let bucket = hash & mask;
        if bucket < self.count {
            bucket
        } else {
            bucket & (mask >> 1)
        }
    }

    /// Adds one. Answers the bucket that shares its hashes with it from now on, and the new one.
    pub const fn split(&mut self) -> (u32, u32) {
        let new = self.count;
        let old = self.of(new);
        self.count = new.saturating_add(1);
        (old, new)
    }
}

//! A table indexed by slot that grows with use and never moves what it holds.
//!
//! A vector that doubles would copy megabytes inside one call, which has five milliseconds; this
//! takes a chunk at a time, when a slot in it is first written. Reads outside the table answer
//! `None`, so that following a link needs neither a check nor a path that can panic.

/// One `T` for each slot of a shard, in chunks of `CHUNK`, a power of two.
#[derive(Clone, Debug)]
pub struct Slots<T, const CHUNK: usize = 4096> {
    chunks: Vec<Box<[T; CHUNK]>>,
    max_entries: u32,
    vacant: T,
}

impl<T: Copy, const CHUNK: usize> Slots<T, CHUNK> {
    /// A table of `max_entries` items that all read as `vacant` once their chunk exists.
    pub const fn new(max_entries: u32, vacant: T) -> Self {
        const {
            assert!(
                CHUNK.is_power_of_two(),
                "an index is split by shift and mask"
            );
        }
        Self {
            chunks: Vec::new(),
            max_entries,
            vacant,
        }
    }

    /// The item of `slot`; `None` if nothing near it was written yet.
    #[inline]
    pub fn get(&self, slot: u32) -> Option<&T> {
        let (chunk, offset) = split::<CHUNK>(slot);
        self.chunks.get(chunk)?.get(offset)
    }

    /// The item of `slot`, to change; `None` if nothing near it was written yet.
    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        let (chunk, offset) = split::<CHUNK>(slot);
        self.chunks.get_mut(chunk)?.get_mut(offset)
    }

    /// The item of `slot`, whose chunk is made if need be; `None` from `max_entries` on.
    #[inline]
    pub fn get_or_grow(&mut self, slot: u32) -> Option<&mut T> {
        if slot >= self.max_entries {
            return None;
        }
        if split::<CHUNK>(slot).0 >= self.chunks.len() {
            self.grow(slot);
        }
        self.get_mut(slot)
    }

    #[cold]
    fn grow(&mut self, slot: u32) {
        while split::<CHUNK>(slot).0 >= self.chunks.len() {
            let chunk = vec![self.vacant; CHUNK].into_boxed_slice();
            // The length is the array's, so this never fails; it avoids a copy by way of the
            // stack, which is small.
            let Ok(chunk) = chunk.try_into() else { return };
            self.chunks.push(chunk);
        }
    }
}

/// Chunk, and offset in it.
#[inline]
fn split<const CHUNK: usize>(slot: u32) -> (usize, usize) {
    let slot = usize::try_from(slot).unwrap_or(usize::MAX);
    (slot / CHUNK, slot % CHUNK)
}

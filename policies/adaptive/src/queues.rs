//! First-in-first-out queues of slots, in chunks of one cache line.
//!
//! A queue of linked slots costs a visit to the neighbours of a slot each time it comes or goes, and
//! in a large shard they lie anywhere. Here a slot that comes is written behind the last one that
//! came, and those that go next lie side by side. A slot that leaves from the middle leaves a
//! hole. A chunk without slots is used again at once, so that there are never more chunks than
//! slots; where many have left, it is for the owner to have the rest move together.

use larder_guest::eviction::Slots;

/// Slots in a chunk.
const CHUNK_SLOTS: usize = 13;
/// In the place of a slot: it left from the middle.
const HOLE: u32 = u32::MAX;
/// In the place of a chunk: there is none.
const NONE: u32 = u32::MAX;
/// A spot is the number of a chunk, and in the lowest bits the place in it.
const PLACE_BITS: u32 = 4;
const CHUNKS_MAX: u32 = 1 << (u32::BITS - PLACE_BITS - 1);

/// Where a slot lies.
pub(crate) type Spot = u32;
/// No slot lies here.
pub(crate) const NO_SPOT: Spot = CHUNKS_MAX << PLACE_BITS;

/// Slots that lie side by side, holes among them: those from `first` and before `end`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Front {
    slots: [u32; CHUNK_SLOTS],
    pub(crate) first: usize,
    end: usize,
}

impl Front {
    /// Whether nothing of it was taken from the front yet.
    #[inline]
    pub(crate) fn is_whole(&self) -> bool {
        let mut passed = self.slots.iter().take(self.first);
        passed.all(|slot| *slot == HOLE)
    }

    /// The slots, and what are none.
    #[inline]
    pub(crate) fn slots(&self) -> &[u32] {
        self.slots.get(self.first..self.end).unwrap_or_default()
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Queues {
    ends: Vec<Ends>,
    chunks: Slots<Chunk, 64>,
    /// Chunks so far.
    made: u32,
    /// Those with slots.
    used: u32,
    /// The first of those that are not used; each tells the next.
    free: u32,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    oldest: u32,
    newest: u32,
}

// INVARIANT: in a queue, `slots[first]` is a slot, and `first` is below `filled`.
#[repr(align(64))]
#[derive(Clone, Copy, Debug)]
struct Chunk {
    slots: [u32; CHUNK_SLOTS],
    older: u32,
    newer: u32,
    queue: u16,
    /// What is before it has left.
    first: u8,
    /// What is from it on was not written yet.
    filled: u8,
}

impl Queues {
    /// So many empty ones.
    pub(crate) fn new(count: usize) -> Self {
        let empty = Ends {
            oldest: NONE,
            newest: NONE,
        };
        Self {
            ends: vec![empty; count],
            chunks: Slots::new(CHUNKS_MAX, Chunk::EMPTY),
            made: 0,
            used: 0,
            free: NONE,
        }
    }

    /// Enters `slot`, and answers where it lies, and whether the queue was empty.
    #[inline]
    pub(crate) fn push(&mut self, queue: u16, slot: u32) -> (Spot, bool) {
        let newest = self.ends(queue).newest;
        if let Some(chunk) = self.chunks.get_mut(newest)
            && let Some(place) = chunk.slots.get_mut(usize::from(chunk.filled))
        {
            *place = slot;
            let at = newest << PLACE_BITS | u32::from(chunk.filled);
            chunk.filled += 1;
            return (at, false);
        }
        (self.push_to_new_chunk(queue, slot), newest == NONE)
    }

    /// The slots that entered first and lie side by side, holes among them.
    #[inline]
    pub(crate) fn front(&self, queue: u16) -> Option<Front> {
        let chunk = self.chunks.get(self.ends(queue).oldest)?;
        Some(Front {
            slots: chunk.slots,
            first: chunk.first.into(),
            end: chunk.filled.into(),
        })
    }

    /// Takes out what is before `first` in the front of a queue, with the holes that follow. True:
    /// the queue is empty now.
    #[inline]
    pub(crate) fn take_front(&mut self, queue: u16, first: usize) -> bool {
        let at = self.ends(queue).oldest;
        if let Some(chunk) = self.chunks.get_mut(at) {
            chunk.first = u8::try_from(first).unwrap_or(chunk.filled);
            chunk.pass_holes();
            if chunk.first >= chunk.filled {
                self.vacate(at);
            }
        }
        self.is_empty(queue)
    }

    /// Whether the `len` slots would need far fewer chunks if they moved together: chunks are a
    /// third full, but for one in each queue.
    pub(crate) fn are_sparse(&self, len: u32) -> bool {
        let queues = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        self.used > (len / 4).saturating_add(queues)
    }

    /// Chunks with slots, and queues.
    #[cfg(test)]
    pub(crate) fn chunks(&self) -> (u32, u32) {
        (self.used, u32::try_from(self.ends.len()).unwrap())
    }

    /// Takes out the slot at `spot`, and answers in which queue it was.
    pub(crate) fn remove(&mut self, spot: Spot) -> Option<u16> {
        let at = spot >> PLACE_BITS;
        let chunk = self.chunks.get_mut(at)?;
        let queue = chunk.queue;
        let place = u8::try_from(spot & ((1 << PLACE_BITS) - 1)).ok()?;
        *chunk.slots.get_mut(usize::from(place))? = HOLE;
        chunk.pass_holes();
        if chunk.first >= chunk.filled {
            self.vacate(at);
        }
        Some(queue)
    }

    /// Whether nothing is in a queue.
    #[inline]
    pub(crate) fn is_empty(&self, queue: u16) -> bool {
        self.ends(queue).oldest == NONE
    }

    #[inline]
    fn ends(&self, queue: u16) -> Ends {
        let ends = self.ends.get(usize::from(queue)).copied();
        ends.unwrap_or(Ends {
            oldest: NONE,
            newest: NONE,
        })
    }

    /// Takes a chunk out of its queue.
    fn vacate(&mut self, at: u32) {
        let Some(chunk) = self.chunks.get_mut(at) else {
            return;
        };
        let Chunk {
            older,
            newer,
            queue,
            ..
        } = *chunk;
        chunk.newer = self.free;
        self.free = at;
        self.used -= 1;
        if let Some(older) = self.chunks.get_mut(older) {
            older.newer = newer;
        }
        if let Some(newer) = self.chunks.get_mut(newer) {
            newer.older = older;
        }
        if let Some(ends) = self.ends.get_mut(usize::from(queue)) {
            if ends.oldest == at {
                ends.oldest = newer;
            }
            if ends.newest == at {
                ends.newest = older;
            }
        }
    }

    fn push_to_new_chunk(&mut self, queue: u16, slot: u32) -> Spot {
        let Some(ends) = self.ends.get_mut(usize::from(queue)) else {
            return NO_SPOT;
        };
        let at = if self.free == NONE {
            self.made
        } else {
            self.free
        };
        let Some(chunk) = self.chunks.get_or_grow(at) else {
            return NO_SPOT;
        };
        if at == self.made {
            self.made += 1;
        } else {
            self.free = chunk.newer;
        }
        self.used += 1;
        let older = ends.newest;
        *chunk = Chunk {
            older,
            queue,
            filled: 1,
            ..Chunk::EMPTY
        };
        chunk.slots[0] = slot;
        ends.newest = at;
        if older == NONE {
            ends.oldest = at;
        } else if let Some(older) = self.chunks.get_mut(older) {
            older.newer = at;
        }
        at << PLACE_BITS
    }
}

impl Chunk {
    #[inline]
    fn pass_holes(&mut self) {
        while self.first < self.filled && self.slots.get(usize::from(self.first)) == Some(&HOLE) {
            self.first += 1;
        }
    }

    const EMPTY: Self = Self {
        slots: [HOLE; CHUNK_SLOTS],
        older: NONE,
        newer: NONE,
        queue: 0,
        first: 0,
        filled: 0,
    };
}

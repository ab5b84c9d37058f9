//! How often keys were asked for lately, roughly: a count-min sketch of four-bit counters.
//!
//! A key has four counters, in the four words of one block that its hash chooses, and its count is
//! the least of them: never too low, and too high only where all four are shared. Counts are halved
//! one block at a time as requests come, so that each is halved once in ten requests an entry, as
//! the paper has it, and no call pays for all of them.

use larder_guest::eviction::{Buckets, Slots};

const BLOCKS_MIN: u32 = 16;
/// Requests for each block between two halvings of it: ten for each entry.
const REQUESTS_OF_BLOCK: u32 = 10 * ENTRIES_OF_BLOCK;
/// Entries for each block: sixteen counters for each of them.
const ENTRIES_OF_BLOCK: u32 = 4;
/// Every other bit of a counter is below this one.
const ONE_OF_EACH: u64 = 0x1111_1111_1111_1111;
const COUNT_MAX: u64 = 15;

/// Four words of sixteen counters, one word for each of a key's.
type Block = [u64; 4];

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Sketch {
    table: Slots<Block, 128>,
    blocks: Buckets,
    requests: u32,
    /// The block that is halved next.
    halved: u32,
}

impl Sketch {
    pub(crate) const fn new() -> Self {
        Self {
            table: Slots::new(u32::MAX, [0; 4]),
            blocks: Buckets::new(BLOCKS_MIN),
            requests: 0,
            halved: 0,
        }
    }

    /// Counts a request for `hash`, of a shard that holds `residents` entries.
    pub(crate) fn count(&mut self, hash: u32, residents: u32) {
        if self.blocks.count() < residents / ENTRIES_OF_BLOCK {
            self.split_a_block();
        }
        if let Some(block) = self.table.get_or_grow(self.blocks.of(hash)) {
            for (word, shift) in block.iter_mut().zip(shifts(hash)) {
                if (*word >> shift) & COUNT_MAX < COUNT_MAX {
                    *word += 1 << shift;
                }
            }
        }
        self.requests += 1;
        if self.requests >= REQUESTS_OF_BLOCK {
            self.requests = 0;
            self.halve_a_block();
        }
    }

    /// How often `hash` was asked for, 15 at most.
    pub(crate) fn estimate(&self, hash: u32) -> u64 {
        let Some(block) = self.table.get(self.blocks.of(hash)) else {
            return 0;
        };
        let counts = block.iter().zip(shifts(hash));
        let counts = counts.map(|(word, shift)| (word >> shift) & COUNT_MAX);
        counts.min().unwrap_or(0)
    }

    fn halve_a_block(&mut self) {
        if let Some(block) = self.table.get_mut(self.halved) {
            for word in block {
                *word = (*word >> 1) & (ONE_OF_EACH * 7);
            }
        }
        self.halved = (self.halved + 1) % self.blocks.count();
    }

    /// Both blocks begin with the counts of the one: what is not theirs is halved away.
    fn split_a_block(&mut self) {
        let (old, new) = self.blocks.split();
        if let Some(shared) = self.table.get(old).copied()
            && let Some(place) = self.table.get_or_grow(new)
        {
            *place = shared;
        }
    }
}

/// Where the key's counter is in each of the words.
fn shifts(hash: u32) -> [u32; 4] {
    // Bits that have nothing to do with those that choose the block.
    let bits = hash.wrapping_mul(0x85eb_ca6b) >> 16;
    [0, 4, 8, 12].map(|from| ((bits >> from) & 15) * 4)
}

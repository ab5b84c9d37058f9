//! Eviction: S3-FIFO (Yang, Zhang, Qiu, Yue and Vinayak, SOSP 2023), in bytes.
//!
//! Newcomers enter a small first-in-first-out queue. Who is hit at least twice there moves to the
//! main queue; the rest leave early and are remembered, by hash alone, in a ghost queue. Who
//! returns while remembered enters the main queue at once. The main queue gives the entry at its
//! old end another round for each hit it had, three at most. A hit therefore only counts: it
//! moves nothing, which makes this cheaper than LRU and proof against scans.
//!
//! What the paper leaves open is decided so: the small queue is over its share when it holds at
//! least `small` percent of all *resident* bytes, which is right also while the host keeps
//! headroom or is bound by entries; an entry larger than that share of the capacity enters the
//! main queue directly, as it would flush the small one; a replaced entry keeps its place and
//! counts as hit. The ghost queue is as long as the main queue has entries when it has its share.
//!
//! Parameters: `small`, the small queue's share in percent, 1 to 99, by default 10.

mod ghosts;
mod queue;

use ghosts::Ghosts;
use larder_guest::eviction::{Insert, Limits, Slots, Victims};
use larder_guest::{Eviction, Params};
use queue::{Node, Nodes, Queue};

/// Hits that are counted for an entry; more say nothing more.
const HITS_MAX: u8 = 3;
/// Hits that take an entry from the small queue to the main one.
const HITS_TO_PROMOTE: u8 = 2;
/// Entries one call may move before hits stop to count, which bounds its time. After a long time
/// without evictions every entry of a large shard has its three rounds.
const MOVES_MAX: u32 = 16_384;

/// Where a slot is, and its hits, in the one byte that a hit touches: bits 0-1 hits.
const HITS: u8 = 0b0011;
const IN_SMALL: u8 = 0b0100;
const IN_MAIN: u8 = 0b1000;
const IN_EITHER: u8 = IN_SMALL | IN_MAIN;
const VACANT: u8 = 0;

/// The policy; see the crate's documentation.
pub struct S3Fifo {
    states: Slots<u8, 65_536>,
    nodes: Nodes,
    small: Queue,
    main: Queue,
    ghosts: Ghosts,
    small_percent: u64,
    /// Larger entries do not enter the small queue.
    small_size_max: u64,
}

impl Eviction for S3Fifo {
    fn configure(params: &Params, limits: Limits) -> Result<Self, String> {
        let small_percent = params.u64("small")?.unwrap_or(10);
        if !(1..=99).contains(&small_percent) {
            return Err("parameter `small`: expected a percentage from 1 to 99".to_owned());
        }
        Ok(Self {
            states: Slots::new(limits.max_entries, VACANT),
            nodes: Slots::new(limits.max_entries, Node::VACANT),
            small: Queue::EMPTY,
            main: Queue::EMPTY,
            ghosts: Ghosts::new(),
            small_percent,
            small_size_max: limits.capacity_bytes.saturating_mul(small_percent) / 100,
        })
    }

    fn hit(&mut self, slot: u32) {
        if let Some(state) = self.states.get_mut(slot)
            && *state != VACANT
            && *state & HITS < HITS_MAX
        {
            *state += 1;
        }
    }

    fn insert(&mut self, insert: Insert) {
        let Insert {
            slot, size_bytes, ..
        } = insert;
        let hash = half(insert.hash);
        if self.nodes.get(slot).is_some_and(|known| known.hash == hash)
            && self.resize(slot, size_bytes)
        {
            self.hit(slot);
            return;
        }
        // Another key in a slot that was not reported free: what was there has left.
        self.remove(slot);
        let length = self.ghosts_remembered();
        let (Some(state), Some(_)) = (self.states.get_or_grow(slot), self.nodes.get_or_grow(slot))
        else {
            return;
        };
        let to_main = self.ghosts.take(hash, length) || size_bytes > self.small_size_max;
        let queue = if to_main {
            *state = IN_MAIN;
            &mut self.main
        } else {
            *state = IN_SMALL;
            &mut self.small
        };
        queue.push(&mut self.nodes, slot, Node::new(hash, size_bytes));
    }

    fn remove(&mut self, slot: u32) {
        if let Some(state) = self.states.get_mut(slot) {
            let queue = match *state & IN_EITHER {
                IN_SMALL => &mut self.small,
                IN_MAIN => &mut self.main,
                _ => return,
            };
            *state = VACANT;
            queue.unlink(&mut self.nodes, slot);
        }
    }

    fn victims(&mut self, victims: &mut Victims) {
        let mut moves_left = MOVES_MAX;
        while victims.missing_bytes() > 0 {
            let from_small = self.small_is_over_its_share();
            let (queue, hits_to_stay) = if from_small {
                (&mut self.small, HITS_TO_PROMOTE)
            } else {
                (&mut self.main, 1)
            };
            let slot = queue.oldest();
            let (Some(node), Some(state)) = (
                queue.unlink(&mut self.nodes, slot),
                self.states.get_mut(slot),
            ) else {
                break;
            };
            let hits = *state & HITS;
            if hits >= hits_to_stay && moves_left > 0 {
                moves_left -= 1;
                // Who is promoted begins anew; who gets another round has paid for it.
                *state = IN_MAIN | if from_small { 0 } else { hits - 1 };
                self.main.push(&mut self.nodes, slot, node);
                continue;
            }
            *state = VACANT;
            if from_small {
                let length = self.ghosts_remembered();
                self.ghosts.insert(node.hash, length);
            }
            victims.name(slot, node.size_bytes);
        }
    }
}

larder_guest::eviction!(S3Fifo);

impl S3Fifo {
    /// Changes the size of the entry in `slot`; false if there is none.
    fn resize(&mut self, slot: u32, size_bytes: u64) -> bool {
        let queue = match self.states.get(slot).map(|state| *state & IN_EITHER) {
            Some(IN_SMALL) => &mut self.small,
            Some(IN_MAIN) => &mut self.main,
            _ => return false,
        };
        queue.resize(&mut self.nodes, slot, size_bytes);
        true
    }

    fn small_is_over_its_share(&self) -> bool {
        let share = self
            .small_percent
            .saturating_mul(self.small.bytes() + self.main.bytes());
        !self.small.is_empty()
            && (self.main.is_empty() || self.small.bytes().saturating_mul(100) >= share)
    }

    /// Entries that the main queue would have with its share of the residents.
    fn ghosts_remembered(&self) -> u32 {
        let residents = u64::from(self.small.len()) + u64::from(self.main.len());
        u32::try_from(residents * (100 - self.small_percent) / 100).unwrap_or(u32::MAX)
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "a half of the hash is wanted"
)]
fn half(hash: u64) -> u32 {
    hash as u32
}

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
//! libCacheSim 0.3.5 decides otherwise: it does not admit what is larger than the small queue. That
//! misses fewer requests in caches of tens of objects, where it amounts to a preference for small
//! ones, and stores nothing in a small queue of no bytes. Compared to it this policy misses between
//! 2 points less and 2.3 points more of requests in caches of 100 objects and more, and on block
//! traffic up to 6.4 points more bytes; without sizes it is the same to 0.2 points, or up to 2
//! better where ghosts matter, of which it keeps as many as the main queue has entries.
//!
//! On disk it keeps what was hit most often since it was written.
//!
//! Parameters: `small`, the small queue's share in percent, 1 to 99, by default 10.
//!
//! Keeps 25 bytes for each entry, and 16 for each that is remembered: 40 with the default.

use larder_guest::eviction::{Ghosts, Insert, Limits, Link, Links, Queue, Slots, Victims};
use larder_guest::reinsertion::{self, Stored};
use larder_guest::{Eviction, Params, Reinsertion};

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
#[derive(Debug)]
pub struct S3Fifo {
    states: Slots<u8, 65_536>,
    facts: Slots<Facts>,
    links: Links,
    small: Queue,
    main: Queue,
    ghosts: Ghosts,
    small_percent: u64,
    /// Larger entries do not enter the small queue.
    small_size_max: u64,
}

/// What is needed of an entry when it enters, leaves, or is promoted.
#[derive(Clone, Copy, Debug)]
struct Facts {
    size_bytes: u64,
    /// Half of the key's hash: enough to know it again.
    hash: u32,
}

impl Eviction for S3Fifo {
    fn configure(params: &Params, limits: Limits) -> Result<Self, String> {
        let small_percent = params.u64("small")?.unwrap_or(10);
        if !(1..=99).contains(&small_percent) {
            return Err("parameter `small`: expected a percentage from 1 to 99".to_owned());
        }
        Ok(Self {
            states: Slots::new(limits.max_entries, VACANT),
            facts: Slots::new(
                limits.max_entries,
                Facts {
                    size_bytes: 0,
                    hash: 0,
                },
            ),
            links: Slots::new(limits.max_entries, Link::VACANT),
            small: Queue::EMPTY,
            main: Queue::EMPTY,
            ghosts: Ghosts::new(),
            small_percent,
            small_size_max: limits.capacity_bytes.saturating_mul(small_percent) / 100,
        })
    }

    fn hit(&mut self, slot: u32) {
        if let Some(state) = self.states.get_mut(slot) {
            // An addition in any case, as no processor predicts who is hit for which time.
            let counts = *state != VACANT && *state & HITS != HITS_MAX;
            *state += u8::from(counts);
        }
    }

    fn insert(&mut self, insert: Insert) {
        let Insert {
            slot, size_bytes, ..
        } = insert;
        let facts = Facts {
            size_bytes,
            hash: insert.half_hash(),
        };
        if self.states.get(slot).is_some_and(|state| *state != VACANT) {
            if self.replace(slot, facts) {
                self.hit(slot);
                return;
            }
            // Another key in a slot that was not reported free: what was there has left.
            self.remove(slot);
        }
        let ghosts_max = self.ghosts_max();
        let (Some(state), Some(known), Some(_)) = (
            self.states.get_or_grow(slot),
            self.facts.get_or_grow(slot),
            self.links.get_or_grow(slot),
        ) else {
            return;
        };
        *known = facts;
        let to_main = self.ghosts.take(facts.hash, ghosts_max) || size_bytes > self.small_size_max;
        let (queue, in_queue) = if to_main {
            (&mut self.main, IN_MAIN)
        } else {
            (&mut self.small, IN_SMALL)
        };
        *state = in_queue;
        queue.push(&mut self.links, slot, size_bytes);
    }

    fn remove(&mut self, slot: u32) {
        let (Some(state), Some(facts)) = (self.states.get_mut(slot), self.facts.get(slot)) else {
            return;
        };
        match *state & IN_EITHER {
            IN_SMALL => self.small.remove(&mut self.links, slot, facts.size_bytes),
            IN_MAIN => self.main.remove(&mut self.links, slot, facts.size_bytes),
            _ => {}
        }
        *state = VACANT;
    }

    fn victims(&mut self, victims: &mut Victims) {
        let mut moves_left = MOVES_MAX;
        while victims.missing_bytes() > 0 {
            let from_small = self.small_is_over_its_share();
            let queue = if from_small {
                &mut self.small
            } else {
                &mut self.main
            };
            let Some(slot) = queue.oldest() else { break };
            let Some(state) = self.states.get_mut(slot) else {
                break;
            };
            let hits = *state & HITS;
            if !from_small && hits > 0 && moves_left > 0 {
                moves_left -= 1;
                *state -= 1;
                queue.another_round(&mut self.links);
                continue;
            }
            let Some(facts) = self.facts.get(slot).copied() else {
                break;
            };
            queue.remove(&mut self.links, slot, facts.size_bytes);
            if from_small && hits >= HITS_TO_PROMOTE && moves_left > 0 {
                moves_left -= 1;
                *state = IN_MAIN;
                self.main.push(&mut self.links, slot, facts.size_bytes);
                continue;
            }
            *state = VACANT;
            if from_small {
                let ghosts_max = self.ghosts_max();
                self.ghosts.insert(facts.hash, ghosts_max);
            }
            victims.name(slot, facts.size_bytes);
        }
    }
}

larder_guest::eviction!(S3Fifo);

/// What a disk tier keeps of a segment.
#[derive(Debug)]
pub struct Keeps;

impl Reinsertion for Keeps {
    fn configure(_: &Params) -> Result<Self, String> {
        Ok(Self)
    }

    fn keep(&self, entries: &[Stored]) -> Vec<bool> {
        reinsertion::keep_best(entries, |entry| f64::from(entry.hits))
    }
}

larder_guest::reinsertion!(Keeps);

impl S3Fifo {
    /// Takes note of a new size if `slot` holds the key already; false if it does not.
    fn replace(&mut self, slot: u32, facts: Facts) -> bool {
        let Some(known) = self
            .facts
            .get_mut(slot)
            .filter(|known| known.hash == facts.hash)
        else {
            return false;
        };
        let queue = match self.states.get(slot).map(|state| *state & IN_EITHER) {
            Some(IN_SMALL) => &mut self.small,
            Some(IN_MAIN) => &mut self.main,
            _ => return false,
        };
        queue.resize(known.size_bytes, facts.size_bytes);
        *known = facts;
        true
    }

    fn small_is_over_its_share(&self) -> bool {
        let all_bytes = self.small.bytes.saturating_add(self.main.bytes);
        let is_over =
            self.small.bytes.saturating_mul(100) >= self.small_percent.saturating_mul(all_bytes);
        self.small.len > 0 && (is_over || self.main.len == 0)
    }

    /// Entries that the main queue would have with its share of the residents.
    fn ghosts_max(&self) -> u32 {
        let residents = u64::from(self.small.len) + u64::from(self.main.len);
        u32::try_from(residents * (100 - self.small_percent) / 100).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests;

//! Eviction: SIEVE (Zhang, Yang, Yue, Vigfusson and Rashmi, NSDI 2024).
//!
//! Residents form one first-in-first-out queue. A hit only marks an entry. A hand goes from the old
//! end to the new one, takes the mark off who has one, and stops at the first that has none: it
//! leaves, and the hand stays where it was. So who is used keeps its place behind the hand and
//! newcomers prove themselves ahead of it.
//!
//! The paper makes room before a newcomer enters; here it has entered by then. The hand does not
//! look at who came last, unless there is nobody else. A replaced entry keeps its place and is
//! marked. Takes no parameters.
//!
//! Keeps 25 bytes for each entry.

use larder_guest::eviction::{Insert, Limits, Link, Links, Queue, Slots, Victims};
use larder_guest::{Eviction, Params};

/// Marks that one call may take off before marks stop to count, which bounds its time.
const MOVES_MAX: u32 = 16_384;

/// What a hit touches.
const VACANT: u8 = 0;
const UNMARKED: u8 = 1;
const MARKED: u8 = 2;

/// The policy; see the crate's documentation.
#[derive(Debug)]
pub struct Sieve {
    marks: Slots<u8, 4096>,
    facts: Slots<Facts, 512>,
    links: Links,
    queue: Queue,
    /// Where the hand is; none: at the old end.
    hand: Option<u32>,
    /// Who came last, if room was not made since.
    newcomer: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Facts {
    size_bytes: u64,
    hash: u32,
}

impl Eviction for Sieve {
    fn configure(_: &Params, limits: Limits) -> Result<Self, String> {
        let vacant = Facts {
            size_bytes: 0,
            hash: 0,
        };
        Ok(Self {
            marks: Slots::new(limits.max_entries, VACANT),
            facts: Slots::new(limits.max_entries, vacant),
            links: Slots::new(limits.max_entries, Link::VACANT),
            queue: Queue::EMPTY,
            hand: None,
            newcomer: None,
        })
    }

    fn hit(&mut self, slot: u32) {
        if let Some(mark) = self.marks.get_mut(slot)
            && *mark != VACANT
        {
            *mark = MARKED;
        }
    }

    fn insert(&mut self, insert: Insert) {
        let (slot, size_bytes) = (insert.slot, insert.size_bytes);
        let hash = insert.half_hash();
        if self.is_in(slot)
            && let Some(known) = self.facts.get_mut(slot).filter(|known| known.hash == hash)
        {
            self.queue.resize(known.size_bytes, size_bytes);
            known.size_bytes = size_bytes;
            self.hit(slot);
            return;
        }
        // Another key in a slot that was not reported free: what was there has left.
        self.remove(slot);
        let (Some(mark), Some(facts), Some(_)) = (
            self.marks.get_or_grow(slot),
            self.facts.get_or_grow(slot),
            self.links.get_or_grow(slot),
        ) else {
            return;
        };
        *mark = UNMARKED;
        *facts = Facts { size_bytes, hash };
        self.queue.push(&mut self.links, slot, size_bytes);
        self.newcomer = Some(slot);
    }

    fn remove(&mut self, slot: u32) {
        if self.is_in(slot) {
            self.take_out(slot);
        }
    }

    fn victims(&mut self, victims: &mut Victims) {
        let mut moves_left = MOVES_MAX;
        while victims.missing_bytes() > 0 {
            let Some(slot) = self.hand.or(self.queue.oldest()) else {
                break;
            };
            let Some(mark) = self.marks.get_mut(slot) else {
                break;
            };
            if *mark == MARKED && moves_left > 0 {
                moves_left -= 1;
                *mark = UNMARKED;
                self.hand = self.settled_newer(slot);
                continue;
            }
            self.hand = self.settled_newer(slot);
            let size_bytes = self.take_out(slot);
            victims.name(slot, size_bytes);
        }
        self.newcomer = None;
    }
}

larder_guest::eviction!(Sieve);

impl Sieve {
    fn is_in(&self, slot: u32) -> bool {
        self.marks.get(slot).is_some_and(|mark| *mark != VACANT)
    }

    /// The entry that came after `slot`, if the hand may look at it.
    fn settled_newer(&self, slot: u32) -> Option<u32> {
        let newer = self.queue.newer(&self.links, slot);
        newer.filter(|newer| Some(*newer) != self.newcomer)
    }

    /// Takes out `slot`, which is in the queue, and answers its size. The hand moves on from it.
    fn take_out(&mut self, slot: u32) -> u64 {
        if self.hand == Some(slot) {
            self.hand = self.settled_newer(slot);
        }
        if self.newcomer == Some(slot) {
            self.newcomer = None;
        }
        if let Some(mark) = self.marks.get_mut(slot) {
            *mark = VACANT;
        }
        let size_bytes = self.facts.get(slot).map_or(0, |facts| facts.size_bytes);
        self.queue.remove(&mut self.links, slot, size_bytes);
        size_bytes
    }
}

#[cfg(test)]
mod tests;

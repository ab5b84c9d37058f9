//! Residents in the order of their worth, and what is remembered of those that left.
//!
//! `GreedyDual` with frequency and size (Cherkasova, HP Labs 1998): an entry's priority is its worth
//! on top of the *age* of the shard when it was last used, and the age is the priority of the last
//! that had to leave. Three things are added. Who left is remembered with its uses, and
//! has them again on return. A newcomer that is worth the least is refused. And who turns out not to be needed once a larger entry was named stays.
//!
//! A hit only notes the age: an entry comes to its true place in the order when it would be named.
//!
//! Nearly all the time goes by waiting for memory, and the ghosts take the most of it: a newcomer's may
//! be anywhere. So newcomers wait for a few others, or for the next victims, before they come to a
//! place; then the ghosts of all of them are fetched at once.

use std::hint::black_box;

use larder_guest::eviction::{Link, Links, Slots, Victims};

use crate::memory::{Left, Memory};
use crate::rule::Worth;
use crate::wheel::{Place, Wheel};

/// Entries one call may move before entries leave where they are found, which bounds its time.
const MOVES_MAX: u32 = 16_384;
/// In the place of a place: the slot holds no entry.
const VACANT: Place = Place::MAX;
/// In the place of a place: the entry waits for one.
const WAITING: Place = Place::MAX - 1;
/// Newcomers that wait for a place, at most: about as many as memory answers at once.
const WAITING_MAX: usize = 16;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Ranking {
    entries: Slots<Entry, 512>,
    links: Links,
    wheel: Wheel,
    memory: Memory,
    age: u64,
    len: u32,
    bytes: u64,
    /// Newcomers that have no place yet, and the worth that decides about it.
    waiting: Vec<u32>,
    worth: Worth,
    /// What was named in a round so far.
    named: Vec<u32>,
}

/// What is known of a key when it is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) hash: u32,
    /// Sizes from 4 GiB are not told apart.
    pub(crate) size_bytes: u32,
}

// Twenty bytes instead of twenty-four, as an age lies wherever four bytes do.
#[repr(C, packed(4))]
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Of the shard when it was last used.
    age: u64,
    size_bytes: u32,
    hash: u32,
    place: Place,
    uses: u8,
}

impl Ranking {
    pub(crate) fn new(max_entries: u32) -> Self {
        let vacant = Entry {
            age: 0,
            size_bytes: 0,
            hash: 0,
            place: VACANT,
            uses: 0,
        };
        Self {
            entries: Slots::new(max_entries, vacant),
            links: Slots::new(max_entries, Link::VACANT),
            wheel: Wheel::new(),
            memory: Memory::new(),
            age: 0,
            len: 0,
            bytes: 0,
            waiting: Vec::new(),
            worth: Worth::EQUAL,
            named: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counts a use of the entry in `slot`; answers its hash and size if there is one.
    pub(crate) fn hit(&mut self, slot: u32) -> Option<Key> {
        let entry = self.entries.get_mut(slot)?;
        if entry.place == VACANT {
            return None;
        }
        entry.uses = entry.uses.saturating_add(1);
        entry.age = self.age;
        Some(Key {
            hash: entry.hash,
            size_bytes: entry.size_bytes,
        })
    }

    /// Enters what came to `slot`. The same key in the slot again is used, and may have a new size.
    pub(crate) fn insert(&mut self, worth: Worth, slot: u32, key: Key) {
        let Key { hash, size_bytes } = key;
        if let Some(entry) = self.entries.get_mut(slot)
            && entry.place != VACANT
            && entry.hash == hash
        {
            self.bytes = self.bytes - u64::from(entry.size_bytes) + u64::from(size_bytes);
            entry.size_bytes = size_bytes;
            self.hit(slot);
            return;
        }
        // Another key in a slot that was not reported free: what was there has left.
        if !self.is_vacant(slot) {
            self.remove(slot);
        }
        let (Some(entry), Some(_)) = (self.entries.get_or_grow(slot), self.links.get_or_grow(slot))
        else {
            return;
        };
        self.bytes += u64::from(size_bytes);
        self.len += 1;
        *entry = Entry {
            age: self.age,
            size_bytes,
            hash,
            place: WAITING,
            uses: 1,
        };
        self.worth = worth;
        self.waiting.push(slot);
        if self.waiting.len() >= WAITING_MAX {
            self.settle();
        }
    }

    /// Gives the newcomers their uses of earlier, and their places.
    fn settle(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        self.fetch(&waiting);
        for slot in waiting.drain(..) {
            if let Some(entry) = self.entries.get_mut(slot) {
                let uses = self.memory.take(entry.hash, self.worth.rule.span);
                entry.uses = entry.uses.saturating_add(uses);
                let due = due(self.worth, entry);
                entry.place = self.wheel.enter(&mut self.links, slot, due);
            }
        }
        self.waiting = waiting;
    }

    /// Has the ghosts at hand that the keys in `slots` have, or are going to have.
    fn fetch(&self, slots: &[u32]) {
        let ghosts = slots.iter().filter_map(|slot| {
            let entry = self.entries.get(*slot)?;
            Some(self.memory.touch(entry.hash))
        });
        black_box(ghosts.fold(0, |all, ghost| all ^ ghost));
    }

    /// Takes out the entry in `slot`; false if there is none.
    pub(crate) fn remove(&mut self, slot: u32) -> bool {
        self.settle();
        let Some(entry) = self.entries.get_mut(slot) else {
            return false;
        };
        if entry.place == VACANT {
            return false;
        }
        self.wheel.leave(&mut self.links, slot, entry.place);
        entry.place = VACANT;
        self.bytes -= u64::from(entry.size_bytes);
        self.len -= 1;
        true
    }

    /// Names entries until `victims` has what it needs, and remembers them.
    pub(crate) fn victims(&mut self, worth: Worth, capacity_bytes: u64, victims: &mut Victims) {
        self.settle();
        let mut named = std::mem::take(&mut self.named);
        let need_bytes = victims.missing_bytes();
        let mut named_bytes = 0_u64;
        let mut moves_left = MOVES_MAX;
        while named_bytes < need_bytes
            && let Some(first) = self.wheel.first()
        {
            let slot = first.slot;
            self.wheel.leave(&mut self.links, slot, first.place);
            let Some(entry) = self.entries.get_mut(slot) else {
                break;
            };
            let due = due(worth, entry);
            let is_next = first.is_exact && due <= self.wheel.now();
            if !is_next && moves_left > 0 {
                moves_left -= 1;
                entry.place = self.wheel.enter(&mut self.links, slot, due);
                continue;
            }
            named_bytes = named_bytes.saturating_add(entry.size_bytes.into());
            named.push(slot);
        }
        self.fetch(&named);
        let mut spare_bytes = named_bytes.saturating_sub(need_bytes);
        for slot in named.drain(..) {
            let Some(entry) = self.entries.get_mut(slot) else {
                continue;
            };
            let due = due(worth, entry);
            if u64::from(entry.size_bytes) <= spare_bytes {
                spare_bytes -= u64::from(entry.size_bytes);
                entry.place = self.wheel.enter(&mut self.links, slot, due);
                continue;
            }
            // Who left before it was due, for want of time, does not age the others beyond now.
            self.age = self.age.max(due.min(self.wheel.now()));
            entry.place = VACANT;
            self.bytes -= u64::from(entry.size_bytes);
            self.len -= 1;
            let left = Left {
                hash: entry.hash,
                uses: entry.uses,
                size_bytes: entry.size_bytes,
            };
            self.memory.keep(left, self.len, capacity_bytes);
            victims.name(slot, entry.size_bytes.into());
        }
        self.named = named;
    }

    fn is_vacant(&self, slot: u32) -> bool {
        self.entries
            .get(slot)
            .is_none_or(|entry| entry.place == VACANT)
    }

    /// The hash of what was in `slot` last.
    pub(crate) fn last_hash(&self, slot: u32) -> Option<u32> {
        self.entries.get(slot).map(|entry| entry.hash)
    }
}

fn due(worth: Worth, entry: &Entry) -> u64 {
    entry
        .age
        .saturating_add(worth.ticks(entry.uses, entry.size_bytes))
}

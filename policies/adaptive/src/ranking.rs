//! Residents in the order of their worth, and what is remembered of those that left.
//!
//! `GreedyDual` with frequency and size (Cherkasova, HP Labs 1998): an entry's priority is its worth
//! on top of the *age* of the shard when it was last used, and the age is the priority of the last
//! that had to leave. Three things are added. Who left is remembered with its uses, and has them
//! again on return. A newcomer that is worth the least is refused. And who turns out not to be needed
//! once a larger entry was named stays, but no more of them than leave: they are the first to be named
//! the next time, and to name them over and over would cost more than they are worth. Which of them
//! stay made no difference on any trace.
//!
//! A hit only notes the age: an entry comes to its true place in the order when it would be named.
//!
//! Nearly all the time goes by waiting for memory: entries and ghosts may be anywhere. So an entry is
//! sixteen bytes, a quarter of a cache line, with all that a hit and a look at its worth need; those
//! that lie side by side in the wheel are fetched at once; and newcomers wait for a few others, or
//! for the next victims, before they come to a place, as victims wait for each other before they are
//! remembered, so that the ghosts of all of them are fetched at once.

use std::hint::black_box;

use larder_guest::eviction::{Slots, Victims};

use crate::memory::{Left, Memory};
use crate::queues::{NO_SPOT, Spot};
use crate::rule::Worth;
use crate::wheel::{Fineness, Wheel};

/// Entries one call may move before entries leave where they are found, which bounds its time.
const MOVES_MAX: u32 = 16_384;
/// Newcomers that wait for a place, at most: about as many as memory answers at once.
const WAITING_MAX: usize = 16;
/// Of fewer entries, a fine wheel takes more room for each than it is worth.
const MANY: u32 = 4096;
/// Ghosts that are fetched ahead, at most: more would push each other out again.
const FETCHED_MAX: usize = 256;
/// Up to so many entries and their ghosts are in the processor's cache without being fetched.
const CACHED: u32 = 4096;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Ranking {
    entries: Slots<Entry, 512>,
    /// Where each entry lies in the wheel, apart from all else, as only who removes it asks.
    spots: Slots<Spot, 512>,
    wheel: Wheel,
    memory: Memory,
    age: u64,
    len: u32,
    bytes: u64,
    /// Newcomers that have no place yet, and the worth that decides about it.
    waiting: Vec<u32>,
    worth: Worth,
    finest: Fineness,
}

/// What is known of a key when it is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) hash: u32,
    /// Sizes from 4 GiB are not told apart.
    pub(crate) size_bytes: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    used: Use,
    hash: u32,
    size_bytes: u32,
}

/// The latest use of an entry: the age of the shard then, and in the lowest byte how many uses there
/// were, 0 in a slot without an entry.
#[derive(Clone, Copy, Debug)]
struct Use(u64);

impl Use {
    const NONE: Self = Self(0);
    const COUNT_BITS: u32 = 8;
    const COUNT_MAX: u64 = (1 << Self::COUNT_BITS) - 1;
    /// The shard does not get older.
    const AGE_MAX: u64 = u64::MAX >> Self::COUNT_BITS;

    #[inline]
    const fn first(age: u64) -> Self {
        Self(age << Self::COUNT_BITS | 1)
    }

    #[inline]
    const fn is_none(self) -> bool {
        self.0 & Self::COUNT_MAX == 0
    }

    #[inline]
    fn again(self, age: u64) -> Self {
        let count = (self.0 & Self::COUNT_MAX) + 1;
        Self(age << Self::COUNT_BITS | count.min(Self::COUNT_MAX))
    }

    /// As many uses more.
    #[inline]
    fn more(self, uses: u8) -> Self {
        let count = (self.0 & Self::COUNT_MAX) + u64::from(uses);
        Self(self.0 & !Self::COUNT_MAX | count.min(Self::COUNT_MAX))
    }

    #[inline]
    const fn age(self) -> u64 {
        self.0 >> Self::COUNT_BITS
    }

    #[inline]
    const fn count(self) -> u8 {
        self.0.to_le_bytes()[0]
    }
}

impl Ranking {
    /// An empty one, whose wheel becomes as fine as `finest` when it holds many.
    pub(crate) fn new(max_entries: u32, finest: Fineness) -> Self {
        let vacant = Entry {
            used: Use::NONE,
            hash: 0,
            size_bytes: 0,
        };
        Self {
            entries: Slots::new(max_entries, vacant),
            spots: Slots::new(max_entries, NO_SPOT),
            wheel: Wheel::new(Fineness::Small, 0),
            memory: Memory::new(),
            age: 0,
            len: 0,
            bytes: 0,
            waiting: Vec::new(),
            worth: Worth::EQUAL,
            finest,
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Chunks in which the entries' places are, and queues.
    #[cfg(test)]
    pub(crate) fn chunks(&self) -> (u32, u32) {
        self.wheel.chunks()
    }

    /// Counts a use of the entry in `slot`; answers its hash and size if there is one.
    #[inline]
    pub(crate) fn hit(&mut self, slot: u32) -> Option<Key> {
        let entry = self.entries.get_mut(slot)?;
        if entry.used.is_none() {
            return None;
        }
        entry.used = entry.used.again(self.age);
        Some(Key {
            hash: entry.hash,
            size_bytes: entry.size_bytes,
        })
    }

    /// Enters what came to `slot`. The same key in the slot again is used, and may have a new size.
    pub(crate) fn insert(&mut self, worth: Worth, slot: u32, key: Key) {
        let Key { hash, size_bytes } = key;
        let Some(entry) = self.entries.get_or_grow(slot) else {
            return;
        };
        if !entry.used.is_none() {
            if entry.hash == hash {
                self.bytes = self.bytes - u64::from(entry.size_bytes) + u64::from(size_bytes);
                entry.size_bytes = size_bytes;
                self.hit(slot);
                return;
            }
            // Another key in a slot that was not reported free: what was there has left.
            self.remove(slot);
            return self.insert(worth, slot, key);
        }
        *entry = Entry {
            used: Use::first(self.age),
            hash,
            size_bytes,
        };
        self.bytes += u64::from(size_bytes);
        self.len += 1;
        self.worth = worth;
        self.waiting.push(slot);
        if self.waiting.len() >= WAITING_MAX {
            self.settle();
        }
    }

    /// Gives the newcomers their uses of earlier, and their places.
    fn settle(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        if self.len > MANY && self.finest != self.wheel.fineness() {
            self.lay_out(self.finest);
        } else if self.wheel.is_sparse(self.len) {
            self.lay_out(self.wheel.fineness());
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        self.fetch(&waiting);
        for slot in waiting.drain(..) {
            if let Some(entry) = self.entries.get_mut(slot) {
                let uses = self.memory.take(entry.hash, self.worth.rule.span);
                entry.used = entry.used.more(uses);
                let due = due(self.worth, entry);
                self.enter(slot, due);
            }
        }
        self.waiting = waiting;
    }

    /// Moves all that has a place to a new wheel.
    #[cold]
    fn lay_out(&mut self, fineness: Fineness) {
        let new = Wheel::new(fineness, self.wheel.now());
        let mut wheel = std::mem::replace(&mut self.wheel, new);
        while let Some(first) = wheel.first()
            && let Some(front) = wheel.front(first)
        {
            wheel.take_front(first, usize::MAX);
            for slot in front.slots().iter().copied() {
                if let Some(entry) = self.entries.get(slot) {
                    self.enter(slot, due(self.worth, entry));
                }
            }
        }
    }

    #[inline]
    fn enter(&mut self, slot: u32, due: u64) {
        let at = self.wheel.enter(slot, due);
        if let Some(place) = self.spots.get_or_grow(slot) {
            *place = at;
        }
    }

    /// Has the ghosts at hand that the keys in `slots` have, or are going to have.
    fn fetch(&self, slots: &[u32]) {
        if self.len <= CACHED {
            return;
        }
        let ghosts = slots.iter().filter_map(|slot| {
            let entry = self.entries.get(*slot)?;
            Some(self.memory.touch(entry.hash))
        });
        black_box(ghosts.fold(0, |all, ghost| all ^ ghost));
    }

    /// Has the entries in `slots` at hand.
    #[inline]
    fn fetch_entries(&self, slots: &[u32]) {
        if self.len <= CACHED {
            return;
        }
        let entries = slots.iter().filter_map(|slot| self.entries.get(*slot));
        black_box(entries.fold(0, |all, entry| all ^ entry.hash));
    }

    /// Takes out the entry in `slot`; false if there is none.
    pub(crate) fn remove(&mut self, slot: u32) -> bool {
        self.settle();
        let Some(entry) = self.entries.get_mut(slot) else {
            return false;
        };
        if entry.used.is_none() {
            return false;
        }
        entry.used = Use::NONE;
        self.bytes -= u64::from(entry.size_bytes);
        self.len -= 1;
        if let Some(spot) = self.spots.get(slot) {
            self.wheel.leave(*spot);
        }
        true
    }

    /// Names entries until `victims` has what it needs, and remembers them.
    pub(crate) fn victims(&mut self, worth: Worth, capacity_bytes: u64, victims: &mut Victims) {
        self.settle();
        let need_bytes = victims.missing_bytes();
        let mut named_bytes = 0_u64;
        let mut moves_left = MOVES_MAX;
        while named_bytes < need_bytes
            && let Some(first) = self.wheel.first()
            && let Some(front) = self.wheel.front(first)
        {
            if front.is_whole() {
                self.fetch_entries(front.slots());
            }
            let mut end = front.first;
            for slot in front.slots().iter().copied() {
                if named_bytes >= need_bytes {
                    break;
                }
                end += 1;
                let Some(entry) = self.entries.get(slot) else {
                    continue;
                };
                let due = due(worth, entry);
                let is_next = first.is_exact && due <= self.wheel.now();
                if !is_next && moves_left > 0 {
                    moves_left -= 1;
                    self.enter(slot, due);
                    continue;
                }
                let size_bytes = entry.size_bytes.into();
                named_bytes = named_bytes.saturating_add(size_bytes);
                victims.name(slot, size_bytes);
            }
            self.wheel.take_front(first, end);
        }
        let named = victims.slots();
        self.fetch(
            named
                .get(..named.len().min(FETCHED_MAX))
                .unwrap_or_default(),
        );
        let mut spare_bytes = named_bytes.saturating_sub(need_bytes);
        let mut stay_max = named.len() / 2;
        victims.retain(|slot| {
            let Some(entry) = self.entries.get_mut(slot) else {
                return false;
            };
            let size_bytes = u64::from(entry.size_bytes);
            let due = due(worth, entry);
            if size_bytes <= spare_bytes && stay_max > 0 {
                spare_bytes -= size_bytes;
                stay_max -= 1;
                self.enter(slot, due);
                return false;
            }
            // Who left before it was due, for want of time, does not age the others beyond now.
            let age = due.min(self.wheel.now()).min(Use::AGE_MAX);
            self.age = self.age.max(age);
            let left = Left {
                hash: entry.hash,
                uses: entry.used.count(),
                size_bytes: entry.size_bytes,
            };
            entry.used = Use::NONE;
            self.bytes -= size_bytes;
            self.len -= 1;
            self.memory.keep(left, self.len, capacity_bytes);
            true
        });
    }
}

#[inline]
fn due(worth: Worth, entry: &Entry) -> u64 {
    let ticks = worth.ticks(entry.used.count(), entry.size_bytes);
    entry.used.age().saturating_add(ticks)
}

//! A first-in-first-out queue of slots with removal from its middle.
//!
//! The links of all queues lie in one table, as a slot is in one queue at most. The caller knows
//! which, and asks a queue only about slots that are in it. Links are kept apart from all else
//! about an entry, so that another round in a queue reads and writes eight bytes of it.

use super::Slots;

/// Ends a queue; no slot has this number.
const NONE: u32 = u32::MAX;

/// The links of every slot.
pub type Links = Slots<Link, 512>;

/// The neighbours of one slot in its queue. What the oldest slot has as older, and the newest as
/// newer, is stale and not read.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    newer: u32,
    older: u32,
}

impl Link {
    /// In no queue.
    pub const VACANT: Self = Self {
        newer: NONE,
        older: NONE,
    };
}

/// The ends of a queue, and how much is in it.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    newest: u32,
    oldest: u32,
    /// Entries in the queue.
    pub len: u32,
    /// Bytes that they are charged, modulo 2^64: sums of absurd sizes wrap and come back.
    pub bytes: u64,
}

impl Queue {
    /// Nothing in it.
    pub const EMPTY: Self = Self {
        newest: NONE,
        oldest: NONE,
        len: 0,
        bytes: 0,
    };

    /// The slot that entered first; none in an empty queue.
    pub fn oldest(&self) -> Option<u32> {
        (self.len > 0).then_some(self.oldest)
    }

    /// The slot that entered last; none in an empty queue.
    pub fn newest(&self) -> Option<u32> {
        (self.len > 0).then_some(self.newest)
    }

    /// The slot that entered after `slot`, which is in this queue; none if it is the newest.
    pub fn newer(&self, links: &Links, slot: u32) -> Option<u32> {
        (slot != self.newest)
            .then(|| links.get(slot).map(|link| link.newer))
            .flatten()
    }

    /// Notes that an entry is charged `now_bytes` instead of `before_bytes`.
    pub fn resize(&mut self, before_bytes: u64, now_bytes: u64) {
        self.bytes = (self.bytes.wrapping_sub(before_bytes)).wrapping_add(now_bytes);
    }

    /// Enters `slot`, which is in no queue and has its place in `links`.
    pub fn push(&mut self, links: &mut Links, slot: u32, size_bytes: u64) {
        if self.len == 0 {
            // What the ends of an empty queue say is stale.
            self.oldest = slot;
            self.newest = NONE;
        }
        self.link(links, slot);
        self.len += 1;
        self.bytes = self.bytes.wrapping_add(size_bytes);
    }

    /// Takes out `slot`, which is charged `size_bytes`.
    pub fn remove(&mut self, links: &mut Links, slot: u32, size_bytes: u64) {
        let link = links.get(slot).copied().unwrap_or(Link::VACANT);
        if slot == self.oldest {
            self.oldest = link.newer;
        } else if let Some(older) = links.get_mut(link.older) {
            older.newer = link.newer;
        }
        if slot == self.newest {
            self.newest = link.older;
        } else if let Some(newer) = links.get_mut(link.newer) {
            newer.older = link.older;
        }
        self.len -= 1;
        self.bytes = self.bytes.wrapping_sub(size_bytes);
    }

    /// Enters the oldest slot anew.
    pub fn another_round(&mut self, links: &mut Links) {
        let slot = self.oldest;
        if slot != self.newest {
            self.oldest = links.get(slot).map_or(NONE, |link| link.newer);
            self.link(links, slot);
        }
    }

    /// Puts `slot` at the newest end.
    fn link(&mut self, links: &mut Links, slot: u32) {
        let older = self.newest;
        if let Some(older) = links.get_mut(older) {
            older.newer = slot;
        }
        if let Some(link) = links.get_mut(slot) {
            *link = Link { newer: NONE, older };
        }
        self.newest = slot;
    }
}

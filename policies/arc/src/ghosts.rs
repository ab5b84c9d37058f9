//! The two ghost lists of ARC: hashes and sizes in the order they left.

use larder_guest::eviction::{Index, Link, Links, Queue, Slots};

/// Which of the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Of those that left `T1`.
    B1,
    /// Of those that left `T2`.
    B2,
}

/// What is known of an entry that left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ghost {
    pub(crate) hash: u32,
    pub(crate) size_bytes: u32,
}

/// Both lists. Ghosts have numbers, as residents have slots, and queues order those.
#[derive(Debug)]
pub(crate) struct GhostLists {
    ghosts: Slots<(Ghost, Side), 512>,
    links: Links,
    index: Index,
    b1: Queue,
    b2: Queue,
    free: Vec<u32>,
    numbers: u32,
}

impl GhostLists {
    pub(crate) const fn new() -> Self {
        let vacant = Ghost {
            hash: 0,
            size_bytes: 0,
        };
        Self {
            ghosts: Slots::new(u32::MAX, (vacant, Side::B1)),
            links: Slots::new(u32::MAX, Link::VACANT),
            index: Index::new(),
            b1: Queue::EMPTY,
            b2: Queue::EMPTY,
            free: Vec::new(),
            numbers: 0,
        }
    }

    /// Where `hash` is remembered.
    pub(crate) fn side(&self, hash: u32) -> Option<Side> {
        let number = self.index.find(hash)?;
        self.ghosts.get(number).map(|(_, side)| *side)
    }

    /// Bytes of all ghosts at `side`.
    pub(crate) fn bytes(&self, side: Side) -> u64 {
        self.list(side).bytes
    }

    /// How many ghosts there are.
    pub(crate) fn len(&self) -> u32 {
        self.b1.len + self.b2.len
    }

    /// Remembers `ghost` as the newest at `side`. One of the same hash is forgotten.
    pub(crate) fn remember(&mut self, side: Side, ghost: Ghost) {
        self.forget(ghost.hash);
        let number = self.free.pop().unwrap_or_else(|| {
            self.numbers += 1;
            self.numbers - 1
        });
        let (Some(place), Some(_)) = (
            self.ghosts.get_or_grow(number),
            self.links.get_or_grow(number),
        ) else {
            return;
        };
        if !self.index.insert(number, ghost.hash) {
            self.free.push(number);
            return;
        }
        *place = (ghost, side);
        let queue = match side {
            Side::B1 => &mut self.b1,
            Side::B2 => &mut self.b2,
        };
        queue.push(&mut self.links, number, ghost.size_bytes.into());
    }

    /// Forgets `hash`, wherever it is remembered.
    pub(crate) fn forget(&mut self, hash: u32) {
        if let Some(number) = self.index.find(hash) {
            self.take_out(number);
        }
    }

    /// Forgets the oldest at `side`; false if there is none.
    pub(crate) fn forget_oldest(&mut self, side: Side) -> bool {
        let oldest = self.list(side).oldest();
        if let Some(number) = oldest {
            self.take_out(number);
        }
        oldest.is_some()
    }

    /// Forgets the oldest of the list that has more ghosts.
    pub(crate) fn forget_oldest_of_longer(&mut self) {
        let b1_is_longer = self.b1.len >= self.b2.len;
        self.forget_oldest(if b1_is_longer { Side::B1 } else { Side::B2 });
    }

    fn list(&self, side: Side) -> &Queue {
        match side {
            Side::B1 => &self.b1,
            Side::B2 => &self.b2,
        }
    }

    fn take_out(&mut self, number: u32) {
        let Some((ghost, side)) = self.ghosts.get(number).copied() else {
            return;
        };
        let queue = match side {
            Side::B1 => &mut self.b1,
            Side::B2 => &mut self.b2,
        };
        queue.remove(&mut self.links, number, ghost.size_bytes.into());
        self.index.remove(number, ghost.hash);
        self.free.push(number);
    }
}

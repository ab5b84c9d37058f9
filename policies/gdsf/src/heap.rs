//! Residents as a binary heap, the least worth first, that can find each by its slot.

use larder_guest::eviction::Slots;

/// In the place of a place: not in the heap.
const NOWHERE: u32 = u32::MAX;

/// A resident.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) priority: f64,
    /// The use that was its last, counted over all entries.
    pub(crate) used: u64,
    /// Sizes from 4 GiB are not told apart.
    pub(crate) size_bytes: u32,
    pub(crate) hash: u32,
    pub(crate) uses: u32,
}

impl Entry {
    const VACANT: Self = Self {
        priority: 0.0,
        used: 0,
        size_bytes: 0,
        hash: 0,
        uses: 0,
    };

    fn leaves_before(&self, other: &Self) -> bool {
        (self.priority, self.used) < (other.priority, other.used)
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Heap {
    nodes: Slots<Node, 512>,
    /// Slots; the children of the one at place n are at 2n + 1 and 2n + 2.
    order: Slots<u32, 512>,
    len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    entry: Entry,
    place: u32,
}

impl Heap {
    pub(crate) const fn new(max_entries: u32) -> Self {
        let vacant = Node {
            entry: Entry::VACANT,
            place: NOWHERE,
        };
        Self {
            nodes: Slots::new(max_entries, vacant),
            order: Slots::new(max_entries, NOWHERE),
            len: 0,
        }
    }

    /// The entry in `slot`.
    pub(crate) fn get(&self, slot: u32) -> Option<Entry> {
        let node = self.nodes.get(slot)?;
        (node.place != NOWHERE).then_some(node.entry)
    }

    /// Puts `entry` in `slot`, in the place of what is there. Not from `max_entries` on.
    pub(crate) fn put(&mut self, slot: u32, entry: Entry) {
        let Some(node) = self.nodes.get_or_grow(slot) else {
            return;
        };
        node.entry = entry;
        if node.place == NOWHERE {
            let place = self.len;
            if self.order.get_or_grow(place).is_none() {
                return;
            }
            self.len += 1;
            self.set(place, slot);
        }
        self.settle(slot);
    }

    /// Takes out what is in `slot`.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<Entry> {
        let node = self.nodes.get_mut(slot)?;
        let place = std::mem::replace(&mut node.place, NOWHERE);
        if place == NOWHERE {
            return None;
        }
        let entry = node.entry;
        self.len -= 1;
        let last = self.at(self.len);
        if last != slot {
            self.set(place, last);
            self.settle(last);
        }
        Some(entry)
    }

    /// Takes out the entry that is worth the least.
    pub(crate) fn pop(&mut self) -> Option<(u32, Entry)> {
        let slot = (self.len > 0).then(|| self.at(0))?;
        Some((slot, self.remove(slot)?))
    }

    /// The entry that was popped out of `slot` last, until another one is put there.
    pub(crate) fn popped(&self, slot: u32) -> Option<Entry> {
        self.nodes.get(slot).map(|node| node.entry)
    }

    fn at(&self, place: u32) -> u32 {
        self.order.get(place).copied().unwrap_or(NOWHERE)
    }

    fn set(&mut self, place: u32, slot: u32) {
        if let Some(order) = self.order.get_mut(place) {
            *order = slot;
        }
        if let Some(node) = self.nodes.get_mut(slot) {
            node.place = place;
        }
    }

    /// Whether the entry at place `a` leaves before the one at place `b`.
    fn is_before(&self, a: u32, b: u32) -> bool {
        let entry = |place| self.nodes.get(self.at(place)).map(|node| node.entry);
        matches!((entry(a), entry(b)), (Some(a), Some(b)) if a.leaves_before(&b))
    }

    fn swap(&mut self, a: u32, b: u32) {
        let (slot_a, slot_b) = (self.at(a), self.at(b));
        self.set(a, slot_b);
        self.set(b, slot_a);
    }

    /// Moves `slot` up or down to where it belongs.
    fn settle(&mut self, slot: u32) {
        let Some(mut place) = self.nodes.get(slot).map(|node| node.place) else {
            return;
        };
        while place > 0 {
            let parent = (place - 1) / 2;
            if !self.is_before(place, parent) {
                break;
            }
            self.swap(place, parent);
            place = parent;
        }
        loop {
            let children = [2 * u64::from(place) + 1, 2 * u64::from(place) + 2];
            let children = children
                .into_iter()
                .filter_map(|child| u32::try_from(child).ok())
                .filter(|child| *child < self.len);
            let least = children.fold(place, |least, child| {
                if self.is_before(child, least) {
                    child
                } else {
                    least
                }
            });
            if least == place {
                break;
            }
            self.swap(place, least);
            place = least;
        }
    }
}

//! Which slots carry a tag, so that a purge costs no more than what it removes.
//!
//! Each tag heads a ring of nodes, oldest first; each slot heads a chain of its own nodes. Both
//! run through one arena, so linking and unlinking an entry costs one step a tag. Nodes are named
//! by position and the arena never shrinks; a position out of range ends the walk.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::ControlFlow;

use crate::entry::Tag;

/// No node.
pub(super) const NONE: u32 = u32::MAX;

/// Spreads tags, which anyone can compute, by a number that nobody can guess.
#[derive(Clone, Copy, Debug)]
struct Folding {
    seed: u64,
    folded: u64,
}

impl Default for Folding {
    fn default() -> Self {
        let seed = RandomState::new().hash_one(0_u8);
        Self { seed, folded: 0 }
    }
}

impl BuildHasher for Folding {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

impl Hasher for Folding {
    fn finish(&self) -> u64 {
        self.folded
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.folded ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, tag: u64) {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let (low, high) = (tag ^ self.seed).carrying_mul(self.seed ^ ODD, 0);
        self.folded = low ^ high;
    }
}

#[derive(Clone, Copy, Debug)]
struct Node {
    tag: Tag,
    slot: u32,
    /// Neighbours in the ring of the tag.
    previous: u32,
    next: u32,
    /// The slot's next node, or the next free one.
    sibling: u32,
}

#[derive(Debug)]
struct Ring {
    oldest: u32,
    entries: u32,
    bytes: u64,
}

/// The tags of one stripe.
#[derive(Debug)]
pub(super) struct TagIndex {
    rings: HashMap<Tag, Ring, Folding>,
    nodes: Vec<Node>,
    free: u32,
}

impl Default for TagIndex {
    fn default() -> Self {
        Self {
            rings: HashMap::default(),
            nodes: Vec::new(),
            free: NONE,
        }
    }
}

impl TagIndex {
    /// Links `slot`, charged `bytes`, to each of `tags`, no two of which are the same. Answers the
    /// slot's first node, which [`Self::unlink`] wants back.
    pub(super) fn link(&mut self, slot: u32, tags: &[Tag], bytes: u64) -> u32 {
        let mut first = NONE;
        for tag in tags {
            let node = Node {
                tag: *tag,
                slot,
                previous: NONE,
                next: NONE,
                sibling: first,
            };
            let Some(at) = self.place(node) else { break };
            self.join(at, *tag, bytes);
            first = at;
        }
        first
    }

    /// Takes a slot's nodes, beginning with `first`, out of every ring.
    pub(super) fn unlink(&mut self, first: u32, bytes: u64) {
        let mut at = first;
        while let Some(node) = self.node(at) {
            self.leave(at, node, bytes);
            let next_free = std::mem::replace(&mut self.free, at);
            if let Some(freed) = self.node_mut(at) {
                freed.sibling = next_free;
            }
            at = node.sibling;
        }
    }

    /// Whether a slot whose first node is `first` carries `tag`.
    pub(super) fn carries(&self, first: u32, tag: Tag) -> bool {
        let mut at = first;
        while let Some(node) = self.node(at) {
            if node.tag == tag {
                return true;
            }
            at = node.sibling;
        }
        false
    }

    /// The slot that has carried `tag` the longest.
    pub(super) fn oldest(&self, tag: Tag) -> Option<u32> {
        self.rings
            .get(&tag)
            .and_then(|ring| self.node(ring.oldest))
            .map(|node| node.slot)
    }

    /// Shows the slots that carry `tag` to `visit`, oldest first, from the one after the node
    /// `after` on, until it says to stop. Answers the node it stopped at, none at the end.
    /// `after` must still be a node of this ring.
    pub(super) fn walk(
        &self,
        tag: Tag,
        after: Option<u32>,
        mut visit: impl FnMut(u32) -> ControlFlow<()>,
    ) -> Option<u32> {
        let oldest = self.rings.get(&tag)?.oldest;
        let mut at = match after {
            None => oldest,
            Some(after) => self.node(after)?.next,
        };
        if after.is_some() && at == oldest {
            return None;
        }
        loop {
            let node = self.node(at)?;
            if visit(node.slot).is_break() {
                return Some(at);
            }
            if node.next == oldest {
                return None;
            }
            at = node.next;
        }
    }

    /// Whether the node `at` belongs to `slot` and `tag`, given that the slot is in use.
    pub(super) fn is_node(&self, at: u32, slot: u32, tag: Tag) -> bool {
        self.node(at)
            .is_some_and(|node| node.slot == slot && node.tag == tag)
    }

    /// Entries that carry `tag`, and the bytes they are charged.
    pub(super) fn count(&self, tag: Tag) -> (u64, u64) {
        self.rings
            .get(&tag)
            .map_or((0, 0), |ring| (u64::from(ring.entries), ring.bytes))
    }

    fn node(&self, at: u32) -> Option<Node> {
        self.nodes.get(usize::try_from(at).ok()?).copied()
    }

    fn node_mut(&mut self, at: u32) -> Option<&mut Node> {
        self.nodes.get_mut(usize::try_from(at).ok()?)
    }

    fn place(&mut self, node: Node) -> Option<u32> {
        if let Some(free) = self.node(self.free) {
            let at = std::mem::replace(&mut self.free, free.sibling);
            *self.node_mut(at)? = node;
            return Some(at);
        }
        let at = u32::try_from(self.nodes.len())
            .ok()
            .filter(|at| *at != NONE)?;
        self.nodes.push(node);
        Some(at)
    }

    /// Puts the node into the ring of its tag, as the youngest.
    fn join(&mut self, at: u32, tag: Tag, bytes: u64) {
        let ring = self.rings.entry(tag).or_insert(Ring {
            oldest: at,
            entries: 0,
            bytes: 0,
        });
        ring.entries = ring.entries.saturating_add(1);
        ring.bytes = ring.bytes.saturating_add(bytes);
        let oldest = ring.oldest;
        // In a ring of one, the node is its own neighbour on both sides.
        let youngest = if oldest == at {
            at
        } else {
            self.node(oldest).map_or(at, |o| o.previous)
        };
        self.connect(at, oldest);
        self.connect(youngest, at);
    }

    fn leave(&mut self, at: u32, node: Node, bytes: u64) {
        if node.next == at {
            self.rings.remove(&node.tag);
            return;
        }
        if let Some(ring) = self.rings.get_mut(&node.tag) {
            ring.entries = ring.entries.saturating_sub(1);
            ring.bytes = ring.bytes.saturating_sub(bytes);
            if ring.oldest == at {
                ring.oldest = node.next;
            }
        }
        self.connect(node.previous, node.next);
    }

    fn connect(&mut self, previous: u32, next: u32) {
        if let Some(node) = self.node_mut(previous) {
            node.next = next;
        }
        if let Some(node) = self.node_mut(next) {
            node.previous = previous;
        }
    }

    /// The slots that carry `tag`, oldest first.
    #[cfg(test)]
    pub(super) fn slots(&self, tag: Tag) -> Vec<u32> {
        let Some(ring) = self.rings.get(&tag) else {
            return Vec::new();
        };
        let mut slots = Vec::new();
        let mut at = ring.oldest;
        loop {
            let node = self.node(at).expect("a ring is closed");
            slots.push(node.slot);
            assert!(slots.len() <= self.nodes.len(), "a ring never ends");
            at = node.next;
            if at == ring.oldest {
                return slots;
            }
        }
    }

    /// Tags that some slot carries.
    #[cfg(test)]
    pub(super) fn tags(&self) -> usize {
        self.rings.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_lists_its_slots_oldest_first() {
        let mut index = TagIndex::default();
        let [a, b] = [Tag(1), Tag(2)];
        let first: Vec<u32> = (0..4).map(|slot| index.link(slot, &[a, b], 10)).collect();
        assert_eq!(index.slots(a), [0, 1, 2, 3]);
        assert_eq!(index.count(a), (4, 40));
        assert!(index.carries(first[2], a) && index.carries(first[2], b));
        assert!(!index.carries(first[2], Tag(3)) && !index.carries(NONE, a));
        index.unlink(first[0], 10);
        index.unlink(first[2], 10);
        assert_eq!(index.slots(a), [1, 3]);
        assert_eq!(index.slots(b), [1, 3]);
        assert_eq!(index.oldest(b), Some(1));
        index.link(2, &[b], 7);
        assert_eq!(index.slots(b), [1, 3, 2]);
        assert_eq!(index.count(b), (3, 27));
        assert!(index.nodes.len() <= 8, "freed nodes are used again");
        index.unlink(first[1], 10);
        index.unlink(first[3], 10);
        assert_eq!((index.oldest(a), index.count(a)), (None, (0, 0)));
        assert_eq!(index.tags(), 1);
    }
}

//! Eviction: the least recently used entry leaves first.
//!
//! The residents form one doubly linked list, most recent first, whose links lie in a table
//! indexed by slot: every event is a few reads and writes at known places. An entry that is
//! replaced counts as used. Takes no parameters.
//!
//! Keeps 16 bytes for each entry.

use larder_guest::eviction::{Insert, Limits, Slots, Victims};
use larder_guest::{Eviction, Params};

/// Ends the list.
const NONE: u32 = u32::MAX;
/// In the place of a link: the slot holds no entry.
const VACANT: u32 = u32::MAX - 1;

/// The policy; see the crate's documentation.
#[derive(Debug)]
pub struct Lru {
    nodes: Slots<Node>,
    newest: u32,
    oldest: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    newer: u32,
    older: u32,
    size_bytes: u64,
}

impl Eviction for Lru {
    fn configure(_: &Params, limits: Limits) -> Result<Self, String> {
        let vacant = Node {
            newer: VACANT,
            older: VACANT,
            size_bytes: 0,
        };
        Ok(Self {
            nodes: Slots::new(limits.max_entries, vacant),
            newest: NONE,
            oldest: NONE,
        })
    }

    fn hit(&mut self, slot: u32) {
        if slot != self.newest && self.unlink(slot).is_some() {
            self.link(slot);
        }
    }

    fn insert(&mut self, insert: Insert) {
        self.unlink(insert.slot);
        if let Some(node) = self.nodes.get_or_grow(insert.slot) {
            node.size_bytes = insert.size_bytes;
            self.link(insert.slot);
        }
    }

    fn remove(&mut self, slot: u32) {
        self.unlink(slot);
    }

    fn victims(&mut self, victims: &mut Victims) {
        while victims.missing_bytes() > 0 {
            let slot = self.oldest;
            let Some(node) = self.unlink(slot) else { break };
            victims.name(slot, node.size_bytes);
        }
    }
}

larder_guest::eviction!(Lru);

impl Lru {
    /// Takes `slot` out of the list and answers what it was; `None` if it is not in it.
    fn unlink(&mut self, slot: u32) -> Option<Node> {
        let node = self.nodes.get_mut(slot)?;
        let was = *node;
        if was.newer == VACANT {
            return None;
        }
        node.newer = VACANT;
        match self.nodes.get_mut(was.newer) {
            Some(newer) => newer.older = was.older,
            None => self.newest = was.older,
        }
        match self.nodes.get_mut(was.older) {
            Some(older) => older.newer = was.newer,
            None => self.oldest = was.newer,
        }
        Some(was)
    }

    /// Puts `slot`, which is not in the list, at its newest end.
    fn link(&mut self, slot: u32) {
        let older = self.newest;
        if let Some(node) = self.nodes.get_mut(slot) {
            node.newer = NONE;
            node.older = older;
        }
        match self.nodes.get_mut(older) {
            Some(older) => older.newer = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }
}

#[cfg(test)]
mod tests;

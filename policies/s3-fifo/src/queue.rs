//! A first-in-first-out queue of slots with removal from its middle.
//!
//! The links of all queues lie in one table, as a slot is in one queue at most. The caller knows
//! which, and asks a queue only about slots that are in it.

use larder_guest::eviction::Slots;

/// Ends a queue; no slot has this number.
const NONE: u32 = u32::MAX;

/// The links and facts of every slot.
pub(crate) type Nodes = Slots<Node>;

/// One entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    newer: u32,
    older: u32,
    /// Half of the key's hash: enough to know it again.
    pub(crate) hash: u32,
    pub(crate) size_bytes: u64,
}

impl Node {
    pub(crate) const VACANT: Self = Self::new(0, 0);

    /// An entry that is in no queue.
    pub(crate) const fn new(hash: u32, size_bytes: u64) -> Self {
        Self {
            newer: NONE,
            older: NONE,
            hash,
            size_bytes,
        }
    }
}

/// The ends of a queue and what it holds.
#[derive(Debug)]
pub(crate) struct Queue {
    newest: u32,
    oldest: u32,
    len: u32,
    bytes: u64,
}

impl Queue {
    pub(crate) const EMPTY: Self = Self {
        newest: NONE,
        oldest: NONE,
        len: 0,
        bytes: 0,
    };

    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The slot that entered first; of an empty queue, one that no table has.
    pub(crate) const fn oldest(&self) -> u32 {
        self.oldest
    }

    /// Enters `node`, which is in no queue, under `slot`, whose place in `nodes` exists.
    pub(crate) fn push(&mut self, nodes: &mut Nodes, slot: u32, node: Node) {
        let older = self.newest;
        if let Some(place) = nodes.get_mut(slot) {
            *place = Node {
                newer: NONE,
                older,
                ..node
            };
        }
        match nodes.get_mut(older) {
            Some(older) => older.newer = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
        self.len += 1;
        self.bytes += node.size_bytes;
    }

    /// Takes out `slot` and answers what it was; `None` for the oldest slot of an empty queue.
    pub(crate) fn unlink(&mut self, nodes: &mut Nodes, slot: u32) -> Option<Node> {
        let node = *nodes.get(slot)?;
        match nodes.get_mut(node.newer) {
            Some(newer) => newer.older = node.older,
            None => self.newest = node.older,
        }
        match nodes.get_mut(node.older) {
            Some(older) => older.newer = node.newer,
            None => self.oldest = node.newer,
        }
        self.len -= 1;
        self.bytes -= node.size_bytes;
        Some(node)
    }

    /// Sets the bytes that the entry in `slot` is charged.
    pub(crate) fn resize(&mut self, nodes: &mut Nodes, slot: u32, size_bytes: u64) {
        if let Some(node) = nodes.get_mut(slot) {
            self.bytes = self.bytes - node.size_bytes + size_bytes;
            node.size_bytes = size_bytes;
        }
    }
}

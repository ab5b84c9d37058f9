//! Finds a number by a hash: for what outlives its slot, such as the ghosts of a policy.
//!
//! Chains of numbers in a table that grows by splitting one chain at a time (linear hashing), so
//! that no call pays for a copy. A chain is never longer than a bound: what would make it so is not
//! taken in, and colliding hashes cost nobody his time.

use super::{Buckets, Slots};

const CHAINS_MIN: u32 = 64;
/// Numbers in one chain. Even hashes, one or two to a chain, as good as never reach it.
const CHAIN_MAX: usize = 24;
/// Ends a chain.
const NONE: u32 = u32::MAX;

/// Numbers by their hashes. A number is one of the caller's dense places, and is in once at most.
#[derive(Debug)]
pub struct Index {
    heads: Slots<u32, 512>,
    nodes: Slots<Node, 512>,
    chains: Buckets,
    len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    hash: u32,
    next: u32,
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

impl Index {
    /// Nothing in it.
    pub const fn new() -> Self {
        Self {
            heads: Slots::new(u32::MAX, NONE),
            nodes: Slots::new(
                u32::MAX,
                Node {
                    hash: 0,
                    next: NONE,
                },
            ),
            chains: Buckets::new(CHAINS_MIN),
            len: 0,
        }
    }

    /// The number entered last with `hash`, if it is still in.
    pub fn find(&self, hash: u32) -> Option<u32> {
        let mut at = self.head(self.chains.of(hash));
        while let Some(node) = self.nodes.get(at).filter(|_| at != NONE) {
            if node.hash == hash {
                return Some(at);
            }
            at = node.next;
        }
        None
    }

    /// Enters `number`, which is not in. False: too many hashes collide, and it is not taken in.
    pub fn insert(&mut self, number: u32, hash: u32) -> bool {
        if self.len >= self.chains.count() {
            self.split_a_chain();
        }
        let chain = self.chains.of(hash);
        let next = self.head(chain);
        if self.chain_len(next) >= CHAIN_MAX || number == NONE {
            return false;
        }
        let (Some(node), Some(head)) = (
            self.nodes.get_or_grow(number),
            self.heads.get_or_grow(chain),
        ) else {
            return false;
        };
        *node = Node { hash, next };
        *head = number;
        self.len += 1;
        true
    }

    /// Takes `number` out, which was entered with `hash`. Does nothing if it is not in.
    pub fn remove(&mut self, number: u32, hash: u32) {
        let chain = self.chains.of(hash);
        let mut before = NONE;
        let mut at = self.head(chain);
        while let Some(node) = self.nodes.get(at).copied().filter(|_| at != NONE) {
            if at == number {
                let place = if before == NONE {
                    self.heads.get_mut(chain)
                } else {
                    self.nodes.get_mut(before).map(|node| &mut node.next)
                };
                if let Some(place) = place {
                    *place = node.next;
                    self.len -= 1;
                }
                return;
            }
            before = at;
            at = node.next;
        }
    }

    fn head(&self, chain: u32) -> u32 {
        self.heads.get(chain).copied().unwrap_or(NONE)
    }

    fn chain_len(&self, from: u32) -> usize {
        let next = |at: &u32| self.nodes.get(*at).map(|node| node.next);
        std::iter::successors(Some(from).filter(|at| *at != NONE), |at| {
            next(at).filter(|at| *at != NONE)
        })
        .take(CHAIN_MAX)
        .count()
    }

    fn split_a_chain(&mut self) {
        let (old, new) = self.chains.split();
        let mut at = self.head(old);
        let mut heads = [NONE; 2];
        // Newest last, so that the two chains keep the order of the one.
        let mut chain = [NONE; CHAIN_MAX];
        let mut len = 0;
        while let (Some(node), Some(place)) = (
            self.nodes.get(at).filter(|_| at != NONE),
            chain.get_mut(len),
        ) {
            *place = at;
            at = node.next;
            len += 1;
        }
        for number in chain.into_iter().take(len).rev() {
            let hash = self.nodes.get(number).map_or(0, |node| node.hash);
            let [low, high] = &mut heads;
            let head = if self.chains.of(hash) == new {
                high
            } else {
                low
            };
            if let Some(node) = self.nodes.get_mut(number) {
                node.next = std::mem::replace(head, number);
            }
        }
        let [low, high] = heads;
        for (chain, first) in [(old, low), (new, high)] {
            if let Some(head) = self.heads.get_or_grow(chain) {
                *head = first;
            }
        }
    }
}

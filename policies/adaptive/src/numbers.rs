//! The keys that any of the shadows holds, by numbers that all of them know a key by.

use larder_guest::eviction::{Index, Slots};

/// See the module's documentation. A number is dense, and free again when nobody holds it.
#[derive(Debug)]
pub(crate) struct Numbers {
    index: Index,
    keys: Slots<Numbered, 512>,
    free: Vec<u32>,
    end: u32,
    max: u32,
}

#[derive(Clone, Copy, Debug)]
struct Numbered {
    hash: u32,
    holders: u32,
}

impl Numbers {
    /// At most `max` keys.
    pub(crate) fn new(max: u32) -> Self {
        let free = Numbered {
            hash: 0,
            holders: 0,
        };
        Self {
            index: Index::new(),
            keys: Slots::new(max, free),
            free: Vec::new(),
            end: 0,
            max,
        }
    }

    /// Whether all numbers are in use.
    pub(crate) fn is_full(&self) -> bool {
        self.end >= self.max && self.free.is_empty()
    }

    /// Numbers are below this.
    pub(crate) fn end(&self) -> u32 {
        self.end
    }

    /// Whose number that is, or was.
    pub(crate) fn hash(&self, number: u32) -> u32 {
        self.keys.get(number).map_or(0, |key| key.hash)
    }

    /// The number of a key, which is held until it is let go; none if nobody holds it.
    pub(crate) fn hold(&mut self, hash: u32) -> Option<u32> {
        let number = self.index.find(hash)?;
        self.held(number);
        Some(number)
    }

    /// A number for a key that has none, which is held until it is let go; none if all are in use.
    pub(crate) fn enter(&mut self, hash: u32) -> Option<u32> {
        let number = match self.free.last() {
            Some(number) => *number,
            None => self.end,
        };
        let key = self.keys.get_or_grow(number)?;
        if !self.index.insert(number, hash) {
            return None;
        }
        *key = Numbered { hash, holders: 1 };
        if number == self.end {
            self.end += 1;
        } else {
            self.free.pop();
        }
        Some(number)
    }

    /// One more holds `number`.
    pub(crate) fn held(&mut self, number: u32) {
        if let Some(key) = self.keys.get_mut(number) {
            key.holders += 1;
        }
    }

    /// One fewer holds `number`.
    pub(crate) fn let_go(&mut self, number: u32) {
        let Some(key) = self.keys.get_mut(number) else {
            return;
        };
        key.holders = key.holders.saturating_sub(1);
        if key.holders == 0 {
            self.index.remove(number, key.hash);
            self.free.push(number);
        }
    }
}

//! Slots: small dense numbers by which a guest order knows the residents of a shard.
//!
//! A slot is used again as soon as its entry left, so the numbers stay below the largest number of
//! entries the shard ever held at once, and below its limit.

use crate::entry::SiteId;

/// What a slot in use says of its entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// Finds the entry in the table.
    pub(super) hash: u64,
    /// The number of this insertion, counted in the shard from 1.
    pub(super) inserted: u64,
    /// Whose entry it is.
    pub(super) site: SiteId,
    /// Its first node in the tag index.
    pub(super) tags: u32,
}

/// The slots of one shard.
#[derive(Debug)]
pub(super) struct Slots {
    places: Vec<Option<Slot>>,
    /// INVARIANT: exactly the positions of `places` that hold nothing.
    free: Vec<u32>,
    max: u32,
}

impl Slots {
    /// No slot in use; never more than `max`.
    pub(super) fn new(max: u32) -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            max,
        }
    }

    /// Whether [`Self::fill`] would find a slot.
    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty() || self.end() < self.max
    }

    /// One past the highest slot ever used.
    pub(super) fn end(&self) -> u32 {
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }

    /// The slot at `at`, if it is in use.
    pub(super) fn get(&self, at: u32) -> Option<&Slot> {
        self.places.get(usize::try_from(at).ok()?)?.as_ref()
    }

    /// Puts `slot` into a free position.
    pub(super) fn fill(&mut self, slot: Slot) -> Option<u32> {
        if let Some(at) = self.free.pop() {
            self.replace(at, slot);
            return Some(at);
        }
        let at = self.end();
        if at >= self.max {
            return None;
        }
        self.places.push(Some(slot));
        Some(at)
    }

    /// Puts `slot` over the one in use at `at`.
    pub(super) fn replace(&mut self, at: u32, slot: Slot) {
        if let Some(place) = usize::try_from(at)
            .ok()
            .and_then(|at| self.places.get_mut(at))
        {
            *place = Some(slot);
        }
    }

    /// Frees the slot at `at`.
    pub(super) fn free(&mut self, at: u32) -> Option<Slot> {
        let slot = self.places.get_mut(usize::try_from(at).ok()?)?.take()?;
        self.free.push(at);
        Some(slot)
    }

    /// The slots in use.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> impl Iterator<Item = (u32, &Slot)> {
        assert!(
            self.free.iter().all(|at| self.get(*at).is_none()),
            "a free slot is in use"
        );
        let filled = self.places.iter().filter(|slot| slot.is_some()).count();
        assert_eq!(
            filled + self.free.len(),
            self.places.len(),
            "a slot is neither free nor in use"
        );
        (0..self.end()).filter_map(|at| self.get(at).map(|slot| (at, slot)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_stay_dense_and_below_the_limit() {
        let slot = |hash| Slot {
            hash,
            inserted: 1,
            site: SiteId(0),
            tags: u32::MAX,
        };
        let mut slots = Slots::new(3);
        let taken: Vec<_> = (0..4).map(|hash| slots.fill(slot(hash))).collect();
        assert_eq!(taken, [Some(0), Some(1), Some(2), None]);
        assert!(!slots.has_room());
        assert_eq!(slots.free(1).map(|slot| slot.hash), Some(1));
        assert!(
            slots.free(1).is_none() && slots.free(9).is_none(),
            "free slots stay free"
        );
        assert!(slots.has_room() && slots.get(1).is_none());
        assert_eq!(slots.fill(slot(7)), Some(1));
        assert_eq!(
            slots
                .in_use()
                .map(|(_, slot)| slot.hash)
                .collect::<Vec<_>>(),
            [0, 7, 2]
        );
    }
}

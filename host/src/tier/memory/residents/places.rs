//! What is known of residents, by slot, and the order of their use.

use crate::entry::SiteId;

use super::NONE;

/// Places that are made at once: a vector that doubles would copy megabytes under the lock.
const CHUNK: usize = 64;

/// Places of neighbouring slots.
type Chunk = [Place; CHUNK];

/// A bit for each place of a chunk.
type Marks = u64;

const _: () = assert!(size_of::<Marks>() == CHUNK / 8, "a place without a mark");

/// Marked residents that are given another round at a time, which bounds how long it takes.
const ROUNDS: usize = 32;

/// What the stripe knows of a resident.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Resident {
    /// Bytes it is charged. To know them the entry, which may be in nobody's cache, is not read.
    pub(in super::super) charge: u64,
    /// Keyed hash of its key.
    pub(in super::super) hash: u64,
    /// The number of this insertion, counted in the stripe from 1.
    pub(in super::super) inserted: u64,
    /// The number of its latest use, counted in the stripe, but for one that it is marked for.
    pub(in super::super) last_access: u64,
    /// Whose entry it is.
    pub(in super::super) site: SiteId,
    /// Its first node in the tag index.
    pub(in super::super) tags: u32,
}

/// Where a resident is, or none.
#[derive(Debug)]
#[repr(align(64))]
struct Place {
    resident: Option<Resident>,
    /// The resident used next after this one.
    newer: u32,
    /// The resident used last before this one; of a place without one, the next such place.
    older: u32,
}

const _: () = assert!(size_of::<Place>() == 64, "a resident in two cache lines");

impl Place {
    const EMPTY: Self = Self {
        resident: None,
        newer: NONE,
        older: NONE,
    };
}

/// A place for each slot up to the highest ever used.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Places {
    newest: u32,
    oldest: u32,
    /// One past the highest slot ever used.
    end: u32,
    /// The first place below `end` without a resident.
    free: u32,
    max: u32,
    chunks: Vec<Box<Chunk>>,
    /// Of each chunk, who was used since they came to their place in the order.
    used: Vec<Marks>,
}

impl Places {
    /// Nobody; never more than `max`.
    pub(super) fn new(max: u32) -> Self {
        Self {
            chunks: Vec::new(),
            used: Vec::new(),
            end: 0,
            free: NONE,
            newest: NONE,
            oldest: NONE,
            max,
        }
    }

    /// One past the highest slot ever used.
    pub(super) fn end(&self) -> u32 {
        self.end
    }

    /// The resident in `slot`.
    #[inline]
    pub(super) fn at(&self, slot: u32) -> Option<&Resident> {
        self.place(slot)?.resident.as_ref()
    }

    /// Whether the resident in `slot` was used since it came to its place in the order.
    pub(super) fn is_marked(&self, slot: u32) -> bool {
        let (chunk, offset) = split(slot);
        self.used.get(chunk).is_some_and(|it| it & bit(offset) != 0)
    }

    /// Marks the resident in `slot` as used.
    #[inline]
    pub(super) fn mark(&mut self, slot: u32) {
        let (chunk, offset) = split(slot);
        if let Some(used) = self.used.get_mut(chunk)
            && *used & bit(offset) == 0
        {
            *used |= bit(offset);
        }
    }

    #[inline]
    fn unmark(&mut self, slot: u32) {
        let (chunk, offset) = split(slot);
        if let Some(used) = self.used.get_mut(chunk)
            && *used & bit(offset) != 0
        {
            *used &= !bit(offset);
        }
    }

    /// Makes the resident in `slot` the one used last, by the access of this number.
    #[inline]
    pub(super) fn access(&mut self, slot: u32, number: u64) {
        self.unmark(slot);
        if let Some(resident) = self.place_mut(slot).and_then(|it| it.resident.as_mut()) {
            resident.last_access = number;
            self.promote(slot);
        }
    }

    /// The slot that the next newcomer comes to.
    #[inline]
    pub(super) fn vacancy(&self) -> Option<u32> {
        let next = if self.free == NONE {
            self.end
        } else {
            self.free
        };
        (next < self.max).then_some(next)
    }

    /// Makes `newcomer` resident, as the one used last: in `slot`, which is the
    /// [vacancy](Self::vacancy) or that of somebody, who is answered.
    pub(super) fn put(&mut self, slot: u32, newcomer: Resident) -> Option<Resident> {
        if slot == self.end {
            self.grow();
        }
        let place = self.place_mut(slot)?;
        let next_free = place.older;
        let replaced = place.resident.replace(newcomer);
        self.unmark(slot);
        if replaced.is_some() {
            self.promote(slot);
        } else {
            if slot == self.free {
                self.free = next_free;
            }
            self.link(slot);
        }
        replaced
    }

    /// The slot of the resident used the longest time ago, as far as the order tells and a few
    /// marks do. Another round is an access, by the number that follows `accesses`.
    pub(super) fn oldest(&mut self, accesses: &mut u64) -> Option<u32> {
        for _ in 0..ROUNDS {
            let slot = self.oldest;
            if !self.is_marked(slot) {
                break;
            }
            *accesses = accesses.wrapping_add(1);
            self.access(slot, *accesses);
        }
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// Takes the resident in `slot` out.
    pub(super) fn take(&mut self, slot: u32) -> Option<Resident> {
        self.at(slot)?;
        self.unlink(slot);
        let free = self.free;
        let place = self.place_mut(slot)?;
        let resident = place.resident.take()?;
        place.older = free;
        self.free = slot;
        self.unmark(slot);
        Some(resident)
    }

    #[inline]
    fn place(&self, slot: u32) -> Option<&Place> {
        let (chunk, offset) = split(slot);
        self.chunks.get(chunk)?.get(offset)
    }

    #[inline]
    fn place_mut(&mut self, slot: u32) -> Option<&mut Place> {
        let (chunk, offset) = split(slot);
        self.chunks.get_mut(chunk)?.get_mut(offset)
    }

    fn grow(&mut self) {
        if split(self.end).0 >= self.chunks.len() {
            self.chunks.push(Box::new([Place::EMPTY; CHUNK]));
            self.used.push(0);
        }
        self.end = self.end.saturating_add(1);
    }

    #[inline]
    fn promote(&mut self, slot: u32) {
        if slot != self.newest {
            self.unlink(slot);
            self.link(slot);
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Some((newer, older)) = self.place(slot).map(|place| (place.newer, place.older)) else {
            return;
        };
        match self.place_mut(newer) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        match self.place_mut(older) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link(&mut self, slot: u32) {
        let older = self.newest;
        if let Some(place) = self.place_mut(slot) {
            place.newer = NONE;
            place.older = older;
        }
        match self.place_mut(older) {
            Some(older) => older.newer = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }

    /// The slots of residents, the one used last first.
    #[cfg(test)]
    pub(super) fn by_use(&self) -> impl Iterator<Item = u32> {
        self.chain(self.newest)
    }

    /// The residents and their slots, after checking that places and both chains agree.
    #[cfg(test)]
    pub(super) fn checked(&self) -> Vec<(u32, &Resident)> {
        let there = |slot| Some((slot, self.at(slot)?));
        let residents: Vec<_> = (0..self.end).filter_map(there).collect();
        assert_eq!(self.by_use().count(), residents.len());
        assert!(self.by_use().all(|slot| self.at(slot).is_some()));
        let free: Vec<_> = self.chain(self.free).collect();
        let empty = |slot: &u32| self.at(*slot).is_none() && !self.is_marked(*slot);
        assert!(free.iter().all(empty), "something is left of who left");
        assert_eq!(
            usize::try_from(self.end),
            Ok(residents.len() + free.len()),
            "a slot is neither free nor in use"
        );
        residents
    }

    #[cfg(test)]
    fn chain(&self, first: u32) -> impl Iterator<Item = u32> {
        let older = |slot: &u32| self.place(*slot).map(|place| place.older);
        std::iter::successors(Some(first), older).take_while(|slot| *slot != NONE)
    }
}

#[inline]
fn split(slot: u32) -> (usize, usize) {
    let slot = usize::try_from(slot).unwrap_or(usize::MAX);
    (slot / CHUNK, slot % CHUNK)
}

#[inline]
fn bit(offset: usize) -> Marks {
    1_u64.wrapping_shl(u32::try_from(offset).unwrap_or_default())
}

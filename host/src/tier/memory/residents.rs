//! The residents of a shard: found by the hash of their key, by their slot, and by their age.
//!
//! A slot is a small dense number by which a guest order knows a resident. It is used again as
//! soon as its entry left, so the numbers stay below the largest number of entries the shard ever
//! held at once, and below its limit. What is known of a resident lies in one cache line, beside
//! its neighbours in the order of use, and nothing allocates for a newcomer but the table and a chunk
//! of places now and then.
//!
//! The order of use is exact where it decides who leaves. Under a guest order it is needed for what
//! that leaves undone only: a hit then just marks the resident, and one that is found marked at the
//! old end has another round. Entries and marks lie apart from what else is known, eight entries in
//! a cache line and 64 marks in a word, so that such a hit reads next to nothing but its bucket of the
//! table and its entry, and writes nothing here if it is not the first.

mod table;

use std::sync::Arc;

use table::Table;

use crate::entry::{Entry, KeyView, SiteId};

/// No slot.
const NONE: u32 = u32::MAX;
/// Places that are made at once: a vector that doubles would copy megabytes under the lock.
const CHUNK: usize = 64;

/// A bit for each place of a chunk.
type Marks = u64;

const _: () = assert!(size_of::<Marks>() == CHUNK / 8, "a place without a mark");

/// Marked residents that are given another round at a time, which bounds how long it takes.
const ROUNDS: usize = 32;

/// What the shard knows of a resident.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resident {
    /// Bytes it is charged. To know them the entry, which may be in nobody's cache, is not read.
    pub(super) charge: u64,
    /// Keyed hash of its key.
    pub(super) hash: u64,
    /// The number of this insertion, counted in the shard from 1.
    pub(super) inserted: u64,
    /// The number of its latest use, counted in the shard, but for one that it is marked for.
    pub(super) last_access: u64,
    /// Whose entry it is.
    pub(super) site: SiteId,
    /// Its first node in the tag index.
    pub(super) tags: u32,
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

/// Places of neighbouring slots.
#[derive(Debug)]
struct Chunk {
    /// Whose residents were used since they came to their place in the order.
    used: Marks,
    entries: [Option<Arc<Entry>>; CHUNK],
    places: [Place; CHUNK],
}

impl Chunk {
    const EMPTY: Self = Self {
        used: 0,
        entries: [const { None }; CHUNK],
        places: [Place::EMPTY; CHUNK],
    };
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Residents {
    table: Table,
    chunks: Vec<Box<Chunk>>,
    /// One past the highest slot ever used.
    end: u32,
    /// The first place below `end` without a resident.
    free: u32,
    newest: u32,
    oldest: u32,
    max: u32,
}

impl Residents {
    /// Nobody; never more than `max`.
    pub(super) fn new(max: u32) -> Self {
        Self {
            table: Table::default(),
            chunks: Vec::new(),
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

    /// The entry of exactly this key, and its slot.
    #[inline]
    pub(super) fn lookup(&self, key: KeyView<'_>) -> Option<(u32, &Arc<Entry>)> {
        // What lies beside the key is read only by who needs it.
        let is_it = |slot| {
            self.entry(slot)
                .is_some_and(|it| it.key.view().hash == key.hash)
        };
        let slot = self.table.find(key.hash, is_it)?;
        let entry = self.entry(slot)?;
        entry.key.is(key.bytes).then_some((slot, entry))
    }

    /// The slot of the resident with this hash.
    #[inline]
    pub(super) fn find(&self, hash: u64) -> Option<u32> {
        let is_it = |slot| self.at(slot).is_some_and(|it| it.hash == hash);
        self.table.find(hash, is_it)
    }

    /// The resident with this hash.
    #[inline]
    pub(super) fn peek(&self, hash: u64) -> Option<&Resident> {
        self.at(self.find(hash)?)
    }

    /// The resident in `slot`.
    #[inline]
    pub(super) fn at(&self, slot: u32) -> Option<&Resident> {
        self.place(slot)?.resident.as_ref()
    }

    /// The entry of the resident in `slot`.
    #[inline]
    pub(super) fn entry(&self, slot: u32) -> Option<&Arc<Entry>> {
        let (chunk, offset) = split(slot);
        self.chunks.get(chunk)?.entries.get(offset)?.as_ref()
    }

    /// The entry of the resident in `slot`, to put another of its key in its place.
    pub(super) fn entry_mut(&mut self, slot: u32) -> Option<&mut Arc<Entry>> {
        let (chunk, offset) = split(slot);
        self.chunks
            .get_mut(chunk)?
            .entries
            .get_mut(offset)?
            .as_mut()
    }

    /// Whether the resident in `slot` was used since it came to its place in the order.
    pub(super) fn is_marked(&self, slot: u32) -> bool {
        let (chunk, offset) = split(slot);
        let chunk = self.chunks.get(chunk);
        chunk.is_some_and(|chunk| chunk.used & bit(offset) != 0)
    }

    /// Marks the resident in `slot` as used.
    #[inline]
    pub(super) fn mark(&mut self, slot: u32) {
        let (chunk, offset) = split(slot);
        if let Some(chunk) = self.chunks.get_mut(chunk)
            // What is read only may be in the caches of all CPUs.
            && chunk.used & bit(offset) == 0
        {
            chunk.used |= bit(offset);
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

    #[inline]
    fn unmark(&mut self, slot: u32) {
        let (chunk, offset) = split(slot);
        if let Some(chunk) = self.chunks.get_mut(chunk)
            && chunk.used & bit(offset) != 0
        {
            chunk.used &= !bit(offset);
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

    /// Makes `newcomer` resident with its `entry`, as the one used last: in `slot`, which is the
    /// [vacancy](Self::vacancy) or that of the one with its hash, who is answered.
    pub(super) fn put(
        &mut self,
        slot: u32,
        entry: Arc<Entry>,
        newcomer: Resident,
    ) -> Option<(Arc<Entry>, Resident)> {
        let hash = newcomer.hash;
        if slot == self.end {
            self.grow();
        }
        let place = self.place_mut(slot)?;
        let next_free = place.older;
        let replaced = place.resident.replace(newcomer);
        let before = self.exchange(slot, Some(entry));
        self.unmark(slot);
        if replaced.is_some() {
            self.promote(slot);
        } else {
            if slot == self.free {
                self.free = next_free;
            }
            self.link(slot);
            self.table.insert(hash, slot);
        }
        before.zip(replaced)
    }

    #[inline]
    fn promote(&mut self, slot: u32) {
        if slot != self.newest {
            self.unlink(slot);
            self.link(slot);
        }
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
    pub(super) fn take(&mut self, slot: u32) -> Option<(Arc<Entry>, Resident)> {
        self.at(slot)?;
        self.unlink(slot);
        let free = self.free;
        let place = self.place_mut(slot)?;
        let resident = place.resident.take()?;
        place.older = free;
        self.free = slot;
        self.unmark(slot);
        self.table.remove(resident.hash, slot);
        Some((self.exchange(slot, None)?, resident))
    }

    fn exchange(&mut self, slot: u32, entry: Option<Arc<Entry>>) -> Option<Arc<Entry>> {
        let (chunk, offset) = split(slot);
        let there = self.chunks.get_mut(chunk)?.entries.get_mut(offset)?;
        std::mem::replace(there, entry)
    }

    #[inline]
    fn place(&self, slot: u32) -> Option<&Place> {
        let (chunk, offset) = split(slot);
        self.chunks.get(chunk)?.places.get(offset)
    }

    #[inline]
    fn place_mut(&mut self, slot: u32) -> Option<&mut Place> {
        let (chunk, offset) = split(slot);
        self.chunks.get_mut(chunk)?.places.get_mut(offset)
    }

    fn grow(&mut self) {
        if split(self.end).0 >= self.chunks.len() {
            self.chunks.push(Box::new(Chunk::EMPTY));
        }
        self.end = self.end.saturating_add(1);
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

    /// The entries and what is known of them, the one used last first.
    #[cfg(test)]
    pub(super) fn by_use(&self) -> impl Iterator<Item = (&Arc<Entry>, &Resident)> {
        let older = |slot: &u32| self.place(*slot).map(|place| place.older);
        let slots = std::iter::successors(Some(self.newest), move |slot| older(slot));
        slots.map_while(|slot| self.entry(slot).zip(self.at(slot)))
    }

    /// The residents and their slots, after checking that table, places and both chains agree.
    #[cfg(test)]
    pub(super) fn checked(&self) -> Vec<(u32, &Resident)> {
        let there = |slot| Some((slot, self.at(slot)?));
        let residents: Vec<_> = (0..self.end).filter_map(there).collect();
        for (slot, resident) in &residents {
            assert_eq!(self.find(resident.hash), Some(*slot));
            let entry = self.entry(*slot).unwrap();
            assert_eq!(resident.charge, entry.charge());
        }
        assert_eq!(self.table.checked(), residents.len());
        assert_eq!(self.by_use().count(), residents.len());
        let free = std::iter::successors(Some(self.free), |slot| {
            self.place(*slot).map(|place| place.older)
        });
        let free: Vec<_> = free.take_while(|slot| *slot != NONE).collect();
        assert!(free.iter().all(|slot| self.at(*slot).is_none()));
        let empty = |slot: &u32| self.entry(*slot).is_none() && !self.is_marked(*slot);
        assert!(free.iter().all(empty), "something is left of who left");
        assert_eq!(
            usize::try_from(self.end),
            Ok(residents.len() + free.len()),
            "a slot is neither free nor in use"
        );
        residents
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Content, KeyHasher, Nominations};

    fn resident(hash: u64) -> Resident {
        Resident {
            charge: 0,
            hash,
            inserted: 1,
            last_access: 1,
            site: SiteId(0),
            tags: u32::MAX,
        }
    }

    fn put(residents: &mut Residents, hash: u64) -> Option<Resident> {
        let content = Content::Nominations(Nominations::default());
        let key = KeyHasher::default().key(b"k").to_key();
        let entry = Arc::new(Entry::weighing(key, SiteId(0), content, 0));
        let slot = residents.find(hash).or(residents.vacancy()).unwrap();
        let replaced = residents.put(slot, entry, resident(hash));
        replaced.map(|(_, resident)| resident)
    }

    fn hashes(residents: &Residents) -> Vec<u64> {
        residents.checked();
        residents.by_use().map(|(_, it)| it.hash).collect()
    }

    #[test]
    fn slots_stay_dense_and_below_the_limit() {
        let mut residents = Residents::new(3);
        for hash in 0..3 {
            assert_eq!(residents.vacancy(), u32::try_from(hash).ok());
            assert!(put(&mut residents, hash).is_none());
        }
        assert_eq!(residents.vacancy(), None);
        assert_eq!(residents.take(1).map(|(_, it)| it.hash), Some(1));
        assert!(residents.take(1).is_none() && residents.take(9).is_none());
        assert_eq!(residents.vacancy(), Some(1));
        assert!(put(&mut residents, 7).is_none());
        assert_eq!((residents.find(7), residents.find(1)), (Some(1), None));
        assert_eq!(hashes(&residents), [7, 2, 0]);
    }

    #[test]
    fn residents_are_in_the_order_of_use() {
        let mut residents = Residents::new(1_000);
        for hash in 0..5 {
            put(&mut residents, hash);
        }
        residents.promote(1);
        residents.promote(4);
        residents.promote(4);
        assert_eq!(hashes(&residents), [4, 1, 3, 2, 0]);
        let replaced = put(&mut residents, 0);
        assert_eq!(replaced.map(|it| it.hash), Some(0));
        assert_eq!(hashes(&residents), [0, 4, 1, 3, 2]);
        assert_eq!(residents.oldest(&mut 9), Some(2));
        for slot in [2, 0, 1, 4, 3] {
            residents.take(slot);
            residents.checked();
        }
        assert_eq!(residents.oldest(&mut 9), None);
    }

    #[test]
    fn who_is_marked_at_the_old_end_has_another_round() {
        let mut residents = Residents::new(1_000);
        for hash in 0..100 {
            put(&mut residents, hash);
        }
        for slot in [0, 1, 3] {
            residents.mark(slot);
        }
        let accesses = &mut 9;
        assert_eq!(residents.oldest(accesses), Some(2));
        assert_eq!(*accesses, 11);
        assert_eq!(hashes(&residents)[..3], [1, 0, 99]);
        residents.take(2);
        assert_eq!(residents.oldest(accesses), Some(4));
        for slot in 0..100 {
            residents.mark(slot);
        }
        assert!(residents.oldest(accesses).is_some(), "a round ends");
    }

    #[test]
    fn hashes_with_equal_marks_are_told_apart() {
        let mut residents = Residents::new(1_000);
        let alike: Vec<u64> = (0..200).map(|high| high << 32 | 5).collect();
        for hash in &alike {
            put(&mut residents, *hash);
        }
        for (slot, hash) in (0..).zip(&alike) {
            assert_eq!(residents.find(*hash), Some(slot));
        }
        assert_eq!(residents.find(5 | 200 << 32), None);
        residents.take(7);
        assert_eq!(residents.find(7 << 32 | 5), None);
        assert_eq!(hashes(&residents).len(), 199);
    }
}

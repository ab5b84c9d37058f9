//! The residents of a stripe: found by the hash of their key, by their slot, and by their age.
//!
//! A slot is a small dense number by which a guest order knows a resident. It is used again as
//! soon as its entry left, so the numbers stay below the largest number of entries the stripe ever
//! held at once, and below its limit. What is known of a resident lies in one cache line, beside
//! its neighbours in the order of use; its entry is in the table, where a lookup finds it. Nothing
//! allocates for a newcomer but the table and a chunk of places now and then.
//!
//! The order of use is exact where it decides who leaves. Under a guest order it is needed for what
//! that leaves undone only: a hit then just marks the resident, and one that is found marked at the
//! old end has another round. Marks lie apart from what else is known, 64 in a word, so that such a
//! hit reads next to nothing but its bucket of the table and its entry, and writes nothing here if it
//! is not the first.

mod places;
mod table;

use std::borrow::Borrow;
use std::sync::Arc;

use places::Places;
pub(super) use places::Resident;
use smallvec::SmallVec;
use table::Table;

use crate::entry::{Entry, KeyView};

/// No slot.
const NONE: u32 = u32::MAX;

/// Slots that are touched at a time without an allocation.
const TOUCHED: usize = 8;

/// What a hit does to the order of use.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use {
    /// It is the access of this number.
    Access(u64),
    /// It marks the resident.
    Mark,
}

/// See the module's documentation.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Residents {
    /// First, as it begins with what stores write: that is in one line with what they write elsewhere.
    places: Places,
    table: Table<Arc<Entry>>,
}

impl Residents {
    /// Nobody; never more than `max`.
    pub(super) fn new(max: u32) -> Self {
        Self {
            table: Table::default(),
            places: Places::new(max),
        }
    }

    /// One past the highest slot ever used.
    pub(super) fn end(&self) -> u32 {
        self.places.end()
    }

    /// The entry of exactly this key, and its slot.
    #[inline]
    pub(super) fn lookup(&self, key: KeyView<'_>) -> Option<(u32, &Arc<Entry>)> {
        lookup(&self.table, key, |it| it)
    }

    /// The same, which is used, and of the entry what `take` makes of it. It is taken before it is
    /// known to be the right one, as it nearly always is: to read what another CPU has counted last
    /// and then to count it takes twice as long as to count it.
    #[inline]
    pub(super) fn hit<'a, R: Borrow<Arc<Entry>>>(
        &'a mut self,
        key: KeyView<'_>,
        by: Use,
        take: impl Fn(&'a Arc<Entry>) -> R,
    ) -> Option<(u32, R)> {
        let (slot, entry) = lookup(&self.table, key, take)?;
        match by {
            Use::Access(number) => self.places.access(slot, number),
            Use::Mark => self.places.mark(slot),
        }
        Some((slot, entry))
    }

    /// The entry with this hash, and its slot.
    #[inline]
    pub(super) fn find(&self, hash: u64) -> Option<(u32, &Arc<Entry>)> {
        find(&self.table, hash, |it| it)
    }

    /// The resident with this hash.
    pub(super) fn peek(&self, hash: u64) -> Option<&Resident> {
        self.at(self.find(hash)?.0)
    }

    /// The resident in `slot`.
    #[inline]
    pub(super) fn at(&self, slot: u32) -> Option<&Resident> {
        self.places.at(slot)
    }

    /// The entry of the resident in `slot`.
    pub(super) fn entry(&self, slot: u32) -> Option<&Arc<Entry>> {
        self.table.get(self.at(slot)?.hash, slot)
    }

    /// The entry of the resident in `slot`, to put another of its key in its place.
    pub(super) fn entry_mut(&mut self, slot: u32) -> Option<&mut Arc<Entry>> {
        self.table.get_mut(self.places.at(slot)?.hash, slot)
    }

    /// Reads what it takes to look something of this hash up, and to put it where nothing is.
    #[inline]
    pub(super) fn touch(&self, hash: u64) {
        let found = self.find(hash);
        let first = found.and_then(|(_, it)| it.key.view().bytes.first());
        std::hint::black_box((first, self.table.touch(hash)));
    }

    /// Reads what it takes to take the residents in these slots out. Memory answers several that ask
    /// at once almost as soon as one.
    pub(super) fn touch_slots(&self, slots: &[u32]) {
        let hash = |slot: &u32| self.at(*slot).map(|it| it.hash);
        // All of the places first: where to look in the table is known by them.
        let hashes: SmallVec<[u64; TOUCHED]> = slots.iter().filter_map(hash).collect();
        let touch = |read, hash: &u64| read ^ self.table.touch(*hash);
        std::hint::black_box(hashes.iter().fold(0, touch));
    }

    /// Whether the resident in `slot` was used since it came to its place in the order.
    pub(super) fn is_marked(&self, slot: u32) -> bool {
        self.places.is_marked(slot)
    }

    /// The slot that the next newcomer comes to.
    #[inline]
    pub(super) fn vacancy(&self) -> Option<u32> {
        self.places.vacancy()
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
        debug_assert!(slot <= self.end(), "no such slot");
        let Some(replaced) = self.places.put(slot, newcomer) else {
            self.table.insert(hash, slot, entry);
            return None;
        };
        let there = self.table.get_mut(hash, slot);
        debug_assert!(there.is_some(), "a resident without an entry");
        let there = there?;
        Some((std::mem::replace(there, entry), replaced))
    }

    /// The slot of the resident used the longest time ago, as far as the order tells and a few
    /// marks do. Another round is an access, by the number that follows `accesses`.
    pub(super) fn oldest(&mut self, accesses: &mut u64) -> Option<u32> {
        self.places.oldest(accesses)
    }

    /// Takes the resident in `slot` out.
    pub(super) fn take(&mut self, slot: u32) -> Option<(Arc<Entry>, Resident)> {
        let resident = self.places.take(slot)?;
        Some((self.table.remove(resident.hash, slot)?, resident))
    }

    /// The entries and what is known of them, the one used last first.
    #[cfg(test)]
    pub(super) fn by_use(&self) -> impl Iterator<Item = (&Arc<Entry>, &Resident)> {
        let slots = self.places.by_use();
        slots.filter_map(|slot| self.entry(slot).zip(self.at(slot)))
    }

    /// The residents and their slots, after checking that table, places and both chains agree.
    #[cfg(test)]
    pub(super) fn checked(&self) -> Vec<(u32, &Resident)> {
        let residents = self.places.checked();
        for (slot, resident) in &residents {
            let (found, entry) = self.find(resident.hash).unwrap();
            assert_eq!(found, *slot);
            assert!(Arc::ptr_eq(entry, self.entry(*slot).unwrap()));
            assert_eq!(resident.charge, entry.charge());
        }
        assert_eq!(self.table.checked(), residents.len());
        assert_eq!(self.by_use().count(), residents.len());
        residents
    }
}

#[inline]
fn lookup<'a, R: Borrow<Arc<Entry>>>(
    table: &'a Table<Arc<Entry>>,
    key: KeyView<'_>,
    take: impl Fn(&'a Arc<Entry>) -> R,
) -> Option<(u32, R)> {
    let found = find(table, key.hash, take)?;
    found.1.borrow().key.is(key.bytes).then_some(found)
}

#[inline]
fn find<'a, R: Borrow<Arc<Entry>>>(
    table: &'a Table<Arc<Entry>>,
    hash: u64,
    take: impl Fn(&'a Arc<Entry>) -> R,
) -> Option<(u32, R)> {
    table.find(hash, |it| {
        let taken = take(it);
        taken.borrow().key.has_hash(hash).then_some(taken)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Content, Nominations, SiteId};

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

    fn key(hash: u64) -> KeyView<'static> {
        KeyView { hash, bytes: b"k" }
    }

    fn mark(residents: &mut Residents, hash: u64) {
        residents.hit(key(hash), Use::Mark, Arc::clone).unwrap();
    }

    fn put(residents: &mut Residents, hash: u64) -> Option<Resident> {
        let content = Content::Nominations(Nominations::default());
        let entry = Entry::weighing(key(hash).to_key(), SiteId(0), content, 0);
        let entry = Arc::new(entry);
        let slot = slot_of(residents, hash).or(residents.vacancy()).unwrap();
        let replaced = residents.put(slot, entry, resident(hash));
        replaced.map(|(_, resident)| resident)
    }

    fn slot_of(residents: &Residents, hash: u64) -> Option<u32> {
        residents.find(hash).map(|(slot, _)| slot)
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
        assert_eq!(
            (slot_of(&residents, 7), slot_of(&residents, 1)),
            (Some(1), None)
        );
        assert_eq!(hashes(&residents), [7, 2, 0]);
    }

    #[test]
    fn residents_are_in_the_order_of_use() {
        let mut residents = Residents::new(1_000);
        for hash in 0..5 {
            put(&mut residents, hash);
        }
        for hash in [1, 4, 4] {
            residents.hit(key(hash), Use::Access(1), Arc::clone);
        }
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
        for hash in [0, 1, 3] {
            mark(&mut residents, hash);
        }
        let accesses = &mut 9;
        assert_eq!(residents.oldest(accesses), Some(2));
        assert_eq!(*accesses, 11);
        assert_eq!(hashes(&residents)[..3], [1, 0, 99]);
        residents.take(2);
        assert_eq!(residents.oldest(accesses), Some(4));
        for hash in (0..100).filter(|hash| *hash != 2) {
            mark(&mut residents, hash);
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
            assert_eq!(slot_of(&residents, *hash), Some(slot));
        }
        assert_eq!(slot_of(&residents, 5 | 200 << 32), None);
        residents.take(7);
        assert_eq!(slot_of(&residents, 7 << 32 | 5), None);
        assert_eq!(hashes(&residents).len(), 199);
    }
}

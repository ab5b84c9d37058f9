//! Where a resident is: from a hash to a slot, and to what is looked for.
//!
//! A table is made of segments, each for the hashes that begin with some bits (extendible hashing:
//! Fagin et al., ACM TODS 1979). One that is full is split in two, so that nobody who comes waits
//! for a whole table to be copied, however large it is.

mod segment;

use segment::Segment;

use super::NONE;

/// Buckets of a segment, at most, unless hashes are alike: 64 KiB, and some 2,500 residents to move
/// when it is split, which takes tens of microseconds.
const SEGMENT: usize = 512;
/// Bits that a segment is known by, at most: so many segments hold 10^8 residents. Where more hashes
/// begin alike than one holds, it grows.
const DEPTH_MAX: u32 = 16;

/// See the module's documentation. Slots differ.
#[derive(Debug)]
pub(super) struct Table<T, const BUCKETS: usize = SEGMENT> {
    /// For all marks that begin with the bits of a position, the segment that they belong to. Not
    /// empty, and a power of two of them.
    directory: Vec<u32>,
    segments: Vec<Segment<T, BUCKETS>>,
    /// Bits of a position.
    depth: u32,
}

impl<T, const BUCKETS: usize> Default for Table<T, BUCKETS> {
    fn default() -> Self {
        Self {
            directory: vec![0],
            segments: vec![Segment::new(0)],
            depth: 0,
        }
    }
}

impl<T, const BUCKETS: usize> Table<T, BUCKETS> {
    /// The first that `take` makes something of, among those with the mark of `hash`: its slot and
    /// what that is.
    #[inline]
    pub(super) fn find<'a, R>(
        &'a self,
        hash: u64,
        take: impl Fn(&'a T) -> Option<R>,
    ) -> Option<(u32, R)> {
        self.segment(mark(hash))?.find(mark(hash), take)
    }

    /// What is in `slot`, of this hash.
    pub(super) fn get(&self, hash: u64, slot: u32) -> Option<&T> {
        self.segment(mark(hash))?.get(mark(hash), slot)
    }

    /// The same, to put another of its hash in its place.
    pub(super) fn get_mut(&mut self, hash: u64, slot: u32) -> Option<&mut T> {
        self.segment_mut(mark(hash))?.get_mut(mark(hash), slot)
    }

    /// Adds what is in `slot`, which nothing was in.
    pub(super) fn insert(&mut self, hash: u64, slot: u32, value: T) {
        let mark = mark(hash);
        if self
            .segment(mark)
            .is_some_and(|it| it.is_full() && it.depth() < DEPTH_MAX)
        {
            self.split(mark);
        }
        if let Some(segment) = self.segment_mut(mark) {
            segment.insert(mark, slot, value);
        }
    }

    /// Takes out what is in `slot`, of this hash.
    pub(super) fn remove(&mut self, hash: u64, slot: u32) -> Option<T> {
        self.segment_mut(mark(hash))?.remove(mark(hash), slot)
    }

    /// Reads what it takes to add something of this hash, or to take it out.
    #[inline]
    pub(super) fn touch(&self, hash: u64) -> u32 {
        let segment = self.segment(mark(hash));
        segment.map_or(0, |it| it.touch(mark(hash)))
    }

    /// Where in the directory this mark is.
    #[inline]
    fn position(&self, mark: u32) -> usize {
        let bits = u64::from(mark).wrapping_shl(self.depth) >> 32;
        usize::try_from(bits).unwrap_or_default()
    }

    #[inline]
    fn number(&self, mark: u32) -> Option<usize> {
        usize::try_from(*self.directory.get(self.position(mark))?).ok()
    }

    #[inline]
    fn segment(&self, mark: u32) -> Option<&Segment<T, BUCKETS>> {
        self.segments.get(self.number(mark)?)
    }

    #[inline]
    fn segment_mut(&mut self, mark: u32) -> Option<&mut Segment<T, BUCKETS>> {
        let number = self.number(mark)?;
        self.segments.get_mut(number)
    }

    /// Splits the segment of this mark.
    #[cold]
    fn split(&mut self, mark: u32) {
        let Some(segment) = self.segment_mut(mark) else {
            return;
        };
        let other = segment.split();
        let alike = other.depth();
        if alike > self.depth {
            self.depth = alike;
            let twice = self.directory.iter().flat_map(|number| [*number; 2]);
            self.directory = twice.collect();
        }
        // Of the positions that lead to what was split the second half lead to the other one.
        let positions = 1_usize.wrapping_shl(self.depth.saturating_sub(alike));
        let first = self.position(mark) & !(2 * positions - 1);
        let number = u32::try_from(self.segments.len()).unwrap_or(NONE);
        self.segments.push(other);
        let second = self.directory.iter_mut().skip(first + positions);
        second
            .take(positions)
            .for_each(|leads_to| *leads_to = number);
    }

    /// How many there are, after checking that each is found, and that each segment is as it should.
    #[cfg(test)]
    pub(super) fn checked(&self) -> usize {
        assert_eq!(self.directory.len(), 1 << self.depth);
        for (number, segment) in (0_u32..).zip(&self.segments) {
            let leads = |it: &&u32| **it == number;
            let led = self.directory.iter().filter(leads).count();
            assert_eq!(led, 1 << (self.depth - segment.depth()));
            let own = |mark: &u32| self.number(*mark) == usize::try_from(number).ok();
            assert!(segment.marks().iter().all(own), "in another's segment");
        }
        self.segments.iter().map(Segment::checked).sum()
    }
}

/// The part of a hash that is kept.
#[inline]
fn mark(hash: u64) -> u32 {
    u32::try_from(hash & u64::from(u32::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_put_is_found_until_it_is_taken_out(
            // Few marks close together, so that buckets overflow, also at the end of the table; some
            // hashes that differ beyond their marks.
            steps in prop::collection::vec((0_u64..40, 0_u64..3, any::<bool>()), 0..400),
        ) {
            // So small segments that they are split, and that some marks alike do not fit into one.
            let mut table = Table::<u64, 2>::default();
            let mut there: Vec<(u64, u32)> = Vec::new();
            for (slot, (low, high, puts)) in (0..).zip(steps) {
                let hash = (0xffff_fff8 - (low << 26)) & 0xffff_ffff | high << 32;
                match there.iter().position(|(it, _)| *it == hash) {
                    Some(at) if !puts => {
                        let (hash, slot) = there.swap_remove(at);
                        prop_assert_eq!(table.remove(hash, slot), Some(hash));
                    }
                    None if puts => {
                        there.push((hash, slot));
                        table.insert(hash, slot, hash);
                    }
                    _ => {}
                }
                prop_assert_eq!(table.checked(), there.len());
                for (hash, slot) in &there {
                    let found = table.find(*hash, |it| (it == hash).then_some(it));
                    prop_assert_eq!(found, Some((*slot, hash)));
                    prop_assert_eq!(table.get(*hash, *slot), Some(hash));
                    prop_assert_eq!(table.get_mut(*hash, *slot).copied(), Some(*hash));
                }
                let absent = hash & 0xffff_ffff | 3 << 32;
                prop_assert_eq!(table.find(absent, |it| (*it == absent).then_some(it)), None);
            }
        }
    }

    #[test]
    fn an_empty_table_has_nothing() {
        let mut table = Table::<()>::default();
        assert_eq!((table.find(7, Some), table.get(7, 0)), (None, None));
        table.insert(7, 0, ());
        table.remove(7, 0);
        assert_eq!((table.checked(), table.find(7, Some)), (0, None));
    }

    #[test]
    fn few_lookups_read_a_second_bucket_however_many_come_and_go() {
        let mut table = Table::<()>::default();
        let hash = |number: u32| u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let mut numbers = 0..;
        // As full as such a table gets.
        while table.segments.len() < 8 || !table.segments.iter().any(Segment::is_full) {
            let number = numbers.next().unwrap();
            table.insert(hash(number), number, ());
        }
        let len = numbers.start;
        let is_short_of_steps = |table: &Table<()>| {
            let passed = table.segments.iter().map(Segment::passed);
            let (passed, all) = passed.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
            assert!(passed < all / 5, "{passed} of {all}");
            let larger = |it: &Segment<(), SEGMENT>| it.passed().1 > SEGMENT;
            assert!(!table.segments.iter().any(larger));
        };
        is_short_of_steps(&table);
        for number in numbers.take(20_000) {
            // Each is in the slot of the one that it takes the place of.
            let slot = number % len;
            table.remove(hash(number - len), slot);
            table.insert(hash(number), slot, ());
        }
        assert_eq!(table.checked(), usize::try_from(len).unwrap());
        is_short_of_steps(&table);
    }
}

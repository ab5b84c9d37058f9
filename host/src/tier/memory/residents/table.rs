//! Where a resident is: from a hash to a slot, and to what is looked for, by two cache lines.
//!
//! A bucket is a pair of cache lines with seven places, and how many of those that belong to it, or
//! to one before it, had to go further. A lookup reads the marks of the bucket that its hash names
//! and goes on to the next only if something went on there, so that what is not there is known by
//! one line. The first line has the marks, and most of what they stand for, too: nothing that is
//! read before what is looked for depends on another line. Once something is taken out, what went
//! past its place comes back to it: there are no tombstones, and however many come and go, all are as
//! close to where they belong as in a table that was just made (Knuth, The Art of Computer
//! Programming, volume 3, 6.4, algorithm R).
//!
//! Buckets are in the order of the hashes, however many there are, so a table that grows is read and
//! written in order.

use super::NONE;

/// Places of a bucket.
const PLACES: usize = 7;
/// A bit for each of them.
const ALL: u32 = (1 << PLACES) - 1;
/// Numbers that are compared at once: one of each place, and one more.
const LANES: usize = PLACES + 1;

/// How a hash leads to a slot, and to what is looked for. A part of the hash is kept beside it, so
/// that neither a probe that fails nor a table that grows reads any resident.
#[derive(Debug)]
#[repr(C, align(128))]
struct Bucket<T> {
    /// The mark of each place; in the last lane, how many went past this bucket, as it was full.
    marks: [u32; LANES],
    values: [Option<T>; PLACES],
    /// The slot of each place; the last lane is nobody's.
    slots: [u32; LANES],
}

const _: () = assert!(
    size_of::<Bucket<Box<u8>>>() == 128,
    "a bucket in three cache lines"
);

impl<T> Bucket<T> {
    const EMPTY: Self = Self {
        marks: [0; LANES],
        values: [const { None }; PLACES],
        slots: [NONE; LANES],
    };

    /// How many went past this bucket.
    #[inline]
    fn passed(&self) -> u32 {
        let [.., passed] = self.marks;
        passed
    }

    fn passed_mut(&mut self) -> &mut u32 {
        let [.., passed] = &mut self.marks;
        passed
    }

    /// A bit for each position with this mark, and perhaps for some where nothing is.
    #[inline]
    fn alike(&self, mark: u32) -> u32 {
        alike(&self.marks, mark) & ALL
    }

    /// The position of `slot`; of [`NONE`], the first that is free.
    #[inline]
    fn position(&self, slot: u32) -> Option<usize> {
        first(alike(&self.slots, slot) & ALL)
    }

    /// Has `value` at `position`, and answers what was there.
    fn set(&mut self, position: usize, mark: u32, slot: u32, value: Option<T>) -> Option<T> {
        *self.marks.get_mut(position)? = mark;
        *self.slots.get_mut(position)? = slot;
        std::mem::replace(self.values.get_mut(position)?, value)
    }
}

/// See the module's documentation. Slots differ.
#[derive(Debug)]
pub(super) struct Table<T> {
    buckets: Vec<Bucket<T>>,
    len: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            buckets: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Table<T> {
    /// What `is_it` knows for its own, of that with the mark of `hash`, and its slot.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<(u32, &T)> {
        let mark = mark(hash);
        for at in self.way(mark) {
            let bucket = self.buckets.get(at)?;
            let mut alike = bucket.alike(mark);
            while let Some(position) = first(alike) {
                if let Some(Some(value)) = bucket.values.get(position)
                    && is_it(value)
                {
                    return Some((*bucket.slots.get(position)?, value));
                }
                alike &= alike.wrapping_sub(1);
            }
            if bucket.passed() == 0 {
                return None;
            }
        }
        None
    }

    /// What is in `slot`, of this hash.
    pub(super) fn get(&self, hash: u64, slot: u32) -> Option<&T> {
        let (at, position) = self.place(hash, slot)?;
        self.buckets.get(at)?.values.get(position)?.as_ref()
    }

    /// The same, to put another of its hash in its place.
    pub(super) fn get_mut(&mut self, hash: u64, slot: u32) -> Option<&mut T> {
        let (at, position) = self.place(hash, slot)?;
        self.buckets.get_mut(at)?.values.get_mut(position)?.as_mut()
    }

    /// Adds what is in `slot`, which nothing was in.
    pub(super) fn insert(&mut self, hash: u64, slot: u32, value: T) {
        // Five of seven: hardly a lookup in ten goes on to a second bucket then.
        if self.len >= self.buckets.len().saturating_mul(PLACES - 2) {
            self.grow();
        }
        self.add(mark(hash), slot, value);
        self.len = self.len.saturating_add(1);
    }

    /// Takes out what is in `slot`, of this hash.
    pub(super) fn remove(&mut self, hash: u64, slot: u32) -> Option<T> {
        let place = self.place(hash, slot);
        debug_assert!(place.is_some(), "nothing is in slot {slot}");
        let (at, position) = place?;
        let home = self.home(mark(hash));
        self.len = self.len.saturating_sub(1);
        let (_, _, value) = self.lift((home, at), position)?;
        self.fill(at);
        Some(value)
    }

    /// Takes out what is at `position` of bucket `at`, where it came past the buckets from `past` on:
    /// its mark, its slot and itself.
    fn lift(&mut self, (past, at): (usize, usize), position: usize) -> Option<(u32, u32, T)> {
        for passed in self.onwards(past).take_while(|passed| *passed != at) {
            if let Some(bucket) = self.buckets.get_mut(passed) {
                let passed = bucket.passed_mut();
                *passed = passed.saturating_sub(1);
            }
        }
        let bucket = self.buckets.get_mut(at)?;
        let there = (*bucket.marks.get(position)?, *bucket.slots.get(position)?);
        let value = bucket.set(position, 0, NONE, None)?;
        Some((there.0, there.1, value))
    }

    /// Fills a place that came free with what had to go past it, the place where that was, and so on.
    fn fill(&mut self, mut at: usize) {
        while let Some(bucket) = self.buckets.get(at)
            && bucket.passed() > 0
            && let Some(free) = bucket.position(NONE)
        {
            let found = self.passer(at);
            debug_assert!(found.is_some(), "nothing went past bucket {at}");
            let Some((from, position)) = found else {
                return;
            };
            if let Some((mark, slot, value)) = self.lift((at, from), position)
                && let Some(bucket) = self.buckets.get_mut(at)
            {
                bucket.set(free, mark, slot, Some(value));
            }
            at = from;
        }
    }

    /// The first that went past a bucket: where it is now.
    fn passer(&self, passed: usize) -> Option<(usize, usize)> {
        let count = self.buckets.len();
        let further = |from: usize, to: usize| {
            let wrapped = if to < from { count } else { 0 };
            to.wrapping_add(wrapped).wrapping_sub(from)
        };
        self.onwards(passed).skip(1).find_map(|at| {
            let bucket = self.buckets.get(at)?;
            let there = bucket.marks.iter().zip(&bucket.slots).take(PLACES);
            let past = further(passed, at);
            there
                .map(|(mark, slot)| *slot != NONE && further(self.home(*mark), at) >= past)
                .position(|went_past| went_past)
                .map(|position| (at, position))
        })
    }

    /// Reads what it takes to add something of this hash, or to take it out.
    #[inline]
    pub(super) fn touch(&self, hash: u64) -> u32 {
        let bucket = self.buckets.get(self.home(mark(hash)));
        bucket.map_or(0, |it| it.passed() ^ it.slots[0])
    }

    /// The bucket and position of what is in `slot`, of this hash.
    fn place(&self, hash: u64, slot: u32) -> Option<(usize, usize)> {
        let mut way = self.way(mark(hash));
        way.find_map(|at| Some((at, self.buckets.get(at)?.position(slot)?)))
    }

    /// The bucket that something with this mark belongs to: they share the marks evenly, in order.
    #[inline]
    fn home(&self, mark: u32) -> usize {
        let count = u64::try_from(self.buckets.len()).unwrap_or_default();
        usize::try_from((u64::from(mark) * count) >> 32).unwrap_or_default()
    }

    /// The buckets that something with this mark may be in, the one it belongs to first.
    #[inline]
    fn way(&self, mark: u32) -> impl Iterator<Item = usize> + use<T> {
        self.onwards(self.home(mark))
    }

    /// All buckets, from this one on.
    #[inline]
    fn onwards(&self, first: usize) -> impl Iterator<Item = usize> + use<T> {
        let count = self.buckets.len();
        (first..first.wrapping_add(count)).map(move |at| if at < count { at } else { at - count })
    }

    fn add(&mut self, mark: u32, slot: u32, value: T) {
        for at in self.way(mark) {
            let Some(bucket) = self.buckets.get_mut(at) else {
                break;
            };
            if let Some(free) = bucket.position(NONE) {
                bucket.set(free, mark, slot, Some(value));
                return;
            }
            let passed = bucket.passed_mut();
            *passed = passed.saturating_add(1);
        }
        debug_assert!(false, "no room for slot {slot}");
    }

    /// Makes it half as large again: less of it is empty than if it doubled.
    fn grow(&mut self) {
        let count = self.buckets.len();
        let count = count.saturating_add(count / 2).saturating_add(1);
        let mut grown = Vec::with_capacity(count);
        grown.resize_with(count, || Bucket::EMPTY);
        for bucket in std::mem::replace(&mut self.buckets, grown) {
            let there = bucket.marks.into_iter().zip(bucket.slots);
            // The last lane has no value.
            for ((mark, slot), value) in there.zip(bucket.values) {
                if let Some(value) = value {
                    self.add(mark, slot, value);
                }
            }
        }
    }

    /// How many there are, after checking that each is found, and that nothing is said to have
    /// passed a bucket but what did.
    #[cfg(test)]
    pub(super) fn checked(&self) -> usize {
        let mut passed = vec![0; self.buckets.len()];
        let mut len = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            for (position, slot) in bucket.slots.into_iter().take(PLACES).enumerate() {
                let value = bucket.values[position].as_ref();
                assert_eq!(value.is_some(), slot != NONE);
                if let Some(value) = value {
                    len += 1;
                    let hash = bucket.marks[position].into();
                    let found = self.find(hash, |it| std::ptr::eq(it, value));
                    assert_eq!(found.map(|(slot, _)| slot), Some(slot));
                    let found = self.get(hash, slot);
                    assert!(found.is_some_and(|it| std::ptr::eq(it, value)));
                    let way = self.way(bucket.marks[position]);
                    for before in way.take_while(|before| *before != at) {
                        passed[before] += 1;
                    }
                }
            }
        }
        let said: Vec<u32> = self.buckets.iter().map(Bucket::passed).collect();
        assert_eq!(said, passed);
        let is_full = |it: &Bucket<T>| it.position(NONE).is_none();
        assert!(
            self.buckets
                .iter()
                .all(|it| it.passed() == 0 || is_full(it)),
            "something is further away than it has to be"
        );
        assert_eq!(self.len, len);
        len
    }
}

/// A bit for each that is `it`: compared at once, without a branch that a CPU could take wrongly.
#[inline]
fn alike<const N: usize>(all: &[u32; N], it: u32) -> u32 {
    all.iter().enumerate().fold(0, |bits, (at, each)| {
        let bit = u32::from(*each == it);
        bits | bit.wrapping_shl(u32::try_from(at).unwrap_or_default())
    })
}

/// The position of the first bit.
#[inline]
fn first(bits: u32) -> Option<usize> {
    let first = usize::try_from(bits.trailing_zeros()).ok()?;
    (bits != 0).then_some(first)
}

/// The part of a hash that is kept.
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
            let mut table = Table::default();
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
                    let found = table.find(*hash, |it| it == hash);
                    prop_assert_eq!(found, Some((*slot, hash)));
                    prop_assert_eq!(table.get(*hash, *slot), Some(hash));
                    prop_assert_eq!(table.get_mut(*hash, *slot).copied(), Some(*hash));
                }
                let absent = hash & 0xffff_ffff | 3 << 32;
                prop_assert_eq!(table.find(absent, |it| *it == absent), None);
            }
        }
    }

    #[test]
    fn an_empty_table_has_nothing() {
        let mut table = Table::default();
        assert_eq!((table.find(7, |()| true), table.get(7, 0)), (None, None));
        table.insert(7, 0, ());
        table.remove(7, 0);
        assert_eq!((table.checked(), table.find(7, |()| true)), (0, None));
    }

    #[test]
    fn few_lookups_read_a_second_bucket_however_many_come_and_go() {
        let mut table = Table::default();
        let hash = |number: u32| u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let mut numbers = 0..;
        // As full as such a table gets.
        while table.buckets.len() < 1_000 || table.len < table.buckets.len() * 5 {
            let number = numbers.next().unwrap();
            table.insert(hash(number), number, ());
        }
        let len = numbers.start;
        let most = table.buckets.len() / 5;
        let went_on = |table: &Table<()>| table.buckets.iter().filter(|it| it.passed() > 0).count();
        assert!(went_on(&table) < most, "{} of {most}", went_on(&table));
        for number in numbers.take(20_000) {
            // Each is in the slot of the one that it takes the place of.
            let slot = number % len;
            table.remove(hash(number - len), slot);
            table.insert(hash(number), slot, ());
        }
        assert_eq!(table.checked(), usize::try_from(len).unwrap());
        assert!(went_on(&table) < most, "{} of {most}", went_on(&table));
    }
}

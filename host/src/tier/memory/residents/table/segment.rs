//! A part of a table: buckets in the order of the hashes that belong to it.
//!
//! A bucket is a pair of cache lines with seven places, and how many of those that belong to it, or
//! to one before it, had to go further. A lookup reads the marks of the bucket that its hash names
//! and goes on to the next only if something went on there, so that what is not there is known by
//! one line. The first line has the marks and most of what they stand for, which so is found without
//! a read that depends on another line. Once something is taken out, what went
//! past its place comes back to it: there are no tombstones, and however many come and go, all are as
//! close to where they belong as in a segment that was just made (Knuth, The Art of Computer
//! Programming, volume 3, 6.4, algorithm R).
//!
//! Buckets are in the order of the hashes, however many there are, so a segment that grows is read
//! and written in order.

use super::super::NONE;

/// Places of a bucket.
const PLACES: usize = 7;
/// A bit for each of them.
const ALL: u32 = (1 << PLACES) - 1;
/// Numbers that are compared at once: one of each place, and one more.
const LANES: usize = PLACES + 1;

/// How a hash leads to a slot, and to what is looked for. A part of the hash is kept beside it, so
/// that neither a probe that fails nor a segment that grows reads any resident.
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

    /// What is in it.
    fn items(self) -> impl Iterator<Item = Item<T>> {
        // The last lane has no value.
        let there = self.marks.into_iter().zip(self.slots).zip(self.values);
        there.filter_map(|((mark, slot), value)| Some((mark, slot, value?)))
    }

    /// Has `value` at `position`, and answers what was there.
    fn set(&mut self, position: usize, mark: u32, slot: u32, value: Option<T>) -> Option<T> {
        *self.marks.get_mut(position)? = mark;
        *self.slots.get_mut(position)? = slot;
        std::mem::replace(self.values.get_mut(position)?, value)
    }
}

/// What is in a segment: the mark of its hash, its slot, and itself.
pub(super) type Item<T> = (u32, u32, T);

/// See the module's documentation. Slots differ. It is full with so many buckets.
#[derive(Debug)]
pub(super) struct Segment<T, const BUCKETS: usize> {
    buckets: Vec<Bucket<T>>,
    /// How many of the first bits are alike in all marks that belong to it.
    depth: u32,
    len: Len,
}

/// How many there are. In a cache line of its own: who looks something up reads the others, and need
/// not wait for who puts something in.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Len(usize);

impl<T, const BUCKETS: usize> Segment<T, BUCKETS> {
    /// An empty segment, for marks that begin with so many bits that are alike.
    pub(super) fn new(depth: u32) -> Self {
        Self {
            buckets: Vec::new(),
            depth,
            len: Len(0),
        }
    }

    /// How many of the first bits are alike in all marks that belong to it.
    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    /// The first that `take` makes something of, among those with this mark: its slot and what that is.
    #[inline]
    pub(super) fn find<'a, R>(
        &'a self,
        mark: u32,
        take: impl Fn(&'a T) -> Option<R>,
    ) -> Option<(u32, R)> {
        for at in self.way(mark) {
            let bucket = self.buckets.get(at)?;
            let mut alike = bucket.alike(mark);
            while let Some(position) = first(alike) {
                if let Some(Some(value)) = bucket.values.get(position)
                    && let Some(taken) = take(value)
                {
                    return Some((*bucket.slots.get(position)?, taken));
                }
                alike &= alike.wrapping_sub(1);
            }
            if bucket.passed() == 0 {
                return None;
            }
        }
        None
    }

    /// What is in `slot`, of this mark.
    pub(super) fn get(&self, mark: u32, slot: u32) -> Option<&T> {
        let (at, position) = self.place(mark, slot)?;
        self.buckets.get(at)?.values.get(position)?.as_ref()
    }

    /// The same, to put another of its hash in its place.
    pub(super) fn get_mut(&mut self, mark: u32, slot: u32) -> Option<&mut T> {
        let (at, position) = self.place(mark, slot)?;
        self.buckets.get_mut(at)?.values.get_mut(position)?.as_mut()
    }

    /// Whether it should be [split](Self::split) before anything is added.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.is_crowded() && self.buckets.len() >= BUCKETS
    }

    /// Five of seven: less than one lookup in five goes on to a second bucket then.
    #[inline]
    fn is_crowded(&self) -> bool {
        self.len.0 >= self.buckets.len().saturating_mul(PLACES - 2)
    }

    /// Adds what is in `slot`, which nothing was in.
    pub(super) fn insert(&mut self, mark: u32, slot: u32, value: T) {
        if self.is_crowded() {
            // Half as large again: less of it is empty than if it doubled.
            let count = self.buckets.len();
            let more = count.saturating_add(count / 2).saturating_add(1);
            let is_full = count >= BUCKETS;
            self.rebuild(if is_full { more } else { more.min(BUCKETS) });
        }
        self.add(mark, slot, value);
        self.len.0 = self.len.0.saturating_add(1);
    }

    /// Keeps what has a mark whose next bit is not set. Answers a segment of all else.
    pub(super) fn split(&mut self) -> Self {
        self.depth = self.depth.saturating_add(1);
        let mut other = Self::new(self.depth);
        let last = 1_u32.wrapping_shl(32_u32.saturating_sub(self.depth));
        let buckets = std::mem::take(&mut self.buckets);
        let count = buckets.len().saturating_mul(2).div_ceil(3);
        self.len = Len(0);
        self.rebuild(count);
        other.rebuild(count);
        for (mark, slot, value) in buckets.into_iter().flat_map(Bucket::items) {
            let half = if mark & last == 0 {
                &mut *self
            } else {
                &mut other
            };
            half.insert(mark, slot, value);
        }
        other
    }

    /// Takes out what is in `slot`, of this mark.
    pub(super) fn remove(&mut self, mark: u32, slot: u32) -> Option<T> {
        let place = self.place(mark, slot);
        debug_assert!(place.is_some(), "nothing is in slot {slot}");
        let (at, position) = place?;
        let home = self.home(mark);
        self.len.0 = self.len.0.saturating_sub(1);
        let (_, _, value) = self.lift((home, at), position)?;
        self.fill(at);
        Some(value)
    }

    /// Takes out what is at `position` of bucket `at`, where it came past the buckets from `past` on:
    /// its mark, its slot and itself.
    fn lift(&mut self, (past, at): (usize, usize), position: usize) -> Option<Item<T>> {
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

    /// Reads what it takes to add something of this mark, or to take it out.
    #[inline]
    pub(super) fn touch(&self, mark: u32) -> u32 {
        let bucket = self.buckets.get(self.home(mark));
        bucket.map_or(0, |it| it.passed() ^ it.slots[0])
    }

    /// The bucket and position of what is in `slot`, of this mark.
    fn place(&self, mark: u32, slot: u32) -> Option<(usize, usize)> {
        let mut way = self.way(mark);
        way.find_map(|at| Some((at, self.buckets.get(at)?.position(slot)?)))
    }

    /// The bucket that something with this mark belongs to: they share the marks evenly, in order.
    #[inline]
    fn home(&self, mark: u32) -> usize {
        let count = u64::try_from(self.buckets.len()).unwrap_or_default();
        let own = u64::from(mark.wrapping_shl(self.depth));
        usize::try_from((own * count) >> 32).unwrap_or_default()
    }

    /// The buckets that something with this mark may be in, the one it belongs to first.
    #[inline]
    fn way(&self, mark: u32) -> impl Iterator<Item = usize> + use<T, BUCKETS> {
        self.onwards(self.home(mark))
    }

    /// All buckets, from this one on.
    #[inline]
    fn onwards(&self, first: usize) -> impl Iterator<Item = usize> + use<T, BUCKETS> {
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

    /// Has so many buckets from here on.
    fn rebuild(&mut self, count: usize) {
        let mut rebuilt = Vec::with_capacity(count);
        rebuilt.resize_with(count, || Bucket::EMPTY);
        for bucket in std::mem::replace(&mut self.buckets, rebuilt) {
            for (mark, slot, value) in bucket.items() {
                self.add(mark, slot, value);
            }
        }
    }

    /// The marks of what is in it.
    #[cfg(test)]
    pub(super) fn marks(&self) -> Vec<u32> {
        let there = |it: &Bucket<T>| {
            (0..PLACES)
                .filter(|at| it.values[*at].is_some())
                .map(|at| it.marks[at])
                .collect::<Vec<_>>()
        };
        self.buckets.iter().flat_map(there).collect()
    }

    /// Buckets that something went past, of how many.
    #[cfg(test)]
    pub(super) fn passed(&self) -> (usize, usize) {
        let passed = self.buckets.iter().filter(|it| it.passed() > 0);
        (passed.count(), self.buckets.len())
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
                    let mark = bucket.marks[position];
                    let found = self.find(mark, |it| std::ptr::eq(it, value).then_some(it));
                    assert_eq!(found.map(|(slot, _)| slot), Some(slot));
                    let found = self.get(mark, slot);
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
        assert_eq!(self.len.0, len);
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

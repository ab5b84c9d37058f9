//! Where a resident is: from a hash to a slot, by one cache line.
//!
//! A bucket is a cache line of seven pointers, and of how many that belong to it, or to one before
//! it, had to go further. A lookup reads the line that its hash names and goes on to the next only
//! if something went on there, so that what is not there is known by one line, too. Taking a
//! pointer out takes back what it left on its way: there are no tombstones, and no table that has
//! to be made again because of them.
//!
//! Doubling splits each bucket into two, one half a table apart. All is read and written in order.

use super::NONE;

/// Pointers of a bucket.
const POINTERS: usize = 7;
/// A bit for each of them.
const ALL: u32 = (1 << POINTERS) - 1;

/// How a hash leads to a slot. A part of the hash is kept beside the slot, so that neither a probe
/// that fails nor a table that grows reads any resident.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Bucket {
    /// Of each pointer, and one that is nobody's.
    marks: [u32; POINTERS + 1],
    slots: [u32; POINTERS],
    /// Pointers that went past this bucket, as it was full.
    passed: u32,
}

const _: () = assert!(size_of::<Bucket>() == 64, "a bucket in two cache lines");

impl Bucket {
    const EMPTY: Self = Self {
        marks: [0; POINTERS + 1],
        slots: [NONE; POINTERS],
        passed: 0,
    };

    /// A bit for each pointer with this mark, and perhaps for some that lead nowhere.
    #[inline]
    fn alike(&self, mark: u32) -> u32 {
        alike(&self.marks, mark) & ALL
    }

    /// The position of the first pointer to `slot`.
    #[inline]
    fn position(&self, slot: u32) -> Option<usize> {
        let alike = alike(&self.slots, slot);
        let first = usize::try_from(alike.trailing_zeros()).ok()?;
        (first < POINTERS).then_some(first)
    }

    /// Writes a pointer at `position`.
    fn set(&mut self, position: usize, mark: u32, slot: u32) {
        if let (Some(old_mark), Some(old_slot)) =
            (self.marks.get_mut(position), self.slots.get_mut(position))
        {
            (*old_mark, *old_slot) = (mark, slot);
        }
    }
}

/// See the module's documentation. No two pointers lead to one slot.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// None, or a power of two of them.
    buckets: Vec<Bucket>,
    len: usize,
}

impl Table {
    /// The slot that `is_it` knows for its own, of those with the mark of `hash`.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mark = mark(hash);
        for at in self.way(mark) {
            let bucket = self.buckets.get(at)?;
            let mut alike = bucket.alike(mark);
            while alike != 0 {
                let position = usize::try_from(alike.trailing_zeros()).unwrap_or(POINTERS);
                let slot = bucket.slots.get(position).copied().unwrap_or(NONE);
                if is_it(slot) {
                    return Some(slot);
                }
                alike &= alike.wrapping_sub(1);
            }
            if bucket.passed == 0 {
                return None;
            }
        }
        None
    }

    /// Adds a pointer to `slot`, which none leads to yet.
    pub(super) fn insert(&mut self, hash: u64, slot: u32) {
        // Six of seven: hardly a lookup in ten reads a second line then.
        if self.len >= self.buckets.len().saturating_mul(POINTERS - 1) {
            self.double();
        }
        self.add(mark(hash), slot);
        self.len = self.len.saturating_add(1);
    }

    /// Takes out the pointer to `slot`, of a resident with this hash.
    pub(super) fn remove(&mut self, hash: u64, slot: u32) {
        let way = self.way(mark(hash));
        let found = way.clone().enumerate().find_map(|(passed, at)| {
            let position = self.buckets.get(at)?.position(slot)?;
            Some((passed, at, position))
        });
        let Some((passed, at, position)) = found else {
            debug_assert!(false, "nothing leads to slot {slot}");
            return;
        };
        for passed in way.take(passed) {
            if let Some(bucket) = self.buckets.get_mut(passed) {
                bucket.passed = bucket.passed.saturating_sub(1);
            }
        }
        if let Some(bucket) = self.buckets.get_mut(at) {
            bucket.set(position, 0, NONE);
        }
        self.len = self.len.saturating_sub(1);
    }

    /// The buckets that a pointer with this mark may be in, the one it belongs to first.
    #[inline]
    fn way(&self, mark: u32) -> impl Iterator<Item = usize> + Clone + use<> {
        let last = self.buckets.len().wrapping_sub(1);
        let home = usize::try_from(mark).unwrap_or_default();
        (0..self.buckets.len()).map(move |further| home.wrapping_add(further) & last)
    }

    fn add(&mut self, mark: u32, slot: u32) {
        for at in self.way(mark) {
            let Some(bucket) = self.buckets.get_mut(at) else {
                break;
            };
            if let Some(free) = bucket.position(NONE) {
                bucket.set(free, mark, slot);
                return;
            }
            bucket.passed = bucket.passed.saturating_add(1);
        }
        debug_assert!(false, "no room for slot {slot}");
    }

    fn double(&mut self) {
        let count = self.buckets.len().saturating_mul(2).max(1);
        let old = std::mem::replace(&mut self.buckets, vec![Bucket::EMPTY; count]);
        for bucket in old {
            for (mark, slot) in bucket.marks.into_iter().zip(bucket.slots) {
                if slot != NONE {
                    self.add(mark, slot);
                }
            }
        }
    }

    /// Pointers, after checking that each is found, and that nothing is said to have passed a
    /// bucket but what did.
    #[cfg(test)]
    pub(super) fn checked(&self) -> usize {
        let mut passed = vec![0; self.buckets.len()];
        let mut len = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            for (mark, slot) in bucket.marks.into_iter().zip(bucket.slots) {
                if slot != NONE {
                    len += 1;
                    assert_eq!(self.find(mark.into(), |it| it == slot), Some(slot));
                    for before in self.way(mark).take_while(|before| *before != at) {
                        passed[before] += 1;
                    }
                }
            }
        }
        let said: Vec<u32> = self.buckets.iter().map(|it| it.passed).collect();
        assert_eq!(said, passed);
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
            // Few low bits, so that buckets overflow; some hashes that differ beyond their marks.
            steps in prop::collection::vec((0_u64..40, 0_u64..3, any::<bool>()), 0..400),
        ) {
            let mut table = Table::default();
            let mut there: Vec<(u64, u32)> = Vec::new();
            for (slot, (low, high, puts)) in (0..).zip(steps) {
                let hash = low << 3 | high << 32;
                match there.iter().position(|(it, _)| *it == hash) {
                    Some(at) if !puts => {
                        let (hash, slot) = there.swap_remove(at);
                        table.remove(hash, slot);
                    }
                    None if puts => {
                        there.push((hash, slot));
                        table.insert(hash, slot);
                    }
                    _ => {}
                }
                prop_assert_eq!(table.checked(), there.len());
                for (hash, slot) in &there {
                    prop_assert_eq!(table.find(*hash, |it| it == *slot), Some(*slot));
                }
                let absent = 3 << 32 | low << 3;
                let is_it = |slot: u32| there.contains(&(absent, slot));
                prop_assert_eq!(table.find(absent, is_it), None);
            }
        }
    }

    #[test]
    fn an_empty_table_has_nothing() {
        let mut table = Table::default();
        assert_eq!(table.find(7, |_| true), None);
        table.insert(7, 0);
        table.remove(7, 0);
        assert_eq!((table.checked(), table.find(7, |it| it == 0)), (0, None));
    }

    #[test]
    fn few_lookups_read_a_second_line() {
        let mut table = Table::default();
        let hash = |slot: u32| u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        // The fullest that a table of 1,024 buckets gets.
        (0..6 * 1_024).for_each(|slot| table.insert(hash(slot), slot));
        assert_eq!(table.buckets.len(), 1_024);
        let passed: u32 = table.buckets.iter().map(|it| it.passed).sum();
        assert!(passed < 6 * 1_024 / 5, "{passed} steps further");
    }
}

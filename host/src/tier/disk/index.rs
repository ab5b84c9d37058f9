//! The index: where the record of each key lies, in 16 bytes a slot.
//!
//! It knows keys by 56 bits of their keyed hash; whoever reads a record compares the whole key. It
//! is split into shards, each an open-addressed table behind a lock of its own that is held for a
//! few probes. A shard grows by a quarter when 85 % of it are in use, so that a slot is paid for
//! with 18.8 to 23.6 bytes, and only one shard is ever there twice. What is loaded at a start finds
//! shards that were made for it at once: growing would leave holes in the memory of the process.
//!
//! ```text
//! name     tag 48 | expires 16            the shard is 8 more bits of the hash
//! place    segment 22 | unit 20 | units 17 | spare 1 | kind 2 | hits 2
//! ```

use super::format::{RecordKind, UNITS_MAX, long, short};
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::sync::{Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 256;
const SLOTS_MIN: usize = 8;
const TAG_BITS: u32 = 48;
const HITS: u64 = 0b11;

/// What is known by a hash: all of it that the index uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Hash(pub u64);

/// Hours since the start of 2020, after which an entry is of no use; zero: it does not end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hour(pub u16);

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The segment.
    pub segment: u32,
    /// The first unit of the record in it.
    pub unit: u32,
    /// Units of the record.
    pub units: u32,
    /// Whole, parent or tombstone.
    pub kind: RecordKind,
}

/// What becomes of the hits of a record that is written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hits {
    /// It begins anew: they were counted since it was written.
    Forgotten,
    /// Part of it lies where it did, and those hits speak for that part too.
    Kept,
}

/// A slot that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Where the record lies.
    pub place: Place,
    /// When it is of no use any more.
    pub expires: Hour,
    /// How often it was looked up since it was written, 3 at most.
    pub hits: u64,
}

/// Where everything lies.
#[derive(Debug)]
pub(super) struct Index {
    shards: Box<[Shard]>,
}

#[derive(Debug, Default)]
struct Shard {
    table: Mutex<Table>,
    entries: AtomicU64,
    slots: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    name: u64,
    /// Zero in a slot that is not in use: no record begins where the superblock is.
    place: u64,
}

#[derive(Debug, Default)]
struct Table {
    slots: Box<[Slot]>,
    used: usize,
}

impl Hash {
    /// The part of `hash` that the index uses.
    pub(super) const fn of(hash: u64) -> Self {
        Self(hash & !0xff)
    }

    fn shard(self) -> usize {
        short(self.0 >> 56)
    }

    const fn tag(self) -> u64 {
        (self.0 << 8) >> 16
    }
}

impl Hour {
    const EPOCH_MS: u64 = 1_577_836_800_000;
    const HOUR_MS: u64 = 3_600_000;

    /// The hour that ends at `at` or later, milliseconds since the Unix epoch.
    pub(super) fn ending(at: Option<u64>) -> Self {
        let hours = |at: u64| at.saturating_sub(Self::EPOCH_MS) / Self::HOUR_MS + 1;
        // What ends later than can be said does not end.
        Self(at.map_or(0, |at| u16::try_from(hours(at)).unwrap_or(0)))
    }

    /// Seconds until it ends, from `now` in milliseconds since the Unix epoch; none if it does not.
    pub(super) fn left(self, now: u64) -> Option<u64> {
        let ends = Self::EPOCH_MS + u64::from(self.0) * Self::HOUR_MS;
        (self.0 != 0).then(|| ends.saturating_sub(now) / 1_000)
    }

    /// Whether it has ended at `now`, milliseconds since the Unix epoch.
    pub(super) fn is_over(self, now: u64) -> bool {
        self.0 != 0 && Self::EPOCH_MS + u64::from(self.0) * Self::HOUR_MS <= now
    }
}

impl Place {
    fn pack(self) -> u64 {
        debug_assert!(u64::from(self.units) <= UNITS_MAX && self.segment < 1 << 22);
        let kind = match self.kind {
            RecordKind::Whole => 0,
            RecordKind::Parent => 1,
            RecordKind::Tombstone | RecordKind::Extent => 2,
        };
        u64::from(self.segment) << 42
            | (u64::from(self.unit) & 0xf_ffff) << 22
            | (u64::from(self.units) & UNITS_MAX) << 5
            | kind << 2
    }

    fn unpack(packed: u64) -> Self {
        let part = |bits: u64| u32::try_from(bits).unwrap_or(u32::MAX);
        Self {
            segment: part(packed >> 42),
            unit: part(packed >> 22 & 0xf_ffff),
            units: part(packed >> 5 & UNITS_MAX),
            kind: match packed >> 2 & 3 {
                0 => RecordKind::Whole,
                1 => RecordKind::Parent,
                _ => RecordKind::Tombstone,
            },
        }
    }
}

impl Slot {
    fn new(hash: Hash, place: Place, expires: Hour) -> Self {
        Self {
            name: hash.tag() << 16 | u64::from(expires.0),
            place: place.pack(),
        }
    }

    const fn is_used(self) -> bool {
        self.place != 0
    }

    const fn tag(self) -> u64 {
        self.name >> 16
    }

    fn lies_at(self, place: Place) -> bool {
        self.place & !HITS == place.pack()
    }

    fn found(self) -> Found {
        Found {
            place: Place::unpack(self.place),
            expires: Hour(u16::try_from(self.name & 0xffff).unwrap_or_default()),
            hits: self.place & HITS,
        }
    }
}

impl Default for Index {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
        }
    }
}

impl Index {
    fn shard(&self, hash: Hash) -> &Shard {
        self.shards
            .get(hash.shard())
            .expect("eight bits number 256 shards")
    }

    /// Makes room for `entries` at once, if there are none yet.
    pub(super) fn reserve(&self, entries: u64) {
        let mean = entries.div_ceil(long(SHARDS));
        // Hashes do not spread evenly: by three standard deviations, hardly a shard has to grow.
        let most = mean + 3 * mean.isqrt();
        let slots = short(most.saturating_mul(100) / 85 + 1).max(SLOTS_MIN);
        for shard in &self.shards {
            let mut table = shard.lock();
            if table.used == 0 {
                *table = Table::with_slots(slots);
                shard.count(&table);
            }
        }
    }

    /// Gives back room of shards that are hardly half full.
    pub(super) fn fit(&self) {
        for shard in &self.shards {
            let mut table = shard.lock();
            if table.used * 100 < table.slots.len() * 55 {
                let used = table.slots.iter().filter(|slot| slot.is_used());
                *table = Table::of(&used.copied().collect::<Vec<_>>());
                shard.count(&table);
            }
        }
    }

    /// Where the record under `hash` lies.
    pub(super) fn get(&self, hash: Hash) -> Option<Found> {
        let table = self.shard(hash).lock();
        table.find(hash).map(|(_, slot)| slot.found())
    }

    /// The same, and counts a hit.
    pub(super) fn hit(&self, hash: Hash) -> Option<Found> {
        let mut table = self.shard(hash).lock();
        let (at, _) = table.find(hash)?;
        let slot = table.slots.get_mut(at)?;
        if slot.place & HITS != HITS {
            slot.place += 1;
        }
        Some(slot.found())
    }

    /// Puts `place` under `hash`, whatever was there.
    pub(super) fn insert(&self, hash: Hash, place: Place, expires: Hour) {
        self.insert_if(hash, place, expires, |_| true);
    }

    /// Puts `place` under `hash` if `replaces` says so of what is there, or nothing is.
    pub(super) fn insert_if(
        &self,
        hash: Hash,
        place: Place,
        expires: Hour,
        replaces: impl FnOnce(Found) -> bool,
    ) -> bool {
        let shard = self.shard(hash);
        let mut table = shard.lock();
        let new = Slot::new(hash, place, expires);
        match table.find(hash) {
            Some((_, slot)) if !replaces(slot.found()) => return false,
            Some((at, _)) => {
                if let Some(slot) = table.slots.get_mut(at) {
                    *slot = new;
                }
            }
            None => table.add(new),
        }
        shard.count(&table);
        true
    }

    /// Puts `place` where `was` is.
    pub(super) fn replace(&self, hash: Hash, was: Place, place: Place, hits: Hits) -> bool {
        let mut table = self.shard(hash).lock();
        let Some((at, slot)) = table.find(hash) else {
            return false;
        };
        if !slot.lies_at(was) {
            return false;
        }
        let kept = match hits {
            Hits::Forgotten => 0,
            Hits::Kept => slot.place & HITS,
        };
        if let Some(slot) = table.slots.get_mut(at) {
            slot.place = place.pack() | kept;
        }
        true
    }

    /// Forgets what is under `hash`. Whether anything was.
    pub(super) fn remove(&self, hash: Hash) -> bool {
        self.remove_if(hash, |_| true)
    }

    /// Forgets what is under `hash` if it lies at `place`.
    pub(super) fn remove_at(&self, hash: Hash, place: Place) -> bool {
        self.remove_if(hash, |slot| slot.lies_at(place))
    }

    fn remove_if(&self, hash: Hash, matches: impl FnOnce(Slot) -> bool) -> bool {
        let shard = self.shard(hash);
        let mut table = shard.lock();
        match table.find(hash) {
            Some((at, slot)) if matches(slot) => table.take(at),
            _ => return false,
        }
        shard.count(&table);
        true
    }

    /// Forgets whatever `drops` says. How much that was.
    pub(super) fn sweep(&self, mut drops: impl FnMut(Found) -> bool) -> u64 {
        let mut dropped = 0;
        for shard in &self.shards {
            let mut table = shard.lock();
            let kept: Vec<Slot> = table
                .slots
                .iter()
                .filter(|slot| slot.is_used() && !drops(slot.found()))
                .copied()
                .collect();
            if kept.len() == table.used {
                continue;
            }
            dropped += long(table.used - kept.len());
            *table = Table::of(&kept);
            shard.count(&table);
        }
        dropped
    }

    /// Entries.
    pub(super) fn entries(&self) -> u64 {
        let entries = self.shards.iter().map(|shard| shard.entries.load(Relaxed));
        entries.sum()
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> u64 {
        let slots = self.shards.iter().map(|shard| shard.slots.load(Relaxed));
        slots.sum::<u64>() * long(size_of::<Slot>()) + long(SHARDS * size_of::<Shard>())
    }
}

impl Shard {
    /// The table is whole between any two statements of whoever holds it.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, table: &Table) {
        self.entries.store(long(table.used), Relaxed);
        self.slots.store(long(table.slots.len()), Relaxed);
    }
}

impl Table {
    fn with_slots(slots: usize) -> Self {
        Self {
            slots: vec![Slot::default(); slots].into(),
            used: 0,
        }
    }

    fn of(slots: &[Slot]) -> Self {
        let mut table = Self::with_slots((slots.len() * 4 / 3 + 1).max(SLOTS_MIN));
        for slot in slots {
            table.place(*slot);
        }
        table
    }

    /// Where the search for `tag` begins: in the order of tags, so that a table of any length does.
    fn home(&self, tag: u64) -> usize {
        let scaled = (u128::from(tag) * u128::from(long(self.slots.len()))) >> TAG_BITS;
        usize::try_from(scaled).unwrap_or_default()
    }

    fn next(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() {
            0
        } else {
            at + 1
        }
    }

    fn find(&self, hash: Hash) -> Option<(usize, Slot)> {
        let tag = hash.tag();
        let mut at = self.home(tag);
        // There is always a slot that is not in use.
        loop {
            let slot = *self.slots.get(at)?;
            if !slot.is_used() {
                return None;
            }
            if slot.tag() == tag {
                return Some((at, slot));
            }
            at = self.next(at);
        }
    }

    /// Adds a slot whose tag is not there.
    fn add(&mut self, slot: Slot) {
        if (self.used + 1) * 100 > self.slots.len() * 85 {
            let slots = (self.slots.len() + self.slots.len() / 4 + 1).max(SLOTS_MIN);
            let old = std::mem::replace(self, Self::with_slots(slots));
            let used = old.slots.iter().filter(|slot| slot.is_used());
            used.for_each(|slot| self.place(*slot));
        }
        self.place(slot);
    }

    fn place(&mut self, slot: Slot) {
        let mut at = self.home(slot.tag());
        while self.slots.get(at).is_some_and(|slot| slot.is_used()) {
            at = self.next(at);
        }
        if let Some(free) = self.slots.get_mut(at) {
            *free = slot;
            self.used += 1;
        }
    }

    /// Empties the slot at `hole`, and moves up what would not be found behind it.
    fn take(&mut self, mut gap: usize) {
        let mut at = gap;
        loop {
            at = self.next(at);
            let Some(slot) = self.slots.get(at).copied().filter(|slot| slot.is_used()) else {
                break;
            };
            let home = self.home(slot.tag());
            let stays = if gap <= at {
                gap < home && home <= at
            } else {
                gap < home || home <= at
            };
            if !stays {
                self.slots.swap(gap, at);
                gap = at;
            }
        }
        if let Some(slot) = self.slots.get_mut(gap) {
            *slot = Slot::default();
            self.used -= 1;
        }
    }
}

#[cfg(test)]
mod tests;

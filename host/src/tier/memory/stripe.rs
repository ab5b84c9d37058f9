//! One stripe: the table of its residents in native (LRU) order, and everything that must change
//! together with it, behind one mutex.
//!
//! Nothing here waits, does I/O or calls out. Entries that leave are handed to the caller in a
//! [`Departed`], which frees them after the lock and keeps their budget until then.
//! `INVARIANT`: every resident has one slot, every slot in use one resident, and the gauges are
//! the sums over the residents.

#[cfg(test)]
mod audit;
mod sites;
pub(super) mod sweep;
pub(super) mod walk;

use std::borrow::Borrow;

use smallvec::SmallVec;

use super::budget::{Budget, Hold};
use super::events::{EventLog, Recording, Wake};
use super::residents::{Resident, Residents, Use};
use super::tags::TagIndex;
use crate::entry::{Content, Entry, KeyView};
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use sites::Sites;
use sweep::Sweeps;

/// Entries that one hold of the lock removes at most, so that a hit waits for a microsecond.
pub(super) const CHUNK: usize = 8;
/// Slots that one hold of the lock looks at, at most.
pub(super) const SLOTS: u32 = 512;

/// Lookups of a stripe, counted under its lock and read without it.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    /// Those that found an entry.
    pub(super) hits: AtomicU64,
    /// Those that did not.
    pub(super) misses: AtomicU64,
}

/// Numbers of a stripe that are read without its lock and written only under it.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    /// Bytes charged to the residents.
    pub(super) bytes: AtomicU64,
    /// Residents.
    pub(super) entries: AtomicU64,
    /// Hits that the log had no room for.
    pub(super) lost_events: AtomicU64,
    /// Purges that have still to be carried out.
    pub(super) sweeps: AtomicU64,
    /// Slots that they have still to look at.
    pub(super) unswept: AtomicU64,
}

/// Adds under the stripe's lock, which makes the caller the only writer: no locked instruction.
fn add(gauge: &AtomicU64, more: u64) {
    gauge.store(gauge.load(Relaxed).wrapping_add(more), Relaxed);
}

fn sub(gauge: &AtomicU64, less: u64) {
    debug_assert!(gauge.load(Relaxed) >= less, "a gauge fell below zero");
    gauge.store(gauge.load(Relaxed).saturating_sub(less), Relaxed);
}

/// What the lock is for, in the order in which it is written.
#[derive(Debug)]
#[repr(C)]
struct State {
    events: EventLog,
    accesses: u64,
    insertions: u64,
    residents: Residents,
    sweeps: Sweeps,
    tags: TagIndex,
    sites: Sites,
}

impl State {
    fn new(slots_max: u32) -> Self {
        Self {
            residents: Residents::new(slots_max),
            tags: TagIndex::default(),
            sites: Sites::default(),
            events: EventLog::default(),
            sweeps: Sweeps::default(),
            accesses: 0,
            insertions: 0,
        }
    }
}

/// A stripe. Aligned so that two stripes never share a cache line.
///
/// What one CPU has written another waits for, line by line, and longer than anything else takes in
/// a lookup. So under a guest order all that most lookups write here is in the line of the lock, which
/// they have to wait for anyway; in native order they also write how often there was one, and the
/// order.
#[derive(Debug)]
#[repr(C, align(128))]
pub(super) struct Stripe {
    /// Read without the lock.
    pub(super) lookups: Lookups,
    state: Mutex<State>,
    /// Read without the lock.
    pub(super) gauges: Gauges,
    /// Slots are below this number.
    pub(super) slots_max: u32,
}

impl Stripe {
    /// An empty stripe.
    pub(super) fn new(slots_max: u32) -> Self {
        Self {
            lookups: Lookups::default(),
            state: Mutex::new(State::new(slots_max)),
            gauges: Gauges::default(),
            slots_max,
        }
    }

    /// Locks the stripe. If a panic left it half changed it is emptied first, which `reset` hears
    /// of: what it held is gone and `budget` has it back.
    #[inline]
    pub(super) fn lock(&self, budget: &Budget, reset: impl FnOnce()) -> Locked<'_> {
        match self.state.lock() {
            Ok(state) => self.locked(state),
            Err(poisoned) => {
                let locked = self.emptied(PoisonError::into_inner(poisoned), budget);
                reset();
                locked
            }
        }
    }

    fn locked<'a>(&'a self, state: MutexGuard<'a, State>) -> Locked<'a> {
        Locked {
            state,
            stripe: self,
            wake: Wake::No,
        }
    }

    #[cold]
    fn emptied<'a>(&'a self, state: MutexGuard<'a, State>, budget: &Budget) -> Locked<'a> {
        let mut locked = self.locked(state);
        locked.reset(budget);
        self.state.clear_poison();
        locked
    }
}

/// Entries that leave at once: no more than a hold of the lock removes, as a rule.
pub(super) type Leavers = SmallVec<[Arc<Entry>; CHUNK]>;

/// Entries that left a stripe. Dropped after the lock is: freeing takes time.
#[derive(Debug)]
pub(super) struct Departed<'a> {
    /// The budget they had, and whatever else the operation holds.
    pub(super) hold: Hold<'a>,
    /// The entries.
    pub(super) entries: Leavers,
}

impl<'a> Departed<'a> {
    /// Nobody yet.
    pub(super) fn new(budget: &'a Budget) -> Self {
        Self {
            hold: Hold::new(budget),
            entries: Leavers::new(),
        }
    }

    fn take(&mut self, entry: Arc<Entry>, charge: u64) {
        self.hold.absorb(charge, 1);
        self.entries.push(entry);
    }
}

impl Drop for Departed<'_> {
    fn drop(&mut self) {
        touch(&self.entries);
    }
}

/// Reads what dropping these, or making others in their place, is going to read. They are those used
/// the longest time ago, and memory answers several that ask at once almost as soon as one.
pub(super) fn touch(entries: &[Arc<Entry>]) {
    if entries.len() > 1 {
        let is_response = |it: &Entry| u64::from(matches!(it.content, Content::Response(_)));
        let read = entries
            .iter()
            .fold(0, |read, it| read ^ it.charge() ^ is_response(it));
        std::hint::black_box(read);
    }
}

/// A stripe's whole content, taken out at once.
#[derive(Debug)]
pub(super) struct Contents {
    state: State,
    /// Entries in it.
    pub(super) entries: u64,
    /// Bytes they were charged.
    pub(super) bytes: u64,
}

/// Whether the guest order must hear that an entry left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    /// It did not name the entry.
    Order,
    /// It named the entry, and forgot it by doing so.
    Nobody,
}

/// What came of a slot that an order named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// It left: its charge, and the number of its insertion.
    Left(u64, u64),
    /// It was freed or filled again after the order last looked.
    Changed,
}

/// A locked stripe.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    state: MutexGuard<'a, State>,
    stripe: &'a Stripe,
    wake: Wake,
}

impl Locked<'_> {
    /// Unlocks, and says whether the eviction thread should be woken.
    pub(super) fn unlock(self) -> Wake {
        self.wake
    }

    /// Looks up, counts it, and answers what `take` makes of the entry. A hash that belongs to another
    /// key is a miss.
    #[inline]
    pub(super) fn lookup<'a, R: Borrow<Arc<Entry>>>(
        &'a mut self,
        key: KeyView<'_>,
        take: impl Fn(&'a Arc<Entry>) -> R,
    ) -> Option<R> {
        let state = &mut *self.state;
        let lookups = &self.stripe.lookups;
        let by = if state.events.recording() == Recording::On {
            // Other residents are not touched for an order that nobody asks for.
            Use::Mark
        } else {
            state.accesses = state.accesses.wrapping_add(1);
            Use::Access(state.accesses)
        };
        let Some((slot, entry)) = state.residents.hit(key, by, take) else {
            add(&lookups.misses, 1);
            return None;
        };
        add(&lookups.hits, 1);
        match state.events.hit(slot) {
            Ok(Wake::No) => {}
            Ok(Wake::Yes) => self.wake = Wake::Yes,
            Err(_) => add(&self.stripe.gauges.lost_events, 1),
        }
        Some(entry)
    }

    /// Reads what a lookup of a key with this hash, and a put of what it misses, are going to read.
    #[inline]
    pub(super) fn touch(&self, hash: u64) {
        self.state.residents.touch(hash);
    }

    /// Looks without a trace.
    pub(super) fn peek(&self, key: KeyView<'_>) -> Option<&Arc<Entry>> {
        self.state.residents.lookup(key).map(|(_, entry)| entry)
    }

    /// The slot of the resident with this hash.
    pub(super) fn slot_of(&self, hash: u64) -> Option<u32> {
        self.state.residents.find(hash).map(|(slot, _)| slot)
    }

    /// The budget, in bytes and entries, that an entry has which replaces the one in `old`.
    pub(super) fn frees(&self, old: Option<u32>) -> (u64, u64) {
        let old = old.and_then(|slot| self.state.residents.at(slot));
        old.map_or((0, 0), |old| (old.charge, 1))
    }

    /// Whether there is a slot for an entry: that of the one it replaces, or another.
    pub(super) fn has_slot(&self, old: Option<u32>) -> bool {
        old.is_some() || self.state.residents.vacancy().is_some()
    }

    /// Makes `entry` resident, in place of the one with the same hash, in `old`, if there is one. The
    /// caller has checked [`Self::has_slot`] and holds the budget for what [`Self::frees`] does not
    /// cover.
    pub(super) fn insert(
        &mut self,
        entry: Arc<Entry>,
        old: Option<u32>,
        lifetime: Option<u64>,
        departed: &mut Departed<'_>,
    ) {
        let state = &mut *self.state;
        let hash = entry.key.view().hash;
        let charge = entry.charge();
        debug_assert_eq!(
            old,
            state.residents.find(hash).map(|(slot, _)| slot),
            "another is replaced"
        );
        let Some(slot) = old.or(state.residents.vacancy()) else {
            debug_assert!(false, "an insert without a slot");
            return;
        };
        if let Some(old) = old.and_then(|slot| state.residents.at(slot)) {
            state.tags.unlink(old.tags, old.charge);
            state.sites.leave(old.site, old.charge);
        }
        let (site, tags) = (entry.site, state.tags.link(slot, &entry.tags, charge));
        state.sites.join(site, charge);
        if state.events.insert(slot, hash, charge, lifetime) == Wake::Yes {
            self.wake = Wake::Yes;
        }
        state.accesses = state.accesses.wrapping_add(1);
        state.insertions = state.insertions.wrapping_add(1);
        let newcomer = Resident {
            charge,
            hash,
            inserted: state.insertions,
            last_access: state.accesses,
            site,
            tags,
        };
        let replaced = state.residents.put(slot, entry, newcomer);
        let gauges = &self.stripe.gauges;
        departed
            .hold
            .spend_after(charge, replaced.as_ref().map(|(_, old)| old.charge));
        add(&gauges.bytes, charge);
        match replaced {
            Some((entry, old)) => {
                sub(&gauges.bytes, old.charge);
                departed.entries.push(entry);
            }
            None => add(&gauges.entries, 1),
        }
    }

    /// Removes the entry of exactly this key.
    pub(super) fn remove(&mut self, key: KeyView<'_>, departed: &mut Departed<'_>) -> Option<u64> {
        let charge = self.peek(key)?.charge();
        self.take(key.hash, departed);
        Some(charge)
    }

    /// Removes whatever has this hash.
    pub(super) fn take(&mut self, hash: u64, departed: &mut Departed<'_>) {
        if let Some(slot) = self.slot_of(hash) {
            self.depart(slot, Tell::Order, departed);
        }
    }

    /// Evicts the least recently used resident and answers its charge.
    pub(super) fn evict_oldest(&mut self, departed: &mut Departed<'_>) -> Option<u64> {
        let state = &mut *self.state;
        let Some(slot) = state.residents.oldest(&mut state.accesses) else {
            // An empty stripe holds nothing: were its gauges wrong, callers would ask it for ever.
            let bytes = self.stripe.gauges.bytes.swap(0, Relaxed);
            let entries = self.stripe.gauges.entries.swap(0, Relaxed);
            debug_assert!(
                bytes == 0 && entries == 0,
                "an empty stripe with {bytes} bytes"
            );
            departed.hold.absorb(bytes, entries);
            return None;
        };
        self.depart(slot, Tell::Order, departed)
            .map(|(charge, _)| charge)
    }

    /// Reads what [`Self::evict_named`] is going to read of these slots. Memory answers several that
    /// ask at once almost as soon as one, and the lock is held the shorter.
    pub(super) fn touch_slots(&self, slots: &[u32]) {
        self.state.residents.touch_slots(slots);
    }

    /// Evicts the resident that an order named by its slot, unless the slot changed hands after
    /// insertion number `horizon`.
    pub(super) fn evict_named(
        &mut self,
        slot: u32,
        horizon: u64,
        departed: &mut Departed<'_>,
    ) -> Named {
        let resident = self.state.residents.at(slot);
        if resident.is_none_or(|it| it.inserted > horizon) {
            return Named::Changed;
        }
        match self.depart(slot, Tell::Nobody, departed) {
            Some((charge, inserted)) => Named::Left(charge, inserted),
            None => Named::Changed,
        }
    }

    /// Takes out the resident in `slot`. Answers its charge and the number of its insertion.
    fn depart(&mut self, slot: u32, tell: Tell, departed: &mut Departed<'_>) -> Option<(u64, u64)> {
        let state = &mut *self.state;
        let (entry, resident) = state.residents.take(slot)?;
        let (charge, inserted) = (resident.charge, resident.inserted);
        state.tags.unlink(resident.tags, charge);
        state.sites.leave(resident.site, charge);
        if tell == Tell::Order && state.events.remove(slot) == Wake::Yes {
            self.wake = Wake::Yes;
        }
        let gauges = &self.stripe.gauges;
        sub(&gauges.bytes, charge);
        sub(&gauges.entries, 1);
        departed.take(entry, charge);
        Some((charge, inserted))
    }

    /// Takes everything out at once. A listening order falls behind.
    pub(super) fn empty(&mut self, budget: &Budget) -> Contents {
        let mut fresh = State::new(self.stripe.slots_max);
        // The counters go on, so that a horizon taken before stays older than what comes after.
        fresh.accesses = self.state.accesses;
        fresh.insertions = self.state.insertions;
        fresh.sweeps = self.state.sweeps.successor();
        std::mem::swap(&mut fresh.events, &mut self.state.events);
        fresh.events.fall_behind();
        let state = std::mem::replace(&mut *self.state, fresh);
        let gauges = &self.stripe.gauges;
        let entries = gauges.entries.swap(0, Relaxed);
        let bytes = gauges.bytes.swap(0, Relaxed);
        budget.release(bytes, entries);
        self.wake = Wake::Yes;
        self.note_sweeps();
        Contents {
            state,
            entries,
            bytes,
        }
    }

    /// Replaces a state that a panic may have left half changed.
    fn reset(&mut self, budget: &Budget) {
        // Its table was not half changed itself: nothing that it calls can panic.
        drop(self.empty(budget));
    }

    /// Starts recording events for an order that knows no resident yet.
    pub(super) fn start_recording(&mut self) {
        self.state.events.start();
    }

    /// Stops recording.
    pub(super) fn stop_recording(&mut self) {
        self.state.events.stop();
    }

    /// Takes the events recorded so far. `None` if they are incomplete.
    pub(super) fn take_events(&mut self, spare: &mut Vec<u64>) -> Option<u64> {
        if self.state.events.recording() != Recording::On {
            return None;
        }
        self.state.events.swap(spare);
        Some(self.state.insertions)
    }
}

//! What an eviction domain may use, in bytes and in entries, and who holds how much of it.
//!
//! A [`Hold`] owns a part of the budget and gives it back when dropped, so no path can forget to.
//! Bytes and entries are acquired before anything becomes resident: use never exceeds the capacity,
//! not even between two instructions. A limit below the capacity takes what is free from it at once,
//! and what is given back until they are the same.

use super::lock;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use crate::sync::{Mutex, MutexGuard};

/// The budget of one domain. In cache lines of its own: every put writes to it, and what lies
/// beside it every lookup reads.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Budget {
    bytes: AtomicU64,
    entries: AtomicU64,
    reserved: AtomicU64,
    /// Bytes that can be acquired.
    ///
    /// INVARIANT: with `bytes` never more than `capacity`.
    free: AtomicU64,
    /// Bytes that may be in use. Below `capacity` only while the domain is being shrunk.
    limit: AtomicU64,
    /// The capacity that is shown.
    capacity: AtomicU64,
    /// Held by who changes the limit or the capacity.
    resizing: Mutex<()>,
    max_entries: u64,
}

impl Budget {
    /// An unused budget.
    pub(super) fn new(capacity: u64, max_entries: u64) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
            free: AtomicU64::new(capacity),
            limit: AtomicU64::new(capacity),
            capacity: AtomicU64::new(capacity),
            resizing: Mutex::new(()),
            max_entries,
        }
    }

    /// Bytes in use, reservations included.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Entries in use.
    pub(super) fn entries(&self) -> u64 {
        self.entries.load(Relaxed)
    }

    /// Bytes reserved for responses that are still arriving.
    pub(super) fn reserved(&self) -> u64 {
        self.reserved.load(Relaxed)
    }

    /// Bytes that may be in use.
    pub(super) fn limit(&self) -> u64 {
        self.limit.load(SeqCst)
    }

    /// The capacity to show.
    pub(super) fn capacity(&self) -> u64 {
        self.capacity.load(SeqCst)
    }

    /// Entries that may be in use.
    pub(super) fn max_entries(&self) -> u64 {
        self.max_entries
    }

    /// Whether nothing can ever be held.
    pub(super) fn is_disabled(&self) -> bool {
        self.limit() == 0 || self.max_entries == 0
    }

    /// Bytes in use and the capacity to show, which is never less.
    pub(super) fn use_and_capacity(&self) -> (u64, u64) {
        // It changes one way at a time, and use keeps to both.
        let before = self.capacity();
        let bytes = self.bytes();
        (bytes, before.max(self.capacity()))
    }

    /// Changes the limit. After a reduction use may be above it until the caller has evicted, and
    /// the capacity follows what leaves.
    pub(super) fn set_limit(&self, bytes: u64) {
        let turn = lock(&self.resizing);
        self.limit.store(bytes, SeqCst);
        if let Some(more) = bytes.checked_sub(self.capacity()) {
            self.capacity.store(bytes, SeqCst);
            self.free.fetch_add(more, SeqCst);
        } else {
            self.withdraw(&turn);
        }
    }

    /// Gives back what an entry or a hold had.
    pub(super) fn release(&self, bytes: u64, entries: u64) {
        let had_bytes = self.bytes.fetch_sub(bytes, Relaxed);
        let had_entries = self.entries.fetch_sub(entries, Relaxed);
        debug_assert!(
            had_bytes >= bytes && had_entries >= entries,
            "released more than was held"
        );
        // Before it is asked whether the limit was lowered: who lowers it asks what is free after.
        self.free.fetch_add(bytes, SeqCst);
        if self.limit() < self.capacity() {
            self.withdraw(&lock(&self.resizing));
        }
    }

    /// Takes what is free from the capacity, as far as that is above the limit.
    fn withdraw(&self, _turn: &MutexGuard<'_, ()>) {
        let excess = self.capacity().saturating_sub(self.limit());
        let rest = |free: u64| Some(free.saturating_sub(excess));
        let free = self.free.fetch_update(SeqCst, SeqCst, rest);
        let taken = free.unwrap_or_default().min(excess);
        self.capacity.fetch_sub(taken, SeqCst);
    }

    fn acquire_bytes(&self, bytes: u64) -> bool {
        let less = |free: u64| free.checked_sub(bytes);
        let acquired = bytes == 0 || self.free.fetch_update(Relaxed, Relaxed, less).is_ok();
        if acquired {
            self.bytes.fetch_add(bytes, Relaxed);
        }
        acquired
    }

    fn acquire_entries(&self, entries: u64) -> bool {
        let grown = |used: u64| used.checked_add(entries);
        let grown = |used| grown(used).filter(|sum| *sum <= self.max_entries);
        entries == 0 || self.entries.fetch_update(Relaxed, Relaxed, grown).is_ok()
    }
}

/// A part of a budget that belongs to one operation. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Hold<'a> {
    budget: &'a Budget,
    bytes: u64,
    entries: u64,
}

impl<'a> Hold<'a> {
    /// Holds nothing yet.
    pub(super) fn new(budget: &'a Budget) -> Self {
        Self {
            budget,
            bytes: 0,
            entries: 0,
        }
    }

    /// Takes over what was acquired elsewhere: a reservation, or an entry that left.
    pub(super) fn absorb(&mut self, bytes: u64, entries: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.entries = self.entries.saturating_add(entries);
    }

    /// Makes the hold at least this large if the budget allows, and says what is missing if not.
    pub(super) fn top_up(&mut self, bytes: u64, entries: u64) -> Result<(), Short> {
        let missing = entries.saturating_sub(self.entries);
        if !self.budget.acquire_entries(missing) {
            return Err(Short::Entries);
        }
        self.entries = self.entries.saturating_add(missing);
        let missing = bytes.saturating_sub(self.bytes);
        if !self.budget.acquire_bytes(missing) {
            return Err(Short::Bytes);
        }
        self.bytes = self.bytes.saturating_add(missing);
        Ok(())
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Entries held.
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// Hands `bytes` over to a reservation, which answers for them from now on.
    pub(super) fn reserve(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.bytes, "reserved more than was held");
        self.bytes = self.bytes.saturating_sub(bytes);
        self.budget.reserved.fetch_add(bytes, Relaxed);
    }

    /// Takes the bytes of a reservation over.
    pub(super) fn take_reserved(&mut self, bytes: u64) {
        self.budget.reserved.fetch_sub(bytes, Relaxed);
        self.absorb(bytes, 0);
    }

    /// Hands the charge of one new resident over to it, and takes that of the one it replaced.
    pub(super) fn spend_after(&mut self, charge: u64, replaced: Option<u64>) {
        let (freed, entries) = replaced.map_or((0, 1), |freed| (freed, 0));
        self.absorb(freed, 0);
        debug_assert!(
            charge <= self.bytes && entries <= self.entries,
            "spent more than was held"
        );
        self.bytes = self.bytes.saturating_sub(charge);
        self.entries = self.entries.saturating_sub(entries);
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 || self.entries > 0 {
            self.budget.release(self.bytes, self.entries);
        }
    }
}

/// Which of the two budgets had no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Short {
    /// Bytes.
    Bytes,
    /// Entries.
    Entries,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_gives_back_what_it_did_not_spend() {
        let budget = Budget::new(100, 3);
        {
            let mut hold = Hold::new(&budget);
            assert_eq!(hold.top_up(60, 1), Ok(()));
            assert_eq!((budget.bytes(), budget.entries()), (60, 1));
            hold.spend_after(40, None);
        }
        assert_eq!((budget.bytes(), budget.entries()), (40, 1));
        {
            let mut hold = Hold::new(&budget);
            assert_eq!(hold.top_up(0, 0), Ok(()));
            hold.spend_after(30, Some(40));
        }
        assert_eq!((budget.bytes(), budget.entries()), (30, 1));
    }

    #[test]
    fn nothing_is_acquired_beyond_a_limit() {
        let check = |bytes, entries, expected| {
            let budget = Budget::new(100, 3);
            let mut hold = Hold::new(&budget);
            assert_eq!(
                hold.top_up(bytes, entries),
                expected,
                "{bytes} bytes, {entries} entries"
            );
            assert!(budget.bytes() <= 100 && budget.entries() <= 3);
        };
        check(100, 3, Ok(()));
        check(101, 3, Err(Short::Bytes));
        check(u64::MAX, 3, Err(Short::Bytes));
        check(100, 4, Err(Short::Entries));
    }

    #[test]
    fn the_shown_capacity_follows_use_down() {
        let budget = Budget::new(100, 3);
        let mut hold = Hold::new(&budget);
        assert_eq!(hold.top_up(80, 1), Ok(()));
        budget.set_limit(50);
        assert_eq!((budget.limit(), budget.capacity()), (50, 80));
        assert_eq!(Hold::new(&budget).top_up(1, 0), Err(Short::Bytes));
        drop(hold);
        assert_eq!((budget.limit(), budget.capacity()), (50, 50));
        budget.set_limit(70);
        assert_eq!((budget.limit(), budget.capacity()), (70, 70));
    }
}

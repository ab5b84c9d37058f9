//! Who sets the pace of a domain, and what follows from it: the time it goes by, and how much of
//! its budget residents may have.

use super::budget::Budget;
use super::signals::Marks;
use crate::clock::{self, Moment};
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Who sets the pace.
#[derive(Debug)]
pub(super) enum Pace {
    /// Requests do, on many threads, and an eviction thread follows.
    Requests,
    /// One thread does everything in turn, at a time that it is given.
    Lockstep(Lockstep),
}

/// The terms of a domain that runs in lockstep.
#[derive(Debug)]
pub(super) struct Lockstep {
    /// Milliseconds: the time.
    pub(super) now_ms: AtomicU64,
    /// What residents may have.
    pub(super) room: Room,
}

/// How much of the budget residents may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// As much as they have when serving: some is kept free under a guest order, and no entry has
    /// more than a quarter.
    AsServed,
    /// So much and no less, in bytes and entries. The budget is larger by one newcomer, who stands
    /// beside the residents until a guest order has named victims, himself perhaps.
    Exactly(u64, u64),
}

impl Pace {
    /// Bytes that residents may have.
    pub(super) fn capacity(&self, budget: &Budget) -> u64 {
        match self.room() {
            Room::AsServed => budget.limit(),
            Room::Exactly(bytes, _) => bytes,
        }
    }

    /// The largest charge of an entry that is stored.
    pub(super) fn largest(&self, budget: &Budget) -> u64 {
        match self.room() {
            Room::AsServed => budget.limit() / 4,
            Room::Exactly(bytes, _) => bytes,
        }
    }

    /// From which use on a guest order is asked for victims whose entries have `mean` bytes.
    pub(super) fn marks(&self, budget: &Budget, mean: u64) -> Marks {
        match self.room() {
            Room::AsServed => Marks::new(budget, mean),
            Room::Exactly(bytes, entries) => Marks {
                high_bytes: bytes,
                low_bytes: bytes,
                pressed_bytes: u64::MAX,
                high_entries: entries,
                low_entries: entries,
                pressed_entries: u64::MAX,
            },
        }
    }

    /// Up to which insertion the entries of a stripe are none that an order has to let in, when it
    /// was last asked at `asked` and has been told up to `horizon`.
    pub(super) fn told_before(&self, asked: Option<u64>, horizon: u64) -> Option<u64> {
        match self.room() {
            Room::AsServed => asked,
            // It is asked as soon as there is somebody to let in, who came last.
            Room::Exactly(..) => Some(horizon.saturating_sub(1)),
        }
    }

    /// Whether what leaves is freed before its budget is given back. Where nothing has any content,
    /// it need not be.
    pub(super) fn frees_at_once(&self) -> bool {
        matches!(self, Self::Requests)
    }

    /// Now, as lifetimes are measured.
    pub(super) fn now(&self) -> Moment {
        match self {
            Self::Requests => clock::now(),
            Self::Lockstep(terms) => Moment::from_millis(terms.now_ms.load(Relaxed)),
        }
    }

    /// Now, in milliseconds, as guest orders are told.
    pub(super) fn unix_ms(&self) -> u64 {
        match self {
            Self::Requests => clock::unix_millis(clock::wall()),
            Self::Lockstep(terms) => terms.now_ms.load(Relaxed),
        }
    }

    fn room(&self) -> Room {
        match self {
            Self::Requests => Room::AsServed,
            Self::Lockstep(terms) => terms.room,
        }
    }
}

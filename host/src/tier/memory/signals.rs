//! How requests and operators reach the eviction thread of a domain, and how they wait for it.
//!
//! Waking costs a system call only when the thread sleeps, and is asked for once a batch, never
//! once an event.

use std::fmt;

use super::budget::Budget;
use super::drain::LOT_ENTRIES;
use super::lock;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering::AcqRel, Ordering::Acquire};
use crate::sync::atomic::{Ordering::Relaxed, Ordering::Release};
use crate::sync::thread::Thread;
use crate::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use crate::tier::eviction::OrderSource;

/// Which orders an operator wants.
#[derive(Clone, Default)]
pub(super) struct Desired {
    /// Makes the orders; `None`: the native order.
    pub(super) source: Option<Arc<dyn OrderSource>>,
    /// Rises with every change.
    pub(super) generation: u64,
}

impl fmt::Debug for Desired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.source.as_ref().map(|source| source.name());
        f.debug_struct("Desired")
            .field("source", &source)
            .field("generation", &self.generation)
            .finish()
    }
}

#[derive(Debug, Default)]
struct Settling {
    asked: u64,
    done: u64,
    ended: bool,
}

/// From which use on the eviction thread evicts, and down to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) high_bytes: u64,
    pub(super) low_bytes: u64,
    /// From which use on there is little left before a store has to evict for itself.
    pub(super) pressed_bytes: u64,
    pub(super) high_entries: u64,
    pub(super) low_entries: u64,
    pub(super) pressed_entries: u64,
}

impl Marks {
    /// The marks of a domain whose entries are charged `mean` bytes on average.
    pub(super) fn new(budget: &Budget, mean: u64) -> Self {
        // Room for a lot of newcomers, or a 64th where that is more; an eighth at most. Evicting
        // begins when half of it is used up: to wake the thread costs more than many evictions, and
        // each time takes a CPU from somebody. The rest is for what comes meanwhile.
        let headroom = |all: u64, lot: u64| (all / 64).max(lot).min(all / 8);
        let marks = |all: u64, lot: u64| {
            let headroom = headroom(all, lot);
            let high = all - headroom / 2;
            (high, all - headroom, high + (all - high) / 2)
        };
        let (high_bytes, low_bytes, pressed_bytes) =
            marks(budget.limit(), mean.saturating_mul(LOT_ENTRIES));
        let (high_entries, low_entries, pressed_entries) = marks(budget.max_entries(), LOT_ENTRIES);
        Self {
            high_bytes,
            low_bytes,
            pressed_bytes,
            high_entries,
            low_entries,
            pressed_entries,
        }
    }
}

/// The signals of one domain, in cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Signals {
    wake: AtomicBool,
    stop: AtomicBool,
    guided: AtomicBool,
    high_bytes: AtomicU64,
    high_entries: AtomicU64,
    pressed_bytes: AtomicU64,
    pressed_entries: AtomicU64,
    thread: OnceLock<Thread>,
    desired: Mutex<Desired>,
    /// That of `desired`, to be read without the lock.
    generation: AtomicU64,
    settling: Mutex<Settling>,
    settled: Condvar,
}

impl Default for Signals {
    fn default() -> Self {
        Self {
            wake: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            guided: AtomicBool::new(false),
            high_bytes: AtomicU64::new(u64::MAX),
            high_entries: AtomicU64::new(u64::MAX),
            pressed_bytes: AtomicU64::new(u64::MAX),
            pressed_entries: AtomicU64::new(u64::MAX),
            thread: OnceLock::new(),
            desired: Mutex::default(),
            generation: AtomicU64::new(0),
            settling: Mutex::default(),
            settled: Condvar::new(),
        }
    }
}

impl Signals {
    /// Wakes the eviction thread, unless that is on its way already.
    pub(super) fn wake(&self) {
        if !self.wake.load(Relaxed)
            && !self.wake.swap(true, AcqRel)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Wakes the eviction thread if use is above its high mark.
    pub(super) fn wake_if_above(&self, budget: &Budget) {
        if budget.bytes() > self.high_bytes.load(Relaxed)
            || budget.entries() > self.high_entries.load(Relaxed)
        {
            self.wake();
        }
    }

    /// Whether there is little room left although the eviction thread was woken.
    pub(super) fn is_pressed(&self, budget: &Budget) -> bool {
        budget.bytes() > self.pressed_bytes.load(Relaxed)
            || budget.entries() > self.pressed_entries.load(Relaxed)
    }

    /// Takes the wake-up, if there is one.
    pub(super) fn take_wake(&self) -> bool {
        self.wake.load(Relaxed) && self.wake.swap(false, AcqRel)
    }

    /// Names the thread to wake.
    pub(super) fn set_thread(&self, thread: Thread) {
        // Set once: a domain starts one thread in its life.
        drop(self.thread.set(thread));
    }

    /// Whether a guest order is wanted and to be had.
    pub(super) fn is_guided(&self) -> bool {
        self.guided.load(Relaxed)
    }

    /// Says that a guest order is in charge, above these marks.
    pub(super) fn guide(&self, marks: Marks) {
        self.high_bytes.store(marks.high_bytes, Relaxed);
        self.high_entries.store(marks.high_entries, Relaxed);
        self.pressed_bytes.store(marks.pressed_bytes, Relaxed);
        self.pressed_entries.store(marks.pressed_entries, Relaxed);
        self.guided.store(true, Relaxed);
    }

    /// Says that the native order is in charge.
    pub(super) fn unguide(&self) {
        self.guided.store(false, Relaxed);
        self.high_bytes.store(u64::MAX, Relaxed);
        self.high_entries.store(u64::MAX, Relaxed);
        self.pressed_bytes.store(u64::MAX, Relaxed);
        self.pressed_entries.store(u64::MAX, Relaxed);
    }

    /// Changes the wanted orders.
    pub(super) fn desire(&self, source: Option<Arc<dyn OrderSource>>) {
        let mut desired = lock(&self.desired);
        desired.generation = desired.generation.wrapping_add(1);
        desired.source = source;
        self.generation.store(desired.generation, Release);
    }

    /// Has the wanted orders made again.
    pub(super) fn renew_order(&self) {
        let mut desired = lock(&self.desired);
        desired.generation = desired.generation.wrapping_add(1);
        self.generation.store(desired.generation, Release);
        drop(desired);
        self.wake();
    }

    /// The generation of the wanted orders.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// The wanted orders.
    pub(super) fn desired(&self) -> Desired {
        lock(&self.desired).clone()
    }

    /// Forgets a source that has no more orders, unless another is wanted by now.
    pub(super) fn give_up(&self, generation: u64) {
        let mut desired = lock(&self.desired);
        if desired.generation == generation {
            desired.source = None;
        }
    }

    /// Asks the eviction thread to end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Release);
        self.wake();
    }

    /// Whether the eviction thread was asked to end.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Acquire)
    }

    /// Waits for a round that begins after this call, or for the end of the thread.
    pub(super) fn settle(&self) {
        let mut settling = lock(&self.settling);
        settling.asked = settling.asked.wrapping_add(1);
        let ticket = settling.asked;
        self.wake();
        while settling.done < ticket && !settling.ended {
            settling = self
                .settled
                .wait(settling)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The latest ticket of [`Self::settle`], to be read before a round begins.
    pub(super) fn asked(&self) -> u64 {
        lock(&self.settling).asked
    }

    /// Lets those go on who asked no later than `ticket`.
    pub(super) fn answer(&self, ticket: u64) {
        let mut settling = lock(&self.settling);
        if settling.done < ticket {
            settling.done = ticket;
            self.settled.notify_all();
        }
    }

    /// Lets everyone go on: the thread has ended.
    pub(super) fn end(&self) {
        self.unguide();
        lock(&self.settling).ended = true;
        self.settled.notify_all();
    }
}

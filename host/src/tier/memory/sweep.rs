//! Purges of many entries: in force at once in every stripe, then carried out in the background, a
//! chunk at a time.
//!
//! What such a purge covers is counted from the index when it begins, so its counts are final
//! although its entries leave, or are made stale, later: until then they are charged to the budget
//! and nobody can find them. The next one does not wait for that. It is put in force beside those
//! before it, and counts what none of them has purged by a look at every slot, which takes some
//! hundredths of a microsecond each; one thread then carries them out together.

use super::stats::UnderWay;
use super::stripe::sweep::{Fresh, Manner, Part, SWEEPS_MAX, Sweep};
use super::stripe::{Departed, Locked, SLOTS};
use super::{Domain, Inner, lock};
use crate::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use crate::sync::{Arc, Mutex, thread};
use crate::tier::Purged;

/// Entries from which on a purge is carried out in the background. Fewer take some milliseconds.
const MANY: u64 = 4_096;

/// The sweeps of one domain.
#[derive(Debug, Default)]
pub(super) struct Sweeps {
    /// Held by who puts one in force.
    beginning: Mutex<()>,
    /// Held by who carries them out.
    turn: Mutex<()>,
    /// Whether some stripe may have one that nobody has begun to carry out.
    wanted: AtomicBool,
    /// Whether there is a thread that carries them out.
    has_thread: AtomicBool,
}

impl Domain {
    /// Puts a purge of `part` in force and has it carried out, if it covers many entries. Answers
    /// what it covers; none if it is not worth it.
    pub(super) fn sweep(&self, part: Part, manner: Manner) -> Option<Purged> {
        let inner = &self.inner;
        let mut there = 0_u64;
        for index in 0..inner.stripes.len() {
            there = there.saturating_add(inner.lock(index).count(part).entries);
        }
        (there > MANY).then(|| inner.begin_sweep(part, manner))
    }

    /// Waits until every purge has been carried out on every entry that it covers.
    pub fn finish_purges(&self) {
        self.inner.finish_sweeps();
    }

    /// Purges that have still to be carried out. Takes no lock.
    pub fn purges_under_way(&self) -> UnderWay {
        let mut under_way = UnderWay::default();
        for stripe in &self.inner.stripes {
            under_way.purges = under_way.purges.max(stripe.gauges.sweeps.load(Relaxed));
            under_way.places += stripe.gauges.unswept.load(Relaxed);
        }
        under_way
    }
}

impl Inner {
    /// Locks the stripe that a key with this hash belongs to, with nothing left for a sweep to do on
    /// its entry.
    #[inline]
    pub(super) fn lock_of(&self, hash: u64) -> Locked<'_> {
        let stripe = self.lock(self.index(hash));
        if stripe.owes(hash) {
            return self.catch_up(stripe, hash);
        }
        stripe
    }

    #[cold]
    fn catch_up<'a>(&'a self, mut stripe: Locked<'a>, hash: u64) -> Locked<'a> {
        loop {
            let mut departed = Departed::new(&self.budget);
            stripe.catch_up(hash, &mut departed);
            self.unlock(stripe);
            self.left(departed.hold.entries(), departed.hold.bytes());
            drop(departed);
            stripe = self.lock(self.index(hash));
            // Another sweep may have begun meanwhile.
            if !stripe.owes(hash) {
                return stripe;
            }
        }
    }

    /// Entries that `part` covers and their bytes, without what is purged already.
    pub(super) fn count(&self, part: Part) -> Purged {
        let mut counted = Purged::default();
        for index in 0..self.stripes.len() {
            let stripe = self.lock(index);
            let gone = stripe.removals();
            if gone.is_empty() {
                counted += stripe.count(part);
            } else {
                let horizon = stripe.horizon();
                drop(stripe);
                counted += self.count_without(index, part, horizon, &gone);
            }
        }
        counted
    }

    fn count_without(&self, index: usize, part: Part, horizon: u64, gone: &[Sweep]) -> Purged {
        let mut counted = Purged::default();
        let end = self.lock(index).slots_end();
        let mut from = 0;
        while from < end {
            let until = end.min(from.saturating_add(SLOTS));
            let stripe = self.lock(index);
            counted += stripe.count_without(from..until, part, horizon, gone);
            from = until;
        }
        counted
    }

    /// Puts a purge in force, and sees to it that a thread carries it out.
    pub(super) fn begin_sweep(self: &Arc<Self>, part: Part, manner: Manner) -> Purged {
        let purged = self.put_in_force(part, manner);
        let sweeps = &self.sweeps;
        if sweeps.wanted.load(SeqCst) && !sweeps.has_thread.swap(true, SeqCst) {
            let inner = Arc::clone(self);
            let thread = thread::Builder::new().name("larder-purge".to_owned());
            if let Err(error) = thread.spawn(move || inner.carry_out_all()) {
                tracing::warn!(%error, "no thread to carry out a purge");
                self.carry_out_all();
            }
        }
        purged
    }

    /// Puts a purge in force in every stripe.
    pub(super) fn put_in_force(&self, part: Part, manner: Manner) -> Purged {
        let _beginning = lock(&self.sweeps.beginning);
        let mut purged = Purged::default();
        let mut emptied = Vec::new();
        for index in 0..self.stripes.len() {
            if self.lock(index).sweeps() >= SWEEPS_MAX {
                self.finish_sweeps();
            }
            let mut stripe = self.lock(index);
            let (there, horizon) = (stripe.count(part), stripe.horizon());
            if there.entries == 0 {
                continue;
            }
            if there.entries == stripe.entries() && manner == Manner::Remove {
                emptied.push(stripe.empty(&self.budget));
                self.unlock(stripe);
                continue;
            }
            let gone = stripe.removals();
            if gone.is_empty() {
                purged += there;
            } else {
                // What those before it have purged and not removed yet must not count again.
                drop(stripe);
                purged += self.count_without(index, part, horizon, &gone);
                stripe = self.lock(index);
            }
            stripe.begin_sweep(part, manner, horizon);
            self.unlock(stripe);
            self.sweeps.wanted.store(true, SeqCst);
        }
        for contents in &emptied {
            purged += contents.uncounted();
        }
        self.free(emptied);
        purged
    }

    /// Carries out what is wanted until nothing is, as the one thread that does.
    fn carry_out_all(&self) {
        let sweeps = &self.sweeps;
        loop {
            self.finish_sweeps();
            sweeps.has_thread.store(false, SeqCst);
            // What was wanted before that has found a thread, and what is now may not have.
            if !sweeps.wanted.load(SeqCst) || sweeps.has_thread.swap(true, SeqCst) {
                return;
            }
        }
    }

    /// Carries out what sweeps have left to do.
    pub(super) fn finish_sweeps(&self) {
        let _turn = lock(&self.sweeps.turn);
        while self.sweeps.wanted.swap(false, SeqCst) {
            for index in 0..self.stripes.len() {
                while self.lock(index).begin_pass() {
                    self.pass(index);
                }
            }
        }
    }

    /// Carries a pass out to its end.
    fn pass(&self, index: usize) {
        let mut fresh: Vec<Fresh> = Vec::new();
        loop {
            let mut departed = Departed::new(&self.budget);
            let mut stripe = self.lock(index);
            let goes_on = stripe.go_on(&mut departed, &mut fresh);
            self.unlock(stripe);
            self.left(departed.hold.entries(), departed.hold.bytes());
            drop(departed);
            if !fresh.is_empty() {
                let found = fresh.drain(..);
                self.make_stale(index, found.map(|f| (f.spot, f.entry, f.since)));
            }
            if !goes_on {
                return;
            }
        }
    }
}

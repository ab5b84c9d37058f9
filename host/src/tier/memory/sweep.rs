//! Purges of many entries: in force at once in every shard, then carried out in the background, a
//! chunk at a time.
//!
//! What such a purge covers is counted from the index when it begins, so its counts are final
//! although its entries leave, or are made stale, later: until then they are charged to the budget
//! and nobody can find them. One purge is carried out at a time, and the next one that is large
//! waits for it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::shard::sweep::{Manner, Part, Sweep};
use super::shard::{Departed, Locked};
use super::{Domain, Inner, lock};
use crate::tier::Purged;

/// Entries from which on a purge is carried out in the background. Fewer take some milliseconds.
const MANY: u64 = 4_096;

/// The sweeps of one domain.
#[derive(Debug, Default)]
pub(super) struct Sweeps {
    /// Held by who begins one or carries one out.
    turn: Mutex<()>,
    /// Whether some shard may have one.
    under_way: AtomicBool,
}

impl Domain {
    /// Puts a purge of `part` in force and has it carried out, if it covers many entries. Answers
    /// what it covers; none if it is not worth it.
    pub(super) fn sweep(&self, part: Part, manner: Manner) -> Option<Purged> {
        let inner = &self.inner;
        let is_large = inner.count(part).entries > MANY;
        is_large.then(|| inner.begin_sweep(part, manner))
    }

    /// Waits until every purge has been carried out on every entry that it covers.
    pub fn finish_purges(&self) {
        self.inner.finish_sweep();
    }
}

impl Inner {
    /// Locks the shard that a key with this hash belongs to, with nothing left for a sweep to do on
    /// its entry.
    #[inline]
    pub(super) fn lock_of(&self, hash: u64) -> Locked<'_> {
        let shard = self.lock(self.index(hash));
        if shard.owes(hash) {
            return self.catch_up(shard, hash);
        }
        shard
    }

    #[cold]
    fn catch_up<'a>(&'a self, mut shard: Locked<'a>, hash: u64) -> Locked<'a> {
        loop {
            let mut departed = Departed::new(&self.budget);
            shard.catch_up(hash, &mut departed);
            self.unlock(shard);
            self.left(departed.hold.entries(), departed.hold.bytes());
            drop(departed);
            shard = self.lock(self.index(hash));
            // Another sweep may have begun meanwhile.
            if !shard.owes(hash) {
                return shard;
            }
        }
    }

    /// Entries that `part` covers and their bytes, as the index has them.
    pub(super) fn count(&self, part: Part) -> Purged {
        let mut counted = Purged::default();
        for index in 0..self.shards.len() {
            counted += self.lock(index).count(part);
        }
        counted
    }

    /// Puts a purge in force, and has a thread carry it out.
    pub(super) fn begin_sweep(self: &Arc<Self>, part: Part, manner: Manner) -> Purged {
        let purged = self.put_in_force(part, manner);
        if self.sweeps.under_way.load(Relaxed) {
            let inner = Arc::clone(self);
            let thread = std::thread::Builder::new().name("larder-purge".to_owned());
            if let Err(error) = thread.spawn(move || inner.finish_sweep()) {
                tracing::warn!(%error, "no thread to carry out a purge");
                self.finish_sweep();
            }
        }
        purged
    }

    /// Puts a purge in force in every shard.
    pub(super) fn put_in_force(&self, part: Part, manner: Manner) -> Purged {
        let _turn = lock(&self.sweeps.turn);
        // What the one before has purged and not removed yet must not count again.
        self.carry_out();
        let mut purged = Purged::default();
        let mut emptied = Vec::new();
        for index in 0..self.shards.len() {
            let mut shard = self.lock(index);
            let counted = shard.count(part);
            if counted.entries == 0 {
                continue;
            }
            if counted.entries == shard.entries() && manner == Manner::Remove {
                emptied.push(shard.empty(&self.budget));
            } else {
                shard.begin_sweep(part, manner);
                self.sweeps.under_way.store(true, Relaxed);
            }
            self.unlock(shard);
            purged += counted;
        }
        self.free(emptied);
        purged
    }

    /// Carries out what sweeps have left to do.
    pub(super) fn finish_sweep(&self) {
        if self.sweeps.under_way.load(Relaxed) {
            let _turn = lock(&self.sweeps.turn);
            self.carry_out();
        }
    }

    /// The caller has the turn.
    fn carry_out(&self) {
        if !self.sweeps.under_way.load(Relaxed) {
            return;
        }
        for index in 0..self.shards.len() {
            let sweep = self.lock(index).sweep();
            let Some(Sweep {
                part,
                manner,
                horizon,
            }) = sweep
            else {
                continue;
            };
            match (manner, part) {
                (Manner::Remove, Part::Tag(tag)) => self.remove_tagged(index, tag, horizon),
                (Manner::Remove, Part::Site(site)) => {
                    self.remove_of_sites(index, &|other| other == site, horizon)
                }
                (Manner::Remove, Part::All) => self.remove_of_sites(index, &|_| true, horizon),
                (Manner::Soften(now), part) => {
                    let mut spots = Vec::new();
                    match part {
                        Part::Tag(tag) => self.spots_of_tag(index, tag, horizon, &mut spots),
                        Part::Site(site) => {
                            self.spots_of_sites(index, &|other| other == site, horizon, &mut spots);
                        }
                        Part::All => self.spots_of_sites(index, &|_| true, horizon, &mut spots),
                    }
                    self.soften(index, &spots, now)
                }
            };
            self.lock(index).end_sweep();
        }
        self.sweeps.under_way.store(false, Relaxed);
    }
}

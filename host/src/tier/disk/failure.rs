//! What the writing thread does when the device fails it.
//!
//! What was written to a segment that failed is given up as a whole. After a few failures in a row,
//! or when the device is full, nothing is written for a moment; then it is tried again. Keys whose
//! newest value could not be written get a tombstone as soon as anything can be.

use std::sync::Arc;
use std::time::Duration;

use super::io::is_full;
use super::log::{Batch, Log, Unwritten};
use super::queue::Claim;
use super::segment::Segment;
use crate::clock;

/// How long nothing is written after the device failed several times.
const REST: Duration = Duration::from_secs(2);
/// Segments that may fail one after another before nothing is written for a while.
const FAILURES: u32 = 3;
/// Tombstones that may be owed. A key beyond them is removed in memory only.
const OWED_MAX: usize = 64 << 10;

impl Log {
    /// Takes writes again after a rest.
    pub(super) fn wake(&mut self) {
        if self.resting.is_some_and(|until| clock::instant() >= until) {
            self.resting = None;
            self.shared.queue.set_open(true);
        }
        if self.resting.is_none() {
            for claim in std::mem::take(&mut self.owed) {
                self.shared.refuse(claim, true);
            }
        }
    }

    /// What `claim` was for could not be written.
    pub(super) fn owe(&mut self, claim: Claim) {
        self.shared.stats.refused.increment();
        if self.owed.len() < OWED_MAX {
            self.owed.push(claim);
        } else {
            self.shared.queue.release(claim);
        }
    }

    /// The device failed to write to the open segment, which is given up.
    pub(super) fn failed(&mut self, error: &std::io::Error) -> Unwritten {
        self.shared.stats.write_errors.increment();
        tracing::error!(%error, "the disk tier failed to write");
        if let Some(current) = self.current.take() {
            self.give_up(&current.segment);
        }
        self.failures += 1;
        if is_full(error) || self.failures >= FAILURES {
            return self.rest(&error.to_string());
        }
        Unwritten
    }

    /// The device failed to take what was written to `segment`: nobody knows what it holds.
    pub(super) fn lost(&mut self, segment: &Arc<Segment>) {
        self.shared.stats.write_errors.increment();
        let is_it = |other: &Arc<Segment>| Arc::ptr_eq(other, segment);
        if self.current.as_ref().is_some_and(|c| is_it(&c.segment)) {
            self.batch = Batch::default();
            self.current = None;
        } else if let Some(at) = self.sealed.iter().position(is_it) {
            self.sealed.remove(at);
        } else {
            return;
        }
        self.give_up(segment);
        self.failures += 1;
        if self.failures >= FAILURES {
            self.rest("syncs fail");
        }
    }

    /// Drops all that `segment` holds; it is the last one to be tried again.
    fn give_up(&mut self, segment: &Arc<Segment>) {
        segment.retire();
        segment.give_up();
        self.shared.segments.set(segment.number, None);
        let number = segment.number;
        let dropped = self
            .shared
            .index
            .sweep(|found| found.place.segment == number);
        self.shared.stats.evicted.damaged.add(dropped);
        // If the device takes this, a restart finds none of it either.
        self.retire(segment).ok();
        self.free.push_back(number);
    }

    /// Writes nothing for a while.
    pub(super) fn rest(&mut self, reason: &str) -> Unwritten {
        self.failures = self.failures.max(1);
        self.resting = Some(clock::instant() + REST);
        self.shared.condition.lock().unwritable = Some(reason.to_owned());
        self.shared.queue.set_open(false);
        Unwritten
    }
}

//! What the tier counts, and how it is.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::metrics::{Counter, Histogram};
use crate::tier::slow::{Figure, Health};

/// What the tier counts.
#[derive(Debug, Default)]
pub struct Stats {
    /// Puts that were dropped because too much waited to be written.
    pub dropped: Counter,
    /// Puts that were dropped because nothing could be written.
    pub refused: Counter,
    /// Puts of what is too large.
    pub too_large: Counter,
    /// Failures to write or to sync.
    pub write_errors: Counter,
    /// Failures to read.
    pub read_errors: Counter,
    /// Reads that took too long, or were refused because the device hangs.
    pub timeouts: Counter,
    /// Lookups for which the device soon brought what they waited for where they were.
    pub awaited: Counter,
    /// Those for which it did not, which a thread then read.
    pub awaited_in_vain: Counter,
    /// Records that did not pass a check.
    pub corrupt: Counter,
    /// Bytes of content that were stored.
    pub bytes_admitted: Counter,
    /// Bytes written to the device, all of them.
    pub bytes_written: Counter,
    /// Bytes read from the device for content and lookups.
    pub bytes_read: Counter,
    /// Entries that were written again because they were hit.
    pub reinserted: Counter,
    /// Segments that were reclaimed.
    pub reclaimed: Counter,
    /// Entries that left, by reason.
    pub evicted: Evicted,
    /// How long the device took to be given a batch of records.
    pub write_time: Histogram,
}

/// Entries that left the tier.
#[derive(Debug, Default)]
pub struct Evicted {
    /// To make room.
    pub capacity: Counter,
    /// Their time was over when room was made.
    pub expired: Counter,
    /// A purge covered them when they were looked at.
    pub purged: Counter,
    /// They, or what they consist of, could not be read any more.
    pub damaged: Counter,
    /// Part of their content was overwritten.
    pub incomplete: Counter,
    /// Somebody removed or replaced them.
    pub removed: Counter,
}

impl Stats {
    /// The counts that not every tier has.
    pub(super) fn figures(&self) -> Vec<Figure> {
        let count = |name, help, counter: &Counter| Figure::count(name, help, counter.get());
        vec![
            count(
                "queue_dropped",
                "Writes dropped because the write queue was full.",
                &self.dropped,
            ),
            count(
                "refused",
                "Writes dropped because the tier could not write.",
                &self.refused,
            ),
            count(
                "too_large",
                "Writes of responses too large for the tier.",
                &self.too_large,
            ),
            count(
                "write_errors",
                "Failed writes and syncs.",
                &self.write_errors,
            ),
            count("read_errors", "Failed reads.", &self.read_errors),
            count("read_timeouts", "Reads that took too long.", &self.timeouts),
            count(
                "reads_awaited",
                "Lookups that the device answered before a thread was asked to read.",
                &self.awaited,
            ),
            count(
                "reads_awaited_in_vain",
                "Lookups that waited for the device and then asked a thread to read.",
                &self.awaited_in_vain,
            ),
            count(
                "corrupt",
                "Records that did not pass a check.",
                &self.corrupt,
            ),
            count(
                "bytes_admitted",
                "Bytes of content stored.",
                &self.bytes_admitted,
            ),
            count(
                "bytes_written",
                "Bytes written to the device.",
                &self.bytes_written,
            ),
            count(
                "bytes_read",
                "Bytes read from the device.",
                &self.bytes_read,
            ),
            count(
                "reinsertions",
                "Entries kept by writing them again when their segment was reclaimed.",
                &self.reinserted,
            ),
            count("segments_reclaimed", "Segments reclaimed.", &self.reclaimed),
        ]
    }

    /// Entries that left, by reason.
    pub(super) fn evictions(&self) -> Vec<(&'static str, u64)> {
        let Evicted {
            capacity,
            expired,
            purged,
            damaged,
            incomplete,
            removed,
        } = &self.evicted;
        vec![
            ("capacity", capacity.get()),
            ("expired", expired.get()),
            ("purged", purged.get()),
            ("damaged", damaged.get()),
            ("incomplete", incomplete.get()),
            ("removed", removed.get()),
        ]
    }
}

/// How the tier is, as far as its threads say.
#[derive(Debug, Default)]
pub(super) struct Condition {
    said: Mutex<Conditions>,
    /// What every lookup asks, without the lock.
    offline: AtomicBool,
    /// Whether a read has failed since the last that did not.
    failing: AtomicBool,
}

/// What is not as it should be.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    /// It finds out what it holds.
    pub loading: bool,
    /// Nothing is written: why.
    pub unwritable: Option<String>,
    /// It is smaller than it should be: why.
    pub short: Option<String>,
    /// Reads fail one after another: the latest reason, and how many.
    pub unreadable: Option<(String, u32)>,
    /// It does not work any more: why.
    pub offline: Option<String>,
}

/// Reads that fail one after another before the tier says so.
const FAILURES: u32 = 3;

impl Condition {
    /// What there is to say; whole between any two statements of whoever holds it.
    pub(super) fn lock(&self) -> MutexGuard<'_, Conditions> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it does not work any more.
    pub(super) fn is_offline(&self) -> bool {
        self.offline.load(Relaxed)
    }

    /// It does not work from now on: why.
    pub(super) fn set_offline(&self, why: &str) {
        self.lock().offline = Some(why.to_owned());
        self.offline.store(true, Relaxed);
    }

    /// A read failed.
    pub(super) fn failed_to_read(&self, error: &std::io::Error) {
        let mut said = self.lock();
        let times = said.unreadable.take().map_or(0, |(_, times)| times);
        said.unreadable = Some((error.to_string(), times.saturating_add(1)));
        self.failing.store(true, Relaxed);
    }

    /// A read did not fail.
    pub(super) fn has_read(&self) {
        if self.failing.load(Relaxed) {
            let mut said = self.lock();
            said.unreadable = None;
            self.failing.store(false, Relaxed);
        }
    }

    /// The sum of it.
    pub(super) fn health(&self, stalled: bool) -> Health {
        let now = self.lock().clone();
        let unreadable = now.unreadable.filter(|(_, times)| *times >= FAILURES);
        let unreadable = unreadable.map(|(reason, _)| format!("reads fail: {reason}"));
        let stalled = stalled.then(|| "reads hang".to_owned());
        let unwritable = now
            .unwritable
            .map(|reason| format!("writes fail: {reason}"));
        if let Some(reason) = now.offline {
            Health::Offline(reason)
        } else if let Some(reason) = stalled.or(unreadable).or(unwritable).or(now.short) {
            Health::Degraded(reason)
        } else if now.loading {
            Health::Loading
        } else {
            Health::Online
        }
    }
}

//! Waiting for a fast device without a thread: a lookup asks again and again whether the system has
//! what the device was asked for, and lets others on its thread have their turns in between.
//!
//! A fast device answers in less time than it takes to wake a thread that waits for it and then the
//! one that waits for that thread. On a slow one asking is in vain: after each time it was, twice as
//! many reads as before go to a thread at once, until it was not.

use std::time::{Duration, Instant};

use crate::clock;
use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How long a lookup asks.
const WAIT: Duration = Duration::from_micros(200);
/// Reads that go to a thread before asking is tried once more, at most.
const SKIPPED_MAX: u32 = 1_023;

/// Whether the device has answered soon of late.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// Reads that are still to go to a thread.
    skip: AtomicU32,
    /// As many were to when asking was last in vain; zero if it was not.
    skipped: AtomicU32,
}

/// One lookup that asks.
#[derive(Debug)]
pub(super) struct Wait<'a> {
    patience: &'a Patience,
    until: Instant,
}

impl Patience {
    /// Begins to ask, if that is worth it.
    pub(super) fn begin(&self) -> Option<Wait<'_>> {
        let one_less = |skip: u32| skip.checked_sub(1);
        let skips = self.skip.fetch_update(Relaxed, Relaxed, one_less).is_ok();
        (!skips).then(|| Wait {
            patience: self,
            until: clock::instant() + WAIT,
        })
    }

    fn ended(&self, answered: bool) {
        let skipped = match answered {
            true => 0,
            false => (self.skipped.load(Relaxed) * 2 + 1).min(SKIPPED_MAX),
        };
        self.skipped.store(skipped, Relaxed);
        self.skip.store(skipped, Relaxed);
    }
}

impl Wait<'_> {
    /// Whether it has taken too long.
    pub(super) fn is_over(&self) -> bool {
        clock::instant() >= self.until
    }

    /// Ends it: whether the device has answered.
    pub(super) fn end(self, answered: bool) {
        self.patience.ended(answered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads that go to a thread until one asks again.
    fn skipped(patience: &Patience) -> u32 {
        let mut skipped = 0;
        while patience.begin().is_none() {
            skipped += 1;
        }
        skipped
    }

    #[test]
    fn a_device_that_does_not_answer_is_asked_ever_less() {
        let patience = Patience::default();
        for expected in [1, 3, 7, 15, 31, 63, 127, 255, 511, 1_023, 1_023] {
            patience.begin().expect("it is worth it").end(false);
            assert_eq!(skipped(&patience), expected);
        }
        patience.begin().expect("it is worth it").end(true);
        assert_eq!(skipped(&patience), 0);
        patience.begin().expect("it is worth it").end(false);
        assert_eq!(skipped(&patience), 1);
    }

    #[test]
    fn asking_has_an_end() {
        let patience = Patience::default();
        let wait = patience.begin().expect("it is worth it");
        while !wait.is_over() {
            std::hint::spin_loop();
        }
        assert!(clock::instant() >= wait.until);
    }
}

//! Waiting for a fast device without a thread: a lookup asks again and again whether the system has
//! what the device was asked for, and lets others on its thread have their turns in between.
//!
//! A fast device answers in less time than it takes to wake a thread that waits for it and then the
//! one that waits for that thread. On a slow one asking is in vain: after each time it was, twice as
//! many reads as before go to a thread at once, until it was not. And it takes a processor that nobody
//! else needs: where many want one, a thread that asks all the time has used up its share when the
//! answer is there, and one that slept is woken at once. So after a look that comes late, a thousand
//! reads go to a thread.

use std::time::{Duration, Instant};

use crate::clock;
use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How long a lookup asks.
const WAIT: Duration = Duration::from_micros(200);
/// A look that comes so much later than that waited for a processor, not for the device.
const LATE: Duration = Duration::from_millis(1);
/// Reads that go to a thread before asking is tried once more, at most.
const SKIPPED_MAX: u32 = 1_023;
/// Lookups that ask at once, at most: each takes its turn on its thread, of about a microsecond, and
/// who is served from memory there waits for all of them.
const ASKING_MAX: u32 = 16;

/// Whether the device has answered soon of late.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// Reads that are still to go to a thread.
    skip: AtomicU32,
    /// As many were to when asking was last in vain; zero if it was not.
    skipped: AtomicU32,
    /// Lookups that ask.
    asking: AtomicU32,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The device answered.
    Answered,
    /// It did not, in time.
    InVain,
    /// Whoever asked had no processor for so long that it cannot be told.
    Late,
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
        if self.skip.fetch_update(Relaxed, Relaxed, one_less).is_ok() {
            return None;
        }
        let one_more = |asking: u32| (asking < ASKING_MAX).then(|| asking + 1);
        let asks = self.asking.fetch_update(Relaxed, Relaxed, one_more);
        asks.is_ok().then(|| Wait {
            patience: self,
            until: clock::instant() + WAIT,
        })
    }

    fn ended(&self, outcome: Outcome) {
        let skipped = match outcome {
            Outcome::Answered => 0,
            Outcome::InVain => (self.skipped.load(Relaxed) * 2 + 1).min(SKIPPED_MAX),
            Outcome::Late => SKIPPED_MAX,
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
        self.patience
            .ended(outcome(answered, clock::instant(), self.until));
    }
}

/// What came of asking that was to end at `until` and did so `now`.
fn outcome(answered: bool, now: Instant, until: Instant) -> Outcome {
    match answered {
        _ if now >= until + LATE => Outcome::Late,
        true => Outcome::Answered,
        false => Outcome::InVain,
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.patience.asking.fetch_sub(1, Relaxed);
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
            patience.ended(Outcome::InVain);
            assert_eq!(skipped(&patience), expected);
        }
        patience.ended(Outcome::Answered);
        assert_eq!(skipped(&patience), 0);
        patience.ended(Outcome::InVain);
        assert_eq!(skipped(&patience), 1);
    }

    #[test]
    fn no_more_than_some_ask_at_once() {
        let patience = Patience::default();
        let begin = || patience.begin();
        let mut waits: Vec<_> = std::iter::from_fn(begin).take(100).collect();
        assert_eq!(waits.len(), 16);
        drop(waits.pop());
        assert!(patience.begin().is_some() && patience.begin().is_some());
        drop(waits);
        assert_eq!(std::iter::from_fn(begin).take(100).count(), 100);
    }

    #[test]
    fn where_processors_are_short_it_is_hardly_asked() {
        let patience = Patience::default();
        patience.ended(Outcome::Late);
        assert_eq!(skipped(&patience), SKIPPED_MAX);
        patience.ended(Outcome::Answered);
        assert_eq!(skipped(&patience), 0);
    }

    #[test]
    fn a_look_that_comes_late_tells_nothing_of_the_device() {
        let until = clock::instant();
        for answered in [false, true] {
            assert_eq!(outcome(answered, until + LATE, until), Outcome::Late);
        }
        let soon = until + LATE / 2;
        assert_eq!(outcome(true, soon, until), Outcome::Answered);
        assert_eq!(outcome(false, soon, until), Outcome::InVain);
    }
}

//! Whether the servers of a site can be reached at all, learnt from the requests that tried.
//!
//! A server that leaves a request unanswered is the business of `health`: there is another one to
//! ask. Here it is about requests for which no server was left. While the origin is in trouble
//! nobody waits for a time-out that somebody else has waited for: what is stored answers at once
//! where it may, and after a few failures in a row what is not stored is refused at once. One
//! request at a time tries, at the end of each pause, and the first answer ends it all.
//!
//! An operator may order the same, and then nobody tries until that is taken back.
//!
//! Only what speaks of the origin as a whole counts: no connection, no agreement on TLS, no answer
//! in time. A connection that broke off may be the doing of a single request.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::cache::backoff;
use crate::cache::flight::Failure;
use crate::clock::Moment;
use crate::metrics::Counter;

/// Requests in a row that fail before others are refused. One request for a page that takes too
/// long does not make an origin down.
const DOWN_FROM: u32 = 3;

/// When clients of an origin that is left alone are told to come back.
const OFFLINE_RETRY: Duration = Duration::from_mins(1);

/// How an origin stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As far as is known it answers.
    Up,
    /// The last request failed.
    Doubtful,
    /// Several in a row failed.
    Down,
    /// It is left alone by order.
    Offline,
}

impl Standing {
    /// The word for it in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Doubtful => "doubtful",
            Self::Down => "down",
            Self::Offline => "offline",
        }
    }
}

/// Whether a request may go to the origin.
#[derive(Debug)]
pub enum Admission {
    /// It is up.
    Open,
    /// It is in trouble, and the time has come to try: the holder does so.
    Probe(Probe),
    /// It is in trouble, and somebody is trying or it is too early to. Requests that nothing can
    /// answer otherwise may try all the same.
    Doubtful,
    /// The same, and nobody should try.
    Down(Down),
}

/// An origin that nobody should ask just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Down {
    /// How the last request failed.
    pub failure: Failure,
    /// When to come back; at least a second.
    pub retry_in: Duration,
}

/// What is known of the origin of one site.
#[derive(Debug, Default)]
pub struct Outage {
    /// Whether there is trouble: what every request reads.
    trouble: AtomicBool,
    /// Requests that were answered.
    answers: AtomicU64,
    state: Mutex<State>,
    /// Whether nobody asks it, whatever it would answer.
    by_order: bool,
    /// Times that it was found down.
    pub downs: Counter,
}

#[derive(Debug, Default)]
struct State {
    /// Requests in a row that failed.
    streak: u32,
    /// Failures in a row that came after the pause of the one before.
    rounds: u32,
    last: Option<Failure>,
    retry_at: Moment,
    probing: bool,
}

/// The right to try, for as long as it is held.
#[derive(Debug)]
pub struct Probe(Arc<Outage>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.lock().probing = false;
    }
}

impl Outage {
    /// One that was ordered, and does not end.
    pub fn ordered() -> Self {
        Self {
            trouble: AtomicBool::new(true),
            by_order: true,
            ..Self::default()
        }
    }

    /// Whether it was ordered.
    pub fn is_ordered(&self) -> bool {
        self.by_order
    }

    /// How the origin stands.
    pub fn standing(&self) -> Standing {
        if self.by_order {
            return Standing::Offline;
        }
        match self.lock().streak {
            0 => Standing::Up,
            1..DOWN_FROM => Standing::Doubtful,
            _ => Standing::Down,
        }
    }

    /// Whether a request may go to the origin at `now`.
    pub fn admit(self: &Arc<Self>, now: Moment) -> Admission {
        if !self.trouble.load(Ordering::Relaxed) {
            return Admission::Open;
        }
        if self.by_order {
            return Admission::Down(Down {
                // The answer is 504, as that to `only-if-cached` is (RFC 9111 5.2.1.7).
                failure: Failure::TimedOut,
                retry_in: OFFLINE_RETRY,
            });
        }
        let mut state = self.lock();
        let Some(failure) = state.last else {
            return Admission::Open;
        };
        if !state.probing && state.retry_at <= now {
            state.probing = true;
            return Admission::Probe(Probe(Arc::clone(self)));
        }
        if state.streak < DOWN_FROM {
            return Admission::Doubtful;
        }
        Admission::Down(Down {
            failure,
            retry_in: state.retry_at.since(now).max(Duration::from_secs(1)),
        })
    }

    /// Requests that were answered so far: what a request remembers when it begins.
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// A request was answered. Whether that ended an outage.
    pub fn answered(&self) -> bool {
        self.answers.fetch_add(1, Ordering::Relaxed);
        if self.by_order || !self.trouble.load(Ordering::Relaxed) {
            return false;
        }
        let mut state = self.lock();
        let was_down = state.streak >= DOWN_FROM;
        *state = State {
            probing: state.probing,
            ..State::default()
        };
        self.trouble.store(false, Ordering::Relaxed);
        was_down
    }

    /// A request that began after `answers` others were answered failed at `now` by `failure`. `random` spreads the probes of
    /// many hosts. Whether the origin is down by that.
    pub fn failed(&self, failure: Failure, answers: u64, now: Moment, random: u64) -> bool {
        // Who waited long for one thing does not know better than who was answered meanwhile.
        if self.answers() > answers {
            return false;
        }
        let mut state = self.lock();
        state.streak = state.streak.saturating_add(1);
        state.last = Some(failure);
        // Those who asked at the same time failed once.
        if state.retry_at <= now {
            state.rounds = state.rounds.saturating_add(1);
            state.retry_at = now.after(backoff::pause(state.rounds, random));
        }
        self.trouble.store(true, Ordering::Relaxed);
        let went_down = state.streak == DOWN_FROM;
        if went_down {
            self.downs.increment();
        }
        went_down
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without jitter.
    const MIDDLE: u64 = u64::MAX / 2;

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    fn fail(outage: &Outage, ms: u64) -> bool {
        outage.failed(Failure::TimedOut, outage.answers(), at(ms), MIDDLE)
    }

    #[test]
    fn one_failure_makes_an_origin_doubtful_and_several_bring_it_down() {
        let outage = Arc::new(Outage::default());
        assert!(matches!(outage.admit(at(10)), Admission::Open));
        assert!(!fail(&outage, 10));
        assert_eq!(outage.standing(), Standing::Doubtful);
        assert!(matches!(outage.admit(at(20)), Admission::Doubtful));
        assert!(!fail(&outage, 20));
        assert!(fail(&outage, 30), "now it is down");
        assert!(!fail(&outage, 40), "it was before");
        let Admission::Down(down) = outage.admit(at(50)) else {
            panic!("it is down");
        };
        assert_eq!(down.failure, Failure::TimedOut);
        assert_eq!(down.retry_in, Duration::from_secs(1));
        assert_eq!(outage.downs.get(), 1);
        assert!(outage.answered(), "it is back");
        assert!(!outage.answered(), "it was before");
        assert_eq!(outage.standing(), Standing::Up);
        assert!(matches!(outage.admit(at(70)), Admission::Open));
    }

    #[test]
    fn one_at_a_time_tries_and_pauses_grow() {
        let outage = Arc::new(Outage::default());
        for _ in 0..3 {
            fail(&outage, 0);
        }
        let mut now = 0;
        for pause in [1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            let early = outage.admit(at(now + pause - 10));
            assert!(matches!(early, Admission::Down(_)), "{pause}: {early:?}");
            now += pause + 10;
            let Admission::Probe(probe) = outage.admit(at(now)) else {
                panic!("the pause of {pause} is over");
            };
            assert!(matches!(outage.admit(at(now)), Admission::Down(_)));
            fail(&outage, now);
            drop(probe);
        }
        assert_eq!(outage.downs.get(), 1);
    }

    #[test]
    fn a_probe_that_is_given_up_is_somebody_elses() {
        let outage = Arc::new(Outage::default());
        fail(&outage, 0);
        let probe = outage.admit(at(2_000));
        assert!(matches!(probe, Admission::Probe(_)));
        assert!(matches!(outage.admit(at(2_000)), Admission::Doubtful));
        drop(probe);
        assert!(matches!(outage.admit(at(2_000)), Admission::Probe(_)));
    }

    #[test]
    fn who_began_before_the_last_answer_knows_nothing_new() {
        let outage = Arc::new(Outage::default());
        let before = outage.answers();
        outage.answered();
        assert!(!outage.failed(Failure::TimedOut, before, at(30_000), MIDDLE));
        assert_eq!(outage.standing(), Standing::Up);
        outage.failed(Failure::TimedOut, outage.answers(), at(30_000), MIDDLE);
        assert_eq!(outage.standing(), Standing::Doubtful);
    }

    #[test]
    fn what_was_ordered_does_not_end() {
        let outage = Arc::new(Outage::ordered());
        for ms in [0, 1_000, 3_600_000] {
            let Admission::Down(down) = outage.admit(at(ms)) else {
                panic!("nobody is to ask")
            };
            assert_eq!(down.retry_in, OFFLINE_RETRY);
            assert!(!outage.answered(), "by who asked before");
            assert_eq!(outage.standing(), Standing::Offline);
        }
        assert_eq!(outage.downs.get(), 0);
    }
}

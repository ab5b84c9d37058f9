//! When the store is not asked: after several failures in a short time for a while, and for as
//! long as it said itself. Pure; whoever asks brings the time.

use std::time::Duration;

use crate::clock::Moment;

/// Failures within [`WINDOW`] that open it.
const FAILURES: usize = 5;
/// The time in which they must happen.
const WINDOW: Duration = Duration::from_secs(1);
/// How long it stays open before one request may try.
const OPEN: Duration = Duration::from_secs(2);
/// How long the store may ask to be left alone: more is not believed.
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// Whether the store is asked.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    state: State,
    /// When the latest failures were, in a ring.
    failures: [Option<Moment>; FAILURES],
    next: usize,
    /// Until when the store wants no request.
    paused: Option<Moment>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open {
        until: Moment,
    },
    /// One request tries.
    Probing,
}

/// The state, as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// No request passes.
    Open,
    /// One request tries whether the store works again.
    HalfOpen,
}

/// Whether a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may.
    Go,
    /// It may, and decides for all others.
    Probe,
    /// Not before that moment; `paused` if the store asked for it.
    NotBefore {
        /// The moment.
        moment: Moment,
        /// Whether the store asked for it.
        paused: bool,
    },
}

impl Breaker {
    /// Whether a request may go at `now`.
    pub(super) fn admit(&mut self, now: Moment) -> Admission {
        if let Some((moment, paused)) = self.withholds(now) {
            return Admission::NotBefore { moment, paused };
        }
        self.paused = None;
        match self.state {
            State::Open { .. } => {
                self.state = State::Probing;
                Admission::Probe
            }
            State::Closed | State::Probing => Admission::Go,
        }
    }

    /// Until when no request may go, and whether the store asked for that; none if one may.
    pub(super) fn withholds(&self, now: Moment) -> Option<(Moment, bool)> {
        if let Some(until) = self.paused.filter(|&until| until > now) {
            return Some((until, true));
        }
        match self.state {
            State::Closed => None,
            State::Open { until } => (until > now).then_some((until, false)),
            // The probe has a deadline; whoever waits looks again soon.
            State::Probing => Some((now.after(Duration::from_millis(50)), false)),
        }
    }

    /// A request that was let go was answered.
    pub(super) fn succeeded(&mut self) {
        *self = Self {
            paused: self.paused,
            ..Self::default()
        };
    }

    /// A request that was let go failed at `now`. Whether that opened it.
    pub(super) fn failed(&mut self, now: Moment) -> bool {
        if let Some(place) = self.failures.get_mut(self.next) {
            *place = Some(now);
        }
        self.next = (self.next + 1) % FAILURES;
        let recent = |at: &Option<Moment>| at.is_some_and(|at| now.since(at) < WINDOW);
        let opens = match self.state {
            State::Closed => self.failures.iter().all(recent),
            State::Probing => true,
            State::Open { .. } => false,
        };
        if opens {
            self.state = State::Open {
                until: now.after(OPEN),
            };
        }
        opens
    }

    /// The store wants no request for `pause` from `now` on.
    pub(super) fn pause(&mut self, now: Moment, pause: Duration) {
        let until = now.after(pause.min(PAUSE_MAX));
        self.paused = self.paused.max(Some(until));
    }

    /// The request that was to probe was given up: another one may at once.
    pub(super) fn forgone(&mut self, now: Moment) {
        if self.state == State::Probing {
            self.state = State::Open { until: now };
        }
    }

    /// The state.
    pub(super) fn state(&self) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::Probing => BreakerState::HalfOpen,
        }
    }

    /// Whether the store wants no request at `now`.
    pub(super) fn is_paused(&self, now: Moment) -> bool {
        self.paused.is_some_and(|until| until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    fn not_before(ms: u64, paused: bool) -> Admission {
        Admission::NotBefore {
            moment: at(ms),
            paused,
        }
    }

    fn open() -> Breaker {
        let mut breaker = Breaker::default();
        let opened: Vec<bool> = (0..5).map(|n| breaker.failed(at(n * 100))).collect();
        assert_eq!(opened, [false, false, false, false, true]);
        breaker
    }

    #[test]
    fn five_failures_in_a_second_open_it_for_two() {
        let mut breaker = open();
        assert_eq!(breaker.state(), BreakerState::Open);
        assert_eq!(breaker.admit(at(500)), not_before(2_400, false));
        assert_eq!(breaker.admit(at(2_399)), not_before(2_400, false));
        assert_eq!(breaker.admit(at(2_400)), Admission::Probe);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert_eq!(breaker.admit(at(2_400)), not_before(2_450, false));
    }

    #[test]
    fn failures_that_are_spread_do_not() {
        let mut breaker = Breaker::default();
        assert!((0..50).all(|n| !breaker.failed(at(n * 250))));
        breaker.succeeded();
        assert!((0..4).all(|n| !breaker.failed(at(20_000 + n))));
        breaker.succeeded();
        assert!(!breaker.failed(at(20_005)), "what succeeds ends the count");
    }

    #[test]
    fn the_probe_decides() {
        let mut breaker = open();
        assert_eq!(breaker.admit(at(2_400)), Admission::Probe);
        assert!(!breaker.failed(at(2_500)) || breaker.state() == BreakerState::Open);
        assert_eq!(breaker.admit(at(4_499)), not_before(4_500, false));
        assert_eq!(breaker.admit(at(4_500)), Admission::Probe);
        breaker.forgone(at(4_600));
        assert_eq!(breaker.admit(at(4_600)), Admission::Probe);
        breaker.succeeded();
        assert_eq!(breaker.admit(at(4_600)), Admission::Go);
        assert_eq!(breaker.admit(at(4_600)), Admission::Go);
    }

    #[test]
    fn what_the_store_asks_for_is_kept_to_for_a_minute_at_most() {
        let mut breaker = Breaker::default();
        breaker.pause(at(0), Duration::from_secs(3));
        breaker.pause(at(0), Duration::from_secs(1));
        breaker.succeeded();
        assert!(breaker.is_paused(at(2_999)));
        assert_eq!(breaker.admit(at(2_999)), not_before(3_000, true));
        assert_eq!(breaker.admit(at(3_000)), Admission::Go);
        breaker.pause(at(3_000), Duration::MAX);
        assert_eq!(breaker.admit(at(62_999)), not_before(63_000, true));
        assert_eq!(breaker.admit(at(63_000)), Admission::Go);
    }
}

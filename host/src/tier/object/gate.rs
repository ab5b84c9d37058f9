//! Whether the store is asked, for all requests at once: the breaker, behind a lock that is held
//! for moments, with permits that cannot be forgotten.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::breaker::{Admission, Breaker, BreakerState};
use crate::clock::{self, Moment};

/// Lets requests through, or not.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<Mutex<Breaker>>);

/// The store is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Withheld {
    /// Not before then.
    pub(super) until: Moment,
    /// Because the store asked for a pause.
    pub(super) paused: bool,
}

impl Gate {
    /// Lets a request through.
    ///
    /// # Errors
    /// The store is not asked now.
    pub(super) fn enter(&self) -> Result<Permit, Withheld> {
        let probes = match self.lock().admit(clock::now()) {
            Admission::Go => false,
            Admission::Probe => true,
            Admission::NotBefore { moment, paused } => {
                return Err(Withheld {
                    until: moment,
                    paused,
                });
            }
        };
        Ok(Permit {
            gate: self.clone(),
            probes,
        })
    }

    /// Whether a request would be let through, without letting one.
    pub(super) fn closed_until(&self) -> Option<Withheld> {
        self.lock()
            .withholds(clock::now())
            .map(|(until, paused)| Withheld { until, paused })
    }

    /// The store asked for a pause.
    pub(super) fn pause(&self, pause: Duration) {
        self.lock().pause(clock::now(), pause);
    }

    /// The state of the breaker.
    pub(super) fn state(&self) -> BreakerState {
        self.lock().state()
    }

    /// Whether the store asked for a pause that is not over.
    pub(super) fn is_paused(&self) -> bool {
        self.lock().is_paused(clock::now())
    }

    fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to make a request, and the duty to say how it ended. Dropped without a word it says
/// nothing of the store.
#[must_use = "a permit is for one request"]
#[derive(Debug)]
pub(super) struct Permit {
    gate: Gate,
    probes: bool,
}

impl Permit {
    /// The store answered.
    pub(super) fn succeeded(mut self) {
        self.probes = false;
        self.gate.lock().succeeded();
    }

    /// It failed, or did not answer. Whether that was once too often.
    pub(super) fn failed(mut self) -> bool {
        self.probes = false;
        self.gate.lock().failed(clock::now())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.probes {
            self.gate.lock().forgone(clock::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_that_is_given_up_does_not_block_the_next() {
        let gate = Gate::default();
        let permits: Vec<Permit> = (0..6).map(|_| gate.enter().unwrap()).collect();
        for (permit, number) in permits.into_iter().zip(1..) {
            assert_eq!(permit.failed(), number == 5);
        }
        let withheld = gate.enter().unwrap_err();
        assert!(!withheld.paused);
        assert_eq!(gate.closed_until().unwrap().until, withheld.until);
        // Time passes here.
        *gate.lock() = {
            let mut breaker = Breaker::default();
            let failures = (0..5).map(|_| breaker.failed(Moment::from_millis(0)));
            assert_eq!(failures.filter(|opened| *opened).count(), 1);
            assert_eq!(breaker.admit(Moment::from_millis(2_000)), Admission::Probe);
            breaker
        };
        let probe = Permit {
            gate: gate.clone(),
            probes: true,
        };
        assert!(gate.enter().is_err());
        drop(probe);
        gate.enter().unwrap().succeeded();
        assert_eq!(gate.state(), BreakerState::Closed);
        gate.pause(Duration::from_secs(10));
        assert!(gate.enter().unwrap_err().paused);
        assert!(gate.is_paused());
    }
}

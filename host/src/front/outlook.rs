//! What a request may expect of a fetch, by what became of those before it: whether it is worth
//! waiting for others, and whether the origin is worth asking at all.

use std::time::Duration;

use http::header::AUTHORIZATION;

use super::exchange::Exchange;
use super::miss::Miss;
use super::origin::outage::{Admission, Down, Probe};
use crate::cache::outcomes::{Failing, Place};
use crate::clock;

/// What a request may expect of a fetch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// What the key brought lately was not for sharing: waiting for others would be in vain.
    pub not_shared: bool,
    /// The origin, or this key of it, has failed and nothing has come of it since.
    pub trouble: Option<Trouble>,
}

/// A failing origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Whether this request is to try again.
    pub due: bool,
    /// Set if a request is refused that nothing stored may answer.
    pub refused: Option<Down>,
    /// What trusted clients are told.
    pub note: &'static str,
}

const NOT_SHARED: &str = "hit-for-miss";
const ORIGIN: &str = "origin failing";
const KEY: &str = "key failing";

impl Outlook {
    /// The outlook of `exchange`, whose lookup ended in `miss`. If it is to try an origin in
    /// trouble, `miss` gets the right to.
    pub fn of(exchange: &Exchange, miss: &Miss) -> Self {
        let now = clock::now();
        let place = Place::new(&miss.key, exchange.head.headers.contains_key(AUTHORIZATION));
        let recalled = exchange.worker.edge.cache.outcomes.recall(place, now);
        let admit = || exchange.site.upstream.outage.admit(now);
        let (trouble, probe) = trouble(recalled.failing, admit);
        if probe.is_some() {
            miss.probe.set(probe);
        }
        Self {
            not_shared: recalled.not_shared,
            trouble,
        }
    }

    /// Whether a stored response that is answered at once should be validated in the background.
    pub fn is_worth_trying(&self) -> bool {
        self.trouble.is_none_or(|trouble| trouble.due)
    }

    /// How a request that nothing stored may answer is refused, if it is.
    pub fn refused(&self) -> Option<Down> {
        self.trouble?.refused
    }

    /// What trusted clients are told of it.
    pub fn note(&self) -> Option<&'static str> {
        let not_shared = self.not_shared.then_some(NOT_SHARED);
        self.trouble.map(|trouble| trouble.note).or(not_shared)
    }
}

/// The trouble with a key that is `failing`, of an origin that `admit` asks about only if the key is
/// not to be left alone anyway.
fn trouble(
    failing: Option<Failing>,
    admit: impl FnOnce() -> Admission,
) -> (Option<Trouble>, Option<Probe>) {
    let left_alone = failing.filter(|failing| !failing.retry_in.is_zero());
    if let Some(failing) = left_alone {
        let refused = failing.refused.map(|failure| Down {
            failure,
            retry_in: failing.retry_in.max(Duration::from_secs(1)),
        });
        let trouble = Trouble {
            due: false,
            refused,
            note: KEY,
        };
        return (Some(trouble), None);
    }
    let origin = |due, refused| Trouble {
        due,
        refused,
        note: ORIGIN,
    };
    match admit() {
        Admission::Open => {
            let due = |_| Trouble {
                due: true,
                refused: None,
                note: KEY,
            };
            (failing.map(due), None)
        }
        Admission::Probe(probe) => (Some(origin(true, None)), Some(probe)),
        Admission::Doubtful => (Some(origin(false, None)), None),
        Admission::Down(down) => (Some(origin(false, Some(down))), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::flight::Failure;

    const SECOND: Duration = Duration::from_secs(1);

    fn failing(retry_in: Duration, refused: Option<Failure>) -> Failing {
        Failing { retry_in, refused }
    }

    #[test]
    fn a_key_that_is_left_alone_says_nothing_to_its_origin() {
        let never = || panic!("the origin is not to be asked about");
        for (refused, expected) in [(None, None), (Some(Failure::TimedOut), Some(3))] {
            let (found, probe) = trouble(Some(failing(3 * SECOND, refused)), never);
            let found = found.expect("it fails");
            assert!(!found.due && probe.is_none());
            let retry_in = found.refused.map(|down| down.retry_in.as_secs());
            assert_eq!(retry_in, expected);
        }
        let (found, _) = trouble(Some(failing(SECOND / 10, Some(Failure::TimedOut))), never);
        let refused = found.and_then(|found| found.refused);
        assert_eq!(refused.map(|down| down.retry_in), Some(SECOND), "at least");
    }

    #[test]
    fn otherwise_the_origin_decides() {
        let down = Down {
            failure: Failure::Unreachable,
            retry_in: SECOND,
        };
        let due = failing(Duration::ZERO, Some(Failure::TimedOut));
        for key in [None, Some(due)] {
            let (found, _) = trouble(key, || Admission::Open);
            assert_eq!(
                found.map(|found| (found.due, found.refused)),
                key.map(|_| (true, None))
            );
            let (found, _) = trouble(key, || Admission::Doubtful);
            assert_eq!(
                found.map(|found| (found.due, found.refused)),
                Some((false, None))
            );
            let (found, _) = trouble(key, || Admission::Down(down));
            assert_eq!(
                found.map(|found| (found.due, found.refused)),
                Some((false, Some(down)))
            );
        }
    }
}

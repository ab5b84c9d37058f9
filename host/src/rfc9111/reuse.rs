//! Whether a stored response answers one particular request (RFC 9111 4, 5.2.1).
//!
//! The stored response's own verdict is never improved by a request, save where the response
//! allows stale use and the request accepts it.

use std::time::Duration;

use crate::clock::Moment;
use crate::entry::{Lifetime, Reuse, Usable};

use super::cache_control::{MaxStale, RequestDirectives, RequestFlag};

/// Which directives of a request are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Honour {
    /// Those that cannot make the origin work more: `max-stale`, `stale-if-error`, `no-store`,
    /// `only-if-cached`. RFC 9111 5.2.1 calls all of them advisory, and at an edge any client
    /// could otherwise send every request through to the origin.
    #[default]
    Safe,
    /// All.
    All,
}

/// Judges a stored response for a request at `now`.
///
/// A stale response that the request's `max-stale` accepts is answered as one that is served while
/// it is validated, so that the next client finds it fresh.
pub fn judge(
    lifetime: &Lifetime,
    now: Moment,
    request: &RequestDirectives,
    honour: Honour,
) -> Usable {
    let usable = lifetime.judge(now);
    if *request == RequestDirectives::default() {
        return usable;
    }
    let age = lifetime.age(now);
    let by = age.saturating_sub(lifetime.fresh_for);
    let to_validate = Usable::Stale {
        by,
        on_error: covers_error(lifetime, by, request),
    };
    if honour == Honour::All && demands_validation(usable, age, request) {
        return to_validate;
    }
    match usable {
        Usable::Stale { .. } if lifetime.reuse == Reuse::Normal && accepts_stale(by, request) => {
            Usable::StaleWhileRevalidate { by }
        }
        Usable::Stale { .. } => to_validate,
        Usable::Fresh { .. } | Usable::StaleWhileRevalidate { .. } => usable,
    }
}

/// Whether the request turns away what the response itself allows: by `no-cache`, `max-age` or
/// `min-fresh`.
fn demands_validation(usable: Usable, age: Duration, request: &RequestDirectives) -> bool {
    let (remaining, background) = match usable {
        Usable::Fresh { remaining } => (remaining, false),
        Usable::StaleWhileRevalidate { .. } => (Duration::ZERO, true),
        Usable::Stale { .. } => (Duration::ZERO, false),
    };
    request.has(RequestFlag::NoCache)
        || request.max_age.is_some_and(|limit| age > limit)
        || request.min_fresh.is_some_and(|wanted| remaining < wanted)
        // RFC 9111 5.2.1.1: beside `max-age` only `max-stale` lets in what is stale.
        || (background && request.max_age.is_some() && request.max_stale.is_none())
}

/// Whether the request's `max-stale` takes a response that has been stale for `by`.
fn accepts_stale(by: Duration, request: &RequestDirectives) -> bool {
    match request.max_stale {
        None => false,
        Some(MaxStale::Any) => true,
        Some(MaxStale::Within(limit)) => by <= limit,
    }
}

/// Whether a failing origin may be covered up for, by the response's word or by the request's
/// (RFC 5861 4).
fn covers_error(lifetime: &Lifetime, by: Duration, request: &RequestDirectives) -> bool {
    let window = lifetime
        .stale_if_error
        .max(request.stale_if_error.unwrap_or_default());
    lifetime.reuse == Reuse::Normal && by < window
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::CACHE_CONTROL;
    use http::{HeaderMap, HeaderValue};

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    const LIFETIME: Lifetime = Lifetime {
        stored_at: Moment::from_millis(0),
        initial_age: Duration::ZERO,
        fresh_for: secs(100),
        stale_while_revalidate: secs(10),
        stale_if_error: secs(20),
        reuse: Reuse::Normal,
    };

    fn directives(value: &'static str) -> RequestDirectives {
        let value = HeaderValue::from_static(value);
        RequestDirectives::parse(&HeaderMap::from_iter([(CACHE_CONTROL, value)]))
    }

    fn check(value: &'static str, at: u64, honour: Honour, expected: Usable) {
        let now = Moment::from_millis(at * 1000);
        assert_eq!(
            judge(&LIFETIME, now, &directives(value), honour),
            expected,
            "{value} at {at}"
        );
    }

    const fn fresh(remaining: u64) -> Usable {
        Usable::Fresh {
            remaining: secs(remaining),
        }
    }

    const fn background(by: u64) -> Usable {
        Usable::StaleWhileRevalidate { by: secs(by) }
    }

    const fn stale(by: u64, on_error: bool) -> Usable {
        Usable::Stale {
            by: secs(by),
            on_error,
        }
    }

    #[test]
    fn demands_are_followed_only_where_all_are_honoured() {
        for value in ["no-cache", "max-age=10", "max-age=x", "min-fresh=60"] {
            check(value, 50, Honour::Safe, fresh(50));
            check(value, 50, Honour::All, stale(0, true));
        }
        check("max-age=50", 50, Honour::All, fresh(50));
        check("min-fresh=50", 50, Honour::All, fresh(50));
        check("max-age=200", 105, Honour::All, stale(5, true));
        check("max-age=200, max-stale", 105, Honour::All, background(5));
        check("max-age=200, max-stale", 150, Honour::All, background(50));
        check("max-stale, min-fresh=1", 150, Honour::All, stale(50, false));
        check("min-fresh=1", 105, Honour::All, stale(5, true));
        check("max-age=10, max-stale", 50, Honour::All, stale(0, true));
        check("no-cache, max-stale", 150, Honour::All, stale(50, false));
    }

    #[test]
    fn stale_responses_are_accepted_on_request() {
        for honour in [Honour::Safe, Honour::All] {
            check("no-transform", 105, honour, background(5));
            check("no-transform", 115, honour, stale(15, true));
            check("no-transform", 150, honour, stale(50, false));
            check("max-stale", 150, honour, background(50));
            check("max-stale=50", 150, honour, background(50));
            check("max-stale=49", 150, honour, stale(50, false));
            check("stale-if-error=60", 150, honour, stale(50, true));
        }
    }

    #[test]
    fn no_request_overrules_the_response() {
        for (reuse, at) in [(Reuse::FreshOnly, 150), (Reuse::AfterValidation, 50)] {
            let lifetime = Lifetime { reuse, ..LIFETIME };
            let now = Moment::from_millis(at * 1000);
            for value in ["max-stale", "max-stale=99, stale-if-error=99"] {
                let usable = judge(&lifetime, now, &directives(value), Honour::All);
                assert!(
                    matches!(
                        usable,
                        Usable::Stale {
                            on_error: false,
                            ..
                        }
                    ),
                    "{value}"
                );
            }
        }
    }
}

//! Whether a stored response answers one particular request (RFC 9111 4, 5.2.1).
//!
//! The stored response's own verdict is never improved by a request, save where the response
//! allows stale use and the request accepts it.

use std::time::Duration;

use crate::clock::Moment;
use crate::entry::{Lifetime, Reuse, Usable};

use super::cache_control::{MaxStale, RequestDirectives, RequestFlag, ResponseDirectives};

/// A stored response, judged for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What it may do by its own word, and by what the request accepts of it.
    pub usable: Usable,
    /// What it may do if the request is obeyed that turns away what `usable` would answer with;
    /// none if the request demands nothing more.
    pub demanded: Option<Usable>,
}

/// Judges a stored response for a request at `now`.
///
/// A stale response that the request's `max-stale` accepts is answered as one that is served while
/// it is validated, so that the next client finds it fresh.
pub fn judge(lifetime: &Lifetime, now: Moment, request: &RequestDirectives) -> Judged {
    let age = lifetime.age(now);
    let by = age.saturating_sub(lifetime.fresh_for);
    let to_validate = Usable::Stale {
        by,
        on_error: covers_error(lifetime, by, request),
    };
    let usable = match lifetime.judge(now) {
        Usable::Stale { .. } if lifetime.reuse == Reuse::Normal && accepts_stale(by, request) => {
            Usable::StaleWhileRevalidate { by }
        }
        Usable::Stale { .. } => to_validate,
        answers => answers,
    };
    let demanded = demands_validation(usable, age, request).then_some(to_validate);
    Judged { usable, demanded }
}

/// Whether the request turns away what would answer it: by `no-cache`, `max-age` or `min-fresh`,
/// or by a `max-stale` that is shorter than the window which the response gives itself.
fn demands_validation(usable: Usable, age: Duration, request: &RequestDirectives) -> bool {
    let (remaining, stale_by) = match usable {
        Usable::Fresh { remaining } => (remaining, None),
        Usable::StaleWhileRevalidate { by } => (Duration::ZERO, Some(by)),
        Usable::Stale { .. } => return false,
    };
    let turns_stale_away = stale_by.is_some_and(|by| match request.max_stale {
        // RFC 9111 5.2.1.1: beside `max-age` only `max-stale` lets in what is stale.
        None => request.max_age.is_some(),
        Some(_) => !accepts_stale(by, request),
    });
    turns_stale_away
        || request.has(RequestFlag::NoCache)
        || request.max_age.is_some_and(|limit| age > limit)
        || request.min_fresh.is_some_and(|wanted| remaining < wanted)
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

/// Whether a stale response may answer because its origin cannot be reached (RFC 9111 4.2.4): unless
/// it forbids that or says itself how long it may stand in, or the request wants something newer.
pub fn may_bridge(reuse: Reuse, said: &ResponseDirectives, request: &RequestDirectives) -> bool {
    let demands = request.has(RequestFlag::NoCache)
        || request.max_age.is_some()
        || request.min_fresh.is_some();
    reuse == Reuse::Normal && said.stale_if_error.is_none() && !demands
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

    fn judged(lifetime: &Lifetime, value: &'static str, at: u64) -> Judged {
        let value = HeaderValue::from_static(value);
        let headers: HeaderMap = [(CACHE_CONTROL, value)].into_iter().collect();
        let directives = RequestDirectives::parse(&headers);
        judge(lifetime, Moment::from_millis(at * 1000), &directives)
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
    fn an_origin_out_of_reach_is_stood_in_for_where_nothing_forbids_it() {
        let parsed = |value: &'static str| -> HeaderMap {
            [(CACHE_CONTROL, HeaderValue::from_static(value))]
                .into_iter()
                .collect()
        };
        for (reuse, said, asked, expected) in [
            (Reuse::Normal, "max-age=1", "", true),
            (Reuse::Normal, "max-age=1", "max-stale=1, no-store", true),
            (Reuse::Normal, "max-age=1, stale-if-error=0", "", false),
            (Reuse::Normal, "max-age=1", "no-cache", false),
            (Reuse::Normal, "max-age=1", "max-age=100", false),
            (Reuse::Normal, "max-age=1", "min-fresh=0", false),
            (Reuse::FreshOnly, "s-maxage=1", "", false),
            (Reuse::AfterValidation, "no-cache", "", false),
        ] {
            let said = ResponseDirectives::parse(&parsed(said));
            let request = RequestDirectives::parse(&parsed(asked));
            assert_eq!(
                may_bridge(reuse, &said, &request),
                expected,
                "{said:?} {asked}"
            );
        }
    }

    #[test]
    fn demands_are_told_apart_from_what_would_answer() {
        for (value, at, usable, demanded) in [
            ("no-cache", 50, fresh(50), Some(stale(0, true))),
            ("max-age=10", 50, fresh(50), Some(stale(0, true))),
            ("max-age=0", 50, fresh(50), Some(stale(0, true))),
            ("max-age=x", 50, fresh(50), Some(stale(0, true))),
            ("min-fresh=60", 50, fresh(50), Some(stale(0, true))),
            ("max-age=10, max-stale", 50, fresh(50), Some(stale(0, true))),
            ("max-age=50", 50, fresh(50), None),
            ("max-age=51", 50, fresh(50), None),
            ("min-fresh=50", 50, fresh(50), None),
            ("min-fresh=x", 50, fresh(50), None),
            ("max-age=200", 105, background(5), Some(stale(5, true))),
            ("min-fresh=1", 105, background(5), Some(stale(5, true))),
            ("max-stale=4", 105, background(5), Some(stale(5, true))),
            ("max-stale=5", 105, background(5), None),
            ("max-age=200, max-stale", 105, background(5), None),
            ("max-age=200, max-stale", 150, background(50), None),
            (
                "no-cache, max-stale",
                150,
                background(50),
                Some(stale(50, false)),
            ),
            (
                "max-stale, min-fresh=1",
                150,
                background(50),
                Some(stale(50, false)),
            ),
            ("no-cache", 150, stale(50, false), None),
        ] {
            let expected = Judged { usable, demanded };
            assert_eq!(judged(&LIFETIME, value, at), expected, "{value} at {at}");
        }
    }

    #[test]
    fn stale_responses_are_accepted_on_request() {
        for (value, at, usable) in [
            ("no-transform", 105, background(5)),
            ("no-transform", 115, stale(15, true)),
            ("no-transform", 150, stale(50, false)),
            ("max-stale", 150, background(50)),
            ("max-stale=50", 150, background(50)),
            ("max-stale=49", 150, stale(50, false)),
            ("max-stale=x", 150, stale(50, false)),
            ("stale-if-error=60", 150, stale(50, true)),
            ("stale-if-error=50", 150, stale(50, false)),
        ] {
            let demanded = None;
            let expected = Judged { usable, demanded };
            assert_eq!(judged(&LIFETIME, value, at), expected, "{value} at {at}");
        }
    }

    #[test]
    fn no_request_overrules_the_response() {
        for (reuse, at) in [(Reuse::FreshOnly, 150), (Reuse::AfterValidation, 50)] {
            let lifetime = Lifetime { reuse, ..LIFETIME };
            for value in ["max-stale", "max-stale=99, stale-if-error=99"] {
                let judged = judged(&lifetime, value, at);
                assert_eq!(judged.demanded, None, "{value}");
                let on_error = matches!(
                    judged.usable,
                    Usable::Stale {
                        on_error: false,
                        ..
                    }
                );
                assert!(on_error, "{value}");
            }
        }
    }
}

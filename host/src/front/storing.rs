//! What becomes of a response from the origin: the native verdict, what the site's freshness
//! policy makes of it, and the floor that no policy crosses. Pure.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::entry::{Lifetime, Reuse};
use crate::policy::bindings::freshness::{NativeVerdict, Rules};
use crate::policy::freshness::{Answer, native_verdict};
use crate::rfc9111::freshness::{Basis, Native};
use crate::rfc9111::storable::Storable;

/// Whether and how a response is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// How long it may be used; none: it is not stored.
    pub lifetime: Option<Lifetime>,
    /// Purge tags that the policy added.
    pub tags: Vec<String>,
    /// Who decided: a policy's label or the native rule's.
    pub decided_by: Arc<str>,
}

/// Lifetimes that a policy may give on a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyBounds {
    /// Shortest.
    pub min: Duration,
    /// Longest.
    pub max: Duration,
}

/// The native verdict in the words of the policy interface.
pub fn describe(native: &Native) -> NativeVerdict {
    let mut rules = Rules::empty();
    let facts = [
        (
            Rules::NEVER_STORE,
            matches!(native.storable, Storable::No(_)),
        ),
        (Rules::MUST_REVALIDATE, native.reuse != Reuse::Normal),
        (Rules::EXPLICIT_LIFETIME, native.basis == Basis::Explicit),
        (Rules::HEURISTIC, native.basis == Basis::Heuristic),
        (Rules::HAS_VALIDATOR, native.has_validator),
    ];
    for (rule, holds) in facts {
        if holds {
            rules |= rule;
        }
    }
    let windows = [
        native.lifetime,
        native.stale_while_revalidate,
        native.stale_if_error,
    ];
    native_verdict(rules, windows)
}

/// Amends `native` by `answer`, which `policy` gave; none is the native rule.
pub fn decide(
    native: &Native,
    answer: Option<(Answer, Arc<str>)>,
    bounds: PolicyBounds,
    now: Moment,
) -> Decision {
    let (answer, decided_by) = match answer {
        Some((answer, label)) => (answer, label),
        None => (
            Answer::Native,
            Arc::from(crate::policy::hook::Hook::Freshness.native()),
        ),
    };
    let never = Decision {
        lifetime: None,
        tags: Vec::new(),
        decided_by,
    };
    // The floor: what may not be stored is not, whatever was answered.
    if matches!(native.storable, Storable::No(_)) {
        return never;
    }
    match answer {
        Answer::DoNotStore => never,
        Answer::Native => match native.storable {
            Storable::Yes => Decision {
                lifetime: Some(native.to_lifetime(now)),
                ..never
            },
            _ => never,
        },
        Answer::Store(storing) => {
            let mut lifetime = native.to_lifetime(now);
            lifetime.fresh_for = storing
                .fresh_for
                .clamp(bounds.min.min(bounds.max), bounds.max);
            match native.reuse {
                Reuse::Normal => {
                    lifetime.stale_while_revalidate =
                        storing.stale_while_revalidate.min(bounds.max);
                    lifetime.stale_if_error = storing.stale_if_error.min(bounds.max);
                }
                // What must be revalidated once stale is neither fresh for longer than the origin
                // said nor used stale.
                Reuse::FreshOnly | Reuse::AfterValidation => {
                    lifetime.fresh_for = lifetime.fresh_for.min(native.lifetime);
                    lifetime.stale_while_revalidate = Duration::ZERO;
                    lifetime.stale_if_error = Duration::ZERO;
                }
            }
            let usable = !lifetime.remaining(now).is_zero()
                || !lifetime.stale_while_revalidate.is_zero()
                || !lifetime.stale_if_error.is_zero()
                || native.has_validator;
            if storing.memory && usable {
                Decision {
                    lifetime: Some(lifetime),
                    tags: storing.tags,
                    ..never
                }
            } else {
                never
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Usable;
    use crate::policy::freshness::Storing;
    use crate::rfc9111::facts::{RequestFacts, ResponseFacts};
    use crate::rfc9111::freshness::{Bounds, Times, native};
    use crate::rfc9111::storable::Reason;
    use http::header::{AGE, AUTHORIZATION, CACHE_CONTROL, ETAG, VARY};
    use http::{HeaderMap, HeaderValue, Method, StatusCode};
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn verdict(storable: Storable, reuse: Reuse) -> Native {
        Native {
            storable,
            lifetime: S(60),
            basis: Basis::Explicit,
            stale_while_revalidate: S(5),
            stale_if_error: S(7),
            reuse,
            initial_age: S(0),
            has_validator: false,
            withheld: Vec::new(),
        }
    }

    fn store(seconds: u64) -> Answer {
        Answer::Store(Storing {
            fresh_for: S(seconds),
            stale_while_revalidate: S(100),
            stale_if_error: S(200),
            memory: true,
            tags: vec!["a".to_owned()],
        })
    }

    fn check(native: &Native, answer: Answer, expected: Option<(u64, u64, u64)>) {
        let bounds = PolicyBounds {
            min: S(10),
            max: S(1_000),
        };
        let decision = decide(
            native,
            Some((answer, "p@1".into())),
            bounds,
            Moment::from_millis(0),
        );
        let found = decision.lifetime.map(|lifetime| {
            (
                lifetime.fresh_for.as_secs(),
                lifetime.stale_while_revalidate.as_secs(),
                lifetime.stale_if_error.as_secs(),
            )
        });
        assert_eq!(found, expected);
        assert_eq!(&*decision.decided_by, "p@1");
    }

    #[test]
    fn a_policy_amends_within_the_bounds() {
        let native = verdict(Storable::Yes, Reuse::Normal);
        check(&native, Answer::Native, Some((60, 5, 7)));
        check(&native, Answer::DoNotStore, None);
        check(&native, store(300), Some((300, 100, 200)));
        check(&native, store(1), Some((10, 100, 200)));
        check(&native, store(u64::MAX / 1_000), Some((1_000, 100, 200)));
    }

    #[test]
    fn no_policy_crosses_the_floor() {
        let forbidden = verdict(Storable::No(Reason::RequestNoStore), Reuse::Normal);
        check(&forbidden, store(300), None);
        check(&forbidden, Answer::Native, None);
        let strict = verdict(Storable::Yes, Reuse::FreshOnly);
        check(&strict, store(300), Some((60, 0, 0)));
        check(&strict, store(20), Some((20, 0, 0)));
    }

    /// A request, a response and the times of an exchange, with everything in it that the floor
    /// is made of.
    #[derive(Clone, Debug)]
    struct Exchanged {
        asked: Vec<&'static str>,
        authorized: bool,
        status: u16,
        given: Vec<&'static str>,
        vary: &'static str,
        validator: bool,
        age: u64,
    }

    impl Exchanged {
        fn native(&self) -> Native {
            let value = |text: &str| HeaderValue::from_str(text).unwrap();
            let mut request = HeaderMap::new();
            request.insert(CACHE_CONTROL, value(&self.asked.join(", ")));
            if self.authorized {
                request.insert(AUTHORIZATION, value("Basic x"));
            }
            let mut response = HeaderMap::new();
            response.insert(CACHE_CONTROL, value(&self.given.join(", ")));
            response.insert(VARY, value(self.vary));
            response.insert(AGE, HeaderValue::from(self.age));
            if self.validator {
                response.insert(ETAG, value("\"a\""));
            }
            let times = Times {
                request_time: UNIX_EPOCH,
                response_time: UNIX_EPOCH,
            };
            let status = StatusCode::from_u16(self.status).unwrap();
            native(
                &RequestFacts::new(&Method::GET, &request),
                &ResponseFacts::new(status, &response, UNIX_EPOCH),
                times,
                &Bounds::default(),
            )
        }

        fn says(&self, directive: &str) -> bool {
            let names = |given: &&str| given.split('=').next() == Some(directive);
            self.given.iter().any(names)
        }

        /// Whether RFC 9111 3 lets a shared cache store it, read off the words themselves.
        fn is_forbidden(&self) -> bool {
            let shares = ["public", "must-revalidate", "s-maxage"];
            self.asked.contains(&"no-store")
                || (self.says("no-store") && !self.says("must-understand"))
                || self.given.contains(&"private")
                || self.vary.contains('*')
                || [206, 304].contains(&self.status)
                || (self.authorized && !shares.iter().any(|word| self.says(word)))
        }
    }

    fn exchanged() -> impl Strategy<Value = Exchanged> {
        let asked = prop::sample::subsequence(vec!["no-store", "max-stale", "no-cache"], 0..=3);
        let given = prop::sample::subsequence(
            vec![
                "no-store",
                "must-understand",
                "private",
                "private=\"x\"",
                "public",
                "no-cache",
                "must-revalidate",
                "proxy-revalidate",
                "s-maxage=50",
                "max-age=100",
                "stale-while-revalidate=30",
                "stale-if-error=40",
            ],
            0..=8,
        );
        let status = prop::sample::select(vec![200, 206, 299, 302, 304, 404, 412, 503]);
        let vary = prop::sample::select(vec!["", "accept", "*", "a, *"]);
        let rest = (any::<bool>(), any::<bool>(), 0_u64..200);
        (asked, given, status, vary, rest).prop_map(|(asked, given, status, vary, rest)| {
            let (authorized, validator, age) = rest;
            Exchanged {
                asked,
                authorized,
                status,
                given,
                vary,
                validator,
                age,
            }
        })
    }

    fn answered() -> impl Strategy<Value = Answer> {
        let any_time = || prop_oneof![0_u64..300, any::<u64>()].prop_map(Duration::from_millis);
        let store = (any_time(), any_time(), any_time(), any::<bool>());
        prop_oneof![
            Just(Answer::Native),
            Just(Answer::DoNotStore),
            store.prop_map(|(fresh_for, revalidate, on_error, memory)| {
                Answer::Store(Storing {
                    fresh_for: fresh_for.saturating_mul(1_000),
                    stale_while_revalidate: revalidate.saturating_mul(1_000),
                    stale_if_error: on_error.saturating_mul(1_000),
                    memory,
                    tags: Vec::new(),
                })
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn no_answer_of_a_policy_crosses_the_floor(
            exchanged in exchanged(),
            answer in answered(),
            (min, max) in (0_u64..500, 0_u64..500),
            later in 0_u64..400,
        ) {
            let native = exchanged.native();
            let bounds = PolicyBounds { min: S(min), max: S(max) };
            let stored = Moment::from_millis(0);
            let decision = decide(&native, Some((answer.clone(), "p@1".into())), bounds, stored);
            let Some(lifetime) = decision.lifetime else { return Ok(()) };
            prop_assert!(!exchanged.is_forbidden());
            prop_assert_ne!(&answer, &Answer::DoNotStore);
            // It is as old as it is, and no policy makes it younger.
            prop_assert_eq!(lifetime.initial_age, S(exchanged.age));
            let now = Moment::from_millis(later * 1_000);
            let usable = lifetime.judge(now);
            let age = S(exchanged.age + later);
            if exchanged.says("no-cache") {
                let validated = Usable::Stale { by: age.saturating_sub(lifetime.fresh_for), on_error: false };
                prop_assert_eq!(usable, validated);
            }
            let binding = ["must-revalidate", "proxy-revalidate", "s-maxage"];
            if binding.iter().any(|word| exchanged.says(word)) && age >= native.lifetime {
                let only_validated = matches!(usable, Usable::Stale { on_error: false, .. });
                prop_assert!(only_validated, "{:?}", usable);
            }
            if matches!(answer, Answer::Store(_)) {
                prop_assert!(lifetime.fresh_for <= S(max).max(native.lifetime));
            }
        }
    }

    #[test]
    fn what_natively_has_no_point_may_be_given_one() {
        let pointless = Native {
            lifetime: S(0),
            ..verdict(Storable::Pointless, Reuse::Normal)
        };
        check(&pointless, Answer::Native, None);
        check(&pointless, store(300), Some((300, 100, 200)));
    }
}

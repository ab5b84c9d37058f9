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
    use crate::policy::freshness::Storing;
    use crate::rfc9111::storable::Reason;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn native(storable: Storable, reuse: Reuse) -> Native {
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
        let native = native(Storable::Yes, Reuse::Normal);
        check(&native, Answer::Native, Some((60, 5, 7)));
        check(&native, Answer::DoNotStore, None);
        check(&native, store(300), Some((300, 100, 200)));
        check(&native, store(1), Some((10, 100, 200)));
        check(&native, store(u64::MAX / 1_000), Some((1_000, 100, 200)));
    }

    #[test]
    fn no_policy_crosses_the_floor() {
        let forbidden = native(Storable::No(Reason::RequestNoStore), Reuse::Normal);
        check(&forbidden, store(300), None);
        check(&forbidden, Answer::Native, None);
        let strict = native(Storable::Yes, Reuse::FreshOnly);
        check(&strict, store(300), Some((60, 0, 0)));
        check(&strict, store(20), Some((20, 0, 0)));
    }

    #[test]
    fn what_natively_has_no_point_may_be_given_one() {
        let pointless = Native {
            lifetime: S(0),
            ..native(Storable::Pointless, Reuse::Normal)
        };
        check(&pointless, Answer::Native, None);
        check(&pointless, store(300), Some((300, 100, 200)));
    }
}

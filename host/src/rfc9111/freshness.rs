//! How long a response may be used: freshness lifetime, age, stale windows (RFC 9111 4.2, RFC 5861).
//!
//! This is the native verdict that a freshness policy may amend. It is a function of the exchange
//! and of its times; what becomes of the verdict as time passes is [`Lifetime::judge`]'s.

use std::time::{Duration, SystemTime};

use http::HeaderName;

use super::by_status::LifetimesByStatus;
use super::cache_control::{MAX_SECS, ResponseFlag, Scope};
use super::facts::{Expires, RequestFacts, ResponseFacts};
use super::storable::{self, Reason, Storable};
use crate::clock::Moment;
use crate::entry::{Lifetime, Reuse};

/// The longest lifetime that is guessed.
const HEURISTIC_MAX: Duration = Duration::from_hours(24);

/// The share of the time since its last modification that a response is guessed to live, as a
/// divisor: a tenth (RFC 9111 4.2.2 calls that typical).
const HEURISTIC_DIVISOR: u32 = 10;

/// When the exchange took place, on the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// When the request was sent to the origin.
    pub request_time: SystemTime,
    /// When the head of the response arrived.
    pub response_time: SystemTime,
}

/// What a site lets native freshness do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Lifetimes by status of responses that give none, in place of a guess.
    pub by_status: LifetimesByStatus,
    /// Lifetime of a successful or redirecting response that gives no basis for one.
    pub default_ttl: Option<Duration>,
    /// `stale-while-revalidate` of a response that has a lifetime and does not say.
    pub stale_while_revalidate: Option<Duration>,
    /// `stale-if-error` of such a response.
    pub stale_if_error: Option<Duration>,
    /// No lifetime is longer.
    pub ttl_max: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            by_status: LifetimesByStatus::default(),
            default_ttl: None,
            stale_while_revalidate: None,
            stale_if_error: None,
            ttl_max: Duration::from_secs(MAX_SECS),
        }
    }
}

/// What a lifetime rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    /// `s-maxage`, `max-age` or `Expires`.
    Explicit,
    /// A share of the time since `Last-Modified`.
    Heuristic,
    /// The site's lifetime for the status.
    Status,
    /// The site's default.
    Default,
    /// Nothing; the lifetime is zero.
    None,
}

impl Basis {
    /// The name in explanations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::Heuristic => "heuristic",
            Self::Status => "status",
            Self::Default => "default",
            Self::None => "none",
        }
    }
}

/// What RFC 9111 says of one exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Native {
    /// Whether the response may be stored.
    pub storable: Storable,
    /// Freshness lifetime.
    pub lifetime: Duration,
    /// What it rests on.
    pub basis: Basis,
    /// `stale-while-revalidate`; zero if the response may not be used stale.
    pub stale_while_revalidate: Duration,
    /// `stale-if-error`; zero if the response may not be used stale.
    pub stale_if_error: Duration,
    /// What the directives allow of a stored response.
    pub reuse: Reuse,
    /// Age of the response when it arrived.
    pub initial_age: Duration,
    /// Whether the response can be validated.
    pub has_validator: bool,
    /// Fields that are not stored: those that `private` or `no-cache` name. The response that is
    /// passed on now keeps them.
    pub withheld: Vec<HeaderName>,
}

impl Native {
    /// The lifetime of an entry built from the response that arrived at `stored_at`.
    pub fn to_lifetime(&self, stored_at: Moment) -> Lifetime {
        Lifetime {
            stored_at,
            initial_age: self.initial_age,
            fresh_for: self.lifetime,
            stale_while_revalidate: self.stale_while_revalidate,
            stale_if_error: self.stale_if_error,
            reuse: self.reuse,
        }
    }
}

/// Judges one exchange natively.
pub fn native(
    request: &RequestFacts,
    response: &ResponseFacts,
    times: Times,
    bounds: &Bounds,
) -> Native {
    let (basis, lifetime) = lifetime(response, times, bounds);
    let reuse = reuse(response);
    let directives = &response.directives;
    // A site's own windows are for what is meant to be kept: neither for what has no lifetime, nor
    // for errors, which would go on being told after they are over.
    let defaults = basis != Basis::None && !response.status.is_server_error();
    let window = |given: Option<Duration>, of_site: Option<Duration>| match reuse {
        Reuse::Normal => given.or(of_site.filter(|_| defaults)).unwrap_or_default(),
        // RFC 9111 4.2.4: no stale response against a directive that forbids it.
        Reuse::FreshOnly | Reuse::AfterValidation => Duration::ZERO,
    };
    let mut withheld = directives.private.fields().to_vec();
    for name in directives.no_cache.fields() {
        if !withheld.contains(name) {
            withheld.push(name.clone());
        }
    }
    let mut native = Native {
        storable: storable::storable(request, response),
        lifetime: lifetime.min(bounds.ttl_max),
        basis,
        stale_while_revalidate: window(
            directives.stale_while_revalidate,
            bounds.stale_while_revalidate,
        ),
        stale_if_error: window(directives.stale_if_error, bounds.stale_if_error),
        reuse,
        initial_age: initial_age(response, times),
        has_validator: response.has_validator(),
        withheld,
    };
    if native.storable == Storable::No(Reason::NotCacheable) && basis == Basis::Status {
        native.storable = Storable::Yes;
    }
    if native.storable == Storable::Yes && !native.is_of_use() {
        native.storable = Storable::Pointless;
    }
    native
}

impl Native {
    /// Whether any later request could be answered with the stored response.
    fn is_of_use(&self) -> bool {
        let window = self.stale_while_revalidate.max(self.stale_if_error);
        let usable_for = self.lifetime.saturating_add(window);
        self.has_validator
            || (self.reuse != Reuse::AfterValidation && self.initial_age < usable_for)
    }
}

/// The freshness lifetime and its basis (RFC 9111 4.2.1, first match).
fn lifetime(response: &ResponseFacts, times: Times, bounds: &Bounds) -> (Basis, Duration) {
    let directives = &response.directives;
    // RFC 9110 6.6.1: without a usable `Date` the time of arrival stands for it.
    let date = response.date.unwrap_or(times.response_time);
    if let Some(age) = directives.s_maxage.or(directives.max_age) {
        return (Basis::Explicit, age);
    }
    if let Some(expires) = response.expires {
        let lifetime = match expires {
            Expires::At(time) => time.duration_since(date).unwrap_or_default(),
            Expires::Past => Duration::ZERO,
        };
        return (Basis::Explicit, lifetime.min(Duration::from_secs(MAX_SECS)));
    }
    if let Some(lifetime) = bounds.by_status.get(response.status) {
        return (Basis::Status, lifetime);
    }
    // RFC 9111 4.2.2: heuristics need a status that allows them, or `public`.
    let cacheable = storable::is_heuristically_cacheable(response.status);
    let since_modified = response
        .last_modified
        .and_then(|modified| date.duration_since(modified).ok());
    if let Some(passed) = since_modified
        && !passed.is_zero()
        && (cacheable || directives.has(ResponseFlag::Public))
    {
        return (
            Basis::Heuristic,
            (passed / HEURISTIC_DIVISOR).min(HEURISTIC_MAX),
        );
    }
    // An error is not given a lifetime that nobody asked for: one request that provokes it would
    // deny the page to everybody.
    let status = response.status;
    match bounds.default_ttl {
        Some(ttl) if cacheable && (status.is_success() || status.is_redirection()) => {
            (Basis::Default, ttl)
        }
        _ => (Basis::None, Duration::ZERO),
    }
}

/// What the directives allow of the stored response (RFC 9111 5.2.2).
fn reuse(response: &ResponseFacts) -> Reuse {
    let directives = &response.directives;
    if directives.no_cache == Scope::Whole {
        return Reuse::AfterValidation;
    }
    // RFC 9111 5.2.2.10: `s-maxage` includes `proxy-revalidate`.
    let fresh_only = directives.s_maxage.is_some()
        || directives.has(ResponseFlag::MustRevalidate)
        || directives.has(ResponseFlag::ProxyRevalidate);
    if fresh_only {
        Reuse::FreshOnly
    } else {
        Reuse::Normal
    }
}

/// The corrected initial age (RFC 9111 4.2.3).
fn initial_age(response: &ResponseFacts, times: Times) -> Duration {
    let since = |later: SystemTime, earlier| later.duration_since(earlier).unwrap_or_default();
    let date = response.date.unwrap_or(times.response_time);
    // `Date` counts whole seconds, so a part of a second on top of it is no age.
    let apparent_age = Duration::from_secs(since(times.response_time, date).as_secs());
    let response_delay = since(times.response_time, times.request_time);
    apparent_age.max(response.age.saturating_add(response_delay))
}

#[cfg(test)]
mod tests;

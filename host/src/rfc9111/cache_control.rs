//! Cache directives (RFC 9111 5.2), those of RFC 5861, and `Pragma` (RFC 9111 5.4).
//!
//! Names compare without regard to case, arguments are taken as tokens or quoted strings alike,
//! unknown directives are ignored. Of a value that is given several times the first counts
//! (RFC 9111 4.2.1), and one that cannot be read makes it zero: what restricts still restricts, what
//! permits no longer permits.

use std::time::Duration;

use http::header::{CACHE_CONTROL, HeaderName, PRAGMA};
use http::{HeaderMap, HeaderValue};

use super::list::{self, Argument, Directive};
use super::structured::{Member, Value};

/// The largest number of seconds a cache tells apart; anything greater, and anything that
/// overflows, counts as this (RFC 9111 1.2.2).
pub const MAX_SECS: u64 = 1 << 31;

/// A directive of a response without an argument, or whose argument does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFlag {
    /// `no-store` (5.2.2.5).
    NoStore,
    /// `public` (5.2.2.9).
    Public,
    /// `must-revalidate` (5.2.2.2).
    MustRevalidate,
    /// `proxy-revalidate` (5.2.2.8).
    ProxyRevalidate,
    /// `must-understand` (5.2.2.3).
    MustUnderstand,
    /// `no-transform` (5.2.2.6).
    NoTransform,
    /// `immutable` (RFC 8246).
    Immutable,
}

impl ResponseFlag {
    const fn bit(self) -> u8 {
        match self {
            Self::NoStore => 1,
            Self::Public => 1 << 1,
            Self::MustRevalidate => 1 << 2,
            Self::ProxyRevalidate => 1 << 3,
            Self::MustUnderstand => 1 << 4,
            Self::NoTransform => 1 << 5,
            Self::Immutable => 1 << 6,
        }
    }
}

/// How much of a response a `no-cache` or `private` directive covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The directive is absent.
    #[default]
    Absent,
    /// It names these fields, sorted and without duplicates.
    Fields(Vec<HeaderName>),
    /// It has no argument, or one that names nothing that can be a field.
    Whole,
}

impl Scope {
    /// Widens by one more occurrence of the directive.
    fn widen(&mut self, argument: Argument<'_>) {
        let (Some(added), false) = (field_names(argument), *self == Self::Whole) else {
            *self = Self::Whole;
            return;
        };
        let mut names = match std::mem::take(self) {
            Self::Fields(names) => names,
            Self::Absent | Self::Whole => Vec::new(),
        };
        names.extend(added);
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        *self = Self::Fields(names);
    }

    /// The fields it names; none if it is absent or covers the whole response.
    pub fn fields(&self) -> &[HeaderName] {
        match self {
            Self::Fields(names) => names,
            Self::Absent | Self::Whole => &[],
        }
    }
}

/// The fields an argument lists; `None` if there is no argument, or if any part of it is no field
/// name, so that the directive counts as unqualified (5.2.2.4 and 5.2.2.7 allow that reading).
fn field_names(argument: Argument<'_>) -> Option<Vec<HeaderName>> {
    let text = argument.text()?;
    let names: Vec<_> = list::elements(&text)
        .map(HeaderName::from_bytes)
        .collect::<Result<_, _>>()
        .ok()?;
    (!names.is_empty()).then_some(names)
}

/// What `Cache-Control` of a response says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// `max-age` (5.2.2.1); zero if unusable.
    pub max_age: Option<Duration>,
    /// `s-maxage` (5.2.2.10); zero if unusable.
    pub s_maxage: Option<Duration>,
    /// `stale-while-revalidate` (RFC 5861 3); zero if unusable.
    pub stale_while_revalidate: Option<Duration>,
    /// `stale-if-error` (RFC 5861 4); zero if unusable.
    pub stale_if_error: Option<Duration>,
    /// `no-cache` (5.2.2.4).
    pub no_cache: Scope,
    /// `private` (5.2.2.7).
    pub private: Scope,
    flags: u8,
}

impl ResponseDirectives {
    /// Reads every `Cache-Control` line of `headers`.
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for_each_directive(headers, |directive| directives.add(directive));
        directives
    }

    /// Reads the members of a targeted field (RFC 9213 2.1). A value of a type that its directive
    /// does not have is like a malformed one; parameters mean nothing.
    pub fn from_members(members: &[Member<'_>]) -> Self {
        let mut directives = Self::default();
        for &(name, value) in members {
            let is_one_of = |names: &[&[u8]]| names.contains(&name);
            let argument = match value {
                Value::Boolean(true) => Argument::None,
                Value::Boolean(false) => continue,
                Value::Integer(digits) if is_one_of(&LIFETIMES) => Argument::Token(digits),
                Value::String(inside) if is_one_of(&SCOPES) => Argument::Quoted(inside),
                Value::Integer(_) | Value::String(_) | Value::Other => Argument::Malformed,
            };
            directives.add(Directive { name, argument });
        }
        directives
    }

    /// Adds `flag`.
    pub const fn set(&mut self, flag: ResponseFlag) {
        self.flags |= flag.bit();
    }

    /// Whether `flag` was given.
    pub const fn has(&self, flag: ResponseFlag) -> bool {
        self.flags & flag.bit() != 0
    }

    fn add(&mut self, Directive { name, argument }: Directive<'_>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("max-age") {
            first(&mut self.max_age, argument);
        } else if is("s-maxage") {
            first(&mut self.s_maxage, argument);
        } else if is("stale-while-revalidate") {
            first(&mut self.stale_while_revalidate, argument);
        } else if is("stale-if-error") {
            first(&mut self.stale_if_error, argument);
        } else if is("no-cache") {
            self.no_cache.widen(argument);
        } else if is("private") {
            self.private.widen(argument);
        } else if let Some(flag) = restriction(name).or_else(|| permission(name, argument)) {
            self.set(flag);
        }
    }
}

/// The directives whose argument is a number of seconds.
const LIFETIMES: [&[u8]; 4] = [
    b"max-age",
    b"s-maxage",
    b"stale-while-revalidate",
    b"stale-if-error",
];

/// The directives whose argument is a list of fields.
const SCOPES: [&[u8]; 2] = [b"no-cache", b"private"];

/// The directives that restrict. They have no argument, and one that came all the same does not
/// lift them.
fn restriction(name: &[u8]) -> Option<ResponseFlag> {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    if is("no-store") {
        Some(ResponseFlag::NoStore)
    } else if is("must-revalidate") {
        Some(ResponseFlag::MustRevalidate)
    } else if is("proxy-revalidate") {
        Some(ResponseFlag::ProxyRevalidate)
    } else if is("no-transform") {
        Some(ResponseFlag::NoTransform)
    } else {
        None
    }
}

/// The directives that permit; they count only in their exact form.
fn permission(name: &[u8], argument: Argument<'_>) -> Option<ResponseFlag> {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    if argument != Argument::None {
        None
    } else if is("public") {
        Some(ResponseFlag::Public)
    } else if is("must-understand") {
        Some(ResponseFlag::MustUnderstand)
    } else if is("immutable") {
        Some(ResponseFlag::Immutable)
    } else {
        None
    }
}

/// A directive of a request without an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFlag {
    /// `no-cache` (5.2.1.4), or `Pragma: no-cache` where there is no `Cache-Control`.
    NoCache,
    /// `no-store` (5.2.1.5).
    NoStore,
    /// `no-transform` (5.2.1.6).
    NoTransform,
    /// `only-if-cached` (5.2.1.7).
    OnlyIfCached,
}

impl RequestFlag {
    const fn bit(self) -> u8 {
        match self {
            Self::NoCache => 1,
            Self::NoStore => 1 << 1,
            Self::NoTransform => 1 << 2,
            Self::OnlyIfCached => 1 << 3,
        }
    }
}

/// What a request's `max-stale` accepts (5.2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxStale {
    /// A stale response of any age.
    Any,
    /// One that went stale no longer ago than this.
    Within(Duration),
}

/// What `Cache-Control`, or in its absence `Pragma`, of a request says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// `max-age` (5.2.1.1); zero if unusable.
    pub max_age: Option<Duration>,
    /// `max-stale` (5.2.1.2); `None` if absent or unusable.
    pub max_stale: Option<MaxStale>,
    /// `min-fresh` (5.2.1.3), the longest of several; one without a usable value is ignored.
    pub min_fresh: Option<Duration>,
    /// `stale-if-error` (RFC 5861 4); zero if unusable.
    pub stale_if_error: Option<Duration>,
    flags: u8,
}

impl RequestDirectives {
    /// Reads every `Cache-Control` line of `headers`. `Pragma` counts only where there is none.
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        if headers.contains_key(CACHE_CONTROL) {
            for_each_directive(headers, |directive| directives.add(directive));
        } else if headers.get_all(PRAGMA).iter().any(asks_no_cache) {
            directives.flags = RequestFlag::NoCache.bit();
        }
        directives
    }

    /// Whether `flag` was given.
    pub const fn has(&self, flag: RequestFlag) -> bool {
        self.flags & flag.bit() != 0
    }

    fn add(&mut self, Directive { name, argument }: Directive<'_>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("max-age") {
            first(&mut self.max_age, argument);
        } else if is("max-stale") {
            self.accept_stale(argument);
        } else if is("min-fresh") {
            self.min_fresh = self.min_fresh.max(delta_seconds(argument));
        } else if is("stale-if-error") {
            first(&mut self.stale_if_error, argument);
        } else if is("no-cache") {
            self.flags |= RequestFlag::NoCache.bit();
        } else if is("no-store") {
            self.flags |= RequestFlag::NoStore.bit();
        } else if is("no-transform") {
            self.flags |= RequestFlag::NoTransform.bit();
        } else if is("only-if-cached") {
            self.flags |= RequestFlag::OnlyIfCached.bit();
        }
    }

    /// Adds one more `max-stale`; the narrowest holds.
    fn accept_stale(&mut self, argument: Argument<'_>) {
        let Some(limit) = (match argument {
            Argument::None => Some(MaxStale::Any),
            _ => delta_seconds(argument).map(MaxStale::Within),
        }) else {
            return;
        };
        self.max_stale = Some(match (self.max_stale, limit) {
            (None, limit) => limit,
            (Some(MaxStale::Any), other) | (Some(other), MaxStale::Any) => other,
            (Some(MaxStale::Within(one)), MaxStale::Within(other)) => {
                MaxStale::Within(one.min(other))
            }
        });
    }
}

/// Whether one line of `Pragma` holds `no-cache` (RFC 9111 5.4).
fn asks_no_cache(line: &HeaderValue) -> bool {
    list::elements(line.as_bytes()).any(|element| element.eq_ignore_ascii_case(b"no-cache"))
}

fn for_each_directive<'a>(headers: &'a HeaderMap, mut take: impl FnMut(Directive<'a>)) {
    for line in headers.get_all(CACHE_CONTROL) {
        let mut elements = list::elements(line.as_bytes());
        while let Some(element) = elements.next() {
            if let Some(mut directive) = list::directive(element) {
                if elements.has_open_quote() {
                    directive.argument = Argument::Malformed;
                }
                take(directive);
            }
        }
    }
}

/// Adds one more occurrence of a lifetime. Of several a cache should use the first, and it is
/// encouraged to consider stale what says something that it cannot read (RFC 9111 4.2.1), wherever
/// that stands.
fn first(lifetime: &mut Option<Duration>, argument: Argument<'_>) {
    *lifetime = Some(match (*lifetime, delta_seconds(argument)) {
        (_, None) => Duration::ZERO,
        (Some(earlier), Some(_)) => earlier,
        (None, Some(value)) => value,
    });
}

/// Reads an argument that is a number of seconds (RFC 9111 1.2.2).
fn delta_seconds(argument: Argument<'_>) -> Option<Duration> {
    seconds(&argument.text()?)
}

/// Reads delta-seconds: digits only, at most [`MAX_SECS`].
pub fn seconds(text: &[u8]) -> Option<Duration> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let secs = text.iter().fold(0_u64, |secs, digit| {
        secs.saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
            .min(MAX_SECS)
    });
    Some(Duration::from_secs(secs))
}

#[cfg(test)]
mod tests;

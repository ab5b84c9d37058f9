//! What the rules read of an exchange, read once.
//!
//! Facts own what they hold, so they outlive the heads they were read from: a request's may wait
//! with a fill until the response has come.

use std::time::{Duration, SystemTime};

use http::header::{
    AGE, AUTHORIZATION, DATE, ETAG, EXPIRES, HeaderName, LAST_MODIFIED, SET_COOKIE,
};
use http::{HeaderMap, Method, StatusCode};

use super::cache_control::{self, RequestDirectives, ResponseDirectives};
use super::validation::PRECONDITIONS;
use super::vary::Nominated;
use super::{date, list, targeted};

/// What the rules know of a request.
#[derive(Clone, Debug)]
pub struct RequestFacts {
    /// Its method.
    pub method: Method,
    /// Whether it has an `Authorization` field.
    pub authorization: Presence,
    /// Whether it is conditional or for a part.
    pub part: Presence,
    /// Its cache directives.
    pub directives: RequestDirectives,
}

/// Whether a message has some field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It has.
    Present,
    /// It has not.
    Absent,
}

impl Presence {
    fn of(name: &HeaderName, headers: &HeaderMap) -> Self {
        if headers.contains_key(name) {
            Self::Present
        } else {
            Self::Absent
        }
    }
}

impl RequestFacts {
    /// Reads them.
    pub fn new(method: &Method, headers: &HeaderMap) -> Self {
        Self {
            method: method.clone(),
            authorization: Presence::of(&AUTHORIZATION, headers),
            part: match PRECONDITIONS.iter().any(|name| headers.contains_key(name)) {
                true => Presence::Present,
                false => Presence::Absent,
            },
            directives: RequestDirectives::parse(headers),
        }
    }
}

/// What an `Expires` field says (RFC 9111 5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expires {
    /// A date.
    At(SystemTime),
    /// Anything else, `0` above all, which is a time in the past.
    Past,
}

/// What the rules know of a response.
#[derive(Clone, Debug)]
pub struct ResponseFacts {
    /// Its status.
    pub status: StatusCode,
    /// Its cache directives: those addressed to this cache, or else `Cache-Control`.
    pub directives: ResponseDirectives,
    /// `Date`; `None` if absent or unusable.
    pub date: Option<SystemTime>,
    /// `Expires`, unless directives are addressed to this cache (RFC 9213 2.2).
    pub expires: Option<Expires>,
    /// `Last-Modified`; `None` if absent or unusable.
    pub last_modified: Option<SystemTime>,
    /// `Age`; zero if absent or unusable.
    pub age: Duration,
    /// `Vary`.
    pub nominated: Nominated,
    /// Whether it has an `ETag`.
    pub entity_tag: Presence,
    /// Whether it has a `Set-Cookie`.
    pub set_cookie: Presence,
}

impl ResponseFacts {
    /// Reads them. `response_time` is when the response arrived.
    pub fn new(status: StatusCode, headers: &HeaderMap, response_time: SystemTime) -> Self {
        let time = |name| date::parse_near(sole(headers, name)?, response_time);
        let targeted = targeted::directives(headers);
        let expires = headers.get(EXPIRES).filter(|_| targeted.is_none());
        Self {
            status,
            directives: targeted.unwrap_or_else(|| ResponseDirectives::parse(headers)),
            date: time(&DATE),
            // RFC 9111 4.2.1: of several the first.
            expires: expires.map(|value| {
                let time = date::parse_near(value.as_bytes(), response_time);
                time.map_or(Expires::Past, Expires::At)
            }),
            last_modified: time(&LAST_MODIFIED),
            age: age(headers),
            nominated: Nominated::parse(headers),
            entity_tag: Presence::of(&ETAG, headers),
            set_cookie: Presence::of(&SET_COOKIE, headers),
        }
    }

    /// Whether it carries what a later request can be made conditional on.
    pub fn has_validator(&self) -> bool {
        self.entity_tag == Presence::Present || self.last_modified.is_some()
    }
}

/// The value of a field that ought to have one line, if all its lines agree.
fn sole<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut lines = headers
        .get_all(name)
        .iter()
        .map(|line| line.as_bytes().trim_ascii());
    let first = lines.next()?;
    lines.all(|line| line == first).then_some(first)
}

/// Reads `Age`: the first member of what may be a list, ignored if it is no non-negative integer
/// (RFC 9111 5.1).
fn age(headers: &HeaderMap) -> Duration {
    let mut lines = headers.get_all(AGE).iter();
    let first = lines.find_map(|line| list::elements(line.as_bytes()).next());
    first.and_then(cache_control::seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfc9111::cache_control::ResponseFlag;
    use http::HeaderValue;
    use http::header::CACHE_CONTROL;
    use std::time::UNIX_EPOCH;

    const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATE: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

    fn facts(fields: &[(HeaderName, &str)]) -> ResponseFacts {
        let headers: HeaderMap = fields
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect();
        ResponseFacts::new(StatusCode::OK, &headers, UNIX_EPOCH)
    }

    #[test]
    fn age_is_the_first_member_or_nothing() {
        let check = |lines: &[&str], expected| {
            let fields: Vec<_> = lines.iter().map(|line| (AGE, *line)).collect();
            assert_eq!(
                facts(&fields).age,
                Duration::from_secs(expected),
                "{lines:?}"
            );
        };
        check(&[], 0);
        check(&["7"], 7);
        check(&["7, 9"], 7);
        check(&["7", "9"], 7);
        check(&["", "9"], 9);
        check(&["x, 9"], 0);
        check(&["x", "9"], 0);
        check(&["-7"], 0);
        check(&["7.0"], 0);
        check(&["7 8"], 0);
        check(&["\"7\""], 0);
        check(&["99999999999999999999"], cache_control::MAX_SECS);
    }

    #[test]
    fn expires_is_the_first_date_or_past() {
        let check = |lines: &[&str], expected| {
            let fields: Vec<_> = lines.iter().map(|line| (EXPIRES, *line)).collect();
            assert_eq!(facts(&fields).expires, expected, "{lines:?}");
        };
        let early = date::parse(EARLY.as_bytes()).unwrap();
        check(&[], None);
        check(&[EARLY], Some(Expires::At(early)));
        check(&[EARLY, EARLY], Some(Expires::At(early)));
        check(&[EARLY, LATE], Some(Expires::At(early)));
        check(&[EARLY, "0"], Some(Expires::At(early)));
        check(&["0", LATE], Some(Expires::Past));
        check(&["0"], Some(Expires::Past));
        check(&[""], Some(Expires::Past));
    }

    #[test]
    fn a_targeted_field_replaces_what_is_for_everyone() {
        let both = [
            (targeted::CDN_CACHE_CONTROL, "max-age=9"),
            (CACHE_CONTROL, "no-store"),
            (EXPIRES, EARLY),
        ];
        let read = facts(&both);
        assert_eq!(read.directives.max_age, Some(Duration::from_secs(9)));
        assert!(!read.directives.has(ResponseFlag::NoStore));
        assert_eq!(read.expires, None);
        let broken = facts(&[(targeted::CDN_CACHE_CONTROL, "max-age=9,"), (EXPIRES, "0")]);
        assert_eq!(broken.directives, ResponseDirectives::default());
        assert_eq!(broken.expires, Some(Expires::Past));
    }

    #[test]
    fn conflicting_dates_are_none() {
        assert!(facts(&[(DATE, EARLY), (DATE, LATE)]).date.is_none());
        assert!(facts(&[(DATE, EARLY), (DATE, EARLY)]).date.is_some());
        assert!(!facts(&[(LAST_MODIFIED, "yesterday")]).has_validator());
        assert!(facts(&[(LAST_MODIFIED, EARLY)]).has_validator());
        assert!(facts(&[(ETAG, "\"a\"")]).has_validator());
    }
}

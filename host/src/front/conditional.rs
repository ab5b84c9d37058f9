//! Preconditions of a client's request, evaluated against a stored response (RFC 9110 13,
//! RFC 9111 4.3.2), and the fields of the 304 that may follow.
//!
//! Pure. Meant for a stored response that may be used for the request without asking the origin.
//! A request without preconditions costs four failed lookups.

use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    DATE, ETAG, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, TRAILER,
    TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::rfc9111::date;
use crate::rfc9111::entity_tag::{self, EntityTag};

/// What the preconditions of a request make of a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// There is none, or none that stands against the stored response.
    None,
    /// The client has what is stored: answer 304.
    NotModified,
}

/// Evaluates the preconditions of a request against a stored response with `status` and the fields
/// `stored`, in the order of RFC 9110 13.2.2. `If-Match` and `If-Unmodified-Since` are for origins;
/// a cache ignores them (RFC 9110 13.1.1, 13.1.4).
pub fn evaluate(
    method: &Method,
    request: &HeaderMap,
    status: StatusCode,
    stored: &HeaderMap,
) -> Precondition {
    let none_match = request.get(IF_NONE_MATCH);
    let modified_since = request.get(IF_MODIFIED_SINCE);
    // RFC 9110 13.2.1: preconditions count only where the answer would be a success without them,
    // and 13.1.3 defines the date for GET and HEAD only.
    let applies = status.is_success() && matches!(*method, Method::GET | Method::HEAD);
    let unmodified = match (none_match, modified_since) {
        _ if !applies => false,
        // RFC 9110 13.1.3: the date is ignored beside an entity tag.
        (Some(_), _) => holds_a_tag(request, stored),
        (None, Some(since)) => {
            request.get_all(IF_MODIFIED_SINCE).iter().nth(1).is_none()
                && is_unmodified_since(since, stored)
        }
        (None, None) => false,
    };
    if unmodified {
        Precondition::NotModified
    } else {
        Precondition::None
    }
}

/// Whether `If-None-Match` lists the stored entity tag, by weak comparison, or `*`
/// (RFC 9110 13.1.2).
fn holds_a_tag(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let stored = stored.get(ETAG).map(HeaderValue::as_bytes);
    let mut lines = request
        .get_all(IF_NONE_MATCH)
        .iter()
        .map(HeaderValue::as_bytes);
    lines.any(|line| {
        let line = line.trim_ascii();
        if line == b"*" || Some(line) == stored {
            return true;
        }
        stored
            .and_then(EntityTag::parse)
            .is_some_and(|stored| entity_tag::list(line).any(|tag| tag.matches_weakly(stored)))
    })
}

/// Whether the stored response was last modified at `since` or before, as far as it tells; `Date`
/// stands in for a missing `Last-Modified` (RFC 9111 4.3.2).
fn is_unmodified_since(since: &HeaderValue, stored: &HeaderMap) -> bool {
    let Some(modified) = stored.get(LAST_MODIFIED).or_else(|| stored.get(DATE)) else {
        return false;
    };
    let since = date::parse(since.as_bytes());
    let modified = date::parse(modified.as_bytes());
    modified
        .zip(since)
        .is_some_and(|(modified, since)| modified <= since)
}

/// The fields of a 304 for a stored response: all but what describes content that is not sent
/// (RFC 9110 15.4.5).
pub fn not_modified_fields(stored: &HeaderMap) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(stored.keys_len());
    // Without an entity tag, `Last-Modified` is what updates the client's copy.
    let has_tag = stored.contains_key(ETAG);
    for (name, value) in stored {
        if !(describes_content(name) || has_tag && *name == LAST_MODIFIED) {
            fields.append(name, value.clone());
        }
    }
    fields
}

fn describes_content(name: &HeaderName) -> bool {
    const KNOWN: [HeaderName; 8] = [
        ACCEPT_RANGES,
        CONTENT_ENCODING,
        CONTENT_LANGUAGE,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        TRAILER,
        TRANSFER_ENCODING,
    ];
    const OTHER: [&str; 4] = ["content-digest", "content-md5", "digest", "repr-digest"];
    KNOWN.contains(name) || OTHER.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{CACHE_CONTROL, CONTENT_LOCATION, IF_MATCH, IF_UNMODIFIED_SINCE, VARY};

    const EARLY: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const SAME_850: &str = "Sunday, 06-Nov-94 08:49:37 GMT";
    const LATE: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    type Fields<'a> = &'a [(HeaderName, &'static str)];

    fn fields(lines: Fields<'_>) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, line) in lines {
            map.append(name, HeaderValue::from_static(line));
        }
        map
    }

    fn check(request: Fields<'_>, stored: Fields<'_>, expected: Precondition) {
        let (request, stored) = (fields(request), fields(stored));
        for method in [Method::GET, Method::HEAD] {
            let found = evaluate(&method, &request, StatusCode::OK, &stored);
            assert_eq!(found, expected, "{method} {request:?} {stored:?}");
        }
        let other = match expected {
            Precondition::NotModified => Precondition::None,
            other @ Precondition::None => other,
        };
        assert_eq!(
            evaluate(&Method::GET, &request, StatusCode::NOT_FOUND, &stored),
            other
        );
        assert_eq!(
            evaluate(&Method::POST, &request, StatusCode::OK, &stored),
            other
        );
    }

    #[test]
    fn entity_tags_compare_weakly_and_go_before_dates() {
        use Precondition::{None, NotModified};
        check(&[], &[(ETAG, "\"a\"")], None);
        check(&[(IF_NONE_MATCH, "\"a\"")], &[(ETAG, "\"a\"")], NotModified);
        check(
            &[(IF_NONE_MATCH, "W/\"a\"")],
            &[(ETAG, "\"a\"")],
            NotModified,
        );
        check(
            &[(IF_NONE_MATCH, "\"a\"")],
            &[(ETAG, "W/\"a\"")],
            NotModified,
        );
        check(
            &[(IF_NONE_MATCH, "\"b\", \"a\"")],
            &[(ETAG, "\"a\"")],
            NotModified,
        );
        check(
            &[(IF_NONE_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a\"")],
            &[(ETAG, "\"a\"")],
            NotModified,
        );
        check(&[(IF_NONE_MATCH, "\"b,\"a\"")], &[(ETAG, "\"a\"")], None);
        check(&[(IF_NONE_MATCH, "*")], &[], NotModified);
        check(&[(IF_NONE_MATCH, "\"b\"")], &[(ETAG, "\"a\"")], None);
        check(&[(IF_NONE_MATCH, "\"a\"")], &[], None);
        check(&[(IF_NONE_MATCH, "a")], &[(ETAG, "\"a\"")], None);
        check(&[(IF_NONE_MATCH, "a")], &[(ETAG, "a")], NotModified);
        check(
            &[(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, LATE)],
            &[(ETAG, "\"a\""), (LAST_MODIFIED, SAME)],
            None,
        );
    }

    #[test]
    fn dates_compare_with_last_modified_or_else_date() {
        use Precondition::{None, NotModified};
        for name in [LAST_MODIFIED, DATE] {
            let stored = [(name, SAME)];
            check(&[(IF_MODIFIED_SINCE, EARLY)], &stored, None);
            check(&[(IF_MODIFIED_SINCE, SAME)], &stored, NotModified);
            check(&[(IF_MODIFIED_SINCE, SAME_850)], &stored, NotModified);
            check(&[(IF_MODIFIED_SINCE, LATE)], &stored, NotModified);
            check(&[(IF_MODIFIED_SINCE, "x")], &stored, None);
            check(
                &[(IF_MODIFIED_SINCE, LATE), (IF_MODIFIED_SINCE, EARLY)],
                &stored,
                None,
            );
        }
        check(
            &[(IF_MODIFIED_SINCE, SAME)],
            &[(LAST_MODIFIED, LATE), (DATE, EARLY)],
            None,
        );
        check(&[(IF_MODIFIED_SINCE, SAME)], &[], None);
    }

    #[test]
    fn what_only_the_origin_may_evaluate_is_ignored() {
        for name in [IF_MATCH, IF_UNMODIFIED_SINCE] {
            let stored = [(ETAG, "\"a\"")];
            check(&[(name.clone(), "x")], &stored, Precondition::None);
            let both = [(name, "x"), (IF_NONE_MATCH, "\"a\"")];
            check(&both, &stored, Precondition::NotModified);
        }
    }

    #[test]
    fn only_what_succeeds_is_compared() {
        let request = fields(&[(IF_NONE_MATCH, "*")]);
        let stored = fields(&[(ETAG, "\"a\"")]);
        for (status, expected) in [
            (200, Precondition::NotModified),
            (203, Precondition::NotModified),
            (204, Precondition::NotModified),
            (301, Precondition::None),
            (404, Precondition::None),
            (503, Precondition::None),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(evaluate(&Method::GET, &request, status, &stored), expected);
        }
    }

    #[test]
    fn a_304_leaves_out_what_describes_the_content() {
        let stored: Fields<'_> = &[
            (DATE, SAME),
            (ETAG, "\"a\""),
            (VARY, "accept"),
            (CACHE_CONTROL, "max-age=1"),
            (CONTENT_LOCATION, "/x"),
            (CONTENT_TYPE, "text/plain"),
            (CONTENT_LENGTH, "3"),
            (LAST_MODIFIED, EARLY),
            (HeaderName::from_static("x-a"), "1"),
            (HeaderName::from_static("x-a"), "2"),
        ];
        let kept = not_modified_fields(&fields(stored));
        let names: Vec<_> = kept.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "date",
                "etag",
                "vary",
                "cache-control",
                "content-location",
                "x-a",
                "x-a"
            ]
        );
        let without_tag = not_modified_fields(&fields(&[(LAST_MODIFIED, EARLY)]));
        assert!(without_tag.contains_key(LAST_MODIFIED));
    }
}

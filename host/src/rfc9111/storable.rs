//! Whether a response may be stored (RFC 9111 3, 3.5, 5.2.2).
//!
//! The rules are those of a shared cache. The order in which they are asked decides only which
//! reason is named when several apply.

use http::{Method, StatusCode};

use super::cache_control::{RequestFlag, ResponseFlag, Scope};
use super::facts::{Presence, RequestFacts, ResponseFacts};
use super::vary::Nominated;

/// Whether a response may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storable {
    /// It may.
    Yes,
    /// It may, but as it is nothing could ever be answered with it: it has no lifetime left, no
    /// stale window and nothing to validate it by. A policy that lengthens its life may store it.
    Pointless,
    /// It must not, or this cache does not know how.
    No(Reason),
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The method is one whose responses this cache does not store.
    Method,
    /// The request says `no-store`.
    RequestNoStore,
    /// The status is not final.
    Interim,
    /// The status depends on fields of the request that are not in the key: 206, 304, and 412 or
    /// 416 in answer to a precondition or a range.
    Conditional,
    /// The response says `must-understand`, and the status is not understood.
    NotUnderstood,
    /// The response says `no-store`.
    NoStore,
    /// The response is `private`.
    Private,
    /// The request has `Authorization`, and the response does not allow sharing.
    Authorization,
    /// The response varies on more than the request.
    VaryAny,
    /// The response neither says how long it lives, nor has a status that is cacheable by itself.
    NotCacheable,
    /// The response sets a cookie, and nothing in it says that it is meant to be stored.
    SetCookie,
}

impl Reason {
    /// The name in explanations and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::RequestNoStore => "request-no-store",
            Self::Interim => "interim",
            Self::Conditional => "conditional",
            Self::NotUnderstood => "not-understood",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::VaryAny => "vary-any",
            Self::NotCacheable => "not-cacheable",
            Self::SetCookie => "set-cookie",
        }
    }
}

/// Whether the response to this request may be stored. Says nothing of whether that is of use, so
/// it never answers [`Storable::Pointless`]; [`super::freshness::native`] does.
pub fn storable(request: &RequestFacts, response: &ResponseFacts) -> Storable {
    refusal(request, response).map_or(Storable::Yes, Storable::No)
}

fn refusal(request: &RequestFacts, response: &ResponseFacts) -> Option<Reason> {
    let directives = &response.directives;
    // RFC 9111 3: the method is understood. Responses to HEAD freshen, and are not stored.
    if request.method != Method::GET {
        return Some(Reason::Method);
    }
    // RFC 9111 5.2.1.5.
    if request.directives.has(RequestFlag::NoStore) {
        return Some(Reason::RequestNoStore);
    }
    if let Some(reason) = status_refusal(request, response) {
        return Some(reason);
    }
    // RFC 9111 5.2.2.7; the qualified form withholds only the fields it names.
    if directives.private == Scope::Whole {
        return Some(Reason::Private);
    }
    if request.authorization == Presence::Present && !allows_sharing(response) {
        return Some(Reason::Authorization);
    }
    // RFC 9111 4.1: a stored response that varies on anything never matches.
    if response.nominated == Nominated::Any {
        return Some(Reason::VaryAny);
    }
    let explicit = has_explicit_expiration(response) || directives.has(ResponseFlag::Public);
    // RFC 9111 7.3 leaves cookies to the directives. A lifetime that is only a guess must not
    // hand one client's cookie to others.
    if !explicit && response.set_cookie == Presence::Present {
        return Some(Reason::SetCookie);
    }
    // RFC 9111 3, last item: some sign that the response may be stored. It is asked last, because
    // an operator's word may stand in for it.
    if !explicit && !is_heuristically_cacheable(response.status) {
        return Some(Reason::NotCacheable);
    }
    None
}

/// What the status and `no-store`, which `must-understand` may override, forbid.
fn status_refusal(request: &RequestFacts, response: &ResponseFacts) -> Option<Reason> {
    let directives = &response.directives;
    if response.status.is_informational() {
        return Some(Reason::Interim);
    }
    let conditional = match response.status.as_u16() {
        206 | 304 => true,
        412 | 416 => request.part == Presence::Present,
        _ => false,
    };
    if conditional {
        return Some(Reason::Conditional);
    }
    // RFC 9111 5.2.2.3: a cache that understands the status ignores the `no-store` beside it.
    if directives.has(ResponseFlag::MustUnderstand) {
        return (!is_understood(response.status)).then_some(Reason::NotUnderstood);
    }
    directives
        .has(ResponseFlag::NoStore)
        .then_some(Reason::NoStore)
}

/// Whether a response to a request with `Authorization` may answer others (RFC 9111 3.5).
fn allows_sharing(response: &ResponseFacts) -> bool {
    let directives = &response.directives;
    directives.has(ResponseFlag::Public)
        || directives.has(ResponseFlag::MustRevalidate)
        || directives.s_maxage.is_some()
}

/// Whether the response itself says how long it lives (RFC 9111 4.2.1).
pub fn has_explicit_expiration(response: &ResponseFacts) -> bool {
    let directives = &response.directives;
    directives.s_maxage.is_some() || directives.max_age.is_some() || response.expires.is_some()
}

/// Whether a cache may guess the lifetime of a response with this status (RFC 9110 15.1). Of that
/// list only 206 is missing, whose partial content is not stored here.
pub fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// Whether this cache does all that the definition of a status asks of a cache (RFC 9111 3): the
/// final statuses of RFC 9110 and of those registered since that ask nothing special.
pub fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=205 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421..=426 | 428 | 429 | 431 | 451
            | 500..=505 | 511
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{
        AUTHORIZATION, CACHE_CONTROL, EXPIRES, HeaderName, IF_MATCH, IF_NONE_MATCH,
        IF_UNMODIFIED_SINCE, RANGE, SET_COOKIE, VARY,
    };
    use http::{HeaderMap, HeaderValue};
    use std::time::UNIX_EPOCH;

    fn fields(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect()
    }

    fn judge(request: &HeaderMap, status: u16, response: &HeaderMap) -> Storable {
        let status = StatusCode::from_u16(status).unwrap();
        storable(
            &RequestFacts::new(&Method::GET, request),
            &ResponseFacts::new(status, response, UNIX_EPOCH),
        )
    }

    fn check(status: u16, cache_control: &'static str, expected: Storable) {
        let response = match cache_control {
            "" => HeaderMap::new(),
            _ => fields(&[(CACHE_CONTROL, cache_control)]),
        };
        assert_eq!(
            judge(&HeaderMap::new(), status, &response),
            expected,
            "{status} {cache_control}"
        );
    }

    #[test]
    fn directives_decide_for_any_final_status() {
        use Storable::{No, Yes};
        for status in (200..=599).filter(|status| ![206, 304].contains(status)) {
            check(status, "max-age=60", Yes);
            check(status, "s-maxage=60", Yes);
            check(status, "public", Yes);
            check(status, "max-age=60, no-store", No(Reason::NoStore));
            check(status, "max-age=60, private", No(Reason::Private));
            check(status, "max-age=60, private=set-cookie", Yes);
            check(status, "max-age=60, no-cache", Yes);
        }
        check(200, "private, no-store", No(Reason::NoStore));
        check(103, "max-age=60", No(Reason::Interim));
        for status in [206, 304] {
            check(status, "max-age=60", No(Reason::Conditional));
        }
        let fresh = fields(&[(CACHE_CONTROL, "max-age=60")]);
        for name in [IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE] {
            let part = fields(&[(name, "x")]);
            for status in [412, 416] {
                assert_eq!(judge(&part, status, &fresh), No(Reason::Conditional));
            }
            assert_eq!(judge(&part, 404, &fresh), Yes);
        }
    }

    #[test]
    fn silence_is_enough_for_heuristically_cacheable_statuses_only() {
        for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
            check(status, "", Storable::Yes);
        }
        for status in [201, 202, 302, 303, 307, 400, 401, 403, 429, 500, 502, 503] {
            check(status, "", Storable::No(Reason::NotCacheable));
        }
        let expires = fields(&[(EXPIRES, "0")]);
        assert_eq!(judge(&HeaderMap::new(), 302, &expires), Storable::Yes);
    }

    #[test]
    fn must_understand_overrides_no_store_where_the_status_is_understood() {
        check(200, "max-age=60, no-store, must-understand", Storable::Yes);
        check(
            299,
            "max-age=60, no-store, must-understand",
            Storable::No(Reason::NotUnderstood),
        );
        check(
            299,
            "max-age=60, must-understand",
            Storable::No(Reason::NotUnderstood),
        );
    }

    #[test]
    fn authorization_needs_a_directive_that_shares() {
        let request = fields(&[(AUTHORIZATION, "Basic x")]);
        let check = |cache_control, expected| {
            let response = fields(&[(CACHE_CONTROL, cache_control)]);
            assert_eq!(judge(&request, 200, &response), expected, "{cache_control}");
        };
        check("max-age=60", Storable::No(Reason::Authorization));
        check(
            "max-age=60, proxy-revalidate",
            Storable::No(Reason::Authorization),
        );
        check("max-age=60, public", Storable::Yes);
        check("max-age=60, must-revalidate", Storable::Yes);
        check("s-maxage=60", Storable::Yes);
        check("public, private", Storable::No(Reason::Private));
    }

    #[test]
    fn the_request_may_refuse_too() {
        let no_store = fields(&[(CACHE_CONTROL, "no-store")]);
        let fresh = fields(&[(CACHE_CONTROL, "max-age=60")]);
        assert_eq!(
            judge(&no_store, 200, &fresh),
            Storable::No(Reason::RequestNoStore)
        );
        for method in [Method::HEAD, Method::POST, Method::PUT, Method::OPTIONS] {
            let request = RequestFacts::new(&method, &HeaderMap::new());
            let response = ResponseFacts::new(StatusCode::OK, &fresh, UNIX_EPOCH);
            assert_eq!(
                storable(&request, &response),
                Storable::No(Reason::Method),
                "{method}"
            );
        }
    }

    #[test]
    fn cookies_and_vary_any_need_more_than_silence() {
        let check = |response: &[(HeaderName, &'static str)], expected| {
            assert_eq!(
                judge(&HeaderMap::new(), 200, &fields(response)),
                expected,
                "{response:?}"
            );
        };
        check(&[(SET_COOKIE, "a=b")], Storable::No(Reason::SetCookie));
        check(
            &[(SET_COOKIE, "a=b"), (CACHE_CONTROL, "max-age=60")],
            Storable::Yes,
        );
        check(
            &[(SET_COOKIE, "a=b"), (CACHE_CONTROL, "public")],
            Storable::Yes,
        );
        check(
            &[(VARY, "a, *"), (CACHE_CONTROL, "max-age=60")],
            Storable::No(Reason::VaryAny),
        );
    }

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        use Reason::{
            Authorization, Conditional, Interim, Method, NoStore, NotCacheable, NotUnderstood,
            Private, RequestNoStore, SetCookie, VaryAny,
        };
        let all = [
            Authorization,
            Conditional,
            Interim,
            Method,
            NoStore,
            NotCacheable,
            NotUnderstood,
            Private,
            RequestNoStore,
            SetCookie,
            VaryAny,
        ];
        let names: std::collections::BTreeSet<_> =
            all.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), all.len());
    }
}

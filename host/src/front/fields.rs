//! Which fields pass through, in both directions, and in what shape they are stored
//! (RFC 9110 7.6).
//!
//! Pure. What a field means is not judged here, only whether it is for the next hop, whether a
//! client may say it, and that we passed the message on.

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, ACCEPT_RANGES, AGE, ALLOW, AUTHORIZATION,
    CACHE_CONTROL, CONNECTION, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE,
    CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE,
    DATE, ETAG, EXPECT, EXPIRES, FORWARDED, HOST, HeaderName, HeaderValue, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, LOCATION,
    MAX_FORWARDS, ORIGIN, PRAGMA, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE, REFERER,
    RETRY_AFTER, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    USER_AGENT, VARY, VIA, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Method, Version};

use crate::rfc9111::list;

/// Fields for the next hop, listed in `Connection` or not (RFC 9110 7.6.1, 11.7).
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Fields that no `Connection` removes. They are for every recipient, and a peer that could take
/// them away could change whom a request is for, what its answer depends on, or how it is cached.
const END_TO_END: [HeaderName; 41] = [
    ACCEPT,
    ACCEPT_ENCODING,
    ACCEPT_LANGUAGE,
    ACCEPT_RANGES,
    AGE,
    ALLOW,
    AUTHORIZATION,
    CACHE_CONTROL,
    CONTENT_DISPOSITION,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_LOCATION,
    CONTENT_RANGE,
    CONTENT_SECURITY_POLICY,
    CONTENT_TYPE,
    COOKIE,
    DATE,
    ETAG,
    EXPECT,
    EXPIRES,
    HOST,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    LAST_MODIFIED,
    LOCATION,
    ORIGIN,
    PRAGMA,
    RANGE,
    REFERER,
    RETRY_AFTER,
    SET_COOKIE,
    STRICT_TRANSPORT_SECURITY,
    USER_AGENT,
    VARY,
    VIA,
    WWW_AUTHENTICATE,
    HeaderName::from_static("cache-status"),
];

/// Removes what is for the next hop only: the fields that always are, and those that `Connection`
/// lists (RFC 9110 7.6.1).
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // Taken out first, which also ends the borrow of what it lists.
    let mut listed: Vec<HeaderName> = Vec::new();
    for line in headers.get_all(CONNECTION) {
        let options = list::elements(line.as_bytes());
        listed.extend(options.filter_map(|option| HeaderName::from_bytes(option).ok()));
    }
    for name in listed {
        if !END_TO_END.contains(&name) {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Removes the fields that `Connection` of a request lists and that are for nobody but this hop, so
/// that they choose no stored response: the origin will not see them. Those that something else
/// removes on their way to the origin stay.
pub fn remove_listed(request: &mut HeaderMap) {
    let options = request.get_all(CONNECTION).iter();
    let options = options.flat_map(|line| list::elements(line.as_bytes()));
    let listed: Vec<_> = options
        .filter(|option| !option.eq_ignore_ascii_case(b"keep-alive"))
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .filter(|name| request.contains_key(name))
        .filter(|name| !END_TO_END.contains(name) && !HOP_BY_HOP.contains(name))
        .filter(|name| !is_from_proxies_only(name))
        .collect();
    for name in listed {
        request.remove(name);
    }
}

/// Fields by which applications are told of the client or of another target than the request's.
/// They are ours to say: from a client they change the answer behind the key's back.
const FROM_PROXIES_ONLY: [&str; 26] = [
    "base-url",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-visitor",
    "client-ip",
    "cluster-client-ip",
    "fastly-client-ip",
    "forwarded-for",
    "forwarded-proto",
    "front-end-https",
    "http-host",
    "proxy",
    "proxy-host",
    "true-client-ip",
    "x-arr-ssl",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-proxy-url",
    "x-real-ip",
    "x-rewrite-url",
    "x-url-scheme",
];

/// Whether a client's field `name` is never forwarded.
pub fn is_from_proxies_only(name: &HeaderName) -> bool {
    let text = name.as_str();
    *name == FORWARDED
        || text.starts_with("x-forwarded")
        || text.starts_with("x-original-")
        || FROM_PROXIES_ONLY.binary_search(&text).is_ok()
}

/// Removes the fields that only a proxy may say from a client's request.
pub fn remove_from_proxies_only(headers: &mut HeaderMap) {
    let listed: Vec<_> = headers
        .keys()
        .filter(|name| is_from_proxies_only(name))
        .cloned()
        .collect();
    for name in listed {
        headers.remove(name);
    }
}

/// Whether a request may be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    /// It may.
    Yes,
    /// Its sender wants the answer of the recipient that it reaches first, which is this host.
    No,
}

/// Counts this passage against `Max-Forwards` (RFC 9110 7.6.2). The field is for OPTIONS and TRACE
/// only, and ignored where it is no number.
pub fn spend_forward(method: &Method, headers: &mut HeaderMap) -> Onward {
    if !matches!(*method, Method::OPTIONS | Method::TRACE) {
        return Onward::Yes;
    }
    let left = headers.get(MAX_FORWARDS).and_then(|value| {
        let text = value.to_str().ok()?;
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // More than can be counted is as good as any large number.
        digits.then(|| text.parse::<u32>().unwrap_or(u32::MAX))
    });
    match left {
        None => Onward::Yes,
        Some(0) => Onward::No,
        Some(left) => {
            headers.insert(MAX_FORWARDS, HeaderValue::from(left - 1));
            Onward::Yes
        }
    }
}

/// Says that we passed the message on, which we received in `version` (RFC 9110 7.6.3).
pub fn append_via(headers: &mut HeaderMap, version: Version) {
    headers.append(VIA, via(version));
}

/// Our member of `Via`.
fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_09 => "0.9 larder",
        Version::HTTP_10 => "1.0 larder",
        Version::HTTP_2 => "2 larder",
        Version::HTTP_3 => "3 larder",
        _ => "1.1 larder",
    })
}

/// Rebuilds `headers` for keeping: all values are slices of one allocation, so a clone touches one
/// reference count for all of them, and nothing has room to spare. Order, repetitions and
/// sensitivity stay.
pub fn compact(headers: &HeaderMap) -> HeaderMap {
    let mut text = BytesMut::with_capacity(headers.values().map(HeaderValue::len).sum());
    for value in headers.values() {
        text.extend_from_slice(value.as_bytes());
    }
    let mut text = text.freeze();
    let mut compacted = HeaderMap::with_capacity(headers.keys_len());
    for (name, value) in headers {
        let slice = take_front(&mut text, value.len());
        // The bytes were a value, so they are one again.
        let mut copy = HeaderValue::from_maybe_shared(slice).unwrap_or_else(|_| value.clone());
        copy.set_sensitive(value.is_sensitive());
        compacted.append(name, copy);
    }
    compacted
}

/// Takes `len` bytes off the front, without copying.
fn take_front(text: &mut Bytes, len: usize) -> Bytes {
    text.split_to(len.min(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, line) in lines {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(line),
            );
        }
        map
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn forwards_are_counted_down_for_two_methods() {
        for (method, before, onward, after) in [
            (Method::OPTIONS, "3", Onward::Yes, "2"),
            (Method::TRACE, "1", Onward::Yes, "0"),
            (Method::TRACE, "0", Onward::No, "0"),
            (Method::OPTIONS, "00", Onward::No, "00"),
            (Method::OPTIONS, "99999999999", Onward::Yes, "4294967294"),
            (Method::OPTIONS, "-1", Onward::Yes, "-1"),
            (Method::OPTIONS, "x", Onward::Yes, "x"),
            (Method::GET, "0", Onward::Yes, "0"),
            (Method::POST, "1", Onward::Yes, "1"),
        ] {
            let mut headers = fields(&[("max-forwards", before)]);
            assert_eq!(
                spend_forward(&method, &mut headers),
                onward,
                "{method} {before}"
            );
            assert_eq!(
                headers,
                fields(&[("max-forwards", after)]),
                "{method} {before}"
            );
        }
        let mut none = HeaderMap::new();
        assert_eq!(spend_forward(&Method::TRACE, &mut none), Onward::Yes);
        assert!(none.is_empty());
    }

    #[test]
    fn what_a_request_lists_in_connection_chooses_nothing() {
        let mut request = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-A, Cookie"),
            ("connection", "TE, x-real-ip, x-absent"),
            ("x-a", "1"),
            ("x-b", "1"),
            ("cookie", "1"),
            ("te", "trailers"),
            ("keep-alive", "1"),
            ("x-real-ip", "1"),
        ] {
            request.append(name, HeaderValue::from_static(value));
        }
        let before = request.len();
        remove_listed(&mut request);
        assert!(!request.contains_key("x-a"));
        assert_eq!(request.len(), before - 1);
    }

    #[test]
    fn connection_takes_along_what_it_lists_but_never_what_is_end_to_end() {
        let mut headers = fields(&[
            ("connection", "close, X-Listed ,host, authorization"),
            (
                "connection",
                "cookie, content-length, cache-control, \"x\", x-other",
            ),
            ("x-listed", "1"),
            ("x-listed", "2"),
            ("x-other", "1"),
            ("x-kept", "1"),
            ("host", "a"),
            ("authorization", "b"),
            ("cookie", "c"),
            ("content-length", "0"),
            ("cache-control", "no-store"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "x"),
            ("trailer", "x"),
            ("proxy-connection", "close"),
            ("proxy-authorization", "x"),
            ("proxy-authenticate", "x"),
            ("proxy-authentication-info", "x"),
        ]);
        remove_hop_by_hop(&mut headers);
        let expected = [
            "authorization",
            "cache-control",
            "content-length",
            "cookie",
            "host",
            "x-kept",
        ];
        assert_eq!(names(&headers), expected);
    }

    #[test]
    fn clients_do_not_speak_for_proxies() {
        let mut headers = fields(&[
            ("x-forwarded-for", "1"),
            ("x-forwarded-for", "2"),
            ("x-forwarded-host", "1"),
            ("x-forwarded-anything", "1"),
            ("forwarded", "1"),
            ("x-original-url", "1"),
            ("x-rewrite-url", "1"),
            ("x-http-method-override", "1"),
            ("x-host", "1"),
            ("x-real-ip", "1"),
            ("proxy", "1"),
            ("accept", "1"),
            ("x-requested-with", "1"),
        ]);
        remove_from_proxies_only(&mut headers);
        assert_eq!(names(&headers), ["accept", "x-requested-with"]);
    }

    #[test]
    fn the_list_for_proxies_is_in_order() {
        assert!(FROM_PROXIES_ONLY.is_sorted());
    }

    #[test]
    fn via_keeps_who_came_before() {
        let mut headers = fields(&[("via", "1.1 upstream")]);
        append_via(&mut headers, Version::HTTP_11);
        append_via(&mut headers, Version::HTTP_2);
        let lines: Vec<_> = headers.get_all(VIA).iter().collect();
        assert_eq!(lines, ["1.1 upstream", "1.1 larder", "2 larder"]);
    }

    #[test]
    fn compact_values_share_one_allocation() {
        let headers = fields(&[("a", "first"), ("b", ""), ("c", "second"), ("a", "third")]);
        let compacted = compact(&headers);
        let values: Vec<_> = compacted
            .values()
            .filter(|value| !value.is_empty())
            .collect();
        let start = values[0].as_bytes().as_ptr().addr();
        let mut at = start;
        for value in values {
            assert_eq!(value.as_bytes().as_ptr().addr(), at);
            at += value.len();
        }
        assert_eq!(at - start, "firstthirdsecond".len());
    }

    proptest! {
        #[test]
        fn compacting_changes_nothing_that_can_be_seen(
            lines in prop::collection::vec(("[a-d]", "[ -~]{0,8}", any::<bool>()), 0..12)
        ) {
            let mut headers = HeaderMap::new();
            for (name, line, sensitive) in lines {
                let mut value = HeaderValue::from_str(&line).unwrap();
                value.set_sensitive(sensitive);
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
            }
            let seen = |headers: &HeaderMap| -> Vec<_> {
                headers
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone(), value.is_sensitive()))
                    .collect()
            };
            prop_assert_eq!(seen(&compact(&headers)), seen(&headers));
        }
    }
}

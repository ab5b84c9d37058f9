//! Compression on the fly, for sites that ask for it: which content coding a request gets, which
//! responses are worth one, and what their fields say afterwards (RFC 9110 8.4, 12.5.3).
//!
//! What the origin has encoded is kept as it came. Otherwise the content is encoded once, on its
//! way from the origin into the store; every further answer is the stored one. Requests are
//! brought to one of few forms first: their `Accept-Encoding` becomes the one coding they get, for
//! the key's variants as well as towards the origin, so that a response is stored once a coding
//! and not once for every way of asking.

pub mod encoder;

use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    ETAG, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::config::Coding;
use crate::rfc9111::entity_tag::EntityTag;
use crate::rfc9111::list;

/// Content shorter than this hardly gets smaller.
const LENGTH_MIN: u64 = 1 << 10;

/// Fields about the very bytes of the content, which other bytes make wrong.
const ABOUT_BYTES: [HeaderName; 5] = [
    CONTENT_LENGTH,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
];

/// Whether `name` names `coding`.
fn names(name: &[u8], coding: Coding) -> bool {
    name.eq_ignore_ascii_case(word(coding).as_bytes())
        || (coding == Coding::Gzip && name.eq_ignore_ascii_case(b"x-gzip"))
}

/// The name of `coding` in fields.
const fn word(coding: Coding) -> &'static str {
    match coding {
        Coding::Brotli => "br",
        Coding::Gzip => "gzip",
    }
}

/// Brings `Accept-Encoding` to the coding of `offered`, best first, that the client likes best; to
/// none if it likes its content as it is. A request that forbids that too is left alone.
pub fn normalise(request: &mut HeaderMap, offered: &[Coding]) {
    match wanted(request, offered) {
        Wanted::Coding(coding) => {
            let name = HeaderValue::from_static(word(coding));
            request.insert(ACCEPT_ENCODING, name);
        }
        Wanted::AsItIs => {
            request.remove(ACCEPT_ENCODING);
        }
        Wanted::SomethingElse => {}
    }
}

/// What a request is best answered with.
enum Wanted {
    Coding(Coding),
    AsItIs,
    /// It forbids all that could be sent.
    SomethingElse,
}

fn wanted(request: &HeaderMap, offered: &[Coding]) -> Wanted {
    // RFC 9110 12.5.3: what is not listed has the weight of `*`, and `identity` is fine unless it
    // is forbidden. Weights are thousandths.
    let (mut any, mut identity) = (None, None);
    let mut weights: Vec<Option<u16>> = vec![None; offered.len()];
    for line in request.get_all(ACCEPT_ENCODING) {
        for element in list::elements(line.as_bytes()) {
            let (name, weight) = weighted(element);
            if name == b"*" {
                any = Some(weight);
            } else if name.eq_ignore_ascii_case(b"identity") {
                identity = Some(weight);
            }
            for (coding, place) in offered.iter().zip(&mut weights) {
                if names(name, *coding) {
                    *place = Some(weight);
                }
            }
        }
    }
    let mut best: Option<(u16, Coding)> = None;
    for (coding, weight) in offered.iter().zip(weights) {
        let weight = weight.or(any).unwrap_or(0);
        if weight > best.map_or(0, |(best, _)| best) {
            best = Some((weight, *coding));
        }
    }
    match (best, identity) {
        (Some((weight, _)), Some(identity)) if identity > weight => Wanted::AsItIs,
        (Some((_, coding)), _) => Wanted::Coding(coding),
        (None, identity) => match identity.or(any) {
            Some(0) => Wanted::SomethingElse,
            _ => Wanted::AsItIs,
        },
    }
}

/// A member and its weight in thousandths (RFC 9110 12.4.2). A weight that is none counts as zero.
fn weighted(element: &[u8]) -> (&[u8], u16) {
    let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let name = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| {
        let (name, value) = part.split_at_checked(2)?;
        name.eq_ignore_ascii_case(b"q=").then_some(value)
    });
    (name, weight.map_or(1_000, thousandths))
}

fn thousandths(text: &[u8]) -> u16 {
    let Some((whole @ (b'0' | b'1'), fraction)) = text.split_first() else {
        return 0;
    };
    let digits = match fraction.split_first() {
        None => &[],
        Some((b'.', digits)) if digits.len() <= 3 => digits,
        Some(_) => return 0,
    };
    let mut value = u16::from(*whole == b'1');
    for place in 0..3 {
        let digit = match digits.get(place) {
            None => 0,
            Some(digit @ b'0'..=b'9') => digit - b'0',
            Some(_) => return 0,
        };
        value = value * 10 + u16::from(digit);
    }
    if value > 1_000 { 0 } else { value }
}

/// Adjusts the fields of a response that is on its way into the store, and says which coding its
/// content is to get. `request` is a normalised one, and `length` that of the content, if known.
pub fn apply(
    offered: &[Coding],
    request: &HeaderMap,
    status: StatusCode,
    response: &mut HeaderMap,
    length: Option<u64>,
) -> Option<Coding> {
    if offered.is_empty() || !is_encodable(status, response, length) {
        return None;
    }
    add_vary(response);
    let coding = offered.iter().copied().find(|coding| {
        let asked = request.get(ACCEPT_ENCODING).map(HeaderValue::as_bytes);
        asked.is_some_and(|asked| names(asked, *coding))
    })?;
    response.insert(CONTENT_ENCODING, HeaderValue::from_static(word(coding)));
    for name in ABOUT_BYTES {
        response.remove(name);
    }
    weaken(response);
    Some(coding)
}

/// Brings the fields of a 304 to those of the `stored` response that it may be about, if that was
/// encoded here: the origin speaks of what it has sent.
pub fn amend_update(offered: &[Coding], stored: &HeaderMap, update: &mut HeaderMap) {
    let encoded = stored
        .get(CONTENT_ENCODING)
        .is_some_and(|name| offered.iter().any(|coding| names(name.as_bytes(), *coding)));
    if !encoded || !is_weak(stored) {
        return;
    }
    weaken(update);
    if update.contains_key(VARY) {
        add_vary(update);
    }
    for name in ABOUT_BYTES {
        update.remove(name);
    }
}

fn is_encodable(status: StatusCode, response: &HeaderMap, length: Option<u64>) -> bool {
    let plain = response
        .get_all(CONTENT_ENCODING)
        .iter()
        .all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"));
    status.is_success()
        && !matches!(status, StatusCode::NO_CONTENT | StatusCode::PARTIAL_CONTENT)
        && plain
        && !response.contains_key(CONTENT_RANGE)
        && length.is_none_or(|length| length >= LENGTH_MIN)
        && !forbids_transforming(response)
        && response
            .get(CONTENT_TYPE)
            .is_some_and(|value| is_compressible(value.as_bytes()))
}

/// RFC 9111 5.2.2.6.
fn forbids_transforming(response: &HeaderMap) -> bool {
    let mut members = response
        .get_all(CACHE_CONTROL)
        .iter()
        .flat_map(|line| list::elements(line.as_bytes()));
    members.any(|member| member.eq_ignore_ascii_case(b"no-transform"))
}

/// Whether content of this type gets much smaller. Event streams are for reading as they come.
fn is_compressible(content_type: &[u8]) -> bool {
    const TYPES: [&str; 10] = [
        "application/ecmascript",
        "application/javascript",
        "application/json",
        "application/manifest+json",
        "application/wasm",
        "application/x-javascript",
        "application/xml",
        "font/otf",
        "font/ttf",
        "image/svg+xml",
    ];
    let essence = content_type
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii()
        .to_ascii_lowercase();
    if essence == b"text/event-stream" {
        return false;
    }
    essence.starts_with(b"text/")
        || essence.ends_with(b"+json")
        || essence.ends_with(b"+xml")
        || TYPES.iter().any(|known| known.as_bytes() == essence)
}

fn add_vary(headers: &mut HeaderMap) {
    let mut members = headers
        .get_all(VARY)
        .iter()
        .flat_map(|line| list::elements(line.as_bytes()));
    let named = members.any(|member| {
        member == b"*" || member.eq_ignore_ascii_case(ACCEPT_ENCODING.as_str().as_bytes())
    });
    if !named {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

fn is_weak(headers: &HeaderMap) -> bool {
    headers
        .get(ETAG)
        .is_none_or(|tag| tag.as_bytes().starts_with(b"W/"))
}

/// Other bytes of the same meaning: a strong tag would be a lie (RFC 9110 8.8.1).
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(ETAG).filter(|_| !is_weak(headers)) else {
        return;
    };
    let weak = [b"W/".as_slice(), tag.as_bytes()].concat();
    match HeaderValue::from_bytes(&weak) {
        Ok(weak) if EntityTag::parse(weak.as_bytes()).is_some() => {
            headers.insert(ETAG, weak);
        }
        _ => {
            headers.remove(ETAG);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Coding; 2] = [Coding::Brotli, Coding::Gzip];

    fn fields(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_request_gets_the_coding_it_likes_best() {
        for (accept, expected) in [
            ("gzip, br", Some("br")),
            ("gzip", Some("gzip")),
            ("GZIP;q=0.5", Some("gzip")),
            ("x-gzip", Some("gzip")),
            ("gzip;q=1.0, br;q=0.9", Some("gzip")),
            ("br;q=0, gzip;q=0.001", Some("gzip")),
            ("*", Some("br")),
            ("*;q=0.5, br;q=0", Some("gzip")),
            ("deflate, zstd", None),
            ("", None),
            ("identity", None),
            ("identity;q=1, gzip;q=0.5", None),
            ("identity;q=0.5, gzip", Some("gzip")),
            ("gzip;q=2, br;q=x", None),
            ("gzip;q=0.0001", None),
            ("gzip, *;q=0", Some("gzip")),
            // Nothing that could be sent is allowed, so the origin decides.
            ("identity;q=0, zstd", Some("identity;q=0, zstd")),
            ("*;q=0", Some("*;q=0")),
        ] {
            let mut request = fields(&[("accept-encoding", accept)]);
            normalise(&mut request, &BOTH);
            let got = request
                .get(ACCEPT_ENCODING)
                .map(|value| value.to_str().unwrap());
            assert_eq!(got, expected, "{accept}");
        }
        let mut request = fields(&[("accept-encoding", "br"), ("accept-encoding", "gzip")]);
        normalise(&mut request, &[Coding::Gzip]);
        assert_eq!(
            request.get_all(ACCEPT_ENCODING).iter().collect::<Vec<_>>(),
            ["gzip"]
        );
    }

    #[test]
    fn only_what_gets_smaller_and_may_be_changed_is_encoded() {
        let request = fields(&[("accept-encoding", "gzip")]);
        for (status, response, length, expected) in [
            (
                200,
                &[("content-type", "text/html; charset=utf-8")][..],
                None,
                true,
            ),
            (200, &[("content-type", "Text/Plain")], Some(1_024), true),
            (
                203,
                &[("content-type", "application/problem+json")],
                None,
                true,
            ),
            (200, &[("content-type", "text/html")], Some(1_023), false),
            (200, &[("content-type", "image/png")], None, false),
            (200, &[("content-type", "text/event-stream")], None, false),
            (200, &[], None, false),
            (206, &[("content-type", "text/html")], None, false),
            (404, &[("content-type", "text/html")], None, false),
            (
                200,
                &[("content-type", "text/html"), ("content-encoding", "br")],
                None,
                false,
            ),
            (
                200,
                &[
                    ("content-type", "text/html"),
                    ("content-encoding", "identity"),
                ],
                None,
                true,
            ),
            (
                200,
                &[
                    ("content-type", "text/html"),
                    ("cache-control", "x, No-Transform"),
                ],
                None,
                false,
            ),
        ] {
            let mut headers = fields(response);
            let status = StatusCode::from_u16(status).unwrap();
            let coding = apply(&BOTH, &request, status, &mut headers, length);
            assert_eq!(
                coding.is_some(),
                expected,
                "{status} {response:?} {length:?}"
            );
        }
    }

    #[test]
    fn the_fields_of_an_encoded_response_say_so() {
        let response = [
            ("content-type", "text/css"),
            ("etag", "\"1\""),
            ("content-md5", "x"),
            ("vary", "Accept-Language"),
        ];
        let mut headers = fields(&response);
        let request = fields(&[("accept-encoding", "br")]);
        let coding = apply(&BOTH, &request, StatusCode::OK, &mut headers, None);
        assert_eq!(coding, Some(Coding::Brotli));
        assert_eq!(headers.get(CONTENT_ENCODING).unwrap(), "br");
        assert_eq!(headers.get(ETAG).unwrap(), "W/\"1\"");
        assert!(!headers.contains_key("content-md5"));
        let vary: Vec<_> = headers.get_all(VARY).iter().collect();
        assert_eq!(vary, ["Accept-Language", "accept-encoding"]);
        // Of what is sent as it is, other requests may still get another form.
        let mut plain = fields(&response);
        assert_eq!(
            apply(&BOTH, &HeaderMap::new(), StatusCode::OK, &mut plain, None),
            None
        );
        assert_eq!(plain.get(ETAG).unwrap(), "\"1\"");
        assert_eq!(plain.get_all(VARY).iter().count(), 2);
        // A site that does not ask for it is left alone.
        let mut untouched = fields(&response);
        assert_eq!(
            apply(&[], &request, StatusCode::OK, &mut untouched, None),
            None
        );
        assert_eq!(untouched, fields(&response));
    }

    #[test]
    fn a_304_speaks_of_what_was_encoded_here() {
        let stored = fields(&[("content-encoding", "gzip"), ("etag", "W/\"1\"")]);
        let mut update = fields(&[("etag", "\"1\""), ("vary", "accept"), ("content-md5", "x")]);
        amend_update(&BOTH, &stored, &mut update);
        assert_eq!(update.get(ETAG).unwrap(), "W/\"1\"");
        assert_eq!(
            update.get_all(VARY).iter().collect::<Vec<_>>(),
            ["accept", "accept-encoding"]
        );
        assert!(!update.contains_key("content-md5"));
        // What the origin has encoded itself is its own affair.
        let stored = fields(&[("content-encoding", "gzip"), ("etag", "\"1\"")]);
        let mut update = fields(&[("etag", "\"1\"")]);
        amend_update(&BOTH, &stored, &mut update);
        assert_eq!(update.get(ETAG).unwrap(), "\"1\"");
    }
}

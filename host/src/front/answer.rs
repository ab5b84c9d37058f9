//! Answers built from stored responses, and the answers that this host gives itself.
//!
//! The content is shared, and the fields are copied once.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::{AGE, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::body::ResponseBody;
use super::cache_status::{CACHE_STATUS, CacheStatus, Outcome};
use super::conditional::{self, Precondition};
use super::range::{self, RangeAnswer};
use super::ranged::{self, Ranged};
use crate::entry::{Entry, StoredResponse};

/// Prepares end-to-end fields for keeping: places for `Age` and `Cache-Status` are made now, so
/// that no answer has to grow the map.
pub fn with_places(headers: &mut HeaderMap) {
    headers.insert(AGE, HeaderValue::from_static("0"));
    if !headers.contains_key(CACHE_STATUS) {
        headers.insert(CACHE_STATUS, HeaderValue::from_static(""));
    }
}

/// Fills in `Age` and this cache's member of `Cache-Status`.
pub fn fill_places(headers: &mut HeaderMap, age: Option<u64>, status: &CacheStatus<'_>) {
    match age {
        Some(seconds) => {
            headers.insert(AGE, HeaderValue::from(seconds));
        }
        None => {
            headers.remove(AGE);
        }
    }
    let upstream: usize = headers
        .get_all(CACHE_STATUS)
        .iter()
        .map(|line| line.len() + 2)
        .sum();
    let extra = status.key.map_or(0, <[u8]>::len) + status.detail.map_or(0, <[u8]>::len);
    let mut text = BytesMut::with_capacity(96 + upstream + 2 * extra);
    // Members stand in the order of the caches, the one closest to the client last (RFC 9211 2).
    for line in headers.get_all(CACHE_STATUS) {
        if !line.is_empty() {
            text.extend_from_slice(line.as_bytes());
            text.extend_from_slice(b", ");
        }
    }
    status.write(&mut text);
    // Only printable ASCII and bytes of other values are written here.
    if let Ok(value) = HeaderValue::from_maybe_shared(text.freeze()) {
        headers.insert(CACHE_STATUS, value);
    }
}

/// Answers `method` with the fields `request` from `stored`, whose fields as they go out `head`
/// makes (RFC 9110 13.2.2: preconditions, then
/// ranges).
#[inline]
pub fn from_stored(
    method: &Method,
    request: &HeaderMap,
    stored: &StoredResponse,
    head: impl FnOnce() -> HeaderMap,
) -> Response<ResponseBody> {
    if !Asks::of(request).part && *method == Method::GET {
        return respond(stored.status, head(), ResponseBody::stored(&stored.body));
    }
    match conditional::evaluate(method, request, stored.status, &stored.headers) {
        Precondition::NotModified => {
            let headers = conditional::not_modified_fields(&head());
            return respond(StatusCode::NOT_MODIFIED, headers, ResponseBody::Empty);
        }
        Precondition::None => {}
    }
    let length = stored.body.len();
    let range = if stored.status == StatusCode::OK {
        range::resolve(request, method, length, &stored.headers)
    } else {
        RangeAnswer::Whole
    };
    let mut headers = head();
    let whole = |range: &Range<u64>| Some((&stored.body, range.clone()));
    if let Some(ranged) = Ranged::new(&range, &mut headers, Some(length))
        && let Some((status, body)) = ranged.stored(whole)
    {
        return respond(status, headers, body);
    }
    if *method == Method::HEAD {
        // RFC 9110 8.6: a 204 has none.
        if stored.status != StatusCode::NO_CONTENT {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        return respond(stored.status, headers, ResponseBody::Empty);
    }
    respond(stored.status, headers, ResponseBody::stored(&stored.body))
}

/// Answers from what `entry` holds, all of a response or parts. None if that does not answer.
pub fn from_entry(
    method: &Method,
    request: &HeaderMap,
    entry: &Entry,
    head: impl FnOnce() -> HeaderMap,
) -> Option<Response<ResponseBody>> {
    match entry.response() {
        Some(stored) => Some(from_stored(method, request, stored, head)),
        None => ranged::from_parts(method, request, entry.partial()?, head),
    }
}

/// What a request says besides which resource it is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// It has a precondition or a range.
    pub part: bool,
    /// It has cache directives, or `Pragma`.
    pub directives: bool,
}

impl Asks {
    /// Finds out. One look at each name is cheaper than looking for eight names.
    #[inline]
    pub fn of(request: &HeaderMap) -> Self {
        let mut asks = Self::default();
        for name in request.keys() {
            match name.as_str().as_bytes() {
                [b'i', b'f', b'-', ..] | b"range" => asks.part = true,
                b"cache-control" | b"pragma" => asks.directives = true,
                _ => {}
            }
        }
        asks
    }
}

/// A response of these parts.
pub fn respond(
    status: StatusCode,
    headers: HeaderMap,
    body: ResponseBody,
) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// An answer of this host's own, in plain text. Its `Cache-Status` says that it came neither from
/// the cache nor through it.
pub fn own(status: StatusCode, message: &'static str) -> Response<ResponseBody> {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    CacheStatus::new(Outcome::Own).append_to(&mut headers);
    respond(
        status,
        headers,
        ResponseBody::Whole(Bytes::from_static(message.as_bytes())),
    )
}

//! Answers built from stored responses, and the answers that this host gives itself.
//!
//! A hit costs one clone of the stored fields and two values written into a buffer that the worker
//! reuses; the content is shared.

use bytes::{Bytes, BytesMut};
use http::header::{AGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::body::ResponseBody;
use super::cache_status::{CACHE_STATUS, CacheStatus};
use super::conditional::{self, Precondition};
use super::range::{self, RangeAnswer};
use crate::entry::StoredResponse;

/// Bytes set aside at a time for values of response fields.
const TEXT_BYTES: usize = 16 << 10;
/// Room that `Age` and `Cache-Status` need, without key and detail.
const VALUES_BYTES: usize = 160;

/// Prepares end-to-end fields for keeping: places for `Age` and `Cache-Status` are made now, so
/// that no answer has to grow the map.
pub fn with_places(headers: &mut HeaderMap) {
    headers.insert(AGE, HeaderValue::from_static("0"));
    if !headers.contains_key(CACHE_STATUS) {
        headers.insert(CACHE_STATUS, HeaderValue::from_static(""));
    }
}

/// Fills in `Age` and this cache's member of `Cache-Status`.
pub fn fill_places(
    headers: &mut HeaderMap,
    age: Option<u64>,
    status: &CacheStatus<'_>,
    text: &mut BytesMut,
) {
    let upstream = headers.get(CACHE_STATUS).map_or(0, HeaderValue::len);
    let extra = upstream + status.key.map_or(0, <[u8]>::len) + status.detail.map_or(0, <[u8]>::len);
    if text.capacity() < VALUES_BYTES + 2 * extra {
        *text = BytesMut::with_capacity(TEXT_BYTES + 2 * extra);
    }
    match age {
        Some(seconds) => {
            text.extend_from_slice(itoa::Buffer::new().format(seconds).as_bytes());
            headers.insert(AGE, value(text));
        }
        None => {
            headers.remove(AGE);
        }
    }
    // Members stand in the order of the caches, the one closest to the client last (RFC 9211 2).
    for line in headers.get_all(CACHE_STATUS) {
        if !line.is_empty() {
            text.extend_from_slice(line.as_bytes());
            text.extend_from_slice(b", ");
        }
    }
    status.write(text);
    headers.insert(CACHE_STATUS, value(text));
}

fn value(text: &mut BytesMut) -> HeaderValue {
    // Only printable ASCII and bytes of other values are written here.
    HeaderValue::from_maybe_shared(text.split().freeze())
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Answers `method` with the fields `request` from `stored` (RFC 9110 13.2.2: preconditions, then
/// ranges).
#[inline]
pub fn from_stored(
    method: &Method,
    request: &HeaderMap,
    stored: &StoredResponse,
    fill: impl FnOnce(&mut HeaderMap),
) -> Response<ResponseBody> {
    match conditional::evaluate(method, request, stored.status, &stored.headers) {
        Precondition::NotModified => {
            let mut headers = conditional::not_modified_fields(&stored.headers);
            fill(&mut headers);
            return respond(StatusCode::NOT_MODIFIED, headers, ResponseBody::Empty);
        }
        Precondition::None | Precondition::ForOrigin => {}
    }
    let length = stored.body.len();
    let range = if stored.status == StatusCode::OK {
        range::resolve(request, method, length, &stored.headers)
    } else {
        RangeAnswer::Whole
    };
    let mut headers = stored.headers.clone();
    fill(&mut headers);
    let (status, body) = match range {
        RangeAnswer::Whole if *method == Method::HEAD => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            (stored.status, ResponseBody::Empty)
        }
        RangeAnswer::Whole => (stored.status, ResponseBody::stored(&stored.body)),
        RangeAnswer::Partial { start, end } => {
            (StatusCode::PARTIAL_CONTENT, ResponseBody::range(&stored.body, start..end))
        }
        RangeAnswer::Unsatisfiable => {
            headers.remove(CONTENT_TYPE);
            (StatusCode::RANGE_NOT_SATISFIABLE, ResponseBody::Empty)
        }
    };
    if let Some(content_range) = range.content_range(length) {
        headers.insert(CONTENT_RANGE, content_range);
    }
    respond(status, headers, body)
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

/// An answer of this host's own, in plain text.
pub fn own(status: StatusCode, message: &'static str) -> Response<ResponseBody> {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    respond(status, headers, ResponseBody::Whole(Bytes::from_static(message.as_bytes())))
}

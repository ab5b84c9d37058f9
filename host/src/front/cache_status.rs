//! The `Cache-Status` field (RFC 9211): what this cache did with a request.
//!
//! Pure. Text is written straight into the buffer it is sent from. Caches add themselves at the
//! end, so ours is appended as one more line to what caches nearer to the origin said.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

/// The field's name.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// How this cache names itself.
const NAME: &[u8] = b"larder";

/// What this cache did with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStatus<'a> {
    /// Whether the answer came from here or through here.
    pub outcome: Outcome,
    /// The cache key, for clients that may see it.
    pub key: Option<&'a [u8]>,
    /// What else there is to say, for clients that may see it.
    pub detail: Option<&'a [u8]>,
}

/// Whether an answer came from this cache or through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// From a stored response, without asking the origin.
    Hit {
        /// Seconds of lifetime left, negative for a stale response.
        ttl: i64,
    },
    /// The request, or one that it joined, went to the origin.
    Forward(Forward),
    /// From neither: this host has answered by itself.
    Own,
}

/// A request that went to the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Why it did.
    pub reason: ForwardReason,
    /// The status that the origin answered with, if it answered.
    pub status: Option<StatusCode>,
    /// Seconds of lifetime that the response has, negative once stale, if it is stored.
    pub ttl: Option<i64>,
    /// Whether the response was stored.
    pub stored: bool,
    /// Whether the request joined one that was under way.
    pub collapsed: bool,
}

impl Forward {
    /// A request that was forwarded for `reason`, of which nothing else is known yet.
    pub const fn new(reason: ForwardReason) -> Self {
        Self {
            reason,
            status: None,
            ttl: None,
            stored: false,
            collapsed: false,
        }
    }
}

/// Why a request went to the origin (RFC 9211 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ForwardReason {
    /// The cache was told not to handle the request.
    Bypass,
    /// The method's semantics require it.
    Method,
    /// Nothing is stored for the URI.
    UriMiss,
    /// Something is stored for the URI, but not for these nominated fields.
    VaryMiss,
    /// Nothing is stored that may be used.
    Miss,
    /// The request's directives demand it.
    Request,
    /// What is stored is stale.
    Stale,
    /// What is stored is only a part of what was asked for.
    Partial,
}

impl ForwardReason {
    /// The token of the field, also used in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

impl<'a> CacheStatus<'a> {
    /// A status without key and detail.
    pub const fn new(outcome: Outcome) -> CacheStatus<'a> {
        CacheStatus {
            outcome,
            key: None,
            detail: None,
        }
    }

    /// Writes this cache's member of the list.
    pub fn write(&self, out: &mut impl BufMut) {
        out.put_slice(NAME);
        match self.outcome {
            Outcome::Hit { ttl } => {
                out.put_slice(b"; hit");
                write_integer(out, b"; ttl=", ttl);
            }
            Outcome::Forward(forward) => write_forward(out, forward),
            Outcome::Own => {}
        }
        if let Some(key) = self.key {
            write_string(out, b"; key=", key);
        }
        if let Some(detail) = self.detail {
            write_string(out, b"; detail=", detail);
        }
    }

    /// Appends this cache's member to what `headers` hold already.
    pub fn append_to(&self, headers: &mut HeaderMap) {
        let known = self.key.map_or(0, <[u8]>::len) + self.detail.map_or(0, <[u8]>::len);
        let mut text = BytesMut::with_capacity(64 + known);
        self.write(&mut text);
        // Everything written is printable ASCII, so this cannot fail.
        if let Ok(value) = HeaderValue::from_maybe_shared(text.freeze()) {
            headers.append(CACHE_STATUS, value);
        }
    }
}

fn write_forward(out: &mut impl BufMut, forward: Forward) {
    out.put_slice(b"; fwd=");
    out.put_slice(forward.reason.as_str().as_bytes());
    if let Some(status) = forward.status {
        write_integer(out, b"; fwd-status=", i64::from(status.as_u16()));
    }
    if let Some(ttl) = forward.ttl {
        write_integer(out, b"; ttl=", ttl);
    }
    if forward.stored {
        out.put_slice(b"; stored");
    }
    if forward.collapsed {
        out.put_slice(b"; collapsed");
    }
}

fn write_integer(out: &mut impl BufMut, name: &[u8], value: i64) {
    // RFC 9651 3.3.1: an integer has at most fifteen digits.
    const MAX: i64 = 999_999_999_999_999;
    out.put_slice(name);
    out.put_slice(
        itoa::Buffer::new()
            .format(value.clamp(-MAX, MAX))
            .as_bytes(),
    );
}

/// Writes a string (RFC 9651 3.3.3). It holds printable ASCII only, so other bytes are written as
/// `%` and two hexadecimal digits.
fn write_string(out: &mut impl BufMut, name: &[u8], value: &[u8]) {
    const HEX: [u8; 16] = *b"0123456789ABCDEF";
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or_default();
    out.put_slice(name);
    out.put_u8(b'"');
    for &byte in value {
        match byte {
            b'"' | b'\\' => out.put_slice(&[b'\\', byte]),
            b' '..=b'~' => out.put_u8(byte),
            _ => out.put_slice(&[b'%', digit(byte >> 4), digit(byte & 0xf)]),
        }
    }
    out.put_u8(b'"');
}

/// Whole seconds, signed, for `Cache-Status`.
pub fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(status: &CacheStatus<'_>) -> String {
        let mut out = Vec::new();
        status.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn outcomes_read_as_in_the_rfc() {
        let check = |outcome, expected| assert_eq!(text(&CacheStatus::new(outcome)), expected);
        check(Outcome::Hit { ttl: 58 }, "larder; hit; ttl=58");
        check(Outcome::Hit { ttl: -3 }, "larder; hit; ttl=-3");
        check(
            Outcome::Hit { ttl: i64::MAX },
            "larder; hit; ttl=999999999999999",
        );
        check(Outcome::Own, "larder");
        check(
            Outcome::Forward(Forward::new(ForwardReason::Bypass)),
            "larder; fwd=bypass",
        );
        let forward = Forward {
            reason: ForwardReason::UriMiss,
            status: Some(StatusCode::OK),
            ttl: None,
            stored: true,
            collapsed: true,
        };
        check(
            Outcome::Forward(forward),
            "larder; fwd=uri-miss; fwd-status=200; stored; collapsed",
        );
        let forward = Forward {
            ttl: Some(60),
            collapsed: false,
            ..forward
        };
        check(
            Outcome::Forward(forward),
            "larder; fwd=uri-miss; fwd-status=200; ttl=60; stored",
        );
    }

    #[test]
    fn strings_are_escaped() {
        let status = CacheStatus {
            outcome: Outcome::Hit { ttl: 1 },
            key: Some(b"a\"b\\c\n\xff%"),
            detail: Some(b"memory"),
        };
        assert_eq!(
            text(&status),
            "larder; hit; ttl=1; key=\"a\\\"b\\\\c%0A%FF%\"; detail=\"memory\""
        );
    }

    #[test]
    fn ours_comes_after_what_others_said() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_STATUS, HeaderValue::from_static("upstream; hit"));
        CacheStatus::new(Outcome::Hit { ttl: 1 }).append_to(&mut headers);
        let lines: Vec<_> = headers.get_all(CACHE_STATUS).iter().collect();
        assert_eq!(lines, ["upstream; hit", "larder; hit; ttl=1"]);
    }

    proptest! {
        #[test]
        fn any_key_gives_a_valid_field(key in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut headers = HeaderMap::new();
            let status = CacheStatus { key: Some(&key), ..CacheStatus::new(Outcome::Hit { ttl: 0 }) };
            status.append_to(&mut headers);
            let value = headers.get(CACHE_STATUS).unwrap().to_str().unwrap();
            prop_assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }
}

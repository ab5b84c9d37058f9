//! Byte ranges of a stored, whole response (RFC 9110 14, 13.1.5).
//!
//! Pure. A range that cannot be honoured exactly as asked is not honoured: the whole is always a
//! correct answer, except to a range that is well-formed and lies outside the content.

use std::ops::Range;
use std::time::Duration;

use bytes::BytesMut;
use http::header::{DATE, ETAG, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE};
use http::{HeaderMap, Method};

use crate::rfc9111::date;
use crate::rfc9111::entity_tag::EntityTag;
use crate::rfc9111::list;

/// What of the content answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeAnswer {
    /// All of it, with the stored status.
    Whole,
    /// The bytes from `start` up to but without `end`, with status 206; never none.
    Partial {
        /// The first byte.
        start: u64,
        /// The byte after the last.
        end: u64,
    },
    /// Nothing, with status 416.
    Unsatisfiable,
}

impl RangeAnswer {
    /// The bytes to send of content that is `len` bytes long.
    pub const fn bytes(self, len: u64) -> Range<u64> {
        match self {
            Self::Whole => 0..len,
            Self::Partial { start, end } => start..end,
            Self::Unsatisfiable => 0..0,
        }
    }

    /// The `Content-Range` of the answer, if it has one (RFC 9110 14.4).
    pub fn content_range(self, len: u64) -> Option<HeaderValue> {
        let mut text = BytesMut::with_capacity(72);
        match self {
            Self::Whole => return None,
            Self::Partial { start, end } => {
                text.extend_from_slice(b"bytes ");
                text.extend_from_slice(itoa::Buffer::new().format(start).as_bytes());
                text.extend_from_slice(b"-");
                let last = end.saturating_sub(1);
                text.extend_from_slice(itoa::Buffer::new().format(last).as_bytes());
                text.extend_from_slice(b"/");
            }
            Self::Unsatisfiable => text.extend_from_slice(b"bytes */"),
        }
        text.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
        HeaderValue::from_maybe_shared(text.freeze()).ok()
    }
}

/// Decides which bytes of a stored 200 response with the fields `stored` and `len` bytes of
/// content answer a request. To be asked after the other preconditions (RFC 9110 13.2.2).
pub fn resolve(request: &HeaderMap, method: &Method, len: u64, stored: &HeaderMap) -> RangeAnswer {
    let Some(range) = request.get(RANGE) else {
        return RangeAnswer::Whole;
    };
    // RFC 9110 14.2: ranges are defined for GET. The field has one line; of two, neither can be
    // meant.
    let defined = *method == Method::GET && request.get_all(RANGE).iter().nth(1).is_none();
    if !defined || !if_range_holds(request, stored) {
        return RangeAnswer::Whole;
    }
    satisfy(range.as_bytes(), len)
}

/// Whether `If-Range` is absent or names exactly the stored response (RFC 9110 13.1.5).
fn if_range_holds(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let mut lines = request.get_all(IF_RANGE).iter();
    let Some(condition) = lines.next() else {
        return true;
    };
    if lines.next().is_some() {
        return false;
    }
    if let Some(tag) = EntityTag::parse(condition.as_bytes()) {
        let stored = stored
            .get(ETAG)
            .and_then(|value| EntityTag::parse(value.as_bytes()));
        return stored.is_some_and(|stored| stored.matches_strongly(tag));
    }
    let parse = |value: &HeaderValue| date::parse(value.as_bytes());
    let modified = stored.get(LAST_MODIFIED).and_then(parse);
    let made = stored.get(DATE).and_then(parse);
    // RFC 9110 8.8.2.2: a date is a strong validator once a second has passed, because no later
    // version can bear the same one.
    let strong = modified
        .zip(made)
        .and_then(|(modified, made)| made.duration_since(modified).ok())
        .is_some_and(|passed| passed >= Duration::from_secs(1));
    strong && parse(condition) == modified
}

/// What one range asks for.
#[derive(Clone, Copy, Debug)]
enum Spec {
    /// From a byte, up to and with another if it is named.
    From(u64, Option<u64>),
    /// The last bytes, as many as named.
    Suffix(u64),
}

/// Applies a `Range` value to content of `len` bytes (RFC 9110 14.1.1, 14.1.2).
fn satisfy(value: &[u8], len: u64) -> RangeAnswer {
    let Some(set) = byte_range_set(value.trim_ascii()) else {
        return RangeAnswer::Whole;
    };
    let mut answer = None;
    for element in list::elements(set) {
        // One range that breaks the grammar makes the whole field invalid, and so ignored.
        let Some(spec) = parse_spec(element) else {
            return RangeAnswer::Whole;
        };
        let found = place(spec, len);
        answer = Some(match (answer, found) {
            (None, found) => found,
            (Some(RangeAnswer::Unsatisfiable), RangeAnswer::Unsatisfiable) => found,
            // RFC 9110 14.2 lets a server ignore what it does not want to serve in parts.
            _ => RangeAnswer::Whole,
        });
    }
    answer.unwrap_or(RangeAnswer::Whole)
}

/// The ranges, if the unit is bytes, whose name has no case (RFC 9110 14.1).
fn byte_range_set(value: &[u8]) -> Option<&[u8]> {
    let (unit, set) = value.split_at_checked(b"bytes=".len())?;
    unit.eq_ignore_ascii_case(b"bytes=").then_some(set)
}

fn parse_spec(element: &[u8]) -> Option<Spec> {
    let dash = element.iter().position(|&byte| byte == b'-')?;
    let (first, rest) = element.split_at_checked(dash)?;
    match (first, rest.get(1..)?) {
        ([], suffix) => position(suffix).map(Spec::Suffix),
        (first, []) => position(first).map(|first| Spec::From(first, None)),
        (first, last) => {
            let (first, last) = position(first).zip(position(last))?;
            (first <= last).then_some(Spec::From(first, Some(last)))
        }
    }
}

/// Reads a position; one too large for the type lies beyond any content either way.
fn position(digits: &[u8]) -> Option<u64> {
    let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    valid.then(|| {
        digits.iter().fold(0_u64, |number, digit| {
            number
                .saturating_mul(10)
                .saturating_add(u64::from(digit - b'0'))
        })
    })
}

/// Fits a range to content of `len` bytes.
fn place(spec: Spec, len: u64) -> RangeAnswer {
    let (start, end) = match spec {
        Spec::From(first, last) => (
            first,
            last.map_or(len, |last| last.saturating_add(1).min(len)),
        ),
        // A suffix of empty content is satisfiable, but there is no way to say so in
        // `Content-Range`.
        Spec::Suffix(wanted) if wanted > 0 && len == 0 => return RangeAnswer::Whole,
        Spec::Suffix(wanted) => (len.saturating_sub(wanted), len),
    };
    if start < end {
        RangeAnswer::Partial { start, end }
    } else {
        RangeAnswer::Unsatisfiable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::HeaderName;
    use proptest::prelude::*;

    fn fields(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, line) in lines {
            map.append(name, HeaderValue::from_str(line).unwrap());
        }
        map
    }

    const fn partial(start: u64, end: u64) -> RangeAnswer {
        RangeAnswer::Partial { start, end }
    }

    #[test]
    fn single_ranges_are_served_and_everything_else_is_whole() {
        use RangeAnswer::{Unsatisfiable, Whole};
        for (value, expected) in [
            ("bytes=0-0", partial(0, 1)),
            ("bytes=0-99", partial(0, 10)),
            ("BYTES=2-5", partial(2, 6)),
            ("bytes=2-", partial(2, 10)),
            ("bytes=-3", partial(7, 10)),
            ("bytes=-30", partial(0, 10)),
            ("bytes=,2-5 ,", partial(2, 6)),
            ("bytes= 2-5", partial(2, 6)),
            ("bytes=0-18446744073709551616", partial(0, 10)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=10-11", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=99999999999999999999-", Unsatisfiable),
            ("bytes=20-, 30-", Unsatisfiable),
            ("bytes=0-1, 3-4", Whole),
            ("bytes=0-1, 30-", Whole),
            ("bytes=30-, 0-1", Whole),
            ("bytes=0-1, x", Whole),
            ("bytes=5-2", Whole),
            ("bytes=5", Whole),
            ("bytes=-", Whole),
            ("bytes=--1", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=0x1-2", Whole),
            ("bytes=1 - 2", Whole),
            ("bytes=", Whole),
            ("bytes 0-1", Whole),
            ("bytes =0-1", Whole),
            ("items=0-1", Whole),
            ("", Whole),
        ] {
            let request = fields(&[(RANGE, value)]);
            assert_eq!(
                resolve(&request, &Method::GET, 10, &HeaderMap::new()),
                expected,
                "{value}"
            );
            assert_eq!(
                resolve(&request, &Method::HEAD, 10, &HeaderMap::new()),
                Whole,
                "{value}"
            );
        }
        let twice = fields(&[(RANGE, "bytes=0-1"), (RANGE, "bytes=0-1")]);
        assert_eq!(resolve(&twice, &Method::GET, 10, &HeaderMap::new()), Whole);
        assert_eq!(
            resolve(&HeaderMap::new(), &Method::GET, 10, &HeaderMap::new()),
            Whole
        );
    }

    #[test]
    fn empty_content_has_no_parts() {
        for (value, expected) in [
            ("bytes=0-", RangeAnswer::Unsatisfiable),
            ("bytes=-0", RangeAnswer::Unsatisfiable),
            ("bytes=-1", RangeAnswer::Whole),
        ] {
            let request = fields(&[(RANGE, value)]);
            assert_eq!(
                resolve(&request, &Method::GET, 0, &HeaderMap::new()),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn if_range_needs_a_strong_validator() {
        const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
        let check = |conditions: &[&str], stored: &[(HeaderName, &str)], holds| {
            let mut request = fields(&[(RANGE, "bytes=0-1")]);
            for condition in conditions {
                request.append(IF_RANGE, HeaderValue::from_str(condition).unwrap());
            }
            let expected = if holds {
                partial(0, 2)
            } else {
                RangeAnswer::Whole
            };
            let found = resolve(&request, &Method::GET, 10, &fields(stored));
            assert_eq!(found, expected, "{conditions:?} {stored:?}");
        };
        check(&["\"a\""], &[(ETAG, "\"a\"")], true);
        check(&["\"b\""], &[(ETAG, "\"a\"")], false);
        check(&["W/\"a\""], &[(ETAG, "W/\"a\"")], false);
        check(&["\"a\""], &[(ETAG, "W/\"a\"")], false);
        check(&["\"a\""], &[], false);
        check(&["\"a\"", "\"a\""], &[(ETAG, "\"a\"")], false);
        check(
            &[MODIFIED],
            &[(LAST_MODIFIED, MODIFIED), (DATE, LATER)],
            true,
        );
        check(
            &[MODIFIED],
            &[(LAST_MODIFIED, MODIFIED), (DATE, MODIFIED)],
            false,
        );
        check(&[MODIFIED], &[(LAST_MODIFIED, MODIFIED)], false);
        check(&[LATER], &[(LAST_MODIFIED, MODIFIED), (DATE, LATER)], false);
        check(&["x"], &[(LAST_MODIFIED, "x"), (DATE, LATER)], false);
    }

    #[test]
    fn content_range_is_written_out() {
        let text = |answer: RangeAnswer| {
            answer
                .content_range(10)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(text(partial(2, 6)).as_deref(), Some("bytes 2-5/10"));
        assert_eq!(
            text(RangeAnswer::Unsatisfiable).as_deref(),
            Some("bytes */10")
        );
        assert_eq!(text(RangeAnswer::Whole), None);
    }

    proptest! {
        #[test]
        fn every_answer_lies_within_the_content(value in "bytes=[0-9,-]{0,12}", len in 0_u64..40) {
            let answer = resolve(&fields(&[(RANGE, &value)]), &Method::GET, len, &HeaderMap::new());
            let bytes = answer.bytes(len);
            prop_assert!(bytes.start <= bytes.end && bytes.end <= len);
            if let RangeAnswer::Partial { start, end } = answer {
                prop_assert!(start < end);
            }
        }

        #[test]
        fn a_well_formed_range_gives_just_its_bytes(first in 0_u64..50, more in 0_u64..50, len in 1_u64..60) {
            let value = format!("bytes={first}-{}", first + more);
            let answer = resolve(&fields(&[(RANGE, &value)]), &Method::GET, len, &HeaderMap::new());
            let expected = if first < len {
                partial(first, (first + more + 1).min(len))
            } else {
                RangeAnswer::Unsatisfiable
            };
            prop_assert_eq!(answer, expected);
        }
    }
}

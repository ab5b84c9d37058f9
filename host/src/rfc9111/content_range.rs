//! `Content-Range` of a response with one part (RFC 9110 14.4, 15.3.7), and which parts are parts
//! of the same content (RFC 9110 8.8.1, 13.1.5, 15.3.7.3; RFC 9111 3.4).

use std::ops::Range;
use std::time::Duration;

use http::header::{CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue};

use super::date;
use super::entity_tag::{EntityTag, Strength};

/// Which bytes of the content a 206 brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The bytes; never none.
    pub range: Range<u64>,
    /// Length of the whole content, if the origin knew it.
    pub complete: Option<u64>,
}

impl ContentRange {
    /// Reads the field of a 206 with `headers`, whose content has `length` bytes, if that is known
    /// beforehand. None if there is no such field, more than one, or one that is not about bytes,
    /// breaks the grammar or contradicts itself or the length: then nobody can tell what came.
    pub fn of(headers: &HeaderMap, length: Option<u64>) -> Option<Self> {
        let mut lines = headers.get_all(CONTENT_RANGE).iter();
        let (line, None) = (lines.next()?, lines.next()) else {
            return None;
        };
        // RFC 9110 15.3.7.2: several parts bring a field each, inside of the content.
        let parts = b"multipart/byteranges";
        let is_multipart = |kind: &HeaderValue| {
            let start = kind.as_bytes().get(..parts.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(parts))
        };
        if headers.get(CONTENT_TYPE).is_some_and(is_multipart) {
            return None;
        }
        let found = Self::parse(line.as_bytes())?;
        let whole = length.is_none_or(|length| length == found.range.end - found.range.start);
        whole.then_some(found)
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let (unit, rest) = value.trim_ascii().split_at_checked(b"bytes ".len())?;
        if !unit.eq_ignore_ascii_case(b"bytes ") {
            return None;
        }
        let (range, complete) = split(rest, b'/')?;
        let (first, last) = split(range, b'-')?;
        let (first, last) = (number(first)?, number(last)?);
        let complete = match complete {
            b"*" => None,
            digits => Some(number(digits)?),
        };
        let end = last.checked_add(1)?;
        // RFC 9110 14.4: invalid if the last lies before the first, or not within the content.
        let valid = first <= last && complete.is_none_or(|complete| last < complete);
        valid.then_some(Self {
            range: first..end,
            complete,
        })
    }

    /// Whether it is all of the content.
    pub fn is_whole(&self) -> bool {
        self.range.start == 0 && self.complete == Some(self.range.end)
    }
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|&byte| byte == at)?;
    Some((text.get(..place)?, text.get(place + 1..)?))
}

/// Reads digits. Positions that no file reaches are refused.
fn number(digits: &[u8]) -> Option<u64> {
    let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| valid)?;
    text.parse().ok()
}

/// The validator of a response that changes with every byte of its content: a strong entity tag
/// or, without any, a `Last-Modified` that is strong by its distance from `Date`.
pub fn strong_validator(headers: &HeaderMap) -> Option<&HeaderValue> {
    match headers.get(ETAG) {
        Some(tag) => {
            let strong = EntityTag::parse(tag.as_bytes())?.strength == Strength::Strong;
            strong.then_some(tag)
        }
        None => strong_date(headers).and_then(|()| headers.get(LAST_MODIFIED)),
    }
}

/// RFC 9110 8.8.2.2: a date is a strong validator once a second has passed, because no later
/// version can bear the same one.
fn strong_date(headers: &HeaderMap) -> Option<()> {
    let time = |name| date::parse(headers.get(name)?.as_bytes());
    let passed = time(DATE)?.duration_since(time(LAST_MODIFIED)?).ok()?;
    (passed >= Duration::from_secs(1)).then_some(())
}

/// Whether two responses hold the same content, byte for byte: both have the same strong
/// validator (RFC 9111 3.4).
pub fn same_content(one: &HeaderMap, other: &HeaderMap) -> bool {
    let kinds = one.contains_key(ETAG) == other.contains_key(ETAG);
    let equal = strong_validator(one)
        .zip(strong_validator(other))
        .is_some_and(|(one, other)| one.as_bytes().trim_ascii() == other.as_bytes().trim_ascii());
    kinds && equal
}

/// Whether `condition`, the value of an `If-Range`, names exactly the response with `headers`
/// (RFC 9110 13.1.5).
pub fn if_range_names(condition: &HeaderValue, headers: &HeaderMap) -> bool {
    if let Some(tag) = EntityTag::parse(condition.as_bytes()) {
        let stored = headers
            .get(ETAG)
            .and_then(|value| EntityTag::parse(value.as_bytes()));
        return stored.is_some_and(|stored| stored.matches_strongly(tag));
    }
    let parse = |value: &HeaderValue| date::parse(value.as_bytes());
    strong_date(headers).is_some() && parse(condition) == headers.get(LAST_MODIFIED).and_then(parse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::HeaderName;
    use proptest::prelude::*;

    const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn fields(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, line) in lines {
            map.append(name, HeaderValue::from_str(line).unwrap());
        }
        map
    }

    #[test]
    fn only_what_says_plainly_which_bytes_came_is_read() {
        let check =
            |value: &str, length: Option<u64>, expected: Option<(u64, u64, Option<u64>)>| {
                let found = ContentRange::of(&fields(&[(CONTENT_RANGE, value)]), length);
                let found = found.map(|found| (found.range.start, found.range.end, found.complete));
                assert_eq!(found, expected, "{value} {length:?}");
            };
        check("bytes 0-4/10", Some(5), Some((0, 5, Some(10))));
        check("bytes 0-4/10", None, Some((0, 5, Some(10))));
        check("BYTES 9-9/10", Some(1), Some((9, 10, Some(10))));
        check("bytes 0-4/*", Some(5), Some((0, 5, None)));
        check("bytes 0-4/10", Some(4), None);
        check("bytes 0-4/10", Some(10), None);
        check("bytes 4-0/10", None, None);
        check("bytes 0-9/9", None, None);
        check("bytes 0-10/10", None, None);
        check("bytes */10", None, None);
        check("bytes 0-4", None, None);
        check("bytes=0-4/10", None, None);
        check("bytes 0 - 4/10", None, None);
        check("bytes -4/10", None, None);
        check("bytes 0-/10", None, None);
        check("bytes 0-4/+10", None, None);
        check("bytes 0-18446744073709551615/*", None, None);
        check("bytes 0-4/99999999999999999999", None, None);
        check("items 0-4/10", None, None);
        check("", None, None);
    }

    #[test]
    fn two_fields_or_several_parts_say_nothing() {
        let line = (CONTENT_RANGE, "bytes 0-4/10");
        assert!(ContentRange::of(&fields(std::slice::from_ref(&line)), None).is_some());
        assert!(ContentRange::of(&fields(&[line.clone(), line.clone()]), None).is_none());
        let kind = (CONTENT_TYPE, "Multipart/ByteRanges; boundary=x");
        assert!(ContentRange::of(&fields(&[line, kind]), None).is_none());
        assert!(ContentRange::of(&HeaderMap::new(), None).is_none());
    }

    #[test]
    fn content_is_the_same_by_a_strong_validator_only() {
        let check = |one: &[(HeaderName, &str)], other: &[(HeaderName, &str)], expected| {
            let (one, other) = (fields(one), fields(other));
            assert_eq!(same_content(&one, &other), expected, "{one:?} {other:?}");
            assert_eq!(same_content(&other, &one), expected, "{one:?} {other:?}");
        };
        let dated = [(LAST_MODIFIED, EARLY), (DATE, LATER)];
        check(&[(ETAG, "\"a\"")], &[(ETAG, "\"a\"")], true);
        check(&[(ETAG, "\"a\"")], &[(ETAG, "\"b\"")], false);
        check(&[(ETAG, "W/\"a\"")], &[(ETAG, "W/\"a\"")], false);
        check(&[(ETAG, "\"a\"")], &[(ETAG, "W/\"a\"")], false);
        check(&[(ETAG, "a")], &[(ETAG, "a")], false);
        check(&[(ETAG, "\"a\"")], &[], false);
        check(&[], &[], false);
        check(&dated, &dated, true);
        check(&dated, &[(LAST_MODIFIED, LATER), (DATE, LATER)], false);
        check(&dated, &[(LAST_MODIFIED, EARLY)], false);
        check(
            &dated,
            &[dated[0].clone(), dated[1].clone(), (ETAG, "\"a\"")],
            false,
        );
        let weak = [dated[0].clone(), dated[1].clone(), (ETAG, "W/\"a\"")];
        check(&weak, &weak, false);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(start in 0_u64..1_000, len in 1_u64..1_000, more in 0_u64..9) {
            let end = start + len;
            let text = format!("bytes {start}-{}/{}", end - 1, end + more);
            let found = ContentRange::of(&fields(&[(CONTENT_RANGE, &text)]), Some(len)).unwrap();
            prop_assert_eq!(found.is_whole(), start == 0 && more == 0);
            prop_assert_eq!(found, ContentRange { range: start..end, complete: Some(end + more) });
        }

        #[test]
        fn any_bytes_are_taken(value in "[ -~]{0,40}") {
            if let Some(found) = ContentRange::of(&fields(&[(CONTENT_RANGE, &value)]), None) {
                prop_assert!(found.range.start < found.range.end);
            }
        }
    }
}

//! The grammar of a `Range` of bytes (RFC 9110 14.1.1, 14.1.2, 14.2). Pure.

use http::HeaderMap;
use http::header::RANGE;

use crate::rfc9111::list;

/// Ranges that one field may name. A field with more is ignored (RFC 9110 14.2, 17.15).
pub const RANGES_MAX: usize = 32;

/// What one range asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spec {
    /// From a byte, up to and with another if it is named; the second is not before the first.
    From(u64, Option<u64>),
    /// The last bytes, as many as named.
    Suffix(u64),
}

/// The ranges of a request with `headers`, as asked, at least one. None if it has no `Range`, or
/// one that is to be ignored: of another unit, against the grammar, with more than one line, or
/// with too many ranges.
pub fn parse(headers: &HeaderMap) -> Option<Vec<Spec>> {
    let mut lines = headers.get_all(RANGE).iter();
    // The field has one line; of two, neither can be meant.
    let (line, None) = (lines.next()?, lines.next()) else {
        return None;
    };
    let elements = list::elements(byte_range_set(line.as_bytes().trim_ascii())?);
    // One range that breaks the grammar makes the whole field invalid.
    let specs: Option<Vec<Spec>> = elements.take(RANGES_MAX + 1).map(parse_spec).collect();
    specs.filter(|specs| (1..=RANGES_MAX).contains(&specs.len()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn range(value: &str) -> Option<Vec<Spec>> {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_str(value).unwrap());
        parse(&headers)
    }

    #[test]
    fn ranges_are_read_to_the_letter() {
        use Spec::{From, Suffix};
        let check = |value, expected: &[Spec]| {
            let expected = (!expected.is_empty()).then(|| expected.to_vec());
            assert_eq!(range(value), expected, "{value}");
        };
        check("bytes=0-0", &[From(0, Some(0))]);
        check("BYTES=2-5", &[From(2, Some(5))]);
        check("bytes=2-", &[From(2, None)]);
        check("bytes=-3", &[Suffix(3)]);
        check("bytes=-0", &[Suffix(0)]);
        check("bytes=,2-5 ,", &[From(2, Some(5))]);
        check("bytes= 2-5", &[From(2, Some(5))]);
        check(
            "bytes=0-1, -2,7-",
            &[From(0, Some(1)), Suffix(2), From(7, None)],
        );
        check("bytes=0-18446744073709551616", &[From(0, Some(u64::MAX))]);
        for ignored in [
            "bytes=0-1, x",
            "bytes=5-2",
            "bytes=5",
            "bytes=-",
            "bytes=--1",
            "bytes=+1-2",
            "bytes=0x1-2",
            "bytes=1 - 2",
            "bytes=",
            "bytes=,",
            "bytes 0-1",
            "bytes =0-1",
            "items=0-1",
            "",
        ] {
            check(ignored, &[]);
        }
    }

    #[test]
    fn one_line_and_a_bounded_number_of_ranges() {
        let mut twice = HeaderMap::new();
        twice.append(RANGE, HeaderValue::from_static("bytes=0-1"));
        twice.append(RANGE, HeaderValue::from_static("bytes=0-1"));
        assert_eq!(parse(&twice), None);
        assert_eq!(parse(&HeaderMap::new()), None);
        let many = |count: usize| format!("bytes={}", vec!["0-0"; count].join(","));
        assert_eq!(
            range(&many(RANGES_MAX)).map(|specs| specs.len()),
            Some(RANGES_MAX)
        );
        assert_eq!(range(&many(RANGES_MAX + 1)), None);
    }

    proptest! {
        #[test]
        fn any_value_is_taken(value in "bytes=[0-9,\\- x]{0,24}") {
            for spec in range(&value).into_iter().flatten() {
                if let Spec::From(first, Some(last)) = spec {
                    prop_assert!(first <= last);
                }
            }
        }
    }
}

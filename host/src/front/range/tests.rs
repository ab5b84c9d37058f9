//! Tables and properties of resolving ranges.

use super::*;
use http::header::{DATE, ETAG, HeaderName, LAST_MODIFIED, RANGE};
use proptest::prelude::*;

fn fields(lines: &[(HeaderName, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, line) in lines {
        map.append(name, HeaderValue::from_str(line).unwrap());
    }
    map
}

fn get(value: &str, len: u64) -> RangeAnswer {
    resolve(
        &fields(&[(RANGE, value)]),
        &Method::GET,
        len,
        &HeaderMap::new(),
    )
}

#[test]
fn ranges_are_placed_in_the_content() {
    use RangeAnswer::{One, Several, Unsatisfiable, Whole};
    for (value, expected) in [
        ("bytes=0-0", One(0..1)),
        ("bytes=0-99", One(0..10)),
        ("bytes=2-", One(2..10)),
        ("bytes=-3", One(7..10)),
        ("bytes=-30", One(0..10)),
        ("bytes=0-18446744073709551616", One(0..10)),
        ("bytes=10-", Unsatisfiable),
        ("bytes=10-11", Unsatisfiable),
        ("bytes=-0", Unsatisfiable),
        ("bytes=99999999999999999999-", Unsatisfiable),
        ("bytes=20-, 30-", Unsatisfiable),
        ("bytes=0-1, 3-4", Several(vec![0..2, 3..5])),
        ("bytes=3-4, 0-1", Several(vec![3..5, 0..2])),
        ("bytes=0-1, 30-", One(0..2)),
        ("bytes=30-, 0-1", One(0..2)),
        ("bytes=0-1, 2-3", One(0..4)),
        ("bytes=0-4, 3-6", One(0..7)),
        ("bytes=0-, 0-, 0-", One(0..10)),
        ("bytes=8-, 0-1, -3, 5-6", Several(vec![5..10, 0..2])),
        ("bytes=0-1, 7-8, 1-3", Several(vec![0..4, 7..9])),
        ("bytes=0-1, x", Whole),
        ("items=0-1", Whole),
    ] {
        assert_eq!(get(value, 10), expected, "{value}");
        let request = fields(&[(RANGE, value)]);
        let head = resolve(&request, &Method::HEAD, 10, &HeaderMap::new());
        assert_eq!(head, Whole, "HEAD {value}");
    }
    let none = resolve(&HeaderMap::new(), &Method::GET, 10, &HeaderMap::new());
    assert_eq!(none, Whole);
}

#[test]
fn more_parts_than_the_bound_are_the_whole() {
    let parts = |count: u64| {
        let ranges: Vec<_> = (0..count)
            .map(|i| format!("{}-{}", 3 * i, 3 * i + 1))
            .collect();
        get(&format!("bytes={}", ranges.join(",")), 1_000)
    };
    let most = u64::try_from(PARTS_MAX).unwrap();
    assert!(matches!(parts(most), RangeAnswer::Several(ranges) if ranges.len() == PARTS_MAX));
    assert_eq!(parts(most + 1), RangeAnswer::Whole);
}

#[test]
fn empty_content_has_no_parts() {
    assert_eq!(get("bytes=0-", 0), RangeAnswer::Unsatisfiable);
    assert_eq!(get("bytes=-0", 0), RangeAnswer::Unsatisfiable);
    assert_eq!(get("bytes=-1", 0), RangeAnswer::Whole);
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
            RangeAnswer::One(0..2)
        } else {
            RangeAnswer::Whole
        };
        let found = resolve(&request, &Method::GET, 10, &fields(stored));
        assert_eq!(found, expected, "{conditions:?} {stored:?}");
    };
    let dated = [(LAST_MODIFIED, MODIFIED), (DATE, LATER)];
    check(&["\"a\""], &[(ETAG, "\"a\"")], true);
    check(&["\"b\""], &[(ETAG, "\"a\"")], false);
    check(&["W/\"a\""], &[(ETAG, "W/\"a\"")], false);
    check(&["\"a\""], &[(ETAG, "W/\"a\"")], false);
    check(&["\"a\""], &[], false);
    check(&["\"a\"", "\"a\""], &[(ETAG, "\"a\"")], false);
    check(&[MODIFIED], &dated, true);
    check(
        &[MODIFIED],
        &[(LAST_MODIFIED, MODIFIED), (DATE, MODIFIED)],
        false,
    );
    check(&[MODIFIED], &[(LAST_MODIFIED, MODIFIED)], false);
    // An exact match, not an order: later is another one.
    check(&[LATER], &dated, false);
    check(&["x"], &[(LAST_MODIFIED, "x"), (DATE, LATER)], false);
}

#[test]
fn content_range_is_written_out() {
    let text = |field: Option<HeaderValue>| field.unwrap().to_str().unwrap().to_owned();
    assert_eq!(text(part_field(&(2..6), Some(10))), "bytes 2-5/10");
    assert_eq!(text(part_field(&(0..1), None)), "bytes 0-0/*");
    assert_eq!(text(unsatisfied_field(10)), "bytes */10");
}

/// The bytes of an answer, by a map of them.
fn map(answer: &RangeAnswer, len: usize) -> Vec<bool> {
    let mut map = vec![false; len];
    let ranges = match answer {
        RangeAnswer::Whole => return vec![true; len],
        RangeAnswer::One(range) => std::slice::from_ref(range),
        RangeAnswer::Several(ranges) => ranges,
        RangeAnswer::Unsatisfiable => return map,
    };
    for range in ranges {
        assert!(!range.is_empty());
        for at in range.clone() {
            let byte = &mut map[usize::try_from(at).unwrap()];
            assert!(!*byte, "{at} is sent twice");
            *byte = true;
        }
    }
    map
}

proptest! {
    #[test]
    fn every_answer_lies_within_the_content(value in "bytes=[0-9,-]{0,24}", len in 0_u64..40) {
        map(&get(&value, len), usize::try_from(len).unwrap());
    }

    #[test]
    fn what_is_asked_for_is_what_is_sent(
        asked in prop::collection::vec((0_u64..50, 0_u64..20), 1..6),
        len in 1_u64..60,
    ) {
        let specs: Vec<_> = asked
            .iter()
            .map(|(first, more)| format!("{first}-{}", first + more))
            .collect();
        let answer = get(&format!("bytes={}", specs.join(",")), len);
        let mut expected = vec![false; usize::try_from(len).unwrap()];
        for (first, more) in &asked {
            for at in (*first..=first + more).filter(|at| *at < len) {
                expected[usize::try_from(at).unwrap()] = true;
            }
        }
        prop_assert_eq!(map(&answer, expected.len()), expected);
        if let RangeAnswer::Several(ranges) = &answer {
            // In the order in which their first bytes were asked for.
            let place = |range: &Range<u64>| {
                asked.iter().position(|(first, _)| range.contains(first)).unwrap()
            };
            prop_assert!(ranges.windows(2).all(|two| place(&two[0]) < place(&two[1])));
        }
    }
}

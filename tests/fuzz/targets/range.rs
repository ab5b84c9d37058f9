//! Any bytes as `Range` and `If-Range`: what is answered lies within the content and holds no byte
//! twice. The same bytes as `Content-Range`: what is read agrees with the length.
#![no_main]

use http::header::{CONTENT_RANGE, ETAG, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method};
use larder::front::range::{PARTS_MAX, RangeAnswer, resolve};
use larder::rfc9111::content_range::ContentRange;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let length = u64::from(u16::from_le_bytes(*length));
    let mut request = HeaderMap::new();
    let mut lines = rest.split(|byte| *byte == b'\n');
    for name in [RANGE, IF_RANGE] {
        if let Some(Ok(value)) = lines.next().map(HeaderValue::from_bytes) {
            request.append(name, value);
        }
    }
    let mut stored = HeaderMap::new();
    stored.insert(ETAG, HeaderValue::from_static("\"1\""));
    let ranges = match resolve(&request, &Method::GET, length, &stored) {
        RangeAnswer::One(range) => vec![range],
        RangeAnswer::Several(ranges) => {
            assert!((2..=PARTS_MAX).contains(&ranges.len()));
            ranges
        }
        RangeAnswer::Whole | RangeAnswer::Unsatisfiable => Vec::new(),
    };
    for (i, range) in ranges.iter().enumerate() {
        assert!(range.start < range.end && range.end <= length);
        // No byte is sent twice.
        let apart = |other: &std::ops::Range<u64>| other.end < range.start || range.end < other.start;
        assert!(ranges.iter().skip(i + 1).all(apart));
    }
    let mut response = HeaderMap::new();
    if let Some(value) = request.remove(RANGE) {
        response.insert(CONTENT_RANGE, value);
    }
    if let Some(found) = ContentRange::of(&response, Some(length)) {
        assert_eq!(found.range.end - found.range.start, length);
        assert!(found.complete.is_none_or(|complete| found.range.end <= complete));
    }
});

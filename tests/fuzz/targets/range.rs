//! Any bytes as `Range` and `If-Range`: what is answered lies within the content.
#![no_main]

use http::header::{ETAG, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method};
use larder::front::range::{RangeAnswer, resolve};
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
    if let RangeAnswer::Partial { start, end } = resolve(&request, &Method::GET, length, &stored) {
        assert!(start < end && end <= length);
    }
});

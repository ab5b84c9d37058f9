//! Any bytes as `Cache-Control`, in requests and in responses.
#![no_main]

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue};
use larder::rfc9111::cache_control::{RequestDirectives, ResponseDirectives};
use libfuzzer_sys::fuzz_target;

/// The lines of a field, one a line of `bytes`.
fn fields(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(CACHE_CONTROL, value);
        }
    }
    headers
}

fuzz_target!(|bytes: &[u8]| {
    let headers = fields(bytes);
    let request = RequestDirectives::parse(&headers);
    let response = ResponseDirectives::parse(&headers);
    // An empty line more or less changes nothing.
    let mut padded = headers.clone();
    padded.append(CACHE_CONTROL, HeaderValue::from_static(" , ,"));
    assert_eq!(format!("{request:?}"), format!("{:?}", RequestDirectives::parse(&padded)));
    assert_eq!(format!("{response:?}"), format!("{:?}", ResponseDirectives::parse(&padded)));
});

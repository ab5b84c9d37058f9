//! Any bytes as `Vary` and as the fields it nominates: equal requests get equal keys, and keys
//! come apart as they were put together.
#![no_main]

use http::header::VARY;
use http::{HeaderMap, HeaderName, HeaderValue};
use larder::rfc9111::vary::{Nominated, secondary, split};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut response = HeaderMap::new();
    if let Some(Ok(value)) = lines.next().map(HeaderValue::from_bytes) {
        response.append(VARY, value);
    }
    let mut request = HeaderMap::new();
    for line in lines {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        if let (Some(Ok(name)), Some(Ok(value))) = (
            parts.next().map(HeaderName::from_bytes),
            parts.next().map(HeaderValue::from_bytes),
        ) {
            request.append(name, value);
        }
    }
    if let Nominated::Fields(names) = Nominated::parse(&response) {
        let key = |request: &HeaderMap| {
            let mut key = Vec::new();
            secondary(b"primary", &names, request, &mut key);
            key
        };
        let first = key(&request);
        assert_eq!(first, key(&request.clone()));
        let (primary, values) = split(&first);
        assert_eq!(primary, b"primary");
        assert!(values.len() <= names.len());
    }
});

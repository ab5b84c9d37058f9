//! Any bytes as the head of an HTTP/1 request: what is accepted must be unambiguous.
#![no_main]

use bytes::Bytes;
use larder::front::h1::content::Content;
use larder::front::h1::head::{Search, empty_lines, read};
use libfuzzer_sys::fuzz_target;

const MAX: usize = 4 << 10;

fuzz_target!(|bytes: &[u8]| {
    let Ok(empty) = empty_lines(bytes) else { return };
    let bytes = &bytes[empty..];
    // However the bytes arrive, the head ends at the same place.
    let whole = Search::default().find(bytes, MAX);
    let mut search = Search::default();
    let mut pieces = Ok(None);
    for end in 1..=bytes.len() {
        pieces = search.find(&bytes[..end], MAX);
        if pieces != Ok(None) {
            break;
        }
    }
    assert_eq!(whole.is_err(), pieces.is_err());
    let Ok(Some(length)) = whole else { return };
    assert_eq!(pieces, Ok(Some(length)));
    let head = &bytes[..length];
    assert!(head.ends_with(b"\r\n\r\n"));
    let mut parts = http::Request::new(()).into_parts().0;
    let Ok(framing) = read(&Bytes::copy_from_slice(head), 100, &mut parts) else {
        return;
    };
    // A strict second reading finds the same framing.
    let lines: Vec<&[u8]> = head[..length - 4].split(|byte| *byte == b'\n').collect();
    let fields = || {
        lines.iter().skip(1).map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').expect("a field");
            (&line[..colon], &line[colon + 1..])
        })
    };
    let named = |name: &'static [u8]| {
        fields().filter(move |(each, _)| each.eq_ignore_ascii_case(name))
    };
    let (lengths, codings) = (named(b"content-length").count(), named(b"transfer-encoding").count());
    assert!(lengths + codings <= 1, "{lengths} lengths and {codings} codings");
    assert_eq!(codings == 1, framing.content == Content::chunked());
    assert!(!head.contains(&0));
    let listed: Vec<&[u8]> = named(b"connection")
        .flat_map(|(_, value)| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .collect();
    let is_listed = |name: &[u8]| listed.iter().any(|it| it.eq_ignore_ascii_case(name));
    let (gone, stay): (Vec<_>, Vec<_>) = fields().partition(|(name, _)| {
        let name = http::HeaderName::from_bytes(name).expect("a name");
        !parts.headers.contains_key(name)
    });
    assert_eq!(parts.headers.len(), stay.len(), "every line is a field");
    let lost = gone.iter().find(|(name, _)| !is_listed(name));
    assert_eq!(lost, None, "what Connection does not list stays");
    let target = parts.uri.to_string();
    assert!(!target.contains('#') && target.bytes().all(|byte| byte > b' ' && byte != 0x7f));
});

//! The texts around several parts in one answer: `multipart/byteranges` (RFC 9110 14.6, RFC 2046
//! 5.1). Pure, but for the boundary, which nobody can foresee: content that held it would be taken
//! for the end of a part.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderValue;

use super::content_range;

/// What is sent around the parts.
#[derive(Debug)]
pub struct Multipart {
    /// `Content-Type` of the answer.
    pub content_type: HeaderValue,
    /// What is sent before each part, in the order of the parts.
    pub heads: Vec<Bytes>,
    /// What is sent after the last one.
    pub end: Bytes,
}

/// The texts around the parts `ranges` of content that is `complete` bytes long and of the type
/// `content_type`.
pub fn around(
    ranges: &[Range<u64>],
    complete: u64,
    content_type: Option<&HeaderValue>,
) -> Multipart {
    let boundary = boundary();
    let head = |(number, range): (usize, &Range<u64>)| {
        let mut text = BytesMut::with_capacity(160);
        text.put_slice(if number == 0 { b"--" } else { b"\r\n--" });
        text.put_slice(&boundary);
        if let Some(kind) = content_type {
            text.put_slice(b"\r\nContent-Type: ");
            text.put_slice(kind.as_bytes());
        }
        text.put_slice(b"\r\nContent-Range: ");
        content_range(range, Some(complete), &mut text);
        text.put_slice(b"\r\n\r\n");
        text.freeze()
    };
    let heads = ranges.iter().enumerate().map(head).collect();
    let end = [b"\r\n--".as_slice(), &boundary, b"--\r\n"].concat();
    let kind = [b"multipart/byteranges; boundary=".as_slice(), &boundary].concat();
    Multipart {
        // Letters and digits only.
        content_type: HeaderValue::from_bytes(&kind)
            .unwrap_or_else(|_| HeaderValue::from_static("multipart/byteranges")),
        heads,
        end: end.into(),
    }
}

/// 32 hexadecimal digits.
fn boundary() -> [u8; 32] {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    let random = || RandomState::new().build_hasher().finish().to_be_bytes();
    let bytes = [random(), random()].concat();
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    let mut text = [b'0'; 32];
    for (place, nibble) in text.iter_mut().zip(nibbles) {
        *place = HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_stand_as_in_the_rfc() {
        let kind = HeaderValue::from_static("text/x");
        let texts = around(&[0..5, 9..10], 10, Some(&kind));
        let boundary = texts.content_type.to_str().unwrap();
        let boundary = boundary
            .strip_prefix("multipart/byteranges; boundary=")
            .unwrap();
        assert!(boundary.len() == 32 && boundary.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let part = |range| {
            format!(
                "--{boundary}\r\nContent-Type: text/x\r\nContent-Range: bytes {range}/10\r\n\r\n"
            )
        };
        assert_eq!(texts.heads[0], part("0-4"));
        assert_eq!(texts.heads[1], format!("\r\n{}", part("9-9")));
        assert_eq!(texts.end, format!("\r\n--{boundary}--\r\n"));
        let without = around(&[0..5, 9..10], 10, None);
        assert!(
            !without.heads[0]
                .windows(12)
                .any(|text| text == b"Content-Type")
        );
        assert_ne!(without.content_type, texts.content_type, "no two are alike");
    }
}

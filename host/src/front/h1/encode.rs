//! Writes the heads of HTTP/1 responses (RFC 9112 4, 6, 7.1).

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode};

use super::head::After;
use crate::clock;

/// How the content of a response is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimited {
    /// There is none.
    Nothing,
    /// By its length.
    Length(u64),
    /// By chunks.
    Chunks,
    /// By the end of the connection.
    Close,
}

impl Delimited {
    /// How content of `length` bytes, if that is known, is delimited in the answer to `method`.
    pub fn of(method: &Method, status: StatusCode, length: Option<u64>, old: bool) -> Self {
        let nothing = *method == Method::HEAD
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        match length {
            _ if nothing => Self::Nothing,
            Some(length) => Self::Length(length),
            None if old => Self::Close,
            None => Self::Chunks,
        }
    }

    /// Whether `bytes` more of content fit; they count against the length.
    pub fn admits(&mut self, bytes: usize) -> bool {
        let Self::Length(left) = self else {
            return true;
        };
        let rest = u64::try_from(bytes)
            .ok()
            .and_then(|bytes| left.checked_sub(bytes));
        rest.map(|rest| *left = rest).is_some()
    }

    /// Whether all of the content may have been there.
    pub fn is_met(self) -> bool {
        !matches!(self, Self::Length(1..))
    }
}

/// Appends a head to `out`. `headers` holds end-to-end fields.
#[inline]
pub fn head(
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: &HeaderMap,
    delimited: Delimited,
    after: After,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    // The head of an answer without content may say how long that would have been.
    let says_length = delimited == Delimited::Nothing;
    for (name, value) in headers {
        let ours = *name == CONNECTION
            || *name == TRANSFER_ENCODING
            || (*name == CONTENT_LENGTH && !says_length);
        if !ours {
            field(out, name.as_str(), value.as_bytes());
        }
    }
    if !headers.contains_key(DATE) && !status.is_informational() {
        let date = httpdate::fmt_http_date(clock::wall());
        field(out, DATE.as_str(), date.as_bytes());
    }
    match delimited {
        Delimited::Length(length) => {
            let mut digits = itoa::Buffer::new();
            field(
                out,
                CONTENT_LENGTH.as_str(),
                digits.format(length).as_bytes(),
            );
        }
        Delimited::Chunks => field(out, TRANSFER_ENCODING.as_str(), b"chunked"),
        Delimited::Nothing | Delimited::Close => {}
    }
    match after {
        After::Close => field(out, CONNECTION.as_str(), b"close"),
        After::KeepAliveIfTold => field(out, CONNECTION.as_str(), b"keep-alive"),
        After::KeepAlive => {}
    }
    out.extend_from_slice(b"\r\n");
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends the line before a chunk of `size` bytes.
pub fn chunk_size(out: &mut Vec<u8>, size: usize) {
    out.extend_from_slice(format!("{size:x}\r\n").as_bytes());
}

/// Ends chunked content.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn content_is_delimited_as_both_sides_read_it() {
        let of = |method: Method, status, length, old| {
            let status = StatusCode::from_u16(status).expect("valid");
            Delimited::of(&method, status, length, old)
        };
        assert_eq!(of(Method::GET, 200, Some(5), false), Delimited::Length(5));
        assert_eq!(of(Method::GET, 200, Some(0), true), Delimited::Length(0));
        assert_eq!(of(Method::GET, 200, None, false), Delimited::Chunks);
        assert_eq!(of(Method::GET, 200, None, true), Delimited::Close);
        for status in [103, 204, 304] {
            assert_eq!(of(Method::GET, status, Some(5), false), Delimited::Nothing);
        }
        assert_eq!(of(Method::HEAD, 200, Some(0), false), Delimited::Nothing);
    }

    #[test]
    fn a_length_is_kept_exactly() {
        let mut delimited = Delimited::Length(5);
        assert!(delimited.admits(4) && !delimited.is_met());
        assert!(!delimited.admits(2));
        assert!(delimited.admits(1) && delimited.is_met());
        assert!(!delimited.admits(1));
        for mut other in [Delimited::Nothing, Delimited::Chunks, Delimited::Close] {
            assert!(other.admits(9) && other.is_met());
        }
    }

    #[test]
    fn a_head_is_written_once_and_whole() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("content-length", "99"),
            ("connection", "x"),
            ("transfer-encoding", "gzip"),
            ("x", "y"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let written = |delimited, after| {
            let mut out = Vec::new();
            head(&mut out, StatusCode::OK, &headers, delimited, after);
            String::from_utf8(out).expect("ASCII")
        };
        let start = "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        assert_eq!(
            written(Delimited::Length(5), After::KeepAlive),
            format!("{start}x: y\r\ncontent-length: 5\r\n\r\n")
        );
        assert_eq!(
            written(Delimited::Chunks, After::Close),
            format!("{start}x: y\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n")
        );
        assert_eq!(
            written(Delimited::Nothing, After::KeepAliveIfTold),
            format!("{start}content-length: 99\r\nx: y\r\nconnection: keep-alive\r\n\r\n")
        );
    }
}

//! Whether the end of a response over HTTP/1 is beyond doubt. If it is not, the bytes after it may
//! belong to it, so its connection carries no further request (RFC 9112 6.3, 11.2).

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, Method, StatusCode, Version};

/// What becomes of the connection of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Soundness {
    /// It may carry another request.
    Sound,
    /// The response is good, and nothing after it.
    Doubtful,
    /// The response cannot be used either.
    Unusable(&'static str),
}

/// Judges the head of the response to a request of `method`.
pub fn judge(method: &Method, head: &Parts) -> Soundness {
    let headers = &head.headers;
    let coded = headers.contains_key(TRANSFER_ENCODING);
    let lengths = headers.get_all(CONTENT_LENGTH).iter().count();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Soundness::Unusable("it switches to a protocol that nobody asked for");
    }
    if head.version != Version::HTTP_11 {
        return Soundness::Doubtful;
    }
    let status = head.status;
    if *method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        // These tell what would be there; nothing follows (RFC 9110 8.6, RFC 9112 6.1).
        return Soundness::Sound;
    }
    if status == StatusCode::NO_CONTENT {
        let none = !coded && (lengths == 0 || is_zero(headers));
        return if none {
            Soundness::Sound
        } else {
            Soundness::Doubtful
        };
    }
    if coded && !is_chunked(headers) {
        return Soundness::Unusable("its transfer coding is not chunked");
    }
    if coded && lengths > 0 || lengths > 1 || has_list(headers) {
        return Soundness::Doubtful;
    }
    Soundness::Sound
}

/// Whether the only transfer coding is `chunked`, said once. No other one was offered to the
/// origin, and content in it could not be told from content that is stored as it came.
fn is_chunked(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(TRANSFER_ENCODING).iter();
    let first = lines.next().map(|line| line.as_bytes().trim_ascii());
    first.is_some_and(|line| line.eq_ignore_ascii_case(b"chunked")) && lines.next().is_none()
}

fn is_zero(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    lines.all(|line| line.as_bytes() == b"0")
}

fn has_list(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    lines.any(|line| !line.as_bytes().iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: Version, status: u16, fields: &[(&'static str, &'static str)]) -> Parts {
        let mut response = http::Response::builder().version(version).status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        response.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_what_ends_beyond_doubt_leaves_a_connection_open() {
        use Soundness::{Doubtful, Sound, Unusable};
        let unusable = Unusable("its transfer coding is not chunked");
        let length = ("content-length", "5");
        let chunked = ("transfer-encoding", "chunked");
        let cases: [(u16, &[(&'static str, &'static str)], Soundness); 19] = [
            (200, &[length], Sound),
            (200, &[], Sound),
            (200, &[chunked], Sound),
            (200, &[("transfer-encoding", " Chunked ")], Sound),
            (200, &[chunked, length], Doubtful),
            (200, &[length, length], Doubtful),
            (200, &[("content-length", "5, 5")], Doubtful),
            (200, &[("content-length", "+5")], Doubtful),
            (200, &[("transfer-encoding", "gzip, chunked")], unusable),
            (200, &[("transfer-encoding", "chunked, chunked")], unusable),
            (200, &[chunked, chunked], unusable),
            (200, &[("transfer-encoding", "identity")], unusable),
            (200, &[("transfer-encoding", "\tgzip")], unusable),
            (204, &[], Sound),
            (204, &[("content-length", "0")], Sound),
            (204, &[length], Doubtful),
            (204, &[chunked], Doubtful),
            (304, &[length], Sound),
            (304, &[chunked], Sound),
        ];
        for (status, fields, expected) in cases {
            let head = head(Version::HTTP_11, status, fields);
            assert_eq!(judge(&Method::GET, &head), expected, "{status} {fields:?}");
        }
        let get = head(Version::HTTP_10, 200, &[length]);
        assert_eq!(judge(&Method::GET, &get), Doubtful);
        let upgrade = head(Version::HTTP_11, 101, &[]);
        assert!(matches!(judge(&Method::GET, &upgrade), Unusable(_)));
        let asked = head(Version::HTTP_11, 200, &[chunked, length]);
        assert_eq!(judge(&Method::HEAD, &asked), Sound);
    }
}

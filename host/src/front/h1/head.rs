//! Reads the head of an HTTP/1 request (RFC 9112 2 to 6).
//!
//! Stricter than the grammar's allowances for old senders: if this host and the origin could
//! disagree about where a request ends, one client's bytes would become another's request. So a
//! line that ends without CR, `Content-Length` beside `Transfer-Encoding` or more than once, any
//! transfer coding but `chunked`, folded lines and white space before a colon are all refused
//! (RFC 9112 2.2, 5.1, 5.2, 6.1, 6.3, 11.2), and so is a target with a fragment (3.2).

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};

use super::content::Content;
use crate::front::fields;

/// Fields for which there is room without an allocation.
const FIELDS: usize = 100;
/// Empty lines before a request that are ignored, at most (RFC 9112 2.2).
const EMPTY_LINES: usize = 4;

/// What the connection must know of a request besides its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Its content.
    pub content: Content,
    /// What becomes of the connection after it.
    pub after: After,
    /// Whether the client waits to be told to send the content (RFC 9110 10.1.1).
    pub expects_continue: bool,
}

/// What becomes of a connection after a request (RFC 9112 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It goes on.
    KeepAlive,
    /// It goes on because the client, which speaks HTTP/1.0, has asked for that.
    KeepAliveIfTold,
    /// It ends.
    Close,
}

/// Why a request is refused. The connection ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// How it is answered.
    pub status: StatusCode,
    /// Why.
    pub message: &'static str,
}

impl Refused {
    /// Answered with 400.
    pub const fn malformed(message: &'static str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message,
        }
    }
}

const LINE_END: Refused = Refused::malformed("a line does not end in CR LF\n");
const HEAD: Refused = Refused::malformed("the request head is malformed\n");
/// Where content ends cannot be told for sure.
pub const LENGTH: Refused = Refused::malformed("the length of the content is in doubt\n");
const FRAGMENT: Refused = Refused::malformed("a request target has no fragment\n");
const EXPECTATION: Refused = Refused {
    status: StatusCode::EXPECTATION_FAILED,
    message: "the expectation cannot be met\n",
};
const VERSION: Refused = Refused {
    status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
    message: "this is HTTP/1.1\n",
};
/// More fields than there may be, or a head that is too long.
pub const TOO_LARGE: Refused = Refused {
    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    message: "the request head is too large\n",
};
const TARGET_TOO_LONG: Refused = Refused {
    status: StatusCode::URI_TOO_LONG,
    message: "the request target is too long\n",
};

/// Looks for the end of a head in bytes that arrive little by little.
#[derive(Debug, Default)]
pub struct Search {
    /// Bytes that were looked at.
    looked_at: usize,
    /// Where the line that is arriving began.
    line: usize,
    lines: usize,
}

impl Search {
    /// The length of the head at the start of `bytes`, if all of it is there; `bytes` begins with
    /// what the last call saw. A head may have `max` bytes.
    ///
    /// # Errors
    /// A line does not end as it must, or the head is too long.
    #[inline]
    pub fn find(&mut self, bytes: &[u8], max: usize) -> Result<Option<usize>, Refused> {
        let new = bytes.get(self.looked_at..).unwrap_or_default();
        let from = self.looked_at;
        for found in memchr::memchr_iter(b'\n', new) {
            let end = from + found;
            let line = bytes.get(self.line..end).unwrap_or_default();
            let Some((b'\r', text)) = line.split_last() else {
                return Err(LINE_END);
            };
            if text.is_empty() && self.lines > 0 {
                return match end < max {
                    true => Ok(Some(end + 1)),
                    false => Err(TOO_LARGE),
                };
            }
            self.lines += 1;
            self.line = end + 1;
        }
        self.looked_at = bytes.len();
        if bytes.len() <= max {
            return Ok(None);
        }
        Err(match self.lines {
            0 => TARGET_TOO_LONG,
            _ => TOO_LARGE,
        })
    }
}

/// The length of the empty lines at the start of `bytes`.
///
/// # Errors
/// There are too many.
#[inline]
pub fn empty_lines(bytes: &[u8]) -> Result<usize, Refused> {
    let mut rest = bytes;
    while let Some(after) = rest.strip_prefix(b"\r\n") {
        rest = after;
    }
    let length = bytes.len() - rest.len();
    match length > 2 * EMPTY_LINES {
        true => Err(HEAD),
        false => Ok(length),
    }
}

/// Reads `head`, whose lines all end in CR LF, into `parts`. It may have `fields_max` fields.
///
/// # Errors
/// It is malformed, ambiguous or too large.
#[inline]
pub fn read(head: &Bytes, fields_max: usize, parts: &mut Parts) -> Result<Framing, Refused> {
    if fields_max <= FIELDS {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
        let room = fields.get_mut(..fields_max).unwrap_or_default();
        return read_with(head, room, parts);
    }
    let mut fields = vec![MaybeUninit::uninit(); fields_max];
    read_with(head, &mut fields, parts)
}

fn read_with<'a>(
    head: &'a Bytes,
    fields: &mut [MaybeUninit<httparse::Header<'a>>],
    parts: &mut Parts,
) -> Result<Framing, Refused> {
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, fields) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_LARGE),
        Err(httparse::Error::Version) => return Err(VERSION),
        Ok(httparse::Status::Partial) | Err(_) => return Err(HEAD),
    }
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(HEAD);
    };
    if target.contains('#') {
        return Err(FRAGMENT);
    }
    let old = version == 0;
    parts.version = if old {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    };
    parts.method = Method::from_bytes(method.as_bytes()).map_err(|_| HEAD)?;
    parts.uri = Uri::from_maybe_shared(head.slice_ref(target.as_bytes())).map_err(|_| HEAD)?;
    let mut framing = Fields::default();
    parts.headers.reserve(request.headers.len());
    for field in request.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| HEAD)?;
        let value =
            HeaderValue::from_maybe_shared(head.slice_ref(field.value)).map_err(|_| HEAD)?;
        framing.note(&name, &value)?;
        parts.headers.append(name, value);
    }
    let has_options = framing.connection;
    let framing = framing.judge(old, &parts.headers)?;
    if has_options {
        fields::remove_listed(&mut parts.headers);
    }
    Ok(framing)
}

/// What the fields say of the framing.
#[derive(Debug, Default)]
struct Fields {
    length: Option<u64>,
    chunked: bool,
    connection: bool,
    expects: bool,
}

impl Fields {
    #[inline]
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Refused> {
        if *name == CONTENT_LENGTH {
            let length = decimal(value.as_bytes()).ok_or(LENGTH)?;
            if self.length.replace(length).is_some() {
                return Err(LENGTH);
            }
        } else if *name == TRANSFER_ENCODING {
            if self.chunked || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(LENGTH);
            }
            self.chunked = true;
        } else if *name == CONNECTION {
            self.connection = true;
        } else if *name == EXPECT {
            self.expects = true;
        }
        Ok(())
    }

    fn judge(self, old: bool, headers: &HeaderMap) -> Result<Framing, Refused> {
        let content = match (self.length, self.chunked) {
            (Some(_), true) => return Err(LENGTH),
            // RFC 9112 6.1: HTTP/1.0 has no transfer codings, so whoever sent this is confused.
            (None, true) if old => return Err(LENGTH),
            (None, true) => Content::chunked(),
            (length, false) => Content::length(length.unwrap_or_default()),
        };
        let says = |option| self.connection && has_option(headers, option);
        let after = if says("close") {
            After::Close
        } else if !old {
            After::KeepAlive
        } else if says("keep-alive") {
            After::KeepAliveIfTold
        } else {
            After::Close
        };
        // RFC 9110 10.1.1: what HTTP/1.0 expects is ignored, as is what comes without content.
        let expects = self.expects && !old;
        if expects && !headers.get_all(EXPECT).iter().all(is_continue) {
            return Err(EXPECTATION);
        }
        Ok(Framing {
            expects_continue: expects && !content.is_done(),
            content,
            after,
        })
    }
}

/// Whether an expectation is the one that can be met.
pub fn is_continue(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// Whether `Connection` lists `option`.
fn has_option(headers: &HeaderMap, option: &str) -> bool {
    let mut members = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    members.any(|member| member.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
}

/// A length: digits and nothing else.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    valid
        .then(|| std::str::from_utf8(digits).ok()?.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts {
        http::Request::new(()).into_parts().0
    }

    fn framing(head: &str) -> Result<Framing, Refused> {
        let head = Bytes::copy_from_slice(head.as_bytes());
        read(&head, 100, &mut parts())
    }

    /// What is found in `stream`, which arrives in pieces of `step` bytes.
    fn find(stream: &str, step: usize, max: usize) -> Result<Option<usize>, Refused> {
        let mut search = Search::default();
        let mut seen = 0;
        while seen < stream.len() {
            seen = (seen + step).min(stream.len());
            match search.find(&stream.as_bytes()[..seen], max) {
                Ok(None) => {}
                found => return found,
            }
        }
        Ok(None)
    }

    #[test]
    fn the_end_of_a_head_is_found_however_it_arrives() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for step in 1..40 {
            assert_eq!(find(head, step, 1_000), Ok(Some(head.len())), "{step}");
            assert_eq!(find(head, step, head.len()), Ok(Some(head.len())));
            assert_eq!(find(head, step, head.len() - 1), Err(TOO_LARGE));
            assert_eq!(
                find(&format!("{head}rest"), step, 1_000),
                Ok(Some(head.len()))
            );
            assert_eq!(find("GET / HTTP/1.1\r\nHost: a\r\n", step, 1_000), Ok(None));
            assert_eq!(
                find("GET / HTTP/1.1\nHost: a\r\n\r\n", step, 1_000),
                Err(LINE_END)
            );
            assert_eq!(
                find("GET / HTTP/1.1\r\nHost: a\n\r\n", step, 1_000),
                Err(LINE_END)
            );
            assert_eq!(
                find("GET / HTTP/1.1\r\nHost: a\r\n\n", step, 1_000),
                Err(LINE_END)
            );
        }
        let line = format!("GET /{}", "a".repeat(1_000));
        assert_eq!(find(&line, 7, 500), Err(TARGET_TOO_LONG));
    }

    #[test]
    fn a_few_empty_lines_are_ignored() {
        assert_eq!(empty_lines(b"GET"), Ok(0));
        assert_eq!(empty_lines(b"\r\n\r\nGET"), Ok(4));
        assert_eq!(empty_lines(b"\r\n\r"), Ok(2));
        assert_eq!(empty_lines("\r\n".repeat(5).as_bytes()), Err(HEAD));
    }

    #[test]
    fn requests_are_read() {
        let mut parts = parts();
        let head = "GET /a?b HTTP/1.1\r\nHost: a\r\nX-Y: \t1 \r\nx-y: 2\r\n\r\n";
        let framing = read(&Bytes::from_static(head.as_bytes()), 100, &mut parts);
        let expected = Framing {
            content: Content::Done,
            after: After::KeepAlive,
            expects_continue: false,
        };
        assert_eq!(framing, Ok(expected));
        assert_eq!(
            (parts.method, parts.uri.to_string()),
            (Method::GET, "/a?b".to_owned())
        );
        let values: Vec<_> = parts.headers.get_all("x-y").iter().collect();
        assert_eq!(values, ["1", "2"]);
    }

    #[test]
    fn framing_follows_the_fields() {
        for (line, fields, content, after) in [
            (
                "POST / HTTP/1.1",
                "Content-Length: 5",
                Content::Length(5),
                After::KeepAlive,
            ),
            (
                "POST / HTTP/1.1",
                "Content-Length: 0",
                Content::Done,
                After::KeepAlive,
            ),
            (
                "POST / HTTP/1.1",
                "Transfer-Encoding: Chunked",
                Content::chunked(),
                After::KeepAlive,
            ),
            (
                "GET / HTTP/1.1",
                "Connection: x, Close",
                Content::Done,
                After::Close,
            ),
            ("GET / HTTP/1.0", "X: y", Content::Done, After::Close),
            (
                "GET / HTTP/1.0",
                "Connection: keep-alive",
                Content::Done,
                After::KeepAliveIfTold,
            ),
            (
                "GET / HTTP/1.1",
                "Connection: closed",
                Content::Done,
                After::KeepAlive,
            ),
        ] {
            let framing = framing(&format!("{line}\r\n{fields}\r\n\r\n")).expect("valid");
            assert_eq!(
                (framing.content, framing.after),
                (content, after),
                "{fields}"
            );
        }
    }

    #[test]
    fn doubtful_heads_are_refused() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length:",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: identity, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: \"chunked\"",
            "Content-Length : 5",
            "X: a\r\n b",
            "X: a\rb",
            "X: a\0b",
            ": a",
        ] {
            let head = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n");
            let status = framing(&head).map_err(|refused| refused.status);
            assert_eq!(status, Err(StatusCode::BAD_REQUEST), "{fields:?}");
        }
        for (head, status) in [
            ("GET /a#b HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("GET / HTTP/1.2\r\n\r\n", 505),
            ("PRI * HTTP/2.0\r\n\r\n", 505),
            ("GET / HTTP/1.1\r\nExpect: 200-ok\r\n\r\n", 417),
        ] {
            let refused = framing(head).map_err(|refused| refused.status.as_u16());
            assert_eq!(refused, Err(status), "{head:?}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(101));
        assert_eq!(framing(&many), Err(TOO_LARGE));
        let head = Bytes::copy_from_slice(many.as_bytes());
        assert!(read(&head, 101, &mut parts()).is_ok());
    }
}

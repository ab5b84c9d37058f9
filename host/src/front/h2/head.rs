//! The head of an HTTP/2 request, brought into the form that everything behind it reads: that of
//! HTTP/1.1 (RFC 9113 8.1 to 8.3).
//!
//! The library has refused what breaks the framing of HTTP/2 or is for one connection only. What
//! is left here is what it lets through and two parsers could read in two ways.

use http::header::{CONTENT_LENGTH, COOKIE, EXPECT, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use crate::front::authority::{Authority, BadRequest, Scheme};
use crate::front::h1::head::{LENGTH, Refused, TOO_LARGE, decimal, is_continue};

/// What the stream must know of a request besides its head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The length of its content, if it is told.
    pub length: Option<u64>,
    /// Whether the client waits to be told to send it (RFC 9110 10.1.1).
    pub expects_continue: bool,
}

const VALUE: Refused = Refused::malformed("a field value begins or ends with white space\n");
const TUNNEL: Refused = Refused {
    status: StatusCode::NOT_IMPLEMENTED,
    message: "this host is no tunnel\n",
};
const EXPECTATION: Refused = Refused {
    status: StatusCode::EXPECTATION_FAILED,
    message: "the expectation cannot be met\n",
};

/// Brings `head` into the form of HTTP/1.1. It may have `fields_max` fields.
///
/// # Errors
/// It is malformed, ambiguous or too large.
pub fn settle(head: &mut Parts, scheme: Scheme, fields_max: usize) -> Result<Content, Refused> {
    if head.method == Method::CONNECT {
        return Err(TUNNEL);
    }
    join_cookies(&mut head.headers);
    if head.headers.len() > fields_max {
        return Err(TOO_LARGE);
    }
    let mut content = Content::default();
    for (name, value) in &head.headers {
        // RFC 9113 8.2.1: a sender in HTTP/1.1 would have lost it on the way.
        if is_padded(value.as_bytes()) {
            return Err(VALUE);
        }
        if *name == CONTENT_LENGTH {
            let length = decimal(value.as_bytes()).ok_or(LENGTH)?;
            if content.length.replace(length).is_some() {
                return Err(LENGTH);
            }
        } else if *name == EXPECT {
            if !is_continue(value) {
                return Err(EXPECTATION);
            }
            content.expects_continue = true;
        }
    }
    move_authority(head, scheme).map_err(|refused| Refused::malformed(refused.message()))?;
    Ok(content)
}

fn is_padded(value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    blank(value.first()) || blank(value.last())
}

/// Cookies may come in pieces; behind us they are one field (RFC 9113 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(COOKIE).iter();
    if pieces.next().is_none() || pieces.next().is_none() {
        return;
    }
    let pieces = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let joined = pieces.collect::<Vec<_>>().join(&b"; "[..]);
    if let Ok(mut joined) = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
        joined.set_sensitive(true);
        headers.insert(COOKIE, joined);
    }
}

/// `:authority` becomes `Host` (RFC 9113 8.3.1), and the target has its origin form.
fn move_authority(head: &mut Parts, scheme: Scheme) -> Result<(), BadRequest> {
    if head.uri.authority().is_none() {
        return Ok(());
    }
    let mut uri = std::mem::take(&mut head.uri).into_parts();
    let is_http = uri
        .scheme
        .take()
        .is_none_or(|scheme| matches!(scheme.as_str(), "http" | "https"));
    let authority = uri.authority.take();
    let authority = authority.as_ref().map_or("", http::uri::Authority::as_str);
    let named = Authority::parse(authority, scheme)?;
    for host in head.headers.get_all(HOST) {
        let host = host.to_str().map_err(|_| BadRequest::Authority)?;
        if Authority::parse(host, scheme)? != named {
            return Err(BadRequest::Mismatch);
        }
    }
    if head.headers.get_all(HOST).iter().nth(1).is_some() {
        return Err(BadRequest::RepeatedHost);
    }
    let host = HeaderValue::from_str(authority).map_err(|_| BadRequest::Authority)?;
    head.headers.insert(HOST, host);
    let uri = Uri::from_parts(uri).map_err(|_| BadRequest::Target)?;
    head.uri = uri;
    match is_http {
        true => Ok(()),
        false => Err(BadRequest::Target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn settled(head: &mut Parts) -> Result<Content, u16> {
        settle(head, Scheme::Https, 100).map_err(|refused| refused.status.as_u16())
    }

    #[test]
    fn the_authority_becomes_the_host() {
        for (uri, host, expected) in [
            ("https://a.test/x?y", None, "a.test"),
            ("https://A.test:443/x?y", Some("a.test"), "A.test:443"),
            ("http://a.test/x?y", None, "a.test"),
            ("/x?y", Some("b.test"), "b.test"),
        ] {
            let fields: Vec<_> = host.map(|host| ("host", host)).into_iter().collect();
            let mut head = head(uri, &fields);
            assert_eq!(settled(&mut head), Ok(Content::default()), "{uri}");
            assert_eq!(head.uri.to_string(), "/x?y");
            assert_eq!(head.headers.get_all(HOST).iter().count(), 1);
            assert_eq!(head.headers[HOST], expected);
        }
    }

    #[test]
    fn cookies_are_one_field() {
        let fields = [
            ("cookie", "a=b"),
            ("x", "y"),
            ("cookie", "c=d"),
            ("cookie", "e=f"),
        ];
        let mut head = head("/", &fields);
        assert_eq!(settled(&mut head), Ok(Content::default()));
        let cookies: Vec<_> = head.headers.get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=b; c=d; e=f"]);
    }

    #[test]
    fn content_is_announced() {
        let fields = [("content-length", "12"), ("expect", "100-Continue")];
        let expected = Content {
            length: Some(12),
            expects_continue: true,
        };
        assert_eq!(settled(&mut head("/", &fields)), Ok(expected));
    }

    #[test]
    fn doubtful_heads_are_refused() {
        let many = vec![("x", "y"); 101];
        for (uri, fields, status) in [
            ("https://a.test/", &[("host", "b.test")][..], 400),
            (
                "https://a.test/",
                &[("host", "a.test"), ("host", "a.test")],
                400,
            ),
            ("https://a.test/", &[("host", "")], 400),
            ("https://user@a.test/", &[], 400),
            ("ftp://a.test/", &[], 400),
            ("/", &[("x", " y")], 400),
            ("/", &[("x", "y\t")], 400),
            (
                "/",
                &[("content-length", "5"), ("content-length", "5")],
                400,
            ),
            ("/", &[("content-length", "+5")], 400),
            ("/", &[("content-length", "")], 400),
            ("/", &[("content-length", "5, 5")], 400),
            ("/", &[("expect", "a-miracle")], 417),
            ("/", &many, 431),
        ] {
            assert_eq!(
                settled(&mut head(uri, fields)),
                Err(status),
                "{uri} {fields:?}"
            );
        }
        let mut connect = head("a.test:443", &[]);
        connect.method = Method::CONNECT;
        assert_eq!(settled(&mut connect), Err(501));
    }
}

//! Requests whose end is in doubt: 400 and the end of the connection, before a byte of what follows
//! is taken for another request.

use crate::support::edge::Edge;
use crate::support::origin::Origin;
use crate::support::reply::Reply;

/// What a smuggler hides behind a request that two parsers end at different places.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: edge.test\r\n\r\n";

fn is_refused(edge: &Edge, origin: &Origin, request: &str) {
    for follow in ["", HIDDEN] {
        let mut client = edge.client();
        client.offer(format!("{request}{follow}"));
        let answer = String::from_utf8_lossy(&client.rest()).into_owned();
        assert!(
            answer.starts_with("HTTP/1.1 400 "),
            "{request:?}: {answer:?}"
        );
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "{request:?}: {answer:?}"
        );
    }
    assert_eq!(origin.count("/hidden"), 0, "{request:?}");
}

#[test]
fn ambiguous_lengths_are_refused() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Edge::before(&origin);
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length : 5\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding:\u{b}chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
    ] {
        let body = "0\r\n\r\n";
        let request = format!("POST /a HTTP/1.1\r\nHost: edge.test\r\n{fields}\r\n{body}");
        is_refused(&edge, &origin, &request);
    }
}

#[test]
fn lines_that_do_not_end_as_they_must_are_refused() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Edge::before(&origin);
    for request in [
        "GET / HTTP/1.1\nHost: edge.test\n\n",
        "GET / HTTP/1.1\r\nHost: edge.test\n\r\n",
        "GET / HTTP/1.1\r\nHost: edge.test\r\n\n",
        "GET / HTTP/1.1\r\nHost: edge.test\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: edge.test\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: edge.test\r\nX a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: edge.test\r\n: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: edge.test\r\nX: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: edge.test\r\n\r\n",
    ] {
        is_refused(&edge, &origin, request);
    }
    assert_eq!(origin.total(), 0);
}

#[test]
fn chunks_that_break_the_grammar_are_never_a_whole_body() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Edge::before(&origin);
    for body in [
        "g\r\n",
        "\r\n",
        "-1\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhel\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
    ] {
        let mut client = edge.client();
        let head = "POST /a HTTP/1.1\r\nHost: edge.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.offer(format!("{head}{body}{HIDDEN}"));
        let answer = String::from_utf8_lossy(&client.rest()).into_owned();
        assert!(!answer.contains("hidden"), "{body:?}: {answer:?}");
        assert!(
            answer.matches("HTTP/1.1 ").count() <= 1,
            "{body:?}: {answer:?}"
        );
    }
    assert_eq!(origin.total(), 0, "none reached the origin whole");
}

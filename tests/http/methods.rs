//! Methods that are passed on: with their bodies, without being stored, and with what they make
//! out of date.

use crate::support::client::{self, HOST};
use crate::support::edge::Edge;
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::Reply;

#[test]
fn unsafe_requests_pass_through_with_their_bodies() {
    let origin = Origin::always(Reply::cached("done").field("X-From", "origin"));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    for method in ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"] {
        for length in [0, 1, 70_000] {
            let body = pattern::bytes(length);
            let response = client.request(method, "/a?b", &[("X-Sent", "1")], &body);
            assert_eq!((response.status(), response.text().as_str()), (200, "done"));
            assert_eq!(response.field("x-from").as_deref(), Some("origin"));
            let status = response.cache_status();
            assert!(
                status.starts_with("larder; fwd=method; fwd-status=200"),
                "{status}"
            );
            let asked = origin.asked().pop().expect("it was asked");
            assert_eq!(
                (asked.method.as_str(), asked.target.as_str()),
                (method, "/a?b")
            );
            assert_eq!(asked.field("x-sent").as_deref(), Some("1"));
            assert!(asked.body == body, "{method} with {length} bytes");
        }
    }
    assert_eq!(origin.total(), 15, "nothing was stored");
}

#[test]
fn chunked_request_bodies_pass_through() {
    let origin = Origin::always(Reply::ok("done"));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    for _ in 0..2 {
        client.send(
            "POST /a HTTP/1.1\r\nHost: edge.test\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nT: trailer\r\n\r\n",
        );
        assert_eq!(client.response("POST").text(), "done");
    }
    for asked in origin.asked() {
        assert_eq!(asked.body, b"hello world");
    }
}

#[test]
fn a_request_body_is_passed_on_as_it_comes() {
    let origin = Origin::always(Reply::ok("done"));
    let edge = Edge::before(&origin);
    let body = pattern::bytes(3_000_000);
    let mut client = edge.client();
    let head = client::request("PUT", "/a", &[("Content-Length", "3000000")], b"");
    client.send(head);
    for piece in body.chunks(100_000) {
        client.send(piece);
    }
    assert_eq!(client.response("PUT").text(), "done");
    assert!(origin.asked()[0].body == body);
}

#[test]
fn expectations_are_answered_before_the_body_is_sent() {
    let origin = Origin::always(Reply::ok("done"));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    client.send(
        "POST /a HTTP/1.1\r\nHost: edge.test\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(client.head().status, 100);
    client.send("ab");
    assert_eq!(client.response("POST").text(), "done");
    assert_eq!(origin.asked()[0].body, b"ab");
}

#[test]
fn a_successful_change_invalidates_what_it_changed() {
    let origin = Origin::answering(|asked| match asked.method.as_str() {
        "GET" => Reply::cached(format!("{} {}", asked.target, asked.turn)),
        _ => Reply::status(201)
            .field("Location", "/made?x=1")
            .field("Content-Location", format!("http://{HOST}/described")),
    });
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    for method in ["POST", "PUT", "DELETE", "PATCH", "UNKNOWN"] {
        let mut fetched_again = |target: &str| {
            let before = origin.total();
            client.get(target);
            origin.total() > before
        };
        let targets = ["/changed", "/made?x=1", "/described", "/made", "/other"];
        for target in targets {
            fetched_again(target);
            assert!(!fetched_again(target));
        }
        edge.client().request(method, "/changed", &[], b"");
        let again = targets.map(&mut fetched_again);
        assert_eq!(again, [true, true, true, false, false], "{method}");
    }
}

#[test]
fn a_failed_or_safe_request_invalidates_nothing() {
    let origin = Origin::answering(|asked| match asked.method.as_str() {
        "GET" => Reply::cached("content"),
        "POST" => Reply::status(500),
        _ => Reply::ok(""),
    });
    let edge = Edge::before(&origin);
    edge.get("/a");
    for method in ["POST", "OPTIONS", "TRACE", "HEAD"] {
        edge.client().request(method, "/a", &[], b"");
        assert!(edge.get("/a").is_hit(), "{method}");
    }
}

#[test]
fn a_change_elsewhere_is_not_taken_from_a_response() {
    let origin = Origin::answering(|asked| match asked.method.as_str() {
        "GET" => Reply::cached("content"),
        _ => Reply::ok("").field("Location", "http://other.test/a"),
    });
    let edge = Edge::before(&origin);
    let other = [("Host", "other.test")];
    edge.get_with("/a", &other);
    edge.client().request("POST", "/b", &[], b"");
    assert!(edge.get_with("/a", &other).is_hit());
}

#[test]
fn tunnels_are_refused() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    client.send("CONNECT edge.test:443 HTTP/1.1\r\nHost: edge.test:443\r\n\r\n");
    assert!(matches!(client.head().status, 400 | 405 | 501));
    assert_eq!(origin.total(), 0);
}

#[test]
fn a_body_of_a_get_goes_nowhere() {
    let origin = Origin::always(Reply::cached("content"));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    for _ in 0..2 {
        let response = client.request("GET", "/a", &[], b"GET /b HTTP/1.1\r\n\r\n");
        assert_eq!(response.text(), "content");
    }
    let asked = origin.asked();
    assert_eq!(
        (
            asked.len(),
            asked[0].body.len(),
            asked[0].field("content-length")
        ),
        (1, 0, None)
    );
}

#[test]
fn a_change_whose_client_leaves_before_the_answer_invalidates_all_the_same() {
    use crate::support::eventually;
    use crate::support::reply::Gate;

    // Never opened before the end: what has to happen, happens without an answer.
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::answering(move |asked| match asked.method.as_str() {
        "GET" => Reply::cached("content"),
        _ => Reply::ok("done").behind(&held),
    });
    let edge = Edge::before(&origin);
    for (path, resets) in [("/closed", false), ("/reset", true)] {
        edge.get(path);
        let mut client = edge.client();
        client.send(client::request("POST", path, &[], b"body"));
        origin.wait_for(path, 2);
        assert!(edge.get(path).is_hit(), "nothing is known of it yet");
        if resets {
            client.reset();
        } else {
            drop(client);
        }
        eventually("what is stored to go", || !edge.get(path).is_hit());
        assert_eq!(origin.count(path), 3);
    }
    gate.open();
}

#[test]
fn what_may_not_be_forwarded_any_more_is_answered_here() {
    let origin = Origin::always(Reply::ok("origin"));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    for (method, left, status, forwarded) in [
        ("OPTIONS", "0", 200, None),
        ("TRACE", "0", 501, None),
        ("OPTIONS", "1", 200, Some("0")),
        ("TRACE", "7", 200, Some("6")),
        ("POST", "0", 200, Some("0")),
    ] {
        let before = origin.total();
        let response = client.request(method, "/a", &[("Max-Forwards", left)], b"");
        assert_eq!(response.status(), status, "{method} {left}");
        let asked = origin.asked();
        assert_eq!(asked.len() > before, forwarded.is_some(), "{method} {left}");
        if forwarded.is_some() {
            let told = asked.last().and_then(|asked| asked.field("max-forwards"));
            assert_eq!(told.as_deref(), forwarded, "{method} {left}");
        } else {
            assert_eq!(response.cache_status(), "larder");
        }
    }
}

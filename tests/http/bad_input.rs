//! Requests that are refused: for their size, their form, or whom they are for.

use std::time::Duration;

use crate::support::client::request;
use crate::support::edge::{Edge, Setup};
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::Reply;

fn status_of(edge: &Edge, bytes: impl AsRef<[u8]>) -> u16 {
    let mut client = edge.client();
    client.offer(bytes);
    client.head().status
}

#[test]
fn heads_that_are_too_large_get_431() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Edge::before(&origin);
    let large = "y".repeat(200_000);
    assert_eq!(
        status_of(&edge, request("GET", "/", &[("X", &large)], b"")),
        431
    );
    let many = |count| (0..count).map(|_| ("X", "y")).collect::<Vec<_>>();
    assert_eq!(status_of(&edge, request("GET", "/", &many(120), b"")), 431);
    assert_eq!(status_of(&edge, request("GET", "/", &many(90), b"")), 200);
    let fits = "y".repeat(50_000);
    assert_eq!(
        status_of(&edge, request("GET", "/", &[("X", &fits)], b"")),
        200
    );
    // The bound is on the head and not on what follows it.
    assert_eq!(
        status_of(&edge, request("POST", "/", &[], &pattern::bytes(200_000))),
        200
    );
}

#[test]
fn the_bound_on_a_head_does_not_depend_on_how_it_arrives() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Edge::before(&origin);
    let head = request("GET", "/", &[("X", &"y".repeat(70_000))], b"");
    for cut in [60_000, 65_000] {
        let mut client = edge.client();
        let (first, second) = head.split_at(cut);
        client.send(first);
        assert!(client.is_silent_for(Duration::from_millis(100)));
        client.offer(second);
        assert_eq!(client.head().status, 431, "cut at {cut}");
    }
    assert_eq!(origin.total(), 0);
}

#[test]
fn targets_that_are_too_long_get_414() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Edge::before(&origin);
    let target = |length: usize| format!("/{}", "a".repeat(length - 1));
    assert_eq!(
        status_of(&edge, request("GET", &target(8_192), &[], b"")),
        200
    );
    assert_eq!(
        status_of(&edge, request("GET", &target(8_193), &[], b"")),
        414
    );
    assert_eq!(
        status_of(&edge, request("GET", &target(40_000), &[], b"")),
        414
    );
    assert_eq!(origin.total(), 1);
}

#[test]
fn the_bounds_on_heads_and_targets_are_the_configured_ones() {
    let origin = Origin::always(Reply::ok("x"));
    let target = |length: usize| format!("/{}", "a".repeat(length - 1));
    let small = Setup::before(&origin)
        .set("limits.target", "64B")
        .set("limits.request_fields", "3")
        .set("limits.request_head", "8KiB")
        .start();
    assert_eq!(
        status_of(&small, request("GET", &target(64), &[], b"")),
        200
    );
    assert_eq!(
        status_of(&small, request("GET", &target(65), &[], b"")),
        414
    );
    let three = [("A", "1"), ("B", "2")];
    assert_eq!(status_of(&small, request("GET", "/", &three, b"")), 200);
    let four = [("A", "1"), ("B", "2"), ("C", "3")];
    assert_eq!(status_of(&small, request("GET", "/", &four, b"")), 431);
    let long = "y".repeat(10_000);
    assert_eq!(
        status_of(&small, request("GET", "/", &[("X", &long)], b"")),
        431
    );
}

#[test]
fn the_bound_on_targets_can_be_raised() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Setup::before(&origin).set("limits.target", "32KiB").start();
    let target = format!("/{}", "a".repeat(20_000));
    assert_eq!(status_of(&edge, request("GET", &target, &[], b"")), 200);
}

#[test]
fn malformed_request_lines_get_400() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Edge::before(&origin);
    for line in [
        "GET",
        "GET /",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 x",
        "GET / HTTP/3.0",
        "GET / http/1.1",
        "GET /a b HTTP/1.1",
        "G@T / HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET a HTTP/1.1",
        "GET * HTTP/1.1",
        "GET ftp://edge.test/ HTTP/1.1",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}",
        "PRI * HTTP/2.0",
    ] {
        let mut client = edge.client();
        client.send(format!("{line}\r\nHost: edge.test\r\n\r\n"));
        let head = client.head();
        assert!(matches!(head.status, 400 | 505), "{line:?}: {head:?}");
    }
    assert_eq!(origin.total(), 0);
}

#[test]
fn a_target_with_a_fragment_gets_400() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Edge::before(&origin);
    for target in ["/a#b", "/a?b#c", "http://edge.test/a#b"] {
        assert_eq!(
            status_of(&edge, request("GET", target, &[], b"")),
            400,
            "{target}"
        );
    }
    assert_eq!(origin.total(), 0);
}

#[test]
fn a_request_names_exactly_one_host() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Edge::before(&origin);
    let with = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\n");
    for fields in [
        "",
        "Host:\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: u@edge.test\r\n",
        "Host: edge.test:x\r\n",
        "Host: edge.test:99999\r\n",
        "Host: edge.test, other.test\r\n",
        "Host: [::1\r\n",
        "Host: edge.test\r\nHost: edge.test\r\n",
        "Host: edge.test\r\nHost: other.test\r\n",
    ] {
        assert_eq!(status_of(&edge, with(fields)), 400, "{fields:?}");
    }
    assert_eq!(origin.total(), 0);
    assert_eq!(status_of(&edge, with("Host: edge.test\r\n")), 200);
    // HTTP/1.0 knew no Host.
    assert_eq!(status_of(&edge, "GET / HTTP/1.0\r\n\r\n"), 200);
}

#[test]
fn an_absolute_target_and_its_host_must_agree() {
    let origin = Origin::always(Reply::cached("x"));
    let edge = Edge::before(&origin);
    let ask = |target: &str, host: &str| {
        status_of(
            &edge,
            format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        )
    };
    assert_eq!(ask("http://edge.test/a", "edge.test"), 200);
    assert_eq!(ask("http://EDGE.test:80/a", "edge.test"), 200);
    assert_eq!(ask("http://edge.test/a", "other.test"), 400);
    assert_eq!(ask("http://u@edge.test/a", "edge.test"), 400);
    assert_eq!(ask("http://edge.test:81/a", "edge.test"), 400);
    let asked = origin.asked();
    assert_eq!(
        (asked.len(), asked[0].target.as_str()),
        (1, "/a"),
        "one key, origin-form"
    );
}

#[test]
fn an_unknown_host_gets_421() {
    let origin = Origin::answering(|asked| Reply::ok(asked.field("host").unwrap_or_default()));
    let site = |hosts: &str| {
        format!(
            "[[site]]\nhosts = [{hosts}]\norigin = \"{}\"\n",
            origin.url()
        )
    };
    let edge = Setup::new()
        .config(&site("\"a.test\", \"b.test\""))
        .config(&site("\"c.test\""))
        .start();
    let ask = |host: &str| edge.get_with("/", &[("Host", host)]);
    for host in ["a.test", "B.TEST", "c.test:8080"] {
        assert_eq!(ask(host).status(), 200, "{host}");
    }
    for host in ["d.test", "x.a.test", "127.0.0.1", "a.test.evil.test"] {
        assert_eq!(ask(host).status(), 421, "{host}");
    }
    assert_eq!(origin.total(), 3);
    assert_eq!(
        edge.metrics().count("larder_refused_requests_total", &[]),
        4
    );
}

/// A chunked request with `size` bytes of content.
fn chunked(size: usize) -> String {
    let body = "a".repeat(size);
    let head = "POST / HTTP/1.1\r\nHost: edge.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    format!("{head}{size:x}\r\n{body}\r\n0\r\n\r\n")
}

#[test]
fn bodies_that_are_announced_to_be_over_the_limit_get_413() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Setup::before(&origin)
        .set("limits.request_body", "1000B")
        .start();
    assert_eq!(
        status_of(&edge, request("POST", "/", &[], &pattern::bytes(1_000))),
        200
    );
    assert_eq!(
        status_of(&edge, request("POST", "/", &[], &pattern::bytes(1_001))),
        413
    );
    assert_eq!(
        origin.total(),
        1,
        "what is announced to be too large is not begun"
    );
}

#[test]
fn chunked_bodies_over_the_limit_get_413() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Setup::before(&origin)
        .set("limits.request_body", "1000B")
        .start();
    assert_eq!(status_of(&edge, chunked(1_000)), 200);
    for size in [1_001, 100_000] {
        assert_eq!(status_of(&edge, chunked(size)), 413, "{size}");
    }
    assert_eq!(origin.total(), 1, "the origin never saw a whole one");
}

#[test]
fn a_refused_body_does_not_become_the_next_request() {
    let origin = Origin::answering(|asked| Reply::ok(asked.target.clone()));
    let edge = Setup::before(&origin)
        .set("limits.request_body", "10B")
        .start();
    let hidden = "GET /hidden HTTP/1.1\r\nHost: edge.test\r\n\r\n";
    let refused = [
        (413, request("POST", "/a", &[], hidden.as_bytes())),
        (
            400,
            request("POST", "/a", &[("Host", "a b")], hidden.as_bytes()),
        ),
        (
            504,
            request(
                "GET",
                "/a",
                &[("Cache-Control", "only-if-cached")],
                hidden.as_bytes(),
            ),
        ),
    ];
    for (status, refused) in refused {
        let mut client = edge.client();
        client.send(refused);
        assert_eq!(client.response("POST").status(), status);
        // The connection may be over; if it goes on, it goes on after the body.
        client.offer(request("GET", "/after", &[], b""));
        if let Ok(next) = client.try_response("GET") {
            assert_eq!(next.text(), "/after");
        }
    }
    assert_eq!(origin.count("/hidden"), 0);
}

//! HTTP/1 towards clients: what goes on over one connection around requests and answers.

use std::time::Duration;

use crate::support::client::{Head, request};
use crate::support::edge::{Edge, Setup};
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::Reply;

#[test]
fn a_client_that_waits_to_be_told_is_told_once() {
    let origin = Origin::answering(|asked| Reply::ok(format!("{} bytes", asked.body.len())));
    let edge = Edge::before(&origin);
    for fields in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        let mut client = edge.client();
        client.send(format!(
            "PUT / HTTP/1.1\r\nHost: edge.test\r\n{fields}\r\nExpect: 100-continue\r\n\r\n"
        ));
        assert_eq!(client.head().status, 100, "{fields}");
        client.send(match fields.starts_with('C') {
            true => "hello",
            false => "5\r\nhello\r\n0\r\n\r\n",
        });
        assert_eq!(client.response("PUT").text(), "5 bytes", "{fields}");
        assert_eq!(client.get("/next").text(), "0 bytes", "{fields}");
    }
}

#[test]
fn a_client_that_does_not_wait_after_all_is_not_told() {
    let origin = Origin::answering(|asked| Reply::ok(format!("{} bytes", asked.body.len())));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    client.send(request("PUT", "/", &[("Expect", "100-continue")], b"hello"));
    assert_eq!(client.response("PUT").text(), "5 bytes");
}

#[test]
fn content_that_is_refused_is_not_asked_for() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Setup::before(&origin)
        .set("limits.request_body", "1000B")
        .start();
    let mut client = edge.client();
    client.send(
        "PUT / HTTP/1.1\r\nHost: edge.test\r\nContent-Length: 2000\r\nExpect: 100-continue\r\n\r\n",
    );
    let refused = client.response("PUT");
    assert_eq!(refused.status(), 413);
    assert_eq!(refused.field("connection").as_deref(), Some("close"));
    client.assert_closed();
    assert_eq!(origin.total(), 0);
}

#[test]
fn other_expectations_fail() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: edge.test\r\nExpect: the-unexpected\r\n\r\n");
    assert_eq!(client.head().status, 417);
    assert_eq!(origin.total(), 0);
}

#[test]
fn an_old_client_may_keep_its_connection() {
    let origin = Origin::always(Reply::cached("x"));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    for _ in 0..3 {
        client.send("GET / HTTP/1.0\r\nHost: edge.test\r\nConnection: Keep-Alive\r\n\r\n");
        let answer = client.response("GET");
        assert_eq!(answer.text(), "x");
        assert_eq!(answer.field("connection").as_deref(), Some("keep-alive"));
    }
}

#[test]
fn content_of_unknown_length_ends_with_the_connection_of_an_old_client() {
    let origin = Origin::always(Reply::pattern(100_000).chunked());
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    client.send("GET / HTTP/1.0\r\nHost: edge.test\r\nConnection: keep-alive\r\n\r\n");
    let head = client.head();
    assert_eq!(head.field("connection").as_deref(), Some("close"));
    assert_eq!(
        (
            head.field("content-length"),
            head.field("transfer-encoding")
        ),
        (None, None)
    );
    pattern::check(0, &client.rest());
}

#[test]
fn content_without_a_meaning_is_read_in_vain() {
    let origin = Origin::always(Reply::cached("x"));
    let edge = Edge::before(&origin);
    edge.get("/");
    let mut client = edge.client();
    for size in [1, 1_000, 60_000] {
        client.send(request("GET", "/", &[], &pattern::bytes(size)));
        assert_eq!(client.response("GET").text(), "x", "{size}");
    }
    client.send(
        "GET / HTTP/1.1\r\nHost: edge.test\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
    );
    assert_eq!(client.response("GET").text(), "x");
    assert_eq!(client.get("/").text(), "x");
    // Nobody waits for the end of much of it.
    client.offer(request("GET", "/", &[], &pattern::bytes(300_000)));
    assert_eq!(client.response("GET").text(), "x");
    client.assert_closed();
    assert_eq!(origin.total(), 1);
}

#[test]
fn an_answer_arrives_though_the_client_is_sending_still() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Setup::before(&origin)
        .set("limits.request_body", "1000B")
        .start();
    for _ in 0..20 {
        let mut client = edge.client();
        client.offer(request("PUT", "/", &[], &pattern::bytes(900_000)));
        assert_eq!(client.head().status, 413);
    }
}

#[test]
fn many_pipelined_hits_are_answered_in_order() {
    let origin = Origin::answering(|asked| Reply::cached(asked.target.clone()));
    let edge = Edge::before(&origin);
    let targets: Vec<_> = (0..50).map(|turn| format!("/{}", turn % 7)).collect();
    for target in &targets {
        edge.get(target);
    }
    let mut client = edge.client();
    let all: Vec<u8> = targets
        .iter()
        .flat_map(|target| request("GET", target, &[], b""))
        .collect();
    // Cut anywhere, requests are the same requests.
    for cut in [all.len(), 1, 700, 1_000] {
        let (first, second) = all.split_at(cut);
        client.send(first);
        client.send(second);
        for target in &targets {
            assert_eq!(&client.response("GET").text(), target);
        }
    }
    assert!(client.is_silent_for(Duration::from_millis(50)));
    assert_eq!(origin.total(), 7);
}

#[test]
fn every_answer_to_a_hit_is_the_same_however_it_is_asked_for() {
    let origin = Origin::always(Reply::cached("content").field("X-Own", "y"));
    let edge = Edge::before(&origin);
    edge.get("/");
    let mut client = edge.client();
    let shape = |head: &Head| {
        let varying = ["age", "cache-status", "connection"];
        let mut fields = head.fields.clone();
        fields.retain(|(name, _)| !varying.contains(&name.as_str()));
        fields.sort();
        (head.status, fields)
    };
    // The first hits are put together field by field, the later ones sent as they are kept.
    let mut shapes = Vec::new();
    for _ in 0..10 {
        client.send(request("GET", "/", &[], b""));
        let head = client.head();
        shapes.push(shape(&head));
        assert_eq!(client.take(7), b"content");
    }
    let mut last = edge.client();
    last.send("GET / HTTP/1.1\r\nHost: edge.test\r\nConnection: close\r\n\r\n");
    shapes.push(shape(&last.head()));
    assert!(
        shapes.windows(2).all(|pair| pair[0] == pair[1]),
        "{shapes:#?}"
    );
}

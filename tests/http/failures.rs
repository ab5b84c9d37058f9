//! Bodies that break off: never stored, and never ended as if they were whole.

use crate::support::client::request;
use crate::support::edge::{Edge, Setup};
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::{Frame, Gate, Reply};

/// A client is shown that the body broke off, and the next request goes to the origin again.
fn breaks_off(edge: &Edge, origin: &Origin, broken: Reply, what: &str) {
    let path = format!("/{}", origin.total());
    origin.sequence(&path, vec![broken, Reply::cached("whole")]);
    let mut client = edge.client();
    client.send(request("GET", &path, &[], b""));
    let got = client.try_response("GET").expect_err(what);
    pattern::check(0, &got.body);
    client.assert_closed();
    edge.wait_for_landing();
    assert_eq!(edge.get(&path).text(), "whole", "{what}");
    assert_eq!(origin.count(&path), 2, "{what}");
}

#[test]
fn a_truncated_body_is_neither_stored_nor_ended_cleanly() {
    let origin = Origin::start();
    let edge = Edge::before(&origin);
    for control in ["max-age=60", "no-store"] {
        for at in [0, 1, 64 << 10, 199_999] {
            for frame in [Frame::Length, Frame::Chunked] {
                let reply = Reply::pattern(200_000)
                    .framed(frame)
                    .field("Cache-Control", control);
                let what = format!("{control}, {frame:?}, {at} bytes");
                breaks_off(&edge, &origin, reply.cut_after(at), &what);
            }
        }
    }
    // All content came, the end of it did not.
    let reply = Reply::pattern(200_000)
        .chunked()
        .field("Cache-Control", "max-age=60");
    breaks_off(
        &edge,
        &origin,
        reply.cut_after(200_000),
        "the last chunk is missing",
    );
}

#[test]
fn a_body_that_is_reset_is_neither_stored_nor_ended_cleanly() {
    let origin = Origin::start();
    let edge = Edge::before(&origin);
    for frame in [Frame::Length, Frame::Chunked, Frame::Close] {
        let gate = Gate::default();
        let reply = Reply::pattern(200_000)
            .framed(frame)
            .field("Cache-Control", "max-age=60");
        // A reset overtakes what it finds unread, so the origin waits until the start arrived.
        origin.sequence("/a", vec![reply.pausing(1_000, &gate).reset_after(1_000)]);
        let mut client = edge.client();
        client.send(request("GET", "/a", &[], b""));
        let head = client.head();
        gate.open();
        let read = client.read_body(&head, "GET", |_| {});
        assert_eq!(read, Err(()), "{frame:?}");
        edge.wait_for_landing();
        assert_eq!(edge.metrics().count("larder_tier_entries", &[]), 0);
    }
}

#[test]
fn everyone_who_shared_a_broken_fetch_is_shown_that_it_broke() {
    let origin = Origin::start();
    let gate = Gate::default();
    let reply = Reply::pattern(200_000).field("Cache-Control", "max-age=60");
    origin.on("/a", reply.pausing(100_000, &gate).cut_after(100_000));
    let edge = Edge::before(&origin);
    let clients: Vec<_> = (0..5)
        .map(|_| {
            let mut client = edge.client();
            client.send(request("GET", "/a", &[], b""));
            let head = client.head();
            (client, head)
        })
        .collect();
    gate.open();
    for (mut client, head) in clients {
        let mut body = Vec::new();
        let read = client.read_body(&head, "GET", |piece| body.extend_from_slice(piece));
        assert_eq!(read, Err(()));
        pattern::check(0, &body);
        client.assert_closed();
    }
    assert_eq!(origin.total(), 1);
}

#[test]
fn a_body_that_stalls_is_given_up() {
    let origin = Origin::start();
    let reply = Reply::pattern(200_000).field("Cache-Control", "max-age=60");
    origin.sequence(
        "/a",
        vec![reply.hang_after(100_000), Reply::cached("whole")],
    );
    let edge = Setup::before(&origin)
        .set("limits.origin_idle", "300ms")
        .start();
    let mut client = edge.client();
    client.send(request("GET", "/a", &[], b""));
    assert!(client.try_response("GET").is_err());
    edge.wait_for_landing();
    assert_eq!(edge.get("/a").text(), "whole");
}

#[test]
fn the_older_response_survives_a_validation_that_breaks_off() {
    let origin = Origin::start();
    let control = "max-age=60, stale-if-error=1000";
    let old = Reply::ok("old")
        .field("Cache-Control", control)
        .field("Age", "100");
    let broken = Reply::pattern(1_000)
        .field("Cache-Control", "max-age=60")
        .cut_after(10);
    origin.sequence("/a", vec![old, broken, Reply::status(503)]);
    let edge = Edge::before(&origin);
    edge.get("/a");
    let mut client = edge.client();
    client.send(request("GET", "/a", &[], b""));
    assert!(client.try_response("GET").is_err());
    edge.wait_for_landing();
    assert_eq!(edge.get("/a").text(), "old");
}

#[test]
fn a_broken_body_that_ends_with_its_connection_ends_with_a_reset() {
    use std::io::{ErrorKind, Read, Write};

    let origin = Origin::start();
    let edge = Edge::before(&origin);
    // Without a chunked coding to leave unfinished, only the end of the connection can tell.
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(edge.address()).expect("the edge listens");
        let patience = Some(crate::support::PATIENCE);
        stream.set_read_timeout(patience).expect("a socket option");
        let sent = format!("GET {path} HTTP/1.0\r\nHost: edge.test\r\n\r\n");
        stream.write_all(sent.as_bytes()).expect("the edge reads");
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        (read.map_err(|error| error.kind()), answer)
    };
    for control in ["max-age=60", "no-store"] {
        let reply = Reply::pattern(100_000)
            .chunked()
            .field("Cache-Control", control);
        let broken = reply.clone().cut_after(50_000);
        let path = format!("/{control}");
        origin.sequence(&path, vec![broken, reply]);
        let (read, _) = get(&path);
        assert_eq!(read, Err(ErrorKind::ConnectionReset), "{control}");
        edge.wait_for_landing();
        let (read, answer) = get(&path);
        assert_eq!(read, Ok(answer.len()), "{control}");
        let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let head = head.split("\r\n\r\n").next().unwrap_or_default().to_owned();
        assert!(!head.contains("content-length"), "{head}");
        pattern::check(0, &answer[answer.len() - 100_000..]);
    }
}

//! Connections: kept alive, pipelined, and ended when a client is too slow.

use std::time::Duration;

use crate::support::client::request;
use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::{Gate, Reply};

#[test]
fn one_connection_carries_many_requests_on_both_sides() {
    let origin = Origin::answering(|asked| Reply::ok(asked.target.clone()));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    for turn in 0..100 {
        let target = format!("/{turn}");
        assert_eq!(client.get(&target).text(), target);
    }
    assert_eq!((origin.total(), origin.connections()), (100, 1));
    assert_eq!(edge.metrics().count("larder_connections_total", &[]), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::answering(move |asked| {
        let reply = Reply::cached(format!("{} {}", asked.method, asked.target));
        if asked.target == "/slow" {
            reply.behind(&held)
        } else {
            reply
        }
    });
    let edge = Edge::before(&origin);
    edge.get("/stored");
    let mut client = edge.client();
    let mut sent = Vec::new();
    let requests = [
        ("GET", "/slow", &b""[..]),
        ("GET", "/stored", b""),
        ("POST", "/posted", b"body"),
        ("HEAD", "/stored", b""),
        ("GET", "/stored", b""),
        ("GET", "/last", b""),
    ];
    for (method, target, body) in requests {
        sent.extend(request(method, target, &[], body));
    }
    client.send(sent);
    origin.wait_for("/slow", 1);
    gate.open();
    for (method, target, _) in requests {
        let response = client.response(method);
        let text = if method == "HEAD" {
            String::new()
        } else {
            format!("{method} {target}")
        };
        assert_eq!(response.text(), text);
    }
}

#[test]
fn a_connection_ends_when_the_client_says_so() {
    let origin = Origin::always(Reply::cached("x"));
    let edge = Edge::before(&origin);
    for _ in 0..2 {
        let mut client = edge.client();
        assert_eq!(client.get_with("/", &[("Connection", "close")]).text(), "x");
        client.assert_closed();
    }
    let mut old = edge.client();
    old.send("GET / HTTP/1.0\r\nHost: edge.test\r\n\r\n");
    assert_eq!(old.response("GET").text(), "x");
    old.assert_closed();
}

#[test]
fn requests_cut_into_single_bytes_are_understood() {
    let origin = Origin::always(Reply::cached("x"));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    for _ in 0..3 {
        for byte in request("POST", "/", &[("X", "y")], b"body") {
            client.send([byte]);
        }
        assert_eq!(client.response("POST").text(), "x");
    }
    assert!(origin.asked().iter().all(|asked| asked.body == b"body"));
}

#[test]
fn a_head_that_does_not_end_is_given_up_at_the_deadline() {
    let origin = Origin::always(Reply::cached("x"));
    let edge = Setup::before(&origin).set("limits.head", "300ms").start();
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: edge.test\r\n");
    // A byte now and then does not extend it.
    while client.is_silent_for(Duration::from_millis(50)) {
        if client.try_send("X").is_err() {
            break;
        }
    }
    let rest = String::from_utf8_lossy(&client.rest()).into_owned();
    assert!(
        rest.is_empty() || rest.starts_with("HTTP/1.1 408 "),
        "{rest:?}"
    );
    assert_eq!(
        edge.metrics()
            .count("larder_connections_timed_out_total", &[]),
        1
    );
    // Others are not affected, however long they take between requests.
    let mut patient = edge.client();
    assert_eq!(patient.get("/").text(), "x");
    assert!(patient.is_silent_for(Duration::from_millis(700)));
    assert_eq!(patient.get("/").text(), "x");
}

#[test]
fn an_idle_connection_is_closed() {
    let origin = Origin::always(Reply::cached("x"));
    let edge = Setup::before(&origin)
        .set("limits.client_idle", "300ms")
        .set("limits.origin_idle", "300ms")
        .start();
    let mut unused = edge.client();
    let mut used = edge.client();
    used.get("/");
    unused.assert_closed();
    used.assert_closed();
    eventually("both to be counted", || {
        edge.metrics()
            .count("larder_connections_timed_out_total", &[])
            == 2
    });
}

#[test]
fn the_idle_deadline_of_clients_is_their_own() {
    let origin = Origin::always(Reply::cached("x"));
    let edge = Setup::before(&origin)
        .set("limits.client_idle", "300ms")
        .start();
    let mut client = edge.client();
    client.get("/");
    client.assert_closed();
}

#[test]
fn a_client_waits_for_a_slow_origin_without_being_idle() {
    let origin = Origin::start();
    let (head, body) = (Gate::default(), Gate::default());
    let reply = Reply::pattern(1_000).field("Cache-Control", "max-age=60");
    origin.on("/a", reply.behind(&head).pausing(500, &body));
    let edge = Setup::before(&origin)
        .set("limits.client_idle", "300ms")
        .start();
    let mut client = edge.client();
    client.send(request("GET", "/a", &[], b""));
    assert!(
        client.is_silent_for(Duration::from_millis(900)),
        "it waits for the head"
    );
    head.open();
    let answer = client.head();
    assert_eq!(client.take(500), pattern::bytes(500));
    assert!(
        client.is_silent_for(Duration::from_millis(900)),
        "it waits for the body"
    );
    body.open();
    assert_eq!(answer.field("content-length").as_deref(), Some("1000"));
    pattern::check(500, &client.take(500));
}

#[test]
fn a_client_that_stops_reading_is_given_up() {
    let origin = Origin::start();
    origin.on(
        "/a",
        Reply::pattern(30_000_000).field("Cache-Control", "max-age=60"),
    );
    let edge = Setup::before(&origin)
        .set("limits.client_idle", "300ms")
        .set("limits.origin_idle", "300ms")
        .start();
    let mut client = edge.client();
    client.read_slowly();
    client.send(request("GET", "/a", &[], b""));
    eventually("the client to be given up", || {
        edge.metrics()
            .count("larder_connections_timed_out_total", &[])
            == 1
    });
    assert_eq!(edge.open_connections(), 0);
    let whole = edge.get("/a");
    assert_eq!(
        (whole.body.len(), whole.is_hit()),
        (30_000_000, true),
        "the fill went on"
    );
}

#[test]
fn a_client_that_stops_sending_its_body_is_given_up() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Setup::before(&origin)
        .set("limits.client_idle", "300ms")
        .set("limits.origin_idle", "300ms")
        .start();
    let mut client = edge.client();
    client.send("POST /a HTTP/1.1\r\nHost: edge.test\r\nContent-Length: 10\r\n\r\n01234");
    let rest = String::from_utf8_lossy(&client.rest()).into_owned();
    assert!(!rest.starts_with("HTTP/1.1 2"), "{rest:?}");
    assert_eq!(origin.total(), 0, "no whole request reached it");
}

#[test]
fn connections_over_the_limit_wait_and_are_served() {
    let origin = Origin::always(Reply::cached("x"));
    let edge = Setup::before(&origin)
        .set("limits.connections", "4")
        .start();
    let mut open: Vec<_> = (0..4).map(|_| edge.client()).collect();
    for client in &mut open {
        assert_eq!(client.get("/").text(), "x");
    }
    let mut waiting = edge.client();
    waiting.send(request("GET", "/", &[], b""));
    assert!(waiting.is_silent_for(Duration::from_millis(200)));
    drop(open);
    assert_eq!(waiting.response("GET").text(), "x");
}

#[test]
fn every_keyed_request_is_counted_even_if_its_client_leaves() {
    let origin = Origin::start();
    let gate = Gate::default();
    origin.on("/stored", Reply::cached("x"));
    origin.on("/held", Reply::cached("x").behind(&gate));
    let edge = Edge::before(&origin);
    edge.get("/stored");
    edge.get("/stored");
    for (turn, method) in ["GET", "POST", "GET"].into_iter().enumerate() {
        let mut client = edge.client();
        client.send(request(method, "/held", &[], b""));
        // The second GET joins the fetch of the first, which goes on without its client.
        origin.wait_for("/held", (turn + 1).min(2));
        let keyed = turn + 3;
        eventually("the request to be keyed", || {
            let calls = "larder_policy_calls_total";
            edge.metrics().count(calls, &["hook=\"keying\""]) == pattern::to_u64(keyed)
        });
        client.reset();
        let requests = "larder_requests_total";
        eventually("the request to be counted", || {
            edge.metrics().count(requests, &[]) == pattern::to_u64(keyed)
        });
        let left = edge
            .metrics()
            .count(requests, &["cache_status=\"aborted\""]);
        assert_eq!(left, pattern::to_u64(turn + 1), "{method}");
    }
    gate.open();
    edge.wait_for_landing();
    assert!(edge.get("/held").is_hit());
    let metrics = edge.metrics();
    let counts = ["larder_policy_calls_total", "larder_requests_total"];
    assert_eq!(metrics.count(counts[0], &["hook=\"keying\""]), 6);
    assert_eq!(metrics.count(counts[1], &[]), 6, "and none of them twice");
}

//! HTTP/1 connections that are used as few clients and origins use them: what is promised holds,
//! and what was cut short never looks whole.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::ranges::range_of;
use crate::support::PATIENCE;
use crate::support::client::request;
use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::{Gate, Reply};

const MIB: u64 = 1 << 20;

#[test]
fn pipelined_hits_are_all_answered_however_much_they_come_to() {
    let body = pattern::bytes(4_000);
    let origin = Origin::always(Reply::cached(&body));
    let edge = Edge::before(&origin);
    for _ in 0..2 {
        edge.get("/a");
    }
    let mut client = edge.client();
    client.send(request("GET", "/a", &[], b"").repeat(300));
    for _ in 0..300 {
        assert!(client.response("GET").body == body);
    }
}

#[test]
fn what_was_answered_is_sent_to_a_client_that_ends_its_side() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::answering(move |asked| match asked.path() {
        "/slow" => Reply::cached("slow").behind(&held),
        _ => Reply::cached("x"),
    });
    let edge = Edge::before(&origin);
    for _ in 0..2 {
        edge.get("/a");
    }
    let mut client = edge.client();
    let mut sent = request("GET", "/a", &[], b"");
    sent.extend(request("GET", "/slow", &[], b""));
    client.send(sent);
    client.half_close();
    assert_eq!(client.response("GET").text(), "x");
    gate.open();
}

#[test]
fn empty_lines_are_no_way_to_keep_a_connection() {
    let origin = Origin::always(Reply::cached("x"));
    let edge = Setup::before(&origin).set("limits.head", "300ms").start();
    let mut client = edge.client();
    let mut sent = 0;
    while client.is_silent_for(Duration::from_millis(50)) && client.try_send("\r\n").is_ok() {
        sent += 1;
        assert!(sent < 100, "five seconds of empty lines");
    }
    client.assert_closed();
    let timed_out = edge
        .metrics()
        .count("larder_connections_timed_out_total", &[]);
    assert_eq!(timed_out, 1);
}

/// Sends a request as HTTP/1.0, whose answer of unknown length ends with the connection.
fn ask_as_of_old(edge: &Edge) -> TcpStream {
    let mut stream = TcpStream::connect(edge.address()).expect("the edge listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket option");
    stream
        .write_all(b"GET / HTTP/1.0\r\nHost: edge.test\r\n\r\n")
        .expect("the edge reads");
    let mut start = [0; 12];
    stream.read_exact(&mut start).expect("an answer");
    assert_eq!(&start, b"HTTP/1.1 200");
    stream
}

#[track_caller]
fn assert_reset(mut stream: TcpStream) {
    let end = stream.read_to_end(&mut Vec::new());
    let kind = end.map_err(|error| error.kind());
    assert_eq!(kind, Err(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn content_of_unknown_length_that_is_given_up_ends_in_a_reset() {
    let origin = Origin::always(Reply::pattern(30_000_000).chunked());
    let edge = Setup::before(&origin)
        .set("limits.client_idle", "300ms")
        .start();
    let stream = ask_as_of_old(&edge);
    eventually("the client to be given up", || edge.open_connections() == 0);
    assert_reset(stream);
}

#[test]
fn content_of_unknown_length_that_its_client_cuts_short_ends_in_a_reset() {
    let gate = Gate::default();
    let origin = Origin::always(Reply::pattern(100_000).chunked().pausing(1_000, &gate));
    let edge = Edge::before(&origin);
    let stream = ask_as_of_old(&edge);
    stream.shutdown(Shutdown::Write).expect("connected");
    assert_reset(stream);
    gate.open();
}

/// Bytes that the system holds for `client` because it does not read them.
fn held_for(client: &TcpStream) -> u64 {
    let port =
        |end: std::io::Result<SocketAddr>| format!(":{:04X}", end.expect("connected").port());
    let (edge, client) = (port(client.peer_addr()), port(client.local_addr()));
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    let waiting = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let from_us = words.next()?.ends_with(&edge);
        let to_it = words.next()?.ends_with(&client);
        let (waiting, _) = words.nth(1)?.split_once(':')?;
        (from_us && to_it).then(|| waiting.to_owned())
    };
    let waiting = table.lines().find_map(waiting).expect("a connection");
    u64::from_str_radix(&waiting, 16).expect("hexadecimal")
}

#[test]
fn little_is_held_by_the_system_for_a_client_that_does_not_read() {
    let origin = Origin::always(Reply::pattern(30_000_000).field("Cache-Control", "max-age=60"));
    let edge = Edge::before(&origin);
    edge.get("/");
    let client = edge.client();
    client.read_slowly();
    let mut client = client.into_stream();
    client
        .write_all(&request("GET", "/", &[], b""))
        .expect("the edge reads");
    let mut before = 0;
    eventually("what is held to stop growing", || {
        let held = held_for(&client);
        let still = held > 0 && held == before;
        before = held;
        still
    });
    assert!(before <= MIB / 2, "{} KiB", before >> 10);
}

#[test]
fn a_204_has_no_length() {
    let origin = Origin::always(Reply::status(204).field("Cache-Control", "max-age=60"));
    let edge = Edge::before(&origin);
    for (target, method) in [("/a", "HEAD"), ("/a", "HEAD"), ("/b", "GET"), ("/b", "GET")] {
        let response = edge.client().request(method, target, &[], b"");
        assert_eq!(response.status(), 204);
        assert_eq!(response.field("content-length"), None, "{method} {target}");
    }
}

#[test]
fn an_origin_that_reads_no_further_is_given_up() {
    // Connections are made by its system; nobody takes them.
    let origin = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = origin.local_addr().expect("bound");
    let edge = Setup::new()
        .flag("--origin", &format!("http://{address}"))
        .set("limits.first_byte", "1s")
        .start();
    let mut stream = TcpStream::connect(edge.address()).expect("the edge listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket option");
    let mut sender = stream.try_clone().expect("a second handle");
    // Until nothing more fits anywhere.
    let sending = std::thread::spawn(move || {
        let head = "POST / HTTP/1.1\r\nHost: edge.test\r\nContent-Length: 100000000\r\n\r\n";
        let mut sent = sender.write_all(head.as_bytes());
        while sent.is_ok() {
            sent = sender.write_all(&vec![0; 64 << 10]);
        }
    });
    let mut start = [0; 12];
    stream.read_exact(&mut start).expect("an answer");
    assert_eq!(&start, b"HTTP/1.1 504");
    // The edge may have closed it by then.
    stream.shutdown(Shutdown::Both).ok();
    sending.join().expect("no panic");
}

/// What a slow reader of `first` gets must not look whole, nor be wrong, if the flight leaves it
/// behind and `then` answers its own request for the rest. How often the origin was asked.
fn left_behind(first: Reply, then: impl Fn(u64) -> Reply + Send + Sync + 'static) -> usize {
    let origin = Origin::start();
    let gate = Gate::default();
    let first = first.pausing(MIB, &gate);
    origin.route("/a", move |asked| match asked.turn {
        0 => first.clone(),
        _ => then(range_of(asked).map_or(0, |(start, _)| start)),
    });
    let edge = Setup::before(&origin).flag("--memory", "16MiB").start();
    let (mut fast, mut slow) = (edge.client(), edge.client());
    slow.read_slowly();
    for client in [&mut fast, &mut slow] {
        client.send(request("GET", "/a", &[], b""));
    }
    let (head, slow_head) = (fast.head(), slow.head());
    gate.open();
    fast.read_body(&head, "GET", |_| {}).expect("whole");
    assert_eq!(origin.total(), 1, "both read one flight");
    let mut body = Vec::new();
    let whole = slow.read_body(&slow_head, "GET", |piece| body.extend_from_slice(piece));
    assert!(whole.is_err(), "{} bytes look whole", body.len());
    pattern::check(0, &body);
    origin.total()
}

const LARGE: u64 = 32 * MIB;

fn large() -> Reply {
    Reply::pattern(LARGE).field("Cache-Control", "max-age=60")
}

#[test]
fn a_rest_that_is_not_all_of_the_rest_does_not_look_whole() {
    for first in [large(), large().chunked()] {
        let tagged = |reply: Reply| reply.field("ETag", "\"one\"");
        let asked = left_behind(tagged(first), move |start| {
            tagged(Reply::pattern_part(start, start + 1_000, LARGE))
        });
        assert_eq!(asked, 2);
    }
}

#[test]
fn a_rest_of_what_may_be_other_content_is_not_joined() {
    let tagged = |reply: Reply| reply.field("ETag", "W/\"one\"");
    // Of known length it would not have been joined at all.
    let asked = left_behind(tagged(large().chunked()), move |_| {
        tagged(Reply::ok(vec![7; 32 << 20]))
    });
    assert_eq!(asked, 1, "there is no use in asking");
}

#[test]
fn a_rest_that_is_longer_than_it_says_ends_the_connection() {
    let origin = Origin::start();
    origin.route("/a", |asked| {
        let reply = match range_of(asked) {
            None => Reply::pattern_part(0, 400, 1_000),
            // One byte more than the field tells.
            Some(_) => Reply::status(206)
                .field("Content-Range", "bytes 400-999/1000")
                .body(vec![b'x'; 601])
                .chunked(),
        };
        reply
            .field("Cache-Control", "max-age=60")
            .field("ETag", "\"one\"")
    });
    let edge = Edge::before(&origin);
    let part = edge.get_with("/a", &[("Range", "bytes=0-399")]);
    assert_eq!(part.status(), 206);
    let mut client = edge.client();
    client.send(request("GET", "/a", &[], b""));
    assert!(client.try_response("GET").is_err());
}

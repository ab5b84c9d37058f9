//! HTTP/2 from clients that do not keep to it: malformed requests, floods, and those that wait.

use std::time::{Duration, Instant};

use h2::Reason;

use crate::support::PATIENCE;
use crate::support::client::{Client, HOST, find};
use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::support::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GET, GOAWAY, HEADERS, Http2, PING,
    PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, frames, preface, request,
};
use crate::support::origin::Origin;
use crate::support::reply::{Gate, Reply};

const MIB: u64 = 1 << 20;

/// A request by these fields on stream 1.
fn head(fields: &[(&str, &str)], flags: u8) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, 1, &block(fields))
}

/// [`GET`] with some of its fields replaced, and more behind them.
fn get<'a>(replaced: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields: Vec<_> = GET.to_vec();
    for (name, value) in replaced {
        match fields.iter_mut().find(|field| field.0 == *name) {
            Some(field) => field.1 = value,
            None => fields.push((name, value)),
        }
    }
    fields
}

/// What comes of the stream in answer to `bytes`: the frames until the stream or the connection
/// ends.
fn exchange(edge: &Edge, bytes: &[u8]) -> Vec<Frame> {
    let mut client = edge.client();
    client.offer([preface(), bytes.to_vec()].concat());
    let mut received = Vec::new();
    loop {
        let some = client.some();
        received.extend_from_slice(&some);
        let seen = frames(&received);
        let ended = seen.iter().any(|frame| {
            let ends = matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0;
            frame.stream == 1 && (ends || frame.kind == RST_STREAM)
        });
        if ended || some.is_empty() {
            return seen;
        }
    }
}

/// Whether the request was refused: a reset, a farewell, or an answer of 400 and more.
fn is_refused(seen: &[Frame]) -> bool {
    let farewell = |frame: &Frame| {
        matches!(frame.kind, RST_STREAM | GOAWAY) && frame.reason() != Reason::NO_ERROR
    };
    // Our own answers to what is malformed come without a site, and so without `Cache-Status`.
    let answered = |frame: &Frame| frame.kind == HEADERS && frame.stream == 1;
    seen.iter().any(farewell)
        || seen.iter().any(answered)
            && seen
                .iter()
                .any(|frame| frame.kind == DATA && frame.payload.ends_with(b"\n"))
}

/// Fields in place of those of [`GET`], or beside them.
const MALFORMED: [&[(&str, &str)]; 36] = [
    &[("transfer-encoding", "chunked")],
    &[("connection", "close")],
    &[("connection", "x")],
    &[("keep-alive", "timeout=5")],
    &[("proxy-connection", "keep-alive")],
    &[("upgrade", "h2c")],
    &[("te", "gzip")],
    &[("te", "trailers, gzip")],
    &[("X-Upper", "y")],
    &[("x y", "z")],
    &[("x:", "z")],
    &[("", "z")],
    &[("x\r\ny", "z")],
    &[("x", "y\r\nz: w")],
    &[("x", "y\nz: w")],
    &[("x", "y\rz")],
    &[("x", "y\0z")],
    &[("x", " y")],
    &[("x", "y ")],
    &[("content-length", "5")],
    &[("content-length", "0"), ("Content-Length", "5")],
    &[("content-length", "x")],
    &[("content-length", "-1")],
    &[("content-length", "1, 1")],
    &[("host", "other.test")],
    &[("host", "edge.test/x")],
    &[(":authority", "user@edge.test")],
    &[(":authority", "edge.test/x")],
    &[(":authority", "edge.test\r\nx: y")],
    &[(":scheme", "ftp")],
    &[(":path", "")],
    &[(":path", "*")],
    &[(":path", "a")],
    &[(":path", "/a b")],
    &[(":path", "/a HTTP/1.1\r\nx: y")],
    &[(":method", "GET /x HTTP/1.1\r\nx: y")],
];

#[test]
fn malformed_requests_never_reach_the_origin() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Edge::before(&origin);
    let sound = exchange(&edge, &head(&GET, END_STREAM));
    assert!(!is_refused(&sound), "{sound:?}");
    let before = origin.total();
    for replaced in MALFORMED {
        let seen = exchange(&edge, &head(&get(replaced), END_STREAM));
        assert!(is_refused(&seen), "{replaced:?}: {seen:?}");
    }
    let after = |pseudo: (&'static str, &'static str)| {
        let mut fields = GET.to_vec();
        fields.extend([("x", "y"), pseudo]);
        fields
    };
    let without = |name: &str| {
        let kept = GET.iter().filter(|field| field.0 != name);
        kept.copied().collect::<Vec<_>>()
    };
    let twice = |name: &str| {
        let mut fields = GET.to_vec();
        let position = fields.iter().position(|field| field.0 == name).unwrap();
        fields.insert(position, fields[position]);
        fields
    };
    for fields in [
        without(":method"),
        without(":scheme"),
        without(":path"),
        without(":authority"),
        twice(":method"),
        twice(":scheme"),
        twice(":path"),
        twice(":authority"),
        after((":path", "/b")),
        get(&[(":status", "200")]),
        get(&[(":unknown", "x")]),
        get(&[(":protocol", "websocket")]),
        get(&[(":method", "CONNECT")]),
        vec![(":method", "CONNECT"), (":authority", HOST)],
        get(&[(":method", "CONNECT"), (":protocol", "websocket")]),
    ] {
        let seen = exchange(&edge, &head(&fields, END_STREAM));
        assert!(is_refused(&seen), "{fields:?}: {seen:?}");
    }
    assert_eq!(origin.total(), before, "{:?}", origin.asked());
}

#[test]
fn content_that_is_not_what_was_announced_is_no_whole_request() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Edge::before(&origin);
    let post = |length| head(&get(&[(":method", "POST"), ("content-length", length)]), 0);
    let data = |flags, bytes: &[u8]| frame(DATA, flags, 1, bytes);
    let trailers = |fields: &[(&str, &str)]| head(fields, END_STREAM);
    for script in [
        [post("5"), data(END_STREAM, b"1234")].concat(),
        [post("5"), data(END_STREAM, b"123456")].concat(),
        [post("5"), data(0, b"12345"), data(END_STREAM, b"6")].concat(),
        [post("5"), data(0, b"1234"), trailers(&[("x", "y")])].concat(),
        [
            post("5"),
            data(0, b"12345"),
            trailers(&[("connection", "y")]),
        ]
        .concat(),
        [post("5"), data(0, b"12345"), trailers(&[(":path", "/b")])].concat(),
        [post("5"), data(0, b"123"), frame(RST_STREAM, 0, 1, &[0; 4])].concat(),
    ] {
        let mut client = edge.client();
        client.offer([preface(), script.clone()].concat());
        client.half_close();
        client.rest();
        let bodies: Vec<_> = origin.asked().into_iter().map(|asked| asked.body).collect();
        assert!(bodies.is_empty(), "{script:?}: {bodies:?}");
    }
    let sound = [post("5"), data(0, b"1234"), data(END_STREAM, b"5")].concat();
    assert!(!is_refused(&exchange(&edge, &sound)));
    assert_eq!(origin.total(), 1);
}

/// Sends `once`, then `piece` again and again until the edge closes the connection; what it said,
/// and how many pieces it took at most.
fn flood(edge: &Edge, once: &[u8], piece: &[u8], most: usize) -> (Vec<Frame>, usize) {
    let mut client = edge.client();
    client.offer([preface(), once.to_vec()].concat());
    let batch = piece.repeat(100);
    let mut sent = 0;
    while sent < most && client.try_send(&batch).is_ok() {
        sent += 100;
    }
    client.half_close_if_open();
    (frames(&client.rest()), sent)
}

#[test]
fn floods_end_in_a_farewell_with_bounded_memory() {
    let origin = Origin::start();
    let gate = Gate::default();
    origin.on("/a", Reply::ok("x").behind(&gate));
    let edge = Edge::before(&origin);
    edge.get("/b");
    let before = edge.resident_bytes();
    let open = head(&get(&[(":method", "POST")]), 0);
    let widen = [0, 0, 0, 1];
    for (number, (name, once, piece)) in [
        ("settings", vec![], frame(SETTINGS, 0, 0, b"")),
        (
            "settings that say something",
            vec![],
            frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]),
        ),
        ("pings", vec![], frame(PING, 0, 0, &[0; 8])),
        ("answers to pings", vec![], frame(PING, 1, 0, &[0; 8])),
        (
            "priorities",
            vec![],
            frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 7]),
        ),
        ("windows", vec![], frame(WINDOW_UPDATE, 0, 0, &widen)),
        (
            "windows of a stream",
            open.clone(),
            frame(WINDOW_UPDATE, 0, 1, &widen),
        ),
        ("empty content", open.clone(), frame(DATA, 0, 1, b"")),
        ("unknown frames", vec![], frame(0x42, 0, 0, b"x")),
        (
            "continuations",
            frame(HEADERS, 0, 1, &block(&GET)),
            frame(CONTINUATION, 0, 1, b""),
        ),
        (
            "long continuations",
            frame(HEADERS, 0, 1, &block(&GET)),
            frame(CONTINUATION, 0, 1, &block(&[("x", &"y".repeat(16_000))])),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let (seen, sent) = flood(&edge, &once, &piece, 2_000_000);
        assert!(sent < 2_000_000, "{name} went on");
        let farewell = seen.iter().find(|frame| frame.kind == GOAWAY);
        // A farewell may be lost to the reset that closes a socket nobody reads from any more.
        if let Some(farewell) = farewell {
            assert_ne!(farewell.reason(), Reason::NO_ERROR, "{name}");
        }
        eventually("the connection to be closed", || {
            edge.open_connections() == 0
        });
        let grown = edge.resident_bytes().saturating_sub(before);
        assert!(grown < 16 * MIB, "{name}, {number}: {grown} bytes more");
    }
    assert!(edge.metrics().count("larder_http2_floods_total", &[]) >= 7);
    gate.open();
    assert_eq!(Http2::connect(edge.address()).get("/b").status(), 404);
}

#[test]
fn requests_that_are_reset_at_once_end_the_connection() {
    let origin = Origin::start();
    let gate = Gate::default();
    origin.on("/a", Reply::ok("x").behind(&gate));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    client.offer(preface());
    let block = block(&GET);
    let mut resets = 0;
    for number in 0..20_000 {
        let stream = 2 * number + 1;
        let reset = [
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &block),
            frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
        ];
        if client.try_send(reset.concat()).is_err() {
            break;
        }
        resets += 1;
    }
    assert!(resets < 20_000, "it went on");
    client.rest();
    gate.open();
    eventually("the connection to be closed", || {
        edge.open_connections() == 0
    });
    assert!(
        origin.total() < 1_500,
        "{} requests were made",
        origin.total()
    );
}

#[test]
fn a_stream_that_is_not_read_is_reset_and_others_go_on() {
    let origin = Origin::answering(|asked| match asked.path() {
        "/large" => Reply::pattern(1_000_000).field("Cache-Control", "max-age=60"),
        _ => Reply::cached("x"),
    });
    let edge = Setup::before(&origin)
        .set("limits.client_idle", "300ms")
        .start();
    edge.get("/large");
    let mut client = Http2::connect(edge.address());
    let unread = client.send(request("GET", "http", "/large", &[]));
    let (_, mut stream) = client.run(async { unread.await.expect("a head").into_parts() });
    // The window of the connection is open, that of the stream is not.
    let reset = client.run(async {
        loop {
            match stream.data().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error,
                None => panic!("it looked whole"),
            }
        }
    });
    assert_eq!(reset.reason(), Some(Reason::CANCEL), "{reset}");
    let metrics = edge.metrics();
    assert_eq!(
        metrics.count("larder_http2_streams_timed_out_total", &[]),
        1
    );
}

#[test]
fn clients_that_wait_are_given_up() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Setup::before(&origin)
        .set("limits.client_idle", "300ms")
        .set("limits.head", "300ms")
        .start();
    let get = head(&GET, END_STREAM);
    let open = frame(HEADERS, 0, 1, &block(&GET));
    for (name, script) in [
        ("half a preface", preface()[..20].to_vec()),
        ("no settings", preface()[..24].to_vec()),
        ("nothing more", preface()),
        ("half a head", [preface(), get[..20].to_vec()].concat()),
        ("a head without end", [preface(), open].concat()),
    ] {
        let mut client = edge.client();
        client.send(&script);
        client.rest();
        eventually(name, || edge.open_connections() == 0);
    }
    let timed_out = edge
        .metrics()
        .count("larder_connections_timed_out_total", &[]);
    assert_eq!(timed_out, 5);
    // Content that does not come ends its request, not the connection.
    let mut client = Http2::connect(edge.address());
    let (answer, _stream) = client.begin(request("POST", "http", "/a", &[]), false);
    let refused = client.answer(answer).expect("an answer");
    assert!(refused.status() >= 400, "{refused:?}");
    assert_eq!(origin.total(), 0);
}

#[test]
fn pings_keep_no_idle_connection_open() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Setup::before(&origin)
        .set("limits.client_idle", "400ms")
        .start();
    let mut client = edge.client();
    client.send(preface());
    let ping = frame(PING, 0, 0, &[1; 8]);
    let (mut received, start) = (Vec::new(), Instant::now());
    while client.try_send(&ping).is_ok() {
        let some = client.some();
        if some.is_empty() {
            break;
        }
        received.extend(some);
        assert!(start.elapsed() < PATIENCE, "it stays open");
        client.is_silent_for(Duration::from_millis(50));
    }
    let answered = frames(&received);
    let answered = answered.iter().filter(|frame| frame.kind == PING);
    assert!(answered.count() > 2, "it was answered for a while");
}

#[test]
fn a_plain_connection_may_begin_with_either_protocol() {
    let origin = Origin::always(Reply::cached("x"));
    let edge = Edge::before(&origin);
    // Byte by byte: what looks like the preface at first may be a request.
    for start in ["PRI ", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"] {
        let mut client = edge.client();
        for byte in start.bytes() {
            client.offer([byte]);
        }
        client.half_close();
        let rest = client.rest();
        assert!(find(&rest, b"HTTP/1.1 2").is_none(), "{start:?}");
    }
    let mut client = edge.client();
    for byte in "PUT /a HTTP/1.1\r\nHost: edge.test\r\nContent-Length: 0\r\n\r\n".bytes() {
        client.send([byte]);
    }
    assert_eq!(client.response("PUT").text(), "x");
    let mut client: Client = edge.client();
    for byte in [preface(), head(&GET, END_STREAM)].concat() {
        client.send([byte]);
    }
    let mut received = Vec::new();
    while !frames(&received).iter().any(|frame| frame.kind == DATA) {
        received.extend(client.some());
    }
}

//! HTTP/2 towards clients: requests and answers over one connection with many streams.

use bytes::Bytes;
use h2::Reason;

use crate::support::client::HOST;
use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::support::http2::{Http2, head_only, request};
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::{Gate, Reply};

#[test]
fn methods_conditions_and_ranges_are_answered_as_over_http1() {
    let origin = Origin::answering(|asked| match asked.method.as_str() {
        "GET" | "HEAD" => Reply::cached("0123456789").field("ETag", "\"e\""),
        _ => Reply::ok(format!(
            "{} {}",
            asked.method,
            String::from_utf8_lossy(&asked.body)
        )),
    });
    let edge = Edge::before(&origin);
    let mut client = Http2::connect(edge.address());
    let miss = client.get("/a");
    assert_eq!((miss.status(), miss.text().as_str()), (200, "0123456789"));
    assert!(!miss.is_hit() && miss.field("date").ends_with("GMT"));
    let hit = client.get("/a");
    assert!(hit.is_hit());
    assert_eq!(
        (hit.field("content-length"), hit.text().as_str()),
        ("10", "0123456789")
    );
    assert!(edge.get("/a").is_hit(), "HTTP/1.1 shares it");
    let head = client.request("HEAD", "/a", &[], b"").expect("an answer");
    assert_eq!((head.field("content-length"), head.body.len()), ("10", 0));
    let same = client.get_with("/a", &[("if-none-match", "\"e\"")]);
    assert_eq!((same.status(), same.body.len()), (304, 0));
    let part = client.get_with("/a", &[("range", "bytes=2-4")]);
    assert_eq!((part.status(), part.text().as_str()), (206, "234"));
    assert_eq!(part.field("content-range"), "bytes 2-4/10");
    for method in ["POST", "PUT", "DELETE"] {
        let answer = client
            .request(method, "/a", &[], b"content")
            .expect("an answer");
        assert_eq!(answer.text(), format!("{method} content"));
    }
    let options = client
        .request("OPTIONS", "/a", &[], b"")
        .expect("an answer");
    assert_eq!(options.text(), "OPTIONS ");
    assert_eq!(
        edge.metrics().count("larder_http2_connections_total", &[]),
        1
    );
    assert_eq!(edge.metrics().count("larder_connections_total", &[]), 2);
}

#[test]
fn the_origin_is_asked_in_http1_and_sees_one_host() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Edge::before(&origin);
    let mut client = Http2::connect(edge.address());
    let fields = [
        ("cookie", "a=b"),
        ("cookie", "c=d"),
        ("te", "trailers"),
        ("x", "y"),
    ];
    client.get_with("/a?b", &fields);
    let asked = &origin.asked()[0];
    assert_eq!(asked.target, "/a?b");
    let field = |name| asked.field(name);
    assert_eq!(field("host").as_deref(), Some(HOST));
    assert_eq!(field("cookie").as_deref(), Some("a=b; c=d"));
    assert_eq!((field("te"), field("x").as_deref()), (None, Some("y")));
    assert_eq!(field("via").as_deref(), Some("2 larder"));
    assert_eq!(field("x-forwarded-proto").as_deref(), Some("http"));
}

#[test]
fn what_is_for_one_connection_is_not_sent_on() {
    let reply = Reply::cached("x")
        .field("Connection", "x-hop, keep-alive")
        .field("Keep-Alive", "timeout=5")
        .field("X-Hop", "1")
        .field("Proxy-Connection", "keep-alive")
        .field("Upgrade", "h2c")
        .chunked();
    let origin = Origin::always(reply);
    let edge = Edge::before(&origin);
    let mut client = Http2::connect(edge.address());
    for target in ["/a", "/a"] {
        let answer = client.get(target);
        for name in [
            "connection",
            "keep-alive",
            "x-hop",
            "proxy-connection",
            "upgrade",
            "transfer-encoding",
        ] {
            assert_eq!(answer.field(name), "", "{name}");
        }
    }
    let posted = client.request("POST", "/a", &[], b"").expect("an answer");
    assert_eq!(posted.text(), "x");
}

#[test]
fn a_hundred_streams_for_one_key_make_one_request() {
    let gate = Gate::default();
    let origin = Origin::always(Reply::cached("x").behind(&gate));
    let edge = Edge::before(&origin);
    let mut client = Http2::connect(edge.address());
    let sent: Vec<_> = (0..100)
        .map(|_| client.send(request("GET", "http", "/a", &[])))
        .collect();
    eventually("all of them to be keyed", || {
        client.run(async { tokio::task::yield_now().await });
        let calls = "larder_policy_calls_total";
        edge.metrics().count(calls, &["hook=\"keying\""]) == 100
    });
    gate.open();
    for answer in sent {
        assert_eq!(client.answer(answer).expect("an answer").text(), "x");
    }
    assert_eq!(origin.total(), 1);
    assert_eq!(edge.metrics().count("larder_connections_total", &[]), 1);
}

#[test]
fn large_answers_share_a_connection() {
    let origin =
        Origin::answering(|_| Reply::pattern(3_000_000).field("Cache-Control", "max-age=60"));
    let edge = Edge::before(&origin);
    let mut client = Http2::connect(edge.address());
    for _ in 0..2 {
        let requests = ["/a", "/b", "/c"]
            .map(|target| request("GET", "http", target, &[]))
            .to_vec();
        for answer in client.all(requests) {
            assert_eq!(answer.body.len(), 3_000_000);
            pattern::check(0, &answer.body);
        }
    }
    assert_eq!(origin.total(), 3);
}

#[test]
fn content_is_passed_on_as_it_comes_and_its_trailers_are_dropped() {
    let origin = Origin::answering(|asked| {
        let framing = asked.field("content-length").unwrap_or_default();
        Reply::ok(format!("{} {framing}", asked.body.len()))
    });
    let edge = Edge::before(&origin);
    let mut client = Http2::connect(edge.address());
    for (fields, expected) in [
        (&[][..], "1000000 "),
        (&[("content-length", "1000000")], "1000000 1000000"),
    ] {
        let (answer, mut stream) = client.begin(request("POST", "http", "/a", fields), false);
        stream
            .send_data(Bytes::from(pattern::bytes(1_000_000)), false)
            .expect("open");
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-trailer", http::HeaderValue::from_static("1"));
        stream.send_trailers(trailers).expect("open");
        let answer = client.answer(answer).expect("an answer");
        assert_eq!(answer.text(), expected);
    }
    for asked in origin.asked() {
        assert_eq!(asked.body, pattern::bytes(1_000_000));
        assert_eq!(asked.field("x-trailer"), None);
    }
}

#[test]
fn a_client_that_waits_is_told_to_go_ahead() {
    let origin = Origin::answering(|asked| Reply::ok(asked.body.clone()));
    let edge = Edge::before(&origin);
    let mut client = Http2::connect(edge.address());
    let fields = [("expect", "100-continue"), ("content-length", "7")];
    let (mut answer, mut stream) = client.begin(request("POST", "http", "/a", &fields), false);
    let interim = client.run(std::future::poll_fn(|cx| answer.poll_informational(cx)));
    let interim = interim.expect("an interim response").expect("sound");
    assert_eq!(interim.status(), 100);
    stream
        .send_data(Bytes::from_static(b"content"), true)
        .expect("open");
    assert_eq!(client.answer(answer).expect("an answer").text(), "content");
    let fields = [("expect", "a-miracle")];
    let refused = client
        .request("POST", "/a", &fields, b"x")
        .expect("an answer");
    assert_eq!(refused.status(), 417);
    assert_eq!(origin.total(), 1);
}

#[test]
fn limits_are_those_of_http1() {
    let origin = Origin::always(Reply::ok("x"));
    let edge = Setup::before(&origin)
        .set("limits.request_body", "1KiB")
        .set("limits.request_fields", "10")
        .start();
    let mut client = Http2::connect(edge.address());
    let long = format!("/{}", "a".repeat(9_000));
    assert_eq!(client.get(&long).status(), 414);
    let many = vec![("x", "y"); 20];
    assert_eq!(client.get_with("/a", &many).status(), 431);
    let large = "a".repeat(40_000);
    let refused = client.request("GET", "/a", &[("x", &large)], b"");
    assert_eq!(refused.expect("an answer").status(), 431);
    let announced = [("content-length", "2000")];
    let body = [0; 2_000];
    let refused = client.request("POST", "/a", &announced, &body);
    assert_eq!(refused.expect("an answer").status(), 413);
    let refused = client.request("POST", "/a", &[], &body);
    assert_eq!(refused.expect("an answer").status(), 413);
    assert_eq!(client.get("/a").status(), 200, "the connection goes on");
}

#[test]
fn an_answer_that_breaks_off_is_reset_and_others_go_on() {
    let origin = Origin::start();
    origin.on("/length", Reply::pattern(100_000).cut_after(50_000));
    origin.on(
        "/chunks",
        Reply::pattern(100_000).chunked().cut_after(50_000),
    );
    origin.on("/sound", Reply::cached("x"));
    let edge = Edge::before(&origin);
    let mut client = Http2::connect(edge.address());
    for target in ["/length", "/chunks"] {
        let broken = client.request("GET", target, &[], b"").expect_err("broken");
        assert_eq!(broken.reason(), Some(Reason::INTERNAL_ERROR), "{broken}");
        assert!(broken.is_reset(), "{broken}");
        assert_eq!(client.get("/sound").text(), "x");
    }
}

#[test]
fn a_client_that_resets_its_request_is_not_answered() {
    let origin = Origin::start();
    let gate = Gate::default();
    origin.on("/held", Reply::ok("x").behind(&gate));
    let edge = Edge::before(&origin);
    let mut client = Http2::connect(edge.address());
    let (answer, mut stream) = client.begin(request("POST", "http", "/held", &[]), true);
    origin.wait_for("/held", 1);
    stream.send_reset(Reason::CANCEL);
    client.run(async { tokio::task::yield_now().await });
    eventually("the request to be counted", || {
        client.run(async { tokio::task::yield_now().await });
        let requests = "larder_requests_total";
        edge.metrics()
            .count(requests, &["cache_status=\"aborted\""])
            == 1
    });
    drop(answer);
    gate.open();
    edge.wait_for_landing();
}

#[test]
fn requests_in_flight_end_before_the_connection_does() {
    let gate = Gate::default();
    let origin = Origin::start();
    origin.on("/quick", Reply::cached("x"));
    origin.on("/held", Reply::cached("y").behind(&gate));
    let mut edge = Edge::before(&origin);
    let mut idle = Http2::connect(edge.address());
    idle.get("/quick");
    let mut client = Http2::connect(edge.address());
    client.get("/quick");
    let answer = client.send(request("GET", "http", "/held", &[]));
    origin.wait_for("/held", 1);
    let seen = edge.log_lines();
    edge.signal(rustix::process::Signal::TERM);
    edge.wait_for_log(seen, "draining");
    assert!(idle.ended().is_ok(), "it had nothing to wait for");
    gate.open();
    assert_eq!(client.answer(answer).expect("an answer").text(), "y");
    assert!(client.ended().is_ok());
    assert!(edge.wait().success());
}

#[test]
fn heads_are_sent_before_content() {
    let gate = Gate::default();
    let origin = Origin::always(Reply::pattern(1_000).pausing(500, &gate));
    let edge = Edge::before(&origin);
    let mut client = Http2::connect(edge.address());
    let answer = client.send(request("GET", "http", "/a", &[]));
    let (status, headers, mut stream) = client.run(head_only(answer)).expect("a head");
    assert_eq!(
        (status.as_u16(), &headers["content-length"]),
        (200, &"1000".parse().unwrap())
    );
    let first = client.run(async { stream.data().await }).expect("content");
    assert_eq!(first.expect("sound"), pattern::bytes(500));
    gate.open();
    let second = client.run(async { stream.data().await }).expect("content");
    pattern::check(500, &second.expect("sound"));
}

#[test]
fn early_hints_are_passed_on_over_both_protocols() {
    let origin = Origin::always(Reply::raw(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    ));
    let edge = Edge::before(&origin);
    for (method, body) in [("GET", ""), ("POST", "content")] {
        let mut client = Http2::connect(edge.address());
        let (mut answer, mut stream) =
            client.begin(request(method, "http", "/a", &[]), body.is_empty());
        if !body.is_empty() {
            stream
                .send_data(Bytes::from_static(body.as_bytes()), true)
                .expect("open");
        }
        let interim = client.run(std::future::poll_fn(|cx| answer.poll_informational(cx)));
        let interim = interim.expect("an interim response").expect("sound");
        assert_eq!(interim.status(), 103);
        assert_eq!(interim.headers()["link"], "</a.css>; rel=preload");
        assert_eq!(client.answer(answer).expect("an answer").text(), "x");
        let mut client = edge.client();
        client.send(crate::support::client::request(
            method,
            "/a",
            &[],
            body.as_bytes(),
        ));
        let interim = client.head();
        assert_eq!((interim.status, interim.field("date")), (103, None));
        assert_eq!(
            interim.field("link").as_deref(),
            Some("</a.css>; rel=preload")
        );
        assert_eq!(client.response(method).text(), "x");
    }
    let mut old = edge.client();
    old.send(format!("GET /a HTTP/1.0\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(old.response("GET").text(), "x");
}

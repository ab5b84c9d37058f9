//! What origins do over HTTP/2 that they cannot do over HTTP/1: refuse a request, leave politely,
//! limit how much they take, and end an answer in more than one way.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use h2::Reason;

use crate::support::client;
use crate::support::edge::{Edge, Setup};
use crate::support::http2::{Http2, head_only, request};
use crate::support::http2_origin::{FrameOrigin, MAX_CONCURRENT_STREAMS, Talk};
use crate::support::pattern;
use crate::support::reply::Gate;
use crate::support::secure::Http2Origin;

const HINTS: [(&str, &str); 2] = [(":status", "103"), ("link", "</a.css>; rel=preload")];

fn failures(edge: &Edge, kind: &str) -> u64 {
    let kind = format!("kind=\"{kind}\"");
    edge.metrics()
        .count("larder_origin_failures_total", &[&kind])
}

/// An origin that answers every request by `answer`.
fn by(answer: impl Fn(&mut Talk, u32) + Send + Sync + 'static) -> FrameOrigin {
    FrameOrigin::start(move |mut talk| {
        while let Some(stream) = talk.request() {
            answer(&mut talk, stream);
        }
    })
}

#[test]
fn hints_arrive_before_the_answer_over_both_protocols() {
    let (go_on, waits) = mpsc::channel();
    let waits = Mutex::new(waits);
    let origin = by(move |talk, stream| {
        talk.head(stream, &[(":status", "100")], false);
        talk.head(stream, &HINTS, false);
        talk.head(stream, &[(":status", "102")], false);
        let waited = waits.lock().expect("sound").recv();
        waited.expect("the test goes on");
        let fields = [(":status", "200"), ("cache-control", "max-age=60")];
        talk.head(stream, &fields, false);
        talk.data(stream, b"a", true);
    });
    let edge = origin.edge("").start();

    let mut one = edge.client();
    one.send(client::request("GET", "/1", &[], b""));
    let early = one.head();
    assert_eq!(early.status, 103);
    let link = early.field("link");
    assert_eq!(link.as_deref(), Some("</a.css>; rel=preload"));
    assert_eq!(one.head().status, 102);
    go_on.send(()).expect("the origin waits");
    assert_eq!(one.response("GET").text(), "a");

    let mut two = Http2::connect(edge.address());
    let mut answer = two.send(request("GET", "http", "/2", &[]));
    for status in [103, 102] {
        let interim = two.run(std::future::poll_fn(|cx| answer.poll_informational(cx)));
        let interim = interim.expect("one").expect("sound");
        assert_eq!(interim.status(), status);
        assert_eq!(interim.headers().contains_key("link"), status == 103);
    }
    go_on.send(()).expect("the origin waits");
    assert_eq!(two.answer(answer).expect("an answer").text(), "a");

    // They were for those clients.
    assert_eq!(edge.get("/1").text(), "a");
    // An old client does not know them.
    go_on.send(()).expect("the origin waits");
    let mut old = edge.client();
    old.send("POST /a HTTP/1.0\r\nHost: edge.test\r\n\r\n");
    assert_eq!(old.response("POST").text(), "a");
}

#[test]
fn only_a_few_interim_responses_are_passed_on() {
    let origin = by(|talk, stream| {
        for _ in 0..1_000 {
            talk.head(stream, &[(":status", "102")], false);
        }
        talk.answer(stream, "a");
    });
    let edge = origin.edge("").start();
    let mut client = edge.client();
    client.send(client::request("GET", "/a", &[], b""));
    let heads = std::iter::repeat_with(|| client.head().status);
    let statuses: Vec<_> = heads.take_while(|status| *status != 200).collect();
    assert_eq!(statuses, [102; 8]);
}

#[test]
fn interim_responses_without_end_do_not_hold_a_request_for_ever() {
    let origin = by(|talk, stream| {
        for _ in 0..1_000 {
            talk.head(stream, &[(":status", "102")], false);
        }
    });
    let edge = origin.edge("[limits]\nfirst_byte = \"500ms\"").start();
    let mut client = edge.client();
    client.send(client::request("POST", "/a", &[], b""));
    let heads = std::iter::repeat_with(|| client.head().status);
    let statuses: Vec<_> = heads.take_while(|status| *status != 504).collect();
    assert_eq!(statuses, [102; 8]);
    assert_eq!(failures(&edge, "timeout"), 1);
}

#[test]
fn a_switch_of_protocols_gives_502() {
    let origin = by(|talk, stream| {
        talk.head(stream, &[(":status", "101")], false);
        talk.answer(stream, "a");
    });
    let edge = origin.edge("").start();
    assert_eq!(edge.get("/a").status(), 502);
    assert_eq!(failures(&edge, "protocol"), 1);
}

#[test]
fn what_was_refused_is_sent_once_more_whatever_the_method() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&sent);
    let origin = by(
        move |talk, stream| match counts.fetch_add(1, Ordering::SeqCst) % 2 {
            0 => talk.reset(stream, Reason::REFUSED_STREAM),
            _ => talk.answer(stream, "a"),
        },
    );
    let edge = origin.edge("retries = 0").start();
    let mut client = edge.client();
    for method in ["GET", "POST", "DELETE"] {
        let response = client.request(method, "/a", &[], b"");
        assert_eq!((response.status(), response.text()), (200, "a".to_owned()));
    }
    assert_eq!(sent.load(Ordering::SeqCst), 6);
    let retries = edge.metrics().count("larder_origin_retries_total", &[]);
    assert_eq!(retries, 3);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_origin_that_refuses_again_is_not_asked_for_ever() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&sent);
    let origin = by(move |talk, stream| {
        counts.fetch_add(1, Ordering::SeqCst);
        talk.reset(stream, Reason::REFUSED_STREAM);
    });
    let edge = origin.edge("").start();
    for (turn, method) in [(1, "GET"), (2, "POST")] {
        let response = edge.client().request(method, "/a", &[], b"");
        assert_eq!(response.status(), 502);
        assert_eq!(sent.load(Ordering::SeqCst), 2 * turn);
    }
    assert_eq!(failures(&edge, "closed"), 2);
}

#[test]
fn content_that_was_taken_is_not_sent_twice() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&sent);
    let origin = by(move |talk, stream| {
        counts.fetch_add(1, Ordering::SeqCst);
        talk.content(stream).expect("content");
        talk.reset(stream, Reason::REFUSED_STREAM);
    });
    let edge = origin.edge("").start();
    let response = edge.client().request("PUT", "/a", &[], b"content");
    assert_eq!(response.status(), 502);
    assert_eq!(sent.load(Ordering::SeqCst), 1);
}

#[test]
fn an_origin_that_leaves_is_asked_over_a_new_connection() {
    // The first connection answers one request, and then leaves without having seen the next.
    let origin = FrameOrigin::start(|mut talk| {
        if talk.number > 0 {
            return talk.answer_all();
        }
        let first = talk.request().expect("a request");
        talk.answer(first, "first");
        talk.request().expect("another request");
        talk.leave(first);
    });
    let edge = origin.edge("retries = 0").start();
    // Both over one worker, and so over one connection.
    let mut client = edge.client();
    for (method, expected) in [("GET", "first"), ("POST", "1"), ("POST", "1")] {
        let response = client.request(method, "/a", &[], b"");
        let got = (response.status(), response.text());
        assert_eq!(got, (200, expected.to_owned()), "{method}");
    }
    assert_eq!(origin.connections(), 2);
}

#[test]
fn what_an_origin_has_begun_it_may_end_before_it_leaves() {
    let gate = Gate::default();
    let waits = gate.clone();
    let origin = FrameOrigin::start(move |mut talk| {
        if talk.number > 0 {
            return talk.answer_all();
        }
        let first = talk.request().expect("a request");
        talk.head(first, &[(":status", "200")], false);
        talk.data(first, b"be", false);
        talk.leave(first);
        waits.pass();
        talk.data(first, b"gun", true);
        talk.listen();
    });
    let edge = origin.edge("").start();
    // Both over one worker.
    let mut client = Http2::connect(edge.address());
    let slow = client.send(request("GET", "http", "/slow", &[]));
    let (status, _, mut stream) = client.run(head_only(slow)).expect("a head");
    assert_eq!(status, 200);
    assert_eq!(client.get("/other").text(), "1");
    gate.open();
    let mut content = Vec::new();
    while let Some(piece) = client.run(async { stream.data().await }) {
        content.extend_from_slice(&piece.expect("all of it"));
    }
    assert_eq!(content, b"begun");
}

#[test]
fn an_origin_is_sent_no_more_at_once_than_it_takes() {
    let gate = Gate::default();
    let (waits, wrong) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
    let counts = Arc::clone(&wrong);
    let (tell, told) = mpsc::channel();
    let settings = [(MAX_CONCURRENT_STREAMS, 1)];
    let origin = FrameOrigin::with_settings(&settings, move |mut talk| {
        while let Some(stream) = talk.request() {
            // Whoever answers a ping has read the settings before it.
            if talk.is_sent_before_pong() {
                counts.fetch_add(1, Ordering::SeqCst);
            }
            tell.send(talk.number).expect("the test waits");
            waits.pass();
            talk.answer(stream, "a");
        }
    });
    let edge = origin.edge("").start();
    let mut client = Http2::connect(edge.address());
    let mut send = |number: usize| {
        let target = format!("/{number}");
        client.send(request("GET", "http", &target, &[]))
    };
    // Each over a connection of its own, until there are as many as there may be.
    let mut answers = Vec::new();
    for number in 0..16 {
        answers.push(send(number));
        assert_eq!(told.recv(), Ok(number));
    }
    answers.extend((16..40).map(&mut send));
    gate.open();
    for answer in answers {
        assert_eq!(client.answer(answer).expect("an answer").text(), "a");
    }
    assert_eq!(wrong.load(Ordering::SeqCst), 0, "more at once");
    assert_eq!(origin.connections(), 16);
}

#[test]
fn a_reset_breaks_content_off_whatever_its_reason() {
    let reasons = [Reason::NO_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR];
    let turn = AtomicUsize::new(0);
    let origin = by(move |talk, stream| {
        let reason = reasons[turn.fetch_add(1, Ordering::SeqCst) % reasons.len()];
        let fields = [(":status", "200"), ("cache-control", "max-age=60")];
        talk.head(stream, &fields, false);
        talk.data(stream, b"half", false);
        talk.reset(stream, reason);
    });
    let edge = origin.edge("").start();
    for _ in reasons {
        let mut client = edge.client();
        client.send(client::request("GET", "/a", &[], b""));
        let broken = client.try_response("GET").expect_err("half of it");
        assert!(b"half".starts_with(&broken.body[..]), "{broken:?}");
    }
    let entries = edge
        .metrics()
        .count("larder_tier_entries", &[r#"tier="memory""#]);
    assert_eq!(entries, 0, "half of it was stored");
}

#[test]
fn content_that_ends_elsewhere_than_announced_breaks_off() {
    let origin = by(|talk, stream| {
        let fields = [(":status", "200"), ("content-length", "5")];
        talk.head(stream, &fields, false);
        talk.data(stream, b"four", true);
    });
    let edge = origin.edge("").start();
    let mut client = edge.client();
    client.send(client::request("GET", "/a", &[], b""));
    assert!(client.try_response("GET").is_err());
}

#[test]
fn an_answer_before_the_end_of_the_request_is_an_answer() {
    // RFC 9113 8.1: it is whole, and the rest of the request is not wanted.
    let origin = by(|talk, stream| {
        talk.content(stream).expect("a part");
        talk.answer(stream, "enough");
        talk.reset(stream, Reason::NO_ERROR);
    });
    let edge = origin.edge("").start();
    let mut client = Http2::connect(edge.address());
    let (answer, mut stream) = client.begin(request("POST", "http", "/a", &[]), false);
    stream
        .send_data(Bytes::from_static(b"part"), false)
        .expect("open");
    let answer = client.answer(answer).expect("an answer");
    assert_eq!((answer.status(), answer.text()), (200, "enough".to_owned()));
}

#[test]
fn a_request_goes_on_while_its_answer_comes() {
    let origin = by(|talk, stream| {
        talk.head(stream, &[(":status", "200")], false);
        loop {
            let (content, last) = talk.content(stream).expect("more");
            talk.data(stream, &content, last);
            if last {
                return;
            }
        }
    });
    let edge = origin.edge("").start();
    let mut client = Http2::connect(edge.address());
    let (answer, mut sending) = client.begin(request("POST", "http", "/a", &[]), false);
    let (status, _, mut stream) = client.run(head_only(answer)).expect("a head");
    assert_eq!(status, 200);
    for word in ["here", "and", "there"] {
        sending
            .send_data(word.into(), word == "there")
            .expect("open");
        let piece = client.run(async { stream.data().await }).expect("content");
        assert_eq!(piece.expect("sound"), word);
    }
    let rest = client.run(async { stream.data().await });
    assert!(rest.is_none_or(|rest| rest.expect("sound").is_empty()));
}

#[test]
fn large_requests_go_no_faster_than_the_origin_takes_them() {
    // RFC 9113 6.9.2: what every window begins with.
    const WINDOW: u32 = 65_535;
    const MORE: u32 = 10_000;
    const TOTAL: usize = 300_000;
    let got = Arc::new(Mutex::new(Vec::new()));
    let collects = Arc::clone(&got);
    let origin = FrameOrigin::start(move |mut talk| {
        let stream = talk.request().expect("a request");
        let (mut received, mut allowed) = (0, u64::from(WINDOW));
        loop {
            let (content, last) = talk.content(stream).expect("more");
            received += pattern::to_u64(content.len());
            assert!(received <= allowed, "{received} of {allowed}");
            collects.lock().expect("sound").extend(content);
            if last {
                break;
            }
            if received == allowed {
                allowed += u64::from(MORE);
                talk.allow(0, MORE);
                talk.allow(stream, MORE);
            }
        }
        talk.answer(stream, "thanks");
        talk.listen();
    });
    let edge = origin.edge("").start();
    let response = edge
        .client()
        .request("POST", "/a", &[], &pattern::bytes(TOTAL));
    assert_eq!(response.text(), "thanks");
    let got = got.lock().expect("sound");
    assert_eq!(got.len(), TOTAL);
    pattern::check(0, &got);
}

#[test]
fn clients_that_take_nothing_hold_up_nobody_else_on_their_connection() {
    let origin = Http2Origin::start(None);
    let edge = Setup::new()
        .config(&format!(
            "[[site]]\norigin = \"http://{}\"\norigin_protocol = \"h2\"",
            origin.address
        ))
        .start();
    let slow = |_| {
        let mut client = edge.client();
        client.read_slowly();
        client.send(client::request("GET", "/large/16000000", &[], b""));
        assert_eq!(client.head().status, 200);
        client
    };
    let slow: Vec<_> = (0..24).map(slow).collect();
    for number in 0..40 {
        let target = format!("/small/{number}");
        assert_eq!(edge.get(&target).text(), format!("{target} "));
    }
    drop(slow);
}

#[test]
fn an_origin_that_takes_no_more_of_a_request_times_out() {
    let origin = by(|_, _| {});
    let edge = origin.edge("[limits]\nfirst_byte = \"300ms\"").start();
    let content = pattern::bytes(1 << 20);
    let response = edge.client().request("POST", "/a", &[], &content);
    assert_eq!(response.status(), 504);
    assert_eq!(failures(&edge, "timeout"), 1);
}

#[test]
fn content_of_a_client_that_is_too_large_is_the_clients_fault() {
    let (tell, told) = mpsc::channel();
    let origin = by(move |talk, stream| {
        tell.send(talk.was_reset(stream)).expect("the test waits");
    });
    let edge = origin.edge("[limits]\nrequest_body = \"1KiB\"").start();
    let chunk = format!("400\r\n{}\r\n", "x".repeat(0x400));
    let mut client = edge.client();
    client.send("POST /a HTTP/1.1\r\nHost: edge.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.offer(format!("{chunk}{chunk}0\r\n\r\n"));
    assert_eq!(client.response("POST").status(), 413);
    assert_eq!(told.recv().expect("a reset"), Some(Reason::CANCEL));
    let failed = edge.metrics().count("larder_origin_failures_total", &[]);
    assert_eq!(failed, 0);
}

#[test]
fn a_client_that_leaves_cancels_its_request() {
    let (tell, told) = mpsc::channel();
    let arrived = Gate::default();
    let opens = arrived.clone();
    let origin = by(move |talk, stream| {
        opens.open();
        tell.send(talk.was_reset(stream)).expect("the test waits");
    });
    let edge = origin.edge("").start();
    let mut client = edge.client();
    client.send(client::request("POST", "/a", &[], b""));
    arrived.pass();
    drop(client);
    assert_eq!(told.recv().expect("a reset"), Some(Reason::CANCEL));
}

#[test]
fn what_no_origin_may_say_gives_502() {
    let long = "x".repeat(5_000);
    let mut large = vec![("x-long", long.as_str()); 60];
    large.insert(0, (":status", "200"));
    let cases: [&[(&str, &str)]; 5] = [
        &[(":status", "200"), ("connection", "close")],
        &[(":status", "200"), ("transfer-encoding", "chunked")],
        &[
            (":status", "200"),
            ("content-length", "1"),
            ("content-length", "2"),
        ],
        &[("x-own", "1")],
        &large,
    ];
    for fields in cases {
        let owned: Vec<(String, String)> = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let origin = by(move |talk, stream| {
            let fields: Vec<_> = owned
                .iter()
                .map(|(n, v)| (n.as_str(), v.as_str()))
                .collect();
            talk.head(stream, &fields, true);
        });
        let edge = origin.edge("").start();
        assert_eq!(
            edge.get("/a").status(),
            502,
            "{:?}",
            fields[1 % fields.len()]
        );
        assert_eq!(failures(&edge, "protocol"), 1);
    }
}

#[test]
fn an_answer_to_head_has_a_length_and_no_content() {
    let turn = AtomicUsize::new(0);
    let origin = by(move |talk, stream| {
        let fields = [
            (":status", "200"),
            ("content-length", "5"),
            ("cache-control", "private"),
        ];
        let is_head = turn.fetch_add(1, Ordering::SeqCst) > 0;
        talk.head(stream, &fields, is_head);
        if !is_head {
            talk.data(stream, b"hello", true);
        }
    });
    let edge = origin.edge("").start();
    assert_eq!(edge.get("/a").text(), "hello");
    // It is known not to be shared now, so the origin is asked as the client asks.
    let response = edge.client().request("HEAD", "/a", &[], b"");
    assert_eq!((response.status(), response.text()), (200, String::new()));
    assert_eq!(response.field("content-length").as_deref(), Some("5"));
}

//! What is added to responses and requests on their way, and what is taken out.

use crate::support::edge::{Edge, Setup};
use crate::support::origin::Origin;
use crate::support::reply::Reply;

#[test]
fn a_stored_response_tells_its_age_its_way_and_its_outcome() {
    let origin = Origin::always(Reply::cached("a").field("Age", "20"));
    let edge = Edge::before(&origin);
    let miss = edge.get("/a");
    let status = miss.cache_status();
    // The time that the origin took counts as age, so a second may be gone.
    let expected =
        ["40", "39"].map(|ttl| format!("larder; fwd=uri-miss; fwd-status=200; ttl={ttl}; stored"));
    assert!(expected.contains(&status), "{status}");
    assert_eq!(miss.field("via").as_deref(), Some("1.1 larder"));
    let hit = edge.get("/a");
    let age = hit.age().expect("a response from store has an age");
    assert!((20..=40).contains(&age), "{age}");
    assert_eq!(hit.cache_status(), format!("larder; hit; ttl={}", 60 - age));
    assert_eq!(hit.field("via").as_deref(), Some("1.1 larder"));
    assert_eq!(
        hit.field("date"),
        miss.field("date"),
        "Date is when the origin made it"
    );
    assert_eq!(hit.head.lines("date").len(), 1);
}

#[test]
fn a_response_without_date_gets_one() {
    let bytes = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 1\r\n\r\na";
    let origin = Origin::always(Reply::raw(bytes));
    let edge = Edge::before(&origin);
    let date = edge.get("/a").field("date").expect("a date");
    assert!(httpdate::parse_http_date(&date).is_ok(), "{date}");
    assert_eq!(edge.get("/a").field("date"), Some(date));
}

#[test]
fn an_outcome_upstream_stands_before_ours() {
    let reply = Reply::cached("a")
        .field("Cache-Status", "far; hit")
        .field("Via", "1.0 far");
    let origin = Origin::always(reply);
    let edge = Edge::before(&origin);
    for start in ["far; hit, larder; fwd=uri-miss", "far; hit, larder; hit"] {
        let response = edge.get("/a");
        assert!(
            response.cache_status().starts_with(start),
            "{}",
            response.cache_status()
        );
        assert_eq!(
            response.field("via").as_deref(),
            Some("1.0 far, 1.1 larder")
        );
    }
}

#[test]
fn via_names_the_version_that_a_response_came_over() {
    // RFC 9110 7.6.3: the protocol received, not the one spoken on.
    for (version, via) in [("HTTP/1.0", "1.0 larder"), ("HTTP/1.1", "1.1 larder")] {
        let fields = "Content-Length: 1\r\nCache-Control: max-age=60";
        let origin = Origin::always(Reply::raw(format!("{version} 200 OK\r\n{fields}\r\n\r\na")));
        let edge = Edge::before(&origin);
        for _ in 0..2 {
            assert_eq!(edge.get("/a").field("via").as_deref(), Some(via));
        }
    }
}

#[test]
fn end_to_end_fields_arrive_as_they_were_sent() {
    let reply = Reply::cached("a")
        .field("X-One", "1")
        .field("X-One", "2")
        .field("Set-Cookie", "a=b")
        .field("Set-Cookie", "c=d")
        .field("Content-Type", "text/x-odd; q=\"a,b\"")
        .field("Content-Encoding", "gzip");
    let origin = Origin::always(reply);
    let edge = Edge::before(&origin);
    for _ in 0..2 {
        let head = edge.get("/a").head;
        assert_eq!(head.lines("x-one"), ["1", "2"]);
        assert_eq!(head.lines("set-cookie"), ["a=b", "c=d"]);
        assert_eq!(
            head.field("content-type").as_deref(),
            Some("text/x-odd; q=\"a,b\"")
        );
        assert_eq!(head.field("content-encoding").as_deref(), Some("gzip"));
    }
    assert_eq!(origin.total(), 1);
}

#[test]
fn hop_by_hop_fields_go_no_further() {
    let reply = Reply::cached("a")
        .field("Connection", "X-Hop")
        .field("X-Hop", "1")
        .field("Keep-Alive", "timeout=1")
        .field("Proxy-Authenticate", "Basic");
    let origin = Origin::always(reply);
    let edge = Edge::before(&origin);
    let sent = [
        ("Connection", "x-mine, host"),
        ("X-Mine", "1"),
        ("Keep-Alive", "1"),
        ("TE", "trailers"),
        ("Upgrade", "websocket"),
        ("Proxy-Authorization", "Basic eA=="),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Stays", "yes"),
    ];
    for _ in 0..2 {
        let head = edge.get_with("/a", &sent).head;
        for gone in ["x-hop", "keep-alive", "proxy-authenticate"] {
            assert_eq!(head.field(gone), None, "{gone}");
        }
    }
    let asked = &origin.asked()[0];
    for gone in [
        "x-mine",
        "keep-alive",
        "te",
        "upgrade",
        "proxy-authorization",
    ] {
        assert_eq!(asked.field(gone), None, "{gone}");
    }
    assert_eq!(asked.field("host").as_deref(), Some("edge.test"));
    assert_eq!(asked.field("x-stays").as_deref(), Some("yes"));
    assert_eq!(asked.field("via").as_deref(), Some("1.1 larder"));
}

#[test]
fn the_origin_is_told_who_asks_whatever_the_client_says() {
    let origin = Origin::always(Reply::cached("a"));
    let says = [
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.test"),
    ];
    let told = |edge: &Edge, method: &str| {
        let turn = origin.total();
        edge.client().request(method, "/a", &says, b"");
        let asked = &origin.asked()[turn];
        ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"]
            .map(|name| asked.field(name).unwrap_or_default())
    };
    let edge = Edge::before(&origin);
    let trusting = Setup::before(&origin).set("trusted", "127.0.0.1").start();
    for method in ["GET", "POST"] {
        assert_eq!(told(&edge, method), ["127.0.0.1", "http", "edge.test"]);
        let chain = "10.0.0.1, 127.0.0.1";
        assert_eq!(told(&trusting, method), [chain, "https", "edge.test"]);
    }
    // The scheme that a trusted client tells is in the key.
    let key = trusting.get_with("/a", &says).cache_status();
    assert!(key.contains("https://edge.test/a"), "{key}");
    assert!(!trusting.get("/a").is_hit());
}

#[test]
fn the_origin_sees_the_host_that_the_site_is_configured_with() {
    let origin = Origin::always(Reply::cached("a"));
    let edge = Setup::site(&origin, "host = \"inner.test\"").start();
    edge.get("/a");
    assert_eq!(
        origin.asked()[0].field("host").as_deref(),
        Some("inner.test")
    );
}

#[test]
fn keys_and_details_are_shown_to_trusted_clients_only() {
    let origin = Origin::always(Reply::cached("a"));
    let open = Setup::before(&origin).set("trusted", "127.0.0.0/8").start();
    for _ in 0..2 {
        let status = open.get("/a?b=c").cache_status();
        assert!(
            status.contains("key=\"http://edge.test/a?b=c\""),
            "{status}"
        );
        assert!(status.contains("detail="), "{status}");
    }
    let closed = Edge::before(&origin);
    for _ in 0..2 {
        let status = closed.get("/a?b=c").cache_status();
        assert!(
            !status.contains("key=") && !status.contains("detail="),
            "{status}"
        );
    }
}

#[test]
fn hundreds_of_fields_of_an_origin_arrive_and_are_stored() {
    let names: Vec<String> = (0..400).map(|number| format!("X-{number}")).collect();
    let reply = names
        .iter()
        .fold(Reply::cached("a"), |reply, name| reply.field(name, "v"));
    let edge = Edge::before(&Origin::always(reply));
    for outcome in ["fwd=uri-miss", "hit"] {
        let answer = edge.get("/a");
        assert_eq!(answer.status(), 200);
        assert!(answer.cache_status().contains(outcome));
        assert!(names.iter().all(|name| answer.field(name).is_some()));
    }
}

//! Swaps under load: nobody notices but the keys.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::fixtures;
use crate::load::{self, telling_origin, told};
use crate::site::{active, calls, push, use_policy};
use crate::support::edge::Edge;
use crate::support::eventually;
use crate::support::origin::Origin;
use crate::support::reply::{Gate, Reply};

#[test]
fn a_swap_under_load_fails_no_request_and_changes_the_keys() {
    // Whatever is asked for, so that answers under rewritten targets are right as well.
    let origin = Origin::always(Reply::cached(told("anything")));
    let edge = Edge::before(&origin);
    push(&edge, fixtures::rogue());
    let anything = |number: usize| (format!("/{}?n={number}", number % 4), "anything".to_owned());
    let before = calls(&edge, "keying");
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..load::CLIENTS {
            scope.spawn(|| {
                let mut client = edge.client();
                while !stop.load(Ordering::Acquire) {
                    let number = sent.fetch_add(1, Ordering::AcqRel);
                    let answer = client.get(&format!("/{}?n={}", number % 4, number % 8));
                    assert_eq!((answer.status(), answer.text()), (200, told("anything")));
                }
            });
        }
        for round in 0..20 {
            let params = json!({ "mode": "path", "variant": format!("{round}") });
            use_policy(&edge, "keying", "rogue", &params);
            let seen = sent.load(Ordering::Acquire);
            eventually("traffic goes on", || {
                sent.load(Ordering::Acquire) > seen + 20
            });
        }
        stop.store(true, Ordering::Release);
    });
    assert_eq!(
        calls(&edge, "keying") - before,
        sent.load(Ordering::Acquire),
        "one call a request"
    );

    // The keys change with the policy, and with nothing else.
    use_policy(
        &edge,
        "keying",
        "rogue",
        &json!({ "mode": "path", "variant": "last" }),
    );
    let total = origin.total();
    load::run(&edge, 40, anything);
    assert_eq!(
        origin.total() - total,
        4,
        "one response for each path, none from before"
    );
    use_policy(&edge, "keying", "native:default", &json!({}));
    let total = origin.total();
    load::run(&edge, 40, |number| {
        (format!("/new?n={number}"), "anything".to_owned())
    });
    assert_eq!(origin.total() - total, 40, "every query is a key again");
}

#[test]
fn a_request_in_flight_keeps_the_version_it_began_with() {
    let origin = telling_origin();
    let gate = Gate::default();
    let slow = gate.clone();
    origin.route("/slow", move |asked| {
        Reply::cached(told(&asked.target)).behind(&slow)
    });
    let edge = Edge::before(&origin);
    push(&edge, fixtures::rogue());
    use_policy(
        &edge,
        "keying",
        "rogue",
        &json!({ "mode": "path", "variant": "old" }),
    );
    use_policy(
        &edge,
        "freshness",
        "rogue",
        &json!({ "mode": "store", "lifetime_ms": 7_000 }),
    );
    let mut client = edge.client();
    client.send("GET /slow?n HTTP/1.1\r\nHost: edge.test\r\n\r\n");
    origin.wait_for("/slow", 1);
    use_policy(
        &edge,
        "keying",
        "rogue",
        &json!({ "mode": "path", "variant": "new" }),
    );
    use_policy(
        &edge,
        "freshness",
        "rogue",
        &json!({ "mode": "store", "lifetime_ms": 9_000 }),
    );
    gate.open();
    assert_eq!(client.response("GET").text(), told("/slow"));
    edge.flush();

    // It is stored, under the old key and with the old lifetime.
    let explain = || edge.admin_get("/v1/explain?url=http://edge.test/slow").1;
    assert_eq!(explain()["verdict"], "miss");
    use_policy(
        &edge,
        "keying",
        "rogue",
        &json!({ "mode": "path", "variant": "old" }),
    );
    let report = explain();
    assert_eq!(
        (&report["verdict"], &report["lifetime_s"]),
        (&json!("hit"), &json!(7)),
        "{report}"
    );
    assert_eq!(origin.count("/slow"), 1);
}

#[test]
fn keying_is_called_once_for_every_request() {
    let origin = telling_origin();
    origin.on(
        "/uncached",
        Reply::ok("x").field("Cache-Control", "no-store"),
    );
    let edge = Edge::before(&origin);
    push(&edge, fixtures::rogue());
    let mut expected = calls(&edge, "keying");
    for params in [
        None,
        Some(json!({ "mode": "echo" })),
        Some(json!({ "mode": "pass" })),
    ] {
        if let Some(params) = params {
            use_policy(&edge, "keying", "rogue", &params);
        }
        let mut client = edge.client();
        for (method, target) in [
            ("GET", "/a"),
            ("GET", "/a"),
            ("HEAD", "/a"),
            ("HEAD", "/b"),
            ("GET", "/uncached"),
            ("GET", "/uncached"),
            ("POST", "/a"),
            ("DELETE", "/b"),
            ("OPTIONS", "/"),
        ] {
            client.request(method, target, &[], b"");
            expected += 1;
            assert_eq!(calls(&edge, "keying"), expected, "{method} {target}");
        }
        // Refused before a site is found: no policy is asked.
        let refused = edge.client().request("GET", "/", &[("Host", "a b")], b"");
        assert_eq!(refused.status(), 400);
        // Explaining is not a request.
        edge.admin_get("/v1/explain?url=http://edge.test/a");
        assert_eq!(calls(&edge, "keying"), expected);
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a figure for whoever reads along")]
fn push_and_use_are_visible_at_once() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    let wasm = fixtures::rogue();
    let start = Instant::now();
    let version = push(&edge, wasm);
    use_policy(&edge, "keying", "rogue", &json!({ "mode": "path" }));
    let answer = edge.get("/a?b");
    let took = start.elapsed();
    assert_eq!(answer.text(), told("/a"));
    assert_eq!(active(&edge, "keying"), format!("rogue@{version}"));
    eprintln!(
        "push and use of {} bytes, visible after {took:?}",
        wasm.len()
    );
    // A second with nothing else to do; here are other tests, and a compiler built for debugging.
    assert!(took < Duration::from_secs(10), "{took:?}");
}

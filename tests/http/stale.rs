//! Stale responses that may be used: while they are validated, and while the origin fails.

use crate::support::edge::Edge;
use crate::support::eventually;
use crate::support::origin::Origin;
use crate::support::reply::{Gate, Reply};

fn aged(body: &str, control: &str) -> Reply {
    Reply::ok(body)
        .field("Cache-Control", control)
        .field("Age", "100")
}

#[test]
fn a_stale_response_is_served_at_once_and_validated_once() {
    let origin = Origin::start();
    let gate = Gate::default();
    let old = aged("old", "max-age=60, stale-while-revalidate=1000");
    let new = Reply::cached("new");
    origin.sequence("/a", vec![old, new.behind(&gate)]);
    let edge = Edge::before(&origin);
    edge.get("/a");
    // The origin answers nothing before the gate opens, and none of these waits for it.
    for _ in 0..20 {
        let response = edge.get("/a");
        assert_eq!(response.text(), "old");
        let status = response.cache_status();
        assert!(status.starts_with("larder; hit; ttl=-4"), "{status}");
    }
    origin.wait_for("/a", 2);
    gate.open();
    eventually("the new response to be stored", || {
        edge.get("/a").text() == "new"
    });
    assert_eq!(origin.total(), 2);
}

#[test]
fn a_validation_in_the_background_refreshes_by_304() {
    let origin = Origin::start();
    let control = "max-age=60, stale-while-revalidate=1000";
    let confirmed = Reply::status(304)
        .field("ETag", "\"one\"")
        .field("Cache-Control", control);
    origin.sequence(
        "/a",
        vec![aged("content", control).field("ETag", "\"one\""), confirmed],
    );
    let edge = Edge::before(&origin);
    edge.get("/a");
    edge.get("/a");
    eventually("the response to be fresh", || {
        !edge
            .get("/a")
            .cache_status()
            .starts_with("larder; hit; ttl=-")
    });
    assert_eq!(
        origin.asked()[1].field("if-none-match").as_deref(),
        Some("\"one\"")
    );
    assert_eq!(origin.total(), 2);
}

#[test]
fn a_stale_response_stands_in_for_a_failing_origin() {
    let control = "max-age=60, stale-if-error=1000";
    for failure in [
        Reply::status(500),
        Reply::status(503).body("down"),
        Reply::nothing(),
    ] {
        let origin = Origin::start();
        origin.on("/a", aged("old", control));
        let edge = Edge::before(&origin);
        edge.get("/a");
        origin.on("/a", failure);
        let second = edge.get("/a");
        assert_eq!((second.status(), second.text().as_str()), (200, "old"));
        // It was forwarded, in vain, so it is no hit (RFC 9211 2.1).
        let status = second.cache_status();
        assert!(status.starts_with("larder; fwd=stale"), "{status}");
        assert!(status.contains("; ttl=-4"), "{status}");
        edge.wait_for_landing();
        origin.on("/a", Reply::cached("new"));
        eventually("it to be asked again", || edge.get("/a").text() == "new");
    }
}

#[test]
fn an_error_that_may_not_be_covered_is_shown() {
    for control in [
        "max-age=60",
        "max-age=60, stale-if-error=10",
        "s-maxage=60, stale-if-error=1000",
    ] {
        let origin = Origin::start();
        let old = aged("old", control).field("ETag", "\"one\"");
        origin.sequence(
            "/a",
            vec![old, Reply::status(503).body("down"), Reply::cached("new")],
        );
        let edge = Edge::before(&origin);
        edge.get("/a");
        let second = edge.get("/a");
        assert_eq!(
            (second.status(), second.text().as_str()),
            (503, "down"),
            "{control}"
        );
        assert_eq!(edge.get("/a").text(), "new", "{control}");
    }
}

#[test]
fn what_must_be_validated_is_never_served_stale() {
    let origin = Origin::start();
    let control = "max-age=60, must-revalidate, stale-while-revalidate=1000, stale-if-error=1000";
    let old = aged("old", control).field("ETag", "\"one\"");
    origin.sequence("/a", vec![old, Reply::nothing()]);
    let edge = Edge::before(&origin);
    edge.get("/a");
    let second = edge.get("/a");
    assert!(matches!(second.status(), 502 | 504), "{second:?}");
    assert_ne!(second.text(), "old");
}

#[test]
fn s_maxage_turns_stale_while_revalidate_off() {
    let origin = Origin::start();
    let old = aged("old", "s-maxage=60, stale-while-revalidate=1000").field("ETag", "\"one\"");
    origin.sequence("/a", vec![old, Reply::cached("new")]);
    let edge = Edge::before(&origin);
    edge.get("/a");
    assert_eq!(edge.get("/a").text(), "new");
}

#[test]
fn what_the_origin_has_taken_back_is_not_served_any_longer() {
    let control = "max-age=60, stale-while-revalidate=1000, stale-if-error=1000";
    for (gone, status, text) in [
        (Reply::status(404).body("gone"), 404, "gone"),
        (Reply::status(410).body("gone"), 410, "gone"),
        (
            Reply::ok("mine").field("Cache-Control", "no-store"),
            200,
            "mine",
        ),
        (
            Reply::ok("mine").field("Cache-Control", "private"),
            200,
            "mine",
        ),
        (Reply::status(303).body("away"), 303, "away"),
        // These are of the moment, or of who asks.
        (Reply::status(403).body("not you"), 200, "old"),
        (Reply::status(429).body("not now"), 200, "old"),
        (Reply::status(503).body("down"), 200, "old"),
    ] {
        let origin = Origin::start();
        let old = aged("old", control).field("ETag", "\"one\"");
        origin.sequence("/a", vec![old, gone]);
        let edge = Edge::before(&origin);
        edge.get("/a");
        assert_eq!(edge.get("/a").text(), "old", "{status} {text}");
        origin.wait_for("/a", 2);
        edge.wait_for_landing();
        let third = edge.get("/a");
        assert_eq!((third.status(), third.text().as_str()), (status, text));
    }
}

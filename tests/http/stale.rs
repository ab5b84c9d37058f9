//! Stale responses that may be used: while they are validated, and while the origin fails.

use crate::support::edge::{Edge, Setup};
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

#[test]
fn a_stale_response_stands_in_for_an_origin_out_of_reach() {
    let tag = ("ETag", "\"one\"");
    for (control, asked, status) in [
        ("max-age=60", "", 200),
        ("max-age=60, public", "max-stale=1", 200),
        ("max-age=60, stale-if-error=10", "", 502),
        ("max-age=60, must-revalidate", "", 502),
        ("max-age=60, proxy-revalidate", "", 502),
        ("s-maxage=60", "", 502),
        ("no-cache", "", 502),
        ("max-age=60", "no-cache", 502),
        ("max-age=60", "max-age=1000", 502),
    ] {
        let origin = Origin::start();
        let old = aged("old", control).field(tag.0, tag.1);
        origin.sequence("/a", vec![old, Reply::nothing()]);
        let edge = Edge::before(&origin);
        edge.get("/a");
        // First by failing, then because it is known to fail.
        for _ in 0..5 {
            let response = edge.get_with("/a", &[("Cache-Control", asked)]);
            assert_eq!(response.status(), status, "{control}, {asked}");
            assert_eq!(response.text() == "old", status == 200);
        }
    }
}

#[test]
fn how_long_it_stands_in_is_the_sites_to_say() {
    for (setting, age, status) in [
        (None, "86000", 200),
        (None, "87000", 502),
        (Some("0s"), "61", 502),
        (Some("10m"), "600", 200),
        (Some("10m"), "700", 502),
    ] {
        let origin = Origin::start();
        let old = Reply::ok("old")
            .field("Cache-Control", "max-age=60")
            .field("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
            .field("Age", age);
        origin.sequence("/a", vec![old, Reply::nothing()]);
        let line = setting.map(|time| format!("stale_if_error = \"{time}\""));
        let edge = Setup::site(&origin, &line.unwrap_or_default()).start();
        edge.get("/a");
        assert_eq!(edge.get("/a").status(), status, "{setting:?} {age}");
    }
}

#[test]
fn a_stored_error_stands_in_for_none() {
    let origin = Origin::start();
    let old = Reply::status(503)
        .field("Cache-Control", "max-age=60")
        .field("ETag", "\"one\"")
        .field("Age", "100");
    origin.sequence("/a", vec![old, Reply::nothing()]);
    let edge = Edge::before(&origin);
    edge.get("/a");
    assert_eq!(edge.get("/a").status(), 502);
}

//! Soft purges: stale at once, and used as stale responses are.

use serde_json::json;

use crate::support::edge::Edge;
use crate::support::origin::Origin;
use crate::support::reply::{Gate, Reply};

fn soften(edge: &Edge) {
    let (status, purged) = edge.admin_post("/v1/purge", &json!({ "tags": ["t"], "soft": true }));
    assert_eq!(
        (status, purged.get("entries")),
        (200, Some(&json!(1))),
        "{purged}"
    );
}

fn tagged(body: &str, cache_control: &str) -> Reply {
    Reply::ok(body)
        .field("Cache-Control", cache_control)
        .field("Surrogate-Key", "t")
        .field("ETag", "\"v\"")
}

#[test]
fn what_is_soft_purged_is_validated_before_it_is_used_again() {
    let origin = Origin::start();
    origin.route("/a", |asked| match asked.field("if-none-match") {
        Some(_) => Reply::status(304).field("ETag", "\"v\""),
        None => tagged("content", "max-age=60"),
    });
    let edge = Edge::before(&origin);
    edge.get("/a");
    assert!(edge.get("/a").is_hit());
    for round in 2..4 {
        // The 304 does not repeat the tag, and the entry keeps it.
        soften(&edge);
        let after = edge.get("/a");
        assert_eq!(after.text(), "content");
        assert!(
            after.cache_status().contains("fwd=stale; fwd-status=304"),
            "{after:?}"
        );
        assert_eq!(origin.count("/a"), round);
        assert!(edge.get("/a").is_hit(), "fresh again");
    }
}

#[test]
fn its_windows_begin_with_the_purge() {
    let origin = Origin::start();
    let gate = Gate::default();
    let held = gate.clone();
    origin.route("/a", move |asked| {
        let lifetime = "max-age=60, stale-while-revalidate=60";
        match asked.turn {
            0 => tagged("old", lifetime),
            _ => tagged("new", lifetime).behind(&held),
        }
    });
    let edge = Edge::before(&origin);
    edge.get("/a");
    soften(&edge);
    for _ in 0..3 {
        assert_eq!(edge.get("/a").text(), "old", "while it is validated");
    }
    origin.wait_for("/a", 2);
    gate.open();
    edge.wait_for_landing();
    assert_eq!(edge.get("/a").text(), "new");
    assert_eq!(origin.count("/a"), 2);
}

#[test]
fn it_stands_in_when_the_origin_fails_only_if_the_origin_allowed_that() {
    for (lifetime, expected) in [
        ("max-age=60, stale-if-error=60", (200, "old")),
        ("max-age=60, must-revalidate", (503, "")),
    ] {
        let origin = Origin::start();
        origin.sequence("/a", vec![tagged("old", lifetime), Reply::status(503)]);
        let edge = Edge::before(&origin);
        edge.get("/a");
        soften(&edge);
        let after = edge.get("/a");
        assert_eq!((after.status(), &*after.text()), expected, "{lifetime}");
    }
}

#[test]
fn a_validation_under_way_does_not_undo_it() {
    let origin = Origin::start();
    let gate = Gate::default();
    let held = gate.clone();
    origin.route("/a", move |asked| match asked.turn {
        0 => tagged("content", "max-age=0"),
        1 => Reply::status(304)
            .field("ETag", "\"v\"")
            .field("Cache-Control", "max-age=60")
            .behind(&held),
        _ => tagged("new", "max-age=60"),
    });
    let edge = Edge::before(&origin);
    edge.get("/a");
    std::thread::scope(|scope| {
        let before = scope.spawn(|| edge.get("/a"));
        origin.wait_for("/a", 2);
        soften(&edge);
        gate.open();
        assert_eq!(before.join().expect("it is answered").text(), "content");
    });
    edge.wait_for_landing();
    assert_eq!(edge.get("/a").text(), "new", "it was not made fresh");
}

//! Purges that land while a fetch is under way are not undone by it.

use serde_json::{Value, json};

use crate::support::client::{HOST, request};
use crate::support::edge::Edge;
use crate::support::origin::Origin;
use crate::support::reply::{Gate, Reply};

fn tagged(body: &str) -> Reply {
    Reply::cached(body)
        .field("Surrogate-Key", "t")
        .field("ETag", "\"v\"")
}

fn forms() -> Vec<Value> {
    vec![
        json!({ "tags": ["t"] }),
        json!({ "tags": ["t"], "soft": true }),
        json!({ "urls": [format!("http://{HOST}/d/a")] }),
        json!({ "keys": [format!("http://{HOST}/d/a")] }),
        json!({ "prefixes": [format!("{HOST}/d")] }),
        json!({ "prefixes": [format!("{HOST}/d/a")], "soft": true }),
        json!({ "hosts": [HOST] }),
        json!({ "all": true, "site": "default" }),
        json!({ "all": true }),
    ]
}

/// Purges while the origin has not answered yet, so that nobody knows the tags of the answer.
fn before_the_head(asked: &Value, vary: bool) {
    let origin = Origin::start();
    let gate = Gate::default();
    let held = gate.clone();
    origin.route("/d/a", move |asked| {
        let reply = match asked.turn {
            0 => tagged("old").behind(&held),
            _ => tagged("new"),
        };
        if vary {
            reply.field("Vary", "X")
        } else {
            reply
        }
    });
    let edge = Edge::before(&origin);
    let mut before = edge.client();
    before.send(request("GET", "/d/a", &[], b""));
    origin.wait_for("/d/a", 1);
    let (status, purged) = edge.admin_post("/v1/purge", asked);
    assert_eq!(status, 200, "{purged}");
    // Who comes after the purge does not join what began before it.
    assert_eq!(edge.get("/d/a").text(), "new", "{asked}");
    gate.open();
    assert_eq!(
        before.response("GET").text(),
        "old",
        "who waited is answered"
    );
    edge.wait_for_landing();
    let after = edge.get("/d/a");
    assert_eq!((&*after.text(), after.is_hit()), ("new", true), "{asked}");
    assert_eq!(origin.total(), 2, "{asked}");
}

#[test]
fn a_purge_before_the_head_of_the_answer_counts() {
    for asked in forms() {
        before_the_head(&asked, false);
        before_the_head(&asked, true);
    }
}

#[test]
fn a_purge_of_something_else_leaves_a_fetch_alone() {
    for asked in [
        json!({ "tags": ["other"] }),
        json!({ "prefixes": [format!("{HOST}/e")] }),
        json!({ "hosts": ["other.test"] }),
    ] {
        let origin = Origin::start();
        let gate = Gate::default();
        origin.on("/d/a", tagged("content").behind(&gate));
        let edge = Edge::before(&origin);
        let mut before = edge.client();
        before.send(request("GET", "/d/a", &[], b""));
        origin.wait_for("/d/a", 1);
        assert_eq!(edge.admin_post("/v1/purge", &asked).0, 200);
        gate.open();
        assert_eq!(before.response("GET").text(), "content");
        edge.wait_for_landing();
        assert!(edge.get("/d/a").is_hit(), "{asked}");
    }
}

#[test]
fn a_validation_under_way_brings_nothing_back() {
    for asked in forms() {
        let origin = Origin::start();
        let gate = Gate::default();
        let held = gate.clone();
        origin.route("/d/a", move |asked| match asked.turn {
            0 => tagged("old").field("Age", "60"),
            // It does not repeat the tags.
            1 => Reply::status(304)
                .field("ETag", "\"v\"")
                .field("Cache-Control", "max-age=60")
                .behind(&held),
            _ => tagged("new"),
        });
        let edge = Edge::before(&origin);
        edge.get("/d/a");
        let mut before = edge.client();
        before.send(request("GET", "/d/a", &[], b""));
        origin.wait_for("/d/a", 2);
        let (status, purged) = edge.admin_post("/v1/purge", &asked);
        assert_eq!((status, &purged["entries"]), (200, &json!(1)), "{asked}");
        gate.open();
        assert_eq!(
            before.response("GET").text(),
            "old",
            "who waited is answered"
        );
        edge.wait_for_landing();
        assert_eq!(edge.get("/d/a").text(), "new", "{asked}");
    }
}

#[test]
fn a_part_under_way_brings_nothing_back() {
    for asked in forms() {
        let origin = Origin::start();
        let gate = Gate::default();
        let held = gate.clone();
        origin.route("/d/a", move |asked| {
            let part = |range: &str, body: &str| {
                Reply::status(206)
                    .body(body)
                    .field("Content-Range", format!("bytes {range}/6"))
                    .field("Cache-Control", "max-age=60")
                    .field("Surrogate-Key", "t")
            };
            match asked.turn {
                0 => part("0-2", "old").field("ETag", "\"v\""),
                1 => part("3-5", "old").field("ETag", "\"v\"").behind(&held),
                _ => Reply::cached("newnew").field("ETag", "\"w\""),
            }
        });
        let edge = Edge::before(&origin);
        edge.get_with("/d/a", &[("Range", "bytes=0-2")]);
        edge.wait_for_landing();
        let mut before = edge.client();
        before.send(request("GET", "/d/a", &[("Range", "bytes=3-5")], b""));
        origin.wait_for("/d/a", 2);
        assert_eq!(edge.admin_post("/v1/purge", &asked).0, 200);
        gate.open();
        assert_eq!(
            before.response("GET").text(),
            "old",
            "who waited is answered"
        );
        edge.wait_for_landing();
        assert_eq!(edge.get("/d/a").text(), "newnew", "{asked}");
    }
}

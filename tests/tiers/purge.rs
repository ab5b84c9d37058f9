//! A purge is in force at every tier at once, and stays in force through a stop and a kill.

use serde_json::{Value, json};

use crate::below::{ALL, forget, restart};
use crate::support::edge::Edge;
use crate::support::origin::Origin;
use crate::support::reply::{Gate, Reply};

fn tagged() -> Reply {
    Reply::cached("content")
        .field("Surrogate-Key", "red blue")
        .field("ETag", "\"one\"")
}

#[track_caller]
fn purge(edge: &Edge, what: &Value) {
    let (status, answer) = edge.admin_post("/v1/purge", what);
    assert_eq!(status, 200, "{answer}");
}

/// What is asked for, and whether it covers `/dir/a`.
fn purges() -> Vec<(Value, bool)> {
    vec![
        (json!({"tags": ["green"]}), false),
        (json!({"urls": ["http://edge.test/dir/b"]}), false),
        (json!({"prefixes": ["edge.test/other/"]}), false),
        (json!({"tags": ["blue"]}), true),
        (json!({"urls": ["http://edge.test/dir/a"]}), true),
        (json!({"prefixes": ["edge.test/dir/"]}), true),
        (json!({"hosts": ["edge.test"]}), true),
        (json!({"all": true, "site": "default"}), true),
        (json!({"all": true}), true),
    ]
}

#[test]
fn every_kind_of_purge_reaches_every_tier_and_outlasts_a_kill() {
    for below in ALL {
        let origin = Origin::always(tagged());
        let mut edge = below.setup(&origin).start();
        for (what, covers) in purges() {
            edge.get("/dir/a");
            forget(&mut edge);
            purge(&edge, &what);
            edge.kill();
            restart(&mut edge);
            let asked = origin.total();
            let answer = edge.get("/dir/a");
            assert_eq!(
                answer.is_hit(),
                !covers,
                "{below:?} {what}: {}",
                answer.cache_status()
            );
            assert_eq!(origin.total() - asked, usize::from(covers));
        }
    }
}

#[test]
fn a_soft_purge_makes_what_lies_below_stale() {
    for below in ALL {
        let origin = Origin::answering(|asked| match asked.field("if-none-match") {
            Some(_) => Reply::status(304).field("Cache-Control", "max-age=60"),
            None => tagged(),
        });
        let mut edge = below.setup(&origin).start();
        edge.get("/a");
        forget(&mut edge);
        purge(&edge, &json!({"tags": ["red"], "soft": true}));
        let answer = edge.get("/a");
        assert!(!answer.is_hit(), "{below:?}: {}", answer.cache_status());
        assert_eq!(answer.text(), "content");
        assert!(origin.asked()[1].field("if-none-match").is_some());
        forget(&mut edge);
        assert!(
            edge.get("/a").is_hit(),
            "{below:?}: it was freshened after the purge"
        );
    }
}

/// S1: a purge in the middle of a fill is not undone by it, at any tier.
#[test]
fn a_fill_under_way_brings_nothing_back() {
    for below in ALL {
        let origin = Origin::start();
        let gate = Gate::default();
        let slow = Reply::pattern(2_000_000)
            .field("Cache-Control", "max-age=600")
            .field("Surrogate-Key", "red")
            .pausing(1_000_000, &gate);
        origin.sequence("/a", vec![slow, Reply::cached("new")]);
        let mut edge = below.setup(&origin).start();
        let mut client = edge.client();
        client.send(crate::support::client::request("GET", "/a", &[], b""));
        let head = client.head();
        purge(&edge, &json!({"tags": ["red"]}));
        gate.open();
        client.read_body(&head, "GET", |_| {}).expect("whole");
        edge.wait_for_landing();
        forget(&mut edge);
        assert_eq!(edge.get("/a").text(), "new", "{below:?}");
    }
}

#[test]
fn an_unsafe_request_invalidates_what_lies_below() {
    for below in ALL {
        let origin = Origin::answering(|asked| match asked.method.as_str() {
            "POST" => Reply::status(204),
            _ => Reply::cached("content"),
        });
        let mut edge = below.setup(&origin).start();
        edge.get("/a");
        forget(&mut edge);
        edge.client().request("POST", "/a", &[], b"");
        assert!(!edge.get("/a").is_hit(), "{below:?}");
        forget(&mut edge);
        assert!(edge.get("/a").is_hit());
    }
}

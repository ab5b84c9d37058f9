//! Tags from origins: which fields tell them, what clients see of that, and what is too much.

use serde_json::{Value, json};

use crate::support::client::Response;
use crate::support::edge::Edge;
use crate::support::origin::Origin;
use crate::support::reply::Reply;

fn purged(edge: &Edge, tag: &str) -> u64 {
    let (status, purged) = edge.admin_post("/v1/purge", &json!({ "tags": [tag] }));
    assert_eq!(status, 200, "{purged}");
    let entries = purged.get("entries").and_then(Value::as_u64);
    entries.expect("a count")
}

#[test]
fn every_field_that_tells_tags_is_read() {
    let origin = Origin::answering(|asked| {
        let reply = Reply::cached("content");
        match asked.path() {
            "/s" => reply
                .field("Surrogate-Key", "a b")
                .field("Surrogate-Key", "c"),
            "/c" => reply.field("Cache-Tag", "a, b c"),
            "/x" => reply.field("xkey", "a b"),
            _ => reply.field("Cache-Groups", "\"a\", \"b c\";x=1"),
        }
    });
    let edge = Edge::before(&origin);
    let fill = || ["/s", "/c", "/x", "/g"].map(|target| edge.get(target).is_hit());
    fill();
    assert_eq!(fill(), [true; 4]);
    assert_eq!((purged(&edge, "c"), fill()), (1, [false, true, true, true]));
    assert_eq!(
        (purged(&edge, "b c"), fill()),
        (2, [true, false, true, false])
    );
    assert_eq!(
        (purged(&edge, "b"), fill()),
        (2, [false, true, false, true])
    );
    assert_eq!((purged(&edge, "a"), fill()), (4, [false; 4]));
}

#[test]
fn clients_see_groups_and_no_other_tags() {
    let origin = Origin::answering(|asked| {
        let reply = match asked.method.as_str() {
            "GET" => Reply::cached("content"),
            _ => Reply::ok("done"),
        };
        ["Surrogate-Key", "Cache-Tag", "xkey"]
            .into_iter()
            .fold(reply, |reply, name| reply.field(name, "t"))
            .field("Cache-Groups", "\"g\"")
    });
    let edge = Edge::before(&origin);
    let check = |response: &Response| {
        for name in ["surrogate-key", "cache-tag", "xkey"] {
            assert_eq!(response.field(name), None, "{response:?}");
        }
        assert_eq!(response.field("cache-groups").as_deref(), Some("\"g\""));
    };
    check(&edge.get("/a"));
    let hit = edge.get("/a");
    assert!(hit.is_hit());
    check(&hit);
    check(&edge.client().request("POST", "/a", &[], b"x"));
}

#[test]
fn a_response_with_too_many_tags_is_not_stored() {
    let many = |count: usize| "t ".repeat(count);
    let numbered: Vec<String> = (0..256).map(|n| format!("t{n}")).collect();
    let origin = Origin::answering(move |asked| {
        let reply = Reply::cached("content");
        match asked.path() {
            "/few" => reply.field("Surrogate-Key", numbered.join(" ")),
            "/many" => reply.field("Surrogate-Key", many(257)),
            _ => reply.field("Cache-Tag", "t".repeat(1025)),
        }
    });
    let edge = Edge::before(&origin);
    for (target, stored) in [("/few", true), ("/many", false), ("/long", false)] {
        assert_eq!(edge.get(target).status(), 200);
        assert_eq!(edge.get(target).is_hit(), stored, "{target}");
    }
    assert_eq!(edge.metrics().count("larder_tags_refused_total", &[]), 4);
    assert!(edge.log().contains("too many or too long tags"));
    assert_eq!(purged(&edge, "t255"), 1);
}

#[test]
fn an_unsafe_request_invalidates_the_groups_that_its_answer_names() {
    let origin = Origin::answering(|asked| match (asked.method.as_str(), asked.path()) {
        ("GET", "/a" | "/b") => Reply::cached("content").field("Cache-Groups", "\"g\""),
        ("GET", "/tagged") => Reply::cached("content").field("Surrogate-Key", "g"),
        ("GET", "/safe") => Reply::cached("content").field("Cache-Group-Invalidation", "\"g\""),
        ("GET", _) => Reply::cached("content").field("Cache-Groups", "\"h\""),
        (_, "/bad") => Reply::ok("done").field("Cache-Group-Invalidation", "g"),
        _ => Reply::ok("done").field("Cache-Group-Invalidation", "\"g\", \"i\""),
    });
    let edge = Edge::before(&origin);
    let other = [("Host", "other.test")];
    let hits = || {
        let mut hits: Vec<bool> = ["/a", "/b", "/c", "/tagged"]
            .iter()
            .map(|target| edge.get(target).is_hit())
            .collect();
        hits.push(edge.get_with("/a", &other).is_hit());
        hits
    };
    hits();
    edge.get("/safe");
    assert_eq!(
        hits(),
        [true; 5],
        "only the answer to an unsafe request counts"
    );
    edge.client().request("POST", "/bad", &[], b"");
    assert_eq!(hits(), [true; 5], "a malformed field is ignored");
    edge.client().request("POST", "/do", &[], b"");
    assert_eq!(
        hits(),
        [false, false, true, true, true],
        "a group belongs to its origin"
    );
}

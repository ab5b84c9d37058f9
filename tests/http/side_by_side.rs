//! What is not for sharing: its key is remembered for a while, and requests for it do not wait for
//! one another.

use crate::collapse::{clients, wait_for_collapsed, whole};
use crate::support::client::request;
use crate::support::edge::{Edge, Setup};
use crate::support::origin::Origin;
use crate::support::reply::{Gate, Reply};

/// An origin whose answers for `/a` have `fields`, and wait for the gate from the second on.
fn origin_with(fields: &'static [(&'static str, &'static str)], gate: &Gate) -> Origin {
    let origin = Origin::start();
    let gate = gate.clone();
    origin.route("/a", move |asked| {
        let reply = Reply::ok(format!("for {}", asked.turn));
        let reply = fields
            .iter()
            .fold(reply, |reply, (name, value)| reply.field(name, *value));
        match asked.turn {
            0 => reply,
            _ => reply.behind(&gate),
        }
    });
    origin
}

fn remembered(edge: &Edge) -> u64 {
    edge.metrics().count("larder_remembered_keys", &[])
}

#[test]
fn later_requests_do_not_wait_for_one_another() {
    for fields in [
        &[("Cache-Control", "no-store")][..],
        &[("Cache-Control", "private")],
        &[("Set-Cookie", "a=b")],
        &[("Vary", "*"), ("Cache-Control", "max-age=60")],
        &[("Cache-Control", "max-age=0")],
        &[],
    ] {
        let gate = Gate::default();
        let origin = origin_with(fields, &gate);
        let edge = Edge::before(&origin);
        assert_eq!(edge.get("/a").text(), "for 0");
        assert_eq!(remembered(&edge), 1, "{fields:?}");
        let crowd = clients(&edge, 5, "/a");
        // All of them are at the origin before any of them is answered.
        origin.wait_for("/a", 6);
        gate.open();
        let mut texts: Vec<_> = crowd.into_iter().map(|one| whole(one).text()).collect();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), 5, "{fields:?}: each has its own: {texts:?}");
        let metrics = edge.metrics();
        assert_eq!(metrics.count("larder_hit_for_miss_total", &[]), 5);
        assert_eq!(metrics.count("larder_collapsed_total", &[]), 0);
    }
}

#[test]
fn the_first_answer_that_can_be_stored_ends_it() {
    let origin = Origin::start();
    let gate = Gate::default();
    let stored = Reply::cached("stored").behind(&gate);
    origin.sequence(
        "/a",
        vec![Reply::ok("own").field("Cache-Control", "private"), stored],
    );
    let edge = Edge::before(&origin);
    edge.get("/a");
    let crowd = clients(&edge, 2, "/a");
    origin.wait_for("/a", 3);
    gate.open();
    let mut stored = 0;
    for one in crowd {
        let response = whole(one);
        assert_eq!(response.text(), "stored");
        let status = response.cache_status();
        assert!(!status.contains("collapsed"), "{status}");
        stored += usize::from(status.contains("; stored"));
    }
    // What was asked for earlier and comes later does not take the place of the other.
    assert!(stored >= 1);
    assert!(edge.get("/a").is_hit());
    assert_eq!((remembered(&edge), origin.total()), (0, 3));
}

#[test]
fn a_purge_ends_it() {
    for purge in [
        serde_json::json!({"urls": ["http://edge.test/a"]}),
        serde_json::json!({"all": true}),
    ] {
        let gate = Gate::default();
        let origin = origin_with(&[("Cache-Control", "private")], &gate);
        let edge = Edge::before(&origin);
        edge.get("/a");
        assert_eq!(remembered(&edge), 1);
        assert_eq!(edge.admin_post("/v1/purge", &purge).0, 200);
        assert_eq!(remembered(&edge), 0);
        let crowd = clients(&edge, 2, "/a");
        wait_for_collapsed(&edge, 1);
        gate.open();
        for one in crowd {
            drop(whole(one));
        }
    }
}

#[test]
fn a_purge_is_not_undone_by_a_fetch_beside_others() {
    let origin = Origin::start();
    let gate = Gate::default();
    let old = Reply::cached("old").behind(&gate);
    let own = Reply::ok("own").field("Cache-Control", "private");
    origin.sequence("/a", vec![own, old, Reply::cached("new")]);
    let edge = Edge::before(&origin);
    edge.get("/a");
    let beside = clients(&edge, 1, "/a").remove(0);
    origin.wait_for("/a", 2);
    let purge = serde_json::json!({"urls": ["http://edge.test/a"]});
    assert_eq!(edge.admin_post("/v1/purge", &purge).0, 200);
    gate.open();
    assert_eq!(whole(beside).text(), "old");
    edge.wait_for_landing();
    assert_eq!(edge.get("/a").text(), "new");
}

#[test]
fn its_time_is_the_sites() {
    let gate = Gate::default();
    let origin = origin_with(&[("Cache-Control", "private")], &gate);
    let edge = Setup::site(&origin, "hit_for_miss = \"0s\"").start();
    edge.get("/a");
    assert_eq!(remembered(&edge), 0);
    let crowd = clients(&edge, 3, "/a");
    wait_for_collapsed(&edge, 2);
    gate.open();
    let mut texts: Vec<_> = crowd.into_iter().map(|one| whole(one).text()).collect();
    texts.sort();
    assert_eq!(texts, ["for 1", "for 2", "for 3"]);
}

#[test]
fn what_a_client_wants_of_its_own_is_left_to_the_origin() {
    let origin = Origin::start();
    origin.route("/a", |asked| {
        let reply = match asked.field("if-none-match") {
            Some(_) => Reply::status(304),
            None => Reply::ok("content"),
        };
        reply
            .field("Cache-Control", "private")
            .field("ETag", "\"one\"")
    });
    let edge = Edge::before(&origin);
    edge.get("/a");
    let response = edge.get_with("/a", &[("If-None-Match", "\"one\"")]);
    assert_eq!(response.status(), 304);
    let response = edge.client().request("HEAD", "/a", &[], b"");
    assert_eq!((response.status(), response.body.len()), (200, 0));
    let methods: Vec<_> = origin
        .asked()
        .into_iter()
        .map(|asked| asked.method)
        .collect();
    assert_eq!(methods, ["GET", "GET", "HEAD"]);
}

#[test]
fn credentials_of_one_client_do_not_keep_others_from_sharing() {
    let origin = Origin::start();
    let gate = Gate::default();
    let behind = gate.clone();
    origin.route("/a", move |asked| match asked.field("authorization") {
        Some(_) => Reply::cached("own"),
        None => Reply::cached("everyone's").behind(&behind),
    });
    let edge = Edge::before(&origin);
    let credentials = [("Authorization", "Basic YTpi")];
    assert_eq!(edge.get_with("/a", &credentials).text(), "own");
    let crowd = clients(&edge, 5, "/a");
    wait_for_collapsed(&edge, 4);
    gate.open();
    for one in crowd {
        assert_eq!(whole(one).text(), "everyone's");
    }
    assert_eq!(origin.total(), 2);
}

#[test]
fn a_request_that_forbids_to_store_keeps_nobody_waiting() {
    let origin = Origin::start();
    let (first, second) = (Gate::default(), Gate::default());
    let (for_first, for_second) = (first.clone(), second.clone());
    origin.route("/a", move |asked| {
        let reply = Reply::cached(format!("for {}", asked.turn));
        reply.behind(if asked.turn == 0 {
            &for_first
        } else {
            &for_second
        })
    });
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    client.send(request("GET", "/a", &[("Cache-Control", "no-store")], b""));
    origin.wait_for("/a", 1);
    let crowd = clients(&edge, 3, "/a");
    origin.wait_for("/a", 2);
    wait_for_collapsed(&edge, 2);
    second.open();
    for one in crowd {
        assert_eq!(whole(one).text(), "for 1");
    }
    first.open();
    assert_eq!(client.response("GET").text(), "for 0");
    assert_eq!(edge.get("/a").text(), "for 1", "that is what was stored");
    assert_eq!(origin.total(), 2);
}

#[test]
fn trusted_clients_are_told() {
    let origin = Origin::always(Reply::ok("own").field("Cache-Control", "private"));
    let edge = Setup::before(&origin).set("trusted", "127.0.0.1").start();
    let first = edge.get("/a").cache_status();
    assert!(!first.contains("hit-for-miss"), "{first}");
    let second = edge.get("/a").cache_status();
    assert!(
        second.ends_with("detail=\"native:rfc9111, hit-for-miss\""),
        "{second}"
    );
}

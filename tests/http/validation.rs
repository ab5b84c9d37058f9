//! Stale responses and the origin: validated, replaced.

use crate::support::edge::Edge;
use crate::support::origin::Origin;
use crate::support::reply::Reply;

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// A response that is stale when it arrives.
fn stale(body: &str) -> Reply {
    Reply::cached(body).field("Age", "100")
}

#[test]
fn a_304_makes_a_stored_response_fresh_again() {
    let origin = Origin::start();
    let edge = Edge::before(&origin);
    for (path, name, value, question) in [
        ("/etag", "ETag", "\"one\"", "if-none-match"),
        ("/weak", "ETag", "W/\"one\"", "if-none-match"),
        ("/date", "Last-Modified", MODIFIED, "if-modified-since"),
    ] {
        let confirmed = Reply::status(304)
            .field(name, value)
            .field("Cache-Control", "max-age=120")
            .field("X-New", "yes");
        let first = stale("content").field(name, value).field("X-Old", "kept");
        origin.sequence(path, vec![first, confirmed]);
        assert_eq!(edge.get(path).text(), "content");
        let second = edge.get(path);
        assert_eq!(
            (second.status(), second.text().as_str()),
            (200, "content"),
            "{path}"
        );
        let status = second.cache_status();
        let start = "larder; fwd=stale; fwd-status=304";
        assert!(status.starts_with(start), "{path}: {status}");
        let asked = &origin.asked_for(path)[1];
        assert_eq!(asked.field(question).as_deref(), Some(value), "{path}");
        let third = edge.get(path);
        assert!(third.is_hit(), "{path}: {}", third.cache_status());
        assert_eq!(third.text(), "content");
        assert_eq!(third.field("x-new").as_deref(), Some("yes"));
        assert_eq!(third.field("x-old").as_deref(), Some("kept"));
        assert_eq!(third.field("cache-control").as_deref(), Some("max-age=120"));
        assert!(third.age().is_some_and(|age| age < 100), "{third:?}");
        assert_eq!(origin.count(path), 2);
    }
}

#[test]
fn a_client_that_asks_with_its_own_tag_gets_304_after_validation() {
    let origin = Origin::start();
    let fresh = Reply::status(304)
        .field("ETag", "\"one\"")
        .field("Cache-Control", "max-age=60");
    origin.sequence("/a", vec![stale("content").field("ETag", "\"one\""), fresh]);
    let edge = Edge::before(&origin);
    edge.get("/a");
    let response = edge.get_with("/a", &[("If-None-Match", "\"one\"")]);
    assert_eq!((response.status(), response.body.len()), (304, 0));
    assert!(edge.get("/a").is_hit());
    assert_eq!(origin.total(), 2);
}

#[test]
fn a_new_response_replaces_the_stale_one() {
    let origin = Origin::start();
    let new = Reply::cached("new").field("ETag", "\"two\"");
    origin.sequence("/a", vec![stale("old").field("ETag", "\"one\""), new]);
    let edge = Edge::before(&origin);
    assert_eq!(edge.get("/a").text(), "old");
    assert_eq!(edge.get("/a").text(), "new");
    let third = edge.get("/a");
    assert_eq!((third.text().as_str(), third.is_hit()), ("new", true));
    assert_eq!(edge.metrics().count("larder_tier_entries", &[]), 1);
}

#[test]
fn a_304_about_another_response_is_not_believed() {
    let origin = Origin::start();
    let foreign = Reply::status(304)
        .field("ETag", "\"two\"")
        .field("Cache-Control", "max-age=60");
    let whole = Reply::cached("new").field("ETag", "\"two\"");
    origin.sequence(
        "/a",
        vec![stale("old").field("ETag", "\"one\""), foreign, whole],
    );
    let edge = Edge::before(&origin);
    edge.get("/a");
    assert_eq!(edge.get("/a").text(), "new");
    assert_eq!(
        origin.asked()[2].field("if-none-match"),
        None,
        "asked for the whole"
    );
}

#[test]
fn no_cache_is_validated_every_time() {
    let origin = Origin::start();
    let control = "no-cache, max-age=60";
    let confirmed = Reply::status(304)
        .field("ETag", "\"one\"")
        .field("Cache-Control", control);
    let first = Reply::ok("content")
        .field("ETag", "\"one\"")
        .field("Cache-Control", control);
    origin.sequence("/a", vec![first, confirmed]);
    let edge = Edge::before(&origin);
    for turn in 1..=4 {
        assert_eq!(edge.get("/a").text(), "content");
        assert_eq!(origin.total(), turn);
    }
}

#[test]
fn what_may_no_longer_be_stored_is_forgotten() {
    let origin = Origin::start();
    let forbidden = Reply::ok("mine").field("Cache-Control", "no-store");
    let first = stale("content").field("ETag", "\"one\"");
    origin.sequence("/a", vec![first, forbidden.clone(), forbidden]);
    let edge = Edge::before(&origin);
    edge.get("/a");
    assert_eq!(edge.get("/a").text(), "mine");
    assert_eq!(edge.get("/a").text(), "mine");
    assert_eq!(origin.total(), 3);
}

#[test]
fn preconditions_of_clients_do_not_reach_the_origin_of_a_fill() {
    let origin = Origin::always(Reply::cached("content").field("ETag", "\"one\""));
    let edge = Edge::before(&origin);
    let sent = [
        ("If-None-Match", "\"other\""),
        ("If-Modified-Since", MODIFIED),
    ];
    assert_eq!(edge.get_with("/a", &sent).text(), "content");
    let asked = &origin.asked()[0];
    assert_eq!(
        (
            asked.field("if-none-match"),
            asked.field("if-modified-since")
        ),
        (None, None)
    );
}

#[test]
fn a_validation_that_is_private_answers_only_the_client_that_asked() {
    use crate::support::client::request;
    use crate::support::eventually;
    use crate::support::reply::Gate;

    for cookie in [false, true] {
        let origin = Origin::start();
        let gate = Gate::default();
        let mut confirmed = Reply::status(304)
            .field("ETag", "\"one\"")
            .field("Cache-Control", "private");
        let mut own = Reply::ok("of the second").field("Cache-Control", "private");
        if cookie {
            confirmed = confirmed.field("Set-Cookie", "who=first");
            own = own.field("Set-Cookie", "who=second");
        }
        let old = stale("content").field("ETag", "\"one\"");
        origin.sequence("/a", vec![old, confirmed.behind(&gate), own]);
        let edge = Edge::before(&origin);
        edge.get("/a");
        let ask = || {
            let mut client = edge.client();
            client.send(request("GET", "/a", &[], b""));
            client
        };
        let mut first = ask();
        origin.wait_for("/a", 2);
        let mut second = ask();
        // It has been looked up by then, and finds the first one's validation under way.
        eventually("the second request to be keyed", || {
            let calls = "larder_policy_calls_total";
            edge.metrics().count(calls, &["hook=\"keying\""]) == 3
        });
        assert_eq!(origin.total(), 2, "it waits for the first");
        gate.open();
        let (first, second) = (first.response("GET"), second.response("GET"));
        assert_eq!(first.text(), "content");
        assert_eq!(second.text(), "of the second");
        if cookie {
            assert_eq!(first.field("set-cookie").as_deref(), Some("who=first"));
            assert_eq!(second.field("set-cookie").as_deref(), Some("who=second"));
        }
        assert_eq!(origin.total(), 3);
    }
}

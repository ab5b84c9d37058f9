//! Parts of responses: stored, joined, completed, and never taken for the whole.

use std::sync::{Arc, Mutex};

use serde_json::json;

use super::ranges::{check_part, range_of, serve};
use crate::support::client::{HOST, request};
use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::{Gate, Reply};

const MIB: u64 = 1 << 20;
/// A content so long that ranges of it are asked for by themselves if they begin at `FAR`.
const LENGTH: u64 = 9 * MIB;
const FAR: u64 = LENGTH - 1_000;

fn range(start: u64, end: u64) -> String {
    format!("bytes={start}-{}", end - 1)
}

/// An origin with one content of `LENGTH` bytes, whose entity tag can be changed.
fn origin(tag: &Arc<Mutex<String>>) -> Origin {
    let tag = Arc::clone(tag);
    Origin::answering(move |asked| serve(asked, LENGTH, &tag.lock().expect("sound")))
}

fn tag(tag: &str) -> Arc<Mutex<String>> {
    Arc::new(Mutex::new(tag.to_owned()))
}

#[test]
fn parts_are_stored_joined_and_answer_what_they_cover() {
    let origin = origin(&tag("\"one\""));
    let edge = Edge::before(&origin);
    let get = |start, end| {
        let response = edge.get_with("/a", &[("Range", &range(start, end))]);
        check_part(&response, start..end, LENGTH);
        response.cache_status()
    };
    let first = get(FAR, FAR + 100);
    assert!(first.contains("fwd=uri-miss; fwd-status=206"), "{first}");
    assert!(first.contains("stored"), "{first}");
    assert!(get(FAR, FAR + 100).starts_with("larder; hit"));
    assert!(get(FAR + 10, FAR + 20).starts_with("larder; hit"));
    let second = get(FAR + 80, FAR + 200);
    assert!(second.contains("fwd=partial; fwd-status=206"), "{second}");
    assert!(get(FAR, FAR + 200).starts_with("larder; hit"), "joined");
    let third = get(FAR - 100, FAR + 100);
    assert!(third.contains("fwd=partial"), "{third}");
    assert!(get(FAR - 100, FAR + 200).starts_with("larder; hit"));
    let asked = origin.asked();
    assert_eq!(asked.len(), 3);
    // Whether a part that comes is of the same content shows when it comes.
    assert!(asked.iter().all(|asked| asked.field("if-range").is_none()));
    let head = edge.client().request("HEAD", "/a", &[], b"");
    assert_eq!(head.field("content-length"), Some(LENGTH.to_string()));
    assert!(head.is_hit());
    let same = edge.get_with("/a", &[("If-None-Match", "\"one\"")]);
    assert_eq!(same.status(), 304);
    let outside = edge.get_with("/a", &[("Range", &format!("bytes={LENGTH}-"))]);
    assert_eq!((outside.status(), outside.is_hit()), (416, true));
    assert_eq!(origin.total(), 3);
}

#[test]
fn equal_ranges_asked_for_at_once_are_fetched_once() {
    let tag = tag("\"one\"");
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::answering(move |asked| {
        serve(asked, LENGTH, &tag.lock().expect("sound")).behind(&held)
    });
    let edge = Edge::before(&origin);
    let range = range(FAR, FAR + 100);
    let mut clients: Vec<_> = (0..10).map(|_| edge.client()).collect();
    for client in &mut clients {
        client.send(request("GET", "/a", &[("Range", &range)], b""));
    }
    origin.wait_for("/a", 1);
    eventually("nine requests join", || {
        edge.metrics().count("larder_collapsed_total", &[]) == 9
    });
    gate.open();
    for client in &mut clients {
        check_part(&client.response("GET"), FAR..FAR + 100, LENGTH);
    }
    assert_eq!(origin.total(), 1);
}

#[test]
fn a_request_for_the_whole_asks_only_for_what_is_missing() {
    const SHORT: u64 = 1_000;
    // Parts come from an origin that sends one unasked.
    for (parts, rest) in [
        (&[(0, 400)][..], "bytes=400-999"),
        (&[(600, 1_000)], "bytes=0-599"),
    ] {
        let origin = Origin::start();
        let (start, end) = parts[0];
        origin.route("/a", move |asked| match range_of(asked) {
            None => Reply::pattern_part(start, end, SHORT)
                .field("Cache-Control", "max-age=60")
                .field("ETag", "\"one\""),
            Some(_) => serve(asked, SHORT, "\"one\""),
        });
        let edge = Edge::before(&origin);
        let first = edge.get_with("/a", &[("Range", &range(start, end))]);
        check_part(&first, start..end, SHORT);
        let whole = edge.get("/a");
        assert_eq!((whole.status(), whole.body.len()), (200, 1_000));
        assert_eq!(whole.field("content-range"), None);
        pattern::check(0, &whole.body);
        let status = whole.cache_status();
        assert!(status.contains("fwd=partial; fwd-status=206"), "{status}");
        let asked = origin.asked().pop().expect("asked");
        assert_eq!(asked.field("range").as_deref(), Some(rest));
        assert_eq!(asked.field("if-range").as_deref(), Some("\"one\""));
        let again = edge.get("/a");
        assert!(again.is_hit());
        pattern::check(0, &again.body);
        assert_eq!(origin.total(), 2);
    }
}

#[test]
fn parts_with_a_gap_between_them_are_completed() {
    const SHORT: u64 = 1_000;
    let origin = Origin::start();
    origin.route("/a", |asked| match (range_of(asked), asked.turn) {
        // A part that nobody asked for.
        (None, 0) => Reply::pattern_part(0, 400, SHORT)
            .field("Cache-Control", "max-age=60")
            .field("ETag", "\"one\""),
        _ => serve(asked, SHORT, "\"one\""),
    });
    let edge = Edge::before(&origin);
    for (start, end) in [(0, 400), (700, 1_000)] {
        let response = edge.get_with("/a", &[("Range", &range(start, end))]);
        check_part(&response, start..end, SHORT);
    }
    let several = edge.get_with("/a", &[("Range", "bytes=10-19, 800-809")]);
    assert_eq!((several.status(), several.is_hit()), (206, true));
    let whole = edge.get("/a");
    pattern::check(0, &whole.body);
    assert_eq!((whole.status(), whole.body.len()), (200, 1_000));
    let asked = origin.asked().pop().expect("asked");
    assert_eq!(asked.field("range").as_deref(), Some("bytes=400-699"));
    let hit = edge.get("/a");
    pattern::check(0, &hit.body);
    assert!(hit.is_hit() && hit.body.len() == 1_000);
    assert_eq!(origin.total(), 3);
}

#[test]
fn a_rest_that_breaks_off_is_neither_whole_nor_stored() {
    let origin = Origin::start();
    origin.route("/a", |asked| match (range_of(asked), asked.turn) {
        (None, 0) => Reply::pattern_part(0, 400, 1_000)
            .field("Cache-Control", "max-age=60")
            .field("ETag", "\"one\""),
        (Some(_), 1) => serve(asked, 1_000, "\"one\"").cut_after(300),
        _ => serve(asked, 1_000, "\"one\""),
    });
    let edge = Edge::before(&origin);
    edge.get_with("/a", &[("Range", "bytes=0-399")]);
    let mut client = edge.client();
    client.send(request("GET", "/a", &[], b""));
    let broken = client.try_response("GET").expect_err("it broke off");
    pattern::check(0, &broken.body);
    let part = edge.get_with("/a", &[("Range", "bytes=0-399")]);
    check_part(&part, 0..400, 1_000);
    assert!(part.is_hit(), "the part is as good as before");
    let whole = edge.get("/a");
    pattern::check(0, &whole.body);
    assert_eq!((whole.status(), whole.body.len()), (200, 1_000));
}

#[test]
fn content_that_has_changed_is_fetched_whole() {
    let tag = tag("\"one\"");
    let origin = origin(&tag);
    let edge = Edge::before(&origin);
    let get = |start, end| edge.get_with("/a", &[("Range", &range(start, end))]);
    check_part(&get(FAR, LENGTH), FAR..LENGTH, LENGTH);
    "\"two\"".clone_into(&mut tag.lock().expect("sound"));
    let whole = edge.get("/a");
    assert_eq!(
        (whole.status(), whole.field("etag").as_deref()),
        (200, Some("\"two\""))
    );
    pattern::check(0, &whole.body);
    let asked = origin.asked().pop().expect("asked");
    assert_eq!(asked.field("range"), Some(format!("bytes=0-{}", FAR - 1)));
    assert!(edge.get("/a").is_hit(), "it took the place of the part");
    assert_eq!(origin.total(), 2);
}

#[test]
fn parts_without_the_same_strong_validator_are_not_joined() {
    for (first, second) in [
        (Some("W/\"one\""), Some("W/\"one\"")),
        (Some("\"one\""), Some("\"two\"")),
        (Some("\"one\""), None),
        (None, None),
    ] {
        let origin = Origin::answering(move |asked| {
            let (start, last) = range_of(asked).expect("a range");
            let end = last.map_or(LENGTH, |last| last + 1);
            let reply =
                Reply::pattern_part(start, end, LENGTH).field("Cache-Control", "max-age=60");
            match if asked.turn == 0 { first } else { second } {
                Some(tag) => reply.field("ETag", tag),
                None => reply,
            }
        });
        let edge = Edge::before(&origin);
        let get = |start, end| {
            let response = edge.get_with("/a", &[("Range", &range(start, end))]);
            check_part(&response, start..end, LENGTH);
            response.is_hit()
        };
        assert!(!get(FAR, FAR + 100));
        assert!(!get(FAR + 100, FAR + 200));
        assert!(get(FAR + 100, FAR + 200), "the newest is stored");
        assert!(!get(FAR, FAR + 100), "{first:?} and {second:?} were joined");
    }
}

#[test]
fn a_part_that_nobody_asked_for_is_never_the_whole() {
    let part = Reply::pattern_part(0, 10, 100)
        .field("Cache-Control", "max-age=60")
        .field("ETag", "\"one\"");
    let origin = Origin::always(part);
    let edge = Edge::before(&origin);
    for _ in 0..2 {
        let response = edge.get("/a");
        assert_eq!(response.status(), 502, "{}", response.text());
    }
    let covered = edge.get_with("/a", &[("Range", "bytes=2-5")]);
    check_part(&covered, 2..6, 100);
    let all = Origin::always(Reply::pattern_part(0, 100, 100).field("Cache-Control", "max-age=60"));
    let edge = Edge::before(&all);
    let whole = edge.get("/a");
    assert_eq!((whole.status(), whole.body.len()), (200, 100));
    assert_eq!(whole.field("content-range"), None);
    assert!(edge.get("/a").is_hit());
}

#[test]
fn a_part_of_which_nobody_can_tell_what_it_is_is_not_stored() {
    for content_range in [
        None,
        Some("bytes 0-5/100"),
        Some("bytes 9-0/100"),
        Some("bytes 0-9/5"),
        Some("bytes */100"),
        Some("lines 0-9/100"),
        Some("x"),
    ] {
        let mut reply = Reply::status(206)
            .body("0123456789")
            .field("Cache-Control", "max-age=60")
            .field("ETag", "\"one\"");
        if let Some(value) = content_range {
            reply = reply.field("Content-Range", value);
        }
        let origin = Origin::always(reply);
        let edge = Edge::before(&origin);
        for _ in 0..2 {
            let response = edge.get_with("/a", &[("Range", "bytes=0-9")]);
            assert!(!response.is_hit(), "{content_range:?}");
            assert_eq!(edge.get("/a").status(), 502, "{content_range:?}");
        }
        let entries = edge
            .metrics()
            .count("larder_tier_entries", &["tier=\"memory\""]);
        assert_eq!(entries, 0, "{content_range:?}");
    }
}

#[test]
fn what_may_not_be_stored_is_not_stored_in_parts_either() {
    for control in ["no-store", "private", "max-age=0, no-store"] {
        let origin = Origin::answering(move |asked| {
            let (start, last) = range_of(asked).expect("a range");
            Reply::pattern_part(start, last.map_or(LENGTH, |last| last + 1), LENGTH)
                .field("Cache-Control", control)
                .field("ETag", "\"one\"")
        });
        let edge = Edge::before(&origin);
        for count in 1..3 {
            let response = edge.get_with("/a", &[("Range", &range(FAR, FAR + 9))]);
            check_part(&response, FAR..FAR + 9, LENGTH);
            assert_eq!(origin.total(), count, "{control}");
        }
    }
}

#[test]
fn an_unsatisfiable_range_is_passed_on_and_not_stored() {
    let origin = origin(&tag("\"one\""));
    let edge = Edge::before(&origin);
    for count in 1..3 {
        let response = edge.get_with("/a", &[("Range", &range(LENGTH + 5, LENGTH + 9))]);
        assert_eq!(response.status(), 416);
        assert_eq!(
            response.field("content-range"),
            Some(format!("bytes */{LENGTH}"))
        );
        assert_eq!(origin.total(), count);
    }
    let whole = edge.get("/a");
    assert_eq!((whole.status(), whole.is_hit()), (200, false));
}

#[test]
fn if_range_is_judged_by_the_part_that_arrives() {
    let origin = origin(&tag("\"one\""));
    let edge = Edge::before(&origin);
    let get = |condition| {
        let range = range(FAR, FAR + 9);
        edge.get_with("/a", &[("Range", &range), ("If-Range", condition)])
    };
    check_part(&get("\"one\""), FAR..FAR + 9, LENGTH);
    check_part(&get("\"one\""), FAR..FAR + 9, LENGTH);
    assert_eq!(origin.total(), 1);
    let whole = get("\"zero\"");
    assert_eq!(whole.status(), 200);
    assert_eq!(pattern::to_u64(whole.body.len()), LENGTH);
    pattern::check(0, &whole.body);
}

#[test]
fn stale_parts_are_validated() {
    let origin = Origin::answering(move |asked| {
        if asked.field("if-none-match").is_some() {
            return Reply::status(304)
                .field("ETag", "\"one\"")
                .field("Cache-Control", "max-age=60");
        }
        let (start, last) = range_of(asked).expect("a range");
        Reply::pattern_part(start, last.map_or(LENGTH, |last| last + 1), LENGTH)
            .field("Cache-Control", "max-age=0")
            .field("ETag", "\"one\"")
    });
    let edge = Edge::before(&origin);
    let get = || {
        let response = edge.get_with("/a", &[("Range", &range(FAR, FAR + 9))]);
        check_part(&response, FAR..FAR + 9, LENGTH);
        response.cache_status()
    };
    assert!(get().contains("fwd=uri-miss; fwd-status=206"));
    let validated = get();
    assert!(
        validated.contains("fwd=stale; fwd-status=304"),
        "{validated}"
    );
    assert!(get().starts_with("larder; hit"));
    assert_eq!(origin.total(), 2);
}

#[test]
fn parts_keep_to_their_variant() {
    let origin = Origin::answering(|asked| {
        let (start, last) = range_of(asked).expect("a range");
        let tag = format!("\"{}\"", asked.field("x").unwrap_or_default());
        Reply::pattern_part(start, last.map_or(LENGTH, |last| last + 1), LENGTH)
            .field("Cache-Control", "max-age=60")
            .field("Vary", "X")
            .field("ETag", tag)
    });
    let edge = Edge::before(&origin);
    let get = |variant: &str| {
        let range = range(FAR, FAR + 9);
        let response = edge.get_with("/a", &[("Range", &range), ("X", variant)]);
        check_part(&response, FAR..FAR + 9, LENGTH);
        assert_eq!(response.field("etag"), Some(format!("\"{variant}\"")));
        response.is_hit()
    };
    assert!(!get("one") && !get("two"));
    assert!(get("one") && get("two"));
    assert_eq!(origin.total(), 2);
}

#[test]
fn a_purge_removes_parts_and_stops_those_on_their_way() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::answering(move |asked| {
        let reply = serve(asked, LENGTH, "\"one\"");
        match asked.turn {
            1 => reply.pausing(50, &held),
            _ => reply,
        }
    });
    let edge = Edge::before(&origin);
    let get = |start, end| edge.get_with("/a", &[("Range", &range(start, end))]);
    check_part(&get(FAR, FAR + 100), FAR..FAR + 100, LENGTH);
    let mut client = edge.client();
    let more = range(FAR + 100, FAR + 200);
    client.send(request("GET", "/a", &[("Range", &more)], b""));
    client.head();
    let url = format!("http://{HOST}/a");
    let (status, purged) = edge.admin_post("/v1/purge", &json!({ "urls": [url] }));
    assert_eq!((status, &purged["entries"]), (200, &json!(1)));
    gate.open();
    pattern::check(FAR + 100, &client.take(100));
    assert!(!get(FAR, FAR + 100).is_hit());
    assert!(!get(FAR + 100, FAR + 200).is_hit());
}

#[test]
fn parts_are_charged_for_what_they_hold_and_bounded() {
    let origin = Origin::answering(|asked| serve(asked, 1 << 30, "\"one\""));
    let edge = Setup::before(&origin).flag("--memory", "64MiB").start();
    let bytes = || {
        edge.metrics()
            .count("larder_tier_bytes", &["tier=\"memory\""])
    };
    let get = |start: u64| {
        let response = edge.get_with("/a", &[("Range", &range(start, start + 100_000))]);
        check_part(&response, start..start + 100_000, 1 << 30);
        response.is_hit()
    };
    let place = |i: u64| 100 * MIB + i * MIB;
    assert!(!get(place(0)));
    assert!((100_000..104_000).contains(&bytes()), "{}", bytes());
    for i in 1..40 {
        assert!(!get(place(i)));
        assert!(get(place(i)), "the newest is held");
    }
    // Sixteen parts at most.
    assert!((1_600_000..1_620_000).contains(&bytes()), "{}", bytes());
}

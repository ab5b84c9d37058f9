//! Sections 3.2 and 4.3: what is asked of the origin, what its answer changes, and what clients
//! are told that ask with validators of their own.

use super::{Fields, Rig};
use crate::support::reply::Reply;

const TAG: (&str, &str) = ("ETag", "\"a\"");
const OLD: Fields<'_> = &[TAG, ("Cache-Control", "max-age=60"), ("Age", "100")];

/// The second answer after a stale response with `given` was answered with a 304 with `update`.
fn freshened(
    rig: &Rig,
    given: Fields<'_>,
    update: Fields<'_>,
) -> (usize, crate::support::client::Response) {
    let target = format!("/{}", rig.origin.total());
    let whole = Reply::ok("new").field("Cache-Control", "max-age=60");
    let first = super::reply(200, given).body("old");
    rig.origin
        .sequence(&target, vec![first, super::reply(304, update), whole]);
    rig.edge.get(&target);
    rig.edge.get(&target);
    let third = rig.edge.get(&target);
    (rig.origin.count(&target), third)
}

#[test]
fn a_304_freshens_the_response_it_names() {
    let rig = Rig::new();
    let modified = ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    let old = |validator| [validator, ("Cache-Control", "max-age=60"), ("Age", "100")];
    for (stored, update, text) in [
        (TAG, &[TAG][..], "old"),
        (TAG, &[], "old"),
        (TAG, &[("ETag", "W/\"a\"")], "old"),
        (("ETag", "W/\"a\""), &[("ETag", "W/\"a\"")], "old"),
        (("ETag", "W/\"a\""), &[TAG], "new"),
        (TAG, &[("ETag", "\"b\"")], "new"),
        (modified, &[modified], "old"),
        (modified, &[], "old"),
        (
            modified,
            &[("Last-Modified", "Mon, 07 Nov 1994 08:49:37 GMT")],
            "new",
        ),
        (modified, &[TAG], "new"),
    ] {
        let mut update = update.to_vec();
        update.push(("Cache-Control", "max-age=60"));
        let (_, third) = freshened(&rig, &old(stored), &update);
        assert_eq!(
            (third.text().as_str(), third.is_hit()),
            (text, true),
            "{stored:?} {update:?}"
        );
    }
}

#[test]
fn a_304_updates_all_fields_but_those_of_the_content() {
    let rig = Rig::new();
    let given = [
        TAG,
        ("Cache-Control", "max-age=60"),
        ("Age", "100"),
        ("Content-Type", "text/old"),
        ("Content-Encoding", "x-old"),
        ("Content-Language", "de"),
        ("X-Frame-Options", "old"),
        ("Content-Security-Policy", "old"),
        ("X-Kept", "old"),
        ("X-Lines", "1"),
        ("X-Lines", "2"),
        ("Expires", "@-10"),
        ("Cache-Status", "far; hit"),
    ];
    let update = [
        TAG,
        ("Cache-Control", "max-age=600"),
        ("Content-Type", "text/new"),
        ("Content-Encoding", "x-new"),
        ("Content-Language", "en"),
        ("Content-Range", "bytes 0-0/1"),
        ("X-Frame-Options", "new"),
        ("Content-Security-Policy", "new"),
        ("X-Lines", "3"),
        ("X-New", "new"),
        ("Expires", "@600"),
        ("Cache-Status", "far; fwd=stale"),
    ];
    let (asked, third) = freshened(&rig, &given, &update);
    assert_eq!((asked, third.text().as_str()), (2, "old"));
    for (name, value) in [
        ("cache-control", Some("max-age=600")),
        ("content-type", Some("text/new")),
        ("content-encoding", Some("x-old")),
        ("content-language", Some("en")),
        ("content-range", None),
        ("content-length", Some("3")),
        ("x-frame-options", Some("new")),
        ("content-security-policy", Some("new")),
        ("x-kept", Some("old")),
        ("x-lines", Some("3")),
        ("x-new", Some("new")),
    ] {
        assert_eq!(third.field(name).as_deref(), value, "{name}");
    }
    let status = third.cache_status();
    assert!(
        status.starts_with("far; fwd=stale, larder; hit; ttl="),
        "{status}"
    );
}

#[test]
fn the_age_of_a_304_is_the_age_from_then_on() {
    let rig = Rig::new();
    // As old as the 304 was, however old the stored response had been.
    let (_, third) = freshened(&rig, OLD, &[TAG, ("Age", "20")]);
    assert!(third.is_hit(), "{third:?}");
    assert!(
        third.age().is_some_and(|age| (20..60).contains(&age)),
        "{third:?}"
    );
    // One that has grown old on its way makes nothing fresh.
    let (asked, _) = freshened(&rig, OLD, &[TAG, ("Age", "70")]);
    assert_eq!(asked, 3);
    let (asked, _) = freshened(&rig, OLD, &[TAG, ("Date", "@-70")]);
    assert_eq!(asked, 3);
    // RFC 9110 6.6.1: one without a date is as of its arrival.
    let bare = "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n";
    let given = [TAG, ("Cache-Control", "max-age=60"), ("Date", "@-100")];
    rig.origin.sequence(
        "/bare",
        vec![super::reply(200, &given).body("old"), Reply::raw(bare)],
    );
    rig.edge.get("/bare");
    rig.edge.get("/bare");
    let third = rig.edge.get("/bare");
    assert!(
        third.is_hit() && third.age().is_some_and(|age| age < 60),
        "{third:?}"
    );
}

#[test]
fn clients_are_answered_by_their_own_validators() {
    let rig = Rig::new();
    let modified = ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    let earlier = "Sun, 06 Nov 1994 08:49:36 GMT";
    let later = "Monday, 07-Nov-94 08:49:37 GMT";
    for (given, sent, status) in [
        (TAG, &[("If-None-Match", "\"a\"")][..], 304),
        (TAG, &[("If-None-Match", "W/\"a\"")], 304),
        (TAG, &[("If-None-Match", "\"b\",, \"a\"")], 304),
        (
            TAG,
            &[("If-None-Match", "\"b\""), ("If-None-Match", "\"a\"")],
            304,
        ),
        (TAG, &[("If-None-Match", "*")], 304),
        (TAG, &[("If-None-Match", "\"b\"")], 200),
        (TAG, &[("If-None-Match", "\"A\"")], 200),
        (TAG, &[("If-None-Match", "a")], 200),
        (("ETag", "W/\"a\""), &[("If-None-Match", "\"a\"")], 304),
        (
            ("ETag", "\"a,b\""),
            &[("If-None-Match", "\"x\", \"a,b\"")],
            304,
        ),
        (
            TAG,
            &[("If-None-Match", "\"b\""), ("If-Modified-Since", later)],
            200,
        ),
        (
            TAG,
            &[("If-Match", "\"b\""), ("If-None-Match", "\"a\"")],
            304,
        ),
        (TAG, &[("If-Match", "\"b\"")], 200),
        (modified, &[("If-Modified-Since", modified.1)], 304),
        (modified, &[("If-Modified-Since", later)], 304),
        (modified, &[("If-Modified-Since", earlier)], 200),
        (modified, &[("If-Modified-Since", "0")], 200),
        (modified, &[("If-Unmodified-Since", earlier)], 200),
        (
            ("Date", "@-5"),
            &[("If-Modified-Since", "Wed, 06 Nov 2069 08:49:37 GMT")],
            304,
        ),
    ] {
        for (place, age) in [("fresh", "0"), ("stale", "100"), ("missing", "0")] {
            if (given.0, place) == ("Date", "stale") {
                // Stale without a validator is not stored at all, so the origin answers.
                continue;
            }
            let target = format!("/{}", rig.origin.total());
            let fields = [given, ("Cache-Control", "max-age=60"), ("Age", age)];
            rig.origin
                .on(&target, super::reply(200, &fields).body("content"));
            if place != "missing" {
                rig.edge.get(&target);
            }
            let response = rig.edge.get_with(&target, sent);
            let text = if status == 304 { "" } else { "content" };
            let found = (response.status(), response.text());
            assert_eq!(
                found,
                (status, text.to_owned()),
                "{place} {given:?} {sent:?}"
            );
            // Whoever asked how: what is stored is the whole.
            rig.edge.wait_for_landing();
            assert_eq!(
                rig.edge.get(&target).text(),
                "content",
                "{place} {given:?} {sent:?}"
            );
        }
    }
}

#[test]
fn preconditions_mean_nothing_for_what_is_no_success() {
    let rig = Rig::new();
    for status in [301, 404, 410, 503] {
        let target = format!("/{status}");
        let fields = [TAG, ("Cache-Control", "max-age=60")];
        rig.origin.on(&target, super::reply(status, &fields));
        for _ in 0..2 {
            let response = rig.edge.get_with(&target, &[("If-None-Match", "\"a\"")]);
            assert_eq!(response.status(), status);
        }
        assert_eq!(rig.origin.count(&target), 1);
    }
}

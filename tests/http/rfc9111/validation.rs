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
        check_validators(&rig, given, sent, status);
    }
}

/// Stored fresh, stale and not at all, a response with the field `given` answers `sent` by `status`.
fn check_validators(rig: &Rig, given: (&str, &str), sent: &[(&str, &str)], status: u16) {
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

#[test]
fn the_answer_to_head_freshens_or_outdates_the_stored_response() {
    let rig = Rig::new();
    let other = ("ETag", "\"b\"");
    let demand: Fields<'_> = &[("Cache-Control", "no-cache")];
    // What is stored, what HEAD is answered with, and whether a GET is a hit then.
    for (stored, status, update, body, hit) in [
        (Some(TAG), 304, &[TAG][..], "", true),
        (Some(TAG), 200, &[TAG], "old", true),
        (Some(TAG), 200, &[TAG], "older", false),
        (Some(TAG), 200, &[other], "old", false),
        (None, 200, &[], "old", true),
        (None, 200, &[], "older", false),
        (None, 200, &[other], "old", false),
        // RFC 9111 4.3.5 speaks of 200.
        (None, 404, &[], "gone", true),
        (None, 503, &[], "down", true),
    ] {
        let target = format!("/{}", rig.origin.total());
        let told = super::reply(status, update)
            .body(body)
            .field("Cache-Control", "max-age=90")
            .field("X-From", "head");
        let first = Reply::cached("old").field("X-From", "get");
        let first = stored
            .into_iter()
            .fold(first, |reply, (name, value)| reply.field(name, value));
        rig.origin
            .sequence(&target, vec![first, told, Reply::cached("new")]);
        rig.edge.get(&target);
        let mut client = rig.edge.client();
        let row = format!("{stored:?} {status} {update:?} {body}");
        let head = client.request("HEAD", &target, demand, b"");
        let expected = if status == 304 { 200 } else { status };
        assert_eq!(head.status(), expected, "{row}");
        assert_eq!(head.field("x-from").as_deref(), Some("head"), "{row}");
        let length = if status == 304 { "old" } else { body }.len().to_string();
        assert_eq!(head.field("content-length"), Some(length), "{row}");
        let start = format!("larder; fwd=request; fwd-status={status}");
        assert!(head.cache_status().starts_with(&start), "{row}");
        let asked = &rig.origin.asked_for(&target)[1];
        assert_eq!(asked.method, "HEAD", "{row}");
        assert_eq!(
            asked.field("if-none-match").as_deref(),
            stored.map(|(_, tag)| tag),
            "{row}"
        );
        let get = rig.edge.get(&target);
        let text = if hit { "old" } else { "new" };
        assert_eq!((get.is_hit(), get.text().as_str()), (hit, text), "{row}");
        let updated = hit && matches!(status, 200 | 304);
        let from = match (updated, hit) {
            (true, _) => Some("head"),
            (false, true) => Some("get"),
            (false, false) => None,
        };
        assert_eq!(get.field("x-from").as_deref(), from, "{row}");
    }
}

#[test]
fn heads_share_a_question_and_get_does_not_wait_for_it() {
    use crate::support::client::request;
    use crate::support::eventually;
    use crate::support::reply::Gate;

    let rig = Rig::new();
    let gate = Gate::default();
    let (old, shut) = (super::reply(200, OLD).body("old"), gate.clone());
    rig.origin.route("/a", move |asked| {
        match (asked.turn, asked.method.as_str()) {
            (0, _) => old.clone(),
            (_, "HEAD") => Reply::status(304)
                .field("ETag", "\"a\"")
                .field("Cache-Control", "max-age=60")
                .behind(&shut),
            _ => Reply::cached("new"),
        }
    });
    rig.edge.get("/a");
    let ask = || {
        let mut client = rig.edge.client();
        client.send(request("HEAD", "/a", &[], b""));
        client
    };
    let mut clients = vec![ask()];
    rig.origin.wait_for("/a", 2);
    clients.extend((0..3).map(|_| ask()));
    eventually("the others to join", || {
        rig.edge.metrics().count("larder_collapsed_total", &[]) == 3
    });
    assert_eq!(rig.edge.get("/a").text(), "new");
    gate.open();
    for mut client in clients {
        let head = client.response("HEAD");
        assert_eq!((head.status(), head.body.len()), (200, 0));
    }
    assert_eq!(rig.origin.total(), 3);
}

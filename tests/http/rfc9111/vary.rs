//! Section 4.1: which of the stored responses a request may be answered with.

use super::{Exchange, Fields, Forward, Reuse, Rig, Then};
use crate::support::origin::Asked;
use crate::support::reply::Reply;

/// The second request after a first one, whose answer has this `Vary`.
#[track_caller]
fn check(rows: &[(&str, Fields<'_>, Fields<'_>, Then)]) {
    let rig = Rig::new();
    for (vary, sent, then_sent, then) in rows {
        let given = [("Cache-Control", "max-age=3600"), ("Vary", *vary)];
        let exchange = Exchange {
            sent,
            status: 200,
            given: &given,
            then_sent,
        };
        assert_eq!(rig.second(&exchange).0, *then, "{exchange:?}");
    }
}

#[test]
fn nominated_fields_must_match() {
    let one = ("X-A", "1");
    check(&[
        ("X-A", &[one], &[one], Reuse),
        ("X-A", &[one], &[("x-a", "1")], Reuse),
        ("X-A", &[one], &[("X-A", "2")], Forward),
        ("X-A", &[one], &[], Forward),
        ("X-A", &[], &[one], Forward),
        ("X-A", &[], &[], Reuse),
        ("X-A", &[("X-A", "")], &[], Forward),
        ("X-A", &[], &[("X-A", "")], Forward),
        ("x-a", &[one], &[one, ("X-B", "2")], Reuse),
        ("X-A, X-B", &[one], &[one], Reuse),
        ("X-A, X-B", &[one], &[one, ("X-B", "2")], Forward),
        (
            "X-B, X-A",
            &[one, ("X-B", "2")],
            &[("X-B", "2"), one],
            Reuse,
        ),
        ("X-B,,X-A,", &[one], &[("X-A", "2")], Forward),
        ("*", &[], &[], Forward),
        ("X-A, *", &[one], &[one], Forward),
        ("*, X-A", &[one], &[one], Forward),
        ("X-A;q=1", &[one], &[one], Forward),
        // The origin was told another value than the client sent.
        ("X-Forwarded-For", &[], &[], Forward),
        ("", &[], &[one], Reuse),
    ]);
}

#[test]
fn values_are_compared_as_their_definition_allows() {
    check(&[
        ("X-A", &[("X-A", "1")], &[("X-A", " 1 ")], Reuse),
        (
            "X-A",
            &[("X-A", "1, 2")],
            &[("X-A", "1"), ("X-A", "2")],
            Reuse,
        ),
        ("X-A", &[("X-A", "1, 2")], &[("X-A", "2, 1")], Forward),
        ("X-A", &[("X-A", "a")], &[("X-A", "A")], Forward),
        (
            "Accept-Encoding",
            &[("Accept-Encoding", "gzip, br")],
            &[("Accept-Encoding", "br,GZIP")],
            Reuse,
        ),
        (
            "Accept-Encoding",
            &[("Accept-Encoding", "gzip")],
            &[("Accept-Encoding", "br")],
            Forward,
        ),
        (
            "Accept-Language",
            &[("Accept-Language", "en, de;q=0.5")],
            &[("Accept-Language", "de;q=0.5,en")],
            Reuse,
        ),
        (
            "Accept-Language",
            &[("Accept-Language", "en, de")],
            &[("Accept-Language", "de, en")],
            Forward,
        ),
        (
            "Accept",
            &[("Accept", "a/b,  c/d")],
            &[("Accept", "a/b,c/d")],
            Reuse,
        ),
        (
            "Cookie",
            &[("Cookie", "a=1; b=2")],
            &[("Cookie", "a=1; b=3")],
            Forward,
        ),
    ]);
}

#[test]
fn several_lines_of_vary_are_one_list() {
    let rig = Rig::new();
    let given = [
        ("Cache-Control", "max-age=9"),
        ("Vary", "X-A"),
        ("Vary", "X-B"),
    ];
    for (then_sent, then) in [
        (&[("X-A", "1"), ("X-B", "1")][..], Reuse),
        (&[("X-A", "2"), ("X-B", "1")], Forward),
        (&[("X-A", "1"), ("X-B", "2")], Forward),
    ] {
        let sent = &[("X-A", "1"), ("X-B", "1")];
        let exchange = Exchange {
            sent,
            status: 200,
            given: &given,
            then_sent,
        };
        assert_eq!(rig.second(&exchange).0, then, "{then_sent:?}");
    }
}

#[test]
fn the_most_recent_of_those_that_match_is_used() {
    let rig = Rig::new();
    // Each answer varies on one field more or less; the bodies are numbered.
    let answer = |asked: &Asked| {
        let vary = ["X-A", "X-B", "X-A, X-B"][asked.turn % 3];
        let date = ["@-30", "@-20", "@-10"][asked.turn % 3];
        super::reply(
            200,
            &[
                ("Cache-Control", "max-age=3600"),
                ("Vary", vary),
                ("Date", date),
            ],
        )
        .body(asked.turn.to_string())
    };
    rig.origin.route("/a", answer);
    let get = |a, b| rig.edge.get_with("/a", &[("X-A", a), ("X-B", b)]).text();
    assert_eq!(get("1", "1"), "0", "stored for A=1");
    assert_eq!(get("2", "1"), "1", "stored for B=1");
    assert_eq!(get("1", "1"), "1", "both match, and the second is newer");
    assert_eq!(get("1", "2"), "0", "only the first matches");
    assert_eq!(get("3", "3"), "2", "none matches");
    assert_eq!(get("3", "3"), "2");
    assert_eq!(get("2", "1"), "1", "the others are still there");
    assert_eq!(rig.origin.total(), 3);
}

#[test]
fn variants_outlive_an_answer_that_does_not_vary() {
    let rig = Rig::new();
    rig.origin
        .route("/a", |asked| match asked.field("x-a").as_deref() {
            Some("0") => Reply::ok("none").field("Cache-Control", "no-store"),
            a => Reply::cached(a.unwrap_or_default()).field("Vary", "X-A"),
        });
    for _ in 0..2 {
        for a in ["1", "2", "0"] {
            let text = rig.edge.get_with("/a", &[("X-A", a)]).text();
            assert_eq!(text, if a == "0" { "none" } else { a });
        }
    }
    assert_eq!(rig.origin.total(), 4);
}

#[test]
fn what_is_for_the_connection_alone_chooses_nothing() {
    let rig = Rig::new();
    rig.origin.route("/a", |asked| {
        let seen = asked.field("x-a").unwrap_or_else(|| "none".to_owned());
        Reply::cached(seen).field("Vary", "X-A")
    });
    let get = |fields| rig.edge.get_with("/a", fields).text();
    for _ in 0..2 {
        assert_eq!(get(&[("Connection", "X-A"), ("X-A", "1")]), "none");
        assert_eq!(get(&[("X-A", "1")]), "1");
        assert_eq!(
            get(&[("X-A", "1"), ("Connection", "keep-alive, x-a")]),
            "none"
        );
        assert_eq!(get(&[]), "none");
    }
    assert_eq!(rig.origin.total(), 2);
}

#[test]
fn a_304_may_change_which_fields_choose() {
    let rig = Rig::new();
    let tag = ("ETag", "\"a\"");
    for (before, update, then) in [
        (None, Some("X-A"), [Forward, Reuse]),
        (Some("X-B"), Some("X-A"), [Forward, Reuse]),
        (Some("X-A"), Some("X-A, X-B"), [Forward, Forward]),
        (Some("X-A"), None, [Forward, Reuse]),
        (Some("X-A"), Some(""), [Reuse, Reuse]),
        (None, None, [Reuse, Reuse]),
    ] {
        let target = format!("/{}", rig.origin.total());
        let with = |reply: Reply, vary: Option<&str>| {
            let vary = vary.map(|vary| ("Vary", vary));
            vary.into_iter()
                .fold(reply, |reply, (name, value)| reply.field(name, value))
        };
        let old = [tag, ("Cache-Control", "max-age=60"), ("Age", "100")];
        let new = [tag, ("Cache-Control", "max-age=60")];
        let first = with(super::reply(200, &old).body("first"), before);
        let update = with(super::reply(304, &new), update);
        let other = Reply::ok("other").field("Cache-Control", "no-store");
        rig.origin.sequence(&target, vec![first, update, other]);
        let get = |a, b| rig.edge.get_with(&target, &[("X-A", a), ("X-B", b)]);
        get("1", "1");
        assert_eq!(get("1", "1").text(), "first", "validated");
        rig.edge.wait_for_landing();
        let same = get("1", "1");
        assert_eq!((same.text().as_str(), same.is_hit()), ("first", true));
        for ((a, b), then) in [("2", "1"), ("1", "2")].into_iter().zip(then) {
            let text = get(a, b).text();
            let expected = if then == Reuse { "first" } else { "other" };
            assert_eq!(text, expected, "{before:?}, {a} {b}");
        }
    }
}

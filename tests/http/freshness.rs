//! How long responses are used, and which are not stored at all. Time does not pass in here: what
//! is to be old arrives with an `Age` or a `Date` that makes it so.

use std::time::Duration;

use crate::support::edge::{Edge, Setup};
use crate::support::now;
use crate::support::origin::Origin;
use crate::support::reply::Reply;

fn date(seconds_from_now: i64) -> String {
    let by = Duration::from_secs(seconds_from_now.unsigned_abs());
    let now = now();
    httpdate::fmt_http_date(if seconds_from_now < 0 {
        now - by
    } else {
        now + by
    })
}

type Fields<'a> = &'a [(&'a str, &'a str)];

fn reply(status: u16, fields: Fields<'_>) -> Reply {
    let reply = Reply::status(status).body("content");
    fields
        .iter()
        .fold(reply, |reply, (name, value)| reply.field(name, *value))
}

/// Whether a second request is answered from store.
fn is_reused(edge: &Edge, origin: &Origin, sent: Fields<'_>, status: u16, got: Fields<'_>) -> bool {
    let target = format!("/{}", origin.total());
    origin.on(&target, reply(status, got));
    let before = origin.total();
    for _ in 0..2 {
        let response = edge.get_with(&target, sent);
        assert_eq!(
            (response.status(), response.text().as_str()),
            (status, "content"),
            "{got:?}"
        );
    }
    origin.total() - before == 1
}

#[test]
fn explicit_lifetimes_are_followed() {
    let origin = Origin::start();
    let edge = Edge::before(&origin);
    let (soon, past, now, earlier) = (date(60), date(-60), date(0), date(-100));
    for (fields, reused) in [
        (&[("Cache-Control", "max-age=60")][..], true),
        (&[("Cache-Control", "max-age=\"60\"")], true),
        (&[("Cache-Control", "max-age=0")], false),
        (&[("Cache-Control", "max-age=60"), ("Age", "59")], true),
        (&[("Cache-Control", "max-age=60"), ("Age", "60")], false),
        (
            &[("Cache-Control", "max-age=60"), ("Date", &earlier)],
            false,
        ),
        (
            &[("Cache-Control", "max-age=130"), ("Date", &earlier)],
            true,
        ),
        (&[("Cache-Control", "max-age=0, s-maxage=60")], true),
        (&[("Cache-Control", "max-age=60, s-maxage=0")], false),
        (&[("Expires", &soon)], true),
        (&[("Expires", &past)], false),
        (&[("Expires", &now)], false),
        (&[("Expires", "0")], false),
        (&[("Expires", &past), ("Cache-Control", "max-age=60")], true),
        (&[("Expires", &soon), ("Cache-Control", "max-age=0")], false),
    ] {
        assert_eq!(
            is_reused(&edge, &origin, &[], 200, fields),
            reused,
            "{fields:?}"
        );
    }
}

#[test]
fn a_lifetime_is_guessed_from_the_last_modification() {
    let origin = Origin::start();
    let edge = Edge::before(&origin);
    let (long_ago, now) = (date(-86_400), date(0));
    let target = "/guessed";
    origin.on(
        target,
        reply(200, &[("Last-Modified", &long_ago), ("Date", &now)]),
    );
    edge.get(target);
    let status = edge.get(target).cache_status();
    let ttl = status
        .strip_prefix("larder; hit; ttl=")
        .and_then(|ttl| ttl.parse::<u64>().ok());
    assert!(
        ttl.is_some_and(|ttl| (8_600..=8_640).contains(&ttl)),
        "{status}"
    );
    assert_eq!(origin.count(target), 1);
    assert!(
        !is_reused(&edge, &origin, &[], 200, &[]),
        "nothing to guess from"
    );
    assert!(!is_reused(
        &edge,
        &origin,
        &[],
        500,
        &[("Last-Modified", &long_ago)]
    ));
}

#[test]
fn a_site_may_give_what_says_nothing_a_lifetime() {
    let origin = Origin::start();
    let edge = Setup::site(&origin, "default_ttl = \"60s\"").start();
    assert!(is_reused(&edge, &origin, &[], 200, &[]));
    assert!(!is_reused(
        &edge,
        &origin,
        &[],
        200,
        &[("Cache-Control", "max-age=0")]
    ));
    assert!(
        !is_reused(&edge, &origin, &[], 404, &[]),
        "errors are not given one"
    );
}

#[test]
fn what_must_not_be_stored_is_not() {
    let origin = Origin::start();
    let edge = Edge::before(&origin);
    let long_ago = date(-86_400);
    for fields in [
        &[("Cache-Control", "no-store")][..],
        &[("Cache-Control", "no-store, max-age=60")],
        &[("Cache-Control", "private")],
        &[("Cache-Control", "private, max-age=60")],
        &[
            ("Cache-Control", "max-age=60"),
            ("Cache-Control", "no-store"),
        ],
        &[("Cache-Control", "no-cache, max-age=60")],
        &[("Cache-Control", "max-age=60"), ("Vary", "*")],
        &[("Set-Cookie", "a=b"), ("Last-Modified", &long_ago)],
    ] {
        assert!(!is_reused(&edge, &origin, &[], 200, fields), "{fields:?}");
    }
    let sent = [("Cache-Control", "no-store")];
    assert!(!is_reused(
        &edge,
        &origin,
        &sent,
        200,
        &[("Cache-Control", "max-age=60")]
    ));
    assert_eq!(edge.metrics().count("larder_tier_entries", &[]), 0);
}

#[test]
fn answers_to_authenticated_requests_are_shared_only_where_allowed() {
    let origin = Origin::start();
    let edge = Edge::before(&origin);
    let sent = [("Authorization", "Basic eA==")];
    for (control, reused) in [
        ("max-age=60", false),
        ("max-age=60, public", true),
        ("s-maxage=60", true),
        ("max-age=60, must-revalidate", true),
    ] {
        let got = [("Cache-Control", control)];
        assert_eq!(
            is_reused(&edge, &origin, &sent, 200, &got),
            reused,
            "{control}"
        );
    }
}

#[test]
fn statuses_are_stored_where_that_is_allowed() {
    let origin = Origin::start();
    let edge = Edge::before(&origin);
    for status in [200, 203, 301, 302, 307, 308, 404, 410, 500, 503] {
        let got = [("Cache-Control", "max-age=60")];
        assert!(is_reused(&edge, &origin, &[], status, &got), "{status}");
    }
}

#[test]
fn fields_that_are_private_reach_only_who_asked_first() {
    let origin = Origin::start();
    let edge = Edge::before(&origin);
    let control = "max-age=60, private=\"x-mine\", no-cache=\"x-checked\"";
    let fields = [
        ("Cache-Control", control),
        ("X-Mine", "1"),
        ("X-Checked", "1"),
        ("X-All", "1"),
    ];
    origin.on("/a", reply(200, &fields));
    let first = edge.get("/a");
    assert_eq!(first.field("x-mine").as_deref(), Some("1"));
    let second = edge.get("/a");
    assert!(second.is_hit());
    assert_eq!(second.field("x-all").as_deref(), Some("1"));
    assert_eq!(
        (second.field("x-mine"), second.field("x-checked")),
        (None, None)
    );
}

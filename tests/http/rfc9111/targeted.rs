//! RFC 9213: fields for this cache go before those for all; `Surrogate-Control` for compatibility.

use super::{Exchange, Fields, Forward, Reuse, Rig, Then, Validate};
use crate::support::reply::Reply;

const TAG: (&str, &str) = ("ETag", "\"a\"");
const NEVER: (&str, &str) = ("Cache-Control", "no-store");
const LONG: (&str, &str) = ("Cache-Control", "max-age=3600");
const GONE: (&str, &str) = ("Expires", "0");

#[test]
fn the_first_readable_field_decides() {
    let rig = Rig::new();
    let cdn = |value| ("CDN-Cache-Control", value);
    let own = |value| ("Larder-Cache-Control", value);
    let surrogate = |value| ("Surrogate-Control", value);
    let rows: &[(Fields<'_>, Then)] = &[
        (&[cdn("max-age=60"), NEVER, GONE], Reuse),
        (&[own("max-age=60"), NEVER, GONE], Reuse),
        (&[surrogate("max-age=60"), NEVER, GONE], Reuse),
        (&[cdn("no-store"), LONG], Forward),
        (&[cdn("private"), LONG], Forward),
        (&[cdn("no-cache"), TAG, LONG], Validate),
        (&[cdn("max-age=0"), TAG, LONG], Validate),
        (&[cdn("max-age=60"), ("Age", "61"), TAG, LONG], Validate),
        (&[own("max-age=60"), cdn("no-store")], Reuse),
        (&[own("no-store"), cdn("max-age=60"), LONG], Forward),
        (&[cdn("no-store"), surrogate("max-age=60")], Forward),
        (&[surrogate("no-store"), LONG], Forward),
        (&[surrogate("content=\"ESI/1.0\""), LONG], Reuse),
        // Cache-Control and Expires say nothing beside it.
        (&[cdn("public"), LONG], Forward),
        (&[cdn("foo"), TAG, LONG], Validate),
        (&[cdn("must-revalidate, max-age=60"), LONG, GONE], Reuse),
        // Parameters, several lines, repetitions: as structured fields have it.
        (&[cdn("max-age=60;foo=bar"), NEVER], Reuse),
        (&[cdn("foo"), cdn("max-age=60"), NEVER], Reuse),
        (&[cdn("max-age=0, max-age=60"), NEVER], Reuse),
        (&[cdn("max-age=60, foo=(a b);c"), NEVER], Reuse),
        // What is no dictionary, or an empty one, is not there.
        (&[cdn("MAX-AGE=60"), NEVER], Forward),
        (&[cdn("max-age=60,"), NEVER], Forward),
        (&[cdn("no-store,"), LONG], Reuse),
        (&[cdn("no-store, &"), LONG], Reuse),
        (&[cdn("max-age= 60"), LONG], Reuse),
        (&[cdn(""), LONG], Reuse),
        (&[own("no-store="), cdn("max-age=60"), NEVER], Reuse),
        // A value of another type is no lifetime.
        (&[cdn("max-age=60.5"), LONG], Forward),
        (&[cdn("max-age=\"60\""), LONG], Forward),
        (&[cdn("max-age=-60"), LONG], Forward),
        (&[cdn("max-age"), LONG], Forward),
    ];
    for (given, then) in rows {
        assert_eq!(rig.after(200, given), *then, "{given:?}");
    }
}

#[test]
fn clients_do_not_see_them() {
    let rig = Rig::new();
    let given = [
        ("CDN-Cache-Control", "max-age=60"),
        ("Larder-Cache-Control", "max-age=60"),
        ("Surrogate-Control", "max-age=60"),
        ("Other-Cache-Control", "max-age=60"),
        ("Cache-Control", "max-age=5"),
    ];
    let exchange = Exchange {
        sent: &[],
        status: 200,
        given: &given,
        then_sent: &[],
    };
    let (_, hit) = rig.second(&exchange);
    rig.origin.on("/passed", super::reply(200, &given));
    let passed = rig.edge.client().request("POST", "/passed", &[], b"");
    rig.origin.on("/missed", super::reply(200, &given));
    for response in [hit, passed, rig.edge.get("/missed")] {
        for name in [
            "cdn-cache-control",
            "larder-cache-control",
            "surrogate-control",
        ] {
            assert_eq!(response.field(name), None, "{name}");
        }
        assert_eq!(
            response.field("other-cache-control").as_deref(),
            Some("max-age=60")
        );
        assert_eq!(
            response.field("cache-control").as_deref(),
            Some("max-age=5")
        );
    }
}

#[test]
fn a_304_leaves_them_in_force() {
    let rig = Rig::new();
    let old = Reply::ok("a")
        .field("ETag", "\"a\"")
        .field("CDN-Cache-Control", "max-age=600")
        .field("Age", "700");
    let confirmed = Reply::status(304)
        .field("ETag", "\"a\"")
        .field("Cache-Control", "max-age=1");
    rig.origin.sequence("/a", vec![old, confirmed]);
    rig.edge.get("/a");
    assert_eq!(rig.edge.get("/a").text(), "a");
    let hit = rig.edge.get("/a");
    let ttl = hit.cache_status();
    let ttl = ttl
        .strip_prefix("larder; hit; ttl=")
        .and_then(|ttl| ttl.parse::<u32>().ok());
    assert!(ttl.is_some_and(|ttl| ttl > 500), "{hit:?}");
    assert_eq!(hit.field("cdn-cache-control"), None);
    assert_eq!(rig.origin.total(), 2);
}

//! Section 3: which responses are stored. Whoever is stored is reused, since it is fresh.

use super::{Exchange, Fields, Forward, Reuse, Rig, Then, Validate};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=3600");
const LONG_AGO: (&str, &str) = ("Last-Modified", "@-86400");

/// The final statuses with content that this suite's client can tell apart; 204, 205 and 304 have
/// none and 206 is a part.
fn statuses() -> impl Iterator<Item = u16> {
    let odd = [299, 399, 418, 499, 599];
    let known = (200..=203).chain(300..=303).chain(305..=308);
    let errors = (400..=417).chain(421..=426).chain([428, 429, 431, 451]);
    let failures = (500..=511).filter(|status| *status != 509);
    known.chain(errors).chain(failures).chain(odd)
}

#[test]
fn a_lifetime_makes_every_final_status_storable() {
    let rig = Rig::new();
    for status in statuses() {
        assert_eq!(rig.after(status, &[FRESH]), Reuse, "{status}");
    }
    for status in [200, 299, 404, 503] {
        assert_eq!(
            rig.after(status, &[("Expires", "@3600")]),
            Reuse,
            "{status}"
        );
    }
}

#[test]
fn a_guess_is_made_for_heuristically_cacheable_statuses_only() {
    let rig = Rig::new();
    for status in statuses() {
        // RFC 9110 15.1; 204 and 206 are seen to elsewhere.
        let cacheable = [200, 203, 300, 301, 308, 404, 405, 410, 414, 501].contains(&status);
        let then = rig.after(status, &[LONG_AGO]);
        let expected = if cacheable { Reuse } else { Forward };
        assert_eq!(then, expected, "{status}");
        // 4.2.2: `public` marks any other as cacheable.
        let public = [LONG_AGO, ("Cache-Control", "public")];
        assert_eq!(rig.after(status, &public), Reuse, "{status}");
        // Nothing to guess from.
        assert_eq!(rig.after(status, &[]), Forward, "{status}");
        let bare = [("Cache-Control", "public")];
        assert_eq!(rig.after(status, &bare), Forward, "{status}");
    }
}

#[test]
fn directives_of_the_response_forbid_and_allow() {
    let rig = Rig::new();
    for (control, then) in [
        ("no-store", Forward),
        ("No-Store, max-age=3600", Forward),
        ("max-age=3600, NO-STORE", Forward),
        ("max-age=3600, no-store=\"x\"", Forward),
        ("max-age=3600, no-store=1", Forward),
        ("private", Forward),
        ("max-age=3600, private", Forward),
        ("s-maxage=3600, private", Forward),
        ("public, private, max-age=3600", Forward),
        ("max-age=3600, private=\"x-a\"", Reuse),
        ("max-age=3600, private=\"\"", Forward),
        ("max-age=3600, x=\"no-store\"", Reuse),
        ("max-age=3600, x-no-store", Reuse),
        ("max-age=3600, nostore", Reuse),
        ("max-age=3600, no_store", Reuse),
        ("max-age=3600, foo, bar=baz, qux=\"1, 2\"", Reuse),
        (",, max-age=3600 ,,", Reuse),
        ("\tmax-age=3600\t,\tfoo", Reuse),
        // 5.2.2.3
        ("no-store, must-understand, max-age=3600", Reuse),
        ("must-understand, max-age=3600", Reuse),
    ] {
        assert_eq!(
            rig.after(200, &[("Cache-Control", control)]),
            then,
            "{control}"
        );
    }
    let lines = [FRESH, ("X", "y"), ("Cache-Control", "no-store")];
    assert_eq!(rig.after(200, &lines), Forward);
    for status in [299, 499, 599] {
        let control = [("Cache-Control", "max-age=3600, must-understand")];
        assert_eq!(
            rig.after(status, &control),
            Forward,
            "{status} is not understood"
        );
    }
}

#[test]
fn fields_of_other_times_decide_nothing() {
    let rig = Rig::new();
    for given in [
        &[FRESH, ("Pragma", "no-cache")][..],
        &[FRESH, ("Warning", "110 - \"stale\"")],
        &[FRESH, ("Set-Cookie", "a=b")],
        &[FRESH, ("Edge-Control", "no-store")],
        &[FRESH, ("X-Accel-Expires", "0")],
        &[FRESH, ("Other-CDN-Cache-Control", "no-store")],
    ] {
        assert_eq!(rig.after(200, given), Reuse, "{given:?}");
    }
    // A cookie is not given to others on a guess.
    assert_eq!(rig.after(200, &[LONG_AGO, ("Set-Cookie", "a=b")]), Forward);
}

#[test]
fn the_request_may_forbid_to_store() {
    let rig = Rig::new();
    let then = |sent: Fields<'_>, given: Fields<'_>| -> Then {
        let exchange = Exchange {
            sent,
            status: 200,
            given,
            then_sent: &[],
        };
        rig.second(&exchange).0
    };
    assert_eq!(then(&[("Cache-Control", "no-store")], &[FRESH]), Forward);
    assert_eq!(then(&[("Cache-Control", "x, No-Store")], &[FRESH]), Forward);
    // 3.5
    let named = [("Authorization", "Basic eA==")];
    for (control, expected) in [
        ("max-age=3600", Forward),
        ("max-age=3600, proxy-revalidate", Forward),
        ("max-age=3600, public", Reuse),
        ("max-age=3600, must-revalidate", Reuse),
        ("s-maxage=3600", Reuse),
        ("max-age=3600, public=1", Forward),
    ] {
        assert_eq!(
            then(&named, &[("Cache-Control", control)]),
            expected,
            "{control}"
        );
    }
    assert_eq!(
        then(&named, &[("CDN-Cache-Control", "max-age=3600, public")]),
        Reuse
    );
    assert_eq!(
        then(
            &named,
            &[
                ("CDN-Cache-Control", "max-age=3600"),
                ("Cache-Control", "public")
            ]
        ),
        Forward
    );
}

#[test]
fn no_cache_is_stored_and_always_validated() {
    let rig = Rig::new();
    let tag = ("ETag", "\"a\"");
    for control in ["no-cache", "no-cache, max-age=3600", "No-Cache, s-maxage=9"] {
        let given = [tag, ("Cache-Control", control)];
        assert_eq!(rig.after(200, &given), Validate, "{control}");
        assert_eq!(
            rig.after(200, &[("Cache-Control", control)]),
            Forward,
            "{control}"
        );
    }
    // 5.2.2.4: named fields are kept back, the rest is reused.
    let given = [
        tag,
        ("Cache-Control", "max-age=9, no-cache=\"X-A\""),
        ("X-A", "1"),
        ("X-B", "2"),
    ];
    let exchange = Exchange {
        sent: &[],
        status: 200,
        given: &given,
        then_sent: &[],
    };
    let (then, response) = rig.second(&exchange);
    assert_eq!(then, Reuse);
    assert_eq!(
        (response.field("x-a"), response.field("x-b").as_deref()),
        (None, Some("2"))
    );
}

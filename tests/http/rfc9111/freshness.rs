//! Section 4.2, and 5.1, 5.2.2.1, 5.2.2.10, 5.3: how long a response is fresh, and how old it is.
//! Stale ones without a validator are fetched anew.

use super::{Fields, Forward, Reuse, Rig, Then, Validate};

const MAX_AGE: (&str, &str) = ("Cache-Control", "max-age=3600");

#[track_caller]
fn check(rows: &[(Fields<'_>, Then)]) {
    let rig = Rig::new();
    for (given, then) in rows {
        assert_eq!(rig.after(200, given), *then, "{given:?}");
    }
}

fn control(rows: &[(&str, Then)]) {
    let rig = Rig::new();
    for (control, then) in rows {
        let given = [("Cache-Control", *control)];
        assert_eq!(rig.after(200, &given), *then, "{control}");
    }
}

#[test]
fn max_age_is_read_to_the_letter() {
    control(&[
        ("max-age=3600", Reuse),
        ("MAX-AGE=3600", Reuse),
        ("max-age=\"3600\"", Reuse),
        ("max-age=003600", Reuse),
        ("max-age=2147483648", Reuse),
        ("max-age=99999999999", Reuse),
        ("max-age=18446744073709551617", Reuse),
        ("max-age=99999999999999999999999999999999", Reuse),
        ("max-age=0", Forward),
        ("max-age=-1", Forward),
        ("max-age=-3600", Forward),
        ("max-age=+3600", Forward),
        ("max-age=3600.0", Forward),
        ("max-age=1e4", Forward),
        ("max-age=0x3600", Forward),
        ("max-age='3600'", Forward),
        ("max-age=3600s", Forward),
        ("max-age =3600", Forward),
        ("max-age= 3600", Forward),
        ("max-age=3600 1", Forward),
        ("max-age=3600;x", Forward),
        ("max-age=", Forward),
        ("max-age", Forward),
        ("max-age=\"\"", Forward),
        ("max-age:3600", Forward),
        ("xmax-age=3600", Forward),
        ("x=\"max-age=3600\"", Forward),
        ("x=\"1, max-age=3600\"", Forward),
        ("x=\"a\\\", max-age=3600\"", Forward),
        ("x=\"\", max-age=3600", Reuse),
    ]);
}

#[test]
fn of_several_values_the_first_counts() {
    control(&[
        ("max-age=3600, max-age=0", Reuse),
        ("max-age=0, max-age=3600", Forward),
        ("max-age=3600, max-age=x", Forward),
        ("s-maxage=3600, s-maxage=0", Reuse),
        ("s-maxage=0, s-maxage=3600", Forward),
    ]);
    check(&[
        (&[MAX_AGE, ("Cache-Control", "max-age=0")], Reuse),
        (&[("Cache-Control", "max-age=0"), MAX_AGE], Forward),
        (&[("Expires", "@3600"), ("Expires", "@-1")], Reuse),
        (&[("Expires", "@-1"), ("Expires", "@3600")], Forward),
        (&[("Expires", "0"), ("Expires", "@3600")], Forward),
    ]);
}

#[test]
fn the_more_specific_lifetime_wins() {
    check(&[
        (&[("Cache-Control", "s-maxage=3600, max-age=0")], Reuse),
        (&[("Cache-Control", "s-maxage=0, max-age=3600")], Forward),
        (&[("Cache-Control", "s-maxage=x, max-age=3600")], Forward),
        (&[("Expires", "@-9"), MAX_AGE], Reuse),
        (&[("Expires", "0"), ("Cache-Control", "s-maxage=9")], Reuse),
        (
            &[("Expires", "@3600"), ("Cache-Control", "max-age=0")],
            Forward,
        ),
        (
            &[("Expires", "@3600"), ("Cache-Control", "max-age=x")],
            Forward,
        ),
        (&[("Expires", "@3600"), ("Cache-Control", "public")], Reuse),
        (
            &[("Last-Modified", "@-86400"), ("Cache-Control", "max-age=0")],
            Validate,
        ),
        (&[("Last-Modified", "@-86400"), ("Expires", "0")], Validate),
    ]);
}

#[test]
fn expires_is_a_date_or_past() {
    check(&[
        (&[("Expires", "@3600")], Reuse),
        (&[("Expires", "@3600"), ("Date", "@0")], Reuse),
        (&[("Expires", "@3600"), ("Date", "@3600")], Forward),
        // The lifetime is what lies between the two, whatever the clock here says.
        (&[("Expires", "@90"), ("Date", "@60")], Reuse),
        (&[("Expires", "@-60"), ("Date", "@-90")], Forward),
        (&[("Expires", "@0"), ("Date", "@0")], Forward),
        (&[("Expires", "0")], Forward),
        (&[("Expires", "-1")], Forward),
        (&[("Expires", "")], Forward),
        (&[("Expires", "tomorrow")], Forward),
        // The three forms, and names in any case (RFC 9110 5.6.7, RFC 9111 4.2).
        (&[("Expires", "Wed, 06 Nov 2069 08:49:37 GMT")], Reuse),
        (&[("Expires", "Wednesday, 06-Nov-69 08:49:37 GMT")], Reuse),
        (&[("Expires", "Wed Nov  6 08:49:37 2069")], Reuse),
        (&[("Expires", "wED, 06 nOV 2069 08:49:37 gMT")], Reuse),
        (&[("Expires", "Wed, 06 Nov 2069 23:59:60 GMT")], Reuse),
        (&[("Expires", "Sunday, 06-Nov-94 08:49:37 GMT")], Forward),
        (&[("Expires", "Wed, 06 Nov 2069 08:49:37 UTC")], Forward),
        (&[("Expires", "Wed, 06 Nov 2069 08:49:37 +0000")], Forward),
        (&[("Expires", "Wed, 06 Nov 2069 08:49:37")], Forward),
        (&[("Expires", "Wed, 6 Nov 2069 08:49:37 GMT")], Forward),
        (&[("Expires", "Wed, 06 Nov 69 08:49:37 GMT")], Forward),
        (&[("Expires", "Wed, 06-Nov-2069 08:49:37 GMT")], Forward),
        (&[("Expires", "Wed 06 Nov 2069 08:49:37 GMT")], Forward),
        (&[("Expires", "Wed,  06  Nov  2069 08:49:37 GMT")], Forward),
        (&[("Expires", "Wed, 06 Nov 2069 8:49:37 GMT")], Forward),
        (&[("Expires", "Wed, 06 Nov 2069 08.49.37 GMT")], Forward),
        (&[("Expires", "Wed, 06 Nov 2069 24:00:00 GMT")], Forward),
        (&[("Expires", "Sat, 31 Feb 2069 08:49:37 GMT")], Forward),
    ]);
}

#[test]
fn age_is_the_larger_of_what_is_told_and_what_the_date_shows() {
    check(&[
        (&[MAX_AGE, ("Age", "3599")], Reuse),
        (&[MAX_AGE, ("Age", "3600")], Forward),
        (&[MAX_AGE, ("Age", "2147483648")], Forward),
        (&[MAX_AGE, ("Age", "99999999999999999999")], Forward),
        (&[MAX_AGE, ("Date", "@-3700")], Forward),
        (&[MAX_AGE, ("Date", "@-3000")], Reuse),
        (&[MAX_AGE, ("Date", "@-10"), ("Age", "3600")], Forward),
        (&[MAX_AGE, ("Date", "@-3700"), ("Age", "10")], Forward),
        (&[MAX_AGE, ("Date", "@3600")], Reuse),
        (&[MAX_AGE, ("Date", "@3600"), ("Age", "3600")], Forward),
        (&[MAX_AGE, ("Date", "yesterday")], Reuse),
        (&[("Expires", "@3600"), ("Age", "3700")], Forward),
        // 5.1: the first member; what is no number is ignored.
        (&[MAX_AGE, ("Age", "3600, 0")], Forward),
        (&[MAX_AGE, ("Age", "0, 3600")], Reuse),
        (&[MAX_AGE, ("Age", "3600"), ("Age", "0")], Forward),
        (&[MAX_AGE, ("Age", "0"), ("Age", "3600")], Reuse),
        (&[MAX_AGE, ("Age", ""), ("Age", "3600")], Forward),
        (&[MAX_AGE, ("Age", "-3600")], Reuse),
        (&[MAX_AGE, ("Age", "3600.0")], Reuse),
        (&[MAX_AGE, ("Age", "3600;x=1")], Reuse),
        (&[MAX_AGE, ("Age", "3600 0")], Reuse),
        (&[MAX_AGE, ("Age", "\"3600\"")], Reuse),
        (&[MAX_AGE, ("Age", "abc")], Reuse),
    ]);
}

#[test]
fn a_guess_is_a_tenth_of_the_time_since_the_last_change() {
    check(&[
        (&[("Last-Modified", "@-86400")], Reuse),
        (&[("Last-Modified", "@-86400"), ("Age", "8000")], Reuse),
        (&[("Last-Modified", "@-86400"), ("Age", "9000")], Validate),
        (&[("Last-Modified", "@-864000000"), ("Age", "86000")], Reuse),
        (
            &[("Last-Modified", "@-864000000"), ("Age", "86401")],
            Validate,
        ),
        (&[("Last-Modified", "@3600")], Validate),
        (&[("Last-Modified", "long ago")], Forward),
        (&[("ETag", "\"a\"")], Validate),
        (
            &[("Last-Modified", "Sunday, 06-Nov-94 08:49:37 GMT")],
            Reuse,
        ),
        (&[("Last-Modified", "Sun Nov  6 08:49:37 1994")], Reuse),
    ]);
}

#[test]
fn stale_responses_wait_for_the_origin() {
    let tag = ("ETag", "\"a\"");
    let old = ("Age", "100");
    check(&[
        (&[tag, old, ("Cache-Control", "max-age=60")], Validate),
        (
            &[
                tag,
                old,
                ("Cache-Control", "max-age=60, stale-if-error=900"),
            ],
            Validate,
        ),
        (
            &[
                tag,
                old,
                ("Cache-Control", "max-age=60, stale-while-revalidate=30"),
            ],
            Validate,
        ),
        (
            &[
                tag,
                old,
                ("Cache-Control", "max-age=60, stale-while-revalidate=x"),
            ],
            Validate,
        ),
        (
            &[
                tag,
                old,
                (
                    "Cache-Control",
                    "max-age=60, must-revalidate, stale-while-revalidate=900",
                ),
            ],
            Validate,
        ),
        (
            &[
                tag,
                old,
                (
                    "Cache-Control",
                    "max-age=60, proxy-revalidate, stale-while-revalidate=900",
                ),
            ],
            Validate,
        ),
        (
            &[
                tag,
                old,
                ("Cache-Control", "s-maxage=60, stale-while-revalidate=900"),
            ],
            Validate,
        ),
        (
            &[tag, old, ("Cache-Control", "max-age=160, must-revalidate")],
            Reuse,
        ),
        (
            &[tag, old, ("Cache-Control", "max-age=160, proxy-revalidate")],
            Reuse,
        ),
    ]);
}

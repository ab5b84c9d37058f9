//! Tables and laws of native freshness.

use super::super::by_status::Statuses;
use super::*;
use crate::entry::Usable;
use http::header::{
    AGE, CACHE_CONTROL, DATE, ETAG, EXPIRES, HeaderName, LAST_MODIFIED, SET_COOKIE, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use proptest::prelude::*;
use std::time::UNIX_EPOCH;

/// When the response of every test arrives.
const NOW_SECS: u64 = 1_700_000_000;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW_SECS)
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The date `ago` seconds before the response arrives.
fn ago(ago: u64) -> String {
    httpdate::fmt_http_date(now() - secs(ago))
}

/// The date `ahead` seconds after the response arrives.
fn ahead(ahead: u64) -> String {
    httpdate::fmt_http_date(now() + secs(ahead))
}

fn judge_with(
    status: u16,
    fields: &[(HeaderName, String)],
    delay: Duration,
    bounds: &Bounds,
) -> Native {
    let headers: HeaderMap = fields
        .iter()
        .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
        .collect();
    let times = Times {
        request_time: now() - delay,
        response_time: now(),
    };
    let status = StatusCode::from_u16(status).unwrap();
    native(
        &RequestFacts::new(&Method::GET, &HeaderMap::new()),
        &ResponseFacts::new(status, &headers, now()),
        times,
        bounds,
    )
}

fn judge(status: u16, fields: &[(HeaderName, String)]) -> Native {
    judge_with(status, fields, Duration::ZERO, &Bounds::default())
}

fn cache_control(value: &str) -> (HeaderName, String) {
    (CACHE_CONTROL, value.to_owned())
}

#[test]
fn the_first_source_of_a_lifetime_wins() {
    let check = |fields: &[(HeaderName, String)], basis, lifetime| {
        let native = judge(200, fields);
        assert_eq!(
            (native.basis, native.lifetime),
            (basis, secs(lifetime)),
            "{fields:?}"
        );
    };
    let expires = || (EXPIRES, ahead(50));
    let modified = || (LAST_MODIFIED, ago(1000));
    check(
        &[cache_control("s-maxage=70, max-age=60"), expires()],
        Basis::Explicit,
        70,
    );
    check(
        &[cache_control("max-age=60"), expires(), modified()],
        Basis::Explicit,
        60,
    );
    check(
        &[cache_control("max-age=x"), expires(), modified()],
        Basis::Explicit,
        0,
    );
    check(
        &[cache_control("s-maxage=x, max-age=60")],
        Basis::Explicit,
        0,
    );
    check(&[expires(), modified()], Basis::Explicit, 50);
    check(&[expires(), (DATE, ago(10))], Basis::Explicit, 60);
    check(&[expires(), (DATE, "today".into())], Basis::Explicit, 50);
    check(&[(EXPIRES, ago(1)), modified()], Basis::Explicit, 0);
    check(&[(EXPIRES, "0".into()), modified()], Basis::Explicit, 0);
    check(&[modified()], Basis::Heuristic, 100);
    check(&[modified(), (DATE, ago(500))], Basis::Heuristic, 50);
    check(
        &[(LAST_MODIFIED, ago(100_000_000))],
        Basis::Heuristic,
        86_400,
    );
    check(&[(LAST_MODIFIED, ahead(10))], Basis::None, 0);
    check(&[(LAST_MODIFIED, ago(0))], Basis::None, 0);
    check(&[(LAST_MODIFIED, "x".into())], Basis::None, 0);
    check(&[], Basis::None, 0);
    check(
        &[(EXPIRES, "Fri, 31 Dec 9999 23:59:59 GMT".into())],
        Basis::Explicit,
        MAX_SECS,
    );
}

#[test]
fn guesses_need_a_status_that_allows_them() {
    let check = |status, fields: &[(HeaderName, String)], basis| {
        assert_eq!(judge(status, fields).basis, basis, "{status} {fields:?}");
    };
    let modified = || (LAST_MODIFIED, ago(1000));
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        check(status, &[modified()], Basis::Heuristic);
    }
    for status in [201, 302, 307, 403, 500, 503] {
        check(status, &[modified()], Basis::None);
        check(
            status,
            &[modified(), cache_control("public")],
            Basis::Heuristic,
        );
    }
}

#[test]
fn a_default_lifetime_is_the_last_resort_and_not_for_errors() {
    let bounds = Bounds {
        default_ttl: Some(secs(30)),
        ..Bounds::default()
    };
    let check = |status, fields: &[(HeaderName, String)], basis| {
        assert_eq!(
            judge_with(status, fields, Duration::ZERO, &bounds).basis,
            basis,
            "{status}"
        );
    };
    check(200, &[], Basis::Default);
    check(301, &[], Basis::Default);
    check(404, &[], Basis::None);
    check(501, &[], Basis::None);
    check(302, &[], Basis::None);
    check(200, &[(LAST_MODIFIED, ago(1000))], Basis::Heuristic);
    check(200, &[cache_control("max-age=0")], Basis::Explicit);
}

#[test]
fn a_site_may_give_lifetimes_by_status() {
    let bounds = Bounds {
        by_status: LifetimesByStatus::new([
            (Statuses::One(404), secs(10)),
            (Statuses::Class(5), secs(2)),
            (Statuses::One(302), secs(5)),
        ]),
        default_ttl: Some(secs(30)),
        ..Bounds::default()
    };
    let check = |status, fields: &[(HeaderName, String)], expected| {
        let native = judge_with(status, fields, Duration::ZERO, &bounds);
        let found = (native.storable, native.basis, native.lifetime.as_secs());
        assert_eq!(found, expected, "{status} {fields:?}");
    };
    let no = Storable::No;
    let modified = || (LAST_MODIFIED, ago(1000));
    let cookie = || (SET_COOKIE, "a=b".to_owned());
    let any = || (VARY, "*".to_owned());
    let (given, of_origin) = (Basis::Status, Basis::Explicit);
    check(404, &[], (Storable::Yes, given, 10));
    check(404, &[modified()], (Storable::Yes, given, 10));
    check(503, &[], (Storable::Yes, given, 2));
    check(302, &[], (Storable::Yes, given, 5));
    check(200, &[], (Storable::Yes, Basis::Default, 30));
    check(403, &[], (no(Reason::NotCacheable), Basis::None, 0));
    // What a response says of itself counts for more.
    check(
        404,
        &[cache_control("max-age=60")],
        (Storable::Yes, of_origin, 60),
    );
    check(
        404,
        &[cache_control("max-age=0")],
        (Storable::Pointless, of_origin, 0),
    );
    check(
        404,
        &[(EXPIRES, ago(1))],
        (Storable::Pointless, of_origin, 0),
    );
    // What it forbids stays forbidden.
    check(
        404,
        &[cache_control("no-store")],
        (no(Reason::NoStore), given, 10),
    );
    check(
        503,
        &[cache_control("private")],
        (no(Reason::Private), given, 2),
    );
    check(404, &[cookie()], (no(Reason::SetCookie), given, 10));
    check(503, &[cookie()], (no(Reason::SetCookie), given, 2));
    check(503, &[any()], (no(Reason::VaryAny), given, 2));
    check(
        404,
        &[cache_control("no-cache")],
        (Storable::Pointless, given, 10),
    );
    check(
        404,
        &[(AGE, "10".to_owned())],
        (Storable::Pointless, given, 10),
    );
}

#[test]
fn a_site_may_open_stale_windows_that_a_response_does_not_speak_of() {
    let bounds = Bounds {
        by_status: LifetimesByStatus::new([(Statuses::Class(5), secs(2))]),
        stale_while_revalidate: Some(secs(20)),
        stale_if_error: Some(secs(40)),
        ..Bounds::default()
    };
    let check = |status, value: &str, expected| {
        let fields = match value {
            "" => Vec::new(),
            _ => vec![cache_control(value)],
        };
        let native = judge_with(status, &fields, Duration::ZERO, &bounds);
        let found = (
            native.stale_while_revalidate.as_secs(),
            native.stale_if_error.as_secs(),
        );
        assert_eq!(found, expected, "{status} {value}");
    };
    check(200, "max-age=60", (20, 40));
    check(404, "max-age=60", (20, 40));
    check(200, "max-age=60, stale-while-revalidate=3", (3, 40));
    check(200, "max-age=60, stale-if-error=0", (20, 0));
    for forbids in [
        "must-revalidate",
        "proxy-revalidate",
        "no-cache",
        "s-maxage=60",
    ] {
        check(200, &format!("max-age=60, {forbids}"), (0, 0));
    }
    // Nothing says that these are to be kept.
    check(200, "", (0, 0));
    check(200, "public", (0, 0));
    check(503, "max-age=60", (0, 0));
    check(503, "", (0, 0));
    check(503, "max-age=60, stale-if-error=5", (0, 5));
}

#[test]
fn no_lifetime_is_longer_than_the_site_allows() {
    let bounds = Bounds {
        ttl_max: secs(10),
        ..Bounds::default()
    };
    let native = judge_with(200, &[cache_control("max-age=60")], Duration::ZERO, &bounds);
    assert_eq!(native.lifetime, secs(10));
}

#[test]
fn age_is_the_larger_of_what_date_and_age_tell() {
    let check = |fields: &[(HeaderName, String)], delay, expected| {
        let native = judge_with(200, fields, secs(delay), &Bounds::default());
        assert_eq!(native.initial_age, secs(expected), "{fields:?}");
    };
    check(&[], 0, 0);
    check(&[], 3, 3);
    check(&[(AGE, "5".into())], 3, 8);
    check(&[(DATE, ago(20)), (AGE, "5".into())], 3, 20);
    check(&[(DATE, ahead(20)), (AGE, "5".into())], 3, 8);
    check(&[(AGE, "-5".into())], 0, 0);
}

#[test]
fn a_part_of_a_second_after_date_is_no_age() {
    let response_time = now() + Duration::from_millis(900);
    let headers: HeaderMap = [(DATE, HeaderValue::from_str(&ago(0)).unwrap())]
        .into_iter()
        .collect();
    let response = ResponseFacts::new(StatusCode::OK, &headers, response_time);
    let times = Times {
        request_time: response_time,
        response_time,
    };
    assert_eq!(initial_age(&response, times), Duration::ZERO);
}

#[test]
fn directives_decide_on_reuse_and_close_stale_windows() {
    let check = |directive: &str, reuse, window| {
        let value = format!("max-age=60, stale-while-revalidate=9, stale-if-error=9, {directive}");
        let native = judge(200, &[cache_control(&value)]);
        assert_eq!(native.reuse, reuse, "{directive}");
        assert_eq!(native.stale_while_revalidate, secs(window), "{directive}");
        assert_eq!(native.stale_if_error, secs(window), "{directive}");
    };
    check("public", Reuse::Normal, 9);
    check("must-revalidate", Reuse::FreshOnly, 0);
    check("proxy-revalidate", Reuse::FreshOnly, 0);
    check("s-maxage=60", Reuse::FreshOnly, 0);
    check("no-cache", Reuse::AfterValidation, 0);
    check("no-cache=set-cookie", Reuse::Normal, 9);
}

#[test]
fn named_fields_are_withheld() {
    let native = judge(
        200,
        &[cache_control(
            "max-age=60, private=\"b, a\", no-cache=\"c, a\"",
        )],
    );
    let names: Vec<_> = native.withheld.iter().map(HeaderName::as_str).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(native.storable, Storable::Yes);
}

#[test]
fn what_could_never_answer_is_pointless_to_store() {
    let check = |fields: &[(HeaderName, String)], expected| {
        assert_eq!(judge(200, fields).storable, expected, "{fields:?}");
    };
    let tag = || (ETAG, "\"a\"".to_owned());
    check(&[], Storable::Pointless);
    check(&[tag()], Storable::Yes);
    check(&[cache_control("max-age=60")], Storable::Yes);
    check(
        &[cache_control("max-age=60"), (AGE, "60".into())],
        Storable::Pointless,
    );
    check(
        &[cache_control("max-age=60"), (AGE, "60".into()), tag()],
        Storable::Yes,
    );
    check(&[cache_control("max-age=0")], Storable::Pointless);
    check(
        &[cache_control("max-age=0, stale-if-error=9")],
        Storable::Yes,
    );
    check(
        &[cache_control("max-age=0, stale-while-revalidate=9")],
        Storable::Yes,
    );
    check(
        &[cache_control("max-age=60, no-cache")],
        Storable::Pointless,
    );
    check(
        &[cache_control("max-age=60, no-cache"), tag()],
        Storable::Yes,
    );
    check(&[cache_control("no-store")], Storable::No(Reason::NoStore));
}

/// How far an answer is from fresh; it never decreases as time passes.
fn rank(usable: Usable) -> u8 {
    match usable {
        Usable::Fresh { .. } => 0,
        Usable::StaleWhileRevalidate { .. } => 1,
        Usable::Stale { on_error: true, .. } => 2,
        Usable::Stale {
            on_error: false, ..
        } => 3,
    }
}

proptest! {
    #[test]
    fn judgement_only_worsens_as_time_passes(
        max_age in 0_u64..20, age in 0_u64..10, window in 0_u64..10, error in 0_u64..10,
        flag in prop::sample::select(vec!["public", "must-revalidate", "no-cache"]),
        first in 0_u64..60_000, later in 0_u64..60_000,
    ) {
        let value = format!(
            "max-age={max_age}, stale-while-revalidate={window}, stale-if-error={error}, {flag}"
        );
        let native = judge(200, &[cache_control(&value), (AGE, age.to_string())]);
        let lifetime = native.to_lifetime(Moment::from_millis(0));
        let before = lifetime.judge(Moment::from_millis(first));
        let after = lifetime.judge(Moment::from_millis(first + later));
        prop_assert!(rank(before) <= rank(after));
        prop_assert_eq!(
            matches!(before, Usable::Fresh { .. }),
            flag != "no-cache" && age * 1000 + first < max_age * 1000
        );
    }
}

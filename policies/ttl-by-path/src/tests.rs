//! Tables of paths and of rules.

use std::time::Duration;

use larder_guest::freshness::{Native, Rules, Storing, Verdict};
use larder_guest::testing::{FreshnessPolicy, fresh_for};

use super::TtlByPath;

const MINUTE: Duration = Duration::from_mins(1);

fn verdict(params: &str, target: &str, native: Native) -> Verdict {
    let policy = FreshnessPolicy::<TtlByPath>::new(params).unwrap();
    policy.freshness(&format!("GET {target}"), "200 OK", native)
}

/// `None`: the native verdict stands.
fn check(params: &str, target: &str, expected: Option<Duration>) {
    let native = fresh_for(MINUTE);
    let expected = match expected {
        Some(lifetime) => Verdict::Store(Storing {
            lifetime,
            ..native.storing()
        }),
        None => Verdict::Native,
    };
    assert_eq!(
        verdict(params, target, native),
        expected,
        "{params} {target}"
    );
}

#[test]
fn the_first_pattern_that_matches_decides() {
    let params = r#"{"rules": ["/static/*.js=1h", "/static/*=1d", "*.html=5m", "/exact=30s"]}"#;
    for (target, expected) in [
        ("/static/a.js", Some(60 * MINUTE)),
        ("/static/x/y.css", Some(1440 * MINUTE)),
        ("/static/", Some(1440 * MINUTE)),
        ("/static", None),
        ("/a/b.html", Some(5 * MINUTE)),
        ("/a/b.html?v=1", Some(5 * MINUTE)),
        ("/a/b.htm?c.html", None),
        ("/exact", Some(MINUTE / 2)),
        ("/exactly", None),
    ] {
        check(params, target, expected);
    }
}

#[test]
fn asterisks_stand_for_any_text() {
    let matches = |pattern: &str, target| {
        let params = format!("{{\"rules\": [\"{pattern}=0s\"]}}");
        verdict(&params, target, fresh_for(MINUTE)) != Verdict::Native
    };
    for (pattern, target, expected) in [
        ("*", "/", true),
        ("/*", "/", true),
        ("/a*a", "/a", false),
        ("/a*a", "/aa", true),
        ("/*/img/*", "/x/y/img/z", true),
        ("/*/img/*", "/img/z", false),
        ("/a*b*c", "/abbc", true),
        ("/a*b*c", "/acb", false),
        ("/a*bc*c", "/abc", false),
        ("/a**b", "/ab", true),
        ("/a=b*", "/a=bc", true),
    ] {
        assert_eq!(matches(pattern, target), expected, "{pattern} {target}");
    }
}

#[test]
fn other_paths_have_the_default_or_what_the_origin_says() {
    check(r#"{"rules": ["/a=1m"]}"#, "/b", None);
    check(
        r#"{"rules": ["/a=1m"], "default": "2m"}"#,
        "/b",
        Some(2 * MINUTE),
    );
    check(r#"{"default": "2m"}"#, "/a", Some(2 * MINUTE));
    check("{}", "/a", None);
}

#[test]
fn only_the_lifetime_changes_and_nothing_of_what_must_not_be_stored() {
    let native = Native {
        stale_if_error: MINUTE,
        stale_while_revalidate: 2 * MINUTE,
        ..fresh_for(MINUTE)
    };
    let Verdict::Store(storing) = verdict(r#"{"default": "0s"}"#, "/", native) else {
        panic!("the default decides");
    };
    assert_eq!(
        storing,
        Storing {
            lifetime: Duration::ZERO,
            ..native.storing()
        }
    );
    let native = Native {
        rules: Rules::NEVER_STORE,
        ..native
    };
    assert_eq!(
        verdict(r#"{"default": "1d"}"#, "/", native),
        Verdict::Native
    );
}

#[test]
fn wrong_rules_are_refused_with_what_would_be_right() {
    let check = |params, expected: &str| {
        let error = FreshnessPolicy::<TtlByPath>::new(params).unwrap_err();
        assert_eq!(error, expected, "{params}");
    };
    check(
        r#"{"rules": ["/a"]}"#,
        "rule \"/a\": expected \"PATTERN=TIME\", such as \"/static/*=1d\"",
    );
    check(
        r#"{"rules": ["a=1d"]}"#,
        "rule \"a=1d\": a pattern starts with \"/\" or \"*\"",
    );
    check(
        r#"{"rules": ["/a=1w"]}"#,
        "rule \"/a=1w\": expected a time such as \"30s\", \"5m\" or \"1d\" after the last \"=\", found \"1w\"",
    );
    check(
        r#"{"rule": []}"#,
        "unknown parameter `rule`; accepted: rules, default",
    );
}

//! Tables of targets: what comes in, what the origin is asked for.

use larder_guest::keying::Verdict;
use larder_guest::testing::KeyingPolicy;

use super::NormalizeQuery;

/// `None`: the target stays as it came.
fn check(params: &str, target: &str, expected: Option<&str>) {
    let policy = KeyingPolicy::<NormalizeQuery>::new(params).unwrap();
    let verdict = policy.key(&format!("GET {target}"));
    assert_eq!(
        verdict,
        Verdict::target(expected.map(str::to_owned)),
        "{params} {target}"
    );
    // What is in normal form stays in it.
    let again = expected.unwrap_or(target);
    assert_eq!(
        policy.key(&format!("GET {again}")),
        Verdict::AS_IT_CAME,
        "{params} {again}"
    );
}

#[test]
fn parameters_are_sorted_by_name() {
    for (target, expected) in [
        ("/", None),
        ("/a", None),
        ("/a?", None),
        ("/a?b=2&c=1", None),
        ("/a?c=1&b=2", Some("/a?b=2&c=1")),
        ("/a?b&a", Some("/a?a&b")),
        // Parameters of one name keep their order, and names are compared as bytes.
        ("/a?x=2&x=1", None),
        ("/a?x=2&a=1&x=1", Some("/a?a=1&x=2&x=1")),
        ("/a?a10=1&a2=1&a=1", Some("/a?a=1&a10=1&a2=1")),
        ("/a?b=1&B=2", Some("/a?B=2&b=1")),
        // Nothing is decoded: what looks equal after decoding stays apart.
        ("/a?%61=1&a=2", None),
        ("/a?q=a+b%20c&p=%2F?=", Some("/a?p=%2F?=&q=a+b%20c")),
        ("/a;v=1?b=1&a=2", Some("/a;v=1?a=2&b=1")),
        ("/a?b=1?c&a=2", Some("/a?a=2&b=1?c")),
        // Empty pieces carry nothing; a name may be empty.
        ("/a?a=1&&b=2&", Some("/a?a=1&b=2")),
        ("/a?&", Some("/a")),
        ("/a?=1&=0", None),
    ] {
        check("{}", target, expected);
    }
}

#[test]
fn tracking_parameters_are_dropped() {
    for (target, expected) in [
        ("/a?utm_source=x", Some("/a")),
        ("/a?a=1&utm_source=x&b=2", Some("/a?a=1&b=2")),
        ("/a?b=1&gclid=2&a=3&fbclid&msclkid=", Some("/a?a=3&b=1")),
        ("/a?mc_cid=1&mc_eid=2&utm_=3", Some("/a")),
        ("/a?utm=1", None),
        ("/a?xgclid=1", None),
        ("/a?UTM_source=1", None),
        ("/utm_source=1", None),
    ] {
        check("{}", target, expected);
    }
    check(r#"{"tracking": false}"#, "/a?utm_source=x", None);
}

#[test]
fn the_operator_says_what_else_to_drop_or_what_to_keep() {
    let drop = r#"{"drop": ["session", "x-*"]}"#;
    check(
        drop,
        "/a?session=1&sessions=2&x-=3&x-y=4&x=5&gclid=6",
        Some("/a?sessions=2&x=5"),
    );
    let keep = r#"{"keep": ["page", "utm_*"]}"#;
    check(
        keep,
        "/a?page=1&sort=2&utm_a=3&gclid=4",
        Some("/a?page=1&utm_a=3"),
    );
    check(r#"{"keep": []}"#, "/a?page=1", Some("/a"));
    check(
        r#"{"keep": ["p*"], "drop": ["page"]}"#,
        "/a?page=1&p=2",
        Some("/a?p=2"),
    );
    check(
        r#"{"keep": ["utm_a"], "tracking": true}"#,
        "/a?utm_a=1",
        Some("/a"),
    );
    check(r#"{"drop": ["*"]}"#, "/a?b=1&=2", Some("/a"));
}

#[test]
fn unknown_parameters_are_refused() {
    let error = |params| KeyingPolicy::<NormalizeQuery>::new(params).unwrap_err();
    assert_eq!(
        error(r#"{"remove": []}"#),
        "unknown parameter `remove`; accepted: keep, tracking, drop"
    );
    assert_eq!(
        error(r#"{"drop": "a"}"#),
        "parameter `drop`: expected a list of strings, found \"a\""
    );
}

//! Tables and laws of authorities and targets.

use super::*;
use http::HeaderValue;
use proptest::prelude::*;

fn parse(text: &str) -> Result<String, BadRequest> {
    Authority::parse(text, Scheme::Http).map(|authority| authority.as_str().to_owned())
}

#[test]
fn authorities_have_one_form() {
    for (text, expected) in [
        ("a.example", "a.example"),
        ("A.Example", "a.example"),
        ("a.example:80", "a.example"),
        ("a.example:", "a.example"),
        ("a.example:080", "a.example"),
        ("a.example:8080", "a.example:8080"),
        ("a.example:08080", "a.example:8080"),
        ("A.example:443", "a.example:443"),
        ("a.example.", "a.example."),
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("[::1]", "[::1]"),
        ("[2001:DB8::1]:80", "[2001:db8::1]"),
        ("[::1]:81", "[::1]:81"),
        ("a_b~!$&'()*+,;=%2F", "a_b~!$&'()*+,;=%2f"),
    ] {
        assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
    }
    let https = Authority::parse("a.example:443", Scheme::Https).unwrap();
    assert_eq!(https.into_text(), "a.example");
}

#[test]
fn malformed_authorities_are_refused() {
    let long = "a".repeat(AUTHORITY_MAX + 1);
    for text in [
        "",
        ":80",
        "a b",
        "a/b",
        "a?b",
        "a#b",
        "u@a",
        "a:b",
        "a:0",
        "a:65536",
        "a:+80",
        "a:-1",
        "a:80:80",
        "a%2",
        "a%zz",
        "a\\b",
        "a<b",
        "[::1",
        "::1",
        "[::1]x",
        "[::1]x:80",
        "[]",
        "[a]",
        "[v1.x]",
        "[fe80::1%25eth0]",
        "x[::1]",
        "a\t",
        "a,b c",
        "\u{e9}",
        &long,
    ] {
        assert_eq!(parse(text), Err(BadRequest::Authority), "{text}");
    }
}

#[test]
fn nothing_is_copied_that_is_in_form_already() {
    for text in ["a.example", "a.example:80", "a.example:8080", "[::1]:81"] {
        let authority = Authority::parse(text, Scheme::Http).unwrap();
        assert!(matches!(authority.into_text(), Cow::Borrowed(_)), "{text}");
    }
}

#[test]
fn the_host_is_what_stands_before_the_port() {
    for (text, host) in [
        ("a:81", "a"),
        ("a", "a"),
        ("[::1]:81", "[::1]"),
        ("[::1]", "[::1]"),
    ] {
        assert_eq!(Authority::parse(text, Scheme::Http).unwrap().host(), host);
    }
}

fn head(version: Version, target: &str, hosts: &[&'static str]) -> Result<String, BadRequest> {
    let mut headers = HeaderMap::new();
    for host in hosts {
        headers.append(HOST, HeaderValue::from_static(host));
    }
    let uri = target.parse().unwrap();
    effective(&Method::GET, &uri, version, &headers, Scheme::Http)
        .map(|authority| authority.as_str().to_owned())
}

#[test]
fn each_version_has_its_rule_for_host() {
    use BadRequest::{Authority, Mismatch, MissingHost, RepeatedHost};
    let one = Version::HTTP_11;
    assert_eq!(head(one, "/", &["A"]).as_deref(), Ok("a"));
    assert_eq!(head(one, "/", &[]), Err(MissingHost));
    assert_eq!(head(one, "/", &[""]), Err(Authority));
    assert_eq!(head(one, "/", &["a", "a"]), Err(RepeatedHost));
    assert_eq!(head(one, "http://a/x", &["A:80"]).as_deref(), Ok("a"));
    assert_eq!(head(one, "http://a/x", &["b"]), Err(Mismatch));
    assert_eq!(head(one, "http://a/x", &[]), Err(MissingHost));
    assert_eq!(head(one, "http://a", &["a"]).as_deref(), Ok("a"));
    assert_eq!(head(one, "http://u@a/x", &["a"]), Err(Authority));
    assert_eq!(head(Version::HTTP_10, "/", &[]).as_deref(), Ok(""));
    assert_eq!(head(Version::HTTP_10, "/", &["a"]).as_deref(), Ok("a"));
    assert_eq!(head(Version::HTTP_10, "/", &["a", "b"]), Err(RepeatedHost));
    assert_eq!(head(Version::HTTP_2, "http://a/x", &[]).as_deref(), Ok("a"));
    assert_eq!(head(Version::HTTP_2, "http://a/x", &["b"]), Err(Mismatch));
    assert_eq!(head(Version::HTTP_2, "/", &["a"]).as_deref(), Ok("a"));
    assert_eq!(head(Version::HTTP_2, "/", &[]), Err(MissingHost));
}

#[test]
fn targets_have_the_form_of_their_method() {
    assert_eq!(head(Version::HTTP_11, "*", &["a"]), Err(BadRequest::Target));
    assert_eq!(
        head(Version::HTTP_11, "a:80", &["a:80"]),
        Err(BadRequest::Target)
    );
    assert_eq!(
        head(Version::HTTP_11, "ftp://a/", &["a"]),
        Err(BadRequest::Target)
    );
    assert_eq!(
        head(Version::HTTP_11, "/\u{e9}", &["a"]),
        Err(BadRequest::Target)
    );
}

proptest! {
    #[test]
    fn normalising_twice_is_normalising_once(text in "[a-cA-C0-9.:\\[\\]%-]{0,12}") {
        if let Ok(once) = parse(&text) {
            prop_assert_eq!(parse(&once), Ok(once.clone()));
            prop_assert!(!once.bytes().any(|byte| byte.is_ascii_uppercase()));
        }
    }

    #[test]
    fn the_short_way_gives_what_the_long_way_gives(text in "[a-cA0-9.:-]{1,8}") {
        for scheme in [Scheme::Http, Scheme::Https] {
            prop_assert_eq!(Authority::parse(&text, scheme), Authority::parse_any(&text, scheme));
        }
    }
}

//! Tables and laws of cache directives.

use super::*;
use proptest::prelude::*;

fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
    lines
        .iter()
        .map(|line| (name.clone(), HeaderValue::from_str(line).unwrap()))
        .collect()
}

fn response(lines: &[&str]) -> ResponseDirectives {
    ResponseDirectives::parse(&headers(&CACHE_CONTROL, lines))
}

fn request(lines: &[&str]) -> RequestDirectives {
    RequestDirectives::parse(&headers(&CACHE_CONTROL, lines))
}

#[test]
fn lifetimes_are_read_once_and_to_the_letter() {
    let check = |lines: &[&str], expected: Option<u64>| {
        let expected = expected.map(Duration::from_secs);
        assert_eq!(response(lines).max_age, expected, "{lines:?}");
        assert_eq!(request(lines).max_age, expected, "{lines:?}");
    };
    check(&[], None);
    check(&["public"], None);
    check(&["max-age=60"], Some(60));
    check(&["MAX-Age=60"], Some(60));
    check(&["max-age=\"60\""], Some(60));
    check(&["max-age=\"6\\0\""], Some(60));
    check(&["max-age=007"], Some(7));
    check(&["a=\"max-age=1\", max-age=60"], Some(60));
    check(&["a=\"max-age=1\""], None);
    check(&["a=\"b, max-age=60"], Some(0));
    check(&["max-age=60, a=\"b"], Some(60));
    check(&["xmax-age=60", "max-age60"], None);
    check(&["max-age=60", "max-age=60"], Some(60));
    check(&["max-age=60, max-age=61"], Some(60));
    check(&["max-age=61", "max-age=60", "max-age=61"], Some(61));
    check(&["max-age=0, max-age=61"], Some(0));
    check(&["max-age=60, max-age"], Some(0));
    check(&["max-age=60, max-age=x, max-age=60"], Some(0));
    check(&["max-age=x, max-age=60"], Some(0));
    for malformed in [
        "", "=", "=-1", "=+1", "=1.0", "=1s", "='1'", "=0x1", " =1", "= 1", "=1;a", "=\"\"", "=\"1",
    ] {
        check(&[&format!("max-age{malformed}")], Some(0));
    }
    check(&["max-age=2147483647"], Some(MAX_SECS - 1));
    check(&["max-age=2147483649"], Some(MAX_SECS));
    check(
        &["max-age=99999999999999999999999999999999"],
        Some(MAX_SECS),
    );
}

#[test]
fn what_an_open_quote_may_hold_restricts_and_does_not_permit() {
    let read = response(&["a=\"b, no-store, public, private=x, must-revalidate"]);
    assert!(read.has(ResponseFlag::NoStore) && read.has(ResponseFlag::MustRevalidate));
    assert!(!read.has(ResponseFlag::Public));
    assert_eq!(read.private, Scope::Whole);
    assert_eq!(request(&["a=\"b, max-stale"]).max_stale, None);
}

#[test]
fn scopes_name_fields_or_cover_the_whole() {
    let named = |names: &[&'static str]| {
        Scope::Fields(
            names
                .iter()
                .map(|name| HeaderName::from_static(name))
                .collect(),
        )
    };
    let check = |lines: &[&str], expected: Scope| {
        assert_eq!(response(lines).private, expected, "{lines:?}");
        let lines: Vec<_> = lines
            .iter()
            .map(|line| line.to_lowercase().replace("private", "No-Cache"))
            .collect();
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        assert_eq!(response(&lines).no_cache, expected, "{lines:?}");
    };
    check(&["public"], Scope::Absent);
    check(&["private"], Scope::Whole);
    check(&["PRIVATE=\"B, a,,a\""], named(&["a", "b"]));
    check(&["private=a", "private=\"b\""], named(&["a", "b"]));
    check(&["private=a", "private"], Scope::Whole);
    check(&["private, private=a"], Scope::Whole);
    check(&["private=\"\""], Scope::Whole);
    check(&["private=\"a b\""], Scope::Whole);
    check(&["private=\"a, no-store"], Scope::Whole);
    check(&["private="], Scope::Whole);
}

#[test]
fn flags_restrict_with_any_argument_and_permit_without_one() {
    let check = |line: &str, flag, expected| {
        assert_eq!(response(&[line]).has(flag), expected, "{line}");
    };
    for (name, flag) in [
        ("no-store", ResponseFlag::NoStore),
        ("must-revalidate", ResponseFlag::MustRevalidate),
        ("proxy-revalidate", ResponseFlag::ProxyRevalidate),
        ("no-transform", ResponseFlag::NoTransform),
    ] {
        check(name, flag, true);
        check(&name.to_uppercase(), flag, true);
        check(&format!("{name}=1"), flag, true);
        check(&format!("a=\"{name}\""), flag, false);
        check(&format!("a=\"x, {name}"), flag, true);
    }
    for (name, flag) in [
        ("public", ResponseFlag::Public),
        ("must-understand", ResponseFlag::MustUnderstand),
        ("immutable", ResponseFlag::Immutable),
    ] {
        check(name, flag, true);
        check(&name.to_uppercase(), flag, true);
        check(&format!("{name}=1"), flag, false);
        check(&format!("a=\"{name}\""), flag, false);
    }
}

#[test]
fn requests_narrow_with_every_repetition() {
    let stale = |line: &str| request(&[line]).max_stale;
    let within = |secs| Some(MaxStale::Within(Duration::from_secs(secs)));
    assert_eq!(stale("max-stale"), Some(MaxStale::Any));
    assert_eq!(stale("max-stale=5"), within(5));
    assert_eq!(stale("max-stale, max-stale=5, max-stale=7"), within(5));
    assert_eq!(stale("max-stale=x"), None);
    assert_eq!(
        request(&["min-fresh=5, min-fresh=7, min-fresh=x"]).min_fresh,
        Some(Duration::from_secs(7))
    );
    assert_eq!(
        request(&["stale-if-error=9"]).stale_if_error,
        Some(Duration::from_secs(9))
    );
    for (name, flag) in [
        ("no-cache", RequestFlag::NoCache),
        ("no-store", RequestFlag::NoStore),
        ("no-transform", RequestFlag::NoTransform),
        ("only-if-cached", RequestFlag::OnlyIfCached),
    ] {
        assert!(request(&["max-age=1", name]).has(flag));
        assert!(!request(&["max-age=1"]).has(flag));
    }
}

#[test]
fn pragma_counts_only_without_cache_control() {
    let mut fields = headers(&PRAGMA, &["x, No-Cache"]);
    assert!(RequestDirectives::parse(&fields).has(RequestFlag::NoCache));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=5"));
    assert!(!RequestDirectives::parse(&fields).has(RequestFlag::NoCache));
    assert_eq!(
        ResponseDirectives::parse(&headers(&PRAGMA, &["no-cache"])),
        ResponseDirectives::default()
    );
}

proptest! {
    #[test]
    fn any_bytes_are_taken(lines in proptest::collection::vec(proptest::collection::vec(32_u8..=255, 0..48), 0..3)) {
        let headers: HeaderMap = lines
            .iter()
            .filter_map(|line| HeaderValue::from_bytes(line).ok())
            .map(|line| (CACHE_CONTROL, line))
            .collect();
        let _: RequestDirectives = RequestDirectives::parse(&headers);
        let read = ResponseDirectives::parse(&headers);
        prop_assert!(read.max_age.is_none_or(|age| age <= Duration::from_secs(MAX_SECS)));
    }

    #[test]
    fn no_store_is_found_wherever_it_stands(before in "[ !#-~]{0,24}", after in "[ -~]{0,24}") {
        let found = response(&[&format!("{before}, no-store, {after}")]).has(ResponseFlag::NoStore);
        prop_assert!(found);
    }
}

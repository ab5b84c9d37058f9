//! Directives that an origin addresses to this cache and not to every other (RFC 9213).
//!
//! Such a field takes the place of `Cache-Control` and `Expires` altogether. One that cannot be
//! read, or says nothing, counts as absent.

use std::time::Duration;

use http::HeaderMap;
use http::header::HeaderName;

use super::cache_control::{self, ResponseDirectives, ResponseFlag};
use super::{list, structured};

/// The field for this cache alone.
pub const LARDER_CACHE_CONTROL: HeaderName = HeaderName::from_static("larder-cache-control");
/// The field for the caches of content delivery networks (RFC 9213 3.1).
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
/// The older field of the W3C's Edge Architecture note, which many applications send.
pub const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// All of them, in the order in which they are looked for.
pub const FIELDS: [HeaderName; 3] = [LARDER_CACHE_CONTROL, CDN_CACHE_CONTROL, SURROGATE_CONTROL];

/// What the first field says that is addressed to this cache and says anything.
pub fn directives(headers: &HeaderMap) -> Option<ResponseDirectives> {
    let structured = [LARDER_CACHE_CONTROL, CDN_CACHE_CONTROL];
    let targeted = structured.iter().find_map(|name| {
        let value = structured::combined(headers, name)?;
        let members = structured::dictionary(&value)?;
        (!members.is_empty()).then(|| ResponseDirectives::from_members(&members))
    });
    targeted.or_else(|| surrogate(headers))
}

/// Takes the fields out of `headers`, which are on their way to a client.
pub fn take(headers: &mut HeaderMap) -> HeaderMap {
    let mut taken = HeaderMap::new();
    for name in FIELDS {
        if headers.contains_key(&name) {
            let lines = headers.get_all(&name).iter();
            taken.extend(lines.map(|line| (name.clone(), line.clone())));
            headers.remove(&name);
        }
    }
    taken
}

/// Reads `Surrogate-Control`: `max-age`, to which a time may be added in which a stale response is
/// still of use, and `no-store`. Either may be addressed to some surrogates after a semicolon.
fn surrogate(headers: &HeaderMap) -> Option<ResponseDirectives> {
    let mut directives = ResponseDirectives::default();
    let mut says_something = false;
    for line in headers.get_all(SURROGATE_CONTROL) {
        for element in list::elements(line.as_bytes()) {
            let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let directive = parts.next().unwrap_or_default();
            let mut addressees = parts.peekable();
            if addressees.peek().is_some()
                && !addressees.any(|name| name.eq_ignore_ascii_case(b"larder"))
            {
                continue;
            }
            if directive.eq_ignore_ascii_case(b"no-store") {
                directives.set(ResponseFlag::NoStore);
                says_something = true;
            } else if let Some((fresh, stale)) = surrogate_age(directive) {
                // Of several the first.
                directives.max_age.get_or_insert(fresh);
                directives.stale_while_revalidate.get_or_insert(stale);
                directives.stale_if_error.get_or_insert(stale);
                says_something = true;
            }
        }
    }
    says_something.then_some(directives)
}

/// Reads `max-age=FRESH` or `max-age=FRESH+STALE`; zero for what cannot be read.
fn surrogate_age(directive: &[u8]) -> Option<(Duration, Duration)> {
    let (name, value) = directive.split_at_checked(b"max-age=".len())?;
    if !name.eq_ignore_ascii_case(b"max-age=") {
        return None;
    }
    let mut times = value.splitn(2, |byte| *byte == b'+');
    let seconds = |text: Option<&[u8]>| match text {
        None => Some(Duration::ZERO),
        Some(text) => cache_control::seconds(text.trim_ascii()),
    };
    let (fresh, stale) = (seconds(times.next()), seconds(times.next()));
    Some(fresh.zip(stale).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfc9111::cache_control::Scope;
    use http::HeaderValue;

    fn fields(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, line) in lines {
            map.append(name, HeaderValue::from_str(line).unwrap());
        }
        map
    }

    fn check(lines: &[(HeaderName, &str)], max_age: Option<u64>) {
        let found = directives(&fields(lines)).map(|found| found.max_age.unwrap_or_default());
        assert_eq!(found, max_age.map(Duration::from_secs), "{lines:?}");
    }

    #[test]
    fn the_first_field_that_says_anything_counts() {
        const LARDER: HeaderName = LARDER_CACHE_CONTROL;
        const CDN: HeaderName = CDN_CACHE_CONTROL;
        const SURROGATE: HeaderName = SURROGATE_CONTROL;
        check(&[], None);
        check(&[(CDN, "max-age=60")], Some(60));
        check(&[(CDN, "max-age=60"), (LARDER, "max-age=70")], Some(70));
        check(&[(CDN, "max-age=60"), (LARDER, "")], Some(60));
        check(&[(CDN, "max-age=60"), (LARDER, "max-age=")], Some(60));
        check(&[(CDN, "max-age=60"), (LARDER, "x")], Some(0));
        check(&[(CDN, "max-age=60"), (SURROGATE, "max-age=80")], Some(60));
        check(&[(CDN, "Max-Age=60"), (SURROGATE, "Max-Age=80")], Some(80));
        check(&[(CDN, "max-age=60, ")], None);
        check(&[(CDN, "no-store"), (CDN, "max-age=60")], Some(60));
        check(&[(CDN, "max-age=10, max-age=60")], Some(60));
        check(&[(CDN, "max-age=60;p=1")], Some(60));
    }

    #[test]
    fn values_of_other_types_are_not_used() {
        let of = |value: &str| directives(&fields(&[(CDN_CACHE_CONTROL, value)])).unwrap();
        let zero = Some(Duration::ZERO);
        for value in [
            "max-age=1.5",
            "max-age=\"60\"",
            "max-age=-1",
            "max-age",
            "max-age=(60)",
        ] {
            assert_eq!(of(value).max_age, zero, "{value}");
        }
        assert!(of("no-store").has(ResponseFlag::NoStore));
        assert!(of("no-store=1").has(ResponseFlag::NoStore), "it restricts");
        assert!(!of("no-store=?0").has(ResponseFlag::NoStore));
        assert!(of("public").has(ResponseFlag::Public));
        assert!(!of("public=1").has(ResponseFlag::Public), "it permits");
        assert_eq!(of("private").private, Scope::Whole);
        assert_eq!(of("private=?0").private, Scope::Absent);
        assert_eq!(of("private=a").private, Scope::Whole);
        assert_eq!(of("private=1").private, Scope::Whole);
        let named = Scope::Fields(vec![
            HeaderName::from_static("a"),
            HeaderName::from_static("b"),
        ]);
        assert_eq!(of("private=\"B, a\"").private, named);
        assert_eq!(of("no-cache=\"a,b\"").no_cache, named);
    }

    #[test]
    fn surrogate_control_has_a_syntax_of_its_own() {
        let of = |value: &str| directives(&fields(&[(SURROGATE_CONTROL, value)]));
        for (value, fresh, stale) in [
            ("max-age=60", 60, 0),
            ("MAX-AGE=60+30", 60, 30),
            ("max-age=60, max-age=70", 60, 0),
            ("content=\"ESI/1.0, max-age=9\", max-age=60", 60, 0),
            ("max-age=60;larder", 60, 0),
            ("max-age=10;other, max-age=60", 60, 0),
            ("max-age=10 ; other;larder", 10, 0),
            ("max-age=x", 0, 0),
            ("max-age=60+x", 0, 0),
            ("max-age=60+", 0, 0),
        ] {
            let found = of(value).unwrap_or_else(|| panic!("{value}"));
            assert_eq!(found.max_age, Some(Duration::from_secs(fresh)), "{value}");
            let stale = Some(Duration::from_secs(stale));
            assert_eq!(found.stale_while_revalidate, stale, "{value}");
            assert_eq!(found.stale_if_error, stale, "{value}");
        }
        assert!(of("no-store").unwrap().has(ResponseFlag::NoStore));
        for value in [
            "",
            "content=\"ESI/1.0\"",
            "no-store-remote",
            "no-store;other",
            "max-age",
        ] {
            assert_eq!(of(value), None, "{value}");
        }
    }

    #[test]
    fn they_are_taken_out_with_all_their_lines() {
        let x = HeaderName::from_static("x");
        let mut headers = fields(&[
            (CDN_CACHE_CONTROL, "a"),
            (x.clone(), "1"),
            (CDN_CACHE_CONTROL, "b"),
            (SURROGATE_CONTROL, "c"),
        ]);
        let taken = take(&mut headers);
        assert_eq!(headers, fields(&[(x, "1")]));
        assert_eq!(
            taken,
            fields(&[
                (CDN_CACHE_CONTROL, "a"),
                (CDN_CACHE_CONTROL, "b"),
                (SURROGATE_CONTROL, "c")
            ])
        );
    }
}

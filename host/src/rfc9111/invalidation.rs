//! What an unsafe request makes stale (RFC 9111 4.4).
//!
//! A response may name other URIs that it changed. They count only on the origin that sent it, or
//! else one origin could empty the cache of another.

use std::borrow::Cow;

use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, Method, StatusCode};

/// The effective URI of a request. The authority is in lower case and without the scheme's default
/// port.
#[derive(Clone, Copy, Debug)]
pub struct EffectiveUri<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host, and port if it is not the default.
    pub authority: &'a str,
    /// Path and query as they were sent.
    pub target: &'a str,
}

/// The targets, all with the scheme and authority of `uri`, whose stored responses the exchange
/// invalidates; the request's own is first. Empty if it invalidates none.
pub fn invalidated<'a>(
    method: &Method,
    uri: EffectiveUri<'a>,
    status: StatusCode,
    response: &HeaderMap,
) -> Vec<Cow<'a, str>> {
    // A method whose safety is unknown counts as unsafe; an error changed nothing.
    if is_safe(method) || !(status.is_success() || status.is_redirection()) {
        return Vec::new();
    }
    let mut targets = vec![Cow::Borrowed(uri.target)];
    for name in [LOCATION, CONTENT_LOCATION] {
        let reference = response.get(name).and_then(|value| value.to_str().ok());
        if let Some(target) = reference.and_then(|reference| resolve(uri, reference.trim_ascii()))
            && !targets.iter().any(|known| *known == target)
        {
            targets.push(Cow::Owned(target));
        }
    }
    targets
}

/// Whether a method is defined to change nothing (RFC 9110 9.2.1): those of RFC 9110, and of the
/// registry `PROPFIND` (RFC 4918), `QUERY` (RFC 10008), `REPORT` (RFC 3253), `SEARCH` (RFC 5323).
pub fn is_safe(method: &Method) -> bool {
    matches!(
        method.as_str(),
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PROPFIND" | "QUERY" | "REPORT" | "SEARCH"
    )
}

/// Resolves a reference against `base` (RFC 3986 5.2) and gives its path and query; `None` if it
/// is on another origin, or is no reference to a resource of `http` at all.
fn resolve(base: EffectiveUri<'_>, reference: &str) -> Option<String> {
    let reference = reference.split('#').next().unwrap_or_default();
    if !reference.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let relative = match scheme(reference) {
        Some((scheme, rest))
            if scheme.eq_ignore_ascii_case(base.scheme) && rest.starts_with("//") =>
        {
            rest
        }
        Some(_) => return None,
        None => reference,
    };
    let path_and_query = match relative.strip_prefix("//") {
        Some(network) => {
            let end = network.find(['/', '?']).unwrap_or(network.len());
            let (authority, rest) = network.split_at_checked(end)?;
            if !same_authority(base, authority) {
                return None;
            }
            rest
        }
        None => relative,
    };
    let from_root = path_and_query.len() != relative.len() || path_and_query.starts_with('/');
    let (path, query) = split_query(path_and_query);
    let (base_path, base_query) = split_query(base.target);
    let (path, query) = if from_root {
        (path.to_owned(), query)
    } else if path.is_empty() {
        (base_path.to_owned(), query.or(base_query))
    } else {
        let directory = base_path
            .rfind('/')
            .and_then(|slash| base_path.get(..=slash));
        (format!("{}{path}", directory.unwrap_or("/")), query)
    };
    let mut target = without_dot_segments(&path);
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    Some(target)
}

/// Splits a scheme off the front, if there is one (RFC 3986 3.1).
fn scheme(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let mut bytes = scheme.bytes();
    let first = bytes.next()?.is_ascii_alphabetic();
    let others =
        bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    (first && others).then_some((scheme, rest))
}

/// Whether `authority` means the base's; one with user information means none.
fn same_authority(base: EffectiveUri<'_>, authority: &str) -> bool {
    let default = if base.scheme.eq_ignore_ascii_case("https") {
        ":443"
    } else {
        ":80"
    };
    let plain = |authority: &'_ str| {
        let stripped = authority
            .strip_suffix(default)
            .or_else(|| authority.strip_suffix(':'));
        stripped.unwrap_or(authority).to_ascii_lowercase()
    };
    plain(authority) == plain(base.authority)
}

fn split_query(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

/// Removes `.` and `..` segments (RFC 3986 5.2.4). The result begins with a slash.
fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                // The slash before a last dot segment stays.
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const BASE: EffectiveUri<'static> = EffectiveUri {
        scheme: "http",
        authority: "a.example",
        target: "/b/c/d;p?q",
    };

    #[test]
    fn references_resolve_as_in_the_examples_of_rfc_3986() {
        let check = |reference: &str, expected: Option<&str>| {
            assert_eq!(resolve(BASE, reference).as_deref(), expected, "{reference}");
        };
        for (reference, expected) in [
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("?y", "/b/c/d;p?y"),
            ("g?y", "/b/c/g?y"),
            ("#s", "/b/c/d;p?q"),
            ("g#s", "/b/c/g"),
            (";x", "/b/c/;x"),
            ("", "/b/c/d;p?q"),
            (".", "/b/c/"),
            ("./", "/b/c/"),
            ("..", "/b/"),
            ("../g", "/b/g"),
            ("../..", "/"),
            ("../../g", "/g"),
            ("../../../g", "/g"),
            ("/./g", "/g"),
            ("/../g", "/g"),
            ("g.", "/b/c/g."),
            ("..g", "/b/c/..g"),
            ("./g/.", "/b/c/g/"),
            ("g;x=1/../y", "/b/c/y"),
            ("g?y/../x", "/b/c/g?y/../x"),
        ] {
            check(reference, Some(expected));
        }
        check("http://a.example", Some("/"));
        check("http://a.example?x", Some("/?x"));
        check("HTTP://A.example:80/x?y", Some("/x?y"));
        check("http://a.example:/x", Some("/x"));
        check("//a.example/x", Some("/x"));
        check("https://a.example/x", None);
        check("http://b.example/x", None);
        check("http://a.example:81/x", None);
        check("http://u@a.example/x", None);
        check("http:x", None);
        check("mailto:x", None);
        check("/a b", None);
    }

    #[test]
    fn only_unsafe_methods_that_succeed_invalidate() {
        let response = HeaderMap::from_iter([
            (LOCATION, HeaderValue::from_static("/new")),
            (
                CONTENT_LOCATION,
                HeaderValue::from_static("http://b.example/other"),
            ),
        ]);
        let check = |method: &str, status: u16, expected: &[&str]| {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                invalidated(&method, BASE, status, &response),
                expected,
                "{method} {status}"
            );
        };
        for method in ["POST", "PUT", "DELETE", "PATCH", "UNHEARD-OF"] {
            check(method, 200, &[BASE.target, "/new"]);
            check(method, 303, &[BASE.target, "/new"]);
            check(method, 404, &[]);
            check(method, 500, &[]);
        }
        for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
            check(method, 200, &[]);
        }
    }

    #[test]
    fn a_target_is_named_once() {
        let response = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(BASE.target))]);
        assert_eq!(
            invalidated(&Method::POST, BASE, StatusCode::OK, &response),
            [BASE.target]
        );
    }

    proptest! {
        #[test]
        fn what_is_resolved_is_a_path_without_dot_segments(reference in "[ -~]{0,24}") {
            if let Some(target) = resolve(BASE, &reference) {
                prop_assert!(target.starts_with('/'));
                let path = split_query(&target).0;
                prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}

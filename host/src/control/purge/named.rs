//! What a purge can name, as operators write it: URLs, prefixes, hosts and keys.

use crate::entry::tag::DIRECTORIES_MAX;
use crate::entry::{KeyHasher, SiteId, Tag};
use crate::front::authority::{Authority, Scheme};
use crate::policy::refusal::{Refusal, RefusalKind};

fn malformed(code: &'static str, text: &str, reason: &str, hint: &str) -> Refusal {
    let message = format!("{text:?} {reason}");
    Refusal::new(RefusalKind::Malformed, code, message, hint)
}

/// A URL of this host.
#[derive(Debug)]
pub(in crate::control) struct Url {
    /// How it is reached.
    pub(in crate::control) scheme: Scheme,
    /// Host, and port if it is not the default.
    pub(in crate::control) authority: String,
    /// The host alone.
    pub(in crate::control) host: String,
    /// Path and query.
    pub(in crate::control) target: String,
}

impl Url {
    /// Reads `http://HOST[:PORT]/PATH[?QUERY]`, or the same with `https`.
    pub(in crate::control) fn parse(text: &str) -> Result<Self, Refusal> {
        let bad = |reason| {
            let hint = "write it as http://HOST[:PORT]/PATH";
            malformed("bad_url", text, reason, hint)
        };
        let uri: http::Uri = text.parse().map_err(|_| bad("is not a URL"))?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(bad("is not an http URL")),
        };
        let authority = uri
            .authority()
            .map(http::uri::Authority::as_str)
            .unwrap_or_default();
        let authority =
            Authority::parse(authority, scheme).map_err(|_| bad("has no valid host"))?;
        let (host, authority) = (authority.host().to_owned(), authority.as_str().to_owned());
        let target = uri
            .path_and_query()
            .map_or("/", |target| target.as_str())
            .to_owned();
        Ok(Self {
            scheme,
            authority,
            host,
            target,
        })
    }
}

/// A host, with or without a port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Host(String);

impl Host {
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        Self::read(text).ok_or_else(|| {
            let hint = "write it as HOST or HOST:PORT, without a scheme";
            malformed("bad_host", text, "is not a host", hint)
        })
    }

    fn read(text: &str) -> Option<Self> {
        // No scheme is named, so neither has its default port.
        let host = Authority::parse(text, Scheme::Http).ok()?;
        let host = Authority::parse(host.as_str(), Scheme::Https).ok()?;
        Some(Self(host.as_str().to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A host and the beginning of a path.
#[derive(Debug)]
pub(super) struct Prefix<'a> {
    text: &'a str,
    host: Host,
    path: &'a str,
}

impl<'a> Prefix<'a> {
    /// Reads `HOST[:PORT][/PATH]`; a scheme before it makes no difference.
    pub(super) fn parse(text: &'a str) -> Result<Self, Refusal> {
        let bad = |reason| {
            let hint = "write it as HOST[:PORT]/PATH";
            malformed("bad_prefix", text, reason, hint)
        };
        let schemes = ["http://", "https://"];
        let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
        let rest = rest.unwrap_or(text);
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // An empty port is none (RFC 3986 3.2.3), but this is another scheme.
        if host.ends_with(':') {
            return Err(bad("does not begin with a host"));
        }
        if path.contains(['?', '#']) {
            return Err(bad("has a query or a fragment, and prefixes are of paths"));
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad("has a path that no URL has"));
        }
        let host = Host::read(host).ok_or_else(|| bad("does not begin with a host"))?;
        Ok(Self { text, host, path })
    }

    /// The tags of what it covers in `site`.
    pub(super) fn tags(&self, hasher: &KeyHasher, site: SiteId) -> Result<Vec<Tag>, Refusal> {
        hasher
            .prefix_tags(site, self.host.as_str(), self.path)
            .ok_or_else(|| {
                let reason = format!("has more than {DIRECTORIES_MAX} segments");
                let hint = "purge a shorter prefix, or by URL or tag";
                malformed("bad_prefix", self.text, &reason, hint)
            })
    }
}

/// A key, as `explain` prints it: URL, variant if there is one, and the namespace of its policy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key<'a> {
    url: &'a str,
    variant: &'a str,
    namespace: u64,
}

impl<'a> Key<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Refusal> {
        let bad = |reason| malformed("bad_key", text, reason, "copy it from `larder explain URL`");
        if !(text.starts_with("http://") || text.starts_with("https://")) {
            return Err(bad("does not begin with a URL"));
        }
        let (key, namespace) = match Self::namespace(text) {
            Some((key, namespace)) => (key, namespace),
            None => (text, 0),
        };
        let (url, variant) = key.split_once(' ').unwrap_or((key, ""));
        if key.contains('\n') {
            return Err(bad("has a line break"));
        }
        Ok(Self {
            url,
            variant,
            namespace,
        })
    }

    /// Splits ` (0123456789abcdef)` off the end.
    fn namespace(text: &str) -> Option<(&str, u64)> {
        let (key, digits) = text.strip_suffix(')')?.rsplit_once(" (")?;
        let is_hash = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let namespace = u64::from_str_radix(digits, 16).ok().filter(|_| is_hash);
        Some((key, namespace?))
    }

    /// The primary key that `front::primary_key::compose` makes of it in `site`.
    pub(super) fn of(&self, site: SiteId) -> Vec<u8> {
        let mut key = Vec::with_capacity(16 + self.url.len() + self.variant.len());
        key.extend_from_slice(&site.0.to_be_bytes());
        key.extend_from_slice(&self.namespace.to_le_bytes());
        key.extend_from_slice(self.url.as_bytes());
        key.push(b'\n');
        key.extend_from_slice(self.variant.as_bytes());
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::shown::readable;
    use proptest::prelude::*;

    #[test]
    fn hosts_lose_default_ports_and_case() {
        let check = |text: &str, expected: Option<&str>| {
            let host = Host::parse(text).ok();
            assert_eq!(host.as_ref().map(Host::as_str), expected, "{text}");
        };
        check("A.example", Some("a.example"));
        check("a.example:80", Some("a.example"));
        check("a.example:443", Some("a.example"));
        check("a.example:8080", Some("a.example:8080"));
        check("[::1]:81", Some("[::1]:81"));
        for bad in [
            "",
            "http://a.example",
            "a.example/",
            "a b",
            "u@a.example",
            "a:b",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn prefixes_are_a_host_and_a_path() {
        let check = |text: &str, expected: Option<(&str, &str)>| {
            let prefix = Prefix::parse(text).ok();
            let found = prefix
                .as_ref()
                .map(|prefix| (prefix.host.as_str(), prefix.path));
            assert_eq!(found, expected, "{text}");
        };
        check("a.example", Some(("a.example", "")));
        check("a.example/", Some(("a.example", "/")));
        check("a.example/b", Some(("a.example", "/b")));
        check("https://A.example:81/b/", Some(("a.example:81", "/b/")));
        for bad in [
            "",
            "/b",
            "a.example/b?c",
            "a.example/#b",
            "a.example/b c",
            "ftp://a.example/b",
        ] {
            check(bad, None);
        }
        let deep = format!("a.example{}", "/b".repeat(DIRECTORIES_MAX + 1));
        let refused = Prefix::parse(&deep)
            .unwrap()
            .tags(&KeyHasher::default(), SiteId(0));
        assert_eq!(refused.unwrap_err().code, "bad_prefix");
    }

    proptest! {
        /// What is shown of a key names it again.
        #[test]
        fn keys_are_read_as_they_are_shown(
            namespace in prop_oneof![Just(0), any::<u64>()],
            target in "/[!-~]{0,12}", variant in "([!-~]([ -~]{0,6}[!-~])?)?",
        ) {
            // A variant that looks like a namespace reads as one.
            prop_assume!(!variant.ends_with(')'));
            let key = Key { url: &format!("http://a.example{target}"), variant: &variant, namespace };
            let bytes = key.of(SiteId(7));
            let shown = String::from_utf8(readable(&bytes)).unwrap();
            prop_assert_eq!(Key::parse(&shown).unwrap(), key, "{}", shown);
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bad in ["", "cce90fc320e90c8f", "a.example/b", "http://a/\nb"] {
            assert!(Key::parse(bad).is_err(), "{bad}");
        }
    }
}

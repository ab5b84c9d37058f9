//! Where a site's responses come from: one server or several, and how they are spoken to.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use super::address::host_and_port;
use super::text::{Rejected, text_value, words};

const ACCEPTED: &str = "write http://HOST[:PORT] or https://HOST[:PORT]";
/// Servers of one site, at most.
const SERVERS_MAX: usize = 32;

/// How a server is spoken to below HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OriginScheme {
    /// In clear text.
    Http,
    /// Over TLS, with the server's certificate verified.
    Https,
}

impl OriginScheme {
    /// As in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port where none is written (RFC 9110 4.2).
    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A server that responses come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// With or without TLS.
    pub scheme: OriginScheme,
    /// Name or address, lower-case, an IPv6 address without its brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Origin {
    /// `host:port`, as `ToSocketAddrs` takes it.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// What stands in `Host` when the site asks the origin under its own name: the address,
    /// without a port that is the scheme's default (RFC 9110 4.2.3).
    pub fn authority(&self) -> String {
        let mut address = self.address();
        if self.port == self.scheme.default_port()
            && let Some(end) = address.rfind(':')
        {
            address.truncate(end);
        }
        address
    }
}

impl FromStr for Origin {
    type Err = Rejected;

    fn from_str(text: &str) -> Result<Self, Rejected> {
        let refused =
            |clause: &str| Rejected::new(text, "an origin", &format!("{clause}{ACCEPTED}"));
        let (scheme, rest) = text.split_once("://").ok_or_else(|| refused(""))?;
        let scheme = [OriginScheme::Http, OriginScheme::Https]
            .into_iter()
            .find(|known| scheme.eq_ignore_ascii_case(known.as_str()));
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err(refused(
                "it may have no path, because the client's is used; ",
            ));
        }
        let scheme = scheme.ok_or_else(|| refused(""))?;
        let (host, port) = host_and_port(authority).ok_or_else(|| refused(""))?;
        if port == Some(0) {
            return Err(refused(""));
        }
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        Ok(Self {
            scheme,
            host,
            port: port.unwrap_or(scheme.default_port()),
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

text_value!(Origin, "an origin such as \"http://127.0.0.1:3000\"");

/// The servers of a site, which answer alike: at least one, all of one scheme, no two the same.
/// Written as one text or as a list of texts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origins(Vec<Origin>);

impl Origins {
    /// All of them.
    pub fn servers(&self) -> &[Origin] {
        &self.0
    }

    /// With or without TLS.
    pub fn scheme(&self) -> OriginScheme {
        self.0
            .first()
            .map_or(OriginScheme::Http, |origin| origin.scheme)
    }

    /// Checks what holds between the servers of a list.
    fn new(servers: Vec<Origin>) -> Result<Self, Rejected> {
        let Some(first) = servers.first() else {
            return Err(Rejected::because(format!(
                "the list is empty; {ACCEPTED} in it"
            )));
        };
        if servers.len() > SERVERS_MAX {
            return Err(Rejected::because(format!(
                "found {} origins; write {SERVERS_MAX} at most, or one name with all addresses",
                servers.len()
            )));
        }
        for (number, server) in servers.iter().enumerate() {
            if server.scheme != first.scheme {
                return Err(Rejected::because(format!(
                    "\"{first}\" and \"{server}\" mix http and https; write one scheme for all \
                     origins of a site"
                )));
            }
            if servers.iter().take(number).any(|other| other == server) {
                return Err(Rejected::because(format!(
                    "\"{server}\" is given twice; remove one"
                )));
            }
        }
        Ok(Self(servers))
    }
}

impl From<Origin> for Origins {
    fn from(origin: Origin) -> Self {
        Self(vec![origin])
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, origin) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            write!(f, "{separator}{origin}")?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Origins {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OneOrSeveral)
    }
}

struct OneOrSeveral;

impl<'de> Visitor<'de> for OneOrSeveral {
    type Value = Origins;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an origin such as \"http://127.0.0.1:3000\", or a list of them")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Origins, E> {
        text.parse::<Origin>().map(Origins::from).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Origins, A::Error> {
        let mut servers = Vec::new();
        while let Some(server) = list.next_element()? {
            servers.push(server);
        }
        Origins::new(servers).map_err(de::Error::custom)
    }
}

words! {
    /// Which version of HTTP the servers of a site are asked in.
    pub enum OriginProtocol ("a protocol towards origins") {
        /// HTTP/1.1 in clear text; over TLS HTTP/2 if the server chooses it, and HTTP/1.1
        /// otherwise.
        #[default]
        Auto = "auto",
        /// HTTP/1.1.
        Http1 = "http1",
        /// HTTP/2, in clear text with prior knowledge (RFC 9113 3.3).
        H2 = "h2",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_a_host_and_a_port() {
        let check = |text: &str, written: &str, address: &str| {
            let origin: Origin = text.parse().unwrap();
            assert_eq!(
                (origin.to_string().as_str(), origin.address().as_str()),
                (written, address)
            );
        };
        let local = "127.0.0.1:3000";
        check("http://127.0.0.1:3000", "http://127.0.0.1:3000", local);
        check(
            "HTTP://Example.COM/",
            "http://example.com",
            "example.com:80",
        );
        check(
            "http://example.com:80",
            "http://example.com",
            "example.com:80",
        );
        check("http://a:443", "http://a:443", "a:443");
        check("https://a", "https://a", "a:443");
        check("HTTPS://A:8443/", "https://a:8443", "a:8443");
        check("https://a:80", "https://a:80", "a:80");
        check("http://[::1]:3000", "http://[::1]:3000", "[::1]:3000");
        check("http://[::1]", "http://[::1]", "[::1]:80");
        check("https://[::1]", "https://[::1]", "[::1]:443");
        check("http://my_app:8000", "http://my_app:8000", "my_app:8000");
    }

    #[test]
    fn what_is_no_origin_is_told_what_would_be_one() {
        for text in [
            "",
            "example.com",
            "127.0.0.1:3000",
            "http://",
            "https://",
            "http://a b",
            "http://user@host",
            "http://host:",
            "http://host:0",
            "http://host:99999",
            "http://host:+1",
            "ftp://host",
            "http://-a",
            "http://a..b",
            "http://1.2.3",
            "http://[::g]",
        ] {
            let error = text.parse::<Origin>().unwrap_err().to_string();
            assert_eq!(error, format!("\"{text}\" is not an origin; {ACCEPTED}"));
        }
        assert_eq!(
            "http://host/app".parse::<Origin>().unwrap_err().to_string(),
            "\"http://host/app\" is not an origin; it may have no path, because the client's is \
             used; write http://HOST[:PORT] or https://HOST[:PORT]"
        );
    }

    #[test]
    fn servers_of_a_site_are_alike_and_distinct() {
        let check = |list: &[&str], expected: Result<&str, &str>| {
            let servers = list.iter().map(|text| text.parse().unwrap()).collect();
            let found = Origins::new(servers).map(|origins| origins.to_string());
            let found = found.map_err(|rejected| rejected.to_string());
            assert_eq!(
                found.as_deref().map_err(String::as_str),
                expected,
                "{list:?}"
            );
        };
        check(&["http://a"], Ok("http://a"));
        check(&["http://a", "http://a:81"], Ok("http://a, http://a:81"));
        check(
            &[],
            Err("the list is empty; write http://HOST[:PORT] or https://HOST[:PORT] in it"),
        );
        check(
            &["http://a", "https://b"],
            Err(
                "\"http://a\" and \"https://b\" mix http and https; write one scheme for all \
                 origins of a site",
            ),
        );
        check(
            &["http://a", "http://b", "http://A:80"],
            Err("\"http://a\" is given twice; remove one"),
        );
    }
}

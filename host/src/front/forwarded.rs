//! What the origin is told of the client: `X-Forwarded-For`, `-Proto` and `-Host`.
//!
//! A client's own words in such fields never count, because applications build links and decisions
//! from them. A trusted client is a proxy of the operator's: its `X-Forwarded-For` is continued, and
//! its `X-Forwarded-Proto` is the scheme of the request, in the key as well as towards the origin.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::authority::Scheme;
use super::exchange::Client;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The scheme that a trusted client says its own client used.
pub fn scheme(request: &HeaderMap) -> Option<Scheme> {
    match request.get(PROTO)?.as_bytes() {
        b"http" => Some(Scheme::Http),
        b"https" => Some(Scheme::Https),
        _ => None,
    }
}

/// Tells the origin of `client`, which has asked `authority`. `before` is the request of a trusted
/// client, which names those before it. `outgoing` holds no such field any more.
pub fn tell(outgoing: &mut HeaderMap, client: Client, authority: &str, before: Option<&HeaderMap>) {
    outgoing.insert(FOR, chain(client.address, before));
    outgoing.insert(PROTO, HeaderValue::from_static(client.scheme.as_str()));
    if let Ok(host) = HeaderValue::from_str(authority)
        && !authority.is_empty()
    {
        outgoing.insert(HOST, host);
    }
}

fn chain(address: IpAddr, before: Option<&HeaderMap>) -> HeaderValue {
    let mut text = Vec::new();
    let lines = before.into_iter().flat_map(|fields| fields.get_all(FOR));
    for line in lines.filter(|line| !line.is_empty()) {
        text.extend_from_slice(line.as_bytes());
        text.extend_from_slice(b", ");
    }
    text.extend_from_slice(address.to_string().as_bytes());
    // Field values joined by a comma are a field value.
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Client = Client {
        address: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
        scheme: Scheme::Https,
    };

    fn fields(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_client_is_told_and_a_trusted_chain_continued() {
        let before = fields(&[("x-forwarded-for", "a, b"), ("x-forwarded-for", "c")]);
        for (before, expected) in [
            (None, "192.0.2.1"),
            (Some(&HeaderMap::new()), "192.0.2.1"),
            (Some(&before), "a, b, c, 192.0.2.1"),
        ] {
            let mut outgoing = HeaderMap::new();
            tell(&mut outgoing, CLIENT, "a.test:8080", before);
            let told = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"]
                .map(|name| outgoing.get(name).expect("told").to_str().expect("ASCII"));
            assert_eq!(told, [expected, "https", "a.test:8080"]);
        }
    }

    #[test]
    fn only_the_two_schemes_are_schemes() {
        for (value, expected) in [
            ("http", Some(Scheme::Http)),
            ("https", Some(Scheme::Https)),
            ("ftp", None),
            ("https, http", None),
            ("", None),
        ] {
            assert_eq!(scheme(&fields(&[("x-forwarded-proto", value)])), expected);
        }
        assert_eq!(scheme(&HeaderMap::new()), None);
    }
}

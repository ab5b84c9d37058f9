//! What responses to a request are purged by; and `PURGE`, the method by which operators remove
//! what is stored for a URL, or for the tags in `Surrogate-Key`.
//!
//! Only clients on this machine may, or those that the configuration names, and none whose request
//! a proxy there has passed on and said so. To all others the method does not exist, and it is
//! never passed on.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, FORWARDED, VIA};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::answer;
use super::authority::{Scheme, target_of};
use super::body::ResponseBody;
use super::exchange::Exchange;
use super::site::Site;
use super::tagging::{self, SURROGATE_KEY};
use super::worker::Edge;
use crate::cache::Effect;
use crate::cache::receipts::{Kind, Receipt};
use crate::config::Network;
use crate::entry::Tag;
use crate::policy::keying::Keyed;
use crate::tier::Selection;

/// Asks for a soft purge if it is `1`.
pub const SOFT_PURGE: HeaderName = HeaderName::from_static("fastly-soft-purge");

/// Whether `method` asks for a purge.
#[inline]
pub fn is_asked_by(method: &Method) -> bool {
    method.as_str() == "PURGE"
}

/// Whether a client with this address that sends these fields may ask for one, where those in
/// `allowed` may.
pub fn may_ask(allowed: &[Network], client: IpAddr, headers: &HeaderMap) -> bool {
    let forwarded = [VIA, FORWARDED, HeaderName::from_static("x-forwarded-for")];
    let is_forwarded = forwarded.iter().any(|name| headers.contains_key(name));
    !is_forwarded && allowed.iter().any(|network| network.contains(client))
}

/// The answer to a client that may not.
pub fn refused() -> Response<ResponseBody> {
    let message = "PURGE is for the clients in purge.allow\n";
    let mut response = answer::own(StatusCode::METHOD_NOT_ALLOWED, message);
    let allow = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    response.headers_mut().insert(ALLOW, allow);
    response
}

/// What the fields of a request say about how to purge.
pub fn effect(headers: &HeaderMap) -> Effect {
    match headers.get(SOFT_PURGE).map(HeaderValue::as_bytes) {
        Some(b"1") => Effect::Soft,
        _ => Effect::Hard,
    }
}

/// A purge of one site.
#[derive(Debug)]
pub struct Purge {
    site: Arc<Site>,
    kind: Kind,
    selection: Selection,
    effect: Effect,
}

impl Purge {
    /// What `request` asks for: the tags that it names, else the URI that it is for, which a GET
    /// would be `keyed` by.
    pub fn new(
        edge: &Edge,
        site: &Arc<Site>,
        place: (Scheme, &str),
        request: &Parts,
        keyed: &Keyed,
    ) -> Self {
        let headers = &request.headers;
        let (kind, tags) = match headers.contains_key(SURROGATE_KEY) {
            true => {
                let tag = |name| edge.cache.hasher.tag(site.id, name);
                (Kind::Tag, tagging::keys(headers).map(tag).collect())
            }
            false => {
                let targets = [Some(target_of(&request.uri)), asked(keyed)];
                (Kind::Url, uri_tags(edge, site, place, targets))
            }
        };
        Self {
            site: Arc::clone(site),
            kind,
            selection: Selection::of_tags(tags),
            effect: effect(headers),
        }
    }

    /// Makes it, and answers with its receipt: 404 if it is certain that nothing matched.
    pub async fn answer(self, edge: Arc<Edge>) -> Response<ResponseBody> {
        // What carries a tag may be much, and a worker waits for nothing.
        let purging = tokio::task::spawn_blocking(move || {
            let domains = std::slice::from_ref(&self.site.domain);
            let cache = &edge.cache;
            cache.purge_for(&[self.kind], domains, self.selection, self.effect)
        });
        match purging.await {
            Ok(Ok(receipt)) => told(&receipt),
            Ok(Err(_)) => answer::own(
                StatusCode::INTERNAL_SERVER_ERROR,
                "purged, but it could not be written down and may come back\n",
            ),
            Err(_) => answer::own(StatusCode::INTERNAL_SERVER_ERROR, "the purge failed\n"),
        }
    }
}

fn told(receipt: &Receipt) -> Response<ResponseBody> {
    let status = match receipt.is_of_nothing() {
        true => StatusCode::NOT_FOUND,
        false => StatusCode::OK,
    };
    let text = serde_json::to_string(receipt).unwrap_or_default() + "\n";
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer::respond(status, headers, ResponseBody::Whole(Bytes::from(text)))
}

/// The target that the origin is asked for in place of the one that came, if there is one.
pub fn asked(keyed: &Keyed) -> Option<&str> {
    match keyed {
        Keyed::Key { target, .. } => target.as_deref(),
        Keyed::Pass => None,
    }
}

/// By what a response to a request is purged.
impl Exchange {
    /// The origin of its URI: scheme and authority (RFC 9110 4.3.1).
    pub fn uri_origin(&self) -> String {
        format!("{}://{}", self.client.scheme.as_str(), self.authority)
    }

    /// The tags of the URIs of this request: the one it came for, and the one that the origin is
    /// asked for, under which other requests for the same entry are purged.
    pub fn uri_tags(&self) -> Vec<Tag> {
        let place = (self.client.scheme, &*self.authority);
        let targets = [Some(self.original_target()), self.target.as_deref()];
        uri_tags(&self.worker.edge, &self.site, place, targets)
    }

    /// The tags that every response to this request carries: those of its URIs, and of what they
    /// are below.
    pub fn tags(&self) -> Vec<Tag> {
        let hasher = &self.worker.edge.cache.hasher;
        let mut tags = self.uri_tags();
        let targets = [Some(self.original_target()), self.target.as_deref()];
        for target in targets.into_iter().flatten() {
            hasher.place_tags(self.site.id, &self.authority, target, &mut tags);
        }
        tags
    }
}

/// The tags of a URL as stored responses carry them: of its own, and of the one that the origin is
/// asked for in its place.
pub fn uri_tags(
    edge: &Edge,
    site: &Site,
    (scheme, authority): (Scheme, &str),
    targets: [Option<&str>; 2],
) -> Vec<Tag> {
    let tag = |target| {
        let cache = &edge.cache;
        cache.uri_tag(site.id, scheme.as_str(), authority, target)
    };
    targets.into_iter().flatten().map(tag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_allowed_may_ask_and_not_through_a_proxy() {
        let ask = |allowed: &[Network], client: &str, field: Option<&'static str>, expected| {
            let mut headers = HeaderMap::new();
            if let Some(name) = field {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static("x"));
            }
            let client = client.parse().expect("an address");
            let may = may_ask(allowed, client, &headers);
            assert_eq!(may, expected, "{client} {field:?}");
        };
        let own = crate::config::Purge::default().allow;
        let check = |client: &str, field, expected| ask(&own, client, field, expected);
        for own in ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"] {
            check(own, None, true);
            check(own, Some("accept"), true);
            for told in ["via", "forwarded", "x-forwarded-for"] {
                check(own, Some(told), false);
            }
        }
        for other in ["192.0.2.1", "10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1"] {
            check(other, None, false);
        }
        let named = ["10.0.0.0/8".parse().expect("a network")];
        for (client, may) in [
            ("10.1.2.3", true),
            ("::ffff:10.0.0.1", true),
            ("11.0.0.1", false),
            ("127.0.0.1", false),
        ] {
            ask(&named, client, None, may);
            ask(&named, client, Some("via"), false);
            ask(&[], client, None, false);
        }
    }
}

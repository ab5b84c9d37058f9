//! A request that is passed on without lookup: its method is not GET or HEAD, the policy said so,
//! or what it would share with others is not for sharing. Nothing of it is stored; an unsafe
//! method invalidates what is (RFC 9111 4.4).

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, RANGE};
use http::{HeaderMap, HeaderName, Method, Response, StatusCode};

use super::answer;
use super::body::{RequestBody, ResponseBody};
use super::cache_status::{CacheStatus, Forward, ForwardReason, Outcome};
use super::coding;
use super::exchange::Exchange;
use super::fetch;
use super::fields::{self, Onward};
use super::fill;
use super::origin::fault::FaultKind;
use super::origin::outage::Admission;
use super::origin::{OriginBody, Outgoing};
use super::refused;
use super::site::{CacheOutcome, Site};
use super::tagging;
use super::worker::Worker;
use crate::cache::flight::Failure;
use crate::clock;
use crate::entry::Tag;
use crate::rfc9111::cache_groups::{self, CACHE_GROUP_INVALIDATION};
use crate::rfc9111::invalidation::{self, EffectiveUri};
use crate::rfc9111::targeted;

/// Passes `exchange` on for `reason`, unless its origin is down.
pub async fn pass(exchange: Exchange, reason: ForwardReason) -> Response<ResponseBody> {
    // What nothing stored can answer may try an origin of which there is only doubt.
    let _probe = match exchange.site.upstream.outage.admit(clock::now()) {
        Admission::Down(down) => return refused::unpassed(&exchange, reason, down),
        Admission::Probe(probe) => Some(probe),
        Admission::Open | Admission::Doubtful => None,
    };
    forward(exchange, reason, None).await
}

/// Sends `exchange` to its origin for `reason`; of its fields only the `declared` ones, if that is
/// said.
pub async fn forward(
    mut exchange: Exchange,
    reason: ForwardReason,
    declared: Option<Vec<HeaderName>>,
) -> Response<ResponseBody> {
    if exchange.is_looped() {
        return exchange.looped();
    }
    if exchange.head.method == Method::CONNECT {
        let message = "this host is no tunnel\n";
        return exchange.finish(
            CacheOutcome::Error,
            answer::own(StatusCode::NOT_IMPLEMENTED, message),
        );
    }
    let method = exchange.head.method.clone();
    if fields::spend_forward(&method, &mut exchange.head.headers) == Onward::No {
        let (status, message) = match method {
            Method::OPTIONS => (StatusCode::OK, ""),
            _ => (
                StatusCode::NOT_IMPLEMENTED,
                "this host reflects no requests\n",
            ),
        };
        return exchange.finish(CacheOutcome::Error, answer::own(status, message));
    }
    let limit = exchange.worker.edge.limits.body;
    if announced(&exchange.head.headers).is_some_and(|length| length > limit) {
        let message = "the request body is too large\n";
        return exchange.finish(
            CacheOutcome::Error,
            answer::own(StatusCode::PAYLOAD_TOO_LARGE, message),
        );
    }
    let (headers, body) = outgoing(&mut exchange, limit, declared.as_deref());
    let unsettled = Unsettled::new(&exchange);
    // What is done to a resource is done to the one that the client named.
    let target = match reason {
        ForwardReason::Method => exchange.original_target(),
        _ => exchange.asked_target(),
    };
    let request = fill::request(&method, target, headers, body);
    let answer = match request {
        Ok(request) => {
            let (client, interim) = (&exchange.worker.client, exchange.interim.clone());
            client.send(&exchange.site, request, interim).await
        }
        Err(failure) => Err(failure),
    };
    let response = match answer {
        Ok(response) if !is_unasked_part(&exchange, response.status()) => response,
        Ok(_) => {
            exchange.site.metrics.origin.failed(FaultKind::Protocol);
            return fetch::failed(&exchange, Failure::Unreachable, Forward::new(reason));
        }
        Err(failure) => return fetch::failed(&exchange, failure, Forward::new(reason)),
    };
    unsettled.settle();
    invalidate(&exchange, response.status(), response.headers());
    hand_on(&exchange, response, reason)
}

/// Hands the origin's `response` on to the client.
fn hand_on(
    exchange: &Exchange,
    response: Response<OriginBody>,
    reason: ForwardReason,
) -> Response<ResponseBody> {
    let (head, body) = response.into_parts();
    let request = &exchange.head;
    let announced = head.headers.get(CONTENT_LENGTH).cloned();
    let mut headers = fill::end_to_end(head.headers, head.version);
    tagging::remove(&mut headers);
    targeted::take(&mut headers);
    let coding = match request.method {
        Method::GET | Method::HEAD => {
            let offered = &exchange.site.compress;
            let length = match &announced {
                Some(length) => length.to_str().ok().and_then(|length| length.parse().ok()),
                None => body.length(),
            };
            coding::apply(offered, &request.headers, head.status, &mut headers, length)
        }
        _ => None,
    };
    let forward = Forward {
        status: Some(head.status),
        ..Forward::new(reason)
    };
    let status = CacheStatus {
        outcome: Outcome::Forward(forward),
        key: None,
        detail: None,
    };
    status.append_to(&mut headers);
    let body = if request.method == Method::HEAD || head.status == StatusCode::NOT_MODIFIED {
        // RFC 9110 8.6: a 204 has none.
        let length =
            announced.filter(|_| coding.is_none() && head.status != StatusCode::NO_CONTENT);
        headers.extend(length.map(|length| (CONTENT_LENGTH, length)));
        ResponseBody::Empty
    } else {
        ResponseBody::Passed(Box::new(body.encoded(coding)))
    };
    exchange.finish(
        CacheOutcome::Bypass,
        answer::respond(head.status, headers, body),
    )
}

/// Whether an answer with `status` is a part of what `exchange` asks to have whole: who has not
/// asked for a part takes it for the whole.
fn is_unasked_part(exchange: &Exchange, status: StatusCode) -> bool {
    status == StatusCode::PARTIAL_CONTENT && !exchange.head.headers.contains_key(RANGE)
}

/// The fields and the body that are sent on.
fn outgoing(
    exchange: &mut Exchange,
    limit: u64,
    declared: Option<&[HeaderName]>,
) -> (HeaderMap, Outgoing) {
    let mut headers = exchange.head.headers.clone();
    fields::remove_hop_by_hop(&mut headers);
    fields::remove_from_proxies_only(&mut headers);
    exchange.tell_client(&mut headers);
    if let Some(declared) = declared {
        fill::keep_declared(&mut headers, declared);
    }
    fill::set_host(&mut headers, &exchange.site, &exchange.authority);
    fill::mark_sent(&mut headers, exchange);
    let body = match std::mem::replace(&mut exchange.body, RequestBody::Empty) {
        // The semantics of GET and HEAD give a body no meaning, and a cache that let one through
        // could be made to store what it was answered with (RFC 9110 9.3.1).
        body @ (RequestBody::Http1(_) | RequestBody::Http2(_))
            if !matches!(exchange.head.method, Method::GET | Method::HEAD) =>
        {
            Outgoing::client(body, limit)
        }
        _ => {
            headers.remove(CONTENT_LENGTH);
            Outgoing::Empty
        }
    };
    (headers, body)
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// An unsafe request on its way. If it ends without an answer, because the client leaves or the
/// origin fails, it may have changed its resource all the same, so what is stored of that goes.
struct Unsettled {
    worker: Rc<Worker>,
    site: Arc<Site>,
    tags: Vec<Tag>,
}

impl Unsettled {
    fn new(exchange: &Exchange) -> Self {
        let safe = invalidation::is_safe(&exchange.head.method);
        Self {
            worker: Rc::clone(&exchange.worker),
            site: Arc::clone(&exchange.site),
            tags: if safe {
                Vec::new()
            } else {
                exchange.uri_tags()
            },
        }
    }

    /// There is an answer, which says what is to be done.
    fn settle(mut self) {
        self.tags.clear();
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        if !self.tags.is_empty() {
            let cache = &self.worker.edge.cache;
            cache.purge_tags(&self.site.domain, &self.tags);
        }
    }
}

/// Removes what the answer to an unsafe method has made out of date.
fn invalidate(exchange: &Exchange, status: StatusCode, headers: &HeaderMap) {
    let uri = EffectiveUri {
        scheme: exchange.client.scheme.as_str(),
        authority: &exchange.authority,
        target: exchange.original_target(),
    };
    let targets = invalidation::invalidated(&exchange.head.method, uri, status, headers);
    let groups = match invalidation::is_safe(&exchange.head.method) {
        // RFC 9875 3: only the answer to an unsafe request may name groups.
        true => Vec::new(),
        false => cache_groups::groups(headers, &CACHE_GROUP_INVALIDATION),
    };
    if targets.is_empty() && groups.is_empty() {
        return;
    }
    let cache = &exchange.worker.edge.cache;
    let site = &exchange.site;
    let mut tags: Vec<Tag> = targets
        .iter()
        .map(|target| cache.uri_tag(site.id, uri.scheme, &exchange.authority, target))
        .collect();
    if !targets.is_empty() {
        // Under a policy, other requests share the entry by the target that the policy answers.
        tags.extend(exchange.uri_tags());
    }
    let origin = exchange.uri_origin();
    let group = |group: &Vec<u8>| cache.hasher.group_tag(site.id, &origin, group);
    tags.extend(groups.iter().map(group));
    cache.purge_tags(&site.domain, &tags);
}

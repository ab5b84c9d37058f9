//! One request, from its head to the answer.
//!
//! The first part runs at once, without a wait and without an allocation it can avoid: pick the
//! site, ask the keying policy, look up, and answer if a fresh response is stored. Everything else
//! goes on in a task of its own (`fetch`, `pass`).

use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::answer;
use super::authority::{self, Authority, Scheme};
use super::body::ResponseBody;
use super::cache_status::{CacheStatus, ForwardReason, Outcome};
use super::fetch;
use super::pass;
use super::site::{CacheOutcome, Site};
use super::worker::{Local, Worker};
use crate::cache::Lookup;
use crate::clock::{self, Moment};
use crate::entry::{CacheKey, Entry, Tag, Usable};
use crate::policy::activation::Activation;
use crate::policy::keying::{Input, Keyed};

/// The answer to a request: there already, or on its way.
pub enum Answer {
    /// There already.
    Now(Option<Response<ResponseBody>>),
    /// On its way.
    Later(Pin<Box<dyn Future<Output = Response<ResponseBody>>>>),
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Now(_) => "Now",
            Self::Later(_) => "Later",
        })
    }
}

impl Future for Answer {
    type Output = Result<Response<ResponseBody>, std::convert::Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Now(response) => {
                Poll::Ready(Ok(response.take().expect("a future is not polled after it is ready")))
            }
            Self::Later(response) => response.as_mut().poll(cx).map(Ok),
        }
    }
}

/// A request that could not be answered at once.
pub struct Exchange {
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// Its site.
    pub site: Arc<Site>,
    /// Its position in the table of sites.
    pub position: usize,
    /// Its head.
    pub head: Parts,
    /// Its body, until it is sent on.
    pub body: Option<Incoming>,
    /// Its normalised authority.
    pub authority: String,
    /// The target that the origin is asked for, if it is not the one that came.
    pub target: Option<String>,
    /// The client's address.
    pub client: IpAddr,
    /// When it arrived.
    pub start: Instant,
}

impl Exchange {
    /// The target as it came.
    pub fn original_target(&self) -> &str {
        self.head.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    /// The target that the origin is asked for.
    pub fn asked_target(&self) -> &str {
        self.target.as_deref().unwrap_or_else(|| self.original_target())
    }

    /// The tags that every response to this request carries: its effective URI, and the URI that
    /// the origin is asked for, under which other requests for the same entry are purged.
    pub fn tags(&self) -> Vec<Tag> {
        let tag = |target: &str| {
            self.worker.edge.cache.uri_tag(self.site.id, "http", &self.authority, target)
        };
        let mut tags = vec![tag(self.original_target())];
        tags.extend(self.target.as_deref().map(tag).filter(|asked| !tags.contains(asked)));
        tags
    }

    /// Counts the answer and hands it on.
    pub fn finish(
        &self,
        outcome: CacheOutcome,
        response: Response<ResponseBody>,
    ) -> Response<ResponseBody> {
        let done = Done {
            method: &self.head.method,
            authority: &self.authority,
            target: self.original_target(),
            client: self.client,
            start: self.start,
        };
        finish(&self.worker, &self.site, &done, outcome, response)
    }
}

/// What is counted and logged of an answered request.
struct Done<'a> {
    method: &'a Method,
    authority: &'a str,
    target: &'a str,
    client: IpAddr,
    start: Instant,
}

#[inline]
fn finish(
    worker: &Worker,
    site: &Site,
    done: &Done<'_>,
    outcome: CacheOutcome,
    response: Response<ResponseBody>,
) -> Response<ResponseBody> {
    let took = done.start.elapsed();
    site.metrics.count(outcome, response.status());
    worker.edge.metrics.request_seconds.observe(took);
    if worker.edge.access_log {
        let length = http_body::Body::size_hint(response.body()).exact();
        tracing::info!(
            target: "access",
            client = %done.client, site = %site.name, method = %done.method,
            authority = done.authority, path = done.target, status = response.status().as_u16(),
            bytes = length, took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            cache_status = outcome.as_str(),
        );
    }
    response
}

/// Answers `request`, which came from `client`.
pub fn answer(worker: &Rc<Worker>, request: Request<Incoming>, client: IpAddr) -> Answer {
    let start = clock::instant();
    match begin(worker, &request, client, start) {
        Begun::Answered(response) => Answer::Now(Some(response)),
        Begun::Refused(status, message) => {
            worker.edge.metrics.refused.increment();
            Answer::Now(Some(answer::own(status, message)))
        }
        Begun::Keyed(keyed) => {
            let KeyedRequest { site, position, authority, target, next } = *keyed;
            let (head, body) = request.into_parts();
            let (worker, body) = (Rc::clone(worker), Some(body));
            let exchange =
                Exchange { worker, site, position, head, body, authority, target, client, start };
            Answer::Later(match next {
                Next::Pass(reason) => Box::pin(pass::pass(exchange, reason)),
                Next::Fetch(miss) => Box::pin(fetch::fetch(exchange, miss)),
            })
        }
    }
}

enum Begun {
    Answered(Response<ResponseBody>),
    Refused(StatusCode, &'static str),
    Keyed(Box<KeyedRequest>),
}

struct KeyedRequest {
    site: Arc<Site>,
    position: usize,
    authority: String,
    target: Option<String>,
    next: Next,
}

enum Next {
    Pass(ForwardReason),
    Fetch(Miss),
}

/// A request whose key is known and which no fresh stored response answers.
pub struct Miss {
    /// Its primary key.
    pub primary: CacheKey,
    /// The key under which its response is expected.
    pub key: CacheKey,
    /// Why it goes to the origin.
    pub reason: ForwardReason,
    /// The stored response that cannot be used as it is.
    pub stale: Option<(Arc<Entry>, Usable)>,
    /// The freshness policy it began with.
    pub freshness: Arc<Activation>,
    /// The request fields that the keying policy declared, where only those are forwarded.
    pub declared: Vec<http::HeaderName>,
}

#[inline]
fn begin(
    worker: &Worker,
    request: &Request<Incoming>,
    client: IpAddr,
    start: Instant,
) -> Begun {
    let (method, headers) = (request.method(), request.headers());
    let effective =
        authority::effective(method, request.uri(), request.version(), headers, Scheme::Http);
    let authority = match effective {
        Ok(authority) => authority,
        Err(error) => return Begun::Refused(error.status(), error.message()),
    };
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    if target.len() > worker.edge.limits.target {
        return Begun::Refused(StatusCode::URI_TOO_LONG, "the request target is too long\n");
    }
    let mut local = worker.local();
    let local = &mut *local;
    let position = local.table.find(authority.host());
    let Some((position, site)) =
        position.and_then(|position| Some((position, local.table.get(position)?)))
    else {
        return Begun::Refused(StatusCode::MISDIRECTED_REQUEST, "no site answers for this host\n");
    };
    let site = Arc::clone(site);
    let input = Input { method: method.as_str(), authority: authority.as_str(), target, headers };
    let (keyed, namespace) = key(local, position, &site, input);
    let pass = |reason, authority: Authority<'_>| {
        let authority = authority.into_text().into_owned();
        let next = Next::Pass(reason);
        let site = Arc::clone(&site);
        Begun::Keyed(Box::new(KeyedRequest { site, position, authority, target: None, next }))
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        return pass(ForwardReason::Method, authority);
    }
    let Keyed::Key { target: asked, variant } = keyed else {
        return pass(ForwardReason::Bypass, authority);
    };
    let asked_target = asked.as_deref().unwrap_or(target);
    compose(&mut local.key, &site, namespace, authority.as_str(), asked_target, &variant);
    let primary = worker.edge.cache.hasher.key(&local.key);
    let lookup = worker.edge.cache.lookup(&site.domain, primary, headers);
    let (key, reason, stale) = match lookup {
        Lookup::Found(entry) => {
            let now = clock::moment(start);
            let Some(stored) = entry.response() else { return pass(ForwardReason::Miss, authority) };
            let usable = stored.lifetime.judge(now);
            if matches!(usable, Usable::Fresh { .. }) {
                let response = hit(worker, request, &entry, now, client, &mut local.text);
                let authority = authority.as_str();
                let done = Done { method, authority, target, client, start };
                return Begun::Answered(finish(worker, &site, &done, CacheOutcome::Hit, response));
            }
            (entry.key.clone(), ForwardReason::Stale, Some((entry, usable)))
        }
        Lookup::UriMiss => (primary.to_key(), ForwardReason::UriMiss, None),
        Lookup::VaryMiss { key } => (key, ForwardReason::VaryMiss, None),
    };
    let primary = primary.to_key();
    let hooks = local.hooks.get_mut(position);
    let (freshness, declared) = hooks.map_or_else(
        || (site.hooks.freshness.current(), Vec::new()),
        |hooks| {
            let freshness = Arc::clone(hooks.freshener.follow(&site.hooks.freshness));
            let declared = hooks.keyer.instance().map(|keyer| keyer.fields().to_vec());
            (freshness, declared.unwrap_or_default())
        },
    );
    let authority = authority.into_text().into_owned();
    let next = Next::Fetch(Miss { primary, key, reason, stale, freshness, declared });
    Begun::Keyed(Box::new(KeyedRequest { site, position, authority, target: asked, next }))
}

/// Asks the keying policy. A failed call gets the native key, in the native namespace, where it
/// meets no key of a policy.
#[inline]
fn key(local: &mut Local, position: usize, site: &Site, input: Input<'_>) -> (Keyed, u64) {
    let native = || (Keyed::Key { target: None, variant: String::new() }, 0);
    let Some(hooks) = local.hooks.get_mut(position) else { return native() };
    let keyed = hooks.keyer.call(&site.hooks.keying, |keyer, activation| {
        keyer.key(input, activation).map(|keyed| (keyed, activation.namespace))
    });
    keyed.unwrap_or_else(native)
}

/// Puts a primary key together. No part but the last can hold a line feed, so no two sets of parts
/// give the same bytes.
#[inline]
pub fn compose(
    key: &mut Vec<u8>,
    site: &Site,
    namespace: u64,
    authority: &str,
    target: &str,
    variant: &str,
) {
    key.clear();
    // Big-endian, so that a key never begins with the byte that marks secondary keys.
    key.extend_from_slice(&site.id.0.to_be_bytes());
    key.extend_from_slice(&namespace.to_le_bytes());
    key.extend_from_slice(b"http://");
    key.extend_from_slice(authority.as_bytes());
    key.extend_from_slice(target.as_bytes());
    key.push(b'\n');
    key.extend_from_slice(variant.as_bytes());
}

#[inline]
fn hit(
    worker: &Worker,
    request: &Request<Incoming>,
    entry: &Entry,
    now: Moment,
    client: IpAddr,
    text: &mut bytes::BytesMut,
) -> Response<ResponseBody> {
    let Some(stored) = entry.response() else {
        return answer::own(StatusCode::INTERNAL_SERVER_ERROR, "a nomination was taken for a hit\n");
    };
    let shown = Shown::new(worker, client, entry, &stored.decided_by);
    let age = stored.lifetime.age(now);
    let left = seconds(stored.lifetime.fresh_for) - seconds(age);
    let status = shown.status(Outcome::Hit { ttl: left });
    answer::from_stored(request.method(), request.headers(), stored, |headers| {
        answer::fill_places(headers, Some(age.as_secs()), &status, text);
    })
}

/// Whole seconds, signed, for `Cache-Status`.
pub fn seconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// What a trusted client sees besides the outcome.
pub struct Shown {
    key: Vec<u8>,
    detail: Vec<u8>,
}

impl Shown {
    /// Of `entry`, for `client`; nothing for a client that is not trusted.
    #[inline]
    pub fn new(worker: &Worker, client: IpAddr, entry: &Entry, decided_by: &str) -> Self {
        if !worker.edge.trusts(client) {
            return Self { key: Vec::new(), detail: Vec::new() };
        }
        Self::of_key(worker, client, &entry.key, decided_by)
    }

    /// Of a response that is not stored yet and expected under `key`.
    pub fn of_key(worker: &Worker, client: IpAddr, key: &CacheKey, decided_by: &str) -> Self {
        if !worker.edge.trusts(client) {
            return Self { key: Vec::new(), detail: Vec::new() };
        }
        Self { key: readable(key.view().bytes), detail: decided_by.as_bytes().to_vec() }
    }

    /// The status with what is shown.
    #[inline]
    pub fn status(&self, outcome: Outcome) -> CacheStatus<'_> {
        let some = |text: &'_ Vec<u8>| !text.is_empty();
        CacheStatus {
            outcome,
            key: Some(&self.key).filter(|key| some(key)).map(Vec::as_slice),
            detail: Some(&self.detail).filter(|detail| some(detail)).map(Vec::as_slice),
        }
    }
}

/// A key in printable form: the URI, then the variant and the namespace.
pub fn readable(key: &[u8]) -> Vec<u8> {
    let (prefix, rest) = key.split_at_checked(12).unwrap_or((&[], key));
    let namespace = prefix.get(4..).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let mut text = rest.strip_suffix(b"\n").unwrap_or(rest).to_vec();
    for byte in &mut text {
        if *byte == b'\n' {
            *byte = b' ';
        } else if !byte.is_ascii_graphic() {
            *byte = b'.';
        }
    }
    if let Some(namespace) = namespace.filter(|namespace| *namespace != 0) {
        text.extend_from_slice(format!(" ({namespace:016x})").as_bytes());
    }
    text
}

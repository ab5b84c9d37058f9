//! Flies one flight: asks the origin, decides what becomes of the answer, hands the content to
//! every reader while it is set aside for the tier, and stores it when it is whole.
//!
//! The fill is a task of its worker and belongs to no client: the one that caused it may leave. It
//! goes on if a tier will store what it brings, and otherwise for as long as somebody reads.

mod freshening;
mod lessons;
mod part;
mod receive;
mod tags;

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, DATE, ETAG, HOST, IF_RANGE, LAST_MODIFIED, PRAGMA, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};

use super::answer;
use super::ask::Ask;
use super::below;
use super::exchange::Exchange;
use super::fields;
use super::interim::Interim;
use super::miss::Miss;
use super::origin::outage::Probe;
use super::origin::{OriginBody, Outgoing};
use super::site::Site;
use super::storing::{self, Decision, PolicyBounds};
use super::worker::{CDN_LOOP, Worker};
use crate::cache::flight::{Failure, Flight, Landing, Pilot};
use crate::cache::hydration::Priority;
use crate::cache::stores::StoreOutcome;
use crate::clock;
use crate::config::Forward;
use crate::entry::{CacheKey, Entry, KeyView, Tag, Usable};
use crate::policy::activation::Activation;
use crate::policy::freshness::Input;
use crate::rfc9111::date;
use crate::rfc9111::facts::{RequestFacts, ResponseFacts};
use crate::rfc9111::freshness::{Native, Times, native};
use crate::rfc9111::storable::{Reason, Storable};
use crate::rfc9111::validation;
use crate::rfc9111::vary::Nominated;
use crate::tier::memory::put::{Put, Reservation};

/// Everything a fill needs once the request that caused it is gone.
struct Fill {
    worker: Rc<Worker>,
    site: Arc<Site>,
    position: usize,
    /// What is asked of the origin.
    target: String,
    /// The request's own fields, which nominations and rules refer to.
    request: HeaderMap,
    /// The fields that are sent.
    outgoing: HeaderMap,
    original_target: String,
    /// Scheme and authority that the request came for (RFC 9110 4.3.1).
    uri_origin: String,
    primary: CacheKey,
    /// The key that requests like this one find nothing under.
    expected: CacheKey,
    stale: Option<Arc<Entry>>,
    /// The right to try an origin that is in trouble, until that is done.
    probe: Option<Probe>,
    ask: Ask,
    freshness: Arc<Activation>,
    tags: Vec<Tag>,
    /// Takes interim responses to the client that caused it.
    interim: Interim,
    /// Whether a client waits for it.
    priority: Priority,
}

/// Starts the fill of `pilot`'s flight, which asks for `ask`.
pub fn start(exchange: &Exchange, miss: &Miss, ask: Ask, pilot: Pilot) {
    let worker = Rc::clone(&exchange.worker);
    let fill = Fill {
        worker: Rc::clone(&exchange.worker),
        site: Arc::clone(&exchange.site),
        position: exchange.position,
        target: exchange.asked_target().to_owned(),
        request: exchange.head.headers.clone(),
        outgoing: outgoing_fields(exchange, miss),
        original_target: exchange.original_target().to_owned(),
        uri_origin: exchange.uri_origin(),
        primary: miss.primary.clone(),
        expected: miss.key.clone(),
        probe: miss.probe.take(),
        stale: still(exchange, miss),
        ask,
        freshness: Arc::clone(&miss.freshness),
        tags: exchange.tags(),
        interim: exchange.interim.clone(),
        priority: match &miss.stale {
            Some((_, Usable::StaleWhileRevalidate { .. })) => Priority::Revalidation,
            _ => Priority::Interactive,
        },
    };
    worker.tasks.spawn(fill.fly(pilot));
}

/// What is stored now under the key of the stale response that `miss` found, if that is a whole
/// response as it is, or the same parts. A purge that came since the lookup must not be undone by
/// validating what it removed.
fn still(exchange: &Exchange, miss: &Miss) -> Option<Arc<Entry>> {
    let (entry, _) = miss.stale.as_ref()?;
    let whole = |entry: &Entry| entry.response().is_some();
    let Some(found) = exchange.site.domain.peek(entry.key.view()) else {
        // Memory need not hold what a slower tier does.
        let lower = &exchange.worker.edge.cache.lower;
        let stands = |since| !lower.is_purged_since(since, entry);
        return miss.recalled.is_some_and(stands).then(|| Arc::clone(entry));
    };
    let same = Arc::ptr_eq(&found, entry) || (whole(entry) && whole(&found));
    same.then_some(found)
}

/// The fields of a request for the whole, unconditional representation.
pub(super) fn outgoing_fields(exchange: &Exchange, miss: &Miss) -> HeaderMap {
    let mut headers = exchange.head.headers.clone();
    fields::remove_hop_by_hop(&mut headers);
    fields::remove_from_proxies_only(&mut headers);
    exchange.tell_client(&mut headers);
    if exchange.site.forward == Forward::Declared {
        keep_declared(&mut headers, &miss.declared);
    }
    for name in [RANGE, IF_RANGE, CONTENT_LENGTH, http::header::EXPECT] {
        headers.remove(name);
    }
    for name in validation::PRECONDITIONS {
        headers.remove(name);
    }
    if let Some((_, Usable::StaleWhileRevalidate { .. })) = &miss.stale {
        // In the background nothing is fetched for the client: what it accepts of a cache, a stale
        // response above all, is not what is wanted of the caches nearer to the origin.
        for name in [CACHE_CONTROL, PRAGMA] {
            headers.remove(name);
        }
    }
    set_host(&mut headers, &exchange.site, &exchange.authority);
    mark_sent(&mut headers, exchange);
    headers
}

/// Says that this process sends the request of `exchange` on.
pub(super) fn mark_sent(headers: &mut HeaderMap, exchange: &Exchange) {
    fields::append_via(headers, exchange.head.version);
    headers.append(CDN_LOOP, exchange.worker.edge.loop_mark.clone());
}

/// Takes out the fields that the keying policy has not declared. What must be said besides is said
/// afterwards.
pub(super) fn keep_declared(headers: &mut HeaderMap, declared: &[http::HeaderName]) {
    let undeclared: Vec<_> = headers
        .keys()
        .filter(|name| !declared.contains(name))
        .cloned()
        .collect();
    for name in undeclared {
        headers.remove(name);
    }
}

/// The client's authority, or the one that the site is configured with.
pub fn set_host(headers: &mut HeaderMap, site: &Site, authority: &str) {
    let own = || {
        HeaderValue::from_str(authority)
            .ok()
            .filter(|value| !value.is_empty())
    };
    let origin = || HeaderValue::from_str(&site.origin).ok();
    if let Some(host) = site.host.clone().or_else(own).or_else(origin) {
        headers.insert(HOST, host);
    }
}

/// A request to an origin.
///
/// # Errors
/// The target is none that can be sent.
pub fn request(
    method: &Method,
    target: &str,
    headers: HeaderMap,
    body: Outgoing,
) -> Result<Request<Outgoing>, Failure> {
    let uri = http::Uri::builder()
        .path_and_query(target)
        .build()
        .map_err(|_| Failure::Unreachable)?;
    let mut request = Request::new(body);
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Takes a flight out of the table when the fill ends, however it ends.
struct Listed {
    worker: Rc<Worker>,
    flight: Arc<Flight>,
    alias: Option<CacheKey>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let flights = &self.worker.edge.cache.flights;
        flights.remove(&self.flight, &self.flight.key);
        if let Some(alias) = &self.alias {
            flights.remove(&self.flight, alias);
        }
    }
}

/// An answer of the origin, judged.
struct Judged {
    headers: HeaderMap,
    native: Native,
    decision: Decision,
    nominated: Nominated,
}

impl Fill {
    /// Stores `entry`, which the flight of `pilot` has brought.
    fn store(&self, pilot: &Pilot, entry: &Arc<Entry>, reservation: Option<Reservation>) {
        let (cache, flight) = (&self.worker.edge.cache, pilot.flight());
        // Before memory may lose it again.
        let _succeeding = cache.lower.announce(entry.key.view());
        cache.flights.supersede(flight);
        let mut outcome = StoreOutcome::default();
        match cache.store(&self.site.domain, flight, entry, reservation) {
            // A purge or a newer response came first: nothing was to be stored any more.
            Some(Put::Superseded) => {}
            put => put.into_iter().for_each(|put| outcome.add_memory(put)),
        }
        below::store(&self.worker, &self.site, flight, (entry, outcome));
    }

    /// Removes what is stored under `key` from every tier.
    fn forget(&self, key: KeyView<'_>) {
        let lower = &self.worker.edge.cache.lower;
        let _succeeding = lower.announce(key);
        self.site.domain.remove(key);
        lower.remove(key);
    }

    /// Removes `stale`, if nothing has taken its place.
    fn give_up(&self, stale: &Arc<Entry>) {
        let (key, same) = (stale.key.view(), |found: &Arc<_>| Arc::ptr_eq(found, stale));
        let held = self.site.domain.peek(key);
        if held.as_ref().is_none_or(same) {
            self.worker.edge.cache.lower.remove(key);
        }
        self.site.domain.remove_if(key, &same);
    }

    async fn fly(mut self, pilot: Pilot) {
        let flight = Arc::clone(pilot.flight());
        let listed = Listed {
            worker: Rc::clone(&self.worker),
            flight,
            alias: None,
        };
        let mut ask = self.ask;
        let mut probe = self.probe.take();
        let whole = matches!(ask, Ask::Whole | Ask::Fields);
        let stale = self.stale.as_ref().filter(|_| whole);
        let mut conditional = stale.filter(|stored| stored.headers().is_some_and(has_validator));
        loop {
            let sent = clock::wall();
            let mut headers = self.outgoing.clone();
            if let Some(stored) = conditional.and_then(|stored| stored.headers()) {
                validation::make_conditional(&mut headers, stored);
            }
            ask.write(&mut headers, self.parts().map(|parts| &parts.headers));
            let answer = self.send_in_turn(ask, headers).await;
            drop(probe.take());
            match answer {
                Err(failure) => {
                    // Before anyone hears of it, and tries again.
                    self.learn_failure(failure);
                    drop(listed);
                    return pilot.land(Landing::Failed(failure));
                }
                Ok(response) if response.status() == StatusCode::NOT_MODIFIED => {
                    let Some(stored) = conditional.take() else {
                        return pilot.land(Landing::Failed(Failure::Unreachable));
                    };
                    if self.freshen(stored, &response, sent, &pilot) {
                        return;
                    }
                    // The 304 was about something else: ask again for the whole.
                }
                Ok(response) if ask == Ask::Fields => {
                    return self.receive_head(&response, sent, pilot, listed);
                }
                Ok(response) => match self.brings(ask, &response) {
                    Some(brought) => {
                        let arrival = (response, brought, sent);
                        return self.receive(arrival, pilot, listed).await;
                    }
                    // What is stored cannot be completed by it.
                    None => ask = Ask::Whole,
                },
            }
        }
    }

    /// Asks the origin once it is this fetch's turn, which may take as long as the origin may.
    async fn send_in_turn(
        &self,
        ask: Ask,
        headers: HeaderMap,
    ) -> Result<Response<OriginBody>, Failure> {
        let hydration = &self.worker.edge.hydration;
        let patience = self.worker.edge.deadlines.first_byte;
        let entering = hydration.enter(self.site.id, self.priority);
        let Ok(Ok(_place)) = tokio::time::timeout(patience, entering).await else {
            return Err(Failure::Crowded);
        };
        self.send(ask, headers).await
    }

    async fn send(&self, ask: Ask, headers: HeaderMap) -> Result<Response<OriginBody>, Failure> {
        let method = match ask {
            Ask::Fields => Method::HEAD,
            Ask::Whole | Ask::Part(_) | Ask::Rest(_) => Method::GET,
        };
        let request = request(&method, &self.target, headers, Outgoing::Empty)?;
        let interim = self.interim.clone();
        self.worker.client.send(&self.site, request, interim).await
    }

    /// Native rule, freshness policy, floor.
    fn judge(
        &self,
        status: StatusCode,
        headers: HeaderMap,
        sent: SystemTime,
        length: Option<u64>,
    ) -> Judged {
        let times = Times {
            request_time: sent,
            response_time: clock::wall(),
        };
        let request = RequestFacts::new(&Method::GET, &self.request);
        let response = ResponseFacts::new(status, &headers, times.response_time);
        let native = native(&request, &response, times, &self.site.bounds);
        let answer = if matches!(native.storable, Storable::No(_)) {
            None
        } else {
            let input = Input {
                target: &self.original_target,
                status: status.as_u16(),
                now_ms: clock::unix_millis(times.response_time),
                age: native.initial_age,
                length,
                native: storing::describe(&native),
                request: &self.request,
                response: &headers,
            };
            let mut local = self.worker.local();
            local.hooks.get_mut(self.position).and_then(|hooks| {
                let slot = &self.site.hooks.freshness;
                let answer =
                    hooks
                        .freshener
                        .call_as_of(slot, &self.freshness, |freshener, activation| {
                            freshener.judge(&input, activation)
                        });
                answer.map(|answer| (answer, Arc::clone(&self.freshness.label)))
            })
        };
        let bounds = PolicyBounds {
            min: self.site.ttl_min,
            max: self.site.bounds.ttl_max,
        };
        let decision = storing::decide(&native, answer, bounds, clock::now());
        Judged {
            headers,
            native,
            decision,
            nominated: response.nominated,
        }
    }
}

/// Whether later requests can be made conditional on a response with these fields.
pub(super) fn has_validator(headers: &HeaderMap) -> bool {
    headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED)
}

/// The end-to-end fields of an origin's response, which came over `version`, with what a cache adds
/// to every one.
pub fn end_to_end(mut headers: HeaderMap, version: Version) -> HeaderMap {
    fields::remove_hop_by_hop(&mut headers);
    // The length is told by the content itself.
    headers.remove(CONTENT_LENGTH);
    record_date(&mut headers);
    fields::append_via(&mut headers, version);
    headers
}

/// Records when a response without a usable `Date` arrived, which is now (RFC 9110 6.6.1).
fn record_date(headers: &mut HeaderMap) {
    let now = clock::wall();
    let dated = |value: &HeaderValue| date::parse_near(value.as_bytes(), now).is_some();
    if headers.get(DATE).is_some_and(dated) {
        return;
    }
    if let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(now)) {
        headers.insert(DATE, date);
    }
}

/// Whether it is the request that forbids to store its answer, and not the answer.
fn is_of_the_request(storable: Storable) -> bool {
    let Storable::No(reason) = storable else {
        return false;
    };
    matches!(
        reason,
        Reason::RequestNoStore | Reason::Authorization | Reason::Method
    )
}

/// Takes out the fields that only the client which asked may see (RFC 9111 5.2.2.4, 5.2.2.7).
fn withhold(headers: &mut HeaderMap, names: &[http::HeaderName]) -> HeaderMap {
    let mut withheld = HeaderMap::new();
    for name in names {
        withheld.extend(
            headers
                .get_all(name)
                .iter()
                .map(|value| (name.clone(), value.clone())),
        );
        headers.remove(name);
    }
    withheld
}

/// Fields as they are kept.
fn kept(mut headers: HeaderMap) -> HeaderMap {
    answer::with_places(&mut headers);
    fields::compact(&headers)
}

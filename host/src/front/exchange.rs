//! One request, from its head to the answer.
//!
//! The first part runs at once, without a wait and without an allocation it can avoid: pick the
//! site, ask the keying policy, look up, and answer if a fresh response is stored. Everything else
//! goes on in a task of its own (`fetch`, `pass`).

use std::cell::Cell;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};

use super::answer::{self, Asks};
use super::authority::{self, BadRequest, Scheme, target_of};
use super::body::{RequestBody, ResponseBody};
use super::cache_status::{ForwardReason, Outcome, seconds};
use super::coding;
use super::counting::{Done, finish};
use super::fetch;
use super::forwarded;
use super::heads::Heads;
use super::interim::{self, Interim, InterimResponses};
use super::miss::Miss;
use super::pass;
use super::primary_key::{Effective, compose};
use super::purging::{self, Purge};
use super::ranged;
use super::shown::Shown;
use super::site::{CacheOutcome, Site, SiteTable};
use super::verdict::Verdict;
use super::worker::{CDN_LOOP, KnownHost, Local, LocalHooks, Worker};
use crate::cache::Lookup;
use crate::clock::{self, Moment};
use crate::entry::{Entry, KeyView, StoredResponse, Usable};
use crate::policy::keying::{Input, Keyed};
use http_body::Body;

/// Who sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client's address.
    pub address: IpAddr,
    /// How it reached us.
    pub scheme: Scheme,
}

/// The form in which an answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A message of any version.
    Message,
    /// The same; or, of a hit, the very bytes of a message of HTTP/1.1 after which the connection
    /// goes on.
    Encoded,
}

/// The answer to a request: there already, or on its way.
pub enum Answer {
    /// There already, in bytes.
    Encoded(Bytes),
    /// There already.
    Now(Response<ResponseBody>),
    /// On its way.
    Later(Answering),
}

/// An answer on its way.
pub struct Answering {
    /// The answer.
    pub answer: Pin<Box<dyn Future<Output = Response<ResponseBody>>>>,
    /// What the origin says meanwhile.
    pub interim: InterimResponses,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Encoded(_) => "Encoded",
            Self::Now(_) => "Now",
            Self::Later(_) => "Later",
        })
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
    pub body: RequestBody,
    /// Its normalised authority.
    pub authority: String,
    /// The target that the policy answered in place of the one that came: what requests are keyed
    /// by, and what the origin is asked for where the answer may be shared.
    pub target: Option<String>,
    /// Who sent it.
    pub client: Client,
    /// Takes interim responses to it.
    pub interim: Interim,
    /// When it arrived.
    pub start: Instant,
    /// Whether its answer was counted.
    counted: Cell<bool>,
}

impl Drop for Exchange {
    /// A client that left before there was an answer is counted too: every keyed request is.
    fn drop(&mut self) {
        if !self.counted.get() {
            let closed = StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST);
            self.site.metrics.count(CacheOutcome::Aborted, closed);
        }
    }
}

impl Exchange {
    /// Whether this process has sent the request itself (RFC 8586).
    pub fn is_looped(&self) -> bool {
        let own = self.worker.edge.loop_mark.as_bytes();
        let mut lines = self.head.headers.get_all(CDN_LOOP).iter();
        lines.any(|line| line.as_bytes().windows(own.len()).any(|part| part == own))
    }

    /// The answer to a request that this process has sent itself (RFC 5842 7.2).
    pub fn looped(&self) -> Response<ResponseBody> {
        let message = "the origin of this site leads back here\n";
        self.finish(
            CacheOutcome::Error,
            answer::own(StatusCode::LOOP_DETECTED, message),
        )
    }

    /// Tells the origin who asks.
    pub fn tell_client(&self, outgoing: &mut HeaderMap) {
        let trusted = self.worker.edge.trusts(self.client.address);
        let before = trusted.then_some(&self.head.headers);
        forwarded::tell(outgoing, self.client, &self.authority, before);
    }

    /// The target as it came.
    pub fn original_target(&self) -> &str {
        target_of(&self.head.uri)
    }

    /// The target that the origin is asked for.
    pub fn asked_target(&self) -> &str {
        self.target
            .as_deref()
            .unwrap_or_else(|| self.original_target())
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
            client: self.client.address,
            took: Some((self.start.elapsed(), 1)),
            status: response.status(),
            bytes: response.body().size_hint().exact(),
        };
        self.counted.set(true);
        finish(&self.worker, &self.site, &done, outcome);
        response
    }
}

/// Answers the request of `head` and `body`, which came from `client`. If the answer is on its way
/// `head` is taken, all but its method and version.
#[inline]
pub fn answer(
    worker: &Rc<Worker>,
    head: &mut Parts,
    body: RequestBody,
    mut client: Client,
    form: Form,
) -> Answer {
    if worker.edge.trusts(client.address) {
        client.scheme = forwarded::scheme(&head.headers).unwrap_or(client.scheme);
    }
    match begin(worker, head, client, form) {
        Begun::Encoded(bytes) => Answer::Encoded(bytes),
        Begun::Answered(response) => Answer::Now(response),
        Begun::Refused(status, message) => {
            worker.edge.metrics.refused.increment();
            Answer::Now(answer::own(status, message))
        }
        Begun::Purges(purge) => Answer::Later(Answering {
            answer: Box::pin(purge.answer(Arc::clone(&worker.edge))),
            interim: interim::channel().1,
        }),
        Begun::Keyed(keyed) => later(worker, head, body, client, *keyed),
    }
}

fn later(
    worker: &Rc<Worker>,
    head: &mut Parts,
    body: RequestBody,
    client: Client,
    keyed: KeyedRequest,
) -> Answer {
    let KeyedRequest {
        site,
        position,
        authority,
        target,
        next,
    } = keyed;
    let nothing = http::Request::new(()).into_parts().0;
    let kept = (head.method.clone(), head.version);
    let taken = std::mem::replace(head, nothing);
    (head.method, head.version) = kept;
    let (interim, responses) = interim::channel();
    let exchange = Exchange {
        worker: Rc::clone(worker),
        site,
        position,
        head: taken,
        body,
        authority,
        target,
        client,
        interim,
        start: clock::instant(),
        counted: Cell::new(false),
    };
    Answer::Later(Answering {
        answer: match next {
            Next::Pass(reason) => Box::pin(pass::pass(exchange, reason)),
            Next::Fetch(miss) => Box::pin(fetch::fetch(exchange, miss)),
        },
        interim: responses,
    })
}

enum Begun {
    Encoded(Bytes),
    Answered(Response<ResponseBody>),
    Refused(StatusCode, &'static str),
    Purges(Box<Purge>),
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

/// Answered with 421 (RFC 9110 15.5.20).
const NO_SITE: &str = "no site answers for this host\n";

#[inline]
fn begin(worker: &Worker, request: &mut Parts, client: Client, form: Form) -> Begun {
    let start = worker.is_timed().then(clock::instant);
    if target_of(&request.uri).len() > worker.edge.limits.target {
        return Begun::Refused(StatusCode::URI_TOO_LONG, "the request target is too long\n");
    }
    let mut local = worker.local();
    let Local {
        table,
        hooks,
        key: scratch,
        heads,
        host,
        ..
    } = &mut *local;
    if let Err(refused) = identify(request, client.scheme, table, host) {
        return Begun::Refused(StatusCode::BAD_REQUEST, refused.message());
    }
    let authority = host.authority.as_str();
    let Some((position, site)) = host.position.and_then(|at| Some((at, table.get(at)?))) else {
        return Begun::Refused(StatusCode::MISDIRECTED_REQUEST, NO_SITE);
    };
    if !site.compress.is_empty() {
        coding::normalise(&mut request.headers, &site.compress);
    }
    let (request, target) = (&*request, target_of(&request.uri));
    let mut hooks = hooks.get_mut(position);
    if purging::is_asked_by(&request.method) {
        return purge(worker, hooks, site, request, client, authority);
    }
    let (keyed, namespace) = key(hooks.as_deref_mut(), site, request, authority);
    let place = (site, position, authority);
    let Keyed::Key {
        target: asked,
        variant,
    } = keyed
    else {
        return keyed_request(place, None, Next::Pass(ForwardReason::Bypass));
    };
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return keyed_request(place, asked, Next::Pass(ForwardReason::Method));
    }
    let asked_target = asked.as_deref().unwrap_or(target);
    let effective = Effective {
        scheme: client.scheme,
        authority,
        target: asked_target,
    };
    compose(scratch, site, namespace, effective, &variant);
    let cache = &worker.edge.cache;
    let primary = cache.hasher.key(scratch);
    let lookup = cache.lookup(&site.domain, primary, &request.headers);
    let asks = Asks::of(&request.headers);
    let verdict = Verdict::of(&lookup, (worker, site), (&request.headers, asks));
    let sender = Sender {
        worker,
        request,
        asks,
        client: client.address,
        form,
        start,
    };
    if let (Lookup::Found(entry), Some(verdict)) = (&lookup, verdict)
        && let Usable::Fresh { .. } = verdict.usable
        && let Some(answered) = sender.fresh(site, authority, target, entry, heads)
    {
        return answered;
    }
    let miss = miss(primary, (lookup, verdict), site, hooks);
    keyed_request(place, asked, Next::Fetch(miss))
}

/// A request whose answer has to be waited for, with the site it is for, its position, and the
/// authority it came for.
fn keyed_request(
    (site, position, authority): (&Arc<Site>, usize, &str),
    target: Option<String>,
    next: Next,
) -> Begun {
    Begun::Keyed(Box::new(KeyedRequest {
        site: Arc::clone(site),
        position,
        authority: authority.to_owned(),
        target,
        next,
    }))
}

/// A request for a purge, if its client may ask for one.
fn purge(
    worker: &Worker,
    hooks: Option<&mut LocalHooks>,
    site: &Arc<Site>,
    request: &Parts,
    client: Client,
    authority: &str,
) -> Begun {
    if !purging::may_ask(&worker.edge.purgers, client.address, &request.headers) {
        worker.edge.metrics.refused.increment();
        return Begun::Answered(purging::refused());
    }
    // What is purged is what a GET would find.
    let mut get = request.clone();
    get.method = Method::GET;
    let (keyed, _) = key(hooks, site, &get, authority);
    let place = (client.scheme, authority);
    Begun::Purges(Box::new(Purge::new(
        &worker.edge,
        site,
        place,
        &get,
        &keyed,
    )))
}

/// A request, who sent it to whom, and since when it is timed, if it is.
struct Sender<'a> {
    worker: &'a Worker,
    request: &'a Parts,
    asks: Asks,
    client: IpAddr,
    form: Form,
    start: Option<Instant>,
}

impl Sender<'_> {
    /// The answer by `entry`, which is fresh.
    #[inline]
    fn fresh(
        &self,
        site: &Site,
        authority: &str,
        target: &str,
        entry: &Entry,
        heads: &mut Heads,
    ) -> Option<Begun> {
        let now = clock::coarse();
        let shown = Shown::new(self.worker, self.client, entry);
        let answered = |response: Response<ResponseBody>| {
            let bytes = response.body().size_hint().exact();
            (response.status(), bytes, Begun::Answered(response))
        };
        let (status, bytes, begun) = match entry.response() {
            None => answered(ranged::hit(self.request, entry, now, &shown)?),
            Some(stored) => {
                let encoded = match self.form {
                    Form::Encoded if shown.is_nothing() && !self.asks.part => {
                        encoded(self.request, entry, stored, now, heads)
                    }
                    _ => None,
                };
                match encoded {
                    Some(encoded) => {
                        let bytes = Some(stored.body.len());
                        (stored.status, bytes, Begun::Encoded(encoded))
                    }
                    None => answered(hit(self.request, entry, stored, now, &shown, heads)),
                }
            }
        };
        if let Some(recorder) = &self.worker.edge.recorder {
            recorder.answered(entry, now);
        }
        let done = Done {
            method: &self.request.method,
            authority,
            target,
            client: self.client,
            took: self
                .start
                .map(|start| (start.elapsed(), self.worker.timed_hits())),
            status,
            bytes,
        };
        finish(self.worker, site, &done, CacheOutcome::Hit);
        Some(begun)
    }
}

/// A lookup that ended without a fresh response.
fn miss(
    primary: KeyView<'_>,
    (lookup, verdict): (Lookup, Option<Verdict>),
    site: &Site,
    hooks: Option<&mut LocalHooks>,
) -> Miss {
    let (key, reason, stale) = match lookup {
        Lookup::Found(entry) => {
            let reason = verdict.map_or(ForwardReason::Stale, Verdict::reason);
            let stale = verdict.map(|verdict| (Arc::clone(&entry), verdict.usable));
            (entry.key.clone(), reason, stale)
        }
        Lookup::UriMiss => (primary.to_key(), ForwardReason::UriMiss, None),
        Lookup::VaryMiss { key } => (key, ForwardReason::VaryMiss, None),
    };
    let (freshness, declared) = hooks.map_or_else(
        || (site.hooks.freshness.current(), Vec::new()),
        |hooks| {
            let freshness = Arc::clone(hooks.freshener.follow(&site.hooks.freshness));
            let declared = hooks.keyer.instance().map(|keyer| keyer.fields().to_vec());
            (freshness, declared.unwrap_or_default())
        },
    );
    Miss {
        primary: primary.to_key(),
        key,
        reason,
        stale,
        recalled: None,
        probe: Cell::default(),
        note: None,
        freshness,
        declared,
    }
}

/// Finds out whom `request` is for, and judges its target. Most requests repeat the `Host` of the
/// one before, whoever sent that.
#[inline]
fn identify(
    request: &Parts,
    scheme: Scheme,
    table: &SiteTable,
    known: &mut KnownHost,
) -> Result<(), BadRequest> {
    let (method, uri, headers) = (&request.method, &request.uri, &request.headers);
    let plain = authority::plain_host(uri, headers);
    let same = |host: &[u8]| host == known.raw && known.scheme == Some(scheme);
    if plain.is_some_and(|host| same(host) && !host.is_empty()) {
        return authority::check_uri(method, uri);
    }
    let found = authority::effective(method, uri, request.version, headers, scheme)?;
    known.scheme = Some(scheme);
    known.raw.clear();
    known.raw.extend_from_slice(plain.unwrap_or_default());
    known.position = table.find(found.host());
    known.authority.clear();
    known.authority.push_str(found.as_str());
    Ok(())
}

/// Asks the keying policy. A failed call gets the native key, in the native namespace, where it
/// meets no key of a policy.
#[inline]
fn key(
    hooks: Option<&mut LocalHooks>,
    site: &Site,
    request: &Parts,
    authority: &str,
) -> (Keyed, u64) {
    let native = || {
        (
            Keyed::Key {
                target: None,
                variant: String::new(),
            },
            0,
        )
    };
    let Some(hooks) = hooks else { return native() };
    let input = Input {
        method: request.method.as_str(),
        authority,
        target: target_of(&request.uri),
        headers: &request.headers,
    };
    let keyed = hooks.keyer.call(&site.hooks.keying, |keyer, activation| {
        keyer
            .key(input, activation)
            .map(|keyed| (keyed, activation.namespace))
    });
    keyed.unwrap_or_else(native)
}

/// A whole stored response in the bytes of HTTP/1.1, if `request`, which asks for no part, is a
/// GET and they are at hand.
#[inline]
fn encoded(
    request: &Parts,
    entry: &Entry,
    stored: &StoredResponse,
    now: Moment,
    heads: &mut Heads,
) -> Option<Bytes> {
    if request.method != Method::GET {
        return None;
    }
    let age = stored.lifetime.age(now);
    let ttl = seconds(stored.lifetime.fresh_for) - seconds(age);
    heads.encoded(entry.serial(), stored, age.as_secs(), ttl)
}

#[inline]
fn hit(
    request: &Parts,
    entry: &Entry,
    stored: &StoredResponse,
    now: Moment,
    shown: &Shown,
    heads: &mut Heads,
) -> Response<ResponseBody> {
    let age = stored.lifetime.age(now);
    let ttl = seconds(stored.lifetime.fresh_for) - seconds(age);
    answer::from_stored(&request.method, &request.headers, stored, || {
        if shown.is_nothing() {
            return heads.get(entry.serial(), stored, age.as_secs(), ttl);
        }
        let mut headers = stored.headers.clone();
        answer::fill_places(
            &mut headers,
            Some(age.as_secs()),
            &shown.status(Outcome::Hit { ttl }),
        );
        headers
    })
}

//! The client that talks to origins: one a worker, with its own connections.
//!
//! A request goes to the addresses of its site in turn. Where one cannot be connected to the next
//! is tried; what was sent is sent once more only if it may be (RFC 9110 9.2.2) and the budget for
//! that allows it. Every wait has a deadline: connecting, the first byte of the answer, each
//! further piece. What comes back is either a whole response head or a [`Failure`]; a body that
//! breaks off says so.

pub mod body;
pub mod budget;
pub mod connect;
mod course;
pub mod fault;
pub mod h2;
pub mod health;
pub mod metrics;
pub mod outage;
pub mod outgoing;
pub mod pool;
pub mod resolve;
pub mod soundness;
pub mod tls;
pub mod upstream;

use std::time::Duration;

use http::request::Parts;
use http::{Request, Response, Version};
use hyper::client::conn::TrySendError;
use tokio::time::Instant;

use super::interim::Interim;
use super::site::Site;
use crate::cache::flight::Failure;
use crate::clock;
use crate::config::OriginScheme;
use body::Arriving;
pub use body::OriginBody;
use connect::{Dialled, dial};
use course::Course;
use fault::{Chain, Fault, Lost};
use outgoing::Progress;
pub use outgoing::{Outgoing, OutgoingError};
use pool::{Lease, Pool, Sender};
use soundness::Soundness;
use upstream::{Attempt, Upstream};

/// How long the client waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For a connection, all addresses that are tried together.
    pub connect: Duration,
    /// From sending the request to the head of the response, all attempts together.
    pub first_byte: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
}

/// A client of origins.
#[derive(Clone, Debug)]
pub struct OriginClient {
    pool: Pool,
    deadlines: Deadlines,
}

/// A connection, and whether it had carried a request before.
struct Link {
    sender: Sender,
    used: bool,
}

impl OriginClient {
    /// A client without connections. Must be used within a local runtime.
    pub fn new(deadlines: Deadlines) -> Self {
        Self {
            pool: Pool::default(),
            deadlines,
        }
    }

    /// Sends `request`, whose URI is a target and which has a `Host`, to a server of `site`, and
    /// waits for the head of the answer. Interim responses go to `interim`.
    ///
    /// # Errors
    /// The origin could not be reached, broke off, spoke something else, or took too long.
    pub async fn send(
        &self,
        site: &Site,
        mut request: Request<Outgoing>,
        interim: Interim,
    ) -> Result<Response<OriginBody>, Failure> {
        if site.upstream.outage.is_ordered() {
            // What began before it was told so, and whatever did not ask.
            return Err(Failure::Unreachable);
        }
        let metrics = &site.metrics.origin;
        metrics.requests.increment();
        site.upstream.budget.deposit();
        if interim.is_wanted() {
            let interim = interim.clone();
            hyper::ext::on_informational(&mut request, move |response| {
                interim.send(response.status(), response.headers(), Version::HTTP_11);
            });
        }
        let answers = site.upstream.outage.answers();
        let answer = self.try_addresses(site, request, &interim).await;
        site.upstream.note(answers, answer.as_ref().err());
        answer.map_err(|fault| {
            let reason = Chain(&fault);
            tracing::debug!(site = site.name, %reason, "the origin did not answer");
            if let Some(kind) = fault.kind() {
                metrics.failed(kind);
            }
            fault.failure()
        })
    }

    async fn try_addresses(
        &self,
        site: &Site,
        request: Request<Outgoing>,
        interim: &Interim,
    ) -> Result<Response<OriginBody>, Fault> {
        let (upstream, metrics) = (&site.upstream, &site.metrics.origin);
        let (again, mut request) = replayable(request);
        let mut left = self.deadlines;
        let endpoints = spend(&mut left.connect, |limit| upstream.endpoints(limit)).await?;
        let route = upstream.route(&endpoints, clock::now());
        let mut course = Course::new(upstream, metrics, route, again);
        let mut attempt = course.next_address(Fault::Name("there is none".to_owned()))?;
        loop {
            let (fresh, untried) = (course.fresh, course.untried());
            let link = self.link(site, &attempt, fresh, untried, &mut left.connect);
            let link = match link.await {
                Ok(link) => link,
                Err(fault) => {
                    attempt = course.unconnected(attempt, fault)?;
                    continue;
                }
            };
            let used = link.used;
            let asking = (*request, interim);
            let sending = self.exchange(upstream, &attempt, link, asking, &mut left);
            match sending.await {
                Ok(response) => {
                    attempt.answered();
                    return Ok(response);
                }
                Err(Lost::Unsent(back)) => {
                    request = back;
                    attempt = course.unsent(attempt, used)?;
                }
                Err(Lost::Refused(back, fault)) => {
                    request = back;
                    attempt = course.refused(attempt, fault)?;
                }
                Err(Lost::Sent(fault)) => {
                    (attempt, *request) = course.unanswered(attempt, used, fault)?;
                }
            }
        }
    }

    /// A connection to the address of `attempt`: one that is open, unless it must be `fresh`, or a
    /// new one. Of the time `left` for connecting, as much is kept back for each of the `untried`
    /// addresses.
    async fn link(
        &self,
        site: &Site,
        attempt: &Attempt,
        fresh: bool,
        untried: u32,
        left: &mut Duration,
    ) -> Result<Link, Fault> {
        let (upstream, endpoint) = (&site.upstream, &attempt.endpoint);
        let used = |sender| Link { sender, used: true };
        if !fresh && let Some(sender) = self.pool.take(endpoint.id) {
            return Ok(used(sender));
        }
        let share = |left: Duration| left / untried.saturating_add(1);
        let making = upstream
            .may_share(endpoint)
            .then(|| self.pool.making(endpoint.id));
        let mut alone = None;
        if let Some(making) = &making {
            let waiting = |limit| tokio::time::timeout(share(limit), making.acquire());
            let waited = spend(left, waiting).await;
            alone = waited.map_err(|_| Fault::ConnectTimedOut)?.ok();
            // Whoever was first may have made one for all.
            if let Some(sender) = self.pool.take(endpoint.id) {
                return Ok(used(sender));
            }
            alone = alone.filter(|_| upstream.may_share(endpoint));
        }
        let dialling = |limit| dial(upstream, endpoint, share(limit), &site.metrics.origin);
        let mut dialled = std::pin::pin!(spend(left, dialling));
        let dialled = loop {
            tokio::select! {
                biased;
                dialled = &mut dialled => break dialled?,
                // A connection that has come back is there sooner than one that is being made: an
                // origin that accepts slowly must not hold up whom it could answer already.
                () = self.pool.returned(), if !fresh => {
                    if let Some(sender) = self.pool.take(endpoint.id) {
                        return Ok(used(sender));
                    }
                }
            }
        };
        let sender = match dialled {
            Dialled::Http1(alone) => Sender::Http1(alone),
            Dialled::Http2(channel) => Sender::Http2(self.pool.share(endpoint.id, channel)),
        };
        drop(alone);
        Ok(Link {
            sender,
            used: false,
        })
    }

    /// Sends `request` over `link` and waits for the head of the response.
    async fn exchange(
        &self,
        upstream: &Upstream,
        attempt: &Attempt,
        link: Link,
        (request, interim): (Request<Outgoing>, &Interim),
        left: &mut Deadlines,
    ) -> Result<Response<OriginBody>, Lost> {
        let method = request.method().clone();
        let upload = request.body().progress();
        let mut sender = link.sender;
        let answer = ask(&mut sender, upstream.scheme(), request, interim);
        let deadline = left.first_byte;
        let waiting = |_| within_deadline(answer, deadline, upload.as_deref());
        let Some(answered) = spend(&mut left.first_byte, waiting).await else {
            return Err(Lost::Sent(Fault::TimedOut));
        };
        let (head, body) = answered?.into_parts();
        let uploaded = upload.as_ref().is_none_or(|upload| upload.is_sent());
        let sound = match &sender {
            Sender::Http2(_) => true,
            Sender::Http1(_) => match soundness::judge(&method, &head) {
                Soundness::Sound => uploaded,
                Soundness::Doubtful => false,
                Soundness::Unusable(why) => return Err(Lost::Sent(Fault::Unsound(why))),
            },
        };
        let lease = Lease::new(&self.pool, attempt.endpoint.id, sender, sound);
        let body = OriginBody::new(body, self.deadlines.idle, lease);
        Ok(Response::from_parts(head, body))
    }
}

/// Hands `request` to the connection of `sender`.
async fn ask(
    sender: &mut Sender,
    scheme: OriginScheme,
    request: Request<Outgoing>,
    interim: &Interim,
) -> Result<Response<Arriving>, Lost> {
    match sender {
        Sender::Http1(alone) => {
            alone.heard.set(false);
            let answer = alone.sender.try_send_request(request).await;
            let answer = answer.map_err(|error| lost(error, alone.heard.get()))?;
            Ok(answer.map(Arriving::Http1))
        }
        Sender::Http2(stream) => {
            let answer = h2::exchange::send(&mut stream.channel, scheme, request, interim);
            Ok(answer.await?.map(Arriving::Http2))
        }
    }
}

fn lost(mut error: TrySendError<Request<Outgoing>>, heard: bool) -> Lost {
    match error.take_message() {
        Some(request) => Lost::Unsent(Box::new(request)),
        None => Lost::Sent(Fault::of_exchange(error.into_error(), heard)),
    }
}

/// The head of `request`, if it may be sent more than once (RFC 9110 9.2.2), and `request`.
fn replayable(request: Request<Outgoing>) -> (Option<Parts>, Box<Request<Outgoing>>) {
    let (parts, body) = request.into_parts();
    let again = matches!(body, Outgoing::Empty) && parts.method.is_idempotent();
    let again = again.then(|| parts.clone());
    (again, Box::new(Request::from_parts(parts, body)))
}

/// Does `work`, which is told how much time is `left`, and takes what it took from that.
async fn spend<T, F: Future<Output = T>>(
    left: &mut Duration,
    work: impl FnOnce(Duration) -> F,
) -> T {
    let start = Instant::now();
    let done = work(*left).await;
    *left = left.saturating_sub(start.elapsed());
    done
}

/// Waits for `answer`. The deadline does not run while `upload` moves or waits for the client, whose
/// connection has a deadline of its own.
async fn within_deadline<T>(
    answer: impl Future<Output = T>,
    deadline: Duration,
    upload: Option<&Progress>,
) -> Option<T> {
    let of_origin = || upload.map_or(Some(0), Progress::of_origin);
    let mut answer = std::pin::pin!(answer);
    loop {
        let before = of_origin();
        let answered = tokio::time::timeout(deadline, answer.as_mut()).await;
        match answered {
            Ok(answered) => return Some(answered),
            Err(_) if before.is_some() && before == of_origin() => return None,
            Err(_) => {}
        }
    }
}

//! The client that talks to origins: one a worker, with its own pool of connections.
//!
//! Every wait has a deadline: connecting, the first byte of the answer, each further piece. What
//! comes back is either a whole response head or a [`Failure`]; a body that breaks off says so.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioTimer;
use tokio::time::{Instant, Sleep};

use super::body::RequestBody;
use super::coding::encoder::Encoder;
use super::h1::upload::BrokeOff;
use crate::cache::flight::Failure;
use crate::config::Coding;
use crate::tasks::LocalExecutor;

/// Idle connections kept for each origin by each worker.
const IDLE_CONNECTIONS: usize = 64;
/// Idle connections are closed after this: sooner than common origins close theirs (nginx: 75 s).
const IDLE_AFTER: Duration = Duration::from_secs(55);
/// Bytes buffered for each connection, at most; a response head must fit.
const BUFFER_BYTES: usize = 256 << 10;

/// How long the client waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For a connection.
    pub connect: Duration,
    /// From sending the request to the head of the response.
    pub first_byte: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
}

/// A client of origins.
#[derive(Clone, Debug)]
pub struct OriginClient {
    client: Client<HttpConnector, Outgoing>,
    deadlines: Deadlines,
}

impl OriginClient {
    /// A client without connections. Must be used within a local runtime.
    pub fn new(deadlines: Deadlines) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(deadlines.connect));
        connector.set_nodelay(true);
        connector.set_keepalive(Some(Duration::from_mins(1)));
        let client = Client::builder(LocalExecutor)
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_AFTER)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            // A request that met a connection which the origin had closed is sent once more.
            .retry_canceled_requests(true)
            .set_host(false)
            .http1_max_buf_size(BUFFER_BYTES)
            .http1_title_case_headers(false)
            .build(connector);
        Self { client, deadlines }
    }

    /// Sends `request`, whose URI is absolute, and waits for the head of the answer.
    ///
    /// # Errors
    /// The origin could not be reached, broke off, spoke something else, or took too long.
    pub async fn send(&self, request: Request<Outgoing>) -> Result<Response<OriginBody>, Failure> {
        let upload = request.body().sent();
        let answer = self.client.request(request);
        match self.within_deadline(answer, upload).await {
            None => Err(Failure::TimedOut),
            Some(Err(error)) => {
                tracing::debug!(error = %Chain(&error), "the origin did not answer");
                Err(fault(&error))
            }
            Some(Ok(response)) => {
                Ok(response.map(|body| OriginBody::new(body, self.deadlines.idle)))
            }
        }
    }

    /// Waits for `answer`. The deadline begins when `upload` has been sent on: until then it is the
    /// client's turn, whose connection has a deadline of its own.
    async fn within_deadline<T>(
        &self,
        answer: impl Future<Output = T>,
        upload: Option<Arc<AtomicBool>>,
    ) -> Option<T> {
        let sent = || {
            upload
                .as_ref()
                .is_none_or(|sent| sent.load(Ordering::Relaxed))
        };
        let mut answer = std::pin::pin!(answer);
        loop {
            let before = sent();
            let answered = tokio::time::timeout(self.deadlines.first_byte, answer.as_mut()).await;
            match answered {
                Ok(answered) => return Some(answered),
                Err(_) if before => return None,
                Err(_) => {}
            }
        }
    }
}

/// Who is to blame for a request that got no answer.
fn fault(error: &(dyn std::error::Error + 'static)) -> Failure {
    for cause in std::iter::successors(Some(error), |error| error.source()) {
        match cause.downcast_ref::<OutgoingError>() {
            Some(OutgoingError::TooLarge) => return Failure::BodyTooLarge,
            Some(OutgoingError::Client(_)) => return Failure::BodyBrokeOff,
            None => {}
        }
        let timed_out = cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut);
        if timed_out {
            return Failure::TimedOut;
        }
    }
    Failure::Unreachable
}

/// An error with everything that caused it.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// The body of a request to an origin.
#[derive(Debug)]
pub enum Outgoing {
    /// None.
    Empty,
    /// The client's, passed on as it comes.
    Client {
        /// What the client sends.
        body: RequestBody,
        /// Bytes it may still send.
        left: u64,
        /// Whether all of it was sent on.
        sent: Arc<AtomicBool>,
    },
}

/// A client's body cannot be passed on.
#[derive(Debug, thiserror::Error)]
pub enum OutgoingError {
    /// It broke off.
    #[error("the client's body broke off")]
    Client(#[source] BrokeOff),
    /// It is longer than the limit.
    #[error("the client's body is larger than the limit")]
    TooLarge,
}

impl Outgoing {
    /// The body of a client, of at most `limit` bytes.
    pub fn client(body: RequestBody, limit: u64) -> Self {
        let sent = Arc::new(AtomicBool::new(body.is_end_stream()));
        Self::Client {
            body,
            left: limit,
            sent,
        }
    }

    /// Becomes true when all of the body was sent on; none without a body.
    fn sent(&self) -> Option<Arc<AtomicBool>> {
        match self {
            Self::Empty => None,
            Self::Client { sent, .. } => Some(Arc::clone(sent)),
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = OutgoingError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OutgoingError>>> {
        let Self::Client { body, left, sent } = self.get_mut() else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(Pin::new(&mut *body).poll_frame(cx));
        if frame.is_none() || body.is_end_stream() {
            sent.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(OutgoingError::Client)?;
            let length = frame.data_ref().map_or(0, Bytes::len);
            let length = u64::try_from(length).unwrap_or(u64::MAX);
            *left = left.checked_sub(length).ok_or(OutgoingError::TooLarge)?;
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client { body, .. } => body.size_hint(),
        }
    }
}

/// The body of an origin's response.
#[derive(Debug)]
pub struct OriginBody {
    incoming: Incoming,
    idle: Duration,
    deadline: Pin<Box<Sleep>>,
    waiting: bool,
    encoder: Option<Encoder>,
}

impl OriginBody {
    fn new(incoming: Incoming, idle: Duration) -> Self {
        let deadline = Box::pin(tokio::time::sleep(idle));
        Self {
            incoming,
            idle,
            deadline,
            waiting: false,
            encoder: None,
        }
    }

    /// The same content in `coding`, if there is one.
    #[must_use]
    pub fn encoded(self, coding: Option<Coding>) -> Self {
        Self {
            encoder: coding.map(Encoder::new),
            ..self
        }
    }

    /// The length that the origin announced; none of what is encoded here.
    pub fn length(&self) -> Option<u64> {
        let as_it_came = self.encoder.is_none();
        as_it_came
            .then(|| self.incoming.size_hint().exact())
            .flatten()
    }

    /// Whether the whole body has been read.
    pub fn is_whole(&self) -> bool {
        self.encoder.is_none() && self.incoming.is_end_stream()
    }

    /// The next piece; `None` once the body is whole. Trailers are dropped.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        loop {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(frame) => {
                    self.waiting = false;
                    match frame {
                        None => {
                            let rest = self.encoder.take().map(Encoder::finish);
                            let rest = rest.filter(|rest| !rest.is_empty());
                            return Poll::Ready(rest.map(Ok));
                        }
                        Some(Err(error)) => {
                            tracing::debug!(error = %Chain(&error), "the origin's body broke off");
                            return Poll::Ready(Some(Err(Failure::Unreachable)));
                        }
                        Some(Ok(frame)) => {
                            let piece = frame.into_data().unwrap_or_default();
                            let piece = match &mut self.encoder {
                                Some(encoder) => encoder.push(&piece),
                                None => piece,
                            };
                            if !piece.is_empty() {
                                return Poll::Ready(Some(Ok(piece)));
                            }
                        }
                    }
                }
                Poll::Pending => {
                    let held = self.encoder.as_mut().map(Encoder::flush);
                    if let Some(held) = held.filter(|held| !held.is_empty()) {
                        return Poll::Ready(Some(Ok(held)));
                    }
                    // The deadline runs only while the origin is being waited for.
                    if !self.waiting {
                        self.waiting = true;
                        self.deadline.as_mut().reset(Instant::now() + self.idle);
                    }
                    return match self.deadline.as_mut().poll(cx) {
                        Poll::Ready(()) => Poll::Ready(Some(Err(Failure::TimedOut))),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }

    /// The next piece; `None` once the body is whole.
    ///
    /// # Errors
    /// The body broke off or stalled.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn piece(&mut self) -> Option<Result<Bytes, Failure>> {
        std::future::poll_fn(|cx| self.poll_piece(cx)).await
    }
}

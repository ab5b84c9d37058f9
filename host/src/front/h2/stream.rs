//! One stream of an HTTP/2 connection: a request, and the way its answer takes (RFC 9113 8.1).
//!
//! An answer that is there and fits into the window goes out at once. Everything else is a task
//! of its own. What a client is sent waits for its window, a part at a time, so that a stream
//! holds no more than [`SEND_BUFFER`](super::SEND_BUFFER); an answer that breaks off ends in a
//! reset, never in an end.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, response};
use http_body::Body;
use tokio::sync::oneshot;

use super::head;
use super::upload::Upload;
use super::wire::{Link, Open};
use crate::clock;
use crate::front::answer;
use crate::front::body::{RequestBody, ResponseBody};
use crate::front::exchange::{self, Answer, Answering, Client, Form};
use crate::front::h1::encode::Delimited;
use crate::front::h1::head::Refused;
use crate::front::worker::Worker;

/// Fields that no message of HTTP/2 has (RFC 9113 8.2.2).
const CONNECTION_SPECIFIC: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What the streams of a connection share.
#[derive(Clone, Debug)]
pub struct Streams {
    /// The worker that serves them.
    pub worker: Rc<Worker>,
    /// Who sends the requests.
    pub client: Client,
    /// Fields of a request.
    pub fields: usize,
    /// How long a client may neither send nor take anything of a stream.
    pub idle: Duration,
    /// The connection.
    pub link: Rc<Link>,
}

/// An answer whose head is sent.
struct Sending {
    stream: SendStream<Bytes>,
    body: ResponseBody,
    /// Bytes still to come, if that is known.
    left: Option<u64>,
}

/// Why no more of an answer is sent.
enum Stopped {
    /// The client, or the whole connection, has left.
    Gone,
    /// The answer broke off.
    BrokeOff,
    /// The client takes nothing.
    TimedOut,
}

impl Streams {
    /// Answers `request` through `respond`.
    pub fn begin(&self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (mut head, received) = request.into_parts();
        let content = match head::settle(&mut head, self.client.scheme, self.fields) {
            Ok(content) => content,
            Err(refused) => return self.refuse(&head, respond, refused),
        };
        let (go_ahead, told) = match content.expects_continue {
            true => {
                let (go_ahead, told) = oneshot::channel();
                (Some(go_ahead), Some(told))
            }
            false => (None, None),
        };
        let body = match received.is_end_stream() {
            true => RequestBody::Empty,
            false => {
                let upload = Upload::new(received, content.length, go_ahead, self.idle);
                RequestBody::Http2(Box::new(upload))
            }
        };
        match exchange::answer(&self.worker, &mut head, body, self.client, Form::Message) {
            Answer::Now(response) => self.send_now(&head.method, response, respond),
            Answer::Later(answering) => {
                let (streams, open) = (self.clone(), self.link.open());
                self.worker.tasks.spawn(async move {
                    let answered = awaited(answering, told, &mut respond).await;
                    if let Some(response) = answered {
                        let sending = send_head(&head.method, response, &mut respond);
                        streams.finish(sending, open).await;
                    }
                });
            }
            // Asked for by nobody here.
            Answer::Encoded(_) => respond.send_reset(Reason::INTERNAL_ERROR),
        }
    }

    fn refuse(&self, head: &Parts, respond: SendResponse<Bytes>, refused: Refused) {
        self.worker.edge.metrics.refused.increment();
        let response = answer::own(refused.status, refused.message);
        self.send_now(&head.method, response, respond);
    }

    fn send_now(
        &self,
        method: &Method,
        response: Response<ResponseBody>,
        mut respond: SendResponse<Bytes>,
    ) {
        let Some(mut sending) = send_head(method, response, &mut respond) else {
            return;
        };
        if !sending.send_at_once() {
            let (streams, open) = (self.clone(), self.link.open());
            self.worker
                .tasks
                .spawn(async move { streams.finish(Some(sending), open).await });
        }
    }

    /// Sends the content of an answer to its end.
    async fn finish(&self, sending: Option<Sending>, open: Open) {
        if let Some(mut sending) = sending {
            match sending.content(self.idle).await {
                Ok(()) | Err(Stopped::Gone) => {}
                Err(Stopped::BrokeOff) => sending.stream.send_reset(Reason::INTERNAL_ERROR),
                Err(Stopped::TimedOut) => {
                    self.worker.edge.metrics.http2_streams_timed_out.increment();
                    sending.stream.send_reset(Reason::CANCEL);
                }
            }
        }
        drop(open);
    }
}

/// Waits for the answer, and sends what comes before it; nothing if the client leaves first. When
/// the content of the request is asked for, which `told` tells, the client is told to send it.
async fn awaited(
    mut answering: Answering,
    mut told: Option<oneshot::Receiver<()>>,
    respond: &mut SendResponse<Bytes>,
) -> Option<Response<ResponseBody>> {
    poll_fn(|cx| {
        if respond.poll_reset(cx).is_ready() {
            return Poll::Ready(None);
        }
        let answered = answering.answer.as_mut().poll(cx);
        while let Poll::Ready(Some(interim)) = answering.interim.poll_next(cx) {
            inform(interim.status, interim.headers, respond);
        }
        if let (Poll::Pending, Some(go_ahead)) = (&answered, &mut told)
            && let Poll::Ready(said) = Pin::new(go_ahead).poll(cx)
        {
            told = None;
            if said.is_ok() {
                inform(StatusCode::CONTINUE, HeaderMap::new(), respond);
            }
        }
        answered.map(Some)
    })
    .await
}

/// Sends an interim response.
fn inform(status: StatusCode, headers: HeaderMap, respond: &mut SendResponse<Bytes>) {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if let Err(error) = respond.send_informational(response) {
        tracing::debug!(%error, "an interim response was not sent");
    }
}

/// Sends the head of `response`; what is left to send, if anything is.
fn send_head(
    method: &Method,
    response: Response<ResponseBody>,
    respond: &mut SendResponse<Bytes>,
) -> Option<Sending> {
    let (mut head, body) = response.into_parts();
    let length = body.size_hint().exact();
    let delimited = Delimited::of(method, head.status, length, false);
    settle(&mut head, delimited);
    let ends = delimited == Delimited::Nothing || body.is_end_stream();
    match respond.send_response(Response::from_parts(head, ()), ends) {
        Ok(stream) if !ends => Some(Sending {
            stream,
            body,
            left: length,
        }),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(%error, "an answer was not sent");
            None
        }
    }
}

/// Makes the fields of a response those of HTTP/2.
fn settle(head: &mut response::Parts, delimited: Delimited) {
    let headers = &mut head.headers;
    for name in CONNECTION_SPECIFIC {
        headers.remove(name);
    }
    match delimited {
        Delimited::Length(length) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        // Without content the field says how long that would have been.
        Delimited::Nothing => {}
        Delimited::Chunks | Delimited::Close => {
            headers.remove(CONTENT_LENGTH);
        }
    }
    if !headers.contains_key(DATE)
        && let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(clock::wall()))
    {
        headers.insert(DATE, date);
    }
}

impl Sending {
    /// Sends all of the content if it is at hand in one piece and the client takes it now.
    fn send_at_once(&mut self) -> bool {
        let ResponseBody::Whole(piece) = &self.body else {
            return false;
        };
        self.stream.reserve_capacity(piece.len());
        if self.stream.capacity() < piece.len() {
            return false;
        }
        let piece = piece.clone();
        if let Err(error) = self.stream.send_data(piece, true) {
            tracing::debug!(%error, "an answer was not sent");
        }
        true
    }

    /// Sends the content to its end.
    async fn content(&mut self, idle: Duration) -> Result<(), Stopped> {
        while let Some(piece) = poll_fn(|cx| self.poll_piece(cx)).await? {
            let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            if let Some(left) = &mut self.left {
                *left = left.checked_sub(length).ok_or(Stopped::BrokeOff)?;
            }
            self.piece(piece, idle).await?;
        }
        if self.left.is_some_and(|left| left > 0) {
            return Err(Stopped::BrokeOff);
        }
        self.send(Bytes::new(), true)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Stopped>> {
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Stopped::Gone));
        }
        loop {
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(Ok(None)),
                Some(Err(_)) => return Poll::Ready(Err(Stopped::BrokeOff)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) if !piece.is_empty() => return Poll::Ready(Ok(Some(piece))),
                    _ => {}
                },
            }
        }
    }

    /// Sends `piece` as the client takes it.
    async fn piece(&mut self, mut piece: Bytes, idle: Duration) -> Result<(), Stopped> {
        while !piece.is_empty() {
            self.stream.reserve_capacity(piece.len());
            let capacity = match self.stream.capacity() {
                0 => self.capacity(idle).await?,
                capacity => capacity,
            };
            let part = piece.split_to(capacity.min(piece.len()));
            self.send(part, false)?;
        }
        Ok(())
    }

    fn send(&mut self, part: Bytes, last: bool) -> Result<(), Stopped> {
        let sent = self.stream.send_data(part, last);
        sent.map_err(|_| Stopped::Gone)
    }

    /// Waits until the client takes more.
    async fn capacity(&mut self, idle: Duration) -> Result<usize, Stopped> {
        let capacity = poll_fn(|cx| {
            loop {
                match std::task::ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(0)) => {}
                    Some(Ok(capacity)) => return Poll::Ready(Ok(capacity)),
                    Some(Err(_)) | None => return Poll::Ready(Err(Stopped::Gone)),
                }
            }
        });
        let waited = tokio::time::timeout(idle, capacity).await;
        waited.unwrap_or(Err(Stopped::TimedOut))
    }
}

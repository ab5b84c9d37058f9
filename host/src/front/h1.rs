//! HTTP/1 towards clients (RFC 9112): one connection, from its first byte to its end.
//!
//! Our own, because what a cache must be strict about a library forgives and hides, and because a
//! hit costs little more than the system calls around it. A connection is one task. It reads a
//! head, hands it to the exchange, sends the answer, and reads the next; pipelined requests wait
//! in its buffer, which is bounded by the length of one head. A hit goes from the buffer that all
//! connections of a worker receive into to the socket without a wait.

pub mod content;
pub mod encode;
pub mod head;
pub mod outbox;
pub mod upload;

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, Version};
use http_body::Body;

use super::answer;
use super::body::{RequestBody, ResponseBody};
use super::connections::{ConnectionLimits, Connections, Order, Watched};
use super::exchange::{self, Answer, Answering, Client, Form};
use super::transport::Transport;
use super::worker::Worker;
use content::{Content, Part};
use encode::Delimited;
use head::{After, Framing, Refused, Search};
use outbox::Outbox;
use upload::{Reading, Uploading};

/// Bytes of an answer that may wait to be sent before more of it is asked for.
const OUTBOX_MAX: usize = 256 << 10;
/// Bytes of a request's content that are read in vain for the sake of keeping the connection.
const VAIN_MAX: u64 = 64 << 10;
/// Bytes that are read in vain after the last answer, so that the client gets to see that.
const LINGER_MAX: u64 = 1 << 20;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Serves the requests of one connection until it ends.
pub struct Connection {
    worker: Rc<Worker>,
    client: Client,
    limits: ConnectionLimits,
    watched: Watched,
    transport: Transport,
    /// What arrived and was not taken yet.
    inbox: Vec<u8>,
    search: Search,
    /// The request that is being answered.
    head: Parts,
    content: Content,
    upload: Option<Uploading>,
    /// Whether the client waits to be told to send the content.
    expects_continue: bool,
    /// Bytes that may still be read in vain.
    in_vain: u64,
    after: After,
    state: State,
    outbox: Outbox,
}

enum State {
    /// A request is awaited, or is arriving.
    Head,
    /// An answer is being worked on.
    Answering(Answering),
    /// An answer is being sent.
    Sending(ResponseBody, Delimited),
    /// The answer is sent. What is left of the request is read in vain.
    Rest,
    /// The last answer is being sent.
    Last,
    /// The last answer is sent, and the client told so.
    Lingering,
}

/// The connection cannot go on. Why matters to nobody: broken answers were counted where they
/// broke.
struct Ended;

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        tracing::trace!(%error, "a client connection ended");
        Self
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("client", &self.client)
            .field("watched", &self.watched)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Serves `client` over `transport`, of which `received` has arrived already.
    pub fn new(
        worker: &Rc<Worker>,
        connections: &Rc<Connections>,
        limits: &ConnectionLimits,
        (transport, client): (Transport, Client),
        received: Vec<u8>,
    ) -> Self {
        Self {
            worker: Rc::clone(worker),
            client,
            limits: *limits,
            watched: connections.open(),
            transport,
            inbox: received,
            search: Search::default(),
            head: http::Request::new(()).into_parts().0,
            content: Content::Done,
            upload: None,
            expects_continue: false,
            in_vain: 0,
            after: After::KeepAlive,
            state: State::Head,
            outbox: Outbox::default(),
        }
    }

    fn run(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        match self.watched.order(cx.waker()) {
            Order::Close => return Poll::Ready(Err(Ended)),
            Order::Drain if self.is_idle() => return Poll::Ready(Err(Ended)),
            Order::Drain | Order::GoOn => {}
        }
        loop {
            match &mut self.state {
                State::Head => std::task::ready!(self.poll_request(cx))?,
                State::Answering(answering) => match answering.answer.as_mut().poll(cx) {
                    Poll::Ready(response) => {
                        self.pass_on_interim(cx);
                        self.begin(response);
                    }
                    Poll::Pending => {
                        self.pass_on_interim(cx);
                        // The answers before this one, even if the client has left meanwhile.
                        let flushed = self.poll_flush(cx)?;
                        self.poll_upload(cx)?;
                        std::task::ready!(flushed);
                        std::task::ready!(self.poll_flush(cx))?;
                        return Poll::Pending;
                    }
                },
                State::Sending(..) => std::task::ready!(self.poll_content(cx))?,
                State::Rest => std::task::ready!(self.poll_rest(cx))?,
                State::Last => {
                    std::task::ready!(self.poll_flush(cx))?;
                    std::task::ready!(self.transport.poll_end(cx))?;
                    self.in_vain = LINGER_MAX;
                    // What the client still sends must not run into a closed socket, or it loses
                    // the answer; it has as long as for a head to stop.
                    self.watched.head_arrives(true);
                    self.state = State::Lingering;
                }
                State::Lingering => std::task::ready!(self.poll_linger(cx))?,
            }
        }
    }

    fn is_idle(&self) -> bool {
        matches!(self.state, State::Head) && self.inbox.is_empty() && self.outbox.is_empty()
    }

    /// Reads and answers requests, until one must be waited for.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        loop {
            if self.outbox.len() >= OUTBOX_MAX {
                std::task::ready!(self.poll_flush(cx))?;
            }
            if !self.inbox.is_empty() {
                let mut inbox = std::mem::take(&mut self.inbox);
                let taken = self.take_request(&inbox);
                if taken >= inbox.len() {
                    inbox.clear();
                    inbox.shrink_to(0);
                } else {
                    inbox.drain(..taken);
                }
                self.inbox = inbox;
                if taken > 0 && !matches!(self.state, State::Head) {
                    return Poll::Ready(Ok(()));
                }
                if taken > 0 && !self.inbox.is_empty() {
                    // The next pipelined request, whose answer goes out with this one's.
                    continue;
                }
            }
            std::task::ready!(self.poll_flush(cx))?;
            if self.watched.is_draining() && self.inbox.is_empty() {
                return Poll::Ready(Err(Ended));
            }
            let connections = Rc::clone(self.watched.all());
            let mut room = connections.received();
            let received = std::task::ready!(self.transport.poll_receive(cx, &mut room))?;
            let bytes = room.get(..received).unwrap_or_default();
            self.watched.moved();
            if bytes.is_empty() {
                return Poll::Ready(Err(Ended));
            }
            if self.inbox.is_empty() {
                // Most requests arrive alone and whole.
                let taken = self.take_request(bytes);
                self.inbox
                    .extend_from_slice(bytes.get(taken..).unwrap_or_default());
                if taken > 0 && !matches!(self.state, State::Head) {
                    return Poll::Ready(Ok(()));
                }
            } else {
                self.inbox.extend_from_slice(bytes);
            }
        }
    }

    /// Begins to answer the request at the start of `bytes`; how many bytes of it were taken.
    fn take_request(&mut self, bytes: &[u8]) -> usize {
        let found = head::empty_lines(bytes).and_then(|empty| {
            let bytes = bytes.get(empty..).unwrap_or_default();
            let found = self.search.find(bytes, self.limits.head_bytes)?;
            Ok((empty, found.and_then(|length| bytes.get(..length))))
        });
        let (empty, head) = match found {
            Ok((0, None)) => {
                self.watched.head_arrives(true);
                return 0;
            }
            // Searched again from here. Empty lines are the beginning of a head, too, or they
            // would keep a connection for ever.
            Ok((empty, None)) => {
                self.watched.head_arrives(true);
                self.search = Search::default();
                return empty;
            }
            Ok((empty, Some(head))) => (empty, head),
            Err(refused) => {
                self.refuse(refused);
                return bytes.len();
            }
        };
        self.search = Search::default();
        self.watched.head_arrives(false);
        self.head.headers.clear();
        let taken = empty + head.len();
        let head = Bytes::copy_from_slice(head);
        match head::read(&head, self.limits.fields, &mut self.head) {
            Ok(framing) => {
                self.answer(framing);
                taken
            }
            Err(refused) => {
                self.refuse(refused);
                bytes.len()
            }
        }
    }

    #[inline]
    fn answer(&mut self, framing: Framing) {
        self.content = framing.content;
        self.expects_continue = framing.expects_continue;
        self.after = match self.watched.is_draining() {
            true => After::Close,
            false => framing.after,
        };
        self.in_vain = VAIN_MAX;
        let body = match self.content {
            Content::Done => RequestBody::Empty,
            Content::Length(length) => self.pipe(Some(length)),
            Content::Chunked(_) => self.pipe(None),
        };
        let form = match (&body, self.after) {
            (RequestBody::Empty, After::KeepAlive) => Form::Encoded,
            _ => Form::Message,
        };
        match exchange::answer(&self.worker, &mut self.head, body, self.client, form) {
            Answer::Encoded(bytes) => self.outbox.push(bytes),
            Answer::Now(response) => self.begin(response),
            Answer::Later(answering) => {
                self.watched.set_working(true);
                self.state = State::Answering(answering);
            }
        }
    }

    fn pipe(&mut self, length: Option<u64>) -> RequestBody {
        let (uploading, upload) = upload::pipe(length);
        self.upload = Some(uploading);
        RequestBody::Http1(upload)
    }

    /// Refuses what arrived. Nothing after it can be understood.
    #[cold]
    fn refuse(&mut self, refused: Refused) {
        self.worker.edge.metrics.refused.increment();
        self.watched.head_arrives(false);
        (self.head.method, self.head.version) = (Method::GET, Version::HTTP_11);
        self.content = Content::Done;
        self.after = After::Close;
        self.begin(answer::own(refused.status, refused.message));
    }

    /// Begins to send `response`.
    fn begin(&mut self, response: Response<ResponseBody>) {
        let (head, body) = response.into_parts();
        let old = self.head.version == Version::HTTP_10;
        let length = body.size_hint().exact();
        let delimited = Delimited::of(&self.head.method, head.status, length, old);
        // A client that waits to be told may or may not send the content now, and of much content
        // nobody wants the rest.
        let unread = self.upload.is_some()
            && match self.content {
                Content::Done => false,
                Content::Length(left) => self.expects_continue || left > VAIN_MAX,
                Content::Chunked(_) => self.expects_continue,
            };
        if delimited == Delimited::Close || self.watched.is_draining() || unread {
            self.after = After::Close;
        }
        let after = self.after;
        self.outbox
            .write(|out| encode::head(out, head.status, &head.headers, delimited, after));
        let is_nothing = delimited == Delimited::Nothing || body.is_end_stream();
        self.state = State::Sending(
            if is_nothing {
                ResponseBody::Empty
            } else {
                body
            },
            delimited,
        );
    }

    /// Queues what the origin has said so far that is not the answer. HTTP/1.0 knows no such thing
    /// (RFC 9110 15.2).
    fn pass_on_interim(&mut self, cx: &mut Context<'_>) {
        let State::Answering(answering) = &mut self.state else {
            return;
        };
        while let Poll::Ready(Some(interim)) = answering.interim.poll_next(cx) {
            if self.head.version == Version::HTTP_11 {
                let (status, headers) = (interim.status, &interim.headers);
                self.outbox.write(|out| {
                    encode::head(out, status, headers, Delimited::Nothing, After::KeepAlive);
                });
            }
        }
    }

    /// Sends what there is of the answer's content.
    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        loop {
            if self.outbox.len() >= OUTBOX_MAX {
                self.poll_upload(cx)?;
                std::task::ready!(self.poll_flush(cx))?;
            }
            let State::Sending(body, delimited) = &mut self.state else {
                return Poll::Ready(Ok(()));
            };
            match Pin::new(body).poll_frame(cx) {
                Poll::Pending => {
                    self.poll_upload(cx)?;
                    std::task::ready!(self.poll_flush(cx))?;
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(piece) = frame.into_data() {
                        if !delimited.admits(piece.len()) {
                            return Poll::Ready(Err(Ended));
                        }
                        let delimited = *delimited;
                        self.push(piece, delimited);
                    }
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Ended)),
                Poll::Ready(None) if !delimited.is_met() => return Poll::Ready(Err(Ended)),
                Poll::Ready(None) => {
                    if *delimited == Delimited::Chunks {
                        self.outbox.push(Bytes::from_static(encode::LAST_CHUNK));
                    }
                    self.watched.set_working(false);
                    self.state = State::Rest;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    fn push(&mut self, piece: Bytes, delimited: Delimited) {
        if delimited == Delimited::Chunks {
            self.outbox
                .write(|out| encode::chunk_size(out, piece.len()));
            self.outbox.push(piece);
            self.outbox.push(Bytes::from_static(b"\r\n"));
        } else {
            self.outbox.push(piece);
        }
    }

    /// Goes on to the next request, or to the end.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        self.upload = None;
        if self.after != After::Close && !self.content.is_done() {
            std::task::ready!(self.poll_flush(cx))?;
            self.watched.set_owing(true);
            while !self.content.is_done() && self.in_vain > 0 {
                if self.inbox.is_empty() {
                    std::task::ready!(self.poll_inbox(cx))?;
                }
                let mut bytes = self.inbox.as_slice();
                match self.content.take(&mut bytes) {
                    Ok(Part::Data(data)) => {
                        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                        self.in_vain = self.in_vain.saturating_sub(length);
                    }
                    Ok(Part::End | Part::More) => {}
                    Err(_) => return Poll::Ready(Err(Ended)),
                }
                let taken = self.inbox.len() - bytes.len();
                self.inbox.drain(..taken);
            }
            self.watched.set_owing(false);
        }
        let goes_on = self.after != After::Close && self.content.is_done();
        self.state = if goes_on { State::Head } else { State::Last };
        Poll::Ready(Ok(()))
    }

    /// Hands the content of the request on while its answer is being worked on, and notices when
    /// the client has left.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        loop {
            let reading = match &self.upload {
                Some(upload) if !self.content.is_done() => upload.reading(cx),
                _ => Reading::Gone,
            };
            if reading == Reading::Gone && self.content.is_done() {
                // Nothing more of this request is to come. What does come is the next one, of
                // which no more than a head is taken in.
                self.watched.set_owing(!self.outbox.is_empty());
                if self.inbox.len() >= self.limits.head_bytes {
                    return Ok(());
                }
                match self.poll_inbox(cx) {
                    Poll::Ready(received) => received?,
                    Poll::Pending => return Ok(()),
                }
                continue;
            }
            if reading != Reading::Wants {
                self.watched.set_owing(!self.outbox.is_empty());
                return Ok(());
            }
            self.watched.set_owing(true);
            if self.inbox.is_empty() {
                if std::mem::take(&mut self.expects_continue) {
                    self.outbox.push(Bytes::from_static(CONTINUE));
                    if self.poll_flush(cx)?.is_pending() {
                        return Ok(());
                    }
                }
                match self.poll_inbox(cx) {
                    Poll::Ready(received) => received?,
                    Poll::Pending => return Ok(()),
                }
            }
            self.expects_continue = false;
            self.pass_on()?;
        }
    }

    /// Hands one piece of what arrived to the reader of the content, which wants it.
    fn pass_on(&mut self) -> Result<(), Ended> {
        let mut bytes = self.inbox.as_slice();
        let piece = match self.content.take(&mut bytes) {
            Ok(Part::Data(data)) => Some(Bytes::copy_from_slice(data)),
            Ok(Part::End | Part::More) => None,
            Err(_) => return Err(Ended),
        };
        let mut taken = self.inbox.len() - bytes.len();
        // The end of chunked content may be there already, and the reader would like to know.
        if piece.is_some() && !self.content.is_done() {
            let mut ahead = self.content;
            if let Ok(Part::End) = ahead.take(&mut bytes) {
                taken = self.inbox.len() - bytes.len();
                self.content = ahead;
            }
        }
        self.inbox.drain(..taken);
        if let (Some(piece), Some(upload)) = (piece, &self.upload) {
            upload.push(piece);
        }
        if self.content.is_done()
            && let Some(upload) = self.upload.take()
        {
            upload.finish();
            self.watched.set_owing(false);
        }
        Ok(())
    }

    /// Takes in what arrives.
    fn poll_inbox(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        let connections = Rc::clone(self.watched.all());
        let mut room = connections.received();
        let received = std::task::ready!(self.transport.poll_receive(cx, &mut room))?;
        self.watched.moved();
        match room.get(..received) {
            None | Some([]) => Poll::Ready(Err(Ended)),
            Some(bytes) => {
                self.inbox.extend_from_slice(bytes);
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        if self.outbox.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let before = self.outbox.len();
        let flushed = self.outbox.poll_flush(&mut self.transport, cx);
        if self.outbox.len() < before {
            self.watched.moved();
        }
        self.watched.set_owing(flushed.is_pending());
        Poll::Ready(Ok(std::task::ready!(flushed)?))
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        let connections = Rc::clone(self.watched.all());
        let mut room = connections.received();
        let received = std::task::ready!(self.transport.poll_receive(cx, &mut room))?;
        let received = u64::try_from(received).unwrap_or(u64::MAX);
        self.in_vain = self.in_vain.saturating_sub(received);
        match received == 0 || self.in_vain == 0 {
            true => Poll::Ready(Err(Ended)),
            false => Poll::Ready(Ok(())),
        }
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let connection = self.get_mut();
        let ended = connection.run(cx).map(|_| ());
        let is_cut_short =
            matches!(connection.state, State::Sending(..)) || !connection.outbox.is_empty();
        if ended.is_ready() && is_cut_short {
            // What was sent must not look whole: content without a length ends with its
            // connection, so that one is reset.
            connection.transport.reset_at_close();
        }
        ended
    }
}

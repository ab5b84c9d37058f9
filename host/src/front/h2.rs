//! HTTP/2 towards clients (RFC 9113): one connection, from its preface to its end.
//!
//! The library keeps the protocol; here are the bounds it leaves open. A connection is one task,
//! and each request that cannot be answered at once another on the same thread. What a connection
//! may hold is bounded: so many streams, so many bytes of each in either direction, so long a
//! head. Frames that carry nothing are counted as they arrive (`frames`).

pub mod frames;
pub mod head;
pub mod stream;
pub mod upload;
pub mod wire;

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Handshake};
use h2::{Ping, PingPong, Reason};
use tokio::time::{Interval, MissedTickBehavior};

use super::connections::{ConnectionLimits, Order, Watched};
use super::exchange::Client;
use super::transport::Transport;
use super::worker::Worker;
use stream::Streams;
use wire::{Link, Wire};

/// Streams at once.
const STREAMS: u32 = 128;
/// Bytes of a request head, its fields counted with 32 bytes for each (RFC 9113 6.5.2).
const HEAD_MAX: u32 = 32 << 10;
/// Bytes of content that a client may send ahead of whoever reads it: of one stream, of all.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of an answer that may wait to be sent before more of it is asked for.
pub const SEND_BUFFER: usize = 64 << 10;
/// Streams that may be reset before we have seen them, and by us because they were malformed.
const UNSEEN_RESETS: usize = 20;
const OWN_RESETS: usize = 200;
/// A client that was silent for this long is asked whether it is there, and given as long to say
/// so.
const PING: Duration = Duration::from_secs(20);
/// Bytes that are read in vain after the last frame, so that the client gets to see that.
const LINGER_MAX: usize = 1 << 20;

/// One connection.
#[derive(Debug)]
struct Connection {
    h2: h2::server::Connection<Wire, Bytes>,
    streams: Streams,
    pings: Option<PingPong>,
    silence: Interval,
    asked: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Draining,
    Ending,
}

/// Serves `client` over `transport`, of which `received` has arrived already, until the connection
/// ends.
pub async fn serve(
    worker: &Rc<Worker>,
    watched: Watched,
    limits: &ConnectionLimits,
    (transport, client): (Transport, Client),
    received: Vec<u8>,
) {
    worker.edge.metrics.http2_connections.increment();
    let link = Link::new(watched);
    let wire = Wire::new(transport, received, &link);
    if let Some(h2) = begin(wire, limits, &link).await {
        let streams = Streams {
            worker: Rc::clone(worker),
            client,
            fields: limits.fields,
            idle: limits.idle,
            link: Rc::clone(&link),
        };
        let mut connection = Connection::new(h2, streams);
        poll_fn(|cx| connection.poll(cx)).await;
    }
    if let Some(transport) = link.left() {
        linger(transport, &link.watched).await;
    }
}

/// Receives the preface, and says what a client may do.
async fn begin(
    wire: Wire,
    limits: &ConnectionLimits,
    link: &Link,
) -> Option<h2::server::Connection<Wire, Bytes>> {
    let head = u32::try_from(limits.head_bytes).map_or(HEAD_MAX, |bytes| bytes.min(HEAD_MAX));
    let mut handshake: Handshake<Wire, Bytes> = Builder::new()
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(head)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(UNSEEN_RESETS)
        .max_local_error_reset_streams(Some(OWN_RESETS))
        .handshake(wire);
    let begun = poll_fn(|cx| match link.watched.order(cx.waker()) {
        Order::GoOn => Pin::new(&mut handshake).poll(cx).map(Some),
        Order::Drain | Order::Close => Poll::Ready(None),
    });
    match begun.await? {
        Ok(connection) => Some(connection),
        Err(error) => {
            tracing::debug!(%error, "a client did not begin with HTTP/2");
            None
        }
    }
}

impl Connection {
    fn new(mut h2: h2::server::Connection<Wire, Bytes>, streams: Streams) -> Self {
        let mut silence = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
        silence.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let pings = h2.ping_pong();
        Self {
            h2,
            streams,
            pings,
            silence,
            asked: false,
            state: State::Open,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let link = Rc::clone(&self.streams.link);
        match link.watched.order(cx.waker()) {
            Order::Drain if self.state == State::Open => {
                self.state = State::Draining;
                self.h2.graceful_shutdown();
                link.drain();
            }
            Order::GoOn | Order::Drain => {}
            Order::Close => {
                // It is told why, if it still listens.
                self.end(Reason::NO_ERROR);
                drop(self.h2.poll_closed(cx));
                return Poll::Ready(());
            }
        }
        while self.silence.poll_tick(cx).is_ready() {
            if !self.ask(cx) {
                return Poll::Ready(());
            }
        }
        loop {
            match self.h2.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => self.streams.begin(request, respond),
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "an HTTP/2 connection ended");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending if link.is_flooded() && self.state != State::Ending => {
                    self.streams.worker.edge.metrics.http2_floods.increment();
                    self.end(Reason::ENHANCE_YOUR_CALM);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn end(&mut self, reason: Reason) {
        self.state = State::Ending;
        self.h2.abrupt_shutdown(reason);
    }

    /// Asks a client that was silent whether it is there; false if it has not answered the last
    /// time.
    fn ask(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(pings) = &mut self.pings
            && let Poll::Ready(Err(error)) = pings.poll_pong(cx)
        {
            tracing::trace!(%error, "a ping has no answer");
        }
        if self.streams.link.was_heard() {
            self.asked = false;
            return true;
        }
        if self.asked {
            let metrics = &self.streams.worker.edge.metrics;
            metrics.connections_timed_out.increment();
            return false;
        }
        self.asked = true;
        match &mut self.pings {
            Some(pings) => pings.send_ping(Ping::opaque()).is_ok(),
            None => true,
        }
    }
}

/// Ends the connection, and reads on for a while: what the client still sends must not run into a
/// closed socket, or it loses the last frames.
async fn linger(mut transport: Transport, watched: &Watched) {
    watched.head_arrives(true);
    let connections = Rc::clone(watched.all());
    let mut ended = false;
    let mut left = LINGER_MAX;
    poll_fn(|cx| {
        if watched.order(cx.waker()) == Order::Close {
            return Poll::Ready(());
        }
        if !ended {
            match std::task::ready!(transport.poll_end(cx)) {
                Ok(()) => ended = true,
                Err(_) => return Poll::Ready(()),
            }
        }
        loop {
            let mut room = connections.received();
            match std::task::ready!(transport.poll_receive(cx, &mut room)) {
                Ok(received) if received > 0 && received < left => left -= received,
                Ok(_) | Err(_) => return Poll::Ready(()),
            }
        }
    })
    .await;
}

//! HTTP/2 towards an origin (RFC 9113): one connection, which requests share.
//!
//! The library keeps the protocol; here are the bounds that it leaves open. A connection is one
//! task. It ends when the origin ends it, when the origin is silent for too long while requests are
//! under way, or when nobody holds a [`Channel`] of it any more.

pub mod content;
pub mod exchange;
pub mod upload;

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong};
use hyper::rt::Executor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::fault::{Chain, Fault};
use crate::tasks::LocalExecutor;

/// Bytes of the fields of a response, at most, counted as RFC 9113 6.5.2 has it.
const FIELDS_BYTES: u32 = 256 << 10;
/// Bytes that an origin may send over one stream before they are read.
const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes that an origin may send over one connection before they are read.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes of one request that may wait to be sent before more of it is asked for.
const SEND_BUFFER: usize = 256 << 10;
/// Requests at once, until the origin has said how many it takes: the least that RFC 9113 6.5.2
/// advises it to take.
const STREAMS_UNTOLD: usize = 100;
/// Streams that we reset because the origin broke the rules on them; with more, the connection
/// ends.
const OWN_RESETS: usize = 1024;
/// A connection that is quiet for this long while requests are under way is asked whether it is
/// alive, and has as long to answer.
const PING_EVERY: Duration = Duration::from_secs(20);

/// The end of a connection that takes requests.
#[derive(Clone, Debug)]
pub struct Channel {
    sender: SendRequest<Bytes>,
    streams: Rc<Cell<usize>>,
}

/// Counts as a request under way on a connection until it drops.
#[derive(Debug)]
pub struct Taken(Rc<Cell<usize>>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Channel {
    /// Whether the connection takes another request, now or later: the origin has neither left nor
    /// said that it will.
    pub fn is_open(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !matches!(self.sender.poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    /// Requests that the origin takes at once, as far as it has said.
    pub fn streams_max(&self) -> usize {
        self.sender.current_max_send_streams()
    }

    /// Requests under way.
    pub fn streams(&self) -> usize {
        self.streams.get()
    }

    /// Counts one more.
    pub fn take(&self) -> Taken {
        self.streams.set(self.streams.get() + 1);
        Taken(Rc::clone(&self.streams))
    }
}

/// Begins HTTP/2 over `wire`, which sets `heard` whenever it brings something. `open` is dropped
/// when the connection has ended.
///
/// # Errors
/// The origin has left already.
pub(super) async fn begin<T>(
    wire: T,
    heard: Rc<Cell<bool>>,
    open: impl Sized + 'static,
) -> Result<Channel, Fault>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let begun = Builder::new()
        .enable_push(false)
        .max_header_list_size(FIELDS_BYTES)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .initial_max_send_streams(STREAMS_UNTOLD)
        .max_local_error_reset_streams(Some(OWN_RESETS))
        .handshake(wire)
        .await;
    let (sender, mut connection) = begun.map_err(|error| Fault::Broken(Box::new(error)))?;
    let streams = Rc::<Cell<usize>>::default();
    let driven = Driven {
        pings: connection.ping_pong(),
        connection,
        streams: Rc::clone(&streams),
        heard,
        last: Instant::now(),
        next: Box::pin(tokio::time::sleep(PING_EVERY)),
        asked: false,
    };
    LocalExecutor.execute(async move {
        if let Err(error) = driven.await {
            tracing::debug!(error = %Chain(&error), "a connection to an origin broke");
        }
        drop(open);
    });
    Ok(Channel { sender, streams })
}

/// A connection on its way to its end.
struct Driven<T> {
    connection: Connection<T, Bytes>,
    pings: Option<PingPong>,
    streams: Rc<Cell<usize>>,
    heard: Rc<Cell<bool>>,
    /// When something came last.
    last: Instant,
    /// When to look whether that is too long ago.
    next: Pin<Box<Sleep>>,
    /// Whether it was asked since.
    asked: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Driven<T> {
    type Output = Result<(), h2::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Poll::Ready(ended) = Pin::new(&mut this.connection).poll(cx) {
            return Poll::Ready(ended);
        }
        if this.heard.take() {
            this.last = Instant::now();
            this.asked = false;
        }
        while this.next.as_mut().poll(cx).is_ready() {
            if !this.is_alive(cx) {
                tracing::debug!("a connection to an origin is dead: it does not answer a ping");
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driven<T> {
    /// Asks an origin that is silent whether it is there; false if it has been asked.
    fn is_alive(&mut self, cx: &mut Context<'_>) -> bool {
        let now = Instant::now();
        let due = self.last + PING_EVERY;
        if now < due {
            self.next.as_mut().reset(due);
            return true;
        }
        self.next.as_mut().reset(now + PING_EVERY);
        if self.streams.get() == 0 {
            // Nobody waits for it. What rests for too long the pool drops.
            self.asked = false;
            return true;
        }
        if std::mem::replace(&mut self.asked, true) {
            return false;
        }
        let Some(pings) = &mut self.pings else {
            return true;
        };
        // The answer to the one before has been heard; it only makes room for this one.
        if let Poll::Ready(Err(error)) = pings.poll_pong(cx) {
            tracing::trace!(%error, "a ping has no answer");
        }
        pings.send_ping(Ping::opaque()).is_ok()
    }
}

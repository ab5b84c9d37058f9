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
const STREAM_WINDOW: u32 = 512 << 10;
/// Bytes that an origin may send over one connection before they are read: what all the requests
/// that share it may leave unread, so that clients which take nothing hold up nobody else.
const CONNECTION_WINDOW: u32 = 100 * STREAM_WINDOW;
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
    begin_with(wire, heard, open, PING_EVERY).await
}

/// The same, for a connection that may be quiet for `quiet`.
async fn begin_with<T>(
    wire: T,
    heard: Rc<Cell<bool>>,
    open: impl Sized + 'static,
    quiet: Duration,
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
        quiet,
        last: Instant::now(),
        next: Box::pin(tokio::time::sleep(quiet)),
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
    quiet: Duration,
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
        let due = self.last + self.quiet;
        if now < due {
            self.next.as_mut().reset(due);
            return true;
        }
        self.next.as_mut().reset(now + self.quiet);
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::runtime::{Builder as Runtime, LocalOptions};
    use tokio::sync::oneshot;

    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    const ACK: u8 = 1;

    fn block_on(work: impl Future<Output = ()>) {
        let runtime = Runtime::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        runtime.unwrap().block_on(work);
    }

    /// One end of a connection.
    struct Peer {
        wire: DuplexStream,
        /// Says that what is written next is heard.
        heard: Rc<Cell<bool>>,
        /// Ends with the other end.
        ended: oneshot::Receiver<()>,
    }

    async fn begun(quiet: Duration) -> (Channel, Peer) {
        let (ours, mut wire) = tokio::io::duplex(1 << 16);
        let (open, ended) = oneshot::channel::<()>();
        let heard = Rc::<Cell<bool>>::default();
        let begun = begin_with(ours, Rc::clone(&heard), open, quiet).await;
        wire.read_exact(&mut [0; 24]).await.unwrap();
        let settings = [0, 0, 0, SETTINGS, 0, 0, 0, 0, 0];
        wire.write_all(&settings).await.unwrap();
        let peer = Peer { wire, heard, ended };
        (begun.unwrap(), peer)
    }

    impl Peer {
        /// The kind and the payload of the next ping or farewell.
        async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
            loop {
                let mut head = [0; 9];
                self.wire.read_exact(&mut head).await.ok()?;
                let [_, _, length, kind, ..] = head;
                let mut payload = vec![0; length.into()];
                self.wire.read_exact(&mut payload).await.ok()?;
                if matches!(kind, PING | GOAWAY) {
                    return Some((kind, payload));
                }
            }
        }
    }

    #[test]
    fn an_origin_that_is_silent_while_it_is_waited_for_is_asked_and_then_left() {
        block_on(async {
            let (mut channel, mut peer) = begun(Duration::from_millis(20)).await;
            let taken = channel.take();
            assert!(matches!(peer.next().await, Some((PING, _))));
            assert!(peer.ended.await.is_err(), "it is dropped, not sent");
            assert!(!channel.is_open());
            drop(taken);
            assert_eq!(channel.streams(), 0);
        });
    }

    #[test]
    fn an_origin_that_answers_is_asked_again() {
        block_on(async {
            let (mut channel, mut peer) = begun(Duration::from_millis(500)).await;
            let _taken = channel.take();
            for _ in 0..2 {
                let (kind, payload) = peer.next().await.expect("a ping");
                assert_eq!(kind, PING);
                peer.heard.set(true);
                let head = [0, 0, 8, PING, ACK, 0, 0, 0, 0];
                let pong = [&head[..], &payload].concat();
                peer.wire.write_all(&pong).await.unwrap();
            }
            assert!(matches!(peer.next().await, Some((PING, _))));
            assert!(channel.is_open());
        });
    }

    #[test]
    fn a_connection_that_nobody_holds_ends() {
        block_on(async {
            let (channel, mut peer) = begun(PING_EVERY).await;
            drop(channel);
            assert!(matches!(peer.next().await, Some((GOAWAY, _))));
            assert_eq!(peer.next().await, None);
            assert!(peer.ended.await.is_err());
        });
    }
}

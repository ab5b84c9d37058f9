//! The byte stream of one client connection.
//!
//! Reads and writes are the plain system calls: the C library's are cancellation points, whose
//! bookkeeping costs a hundredth of a hit.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Bytes that the system takes in advance of what the network can carry. Without a bound that is
/// megabytes for every client that does not read, and the time to copy them.
const UNSENT_MAX: u32 = 128 << 10;

/// Sets the options of a connection that was accepted.
///
/// # Errors
/// The client has left.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Small responses must not wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_MAX)
}

/// The byte stream of one client connection.
#[derive(Debug)]
pub enum Transport {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<Tls>),
}

/// A TLS session.
#[derive(Debug)]
pub struct Tls {
    stream: TlsStream<TcpStream>,
    /// Bytes that the session has taken to encrypt and the socket has not.
    taken: usize,
}

impl Transport {
    /// A session whose handshake is done.
    pub fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self::Tls(Box::new(Tls { stream, taken: 0 }))
    }

    /// Receives into `room`, which is not empty; 0 when the client has ended its side.
    #[inline]
    pub fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => poll_receive(stream, cx, room),
            Self::Tls(tls) => {
                let mut room = ReadBuf::new(room);
                std::task::ready!(Pin::new(&mut tls.stream).poll_read(cx, &mut room))?;
                Poll::Ready(Ok(room.filled().len()))
            }
        }
    }

    /// Sends the start of `bytes`; how many. Whoever waits calls again with the same bytes, to
    /// which more may have been added.
    #[inline]
    pub fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => poll_send(stream, cx, bytes),
            Self::Tls(tls) => tls.poll_send(cx, &[IoSlice::new(bytes)]),
        }
    }

    /// Sends the start of `slices`, gathered; how many bytes. Whoever waits calls again with the
    /// same.
    pub fn poll_send_gathered(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => poll_send_gathered(stream, cx, slices),
            Self::Tls(tls) => tls.poll_send(cx, slices),
        }
    }

    /// Tells the client that nothing more comes.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(cx)
    }

    /// Lets the connection end in a reset, so that what was sent cannot be taken for the whole.
    pub fn reset_at_close(&self) {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => tls.stream.get_ref().0,
        };
        if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a broken answer could not be reset");
        }
    }
}

impl Tls {
    /// Bytes count as sent once the socket has them: until then their connection owes them, and
    /// nobody else would flush them.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut stream = Pin::new(&mut self.stream);
        if self.taken == 0 {
            self.taken = std::task::ready!(stream.as_mut().poll_write_vectored(cx, slices))?;
        }
        std::task::ready!(stream.poll_flush(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.taken)))
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => {
                let received =
                    std::task::ready!(poll_receive(stream, cx, room.initialize_unfilled()))?;
                room.advance(received);
                Poll::Ready(Ok(()))
            }
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_read(cx, room),
        }
    }
}

/// What was written to a session is on its way once it was flushed.
impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => poll_send(stream, cx, bytes),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => poll_send_gathered(stream, cx, slices),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_shutdown(cx),
        }
    }
}

#[inline]
fn poll_receive(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    room: &mut [u8],
) -> Poll<io::Result<usize>> {
    loop {
        std::task::ready!(stream.poll_read_ready(cx))?;
        let received = stream.try_io(Interest::READABLE, || {
            let (received, _) = net::recv(&*stream, &mut *room, net::RecvFlags::empty())?;
            Ok(received)
        });
        match received {
            Ok(received) => {
                if received > 0 && received < room.len() {
                    // All there was: the next read waits for the next event instead of asking the
                    // kernel in vain. Nothing can be missed, because events are only taken in on
                    // this thread, between tasks.
                    let drained = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                    drop(stream.try_io(Interest::READABLE, drained));
                }
                return Poll::Ready(Ok(received));
            }
            Err(error) if is_transient(&error) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

#[inline]
fn poll_send(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    loop {
        std::task::ready!(stream.poll_write_ready(cx))?;
        let sent = stream.try_io(Interest::WRITABLE, || {
            Ok(net::send(&*stream, bytes, net::SendFlags::NOSIGNAL)?)
        });
        match sent {
            Err(error) if is_transient(&error) => {}
            sent => return Poll::Ready(sent),
        }
    }
}

fn poll_send_gathered(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    loop {
        std::task::ready!(stream.poll_write_ready(cx))?;
        let sent = stream.try_io(Interest::WRITABLE, || {
            let nothing = &mut net::SendAncillaryBuffer::default();
            Ok(net::sendmsg(
                &*stream,
                slices,
                nothing,
                net::SendFlags::NOSIGNAL,
            )?)
        });
        match sent {
            Err(error) if is_transient(&error) => {}
            sent => return Poll::Ready(sent),
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

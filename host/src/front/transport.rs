//! The byte stream of one client connection.
//!
//! Reads and writes are the plain system calls: the C library's are cancellation points, whose
//! bookkeeping costs a hundredth of a hit.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net;
use socket2::SockRef;
use tokio::io::{AsyncWrite, Interest};
use tokio::net::TcpStream;

/// The byte stream of one client connection.
#[derive(Debug)]
pub enum Transport {
    /// TCP.
    Plain(TcpStream),
}

impl Transport {
    /// Receives into `room`, which is not empty; 0 when the client has ended its side.
    #[inline]
    pub fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Self::Plain(stream) = self;
        loop {
            std::task::ready!(stream.poll_read_ready(cx))?;
            let received = stream.try_io(Interest::READABLE, || {
                let (received, _) = net::recv(&*stream, &mut *room, net::RecvFlags::empty())?;
                Ok(received)
            });
            match received {
                Ok(received) => {
                    if received > 0 && received < room.len() {
                        // All there was: the next read waits for the next event instead of asking
                        // the kernel in vain. Nothing can be missed, because events are only taken
                        // in on this thread, between tasks.
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

    /// Sends the start of `bytes`; how many.
    #[inline]
    pub fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self::Plain(stream) = self;
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

    /// Sends the start of `slices`, gathered; how many bytes.
    pub fn poll_send_gathered(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self::Plain(stream) = self;
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

    /// Tells the client that nothing more comes.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self::Plain(stream) = self;
        std::pin::Pin::new(stream).poll_shutdown(cx)
    }

    /// Lets the connection end in a reset, so that what was sent cannot be taken for the whole.
    pub fn reset_at_close(&self) {
        let Self::Plain(stream) = self;
        if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a broken answer could not be reset");
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

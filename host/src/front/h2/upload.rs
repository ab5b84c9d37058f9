//! The content of a request over HTTP/2, read when whoever it is for asks for it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use crate::front::h1::upload::BrokeOff;

/// The content of one request. Its trailers are dropped, as those of HTTP/1.1 are (RFC 9110
/// 6.5.1).
#[derive(Debug)]
pub struct Upload {
    stream: RecvStream,
    length: Option<u64>,
    taken: u64,
    /// Tells that the client may send it, if the client waits for that.
    go_ahead: Option<oneshot::Sender<()>>,
    idle: Duration,
    /// Runs while the client is waited for.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    /// The content that `stream` receives, of `length` bytes, if that is known; a client that
    /// sends nothing for `idle` has broken it off.
    pub fn new(
        stream: RecvStream,
        length: Option<u64>,
        go_ahead: Option<oneshot::Sender<()>>,
        idle: Duration,
    ) -> Self {
        Self {
            stream,
            length,
            taken: 0,
            go_ahead,
            idle,
            deadline: None,
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokeOff>>> {
        if let Some(go_ahead) = self.go_ahead.take() {
            // Whoever would tell the client may have left with it.
            go_ahead.send(()).unwrap_or_default();
        }
        match self.stream.poll_data(cx) {
            Poll::Ready(Some(Ok(piece))) => {
                self.deadline = None;
                let length = piece.len();
                if self.stream.flow_control().release_capacity(length).is_err() {
                    return Poll::Ready(Some(Err(BrokeOff)));
                }
                self.taken = self
                    .taken
                    .saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
                Poll::Ready(Some(Ok(piece)))
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(%error, "the content of a request broke off");
                Poll::Ready(Some(Err(BrokeOff)))
            }
            Poll::Ready(None) if self.length.is_some_and(|length| length != self.taken) => {
                Poll::Ready(Some(Err(BrokeOff)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let deadline = self.deadline.get_or_insert_with(|| {
                    Box::pin(tokio::time::sleep_until(Instant::now() + self.idle))
                });
                std::task::ready!(deadline.as_mut().poll(cx));
                Poll::Ready(Some(Err(BrokeOff)))
            }
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BrokeOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokeOff>>> {
        let piece = std::task::ready!(self.get_mut().poll_piece(cx));
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream() && self.length.is_none_or(|length| length == self.taken)
    }

    fn size_hint(&self) -> SizeHint {
        let left = |length: u64| SizeHint::with_exact(length.saturating_sub(self.taken));
        self.length.map_or_else(SizeHint::default, left)
    }
}

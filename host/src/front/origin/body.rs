//! The body of an origin's response. Once it is whole its connection is free for the next request.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::fault::{Cause, Chain};
use super::h2::content::Content;
use super::pool::Lease;
use crate::cache::flight::Failure;
use crate::config::Coding;
use crate::front::coding::encoder::Encoder;

/// What arrives over a connection.
#[derive(Debug)]
pub(super) enum Arriving {
    /// Over HTTP/1.
    Http1(Incoming),
    /// Over HTTP/2.
    Http2(Content),
}

impl Arriving {
    /// The length that was announced.
    fn length(&self) -> Option<u64> {
        match self {
            Self::Http1(incoming) => incoming.size_hint().exact(),
            Self::Http2(content) => content.length(),
        }
    }

    fn is_whole(&self) -> bool {
        match self {
            Self::Http1(incoming) => incoming.is_end_stream(),
            Self::Http2(content) => content.is_whole(),
        }
    }

    /// The next piece, which is empty for trailers.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cause>>> {
        match self {
            Self::Http1(incoming) => Pin::new(incoming).poll_frame(cx).map(|frame| {
                let piece = frame?.map(|frame| frame.into_data().unwrap_or_default());
                Some(piece.map_err(Cause::from))
            }),
            Self::Http2(content) => content.poll_piece(cx).map_err(Cause::from),
        }
    }
}

/// The body of an origin's response.
#[derive(Debug)]
pub struct OriginBody {
    arriving: Arriving,
    idle: Duration,
    deadline: Pin<Box<Sleep>>,
    waiting: bool,
    encoder: Option<Encoder>,
    /// The connection it comes over, until it is whole.
    lease: Option<Lease>,
}

impl OriginBody {
    /// The body that is `arriving` over the connection of `lease`, in which pauses may last for
    /// `idle`.
    pub(super) fn new(arriving: Arriving, idle: Duration, lease: Lease) -> Self {
        let deadline = Box::pin(tokio::time::sleep(idle));
        let mut body = Self {
            arriving,
            idle,
            deadline,
            waiting: false,
            encoder: None,
            lease: Some(lease),
        };
        if body.is_whole() {
            body.release();
        }
        body
    }

    fn release(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.release();
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
        as_it_came.then(|| self.arriving.length()).flatten()
    }

    /// Whether the whole body has been read.
    pub fn is_whole(&self) -> bool {
        self.encoder.is_none() && self.arriving.is_whole()
    }

    /// The next piece; `None` once the body is whole. Trailers are dropped.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        loop {
            match self.arriving.poll_piece(cx) {
                Poll::Ready(piece) => {
                    self.waiting = false;
                    match piece {
                        None => {
                            self.release();
                            let rest = self.encoder.take().map(Encoder::finish);
                            let rest = rest.filter(|rest| !rest.is_empty());
                            return Poll::Ready(rest.map(Ok));
                        }
                        Some(Err(error)) => {
                            tracing::debug!(error = %Chain(&*error), "the origin's body broke off");
                            return Poll::Ready(Some(Err(Failure::Unreachable)));
                        }
                        Some(Ok(piece)) => {
                            if self.arriving.is_whole() {
                                self.release();
                            }
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

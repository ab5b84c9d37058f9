//! The body of a request to an origin: none, or the client's as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::front::body::RequestBody;
use crate::front::h1::upload::BrokeOff;

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
        /// How far it has come.
        progress: Arc<Progress>,
    },
}

/// How far a client's body has come on its way to an origin.
#[derive(Debug, Default)]
pub struct Progress {
    pieces: AtomicU64,
    awaits_client: AtomicBool,
    sent: AtomicBool,
}

impl Progress {
    /// Whether all of it was sent on.
    pub(super) fn is_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    /// How many pieces the origin's connection has taken, unless it waits for the client. An origin
    /// for which this stays the same has taken nothing, though there was something to take.
    pub(super) fn of_origin(&self) -> Option<u64> {
        let awaits_client = self.awaits_client.load(Ordering::Relaxed);
        (!awaits_client).then(|| self.pieces.load(Ordering::Relaxed))
    }
}

/// A client's body cannot be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
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
        let progress = Progress::default();
        progress.sent.store(body.is_end_stream(), Ordering::Relaxed);
        Self::Client {
            body,
            left: limit,
            progress: Arc::new(progress),
        }
    }

    /// How far the body has come; none without a body.
    pub(super) fn progress(&self) -> Option<Arc<Progress>> {
        match self {
            Self::Empty => None,
            Self::Client { progress, .. } => Some(Arc::clone(progress)),
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
        let Self::Client {
            body,
            left,
            progress,
        } = self.get_mut()
        else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(&mut *body).poll_frame(cx);
        let awaits_client = frame.is_pending();
        progress
            .awaits_client
            .store(awaits_client, Ordering::Relaxed);
        let frame = std::task::ready!(frame);
        progress.pieces.fetch_add(1, Ordering::Relaxed);
        if frame.is_none() || body.is_end_stream() {
            progress.sent.store(true, Ordering::Relaxed);
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

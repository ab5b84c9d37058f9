//! The body of a request to an origin: none, or the client's as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
        /// Whether all of it was sent on.
        sent: Arc<AtomicBool>,
    },
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
        let sent = Arc::new(AtomicBool::new(body.is_end_stream()));
        Self::Client {
            body,
            left: limit,
            sent,
        }
    }

    /// Becomes true when all of the body was sent on; none without a body.
    pub(super) fn sent(&self) -> Option<Arc<AtomicBool>> {
        match self {
            Self::Empty => None,
            Self::Client { sent, .. } => Some(Arc::clone(sent)),
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
        let Self::Client { body, left, sent } = self.get_mut() else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(Pin::new(&mut *body).poll_frame(cx));
        if frame.is_none() || body.is_end_stream() {
            sent.store(true, Ordering::Relaxed);
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

//! The content of a request on its way to an origin over HTTP/2, a part at a time as the origin
//! takes it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;
use hyper::rt::Executor;
use tokio::sync::oneshot;

use super::super::outgoing::{Outgoing, OutgoingError};
use crate::tasks::LocalExecutor;

/// The content of one request.
pub(super) struct Upload {
    stream: SendStream<Bytes>,
    body: Outgoing,
    /// What was taken of it and not sent.
    piece: Bytes,
    is_touched: bool,
}

/// Why no more of it is sent.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The client's content cannot be sent on.
    Client(OutgoingError),
    /// The origin wants no more. Its answer may be on its way all the same (RFC 9113 8.1).
    Origin,
}

/// Says that the response is whole, or by its end that nobody wants the rest.
pub(super) type Wanted = oneshot::Sender<()>;

impl Upload {
    pub(super) fn new(stream: SendStream<Bytes>, body: Outgoing) -> Self {
        Self {
            stream,
            body,
            piece: Bytes::new(),
            is_touched: false,
        }
    }

    /// The content, if it can be sent once more because nothing was taken of it.
    pub(super) fn untouched(self) -> Option<Outgoing> {
        (!self.is_touched).then_some(self.body)
    }

    /// Sends the content to its end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        loop {
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Stopped::Origin));
            }
            if !self.piece.is_empty() {
                if std::task::ready!(self.poll_send(cx))? {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(self.send(Bytes::new(), true)),
                Some(Ok(frame)) => {
                    self.is_touched = true;
                    self.piece = frame.into_data().unwrap_or_default();
                }
                Some(Err(error)) => {
                    self.is_touched = true;
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(Stopped::Client(error)));
                }
            }
        }
    }

    /// Sends as much of the piece as the origin takes; whether that was the last of all.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Stopped>> {
        self.stream.reserve_capacity(self.piece.len());
        while self.stream.capacity() == 0 {
            match std::task::ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Stopped::Origin)),
            }
        }
        let room = self.stream.capacity().min(self.piece.len());
        let part = self.piece.split_to(room);
        let last = self.piece.is_empty() && self.body.is_end_stream();
        self.send(part, last)?;
        Poll::Ready(Ok(last))
    }

    fn send(&mut self, part: Bytes, last: bool) -> Result<(), Stopped> {
        let sent = self.stream.send_data(part, last);
        sent.map_err(|_| Stopped::Origin)
    }

    /// Goes on while the response is read.
    pub(super) fn go_on(mut self) -> Wanted {
        let (wanted, told) = oneshot::channel();
        let mut told = Some(told);
        LocalExecutor.execute(std::future::poll_fn(move |cx| {
            if let Some(waiting) = &mut told
                && let Poll::Ready(whole) = Pin::new(waiting).poll(cx)
            {
                told = None;
                if whole.is_err() {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(());
                }
            }
            self.poll(cx).map(|sent| {
                if let Err(stopped) = sent {
                    tracing::debug!(?stopped, "the rest of a request was not sent");
                }
            })
        }));
        wanted
    }
}

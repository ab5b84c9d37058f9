//! The content of a request on its way from its connection to whoever reads it: one piece at a
//! time, and only when the reader asks.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;

/// The content did not arrive whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the content of the request broke off")]
pub struct BrokeOff;

/// The end that reads.
#[derive(Debug)]
pub struct Upload {
    pipe: Arc<Mutex<Pipe>>,
    length: Option<u64>,
}

/// The end that the connection fills.
#[derive(Debug)]
pub struct Uploading(Arc<Mutex<Pipe>>);

#[derive(Debug, Default)]
struct Pipe {
    piece: Option<Bytes>,
    end: Option<Result<(), BrokeOff>>,
    wanted: bool,
    abandoned: bool,
    reader: Option<Waker>,
    connection: Option<Waker>,
}

/// What the reader is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It waits for a piece.
    Wants,
    /// It has enough for now; the connection is woken when it wants more.
    Waits,
    /// It is gone.
    Gone,
}

/// A pipe for content of `length` bytes, if that is known.
pub fn pipe(length: Option<u64>) -> (Uploading, Upload) {
    let pipe = Arc::new(Mutex::new(Pipe::default()));
    (Uploading(Arc::clone(&pipe)), Upload { pipe, length })
}

fn lock(pipe: &Mutex<Pipe>) -> MutexGuard<'_, Pipe> {
    pipe.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Uploading {
    /// What the reader is about.
    pub fn reading(&self, cx: &Context<'_>) -> Reading {
        let mut pipe = lock(&self.0);
        if pipe.abandoned {
            return Reading::Gone;
        }
        if pipe.wanted && pipe.piece.is_none() {
            return Reading::Wants;
        }
        pipe.connection = Some(cx.waker().clone());
        Reading::Waits
    }

    /// Hands over `piece`, which the reader wants.
    pub fn push(&self, piece: Bytes) {
        let mut pipe = lock(&self.0);
        pipe.piece = Some(piece);
        pipe.wanted = false;
        wake(&mut pipe.reader);
    }

    /// All was handed over.
    pub fn finish(self) {
        self.end(Ok(()));
    }

    fn end(&self, end: Result<(), BrokeOff>) {
        let mut pipe = lock(&self.0);
        pipe.end.get_or_insert(end);
        wake(&mut pipe.reader);
    }
}

impl Drop for Uploading {
    /// Unless it was finished, the content broke off.
    fn drop(&mut self) {
        self.end(Err(BrokeOff));
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let mut pipe = lock(&self.pipe);
        pipe.abandoned = true;
        wake(&mut pipe.connection);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BrokeOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokeOff>>> {
        let mut pipe = lock(&self.pipe);
        if let Some(piece) = pipe.piece.take() {
            // Whoever takes a piece mostly wants the next; the connection can be getting it.
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match pipe.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(BrokeOff)) => Poll::Ready(Some(Err(BrokeOff))),
            None => {
                pipe.wanted = true;
                pipe.reader = Some(cx.waker().clone());
                wake(&mut pipe.connection);
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let pipe = lock(&self.pipe);
        pipe.piece.is_none() && pipe.end == Some(Ok(()))
    }

    fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(upload: &mut Upload) -> Poll<Option<Result<Bytes, BrokeOff>>> {
        let mut cx = Context::from_waker(Waker::noop());
        let frame = Pin::new(upload).poll_frame(&mut cx);
        frame.map(|frame| frame.map(|frame| frame.map(|frame| frame.into_data().expect("data"))))
    }

    #[test]
    fn a_piece_moves_when_it_is_wanted() {
        let cx = Context::from_waker(Waker::noop());
        let (uploading, mut upload) = pipe(Some(2));
        assert_eq!(uploading.reading(&cx), Reading::Waits);
        assert_eq!(read(&mut upload), Poll::Pending);
        assert_eq!(uploading.reading(&cx), Reading::Wants);
        uploading.push(Bytes::from_static(b"ab"));
        assert_eq!(uploading.reading(&cx), Reading::Waits);
        let piece = Bytes::from_static(b"ab");
        assert_eq!(read(&mut upload), Poll::Ready(Some(Ok(piece))));
        uploading.finish();
        assert!(upload.is_end_stream());
        assert_eq!(read(&mut upload), Poll::Ready(None));
    }

    #[test]
    fn a_connection_that_ends_breaks_the_content_off() {
        let (uploading, mut upload) = pipe(None);
        assert_eq!(read(&mut upload), Poll::Pending);
        drop(uploading);
        assert_eq!(read(&mut upload), Poll::Ready(Some(Err(BrokeOff))));
        assert!(!upload.is_end_stream());
    }

    #[test]
    fn a_reader_that_leaves_is_noticed() {
        let cx = Context::from_waker(Waker::noop());
        let (uploading, upload) = pipe(None);
        drop(upload);
        assert_eq!(uploading.reading(&cx), Reading::Gone);
    }
}

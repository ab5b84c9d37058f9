//! The bodies of requests and of responses. None of them copies content; all of them are bounded.
//!
//! A body that cannot be finished ends with an error, which closes the connection: a client never
//! takes a part for the whole.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::h1::upload::{BrokeOff, Upload};
use super::h2::upload::Upload as Upload2;
use super::origin::OriginBody;
use super::slices::{Cut, StoredSlices};
use crate::cache::flight::{Failure, Read, Reader};
use crate::entry::StoredBody;
use crate::entry::kept::Reading;

/// The body of one request, as its client sends it.
#[derive(Debug)]
pub enum RequestBody {
    /// No content.
    Empty,
    /// Content over HTTP/1.
    Http1(Upload),
    /// Content over HTTP/2.
    Http2(Box<Upload2>),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BrokeOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokeOff>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Http1(upload) => Pin::new(upload).poll_frame(cx),
            Self::Http2(upload) => Pin::new(&mut **upload).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(upload) => upload.is_end_stream(),
            Self::Http2(upload) => upload.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Http1(upload) => upload.size_hint(),
            Self::Http2(upload) => upload.size_hint(),
        }
    }
}

/// The body of one response.
#[derive(Debug)]
pub enum ResponseBody {
    /// No content.
    Empty,
    /// Content in one piece.
    Whole(Bytes),
    /// Content of a stored response, or a range of it.
    Stored(Stored),
    /// Several ranges of a stored response.
    Slices(Box<StoredSlices>),
    /// Content of a flight.
    Flight(Box<InFlight>),
    /// Content passed on from the origin.
    Passed(Box<OriginBody>),
}

/// What is left to send of a stored body.
pub struct Stored {
    body: StoredBody,
    next: usize,
    skip: u64,
    left: u64,
    /// The read under way of a body that lies in a slower tier.
    reading: Option<Reading>,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// A flight being read, and which ranges of it are wanted, if not all.
pub struct InFlight {
    feed: Feed,
    length: Option<u64>,
    cut: Option<Cut>,
}

/// What a flight brings, and what to do when it runs away from this reader.
struct Feed {
    source: Source,
    catch_up: Option<CatchUp>,
}

enum Source {
    Reader(Reader),
    Waiting(Pin<Box<dyn Future<Output = Result<Rest, Failure>>>>),
    Rest(Box<Rest>),
}

/// Fetches a response again from an offset.
pub type CatchUp = Box<dyn FnOnce(u64) -> Pin<Box<dyn Future<Output = Result<Rest, Failure>>>>>;

/// The rest of a body, fetched by its reader alone.
#[derive(Debug)]
pub struct Rest {
    /// What the origin sends.
    pub body: OriginBody,
    /// Bytes of it that the reader has had already.
    pub skip: u64,
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// A body that broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response broke off")]
pub struct BrokenOff;

impl ResponseBody {
    /// All of `body`.
    #[inline]
    pub fn stored(body: &StoredBody) -> Self {
        match body.pieces() {
            [piece] if piece.is_empty() => Self::Empty,
            [piece] => Self::Whole(piece.clone()),
            _ => Self::range(body, 0..body.len()),
        }
    }

    /// The bytes `range` of `body`.
    pub fn range(body: &StoredBody, range: Range<u64>) -> Self {
        Self::Stored(Stored::new(body, range))
    }

    /// What `reader` reads; `catch_up` fetches the rest if the flight leaves it behind.
    pub fn flight(reader: Reader, length: Option<u64>, catch_up: Option<CatchUp>) -> Self {
        Self::Flight(Box::new(InFlight {
            feed: Feed::new(reader, catch_up),
            length,
            cut: None,
        }))
    }

    /// Only what `cut` takes of that.
    pub fn cut(reader: Reader, cut: Cut, catch_up: Option<CatchUp>) -> Self {
        Self::Flight(Box::new(InFlight {
            feed: Feed::new(reader, catch_up),
            length: None,
            cut: Some(cut),
        }))
    }
}

impl Stored {
    /// The bytes `range` of `body`.
    pub fn new(body: &StoredBody, range: Range<u64>) -> Self {
        let left = range.end.min(body.len()).saturating_sub(range.start);
        Self {
            body: body.clone(),
            next: 0,
            skip: range.start,
            left,
            reading: None,
        }
    }

    /// Bytes that are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next bytes, wherever they lie.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        match self.body.place() {
            None => Poll::Ready(self.next_piece().map(Ok)),
            Some(_) if self.left == 0 => Poll::Ready(None),
            Some(content) => {
                let at = self.skip;
                let reading = self.reading.get_or_insert_with(|| content.read(at));
                let read = std::task::ready!(reading.as_mut().poll(cx));
                self.reading = None;
                let piece = match read {
                    Ok(piece) if !piece.is_empty() => piece,
                    // What it promised is not there, so the rest cannot be right either.
                    Ok(_) | Err(_) => return Poll::Ready(Some(Err(BrokenOff))),
                };
                let wanted = usize::try_from(self.left).unwrap_or(usize::MAX);
                let piece = piece.slice(..piece.len().min(wanted));
                let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
                self.skip += length;
                self.left -= length;
                Poll::Ready(Some(Ok(piece)))
            }
        }
    }

    /// The next bytes of a body in memory.
    fn next_piece(&mut self) -> Option<Bytes> {
        while self.left > 0 {
            let piece = self.body.pieces().get(self.next)?;
            self.next += 1;
            let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            if self.skip >= length {
                self.skip -= length;
                continue;
            }
            let start = usize::try_from(self.skip).unwrap_or(usize::MAX);
            let end = usize::try_from(self.skip.saturating_add(self.left)).unwrap_or(usize::MAX);
            let part = piece.slice(start..end.min(piece.len()));
            self.skip = 0;
            self.left -= u64::try_from(part.len()).unwrap_or(u64::MAX);
            return Some(part);
        }
        None
    }
}

impl InFlight {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        let Self { feed, cut, .. } = self;
        match cut {
            Some(cut) => cut.poll_next(cx, |cx| feed.poll_piece(cx)),
            None => feed.poll_piece(cx),
        }
    }

    fn length(&self) -> Option<u64> {
        self.cut
            .as_ref()
            .map_or(self.length, |cut| Some(cut.left()))
    }
}

impl Feed {
    fn new(reader: Reader, catch_up: Option<CatchUp>) -> Self {
        Self {
            source: Source::Reader(reader),
            catch_up,
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        loop {
            match &mut self.source {
                Source::Reader(reader) => match std::task::ready!(reader.poll_read(cx)) {
                    Read::Piece(piece) => return Poll::Ready(Some(Ok(piece))),
                    Read::End => return Poll::Ready(None),
                    Read::Broken => return Poll::Ready(Some(Err(BrokenOff))),
                    Read::Lagging => {
                        let position = reader.position();
                        let Some(catch_up) = self.catch_up.take() else {
                            return Poll::Ready(Some(Err(BrokenOff)));
                        };
                        self.source = Source::Waiting(catch_up(position));
                    }
                },
                Source::Waiting(rest) => match std::task::ready!(rest.as_mut().poll(cx)) {
                    Ok(rest) => self.source = Source::Rest(Box::new(rest)),
                    Err(_) => return Poll::Ready(Some(Err(BrokenOff))),
                },
                Source::Rest(rest) => {
                    let mut piece = match std::task::ready!(rest.body.poll_piece(cx)) {
                        None if rest.skip > 0 => return Poll::Ready(Some(Err(BrokenOff))),
                        None => return Poll::Ready(None),
                        Some(Err(_)) => return Poll::Ready(Some(Err(BrokenOff))),
                        Some(Ok(piece)) => piece,
                    };
                    let had = rest
                        .skip
                        .min(u64::try_from(piece.len()).unwrap_or(u64::MAX));
                    rest.skip -= had;
                    drop(piece.split_to(usize::try_from(had).unwrap_or_default()));
                    if !piece.is_empty() {
                        return Poll::Ready(Some(Ok(piece)));
                    }
                }
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let piece = match self.get_mut() {
            Self::Empty => None,
            Self::Whole(piece) => {
                let piece = std::mem::take(piece);
                (!piece.is_empty()).then_some(Ok(piece))
            }
            Self::Stored(stored) => std::task::ready!(stored.poll_piece(cx)),
            Self::Slices(slices) => std::task::ready!(slices.poll_piece(cx)),
            Self::Flight(flight) => std::task::ready!(flight.poll_piece(cx)),
            Self::Passed(body) => {
                std::task::ready!(body.poll_piece(cx)).map(|piece| piece.map_err(|_| BrokenOff))
            }
        };
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(piece) => piece.is_empty(),
            Self::Stored(stored) => stored.left == 0,
            Self::Slices(slices) => slices.left() == 0,
            Self::Flight(flight) => flight.cut.as_ref().is_some_and(|cut| cut.left() == 0),
            Self::Passed(body) => body.is_whole(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let exact = match self {
            Self::Empty => Some(0),
            Self::Whole(piece) => u64::try_from(piece.len()).ok(),
            Self::Stored(stored) => Some(stored.left),
            Self::Slices(slices) => Some(slices.left()),
            Self::Flight(flight) => flight.length(),
            Self::Passed(body) => body.length(),
        };
        exact.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut body: ResponseBody) -> Vec<u8> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut bytes = Vec::new();
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut cx) {
            bytes.extend(frame.expect("stored").into_data().expect("data"));
        }
        assert!(body.is_end_stream());
        bytes
    }

    #[test]
    fn any_range_of_any_pieces_is_the_slice_of_the_whole() {
        let whole: Vec<u8> = (0..100).collect();
        for cuts in [vec![100], vec![1, 99], vec![30, 1, 40, 29], vec![50, 0, 50]] {
            let (mut pieces, mut at) = (Vec::new(), 0);
            for cut in cuts {
                pieces.push(Bytes::copy_from_slice(&whole[at..at + cut]));
                at += cut;
            }
            let body = StoredBody::new(pieces);
            assert_eq!(read(ResponseBody::stored(&body)), whole);
            for start in 0..100 {
                for end in start + 1..=100 {
                    let range = u64::try_from(start).unwrap()..u64::try_from(end).unwrap();
                    let body = ResponseBody::range(&body, range);
                    assert_eq!(body.size_hint().exact(), u64::try_from(end - start).ok());
                    assert_eq!(read(body), &whole[start..end]);
                }
            }
        }
        assert_eq!(read(ResponseBody::stored(&StoredBody::default())), b"");
    }
}

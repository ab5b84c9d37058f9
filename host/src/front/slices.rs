//! Stretches of content with texts between them: the body of a 206.
//!
//! Content is shared with where it is stored or with the flight that brings it, never copied.

use std::collections::VecDeque;
use std::ops::Range;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};

use super::body::{BrokenOff, Stored};

/// What comes next of a body that is made of stretches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Text of this host's own.
    Text(Bytes),
    /// Bytes of the content, by their place in it.
    Content(Range<u64>),
}

/// Bytes that `segments` come to.
fn length(segments: &[Segment]) -> u64 {
    let lengths = segments.iter().map(|segment| match segment {
        Segment::Text(text) => u64::try_from(text.len()).unwrap_or(u64::MAX),
        Segment::Content(range) => range.end.saturating_sub(range.start),
    });
    lengths.fold(0, u64::saturating_add)
}

/// Whether content that comes once, in order, can be cut into `segments` as it comes.
pub fn is_ascending(ranges: &[Range<u64>]) -> bool {
    ranges
        .windows(2)
        .all(|two| matches!(two, [one, next] if one.end <= next.start))
}

/// Stretches of stored content.
#[derive(Debug)]
pub struct StoredSlices {
    parts: VecDeque<StoredSlice>,
    left: u64,
}

#[derive(Debug)]
enum StoredSlice {
    Text(Bytes),
    Content(Stored),
}

impl StoredSlices {
    /// `segments`, of which `find` finds the content. None if it does not find one.
    pub fn new(
        segments: Vec<Segment>,
        find: impl Fn(&Range<u64>) -> Option<Stored>,
    ) -> Option<Self> {
        let left = length(&segments);
        let parts = segments.into_iter().map(|segment| match segment {
            Segment::Text(text) => Some(StoredSlice::Text(text)),
            Segment::Content(range) => find(&range).map(StoredSlice::Content),
        });
        let parts = parts.collect::<Option<_>>()?;
        Some(Self { parts, left })
    }

    /// Bytes that are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next bytes.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        let piece = loop {
            match self.parts.front_mut() {
                None => return Poll::Ready(None),
                Some(StoredSlice::Text(text)) => {
                    let text = std::mem::take(text);
                    self.parts.pop_front();
                    break text;
                }
                Some(StoredSlice::Content(stored)) => {
                    match std::task::ready!(stored.poll_piece(cx)) {
                        Some(Ok(piece)) => break piece,
                        Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                        None => self.parts.pop_front(),
                    };
                }
            }
        };
        self.left = self
            .left
            .saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        Poll::Ready(Some(Ok(piece)))
    }
}

/// Cuts content, as it comes, into segments whose places ascend.
#[derive(Debug)]
pub struct Cut {
    segments: VecDeque<Segment>,
    left: u64,
    /// What has come and was not handed on.
    piece: Bytes,
    /// The place of its first byte.
    at: u64,
}

impl Cut {
    /// Cuts content whose first byte to come is at `at`.
    pub fn new(segments: Vec<Segment>, at: u64) -> Self {
        Self {
            left: length(&segments),
            segments: segments.into(),
            piece: Bytes::new(),
            at,
        }
    }

    /// Bytes that are still to be handed on.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next bytes, from what `more` brings. Content that ends too early is broken off.
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        mut more: impl FnMut(&mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>>,
    ) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        loop {
            let wanted = match self.segments.front_mut() {
                None => return Poll::Ready(None),
                Some(Segment::Text(text)) => {
                    let text = std::mem::take(text);
                    self.segments.pop_front();
                    return self.hand_on(text);
                }
                Some(Segment::Content(wanted)) => wanted,
            };
            if self.piece.is_empty() {
                match std::task::ready!(more(cx)) {
                    None => return Poll::Ready(Some(Err(BrokenOff))),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Some(Ok(piece)) => self.piece = piece,
                }
            }
            let come = |until: u64| usize::try_from(until.saturating_sub(self.at));
            let skipped = come(wanted.start)
                .unwrap_or(usize::MAX)
                .min(self.piece.len());
            let end = come(wanted.end).unwrap_or(usize::MAX).min(self.piece.len());
            if skipped > 0 {
                self.piece.advance(skipped);
                self.at += u64::try_from(skipped).unwrap_or(u64::MAX);
                continue;
            }
            let part = self.piece.split_to(end);
            self.at += u64::try_from(end).unwrap_or(u64::MAX);
            wanted.start = self.at;
            if wanted.is_empty() {
                self.segments.pop_front();
            }
            return self.hand_on(part);
        }
    }

    fn hand_on(&mut self, piece: Bytes) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        self.left = self.left.saturating_sub(length);
        Poll::Ready(Some(Ok(piece)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::StoredBody;
    use proptest::prelude::*;

    fn content(from: usize, to: usize) -> Segment {
        Segment::Content(u64::try_from(from).unwrap()..u64::try_from(to).unwrap())
    }

    /// Ascending stretches of content of `len` bytes, with a text before each and at the end.
    fn segments(cuts: &[usize], len: usize) -> (Vec<Segment>, Vec<u8>) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (len + 1)).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let mut made = (Vec::new(), Vec::new());
        for two in cuts.chunks_exact(2) {
            made.0.push(Segment::Text(Bytes::from_static(b"--")));
            made.0.push(content(two[0], two[1]));
            made.1.extend_from_slice(b"--");
            made.1.extend((two[0]..two[1]).map(byte));
        }
        made.0.push(Segment::Text(Bytes::from_static(b"end")));
        made.1.extend_from_slice(b"end");
        made
    }

    fn byte(at: usize) -> u8 {
        u8::try_from(at % 251).unwrap()
    }

    fn pieces(len: usize, piece: usize) -> Vec<Bytes> {
        let whole: Vec<u8> = (0..len).map(byte).collect();
        whole.chunks(piece).map(Bytes::copy_from_slice).collect()
    }

    fn cut(mut cut: Cut, pieces: Vec<Bytes>) -> Result<Vec<u8>, BrokenOff> {
        let mut pieces = pieces.into_iter();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut read = Vec::new();
        loop {
            let next = cut.poll_next(&mut cx, |_| Poll::Ready(pieces.next().map(Ok)));
            let Poll::Ready(next) = next else {
                panic!("nothing is waited for");
            };
            match next {
                None => break,
                Some(piece) => read.extend_from_slice(&piece?),
            }
        }
        assert_eq!(cut.left(), 0);
        Ok(read)
    }

    #[test]
    fn content_that_ends_too_early_is_broken_off() {
        let segments = vec![content(2, 9)];
        let read = |len| cut(Cut::new(segments.clone(), 0), pieces(len, 3));
        assert_eq!(read(9), Ok((2..9).map(byte).collect()));
        assert_eq!(read(8), Err(BrokenOff));
        assert_eq!(read(1), Err(BrokenOff));
    }

    #[test]
    fn content_may_begin_later_than_the_whole() {
        let segments = vec![content(104, 106)];
        let read = cut(Cut::new(segments, 100), pieces(10, 3));
        assert_eq!(read, Ok(vec![4, 5]));
    }

    #[test]
    fn stored_content_that_is_not_there_makes_no_body() {
        assert!(StoredSlices::new(vec![content(0, 1)], |_| None).is_none());
    }

    #[test]
    fn ranges_that_ascend_can_be_cut_as_they_come() {
        assert!(is_ascending(&[0..2, 3..5, 5..9]));
        assert!(!is_ascending(&[3..5, 0..2]));
        assert!(!is_ascending(&[0..4, 3..5]));
    }

    proptest! {
        #[test]
        fn stretches_are_those_of_the_whole_however_it_comes(
            cuts in prop::collection::vec(any::<usize>(), 0..10),
            len in 1_usize..300,
            piece in 1_usize..70,
        ) {
            let (segments, expected) = segments(&cuts, len);
            prop_assert_eq!(length(&segments), u64::try_from(expected.len()).unwrap());
            prop_assert_eq!(cut(Cut::new(segments.clone(), 0), pieces(len, piece)), Ok(expected.clone()));
            let body = StoredBody::new(pieces(len, piece));
            let mut stored = StoredSlices::new(segments, |range| Some(Stored::new(&body, range.clone()))).unwrap();
            let mut read = Vec::new();
            let mut cx = Context::from_waker(std::task::Waker::noop());
            while let Poll::Ready(Some(piece)) = stored.poll_piece(&mut cx) {
                read.extend_from_slice(&piece.unwrap());
            }
            prop_assert_eq!((read, stored.left()), (expected, 0));
        }
    }
}

//! The content of an entry on its way to the store, wherever it lies: cut into parts, each of which
//! is all that is held of content that lies in another tier.

use std::sync::Arc;

use bytes::Bytes;

use crate::entry::{Kept, StoredBody, Unreadable};

/// Bytes of a part of large content; content up to this is written in one request.
pub(super) const PART: u64 = 8 << 20;

/// Content that is taken part by part: [`PART`] bytes each, the last one shorter.
pub(super) enum Source<'a> {
    /// In memory.
    Pieces(Parts<'a>),
    /// In another tier, from this byte on.
    Elsewhere(&'a Arc<dyn Kept>, u64),
}

impl<'a> Source<'a> {
    /// The content of `body`.
    pub(super) fn of(body: &'a StoredBody) -> Self {
        match body.place() {
            Some(content) => Self::Elsewhere(content, 0),
            None => Self::Pieces(Parts::of(body.pieces())),
        }
    }

    /// The next part; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Bytes>>, Unreadable> {
        let (content, at) = match self {
            Self::Pieces(parts) => return Ok(parts.next()),
            Self::Elsewhere(content, at) => (content, at),
        };
        let (mut part, mut room) = (Vec::new(), PART);
        while room > 0 && *at < content.len() {
            let mut piece = content.read(*at).await?;
            if piece.is_empty() {
                return Err(Unreadable::Damaged);
            }
            piece.truncate(usize::try_from(room).unwrap_or(usize::MAX));
            let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            *at += length;
            room -= length;
            part.push(piece);
        }
        Ok((!part.is_empty()).then_some(part))
    }
}

/// Cuts content into parts of [`PART`] bytes, the last one shorter. Copies nothing.
pub(super) struct Parts<'a> {
    pieces: std::slice::Iter<'a, Bytes>,
    over: Bytes,
}

impl<'a> Parts<'a> {
    fn of(pieces: &'a [Bytes]) -> Self {
        Self {
            pieces: pieces.iter(),
            over: Bytes::new(),
        }
    }
}

impl Iterator for Parts<'_> {
    type Item = Vec<Bytes>;

    fn next(&mut self) -> Option<Vec<Bytes>> {
        let (mut part, mut room) = (Vec::new(), usize::try_from(PART).ok()?);
        while room > 0 {
            if self.over.is_empty() {
                match self.pieces.next() {
                    Some(piece) => self.over = piece.clone(),
                    None => break,
                }
            }
            let now = self.over.split_to(self.over.len().min(room));
            room -= now.len();
            if !now.is_empty() {
                part.push(now);
            }
        }
        (!part.is_empty()).then_some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::kept::Reading;

    /// Bytes of a pattern, of which each read brings some.
    #[derive(Debug)]
    struct Elsewhere(u64);

    impl Kept for Elsewhere {
        fn len(&self) -> u64 {
            self.0
        }

        fn read(&self, at: u64) -> Reading {
            let end = self.0.min(at + 200_003);
            let byte = |at: u64| u8::try_from(at % 251).unwrap();
            let piece: Bytes = (at..end).map(byte).collect();
            Box::pin(std::future::ready(Ok(piece)))
        }
    }

    #[tokio::test]
    async fn content_of_another_tier_is_read_part_by_part() {
        for length in [0, 1, PART - 1, PART, PART + 1, 2 * PART + 9] {
            let body = StoredBody::kept(Arc::new(Elsewhere(length)));
            let mut source = Source::of(&body);
            let (mut whole, mut parts) = (Vec::new(), 0);
            while let Some(part) = source.next().await.unwrap() {
                whole.extend(part.concat());
                parts += 1;
            }
            assert_eq!(whole.len(), usize::try_from(length).unwrap());
            assert_eq!(parts, length.div_ceil(PART), "{length}");
            let wrong = whole
                .iter()
                .zip(0_u64..)
                .find(|(byte, at)| u64::from(**byte) != at % 251);
            assert_eq!(wrong, None);
        }
    }

    #[test]
    fn parts_are_cut_without_a_copy() {
        let part = usize::try_from(PART).unwrap();
        let whole: Bytes = (0..=u8::MAX).cycle().take(2 * part + 7).collect();
        for size in [part, 3 << 20, part + 1, whole.len()] {
            let pieces: Vec<Bytes> = (0..whole.len())
                .step_by(size)
                .map(|at| whole.slice(at..whole.len().min(at + size)))
                .collect();
            let parts: Vec<Vec<Bytes>> = Parts::of(&pieces).collect();
            let lengths: Vec<usize> = parts
                .iter()
                .map(|p| p.iter().map(Bytes::len).sum())
                .collect();
            assert_eq!(lengths, [part, part, 7], "{size}");
            assert_eq!(parts[0][0].as_ptr(), whole.as_ptr());
            assert_eq!(parts.concat().concat(), whole);
        }
        assert_eq!(Parts::of(&[Bytes::new()]).next(), None);
    }
}

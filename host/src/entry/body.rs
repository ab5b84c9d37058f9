//! The content of a stored response, in as many pieces as it arrived in.
//!
//! Cloning a body copies no byte of it. What is cut out of one to be kept is copied where it would
//! otherwise hold memory that nothing is charged for.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::bytes_len;
use super::kept::Kept;

/// Bytes of a piece that is made by joining others, at most.
const BLOCK_BYTES: usize = 64 << 10;
/// Content of up to this many bytes is kept in one piece.
const ONE_PIECE: usize = 64 << 10;

/// The content of a stored response, or a stretch of it.
#[derive(Clone, Debug, Default)]
pub struct StoredBody {
    pieces: Pieces,
    len: u64,
}

#[derive(Clone, Debug)]
enum Pieces {
    One(Bytes),
    Many(Arc<[Bytes]>),
    /// In a slower tier.
    Kept(Arc<dyn Kept>),
}

impl Default for Pieces {
    fn default() -> Self {
        Self::One(Bytes::new())
    }
}

impl StoredBody {
    /// A body made of `pieces`, in order.
    pub fn new(mut pieces: Vec<Bytes>) -> Self {
        let len = pieces.iter().map(|piece| bytes_len(piece)).sum();
        let pieces = match pieces.len() {
            0 => Pieces::default(),
            1 => Pieces::One(pieces.pop().unwrap_or_default()),
            _ => Pieces::Many(pieces.into()),
        };
        Self { pieces, len }
    }

    /// The same, of pieces that are joined where so many of them cost more than copying them once
    /// more.
    pub fn joined(pieces: Vec<Bytes>) -> Self {
        Self::new(join(pieces))
    }

    /// A body that lies in a slower tier.
    pub fn kept(content: Arc<dyn Kept>) -> Self {
        Self {
            len: content.len(),
            pieces: Pieces::Kept(content),
        }
    }

    /// Where its content lies, if that is a slower tier.
    pub fn place(&self) -> Option<&Arc<dyn Kept>> {
        match &self.pieces {
            Pieces::Kept(content) => Some(content),
            Pieces::One(_) | Pieces::Many(_) => None,
        }
    }

    /// Bytes in the body.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the body has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, in order, as far as they are in memory: none of a body that lies elsewhere.
    pub fn pieces(&self) -> &[Bytes] {
        match &self.pieces {
            Pieces::One(piece) => std::slice::from_ref(piece),
            Pieces::Many(pieces) => pieces,
            Pieces::Kept(_) => &[],
        }
    }

    /// The rest of the piece that holds byte `at`; none from the end on.
    pub fn from(&self, at: u64) -> Bytes {
        let mut skip = usize::try_from(at).unwrap_or(usize::MAX);
        for piece in self.pieces() {
            match skip.checked_sub(piece.len()) {
                Some(left) => skip = left,
                None => return piece.slice(skip..),
            }
        }
        Bytes::new()
    }

    /// Pieces that hold the bytes `range` to be kept: those that lie in it are shared, those that
    /// it cuts, two at most, are copied.
    pub(super) fn cut(&self, range: &Range<u64>) -> Vec<Bytes> {
        let mut cut = Vec::new();
        let mut at = 0;
        for piece in self.pieces() {
            let end = at + bytes_len(piece);
            if at >= range.start && end <= range.end {
                cut.push(piece.clone());
            } else {
                let within = |place: u64| usize::try_from(place.clamp(at, end) - at);
                let bounds = within(range.start).ok().zip(within(range.end).ok());
                let kept = bounds.and_then(|(from, to)| piece.get(from..to));
                if let Some(kept) = kept.filter(|kept| !kept.is_empty()) {
                    cut.push(Bytes::copy_from_slice(kept));
                }
            }
            at = end;
        }
        cut
    }

    /// Bytes that the content costs, with its bookkeeping.
    pub(super) fn charge(&self) -> u64 {
        match &self.pieces {
            Pieces::One(_) => self.len,
            Pieces::Many(pieces) => {
                let bookkeeping = u64::try_from(size_of_val(pieces.as_ref())).unwrap_or(u64::MAX);
                self.len.saturating_add(bookkeeping)
            }
            Pieces::Kept(_) => 0,
        }
    }
}

fn join(pieces: Vec<Bytes>) -> Vec<Bytes> {
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let few = pieces.len() <= 1;
    let small = length <= ONE_PIECE;
    let crumbs = pieces.len() > 16 + length / 4096;
    if few || !(small || crumbs) {
        return pieces;
    }
    let mut joined = Vec::new();
    let mut block = BytesMut::with_capacity(length.min(BLOCK_BYTES));
    let mut left = length;
    for mut piece in pieces {
        while !piece.is_empty() {
            let now = piece.split_to(piece.len().min(block.capacity() - block.len()));
            block.extend_from_slice(&now);
            left -= now.len();
            if block.len() == block.capacity() && left > 0 {
                let next = BytesMut::with_capacity(left.min(BLOCK_BYTES));
                joined.push(std::mem::replace(&mut block, next).freeze());
            }
        }
    }
    joined.push(block.freeze());
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_keeps_every_byte_in_its_place() {
        let whole: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        for cut in [10, 1_000, 16_384, 65_536, 100_000, 800_000] {
            let pieces = whole.chunks(cut).map(Bytes::copy_from_slice).collect();
            assert_eq!(join(pieces).concat(), whole, "{cut}");
        }
    }

    #[test]
    fn reading_on_from_any_byte_ends_with_the_last() {
        let whole = b"abcdefgh";
        for cuts in [vec![8], vec![0, 3, 0, 5, 0], vec![1; 8]] {
            let (mut pieces, mut at) = (Vec::new(), 0);
            for cut in cuts {
                pieces.push(Bytes::from_static(&whole[at..at + cut]));
                at += cut;
            }
            let body = StoredBody::new(pieces);
            for start in 0..=9 {
                let (mut read, mut at) = (Vec::new(), start);
                while let Some(piece) = Some(body.from(at)).filter(|piece| !piece.is_empty()) {
                    read.extend_from_slice(&piece);
                    at += bytes_len(&piece);
                }
                let start = usize::try_from(start).unwrap().min(8);
                assert_eq!(read, &whole[start..]);
            }
        }
    }

    #[test]
    fn small_content_is_kept_in_one_exact_piece() {
        let pieces = vec![
            Bytes::from_static(b"ab"),
            Bytes::new(),
            Bytes::from_static(b"c"),
        ];
        assert_eq!(join(pieces), [Bytes::from_static(b"abc")]);
        let crumbs: Vec<Bytes> = vec![Bytes::from_static(b"x"); 100_000];
        let joined = join(crumbs);
        assert_eq!(joined.len(), 2);
        assert_eq!(joined.concat(), vec![b'x'; 100_000]);
    }

    #[test]
    fn a_cut_shares_what_it_takes_whole_and_copies_the_rest() {
        let body = StoredBody::new(vec![
            Bytes::from_static(b"abc"),
            Bytes::from_static(b"def"),
            Bytes::from_static(b"ghi"),
        ]);
        let whole = b"abcdefghi";
        for start in 0..=9 {
            for end in start..=9 {
                let range = u64::try_from(start).unwrap()..u64::try_from(end).unwrap();
                assert_eq!(body.cut(&range).concat(), whole[start..end], "{range:?}");
            }
        }
        let cut = body.cut(&(1..8));
        assert_eq!(cut[1].as_ptr(), body.pieces()[1].as_ptr());
        assert_ne!(cut[0].as_ptr(), body.pieces()[0][1..].as_ptr());
    }
}

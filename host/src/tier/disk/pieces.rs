//! Content in pieces: its checksums, and cutting it without copying a byte.

use bytes::Bytes;

use super::format::{CHUNK, chunks, long, short};

/// The checksum of each chunk of `pieces`.
pub(super) fn checksums(pieces: &[Bytes]) -> Vec<u32> {
    let length = pieces.iter().map(|piece| long(piece.len())).sum();
    let mut table = Vec::with_capacity(short(chunks(length)));
    let (mut hasher, mut filled) = (crc32fast::Hasher::new(), 0);
    for piece in pieces {
        let mut rest = piece.as_ref();
        while !rest.is_empty() {
            let now = rest.len().min(short(CHUNK) - filled);
            let (head, tail) = rest.split_at(now);
            hasher.update(head);
            (rest, filled) = (tail, filled + now);
            if filled == short(CHUNK) {
                table.push(std::mem::take(&mut hasher).finalize());
                filled = 0;
            }
        }
    }
    if filled > 0 {
        table.push(hasher.finalize());
    }
    table
}

/// BLAKE3 of `pieces`.
pub(super) fn digest(pieces: &[Bytes]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for piece in pieces {
        hasher.update(piece);
    }
    *hasher.finalize().as_bytes()
}

/// The first `length` bytes of `pieces`, and the rest. No byte is copied.
pub(super) fn split(pieces: &[Bytes], length: u64) -> (Vec<Bytes>, Vec<Bytes>) {
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    let mut left = short(length);
    for piece in pieces {
        let now = left.min(piece.len());
        left -= now;
        if now > 0 {
            first.push(piece.slice(..now));
        }
        if now < piece.len() {
            rest.push(piece.slice(now..));
        }
    }
    (first, rest)
}

/// `pieces` in lots of `bytes` each, but for the last.
pub(super) fn lots(pieces: &[Bytes], bytes: u64) -> Vec<Vec<Bytes>> {
    let mut lots = Vec::new();
    let mut rest = pieces.to_vec();
    while !rest.is_empty() {
        let (lot, left) = split(&rest, bytes);
        lots.push(lot);
        rest = left;
    }
    lots
}

//! Content on its way into a tier, copied once out of the network buffers.
//!
//! A piece that was read from a connection shares its allocation with whatever was read along with
//! it; kept for long it would hold more memory than it is charged for.

use bytes::{Bytes, BytesMut};

/// Bytes of a block, at most.
const BLOCK_BYTES: usize = 64 << 10;

/// Copies pieces into blocks of just the size that is needed.
#[derive(Debug)]
pub struct Intake {
    block: BytesMut,
    /// Bytes to come, if the length is known.
    left: Option<u64>,
}

impl Intake {
    /// For content of `length` bytes.
    pub fn new(length: Option<u64>) -> Self {
        Self {
            block: BytesMut::new(),
            left: length,
        }
    }

    /// Copies `piece`, and hands the copies to `take` in order.
    pub fn copy(&mut self, mut piece: &[u8], mut take: impl FnMut(Bytes)) {
        let Some(left) = &mut self.left else {
            return take(Bytes::copy_from_slice(piece));
        };
        while !piece.is_empty() {
            if self.block.capacity() == 0 {
                let wanted = usize::try_from(*left).unwrap_or(BLOCK_BYTES);
                self.block = BytesMut::with_capacity(wanted.clamp(1, BLOCK_BYTES));
            }
            let (now, later) = piece.split_at(piece.len().min(self.block.capacity()));
            self.block.extend_from_slice(now);
            take(self.block.split().freeze());
            *left = left.saturating_sub(u64::try_from(now.len()).unwrap_or(u64::MAX));
            piece = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_whatever_the_cuts() {
        let whole: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        for cut in [1_000, 16_384, 65_536, 100_000, 800_000] {
            for length in [None, Some(800_000), Some(10)] {
                let mut intake = Intake::new(length);
                let mut pieces = Vec::new();
                for piece in whole.chunks(cut) {
                    intake.copy(piece, |copy| pieces.push(copy));
                }
                assert_eq!(pieces.concat(), whole, "{cut} {length:?}");
            }
        }
    }
}

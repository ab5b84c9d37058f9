//! Content that shows every misplaced byte, made and checked at the speed of a copy.
//!
//! Byte `i` depends on `i` alone: blocks of a fixed pattern, each stamped with its own number.

const BLOCK: usize = 1 << 10;

/// The bytes from `start` on, as many as `out` holds.
pub(crate) fn fill(start: u64, out: &mut [u8]) {
    let mut at = start;
    let mut rest = out;
    while !rest.is_empty() {
        let block = block(at / to_u64(BLOCK));
        let within = usize::try_from(at % to_u64(BLOCK)).expect("below a block");
        let count = rest.len().min(BLOCK - within);
        let (now, later) = rest.split_at_mut(count);
        now.copy_from_slice(&block[within..within + count]);
        at += to_u64(count);
        rest = later;
    }
}

fn block(number: u64) -> [u8; BLOCK] {
    // Odd, so that the bytes of a block do not repeat at a power of two.
    const BASE: [u8; BLOCK] = {
        let mut base = [0; BLOCK];
        let mut state: u32 = 12_345;
        let mut i = 0;
        while i < BLOCK {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            base[i] = state.to_be_bytes()[0];
            i += 1;
        }
        base
    };
    let mut block = BASE;
    block[..8].copy_from_slice(&number.to_be_bytes());
    block
}

/// The first `length` bytes.
pub(crate) fn bytes(length: usize) -> Vec<u8> {
    let mut content = vec![0; length];
    fill(0, &mut content);
    content
}

/// Checks that `content` stands at `start`.
#[track_caller]
pub(crate) fn check(start: u64, content: &[u8]) {
    let mut expected = vec![0; content.len()];
    fill(start, &mut expected);
    if expected != content {
        let wrong = expected.iter().zip(content).position(|(a, b)| a != b);
        panic!(
            "wrong byte at {} of content",
            start + wrong.map_or(0, to_u64)
        );
    }
}

/// Widens a length.
pub(crate) fn to_u64(length: usize) -> u64 {
    u64::try_from(length).expect("lengths fit")
}

//! Any bytes as chunked content: the same however they are cut, and never more than arrived.
#![no_main]

use larder::front::h1::content::{Content, Part};
use libfuzzer_sys::fuzz_target;

/// The content and how many bytes were taken; none if it is malformed.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Option<(Vec<u8>, usize, bool)> {
    let mut content = Content::chunked();
    let (mut data, mut taken) = (Vec::new(), 0);
    for mut piece in pieces {
        loop {
            let before = piece.len();
            let part = content.take(&mut piece).ok()?;
            taken += before - piece.len();
            match part {
                Part::Data(part) => {
                    assert!(!part.is_empty());
                    data.extend_from_slice(part);
                }
                Part::More => break,
                Part::End => return Some((data, taken, true)),
            }
        }
        assert!(piece.is_empty());
    }
    Some((data, taken, false))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&step, stream)) = bytes.split_first() else {
        return;
    };
    let whole = decode(std::iter::once(stream));
    let cut = decode(stream.chunks(usize::from(step).max(1)));
    assert_eq!(whole, cut);
    if let Some((data, taken, _)) = whole {
        assert!(data.len() <= taken && taken <= stream.len());
    }
});

//! Parts of a response whose whole is not held (RFC 9111 3.3, 3.4).
//!
//! Whoever combines parts has made sure that they belong to the same representation, byte for
//! byte. `INVARIANT`: parts are in order of their place, none is empty, and between any two of
//! them bytes are missing; so whatever is held without a gap is held by one part.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::{Lifetime, StoredBody, bytes_count};

/// Parts of one response that are held, at most. Of more, the smallest are given up.
pub const PARTS_MAX: usize = 16;

/// A response of which parts are held. Once whole it would have status 200.
#[derive(Clone, Debug)]
pub struct PartialResponse {
    /// End-to-end fields of the whole response, without `Content-Range`, as they go to a client,
    /// without `Age` and `Cache-Status`.
    pub headers: HeaderMap,
    /// What is held of the content.
    pub parts: Parts,
    /// How long it may be used.
    pub lifetime: Lifetime,
    /// Which policy decided the lifetime: a name and version, or `native:rfc9111`.
    pub decided_by: Arc<str>,
}

/// Stretches of one content.
#[derive(Clone, Debug)]
pub struct Parts {
    parts: Vec<Part>,
    complete: Option<u64>,
}

#[derive(Clone, Debug)]
struct Part {
    start: u64,
    body: StoredBody,
}

impl Part {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.body.len())
    }
}

/// A stretch of content, by its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stretch {
    /// The first byte.
    pub start: u64,
    /// The byte after the last; none: the end of the content, wherever that is.
    pub end: Option<u64>,
}

impl Parts {
    /// One part, which begins at `start` of a content of `complete` bytes, if that is known. None
    /// if it is empty or goes beyond the content.
    pub fn new(start: u64, body: StoredBody, complete: Option<u64>) -> Option<Self> {
        let end = start.checked_add(body.len())?;
        let fits = !body.is_empty() && complete.is_none_or(|complete| end <= complete);
        let parts = vec![Part { start, body }];
        fits.then_some(Self { parts, complete })
    }

    /// These parts and `more`, which is of the same content. None if they contradict each other
    /// about its length. Where both hold a byte, the one held already stays.
    pub fn with(&self, more: &Self) -> Option<Self> {
        let complete = self.complete.or(more.complete);
        let agree = |known: Option<u64>| known.is_none() || known == complete;
        let end = self.end().max(more.end());
        if !agree(more.complete) || complete.is_some_and(|complete| end > complete) {
            return None;
        }
        let mut all = self.parts.clone();
        for part in &more.parts {
            all = combine(all, part);
        }
        Some(Self {
            parts: all,
            complete,
        })
    }

    /// Length of the whole content, if it is known.
    pub fn complete(&self) -> Option<u64> {
        self.complete
    }

    /// The first byte that is held.
    pub fn start(&self) -> u64 {
        self.parts.first().map_or(0, |part| part.start)
    }

    /// Bytes held.
    pub fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.body.len()).sum()
    }

    /// Whether no byte is held, which is never so.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The part that holds all of `range`, and where in it the range lies.
    pub fn find(&self, range: &Range<u64>) -> Option<(&StoredBody, Range<u64>)> {
        let part = self
            .parts
            .iter()
            .find(|part| part.start <= range.start && range.end <= part.end())?;
        Some((&part.body, range.start - part.start..range.end - part.start))
    }

    /// The content, if all of it is held.
    pub fn whole(&self) -> Option<&StoredBody> {
        self.complete
            .and_then(|complete| self.find(&(0..complete)))
            .map(|(body, _)| body)
    }

    /// What is missing, if that is one stretch.
    pub fn gap(&self) -> Option<Stretch> {
        let (first, last) = (self.parts.first()?, self.parts.last()?);
        let ends = self.complete == Some(last.end());
        match (self.parts.len(), first.start) {
            (1, 0) if !ends => Some(Stretch {
                start: last.end(),
                end: self.complete,
            }),
            (1, start) if ends && start > 0 => Some(Stretch {
                start: 0,
                end: Some(start),
            }),
            (2, 0) if ends => Some(Stretch {
                start: first.end(),
                end: Some(last.start),
            }),
            _ => None,
        }
    }

    /// The pieces that stand before `place`, and those after, if no part goes across it.
    pub fn around(&self, place: u64) -> (Vec<Bytes>, Vec<Bytes>) {
        let pieces = |after: bool| {
            let parts = self.parts.iter();
            let mine = parts.filter(|part| (part.start >= place) == after);
            mine.flat_map(|part| part.body.pieces().iter().cloned())
                .collect()
        };
        (pieces(false), pieces(true))
    }

    /// The same without all but the largest parts, so many that no more than [`PARTS_MAX`] are
    /// left; the one that holds `kept` stays.
    #[must_use]
    pub fn bounded(mut self, kept: u64) -> Self {
        while self.parts.len() > PARTS_MAX {
            let others = self.parts.iter().enumerate();
            let others = others.filter(|(_, part)| !(part.start..part.end()).contains(&kept));
            let smallest = others.min_by_key(|(_, part)| part.body.len());
            let Some((index, _)) = smallest else { break };
            self.parts.remove(index);
        }
        self.parts.shrink_to_fit();
        self
    }

    fn end(&self) -> u64 {
        self.parts.last().map_or(0, Part::end)
    }

    /// Bytes that the parts cost.
    pub(super) fn charge(&self) -> u64 {
        let list =
            bytes_count(self.parts.capacity()).saturating_mul(bytes_count(size_of::<Part>()));
        let bodies = self.parts.iter().map(|part| part.body.charge());
        bodies.fold(list, u64::saturating_add)
    }
}

/// Puts `new` among `parts`, joined with those that it overlaps or touches.
fn combine(parts: Vec<Part>, new: &Part) -> Vec<Part> {
    let (mut before, mut touching, mut after) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        if part.end() < new.start {
            before.push(part);
        } else if part.start > new.end() {
            after.push(part);
        } else {
            touching.push(part);
        }
    }
    let start = touching
        .first()
        .map_or(new.start, |part| part.start.min(new.start));
    let mut pieces = Vec::new();
    let mut at = new.start;
    let missing = |from: u64, to: u64| new.body.cut(&(from - new.start..to - new.start));
    for part in &touching {
        if part.start > at {
            pieces.extend(missing(at, part.start));
        }
        pieces.extend(part.body.pieces().iter().cloned());
        at = at.max(part.end());
    }
    if touching.is_empty() {
        before.push(new.clone());
    } else {
        if at < new.end() {
            pieces.extend(missing(at, new.end()));
        }
        let body = StoredBody::joined(pieces);
        before.push(Part { start, body });
    }
    before.extend(after);
    before
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Byte `i` of the content of these tests.
    fn byte(i: u64) -> u8 {
        u8::try_from(i * 7 % 251).unwrap()
    }

    fn body(range: &Range<u64>, piece: usize) -> StoredBody {
        let bytes: Vec<u8> = range.clone().map(byte).collect();
        StoredBody::new(bytes.chunks(piece).map(Bytes::copy_from_slice).collect())
    }

    fn one(range: Range<u64>, complete: Option<u64>) -> Parts {
        Parts::new(range.start, body(&range, 3), complete).unwrap()
    }

    fn read(body: &StoredBody, range: Range<u64>) -> Vec<u8> {
        body.cut(&range).concat()
    }

    #[test]
    fn a_part_lies_within_its_content_and_is_not_empty() {
        assert!(Parts::new(5, body(&(5..10), 9), Some(10)).is_some());
        assert!(Parts::new(5, body(&(5..11), 9), Some(10)).is_none());
        assert!(Parts::new(5, StoredBody::default(), Some(10)).is_none());
        assert!(Parts::new(u64::MAX, body(&(0..1), 9), None).is_none());
    }

    #[test]
    fn lengths_that_contradict_do_not_combine() {
        let combine = |one: &Parts, other: &Parts| one.with(other).is_some();
        assert!(combine(&one(0..5, Some(10)), &one(5..10, Some(10))));
        assert!(combine(&one(0..5, Some(10)), &one(5..10, None)));
        assert!(combine(&one(0..5, None), &one(5..10, Some(10))));
        assert!(!combine(&one(0..5, Some(10)), &one(5..10, Some(11))));
        assert!(!combine(&one(0..5, Some(6)), &one(5..10, None)));
        assert!(!combine(&one(5..10, None), &one(0..5, Some(6))));
    }

    #[test]
    fn a_single_gap_is_named() {
        let gap = |start, end| Some(Stretch { start, end });
        let of = |ranges: &[(u64, u64)], complete| {
            let mut parts = ranges
                .iter()
                .map(|(start, end)| one(*start..*end, complete));
            let first = parts.next().unwrap();
            parts
                .fold(first, |all, part| all.with(&part).unwrap())
                .gap()
        };
        assert_eq!(of(&[(0, 5)], Some(10)), gap(5, Some(10)));
        assert_eq!(of(&[(0, 5)], None), gap(5, None));
        assert_eq!(of(&[(5, 10)], Some(10)), gap(0, Some(5)));
        assert_eq!(of(&[(0, 2), (8, 10)], Some(10)), gap(2, Some(8)));
        assert_eq!(of(&[(0, 10)], Some(10)), None);
        assert_eq!(of(&[(2, 8)], Some(10)), None);
        assert_eq!(of(&[(5, 10)], None), None);
        assert_eq!(of(&[(0, 2), (4, 5), (8, 10)], Some(10)), None);
    }

    #[test]
    fn no_more_parts_are_held_than_the_bound() {
        let place = |i: u64| i * 10..i * 10 + 1 + i;
        let mut parts = one(place(0), None);
        for i in 1..100 {
            let more = one(place(i % 9), None).with(&one(place(i), None)).unwrap();
            parts = parts.with(&more).unwrap().bounded(place(i).start);
            assert!(parts.parts.len() <= PARTS_MAX);
            assert!(parts.find(&place(i)).is_some(), "the newest stays");
        }
    }

    #[test]
    fn what_is_cut_out_of_a_part_does_not_hold_the_part() {
        // Each newcomer adds one byte and would hold another thousand.
        let mut parts = one(0..1_000, None);
        for i in 1..500 {
            let range = i..1_000 + i;
            let new = Parts::new(i, body(&range, 1_000), None).unwrap();
            parts = parts.with(&new).unwrap();
        }
        let held: usize = parts.parts[0].body.pieces().iter().map(Bytes::len).sum();
        assert_eq!((held, parts.parts.len()), (1_499, 1));
        assert!(parts.charge() < 4_000);
    }

    proptest! {
        /// Against a map of bytes: what is held is what came, nothing else, and found wherever it
        /// is held without a gap.
        #[test]
        fn parts_are_a_map_of_bytes(
            arrivals in prop::collection::vec((0_u64..60, 1_u64..20, 1_usize..8), 1..14),
            length in prop::option::of(80_u64..90),
        ) {
            let mut model = [false; 90];
            let mut parts: Option<Parts> = None;
            for (start, len, piece) in arrivals {
                let range = start..start + len;
                let new = Parts::new(start, body(&range, piece), length).unwrap();
                parts = Some(match parts {
                    None => new,
                    Some(parts) => parts.with(&new).unwrap(),
                });
                let parts = parts.as_ref().unwrap();
                for at in range {
                    model[usize::try_from(at).unwrap()] = true;
                }
                let held = |range: &Range<u64>| {
                    range.clone().all(|at| model[usize::try_from(at).unwrap()])
                };
                for start in 0..80 {
                    for end in start + 1..=80 {
                        let range = start..end;
                        let found = parts.find(&range);
                        prop_assert_eq!(found.is_some(), held(&range), "{:?}", range);
                        if let Some((body, within)) = found {
                            let expected: Vec<u8> = range.map(byte).collect();
                            prop_assert_eq!(read(body, within), expected);
                        }
                    }
                }
                prop_assert_eq!(parts.len(), bytes_count(model.iter().filter(|held| **held).count()));
                prop_assert!(parts.parts.windows(2).all(|two| two[0].end() < two[1].start));
                if let Some(gap) = parts.gap() {
                    let (lead, tail) = parts.around(gap.start);
                    let lead = lead.concat();
                    let tail = tail.concat();
                    prop_assert_eq!(bytes_count(lead.len()), gap.start);
                    let after = gap.end.or(length).unwrap_or(parts.end());
                    let expected: Vec<u8> = (after..after + bytes_count(tail.len())).map(byte).collect();
                    prop_assert_eq!(tail, expected);
                }
            }
        }
    }
}

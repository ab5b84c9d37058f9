//! Packs events into words, as the host does; a native test harness needs it.

use super::{ARGUMENT_MAX, Insert, KIND_INSERT, KIND_REMOVE, KIND_SHIFT, SLOT_BITS};

/// Appends: a request was answered from `slot`.
pub(crate) fn hit(slot: u32, words: &mut Vec<u64>) {
    words.push(u64::from(slot));
}

/// Appends: an entry was put into a slot.
pub(crate) fn insert(insert: Insert, words: &mut Vec<u64>) {
    // All ones means "without end", so a finite lifetime stops one short of it.
    let argument =
        (insert.lifetime).map_or(ARGUMENT_MAX, |left| left.as_secs().min(ARGUMENT_MAX - 1));
    words.extend([
        u64::from(insert.slot) | argument << SLOT_BITS | KIND_INSERT << KIND_SHIFT,
        insert.hash,
        insert.size_bytes,
    ]);
}

/// Appends: the entry in `slot` left without being named.
pub(crate) fn remove(slot: u32, words: &mut Vec<u64>) {
    words.push(u64::from(slot) | KIND_REMOVE << KIND_SHIFT);
}

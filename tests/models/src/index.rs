//! The index of the disk tier: what is written, moved and reclaimed beside each other.

use super::format::RecordKind;
use super::index::{Hash, Hits, Hour, Index, Place};
use crate::check::{every, many};
use crate::scene::{join, spawn};
use crate::sync::Arc;

/// Keys of one shard, spread over its table.
fn hash(number: u64) -> Hash {
    Hash::of(number << 52)
}

fn place(segment: u32, unit: u32) -> Place {
    Place {
        segment,
        unit,
        units: 1,
        kind: RecordKind::Whole,
    }
}

fn lies(index: &Index, hash: Hash) -> Option<Place> {
    index.get(hash).map(|found| found.place)
}

/// Runs `work` beside others.
fn beside(
    index: &Arc<Index>,
    work: impl FnOnce(&Index) + Send + 'static,
) -> crate::sync::thread::JoinHandle<()> {
    let index = Arc::clone(index);
    spawn(move || work(&index))
}

/// What is moved, what is found to be of no use and what is in a segment that is reclaimed leaves
/// alone what was put there meanwhile; a move is found where it went, with the hits of before.
pub fn who_moves_or_forgets_means_what_it_saw() {
    let (old, moved, new) = (place(1, 1), place(2, 1), place(3, 1));
    let scene = move || {
        let index = Arc::new(Index::default());
        index.insert(hash(1), old, Hour::default());
        index.hit(hash(1));
        index
    };
    let relocate = move |index: &Index| {
        if index.replace(hash(1), old, moved, Hits::Kept) {
            let found = index.get(hash(1)).expect("nobody forgets it");
            assert!(found.place == new || (found.place, found.hits) == (moved, 1));
        }
    };
    every(move || {
        let index = scene();
        let put = move |index: &Index| index.insert(hash(1), new, Hour::default());
        join([beside(&index, relocate), beside(&index, put)]);
        assert_eq!(lies(&index, hash(1)), Some(new));
    });
    for reclaims in [false, true] {
        many(3_000, move || {
            let index = scene();
            let forget = move |index: &Index| {
                if reclaims {
                    assert!(index.sweep(|found| found.place.segment == old.segment) <= 1);
                } else {
                    index.remove_at(hash(1), old);
                }
            };
            let put = move |index: &Index| index.insert(hash(1), new, Hour::default());
            join([beside(&index, forget), beside(&index, put)]);
            assert_eq!(lies(&index, hash(1)), Some(new));
            assert_eq!(index.entries(), 1);
        });
    }
}

/// A table that grows, shrinks and closes its gaps loses nothing of what others put there or look
/// for, and the count is that of what is there.
pub fn what_is_there_is_found_whatever_its_table_does() {
    many(10_000, || {
        let index = Arc::new(Index::default());
        // As many as its first table holds.
        for number in 0..6 {
            index.insert(hash(number), place(1, 9), Hour::default());
        }
        let grows = beside(&index, |index| {
            for number in 6..9 {
                index.insert(hash(number), place(2, 9), Hour::default());
                assert_eq!(lies(index, hash(number)), Some(place(2, 9)));
            }
        });
        let shrinks = beside(&index, |index| {
            assert!(index.remove(hash(0)) && index.remove_at(hash(1), place(1, 9)));
            index.reserve(2_000);
            index.fit();
            assert_eq!(lies(index, hash(0)), None);
        });
        let looks = beside(&index, |index| {
            for hits in 1..3 {
                let found = index.hit(hash(2)).expect("nobody removes it");
                assert_eq!((found.place, found.hits), (place(1, 9), hits));
            }
        });
        join([grows, shrinks, looks]);
        let found = (0..9).filter(|number| lies(&index, hash(*number)).is_some());
        assert_eq!(found.count(), 7);
        assert_eq!(index.entries(), 7);
    });
}

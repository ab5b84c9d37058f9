//! Events arrive as they were packed, and words that are no event stop the batch.

use std::time::Duration;

use super::{Eviction, Ghosts, Index, Insert, Limits, Slots, Victims, apply, event};
use crate::Params;

/// Writes down what it is told.
#[derive(Debug, Default)]
struct Recorder(Vec<String>);

impl Eviction for Recorder {
    fn configure(_: &Params, _: Limits) -> Result<Self, String> {
        Ok(Self::default())
    }

    fn now(&mut self, unix_ms: u64) {
        self.0.push(format!("now {unix_ms}"));
    }

    fn hit(&mut self, slot: u32) {
        self.0.push(format!("hit {slot}"));
    }

    fn insert(&mut self, insert: Insert) {
        self.0.push(format!("{insert:?}"));
    }

    fn remove(&mut self, slot: u32) {
        self.0.push(format!("remove {slot}"));
    }

    fn victims(&mut self, _: &mut Victims) {}
}

fn told(words: &[u64]) -> Vec<String> {
    let mut recorder = Recorder::default();
    apply(&mut recorder, 5, words);
    recorder.0
}

#[test]
fn events_arrive_as_packed() {
    let longest = Duration::from_secs((1 << 30) - 2);
    let lifetimes = [
        None,
        Some(Duration::ZERO),
        Some(Duration::from_mins(1)),
        Some(longest),
    ];
    let mut words = Vec::new();
    let mut expected = vec!["now 5".to_owned()];
    for (slot, lifetime) in (u32::MAX - 3..=u32::MAX).zip(lifetimes) {
        let insert = Insert {
            slot,
            hash: u64::MAX,
            size_bytes: u64::MAX - 1,
            lifetime,
        };
        event::hit(slot, &mut words);
        event::insert(insert, &mut words);
        event::remove(slot, &mut words);
        expected.extend([
            format!("hit {slot}"),
            format!("{insert:?}"),
            format!("remove {slot}"),
        ]);
    }
    assert_eq!(words.len(), 4 * 5);
    assert_eq!(told(&words), expected);
}

#[test]
fn a_finite_lifetime_never_becomes_endless() {
    let mut words = Vec::new();
    let lifetime = Some(Duration::MAX);
    event::insert(
        Insert {
            slot: 1,
            hash: 2,
            size_bytes: 3,
            lifetime,
        },
        &mut words,
    );
    let insert = Insert {
        slot: 1,
        hash: 2,
        size_bytes: 3,
        lifetime: Some(Duration::from_secs((1 << 30) - 2)),
    };
    assert_eq!(told(&words), ["now 5".to_owned(), format!("{insert:?}")]);
}

#[test]
fn words_that_are_no_event_end_the_batch() {
    assert_eq!(told(&[]), ["now 5"]);
    assert_eq!(told(&[1, 3 << 62, 2]), ["now 5", "hit 1"]);
    assert_eq!(told(&[1, 1 << 62]), ["now 5", "hit 1"]);
    assert_eq!(told(&[1, 1 << 62, 7]), ["now 5", "hit 1"]);
}

#[test]
fn victims_count_down_what_is_missing() {
    let mut victims = Victims::new(10);
    victims.name(7, 4);
    assert_eq!(victims.missing_bytes(), 6);
    victims.name(8, 9);
    assert_eq!(victims.missing_bytes(), 0);
    assert_eq!(victims.into_slots(), [7, 8]);
}

#[test]
fn slots_grow_by_chunks_up_to_their_bound() {
    let mut slots = Slots::<u16, 8>::new(20, 7);
    assert_eq!(slots.get(0), None);
    *slots.get_or_grow(9).unwrap() = 1;
    assert_eq!(
        [0, 8, 9, 15, 16, 19].map(|slot| slots.get(slot).copied()),
        [Some(7), Some(7), Some(1), Some(7), None, None]
    );
    assert_eq!(slots.get_or_grow(19), Some(&mut 7));
    for outside in [20, u32::MAX] {
        assert_eq!(slots.get_or_grow(outside), None);
    }
    assert_eq!(slots.get_mut(u32::MAX), None);
    assert_eq!(slots.get(9), Some(&1));
}

#[test]
fn ghosts_are_remembered_while_the_table_grows_and_no_longer_than_asked() {
    const LENGTH: u32 = 10_000;
    let hash = |index: u32| {
        let bits = u64::from(index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bits = (bits ^ (bits >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32;
        u32::try_from(bits).unwrap()
    };
    let mut ghosts = Ghosts::new();
    for index in 0..3 * LENGTH {
        ghosts.insert(hash(index), LENGTH);
    }
    let mut remembered = |from: u32| {
        let range = from..from + LENGTH;
        range
            .filter(|index| ghosts.take(hash(*index), LENGTH))
            .count()
    };
    assert_eq!(remembered(0) + remembered(LENGTH), 0);
    let share = remembered(2 * LENGTH);
    assert!(share > 9_700, "only {share} of {LENGTH}");
    // What was taken is forgotten.
    assert_eq!(remembered(2 * LENGTH), 0);
}

#[test]
fn an_index_finds_what_was_entered_and_not_removed() {
    let mut index = Index::new();
    let hash = |id: u32| id.wrapping_mul(0x9e37_79b1);
    for id in 0..20_000 {
        assert!(index.insert(id, hash(id)));
    }
    for id in (0..20_000).step_by(3) {
        index.remove(id, hash(id));
        index.remove(id, hash(id));
    }
    for id in 0..20_000 {
        assert_eq!(index.find(hash(id)), (id % 3 != 0).then_some(id), "{id}");
    }
    // Who removed may enter anew under another hash.
    assert!(index.insert(0, 7));
    assert_eq!((index.find(7), index.find(hash(0))), (Some(0), None));
}

#[test]
fn an_index_takes_only_so_many_that_collide() {
    let mut index = Index::new();
    // Equal in the low bits, which choose the chain.
    let hash = |id: u32| id << 20;
    let taken = (0..1_000).filter(|id| index.insert(*id, hash(*id))).count();
    let found = (0..1_000)
        .filter(|id| index.find(hash(*id)) == Some(*id))
        .count();
    assert!(taken < 100, "{taken}");
    assert_eq!(found, taken);
}

#[test]
fn what_was_named_can_be_taken_back() {
    let mut victims = Victims::new(30);
    for slot in 0..4 {
        victims.name(slot, 10);
    }
    let mut asked = Vec::new();
    victims.retain(|slot| {
        asked.push(slot);
        slot != 1
    });
    assert_eq!(asked, [0, 1, 2, 3]);
    assert_eq!(victims.slots(), [0, 2, 3]);
    assert_eq!(victims.missing_bytes(), 0);
    assert_eq!(victims.into_slots(), [0, 2, 3]);
}

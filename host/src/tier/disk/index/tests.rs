//! The index against a map, and what it costs.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn place(number: u32) -> Place {
    Place {
        segment: number % (1 << 22),
        unit: 64 + number % 1_000,
        units: 1 + number % 5_000,
        kind: [RecordKind::Whole, RecordKind::Parent, RecordKind::Tombstone]
            [short(u64::from(number % 3))],
    }
}

/// Few shards and few tags, so that they crowd.
fn hash(number: u16) -> Hash {
    Hash::of(u64::from(number % 3) << 56 | u64::from(number / 3 % 700) << 46)
}

#[test]
fn slots_hold_what_they_are_given_up_to_their_bounds() {
    let bounds = Place {
        segment: (1 << 22) - 1,
        unit: (1 << 20) - 1,
        units: narrow_units(),
        kind: RecordKind::Parent,
    };
    for place in [bounds, place(0), place(1), place(2)] {
        assert_eq!(Place::unpack(place.pack()), place);
        assert_eq!(Place::unpack(place.pack() | HITS), place);
    }
}

fn narrow_units() -> u32 {
    u32::try_from(UNITS_MAX).unwrap()
}

#[test]
fn hours_end_when_they_are_over() {
    let at = Hour::EPOCH_MS + 5 * Hour::HOUR_MS + 1;
    let hour = Hour::ending(Some(at));
    assert!(!hour.is_over(at), "rounded up");
    assert!(hour.is_over(at + Hour::HOUR_MS));
    assert!(!Hour::ending(None).is_over(u64::MAX));
    assert!(
        !Hour::ending(Some(u64::MAX)).is_over(u64::MAX - 1),
        "too far to be told"
    );
    assert!(Hour::ending(Some(0)).is_over(at));
}

#[test]
fn hits_are_counted_up_to_three_and_forgotten_or_kept_by_moving() {
    let index = Index::default();
    index.insert(hash(1), place(1), Hour(7));
    for hits in [1, 2, 3, 3] {
        assert_eq!(index.hit(hash(1)).unwrap().hits, hits);
    }
    assert!(!index.replace(hash(1), place(2), place(3), Hits::Forgotten));
    assert!(index.replace(hash(1), place(1), place(5), Hits::Kept));
    let found = index.get(hash(1)).unwrap();
    assert_eq!((found.place, found.hits), (place(5), 3));
    assert!(index.replace(hash(1), place(5), place(4), Hits::Forgotten));
    let found = index.get(hash(1)).unwrap();
    assert_eq!(
        (found.place, found.hits, found.expires),
        (place(4), 0, Hour(7))
    );
    assert!(!index.remove_at(hash(1), place(1)));
    assert!(index.remove_at(hash(1), place(4)));
    assert_eq!(index.entries(), 0);
}

#[test]
fn an_entry_costs_at_most_24_bytes() {
    let index = Index::default();
    let mut random = 1_u64;
    let mut most: f64 = 0.0;
    for number in 0..1_000_000_u32 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        index.insert(Hash::of(random ^ random >> 29), place(number), Hour(0));
        if number >= 200_000 && number % 10_000 == 0 {
            let (bytes, entries) = (index.bytes(), index.entries());
            let each = f64::from(u32::try_from(bytes).unwrap())
                / f64::from(u32::try_from(entries).unwrap());
            most = most.max(each);
        }
    }
    assert!(most <= 24.0, "{most}");
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u16, u32),
    Remove(u16),
    RemoveAt(u16, u32),
    Sweep(u32),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<u16>(), any::<u32>()).prop_map(|(k, p)| Step::Insert(k, p)),
        3 => any::<u16>().prop_map(Step::Remove),
        2 => (any::<u16>(), any::<u32>()).prop_map(|(k, p)| Step::RemoveAt(k, p)),
        1 => (0..5_u32).prop_map(Step::Sweep),
    ]
}

proptest! {
    #[test]
    fn it_is_a_map(steps in prop::collection::vec(steps(), 1..2_000)) {
        let index = Index::default();
        let mut map: HashMap<Hash, Place> = HashMap::new();
        for step in steps {
            match step {
                Step::Insert(key, number) => {
                    index.insert(hash(key), place(number), Hour(0));
                    map.insert(hash(key), place(number));
                }
                Step::Remove(key) => {
                    prop_assert_eq!(index.remove(hash(key)), map.remove(&hash(key)).is_some());
                }
                Step::RemoveAt(key, number) => {
                    let there = map.get(&hash(key)) == Some(&place(number));
                    prop_assert_eq!(index.remove_at(hash(key), place(number)), there);
                    if there {
                        map.remove(&hash(key));
                    }
                }
                Step::Sweep(rest) => {
                    let before = map.len();
                    map.retain(|_, place| place.units % 5 != rest);
                    let dropped = index.sweep(|found| found.place.units % 5 == rest);
                    prop_assert_eq!(dropped, long(before - map.len()));
                }
            }
        }
        for key in 0..=2_100 {
            let found = index.get(hash(key)).map(|found| found.place);
            prop_assert_eq!(found, map.get(&hash(key)).copied());
        }
        prop_assert_eq!(index.entries(), long(map.len()));
    }
}

#[test]
fn room_that_was_reserved_is_enough_and_what_is_not_needed_is_given_back() {
    let spread = |number: u32| Hash::of(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let index = Index::default();
    index.reserve(100_000);
    let reserved = index.bytes();
    assert!(reserved / 100_000 < 24, "{reserved}");
    for number in 0..100_000 {
        index.insert(spread(number), place(number), Hour(1));
    }
    assert!(
        index.bytes() < reserved + reserved / 20,
        "hardly a shard grew"
    );
    index.fit();
    assert!(
        index.bytes() >= reserved,
        "nothing is given back that is used"
    );

    let index = Index::default();
    index.reserve(100_000);
    for number in 0..10_000 {
        index.insert(spread(number), place(number), Hour(1));
    }
    index.fit();
    assert!(index.bytes() / 10_000 < 24, "{}", index.bytes());
    let found = |number| index.get(spread(number)).map(|found| found.place);
    assert!((0..10_000).all(|number| found(number) == Some(place(number))));
}

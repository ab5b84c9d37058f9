//! The ranking against a plain list, and the parts by themselves.

mod traffic;

use std::collections::VecDeque;

use larder_guest::eviction::{Insert, Limits, Victims};
use larder_guest::testing::{Operation, Shard, victims_of};
use proptest::collection::vec;
use proptest::prelude::{any, proptest};
use proptest::{prop_assert, prop_assert_eq};

use super::Adaptive;
use super::memory::{Left, Memory, SPAN_MAX};
use super::objective::{Objective, Score};
use super::queues::Queues;
use super::ranking::{Key, Ranking};
use super::rule::{Unit, Worth};
use super::trial::{RULES, TRIED};
use super::wheel::{Fineness, Wheel};

const LIMITS: Limits = Limits {
    capacity_bytes: 2_000,
    max_entries: 80,
};

/// The same as a ranking, with a list of entries that is searched for the least.
struct Model {
    entries: Vec<(u32, Entry)>,
    memory: Memory,
    age: u64,
}

#[derive(Clone, Copy)]
struct Entry {
    key: Key,
    uses: u8,
    age: u64,
}

impl Model {
    fn hit(&mut self, slot: u32) {
        let age = self.age;
        for (_, entry) in self.entries.iter_mut().filter(|(known, _)| *known == slot) {
            entry.uses = entry.uses.saturating_add(1);
            entry.age = age;
        }
    }

    fn insert(&mut self, worth: Worth, slot: u32, key: Key) {
        let known = self.entries.iter_mut().find(|(known, _)| *known == slot);
        if let Some((_, known)) = known.filter(|(_, known)| known.key.hash == key.hash) {
            known.key = key;
            self.hit(slot);
            return;
        }
        self.remove(slot);
        let uses = self
            .memory
            .take(key.hash, worth.rule.span)
            .saturating_add(1);
        let age = self.age;
        self.entries.push((slot, Entry { key, uses, age }));
    }

    fn remove(&mut self, slot: u32) {
        self.entries.retain(|(known, _)| *known != slot);
    }

    /// Whether `slot` is one of those that are worth the least; it leaves.
    fn gives(&mut self, worth: Worth, slot: u32) -> bool {
        let due = |entry: &Entry| entry.age + worth.ticks(entry.uses, entry.key.size_bytes);
        let least = self.entries.iter().map(|(_, entry)| due(entry)).min();
        let Some((_, entry)) = self.entries.iter().find(|(known, _)| *known == slot) else {
            return false;
        };
        let entry = *entry;
        self.remove(slot);
        self.age = self.age.max(due(&entry));
        let left = Left {
            hash: entry.key.hash,
            uses: entry.uses,
            size_bytes: entry.key.size_bytes,
        };
        let residents = u32::try_from(self.entries.len()).unwrap();
        self.memory.keep(left, residents, LIMITS.capacity_bytes);
        least == Some(due(&entry))
    }
}

proptest! {
    #[test]
    fn names_an_entry_that_is_worth_the_least(
        draws in vec(any::<u64>(), 0..2_000),
        rule in 0..RULES,
    ) {
        let worth = Worth { rule: TRIED[rule], unit_bytes: 16.0 };
        let mut ranking = Ranking::new(LIMITS.max_entries, Fineness::Small);
        let mut model = Model { entries: Vec::new(), memory: Memory::new(), age: 0 };
        for operation in draws.into_iter().map(Operation::drawn) {
            match operation {
                Operation::Hit(slot) => {
                    ranking.hit(slot);
                    model.hit(slot);
                }
                Operation::Insert(insert) if insert.slot < LIMITS.max_entries => {
                    // A size of its own for each key: an entry that shrinks stays where it is.
                    let hash = insert.half_hash();
                    let key = Key { hash, size_bytes: 1 + hash % 97 };
                    ranking.insert(worth, insert.slot, key);
                    model.insert(worth, insert.slot, key);
                }
                Operation::Insert(_) => {}
                Operation::Remove(slot) => {
                    ranking.remove(slot);
                    model.remove(slot);
                }
                Operation::Victims(_) => {
                    // One byte: one victim, and nobody to spare.
                    let mut victims = Victims::new(1);
                    ranking.victims(worth, LIMITS.capacity_bytes, &mut victims);
                    let named = victims.into_slots();
                    prop_assert_eq!(named.len(), 1.min(model.entries.len()));
                    for slot in named {
                        prop_assert!(model.gives(worth, slot));
                    }
                }
            }
            let bytes: u64 = model.entries.iter().map(|(_, e)| u64::from(e.key.size_bytes)).sum();
            prop_assert_eq!(ranking.bytes(), bytes);
        }
    }

    #[test]
    fn a_wheel_brings_what_is_due_first(
        draws in vec(any::<u64>(), 0..2_000),
        is_fine in any::<bool>(),
    ) {
        let fineness = if is_fine { Fineness::Large } else { Fineness::Small };
        let mut wheel = Wheel::new(fineness, 5_000);
        // Tick and spot of each slot, by slot.
        let mut entered: Vec<Option<(u64, u32)>> = Vec::new();
        for draw in draws {
            let slot = u32::try_from(entered.len()).unwrap();
            match draw % 8 {
                0..4 => {
                    let tick = wheel.now().saturating_add(draw >> (8 + (draw >> 3) % 56));
                    entered.push(Some((tick, wheel.enter(slot, tick))));
                }
                4 if slot > 0 => {
                    let at = usize::try_from(draw >> 3).unwrap() % entered.len();
                    if let Some((_, spot)) = entered[at].take() {
                        wheel.leave(spot);
                    }
                }
                _ => {
                    let least = entered.iter().flatten().map(|(tick, _)| *tick).min();
                    prop_assert_eq!(due_first(&mut wheel, &mut entered), least);
                }
            }
        }
        let mut ticks: Vec<u64> = entered.iter().flatten().map(|(tick, _)| *tick).collect();
        ticks.sort_unstable();
        for tick in ticks {
            prop_assert_eq!(due_first(&mut wheel, &mut entered), Some(tick));
        }
        prop_assert_eq!(due_first(&mut wheel, &mut entered), None);
    }

    #[test]
    fn queues_keep_the_order_in_which_slots_came(draws in vec(any::<u32>(), 0..2_000)) {
        let mut queues = Queues::new(3);
        let mut models = [const { VecDeque::new() }; 3];
        for (slot, draw) in (0..).zip(draws) {
            let queue = u16::try_from(draw % 3).unwrap();
            let model: &mut VecDeque<(u32, u32)> = &mut models[usize::from(queue)];
            match draw / 3 % 4 {
                0..2 => {
                    let (spot, was_empty) = queues.push(queue, slot);
                    prop_assert_eq!(was_empty, model.is_empty());
                    model.push_back((slot, spot));
                }
                2 if !model.is_empty() => {
                    let at = usize::try_from(draw / 12).unwrap() % model.len();
                    let (_, spot) = model.remove(at).unwrap();
                    prop_assert_eq!(queues.remove(spot), Some(queue));
                }
                _ => {
                    let Some(front) = queues.front(queue) else {
                        prop_assert!(model.is_empty());
                        continue;
                    };
                    // One, or all of the chunk.
                    let taken = if draw & 1 << 20 == 0 { 1 } else { front.slots().len() };
                    for slot in front.slots().iter().take(taken).filter(|slot| **slot != u32::MAX) {
                        prop_assert_eq!(model.pop_front().map(|(slot, _)| slot), Some(*slot));
                    }
                    let is_empty = queues.take_front(queue, front.first + taken);
                    prop_assert_eq!(is_empty, model.is_empty());
                }
            }
            prop_assert_eq!(queues.is_empty(queue), models[usize::from(queue)].is_empty());
        }
    }

    #[test]
    fn survives_what_a_host_may_say(draws in vec(any::<u64>(), 0..500)) {
        let operations: Vec<_> = draws.into_iter().map(Operation::extreme).collect();
        for named in victims_of::<Adaptive>("{}", LIMITS, &operations) {
            prop_assert!(named.iter().all(|slot| *slot < LIMITS.max_entries));
        }
    }
}

/// Takes out a slot that is due first, and answers its tick.
fn due_first(wheel: &mut Wheel, entered: &mut [Option<(u64, u32)>]) -> Option<u64> {
    loop {
        let first = wheel.first()?;
        let front = wheel.front(first)?;
        let slot = front.slots()[0];
        wheel.take_front(first, front.first + 1);
        let place = &mut entered[usize::try_from(slot).unwrap()];
        let (tick, _) = place.unwrap();
        if first.is_exact {
            *place = None;
            assert_eq!(tick, wheel.now());
            return Some(tick);
        }
        *place = Some((tick, wheel.enter(slot, tick)));
    }
}

#[test]
fn a_ranking_of_many_names_the_same_with_a_finer_wheel() {
    let named = |finest: Fineness| {
        let mut ranking = Ranking::new(100_000, finest);
        let worth = Worth {
            rule: TRIED[3],
            unit_bytes: 16.0,
        };
        let state = &mut 7;
        let mut free = Vec::new();
        let mut named = Vec::new();
        for slot in 0..30_000 {
            let key = Key {
                hash: hash(slot),
                size_bytes: u32::try_from(1 + random(state, 300)).unwrap(),
            };
            ranking.insert(worth, free.pop().unwrap_or(slot), key);
            if ranking.len() > 6_000 {
                let mut victims = Victims::new(1_000);
                ranking.victims(worth, 1_000_000, &mut victims);
                free.extend(victims.slots());
                named.extend(victims.into_slots());
            }
        }
        named
    };
    let expected = named(Fineness::Small);
    assert!(expected.len() > 20_000);
    assert_eq!(named(Fineness::Large), expected);
}

#[test]
fn what_purges_leave_takes_little_memory() {
    let mut ranking = Ranking::new(100_000, Fineness::Large);
    let worth = Worth {
        rule: TRIED[0],
        unit_bytes: 16.0,
    };
    let mut free: Vec<u32> = Vec::new();
    let mut end = 0;
    // Of twelve that come eleven are purged soon, and their slots are used again.
    for _ in 0..1_500 {
        let mut came = Vec::new();
        for _ in 0..240 {
            let slot = free.pop().unwrap_or_else(|| {
                end += 1;
                end - 1
            });
            let key = Key {
                hash: hash(slot),
                size_bytes: 16,
            };
            ranking.insert(worth, slot, key);
            came.push(slot);
        }
        for (at, slot) in came.into_iter().enumerate() {
            if at % 12 > 0 {
                ranking.remove(slot);
                free.push(slot);
            }
        }
    }
    assert_eq!(ranking.len(), 30_000);
    let (chunks, queues) = ranking.chunks();
    assert!(
        chunks <= 30_000 / 4 + queues + 240,
        "{chunks} chunks, {queues} queues"
    );
    let mut victims = Victims::new(30_000 * 16);
    ranking.victims(worth, 1_000_000, &mut victims);
    assert_eq!(victims.slots().len(), 30_000, "nobody is lost");
}

#[test]
fn no_more_stay_than_leave() {
    let worth = Worth {
        rule: TRIED[0],
        unit_bytes: 16.0,
    };
    let mut ranking = Ranking::new(100, Fineness::Small);
    let mut enter = |slot, size_bytes| {
        let hash = hash(slot);
        ranking.insert(worth, slot, Key { hash, size_bytes });
    };
    for slot in 0..10 {
        enter(slot, 10);
    }
    enter(10, 1_000);
    // Ten of them are too few, and once the eleventh is named none of them is needed.
    let mut victims = Victims::new(200);
    ranking.victims(worth, 2_000, &mut victims);
    assert_eq!(victims.into_slots(), [5, 6, 7, 8, 9, 10]);
    assert_eq!(ranking.len(), 5);
}

/// Numbers below `below` that look random and are the same in every run.
fn random(state: &mut u64, below: u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

fn hash(index: u32) -> u32 {
    let insert = Insert {
        slot: 0,
        hash: u64::from(index)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
            .rotate_left(31),
        size_bytes: 0,
        lifetime: None,
    };
    insert.half_hash()
}

#[test]
fn keys_are_remembered_until_four_capacities_have_left() {
    const RESIDENTS: u32 = 1_000;
    let mut memory = Memory::new();
    for index in 0..20 * RESIDENTS {
        let left = Left {
            hash: hash(index),
            uses: 3,
            size_bytes: 10,
        };
        memory.keep(left, RESIDENTS, 10 * u64::from(RESIDENTS));
    }
    let mut remembered = |from: u32, span: u32| {
        let range = from * RESIDENTS..(from + 1) * RESIDENTS;
        range
            .filter(|index| memory.take(hash(*index), span) >= 3)
            .count()
    };
    // Strangers, and those that left too long ago, share 12 bits with one of fifteen now and then.
    assert!(remembered(100, SPAN_MAX) < 10);
    let mut of = |thousands: std::ops::Range<u32>, span| -> usize {
        thousands.map(|from| remembered(from, span)).sum()
    };
    assert!(of(0..15, SPAN_MAX) < 150);
    // With a memory of one capacity none of those that left before it is known.
    assert!(of(16..18, 1) < 20);
    let share = of(16..20, SPAN_MAX);
    assert!(share > 3_400, "only {share} of 4,000");
    // What was taken is forgotten.
    assert!(of(16..20, SPAN_MAX) < 40);
}

#[test]
fn the_unit_follows_the_mean_in_large_steps() {
    let mut unit = Unit::new();
    unit.newcomer(1_000);
    let first = unit.bytes();
    for _ in 0..100 {
        unit.newcomer(2_500);
    }
    assert_eq!((first, unit.bytes()), (1_024.0, 1_024.0));
    for _ in 0..20 {
        unit.newcomer(20_000);
    }
    assert!((unit.bytes() - 4_096.0).abs() < f64::EPSILON);
}

#[test]
fn the_objective_decides_which_rule_is_best() {
    // Requests and thousands of bytes.
    let score = |requests, thousands: f64| Score {
        requests,
        bytes: thousands * 1_000.0,
    };
    let yardstick = score(100.0, 100.0);
    let check = |objective: Objective, used, changed: &[(usize, Score)], expected| {
        let mut scores = [yardstick; RULES];
        for (rule, score) in changed {
            scores[*rule] = *score;
        }
        assert_eq!(
            objective.best(scores, used),
            expected,
            "{objective:?} {changed:?}"
        );
    };
    let costs_bytes = [(5, score(70.0, 110.0)), (2, score(95.0, 90.0))];
    check(Objective::Requests, 0, &costs_bytes, 5);
    check(Objective::Bytes, 0, &costs_bytes, 2);
    check(Objective::Balanced, 5, &costs_bytes, 2);
    let costs_none = [(5, score(70.0, 100.0)), (2, score(95.0, 90.0))];
    check(Objective::Balanced, 2, &costs_none, 5);
    check(Objective::Bytes, 5, &costs_none, 2);
    // A tenth of the bytes is worth as much as a fifth of the requests.
    for (bytes, best) in [(89.5, 5), (90.5, 2)] {
        let alike = [(5, score(70.0, bytes)), (2, score(90.0, 80.0))];
        check(Objective::Balanced, 0, &alike, best);
    }
    // Bytes beyond the yardstick's are worth several times as much, and a few of them are worth
    // many requests.
    for (used, requests, bytes, best) in [
        (0, 90.0, 100.5, 5),
        (0, 90.0, 101.2, 0),
        (5, 90.0, 101.2, 5),
        (0, 50.0, 104.6, 5),
        (0, 50.0, 104.8, 0),
        (5, 50.0, 106.0, 5),
        (5, 50.0, 106.2, 0),
        (0, 0.0, 109.6, 5),
        (0, 0.0, 109.8, 0),
        (5, 0.0, 111.0, 5),
        (5, 0.0, 111.2, 0),
    ] {
        let costs = [(5, score(requests, bytes))];
        check(Objective::Balanced, used, &costs, best);
    }
    // By less than the margin nothing changes.
    for (missed, of_one, of_both) in [(98.9, 4, 4), (99.1, 4, 3), (99.45, 4, 3), (99.55, 3, 3)] {
        let less = [(4, score(missed, missed))];
        check(Objective::Requests, 3, &less, of_one);
        check(Objective::Bytes, 3, &less, of_one);
        check(Objective::Balanced, 3, &less, of_both);
    }
}

#[test]
fn the_objective_is_one_of_three() {
    let check = |params, expected: Option<&str>| {
        let shard = Shard::<Adaptive>::new(params, LIMITS);
        assert_eq!(shard.err().as_deref(), expected);
    };
    for params in [
        "{}",
        r#"{"objective": "bytes"}"#,
        r#"{"objective": "requests"}"#,
    ] {
        check(params, None);
    }
    check(
        r#"{"objective": "hits"}"#,
        Some("parameter `objective`: expected requests, bytes or balanced, found \"hits\""),
    );
    check(
        r#"{"objectiv": "bytes"}"#,
        Some("unknown parameter `objectiv`; accepted: objective"),
    );
}

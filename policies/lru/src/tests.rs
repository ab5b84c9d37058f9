//! The policy names the same victims, in the same order, as a list that is kept the naive way.

use larder_guest::eviction::{Insert, Limits, Victims};
use larder_guest::testing::{Answer, Operation, Shard, victims_of};
use larder_guest::{Eviction, Params};
use proptest::collection::vec;
use proptest::prelude::{any, proptest};
use proptest::prop_assert;

use super::Lru;

/// Residents, least recently used first.
#[derive(Default)]
struct Model(Vec<(u32, u64)>);

impl Model {
    fn hit(&mut self, slot: u32) {
        if let Some(place) = self.0.iter().position(|(known, _)| *known == slot) {
            let entry = self.0.remove(place);
            self.0.push(entry);
        }
    }

    fn insert(&mut self, slot: u32, size_bytes: u64) {
        self.remove(slot);
        self.0.push((slot, size_bytes));
    }

    fn remove(&mut self, slot: u32) {
        self.0.retain(|(known, _)| *known != slot);
    }

    fn victims(&mut self, need_bytes: u64) -> Vec<u32> {
        let mut named = Vec::new();
        let mut bytes = 0;
        while bytes < need_bytes && !self.0.is_empty() {
            let (slot, size_bytes) = self.0.remove(0);
            named.push(slot);
            bytes += size_bytes;
        }
        named
    }
}

/// Numbers below `below` that look random and are the same in every run.
fn random(state: &mut u64, below: u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

fn insert(slot: u32, size_bytes: u64) -> Insert {
    Insert {
        slot,
        hash: u64::from(slot),
        size_bytes,
        lifetime: None,
    }
}

fn lru(max_entries: u32) -> Lru {
    let limits = Limits {
        capacity_bytes: 1 << 20,
        max_entries,
    };
    Lru::configure(&Params::default(), limits).unwrap()
}

fn victims(policy: &mut Lru, need_bytes: u64) -> Vec<u32> {
    let mut victims = Victims::new(need_bytes);
    policy.victims(&mut victims);
    victims.into_slots()
}

#[test]
fn names_the_same_victims_as_the_naive_list() {
    for seed in 0..50 {
        let state = &mut (seed + 1);
        // Slots in more than one chunk, and some beyond what the shard has.
        let slots = if seed % 2 == 0 { 40 } else { 9_000 };
        let (mut policy, mut model) = (lru(slots), Model::default());
        for step in 0..4_000 {
            let slot = u32::try_from(random(state, u64::from(slots))).unwrap();
            match random(state, 10) {
                0..=4 => {
                    policy.hit(slot);
                    model.hit(slot);
                }
                5..=7 => {
                    let size_bytes = random(state, 50);
                    policy.insert(insert(slot, size_bytes));
                    model.insert(slot, size_bytes);
                }
                8 => {
                    policy.remove(slot);
                    model.remove(slot);
                }
                _ => {
                    let need_bytes = random(state, 200);
                    let named = victims(&mut policy, need_bytes);
                    assert_eq!(named, model.victims(need_bytes), "seed {seed}, step {step}");
                }
            }
        }
        assert_eq!(
            victims(&mut policy, u64::MAX),
            model.victims(u64::MAX),
            "seed {seed}"
        );
    }
}

#[test]
fn unknown_slots_are_ignored() {
    let mut policy = lru(4);
    for slot in [0, 3, 4, 5_000, u32::MAX - 1, u32::MAX] {
        policy.hit(slot);
        policy.remove(slot);
    }
    for slot in [4, u32::MAX - 1, u32::MAX] {
        policy.insert(insert(slot, 1));
    }
    assert_eq!(victims(&mut policy, u64::MAX), [0_u32; 0]);
}

#[test]
fn a_shard_keeps_what_is_used() {
    let limits = Limits {
        capacity_bytes: 30,
        max_entries: 100,
    };
    let mut shard = Shard::<Lru>::new("{}", limits).unwrap();
    for key in [1, 2, 3, 1] {
        shard.request(key, 10);
    }
    assert_eq!(shard.request(4, 10), Answer::Miss { evicted: vec![2] });
    assert_eq!(
        shard.request(5, 20),
        Answer::Miss {
            evicted: vec![3, 1]
        }
    );
    assert_eq!(shard.shortfalls(), 0);
}

#[test]
fn takes_no_parameters() {
    let limits = Limits {
        capacity_bytes: 1,
        max_entries: 1,
    };
    let error = Shard::<Lru>::new(r#"{"small": 10}"#, limits).unwrap_err();
    assert_eq!(error, "unknown parameter `small`; this policy takes none");
}

proptest! {
    #[test]
    fn survives_what_a_host_may_say(draws in vec(any::<u64>(), 0..500)) {
        let limits = Limits {
            capacity_bytes: 2_000,
            max_entries: 80,
        };
        let operations: Vec<_> = draws.into_iter().map(Operation::extreme).collect();
        for named in victims_of::<Lru>("{}", limits, &operations) {
            prop_assert!(named.iter().all(|slot| *slot < limits.max_entries));
        }
    }
}

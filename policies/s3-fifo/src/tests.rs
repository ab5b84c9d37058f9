//! The policy names the same victims, in the same order, as the algorithm written plainly.

use std::collections::VecDeque;

use larder_guest::eviction::{Insert, Limits, Victims};
use larder_guest::testing::{Answer, Operation, Shard, victims_of};
use larder_guest::{Eviction, Params};
use proptest::collection::vec;
use proptest::prelude::{any, proptest};
use proptest::prop_assert;

use super::S3Fifo;

/// S3-FIFO with two queues of entries and a list of all that ever became ghosts.
struct Model {
    small: VecDeque<Entry>,
    main: VecDeque<Entry>,
    ghosts: Vec<Option<u64>>,
    percent: u64,
    capacity_bytes: u64,
}

#[derive(Clone, Copy)]
struct Entry {
    slot: u32,
    hash: u64,
    size_bytes: u64,
    hits: u8,
}

fn bytes(queue: &VecDeque<Entry>) -> u64 {
    queue.iter().map(|entry| entry.size_bytes).sum()
}

impl Model {
    fn find(&mut self, slot: u32) -> Option<&mut Entry> {
        self.small
            .iter_mut()
            .chain(&mut self.main)
            .find(|entry| entry.slot == slot)
    }

    fn hit(&mut self, slot: u32) {
        if let Some(entry) = self.find(slot) {
            entry.hits = (entry.hits + 1).min(3);
        }
    }

    fn remove(&mut self, slot: u32) {
        self.small.retain(|entry| entry.slot != slot);
        self.main.retain(|entry| entry.slot != slot);
    }

    /// The ghosts that still count: the last as many as the main queue has with its share.
    fn remembered(&mut self) -> &mut [Option<u64>] {
        let residents = self.small.len() + self.main.len();
        let length = residents * (100 - usize::try_from(self.percent).unwrap()) / 100;
        let forgotten = self.ghosts.len().saturating_sub(length);
        &mut self.ghosts[forgotten..]
    }

    fn insert(&mut self, insert: Insert) {
        let Insert {
            slot,
            hash,
            size_bytes,
            ..
        } = insert;
        if let Some(entry) = self.find(slot).filter(|entry| entry.hash == hash) {
            entry.size_bytes = size_bytes;
            self.hit(slot);
            return;
        }
        self.remove(slot);
        let mut was_ghost = false;
        for ghost in self.remembered() {
            if *ghost == Some(hash) {
                *ghost = None;
                was_ghost = true;
            }
        }
        let is_large = size_bytes > self.capacity_bytes * self.percent / 100;
        let queue = if was_ghost || is_large {
            &mut self.main
        } else {
            &mut self.small
        };
        queue.push_back(Entry {
            slot,
            hash,
            size_bytes,
            hits: 0,
        });
    }

    fn victims(&mut self, need_bytes: u64) -> Vec<u32> {
        let (mut named, mut named_bytes) = (Vec::new(), 0);
        while named_bytes < need_bytes && self.small.len() + self.main.len() > 0 {
            let small = bytes(&self.small);
            let is_over = small * 100 >= self.percent * (small + bytes(&self.main));
            let from_small = !self.small.is_empty() && (self.main.is_empty() || is_over);
            let queue = if from_small {
                &mut self.small
            } else {
                &mut self.main
            };
            let mut entry = queue.pop_front().unwrap();
            if entry.hits >= if from_small { 2 } else { 1 } {
                entry.hits = if from_small { 0 } else { entry.hits - 1 };
                self.main.push_back(entry);
                continue;
            }
            if from_small {
                self.ghosts.push(Some(entry.hash));
            }
            named.push(entry.slot);
            named_bytes += entry.size_bytes;
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

fn s3_fifo(params: &str, limits: Limits) -> S3Fifo {
    S3Fifo::configure(&Params::parse(params).unwrap(), limits).unwrap()
}

fn victims(policy: &mut S3Fifo, need_bytes: u64) -> Vec<u32> {
    let mut victims = Victims::new(need_bytes);
    policy.victims(&mut victims);
    victims.into_slots()
}

fn check_against_the_model(seed: u64, percent: u64) {
    let limits = Limits {
        capacity_bytes: 2_000,
        max_entries: 300,
    };
    let mut policy = s3_fifo(&format!("{{\"small\": {percent}}}"), limits);
    let mut model = Model {
        small: VecDeque::new(),
        main: VecDeque::new(),
        ghosts: Vec::new(),
        percent,
        capacity_bytes: limits.capacity_bytes,
    };
    let state = &mut (seed + 1);
    for step in 0..6_000 {
        let slot = u32::try_from(random(state, 300)).unwrap();
        match random(state, 20) {
            0..=9 => {
                policy.hit(slot);
                model.hit(slot);
            }
            10..=15 => {
                // Few keys, so that ghosts return; some entries too large for the small queue.
                let hash = random(state, 700)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .rotate_left(29);
                let size_bytes = if random(state, 10) == 0 {
                    500
                } else {
                    1 + random(state, 20)
                };
                let insert = Insert {
                    slot,
                    hash,
                    size_bytes,
                    lifetime: None,
                };
                policy.insert(insert);
                model.insert(insert);
            }
            16 => {
                policy.remove(slot);
                model.remove(slot);
            }
            _ => {
                let need_bytes = random(state, 120);
                let named = victims(&mut policy, need_bytes);
                let expected = model.victims(need_bytes);
                assert_eq!(named, expected, "small {percent}, seed {seed}, step {step}");
            }
        }
    }
    assert_eq!(victims(&mut policy, u64::MAX), model.victims(u64::MAX));
}

#[test]
fn names_the_same_victims_as_the_plain_algorithm() {
    for seed in 0..12 {
        for percent in [1, 10, 40, 99] {
            check_against_the_model(seed, percent);
        }
    }
}

#[test]
fn removals_from_the_middle_leave_the_order() {
    let limits = Limits {
        capacity_bytes: 1 << 30,
        max_entries: 20_000,
    };
    let mut policy = s3_fifo("{}", limits);
    let mut expected = VecDeque::new();
    let state = &mut 1;
    for step in 0..40_000_u32 {
        // Long-lived entries, one in a hundred, hold the oldest end while others come and go.
        let stays = step % 100 == 0;
        let slot = if stays {
            step / 100
        } else {
            5_000 + u32::try_from(random(state, 300)).unwrap()
        };
        if !stays {
            policy.remove(slot);
        }
        policy.insert(Insert {
            slot,
            hash: u64::from(step),
            size_bytes: 1,
            lifetime: None,
        });
        expected.retain(|known| *known != slot || stays);
        expected.push_back(slot);
        if step % 2_000 == 0 {
            let named = victims(&mut policy, 10);
            assert_eq!(
                named,
                expected.drain(..named.len()).collect::<Vec<_>>(),
                "step {step}"
            );
        }
    }
    assert_eq!(expected, victims(&mut policy, u64::MAX));
}

#[test]
fn unknown_slots_are_ignored() {
    let limits = Limits {
        capacity_bytes: 100,
        max_entries: 4,
    };
    let mut policy = s3_fifo("{}", limits);
    for slot in [0, 3, 4, 70_000, u32::MAX - 1, u32::MAX] {
        policy.hit(slot);
        policy.remove(slot);
    }
    for slot in [4, u32::MAX - 1, u32::MAX] {
        policy.insert(Insert {
            slot,
            hash: 1,
            size_bytes: 1,
            lifetime: None,
        });
    }
    assert_eq!(victims(&mut policy, u64::MAX), [0_u32; 0]);
}

#[test]
fn a_scan_does_not_flush_what_is_used() {
    let limits = Limits {
        capacity_bytes: 1_000,
        max_entries: 2_000,
    };
    let mut shard = Shard::<S3Fifo>::new("{}", limits).unwrap().with_lots(16);
    for _ in 0..4 {
        for key in 0..500 {
            shard.request(key, 1);
        }
    }
    for key in 10_000..30_000 {
        shard.request(key, 1);
    }
    let kept = (0..500).filter(|key| shard.contains(*key)).count();
    assert_eq!((kept, shard.shortfalls()), (500, 0));
    assert!(shard.bytes() <= limits.capacity_bytes);
}

#[test]
fn who_returns_while_remembered_outlives_newcomers() {
    let limits = Limits {
        capacity_bytes: 20,
        max_entries: 100,
    };
    let mut shard = Shard::<S3Fifo>::new("{}", limits).unwrap();
    for key in 0..21 {
        shard.request(key, 1);
    }
    // Key 0 went first, is remembered, and so enters the main queue.
    assert_eq!(shard.request(0, 1), Answer::Miss { evicted: vec![1] });
    for key in 100..130 {
        shard.request(key, 1);
    }
    assert!(shard.contains(0) && !shard.contains(20));
}

#[test]
fn one_call_moves_a_bounded_number_of_entries() {
    let limits = Limits {
        capacity_bytes: 1 << 20,
        max_entries: 200_000,
    };
    let mut policy = s3_fifo("{}", limits);
    for slot in 0..100_000 {
        policy.insert(Insert {
            slot,
            hash: u64::from(slot),
            size_bytes: 1,
            lifetime: None,
        });
        for _ in 0..3 {
            policy.hit(slot);
        }
    }
    // Without the bound this would first promote all that was hit, and find nobody.
    assert_eq!(victims(&mut policy, 1), [super::MOVES_MAX]);
}

#[test]
fn the_share_of_the_small_queue_is_a_percentage() {
    let limits = Limits {
        capacity_bytes: 100,
        max_entries: 10,
    };
    let check = |params, expected| {
        assert_eq!(
            Shard::<S3Fifo>::new(params, limits).err().as_deref(),
            expected
        );
    };
    check(r#"{"small": 1}"#, None);
    check(r#"{"small": 99}"#, None);
    let out_of_range = "parameter `small`: expected a percentage from 1 to 99";
    check(r#"{"small": 0}"#, Some(out_of_range));
    check(r#"{"small": 100}"#, Some(out_of_range));
    check(
        r#"{"small": "10"}"#,
        Some("parameter `small`: expected a whole number, found \"10\""),
    );
    check(
        r#"{"smal": 10}"#,
        Some("unknown parameter `smal`; accepted: small"),
    );
}

proptest! {
    #[test]
    fn survives_what_a_host_may_say(draws in vec(any::<u64>(), 0..500)) {
        let limits = Limits {
            capacity_bytes: 2_000,
            max_entries: 80,
        };
        let operations: Vec<_> = draws.into_iter().map(Operation::extreme).collect();
        for named in victims_of::<S3Fifo>("{}", limits, &operations) {
            prop_assert!(named.iter().all(|slot| *slot < limits.max_entries));
        }
    }
}

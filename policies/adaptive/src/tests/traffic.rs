//! The whole, and the choice of a rule, on made-up traffic.

use larder_guest::eviction::Limits;
use larder_guest::testing::{Answer, Shard};

use super::{hash, random};
use crate::Adaptive;
use crate::objective::Objective;
use crate::ranking::Key;
use crate::rule::BySize;
use crate::trial::{self, Trial};

#[test]
fn what_is_asked_for_once_does_not_push_out_what_is_used() {
    let limits = Limits {
        capacity_bytes: 1_000,
        max_entries: 100_000,
    };
    let mut shard = Shard::<Adaptive>::new("{}", limits).unwrap().with_lots(16);
    let state = &mut 7;
    let mut hits = 0;
    for request in 0..80_000 {
        // One request in four is for one of 900 keys, which LRU would have lost by then.
        let is_used = request % 4 == 0;
        let key = if is_used {
            random(state, 900)
        } else {
            1_000 + request
        };
        let answer = shard.request(key, 1);
        hits += u32::from(is_used && request >= 40_000 && answer == Answer::Hit);
    }
    assert!(hits > 9_000, "{hits} of 10,000");
    assert_eq!(shard.shortfalls(), 0);
    assert!(shard.bytes() <= limits.capacity_bytes);
}

#[test]
fn the_objective_trades_requests_for_bytes() {
    let missed = |objective: &str| {
        let limits = Limits {
            capacity_bytes: 100_000,
            max_entries: 100_000,
        };
        let params = format!("{{\"objective\": \"{objective}\"}}");
        let mut shard = Shard::<Adaptive>::new(&params, limits)
            .unwrap()
            .with_lots(500);
        let state = &mut 7;
        let (mut requests, mut bytes) = (0_u64, 0_u64);
        for request in 0..100_000 {
            // Three times as many requests for each of 80 large objects as for each of 4,000 small
            // ones.
            let (key, size_bytes) = match random(state, 4_240) {
                draw @ 0..240 => (draw / 3, 2_000),
                key => (key, 40),
            };
            if shard.request(key, size_bytes) != Answer::Hit && request > 50_000 {
                requests += 1;
                bytes += size_bytes;
            }
        }
        (requests, bytes)
    };
    let (by_requests, by_bytes) = (missed("requests"), missed("bytes"));
    assert!(
        by_requests.0 * 10 < by_bytes.0 * 9,
        "{by_requests:?} {by_bytes:?}"
    );
    assert!(
        by_bytes.1 * 10 < by_requests.1 * 9,
        "{by_requests:?} {by_bytes:?}"
    );
}

#[test]
fn other_samples_of_the_same_traffic_choose_alike() {
    let chosen = |objective, seed: u32| {
        let mut trial = Trial::new(objective, 60_000);
        let shard = trial::Shard {
            residents: 20_000,
            capacity_bytes: 2_000_000,
            full_bytes: Some(2_000_000),
            unit_bytes: 128.0,
        };
        let state = &mut 7;
        for _ in 0..150_000 {
            // Three times as many requests for each of 1,600 large objects as for each of 80,000
            // small ones.
            let (key, size_bytes) = match u32::try_from(random(state, 84_800)).unwrap() {
                draw @ 0..4_800 => (draw / 3, 2_000),
                key => (key, 40),
            };
            // Other hashes of the keys are another sample.
            let key = Key {
                hash: hash(key + 100_000 * seed),
                size_bytes,
            };
            trial.request(key, shard);
        }
        assert!(
            trial.numbers() <= 60_000 / 21 * 3 / 2,
            "{}",
            trial.numbers()
        );
        trial.rule().by_size
    };
    for seed in 0..8 {
        assert_eq!(chosen(Objective::Requests, seed), BySize::Fully, "{seed}");
        assert_eq!(chosen(Objective::Bytes, seed), BySize::Not, "{seed}");
    }
}

#[test]
fn shadows_that_miss_much_have_a_smaller_sample() {
    let halvings = |residents, keys, full_bytes| {
        let mut trial = Trial::new(Objective::Balanced, 60_000);
        let shard = trial::Shard {
            residents,
            capacity_bytes: residents.into(),
            full_bytes,
            unit_bytes: 1.0,
        };
        let state = &mut 7;
        for _ in 0..100_000 {
            let key = u32::try_from(random(state, keys)).unwrap();
            let hash = hash(key);
            let size_bytes = 1;
            trial.request(Key { hash, size_bytes }, shard);
        }
        trial.halvings()
    };
    // All six miss nearly always, or some of a hundred requests: 37, 29, 17, 9.
    assert_eq!(halvings(500, 1_000_000, Some(500)), 3);
    assert_eq!(halvings(500, 800, Some(500)), 1);
    assert_eq!(halvings(500, 700, Some(500)), 1);
    assert_eq!(halvings(500, 600, Some(500)), 0);
    assert_eq!(halvings(500, 550, Some(500)), 0);
    // What the sample stands for: 16 entries at least.
    assert_eq!(halvings(64, 1_000_000, Some(64)), 2);
    assert_eq!(halvings(63, 1_000_000, Some(63)), 1);
    assert_eq!(halvings(31, 1_000_000, Some(31)), 0);
    // Who fills misses all.
    assert_eq!(halvings(500, 1_000_000, None), 0);
}

#[test]
fn what_is_missed_while_the_shard_fills_does_not_halve_the_sample() {
    let halvings = |keys| {
        let limits = Limits {
            capacity_bytes: 600,
            max_entries: 100_000,
        };
        let mut shard = Shard::<Adaptive>::new("{}", limits).unwrap();
        let state = &mut 7;
        for request in 0..60_000 {
            // One request in twenty is for a key that never comes again.
            let is_new = request % 20 == 0;
            let key = if is_new {
                1_000_000 + request
            } else {
                random(state, keys)
            };
            shard.request(key, 1);
        }
        shard.policy().trial.halvings()
    };
    assert_eq!(halvings(420), 0);
    assert_eq!(halvings(1_000_000), 3);
}

#[test]
fn a_large_newcomer_worth_less_is_refused_and_nobody_else_leaves() {
    let limits = Limits {
        capacity_bytes: 1_000,
        max_entries: 1_000,
    };
    let params = r#"{"objective": "requests"}"#;
    let mut shard = Shard::<Adaptive>::new(params, limits).unwrap();
    for key in 0..100 {
        shard.request(key, 10);
        shard.request(key, 10);
    }
    assert_eq!(shard.request(200, 500), Answer::Miss { evicted: vec![200] });
}

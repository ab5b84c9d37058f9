//! What a fetch pays to wait for its turn, and a key to be remembered, does not depend on how many
//! there are.
//!
//! Lots with few known and lots with very many take turns on one machine, and the fastest of each
//! count. Whoever looks through all there is takes a thousand times as long; memory that is not in
//! the processor's caches, some times.

use std::time::Duration;

use super::*;
use crate::cache::outcomes::{KEYS_MAX, Outcomes, Place as Remembered};
use crate::clock::{Moment, instant};
use crate::entry::{CacheKey, KeyHasher};

/// Very many.
const MANY: usize = 1_000_000;
/// What is timed at once.
const LOT: usize = 100;
const LOTS: u64 = 20;
/// How many times as long it may take with very many.
const ALLOWED: u32 = 8;

#[track_caller]
fn assert_alike(what: &str, mut lot: impl FnMut(bool, u64) -> Duration) {
    let (mut few, mut many) = (Duration::MAX, Duration::MAX);
    for number in 0..LOTS {
        few = few.min(lot(false, number));
        many = many.min(lot(true, number));
    }
    assert!(
        many <= few * ALLOWED,
        "{what} {LOT} times takes {few:?} with few and {many:?} with {MANY}"
    );
}

/// A crowd behind the one place there is: `count` fetches of as many origins as are needed.
fn crowd(count: usize) -> (Hydration, Place) {
    let hydration = Hydration::new(1);
    let origin = |number: usize| SiteId(u64::try_from(number / WAITING_MAX).unwrap());
    let place = {
        let mut state = lock(&hydration.state);
        state.start(origin(0), Priority::Interactive);
        for number in 0..count {
            let priority = Priority::ALL[number % 2];
            assert!(state.queue(origin(number), priority).is_some());
        }
        hydration.place(origin(0), Priority::Interactive)
    };
    (hydration, place)
}

#[test]
fn to_wait_for_a_turn_and_to_leave_cost_the_same_behind_a_million() {
    let (few, _first) = crowd(1);
    let (many, _second) = crowd(MANY);
    assert_eq!(many.counts(), (1, MANY));
    let mut cx = std::task::Context::from_waker(Waker::noop());
    assert_alike("to wait for a turn and to leave", |with_many, number| {
        let hydration = if with_many { &many } else { &few };
        // Each lot has an origin of its own. In the crowd some thousands wait for that already.
        let origin = SiteId(number + 1);
        let mut fetches: Vec<_> = (0..LOT)
            .map(|_| Box::pin(hydration.enter(origin, Priority::Interactive)))
            .collect();
        let began = instant();
        for fetch in &mut fetches {
            assert!(fetch.as_mut().poll(&mut cx).is_pending());
        }
        drop(fetches);
        began.elapsed()
    });
    assert_eq!(many.counts(), (1, MANY));
}

#[test]
fn to_remember_and_to_recall_cost_the_same_after_a_million() {
    let hasher = KeyHasher::default();
    let key = |number: usize| -> CacheKey { hasher.key(&number.to_le_bytes()).to_key() };
    let site = SiteId(1);
    let until = Moment::from_millis(10_000);
    let (few, many) = (Outcomes::default(), Outcomes::default());
    for number in 0..MANY {
        many.not_shared(Remembered::new(&key(number), false), site, &[], until);
    }
    assert!(many.len() > KEYS_MAX / 2, "{}", many.len());
    let mut next = MANY;
    assert_alike("to remember and to recall a key", |with_many, _| {
        let outcomes = if with_many { &many } else { &few };
        let keys: Vec<CacheKey> = (next..next + LOT).map(key).collect();
        next += LOT;
        let began = instant();
        for key in &keys {
            let place = Remembered::new(key, false);
            let now = Moment::from_millis(1);
            outcomes.failed(place, (site, &[]), None, now, 0);
            assert!(outcomes.recall(place, now).failing.is_some());
        }
        let took = began.elapsed();
        if !with_many {
            for key in &keys {
                outcomes.forget(key);
            }
        }
        took
    });
    assert!(few.is_empty());
}

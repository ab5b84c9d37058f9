//! Measures one cache under one load.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::caches::Cache;
use crate::load::{Arrivals, Load};

/// Threads that ask.
const THREADS: usize = 2;
/// Of so many lookups one is timed, in a run of its own.
const TIMED: usize = 16;

/// What came of it.
pub struct Figures {
    /// The cache.
    pub name: String,
    /// Requests of all threads a second.
    pub per_second: f64,
    /// Hits among requests.
    pub hit_ratio: f64,
    /// What 99.9 % of the hits take at most, while others evict.
    pub slow_hit: Duration,
    /// What the slowest of those timed took.
    pub slowest_hit: Duration,
    /// What else the cache says.
    pub beside: String,
}

impl Figures {
    /// Keeps the better of two turns.
    pub fn better(&mut self, other: Self) {
        let slow_hit = self.slow_hit.min(other.slow_hit);
        let slowest_hit = self.slowest_hit.min(other.slowest_hit);
        if other.per_second > self.per_second {
            *self = other;
        }
        self.slow_hit = slow_hit;
        self.slowest_hit = slowest_hit;
    }
}

/// Measures caches made by `make` under `load`: one for its throughput, one for its hits.
pub fn measure<C: Cache>(load: &Load, make: &dyn Fn() -> C) -> Figures {
    let cache = make();
    let (time, hits) = replay(&cache, load, |cache, arrivals| {
        let mut hits = 0_u64;
        while let Some(keys) = arrivals.take() {
            hits += keys
                .iter()
                .map(|key| u64::from(ask(cache, *key)))
                .sum::<u64>();
        }
        hits
    });
    let asked = load.asked.len();
    let (name, held) = (cache.name(), cache.len());
    // One of them holds one more than it was given, and some keep a part free.
    let room = load.room - load.room / 10..=load.room + load.room / 100;
    assert!(room.contains(&held), "{name} holds {held} of {}", load.room);
    let mut figures = Figures {
        name: cache.name(),
        per_second: asked as f64 / time.as_secs_f64(),
        hit_ratio: hits.iter().sum::<u64>() as f64 / asked as f64,
        slow_hit: Duration::ZERO,
        slowest_hit: Duration::ZERO,
        beside: cache.beside(),
    };
    drop(cache);
    let (_, times) = replay(&make(), load, |cache, arrivals| {
        let mut times = Vec::with_capacity(asked / TIMED);
        while let Some(keys) = arrivals.take() {
            for (at, key) in keys.iter().enumerate() {
                // Read before the clock is.
                let key = black_box(*key);
                let start = (at % TIMED == 0).then(Instant::now);
                let found = cache.get(key);
                if let Some(start) = start.filter(|_| found) {
                    times.push(start.elapsed());
                }
                if !found {
                    cache.put(key);
                }
            }
        }
        times
    });
    let mut times: Vec<Duration> = times.into_iter().flatten().collect();
    times.sort_unstable();
    let at = times.len() - 1 - times.len() / 1000;
    figures.slow_hit = times[at];
    figures.slowest_hit = times[times.len() - 1];
    figures
}

/// Asks for a key, and stores what is not there. Whether it was.
fn ask<C: Cache>(cache: &C, key: u64) -> bool {
    let found = cache.get(key);
    if !found {
        cache.put(key);
    }
    found
}

/// Runs `replay` on each of the threads, after they have warmed up together. Answers the time until
/// the last is done, and what each made of it.
fn replay<C: Cache, R: Send>(
    cache: &C,
    load: &Load,
    replay: impl Fn(&C, &Arrivals) -> R + Sync,
) -> (Duration, Vec<R>) {
    load.warm.again();
    load.asked.again();
    let barrier = Barrier::new(THREADS);
    let run = || {
        while let Some(keys) = load.warm.take() {
            for key in keys {
                ask(cache, *key);
            }
        }
        barrier.wait();
        let start = Instant::now();
        let answer = replay(cache, &load.asked);
        (start, Instant::now(), answer)
    };
    let runs: Vec<(Instant, Instant, R)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(run)).collect();
        let joined = threads.into_iter().map(|it| it.join());
        joined.map(|it| it.expect("no panic")).collect()
    });
    let first = runs.iter().map(|(start, ..)| *start).min();
    let last = runs.iter().map(|(_, end, _)| *end).max();
    let time = last.zip(first).map(|(last, first)| last - first);
    (
        time.expect("threads"),
        runs.into_iter().map(|(.., answer)| answer).collect(),
    )
}

//! How long the store takes to answer, so that a lookup which takes longer than nearly all others
//! is asked for once more.
//!
//! Old answers fade: when [`FADE_AT`] are counted every count is halved.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Buckets: four to each doubling, from 128 µs on.
const BUCKETS: usize = 64;
const FIRST_US: u64 = 128;
/// Answers that must be known before anything is said.
const ENOUGH: u32 = 50;
const FADE_AT: u32 = 2_000;

/// The answers of late.
#[derive(Debug)]
pub(super) struct Latency(Mutex<Counts>);

#[derive(Debug)]
struct Counts {
    buckets: [u32; BUCKETS],
    total: u32,
}

impl Default for Latency {
    fn default() -> Self {
        let buckets = [0; BUCKETS];
        Self(Mutex::new(Counts { buckets, total: 0 }))
    }
}

impl Latency {
    /// An answer took so long.
    pub(super) fn observe(&self, time: Duration) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (0..BUCKETS).position(|bucket| time <= bound(bucket));
        let place = place.unwrap_or(BUCKETS - 1);
        if let Some(count) = counts.buckets.get_mut(place) {
            *count += 1;
        }
        counts.total += 1;
        if counts.total >= FADE_AT {
            counts.buckets.iter_mut().for_each(|count| *count /= 2);
            counts.total = counts.buckets.iter().sum();
        }
    }

    /// The time within which 95 of 100 answers came, or a little more. None as long as too few
    /// are known.
    pub(super) fn p95(&self) -> Option<Duration> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total < ENOUGH {
            return None;
        }
        let slower = counts.total / 20;
        let mut left = counts.total;
        let within = counts.buckets.iter().position(|count| {
            left -= count;
            left <= slower
        });
        within.map(bound)
    }
}

/// The longest time of a bucket.
fn bound(bucket: usize) -> Duration {
    let doublings = u32::try_from(bucket / 4).unwrap_or_default();
    let quarters = u64::try_from(bucket % 4).unwrap_or_default() + 4;
    Duration::from_micros((FIRST_US << doublings) * quarters / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_within_a_quarter_once_there_are_enough() {
        let latency = Latency::default();
        (0..45).for_each(|_| latency.observe(Duration::from_millis(10)));
        assert_eq!(latency.p95(), None);
        (0..50).for_each(|_| latency.observe(Duration::from_millis(10)));
        (0..5).for_each(|_| latency.observe(Duration::from_millis(500)));
        let p95 = latency.p95().unwrap();
        assert!((10..=13).contains(&p95.as_millis()), "{p95:?}");
        latency.observe(Duration::from_mins(10));
        (0..20).for_each(|_| latency.observe(Duration::from_millis(500)));
        let p95 = latency.p95().unwrap();
        assert!((500..=625).contains(&p95.as_millis()), "{p95:?}");
    }

    #[test]
    fn what_was_is_forgotten() {
        let latency = Latency::default();
        (0..5_000).for_each(|_| latency.observe(Duration::from_secs(1)));
        (0..5_000).for_each(|_| latency.observe(Duration::from_millis(1)));
        assert!(latency.p95().unwrap() > Duration::from_millis(1));
        (0..10_000).for_each(|_| latency.observe(Duration::from_millis(1)));
        assert!(latency.p95().unwrap() < Duration::from_millis(2));
    }

    #[test]
    fn bounds_rise() {
        assert_eq!(bound(0), Duration::from_micros(128));
        assert!((1..BUCKETS).all(|bucket| bound(bucket) > bound(bucket - 1)));
        assert!(bound(BUCKETS - 1) > Duration::from_secs(5));
    }
}

//! What could be had by knowing the future: bounds, and the clairvoyant policies.
//!
//! | name | what it is |
//! |---|---|
//! | `belady` | evicts what is asked for again last (Belady 1966); the fewest misses where all sizes are equal, and no bound where they are not |
//! | `belady-size` | evicts the largest product of size and distance among a sample of 128 |
//! | `pfoo-l` | a true lower bound for any sizes: PFOO-L (Berger, Beckmann and Harchol-Balter, 2018), for requests and for bytes apart |
//!
//! Memory is proportional to the trace: 16 bytes a request, 16 a key, and 16 for each request
//! while a bound is computed.

mod clairvoyant;
mod pfoo;

use super::number::ratio;
use super::request::{KeyMap, Request};

/// No later request of the key.
const NEVER: u32 = u32::MAX;

/// A way to use the future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The farthest next request leaves.
    Belady,
    /// The largest product of size and distance leaves.
    BeladySize,
    /// The bound.
    PfooL,
}

impl Bound {
    /// Every bound.
    pub const ALL: [Self; 3] = [Self::Belady, Self::BeladySize, Self::PfooL];

    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Belady => "belady",
            Self::BeladySize => "belady-size",
            Self::PfooL => "pfoo-l",
        }
    }
}

/// What a bound is at one capacity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounded {
    /// Which.
    pub bound: Bound,
    /// Bytes of the cache.
    pub capacity_bytes: u64,
    /// Misses among requests.
    pub request_miss_ratio: f64,
    /// Missed bytes among bytes asked for.
    pub byte_miss_ratio: f64,
}

/// Misses of a clairvoyant policy, or the fewest there can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Misses {
    requests: u64,
    bytes: u64,
}

/// A whole trace, for those who look ahead.
#[derive(Debug, Default)]
pub(super) struct Future {
    /// Bytes of each request.
    sizes: Vec<u64>,
    /// The next request of the same key.
    next: Vec<u32>,
    last: KeyMap<u32>,
    truncated: bool,
}

impl Future {
    /// Takes note of requests.
    pub(super) fn add(&mut self, requests: &[Request]) {
        for request in requests {
            let Some(at) = u32::try_from(self.sizes.len())
                .ok()
                .filter(|at| *at != NEVER)
            else {
                self.truncated = true;
                return;
            };
            self.sizes.push(request.size);
            self.next.push(NEVER);
            if let Some(before) = self.last.insert(request.key, at)
                && let Some(next) = usize::try_from(before)
                    .ok()
                    .and_then(|b| self.next.get_mut(b))
            {
                *next = at;
            }
        }
    }

    /// Every bound at each of `capacities`, on as many threads as there are bounds; none for a
    /// trace of more than 2^32 - 2 requests.
    pub(super) fn bounds(mut self, capacities: &[u64]) -> Vec<Bounded> {
        self.last = KeyMap::default();
        if self.truncated {
            return Vec::new();
        }
        let (requests, bytes) = self.totals();
        let bounded = |bound, capacity_bytes, misses: Misses| Bounded {
            bound,
            capacity_bytes,
            request_miss_ratio: ratio(misses.requests, requests),
            byte_miss_ratio: ratio(misses.bytes, bytes),
        };
        let mut all = Vec::new();
        std::thread::scope(|scope| {
            let belady = scope.spawn(|| self.each(capacities, clairvoyant::belady));
            let by_size = scope.spawn(|| self.each(capacities, clairvoyant::belady_size));
            let pfoo = scope.spawn(|| pfoo::lower(&self, capacities));
            for (bound, misses) in Bound::ALL.into_iter().zip([belady, by_size, pfoo]) {
                let misses = match misses.join() {
                    Ok(misses) => misses,
                    Err(panic) => std::panic::resume_unwind(panic),
                };
                let each = capacities.iter().zip(misses);
                all.extend(each.map(|(capacity, misses)| bounded(bound, *capacity, misses)));
            }
        });
        all
    }

    fn each(&self, capacities: &[u64], policy: fn(&Self, u64) -> Misses) -> Vec<Misses> {
        capacities
            .iter()
            .map(|capacity| policy(self, *capacity))
            .collect()
    }

    /// Requests, and the bytes they ask for.
    fn totals(&self) -> (u64, u64) {
        let bytes = self
            .sizes
            .iter()
            .fold(0_u64, |sum, size| sum.saturating_add(*size));
        (super::number::count(self.sizes.len()), bytes)
    }

    /// Each request: its number, that of the next one of its key, and its size.
    fn requests(&self) -> impl Iterator<Item = (u32, u32, u64)> {
        let pairs = self.next.iter().zip(&self.sizes);
        (0..)
            .zip(pairs)
            .map(|(at, (next, size))| (at, *next, *size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::request::NO_END;
    use proptest::prelude::*;

    fn future(requests: &[(u64, u64)]) -> Future {
        let mut future = Future::default();
        let requests: Vec<_> = requests
            .iter()
            .map(|(key, size)| Request {
                time_ms: 0,
                key: *key,
                size: *size,
                key_bytes: 8,
                ttl_s: NO_END,
            })
            .collect();
        future.add(&requests);
        future
    }

    fn misses(requests: &[(u64, u64)], capacity: u64) -> [Misses; 3] {
        let future = future(requests);
        [
            clairvoyant::belady(&future, capacity),
            clairvoyant::belady_size(&future, capacity),
            pfoo::lower(&future, &[capacity])[0],
        ]
    }

    /// The fewest misses there can be, by trying everything.
    fn fewest(requests: &[(u64, u64)], resident: &[(u64, u64)], capacity: u64) -> u64 {
        let Some(((key, size), rest)) = requests.split_first() else {
            return 0;
        };
        let hit = resident.iter().any(|(other, _)| other == key);
        let mut with: Vec<_> = resident.to_vec();
        if !hit {
            with.push((*key, *size));
        }
        // Any subset may stay.
        let mut best = u64::MAX;
        for kept in 0..1_u32 << with.len() {
            let kept: Vec<_> = (0..)
                .zip(&with)
                .filter(|(place, _)| kept & 1 << place != 0)
                .map(|(_, entry)| *entry)
                .collect();
            if kept.iter().map(|(_, size)| size).sum::<u64>() <= capacity {
                best = best.min(fewest(rest, &kept, capacity));
            }
        }
        best + u64::from(!hit)
    }

    #[test]
    fn belady_is_as_the_textbook_has_it() {
        // The reference string of Belady's anomaly, and another with five pages and three frames.
        for (keys, capacity, expected) in [
            ([1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5], 3, 7),
            ([1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5], 4, 6),
        ] {
            let requests: Vec<_> = keys.iter().map(|key| (*key, 1)).collect();
            assert_eq!(misses(&requests, capacity)[0].requests, expected);
        }
    }

    #[test]
    fn what_is_too_large_for_the_cache_is_always_missed() {
        let requests = [(1, 10), (1, 10), (2, 1), (2, 1)];
        for bound in misses(&requests, 5) {
            assert_eq!(
                bound,
                Misses {
                    requests: 3,
                    bytes: 21
                }
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_bound_is_above_the_optimum_and_belady_is_it_for_equal_sizes(
            keys in prop::collection::vec(0_u64..4, 1..8),
            sizes in prop::collection::vec(1_u64..5, 4),
            capacity in 1_u64..8,
        ) {
            let of = |key: &u64| usize::try_from(*key).ok().map_or(1, |key| sizes[key]);
            let sized: Vec<_> = keys.iter().map(|key| (*key, of(key))).collect();
            let best = fewest(&sized, &[], capacity);
            let [belady, by_size, pfoo] = misses(&sized, capacity);
            prop_assert!(pfoo.requests <= best, "{pfoo:?} {best}");
            prop_assert!(belady.requests >= best && by_size.requests >= best);
            let unit: Vec<_> = keys.iter().map(|key| (*key, 1)).collect();
            prop_assert_eq!(misses(&unit, capacity)[0].requests, fewest(&unit, &[], capacity));
        }
    }
}

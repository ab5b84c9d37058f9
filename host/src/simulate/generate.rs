//! Synthetic traffic, for those who have no trace: the same numbers and seed always give the same
//! trace.
//!
//! Popularity follows a Zipf law: rank `k` is asked for in proportion to `1 / k^skew`. Churn gives
//! each rank a new object that many times over the trace, at moments of its own, as news replaces
//! news. One-hit wonders and scans are asked for once each: the ones one by one, the others in
//! runs. An object's size is drawn once, from its key.

mod sizes;
mod zipf;

pub use sizes::Sizes;

use super::number::{real, whole};
use zipf::Zipf;

/// What traffic is like.
#[derive(Clone, Debug, PartialEq)]
pub struct Traffic {
    /// Requests in all.
    pub requests: u64,
    /// Popular objects at any one time.
    pub objects: u64,
    /// Exponent of the Zipf law; 0 makes all objects equally popular.
    pub skew: f64,
    /// How often each rank gets a new object over the whole trace.
    pub churn: f64,
    /// Share of the requests that ask for what is never asked for again.
    pub one_hit: f64,
    /// Share of the requests that belong to scans.
    pub scans: f64,
    /// Requests of one scan.
    pub scan_length: u64,
    /// Sizes of objects.
    pub sizes: Sizes,
    /// Requests a second.
    pub rate: u64,
    /// Chooses among all traces with these numbers.
    pub seed: u64,
}

/// One generated request: a number for the key, and the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Milliseconds since the beginning.
    pub time_ms: u64,
    /// Names the object.
    pub object: u64,
    /// Bytes.
    pub size: u64,
}

impl Traffic {
    /// The requests, in order.
    ///
    /// # Errors
    /// Which number is out of its range.
    pub fn generate(&self) -> Result<Generator, String> {
        let share = |name: &str, value: f64| {
            (0.0..=1.0).contains(&value).then_some(()).ok_or_else(|| {
                format!("{name} is a share of the requests, from 0 to 1, not {value}")
            })
        };
        share("one-hit", self.one_hit)?;
        share("scans", self.scans)?;
        share("one-hit and scans together", self.one_hit + self.scans)?;
        for (name, value, most) in [("skew", self.skew, 10.0), ("churn", self.churn, 1e6)] {
            if !(0.0..=most).contains(&value) {
                return Err(format!("{name} is from 0 to {most}, not {value}"));
            }
        }
        for (name, value) in [
            ("objects", self.objects),
            ("scan-length", self.scan_length),
            ("rate", self.rate),
        ] {
            if value == 0 {
                return Err(format!("{name} is at least 1"));
            }
        }
        Ok(Generator {
            zipf: Zipf::new(self.objects, self.skew),
            random: Random(self.seed),
            done: 0,
            fresh: 0,
            scan_left: 0,
            traffic: self.clone(),
        })
    }
}

/// Generates requests one by one, in constant memory.
#[derive(Clone, Debug)]
pub struct Generator {
    traffic: Traffic,
    zipf: Zipf,
    random: Random,
    done: u64,
    /// Objects that are asked for once, so far.
    fresh: u64,
    scan_left: u64,
}

/// Keeps objects that are asked for once apart from the popular ones.
const FRESH: u64 = 1 << 63;

impl Iterator for Generator {
    type Item = Generated;

    fn next(&mut self) -> Option<Generated> {
        if self.done == self.traffic.requests {
            return None;
        }
        let object = self.object();
        let time_ms = u128::from(self.done) * 1_000 / u128::from(self.traffic.rate);
        self.done += 1;
        let mut drawn = Random(object ^ self.traffic.seed.rotate_left(32));
        Some(Generated {
            time_ms: u64::try_from(time_ms).unwrap_or(u64::MAX),
            object,
            size: self.traffic.sizes.draw(&mut drawn),
        })
    }
}

impl Generator {
    fn object(&mut self) -> u64 {
        if self.scan_left > 0 {
            self.scan_left -= 1;
            return self.once();
        }
        let Traffic {
            scans,
            scan_length,
            one_hit,
            ..
        } = self.traffic;
        // Of the requests outside of scans, so many begin one that the scans have their share.
        let outside = 1.0 - scans;
        let begin = scans / real(scan_length) / (outside + scans / real(scan_length));
        if scans > 0.0 && self.random.unit() < begin {
            self.scan_left = scan_length - 1;
            return self.once();
        }
        if outside > 0.0 && self.random.unit() < one_hit / outside {
            return self.once();
        }
        let rank = self.zipf.draw(&mut self.random);
        // Each rank changes its object at moments of its own.
        let phase = Random(rank ^ self.traffic.seed).unit();
        let passed = real(self.done) / real(self.traffic.requests) * self.traffic.churn;
        let generation = whole(passed + phase);
        (rank | generation << 40) & !FRESH
    }

    fn once(&mut self) -> u64 {
        self.fresh += 1;
        FRESH | self.fresh
    }
}

/// `SplitMix64` (Steele, Lea and Flood, 2014).
#[derive(Clone, Copy, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// From 0 to below 1.
    fn unit(&mut self) -> f64 {
        real(self.next() >> 11) / real(1 << 53)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn traffic() -> Traffic {
        Traffic {
            requests: 100_000,
            objects: 1_000,
            skew: 1.0,
            churn: 0.0,
            one_hit: 0.0,
            scans: 0.0,
            scan_length: 100,
            sizes: Sizes::Fixed(1),
            rate: 1_000,
            seed: 1,
        }
    }

    fn counts(traffic: &Traffic) -> HashMap<u64, u64> {
        let mut counts = HashMap::new();
        for generated in traffic.generate().unwrap() {
            *counts.entry(generated.object).or_default() += 1;
        }
        counts
    }

    #[test]
    fn the_seed_decides_and_nothing_else() {
        let of = |seed| -> Vec<_> {
            let traffic = Traffic { seed, ..traffic() };
            traffic.generate().unwrap().collect()
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert_eq!(of(1).len(), 100_000);
        assert_eq!(of(1)[99_999].time_ms, 99_999);
    }

    #[test]
    fn popularity_follows_the_law() {
        for skew in [0.0, 0.6, 0.99, 1.0, 1.4] {
            let counts = counts(&Traffic { skew, ..traffic() });
            let law = |rank: u64| real(rank).powf(-skew);
            let all: f64 = (1..=1_000).map(law).sum();
            for rank in [1, 2, 5, 20] {
                let expected = law(rank) / all * 100_000.0;
                let found = real(counts.get(&rank).copied().unwrap_or(0));
                let spread = 5.0 * expected.sqrt() + 1.0;
                assert!(
                    (found - expected).abs() < spread,
                    "skew {skew}, rank {rank}: {found} for {expected}"
                );
            }
            assert!(counts.keys().all(|rank| (1..=1_000).contains(rank)));
        }
    }

    #[test]
    fn shares_are_kept() {
        let once = |traffic: &Traffic| {
            let objects = traffic.generate().unwrap().map(|each| each.object);
            objects.filter(|object| object & FRESH != 0).count()
        };
        let check = |traffic: Traffic, expected: usize| {
            let found = once(&traffic);
            assert!(
                found.abs_diff(expected) < expected / 20 + 10,
                "{found} for {expected}"
            );
        };
        check(
            Traffic {
                one_hit: 0.2,
                ..traffic()
            },
            20_000,
        );
        check(
            Traffic {
                scans: 0.5,
                ..traffic()
            },
            50_000,
        );
        check(
            Traffic {
                scans: 0.25,
                one_hit: 0.25,
                ..traffic()
            },
            50_000,
        );
        check(
            Traffic {
                one_hit: 1.0,
                ..traffic()
            },
            100_000,
        );
        check(
            Traffic {
                scans: 1.0,
                ..traffic()
            },
            100_000,
        );
        check(traffic(), 0);
        let counts = counts(&Traffic {
            scans: 0.5,
            one_hit: 0.1,
            ..traffic()
        });
        assert!(
            counts
                .iter()
                .all(|(object, count)| object & FRESH == 0 || *count == 1)
        );
    }

    #[test]
    fn churn_replaces_objects() {
        let distinct = |churn| {
            counts(&Traffic {
                churn,
                skew: 0.0,
                ..traffic()
            })
            .len()
        };
        assert_eq!(distinct(0.0), 1_000);
        // Fewer by those whose moment is too near to an end of the trace to be asked for.
        assert!(
            (1_950..=2_000).contains(&distinct(1.0)),
            "{}",
            distinct(1.0)
        );
        assert!(
            (9_700..=10_000).contains(&distinct(9.0)),
            "{}",
            distinct(9.0)
        );
    }

    #[test]
    fn numbers_out_of_range_are_told() {
        let told = |traffic: Traffic| traffic.generate().unwrap_err();
        assert_eq!(
            told(Traffic {
                one_hit: 1.5,
                ..traffic()
            }),
            "one-hit is a share of the requests, from 0 to 1, not 1.5"
        );
        assert!(
            told(Traffic {
                one_hit: 0.6,
                scans: 0.6,
                ..traffic()
            })
            .contains("together")
        );
        assert_eq!(
            told(Traffic {
                skew: -1.0,
                ..traffic()
            }),
            "skew is from 0 to 10, not -1"
        );
        assert!(
            told(Traffic {
                churn: f64::NAN,
                ..traffic()
            })
            .contains("not NaN")
        );
        assert_eq!(
            told(Traffic {
                objects: 0,
                ..traffic()
            }),
            "objects is at least 1"
        );
    }
}

//! What the origin has, and what follows from that: what a version of a resource contains, and how
//! old an answer may be.

#![allow(dead_code, reason = "each test program uses the parts it needs")]

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::support::origin::Asked;
use crate::support::pattern;
use crate::support::reply::Reply;

/// Tags that resources are spread over.
pub(crate) const TAGS: usize = 5;
/// One resource in this many may only be answered with once the origin has agreed: that with this
/// remainder.
pub(crate) const CHECKED: usize = 8;
pub(crate) const CHECKED_AT: usize = 7;
/// As many may be answered with for a second: those with this remainder.
pub(crate) const SHORT_AT: usize = 5;
/// How old an answer with one of those may be: a second by clocks that count seconds, and what lies
/// between two programs on a busy machine.
pub(crate) const SHORT: Duration = Duration::from_millis(3_500);

/// A number given by the environment, for the long forms of tests.
pub(crate) fn knob(name: &str, by_default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(by_default, |given| {
        given
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number"))
    })
}

/// Numbers that follow from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `limit`, or 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub(crate) fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(pattern::to_u64(limit))).expect("below a length")
    }
}

pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// What a resource is at the origin, and what answers may be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Resource {
    /// At the origin, now.
    pub(crate) version: u64,
    /// Older is purged.
    pub(crate) purged: u64,
    /// Older was superseded in an answer of this process.
    pub(crate) seen: u64,
    /// Older was superseded in an answer, and that outlasts the process.
    pub(crate) kept: u64,
}

/// Since when there has been something newer than each version.
pub(crate) type Superseded = Vec<Instant>;

/// A version of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edition {
    pub(crate) resource: u64,
    pub(crate) version: u64,
}

impl Edition {
    pub(crate) fn hash(self) -> u64 {
        mix(self
            .resource
            .wrapping_mul(0x1_0000_0001)
            .wrapping_add(mix(self.version)))
    }

    /// Where its content begins in the pattern: no two begin within a few MiB, and few begin with
    /// the same byte.
    pub(crate) fn start(self) -> u64 {
        let hash = self.hash();
        ((hash % (1 << 36)) << 24) + 8 + (hash >> 40) % 1_000
    }

    /// Bytes of its content: a few, some KiB, about a chunk, some extents.
    pub(crate) fn length(self, largest: u64) -> u64 {
        let hash = mix(self.hash());
        let within = |low: u64, high: u64| low + (hash >> 8) % (high - low);
        let length = match hash % 16 {
            0 => 1,
            1..4 => within(2, 100),
            4..8 => within(100, 8_000),
            8..11 => within(8_000, 70_000),
            11 => within(65_530, 65_542),
            12..14 => within(70_000, 300_000),
            14 => within(262_140, 262_150),
            _ => within(300_000, 3_000_000),
        };
        length.min(largest)
    }

    pub(crate) fn tag(self) -> String {
        format!("\"{}-{}\"", self.resource, self.version)
    }
}

/// The resources, their origin's side.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) resources: Mutex<Vec<Resource>>,
    pub(crate) superseded: Mutex<Vec<Superseded>>,
    pub(crate) largest: u64,
    /// Those from this one on are left alone by loads.
    pub(crate) quiet: usize,
}

impl Truth {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Vec<Resource>> {
        self.resources.lock().expect("nobody panics in here")
    }

    pub(crate) fn of(&self, resource: usize) -> Resource {
        self.lock().get(resource).copied().expect("one of them")
    }

    /// There is a new version of `resource` from now on: its number.
    pub(crate) fn change(&self, resource: usize) -> u64 {
        let mut resources = self.lock();
        let changed = resources.get_mut(resource).expect("one of them");
        changed.version += 1;
        let mut superseded = self.superseded.lock().expect("nobody panics in here");
        superseded[resource].push(Instant::now());
        changed.version
    }

    /// Since when there has been something newer than `version` of `resource`.
    pub(crate) fn superseded(&self, resource: usize, version: u64) -> Option<Instant> {
        let superseded = self.superseded.lock().expect("nobody panics in here");
        let version = usize::try_from(version).expect("small");
        superseded.get(resource)?.get(version).copied()
    }

    pub(crate) fn answer(&self, asked: &Asked) -> Reply {
        let number = asked
            .path()
            .rsplit('/')
            .next()
            .and_then(|it| it.parse().ok());
        let Some(number) = number.filter(|number| *number < self.lock().len()) else {
            return Reply::status(404);
        };
        let edition = Edition {
            resource: pattern::to_u64(number),
            version: self.of(number).version,
        };
        let quiet = number >= self.quiet;
        let (lifetime, tag) = match (quiet, number % CHECKED) {
            (true, _) => ("max-age=600", "quiet".to_owned()),
            (false, CHECKED_AT) => ("no-cache", tag_of(number)),
            (false, SHORT_AT) => ("max-age=1", tag_of(number)),
            (false, _) => ("max-age=600", tag_of(number)),
        };
        let told = |reply: Reply| {
            reply
                .field("Cache-Control", lifetime)
                .field("ETag", edition.tag())
                .field("Surrogate-Key", tag.clone())
        };
        if asked.field("if-none-match") == Some(edition.tag()) {
            return told(Reply::status(304));
        }
        let length = edition.length(self.largest);
        told(Reply::pattern_at(edition.start(), length))
    }
}

/// The tag of a resource that is not quiet.
pub(crate) fn tag_of(resource: usize) -> String {
    format!("t{}", resource % TAGS)
}

/// The path of `resource`.
pub(crate) fn target(resource: usize) -> String {
    format!("/k/{resource}")
}

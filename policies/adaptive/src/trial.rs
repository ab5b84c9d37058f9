//! Which rule is best for the traffic: all of them are tried, on a sample of the keys.
//!
//! A rule is tried in a shadow: a cache without contents that is as much smaller than the shard as
//! the sample is smaller than the traffic. Keys are sampled by their hash, so that all requests for
//! a sampled key count (Waldspurger, Park, Garthwaite and Ahmad, FAST 2015), and all shadows see
//! the same ones, so that what chance adds to one it adds to all. A small shard is not sampled.

use larder_guest::eviction::{Index, Victims};

use crate::objective::{Objective, Score};
use crate::ranking::{Key, Ranking};
use crate::rule::{BySize, ByUse, Rule, Worth};

/// Entries of the shard that the sample stands for: more, and the sample is halved. A part of those
/// that the shard may have, so that the shadows' memory is a part of its own.
const SAMPLE_MAX: u32 = 2048;
const SAMPLE_MIN: u32 = 128;
const SAMPLE_PART: u32 = 32;
/// Entries that a shadow may hold, for each of the sample. It may hold many if its rule keeps small
/// ones.
const SHADOW_OF_SAMPLE: u32 = 2;
/// Sampled requests between two looks at the scores.
const LOOK_EVERY: u32 = 256;
/// Sampled requests after which an older one counts half.
const HALF_LIFE: u32 = 16_384;

/// How many rules are tried.
pub(crate) const RULES: usize = TRIED.len();
/// The rules that are tried. The first is the yardstick of the others.
pub(crate) const TRIED: [Rule; 8] = [
    rule(BySize::Not, ByUse::Latest, 4),
    rule(BySize::Not, ByUse::Doubling(0.3), 4),
    rule(BySize::Not, ByUse::Probation(0.3), 4),
    rule(BySize::Not, ByUse::Probation(0.05), 4),
    rule(BySize::Not, ByUse::Probation(0.01), 1),
    rule(BySize::Fully, ByUse::Each, 4),
    rule(BySize::Fully, ByUse::Probation(0.1), 4),
    rule(BySize::Fully, ByUse::Probation(0.01), 1),
];

const fn rule(by_size: BySize, by_use: ByUse, span: u32) -> Rule {
    Rule {
        by_size,
        by_use,
        span,
    }
}

/// What is tried for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shard {
    /// Entries it holds.
    pub(crate) residents: u32,
    /// Bytes it holds when it is full.
    pub(crate) capacity_bytes: u64,
    /// The size that worth is counted in.
    pub(crate) unit_bytes: f64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Trial {
    objective: Objective,
    shadows: [Shadow; RULES],
    best: usize,
    sample_max: u32,
    /// The sample is one key in 2 to the power of this.
    halvings: u32,
    requests: u32,
}

impl Trial {
    pub(crate) fn new(objective: Objective, max_entries: u32) -> Self {
        let sample_max = (max_entries / SAMPLE_PART).clamp(SAMPLE_MIN, SAMPLE_MAX);
        Self {
            objective,
            shadows: TRIED.map(|rule| Shadow::new(rule, sample_max * SHADOW_OF_SAMPLE)),
            sample_max,
            best: objective.first(),
            halvings: 0,
            requests: 0,
        }
    }

    /// The rule to follow.
    pub(crate) fn rule(&self) -> Rule {
        self.shadows
            .get(self.best)
            .map_or(TRIED[0], |shadow| shadow.rule)
    }

    /// Takes note of a request to the `shard`.
    #[inline]
    pub(crate) fn request(&mut self, key: Key, shard: Shard) {
        if draw(key.hash).leading_zeros() >= self.halvings {
            self.sampled(key, shard);
        }
    }

    #[cold]
    fn sampled(&mut self, key: Key, shard: Shard) {
        let capacity_bytes = shard.capacity_bytes >> self.halvings;
        for shadow in &mut self.shadows {
            shadow.request(key, capacity_bytes, shard.unit_bytes);
        }
        self.requests += 1;
        if self.requests.is_multiple_of(LOOK_EVERY) {
            let scores = self.shadows.each_ref().map(|shadow| shadow.score);
            self.best = self.objective.best(scores, self.best);
        }
        if self.requests >= HALF_LIFE {
            self.requests /= 2;
            for shadow in &mut self.shadows {
                shadow.score = shadow.score.halved();
            }
        }
        let is_full = |shadow: &Shadow| shadow.ranking.len() >= shadow.entries_max;
        if self.halvings < u32::BITS
            && (shard.residents >> self.halvings > self.sample_max
                || self.shadows.iter().any(is_full))
        {
            self.halvings += 1;
            for shadow in &mut self.shadows {
                shadow.halve(self.halvings);
            }
        }
    }
}

/// A cache without contents.
#[derive(Debug)]
struct Shadow {
    rule: Rule,
    entries_max: u32,
    ranking: Ranking,
    index: Index,
    free: Vec<u32>,
    slots: u32,
    score: Score,
    /// Who left last.
    left: Vec<u32>,
}

impl Shadow {
    fn new(rule: Rule, entries_max: u32) -> Self {
        Self {
            rule,
            entries_max,
            ranking: Ranking::new(entries_max),
            index: Index::new(),
            free: Vec::new(),
            slots: 0,
            score: Score::default(),
            left: Vec::new(),
        }
    }

    fn request(&mut self, key: Key, capacity_bytes: u64, unit_bytes: f64) {
        let worth = Worth {
            rule: self.rule,
            unit_bytes,
        };
        let Key { hash, size_bytes } = key;
        if let Some(slot) = self.index.find(hash) {
            self.ranking.hit(slot);
            return;
        }
        self.score.miss(size_bytes);
        if u64::from(size_bytes) > capacity_bytes {
            return;
        }
        let Some(slot) = self.free.pop().or_else(|| self.next_slot()) else {
            return;
        };
        if !self.index.insert(slot, hash) {
            self.free.push(slot);
            return;
        }
        self.ranking.insert(worth, slot, key);
        let over_bytes = self.ranking.bytes().saturating_sub(capacity_bytes);
        if over_bytes == 0 {
            return;
        }
        let mut victims = Victims::reusing(std::mem::take(&mut self.left), over_bytes);
        self.ranking.victims(worth, capacity_bytes, &mut victims);
        let left = victims.into_slots();
        for slot in &left {
            self.vacate(*slot);
        }
        self.left = left;
    }

    fn next_slot(&mut self) -> Option<u32> {
        let slot = self.slots;
        (slot < self.entries_max).then(|| self.slots += 1)?;
        Some(slot)
    }

    fn vacate(&mut self, slot: u32) {
        if let Some(hash) = self.ranking.last_hash(slot) {
            self.index.remove(slot, hash);
            self.free.push(slot);
        }
    }

    /// Drops the keys that are in the sample no more.
    fn halve(&mut self, halvings: u32) {
        for slot in 0..self.slots {
            let hash = self.ranking.last_hash(slot).unwrap_or_default();
            if draw(hash).leading_zeros() < halvings && self.ranking.remove(slot) {
                self.vacate(slot);
            }
        }
    }
}

/// What decides whether a key is sampled: bits of its hash that have nothing to do with where the
/// hash puts it in a table.
fn draw(hash: u32) -> u32 {
    hash.wrapping_mul(0x9e37_79b1)
}

//! Which rule is best for the traffic: all of them are tried, on a sample of the keys.
//!
//! A rule is tried in a shadow: a cache without contents that is as much smaller than the shard as
//! the sample is smaller than the traffic. Keys are sampled by their hash, so that all requests for
//! a sampled key count (Waldspurger, Park, Garthwaite and Ahmad, FAST 2015), and all shadows see
//! the same ones, so that what chance adds to one it adds to all. In a small shard most keys are
//! sampled, or all of them, unless the shadows miss so often that they would cost more than the shard
//! itself. A sample that was halved stays so, even if the shard shrinks.
//!
//! Shadows hold much the same keys. So a key has one number in all of them (see `numbers`) and is
//! looked up once for all.

use larder_guest::eviction::Victims;

use crate::numbers::Numbers;
use crate::objective::{Objective, Score};
use crate::ranking::{Key, Ranking};
use crate::rule::{BySize, ByUse, Rule, Worth};
use crate::wheel::Fineness;

/// Entries of the shard that the sample stands for: more, and the sample is halved. A part of those
/// that the shard may have, so that the shadows' memory is a part of its own; but what a few keys
/// tell is mostly chance, so a small shard affords a larger part.
const SAMPLE_MAX: u32 = 3072;
const SAMPLE_MIN: u32 = 512;
const SAMPLE_PART: u32 = 21;
/// Keys that are in any of the shadows, for each two of the sample: rules do not hold the same ones,
/// and one that keeps small ones holds more.
const KEYS_OF_TWO: u32 = 3;
/// Misses of all shadows for each request to the shard: more, on average, and the sample is halved,
/// as it is a miss that costs a shadow time. So in a shard where all misses everywhere, one key in
/// eight is sampled.
const MISSES_MAX: f64 = 1.25;
/// Sampled requests that misses are counted for. What a shard that fills misses says nothing.
const COUNTED: u32 = 2048;
/// Entries of the shard that the sample stands for, at least: then it is not halved for what it costs.
const HALVED_MIN: u32 = 16;
/// Shadows have this part of the room that they should have until the shard is full: so they fill
/// before it does, and tell the rules apart by then.
const FILLING_PART: u64 = 2;
/// Sampled requests between two looks at the scores.
const LOOK_EVERY: u32 = 256;
/// Sampled requests that scores are of, at most: then all of them count half.
const SCORED_MAX: u32 = 8192;

/// How many rules are tried.
pub(crate) const RULES: usize = TRIED.len();
/// The rules that are tried. The first, close to LRU, is the yardstick of the others.
///
/// They are few, as each one more makes the choice among those that are nearly as good more a matter
/// of chance, and all of them have to share the memory that there is for a sample. LRU itself is
/// not one of them: where it does well the first does nearly as well, and elsewhere better.
pub(crate) const TRIED: [Rule; 6] = [
    rule(BySize::Not, ByUse::Doubling(0.3), 4),
    rule(BySize::Not, ByUse::Probation(0.2), 4),
    rule(BySize::Not, ByUse::Probation(0.01), 1),
    rule(BySize::Fully, ByUse::Each, 4),
    rule(BySize::Fully, ByUse::Probation(0.2), 4),
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
    pub(crate) capacity_bytes: u64,
    /// What it held when it was full, which may be less; none before it was.
    pub(crate) full_bytes: Option<u64>,
    /// The size that worth is counted in.
    pub(crate) unit_bytes: f64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Trial {
    objective: Objective,
    shadows: [Shadow; RULES],
    numbers: Numbers,
    best: usize,
    sample_max: u32,
    /// The sample is one key in 2 to the power of this.
    halvings: u32,
    requests: u32,
    counted: Counted,
}

/// What the shadows cost lately.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    requests: u32,
    misses: u32,
    /// The shard was full when this began.
    is_of_full: bool,
}

impl Trial {
    pub(crate) fn new(objective: Objective, max_entries: u32) -> Self {
        let sample_max = (max_entries / SAMPLE_PART).clamp(SAMPLE_MIN, SAMPLE_MAX);
        let keys_max = sample_max * KEYS_OF_TWO / 2;
        Self {
            objective,
            shadows: TRIED.map(|rule| Shadow::new(rule, keys_max)),
            numbers: Numbers::new(keys_max),
            sample_max,
            best: objective.first(),
            halvings: 0,
            requests: 0,
            counted: Counted::default(),
        }
    }

    /// The rule to follow.
    pub(crate) fn rule(&self) -> Rule {
        self.shadows
            .get(self.best)
            .map_or(TRIED[0], |shadow| shadow.rule)
    }

    /// How often the sample was halved.
    #[cfg(test)]
    pub(crate) fn halvings(&self) -> u32 {
        self.halvings
    }

    /// Numbers of keys in the shadows.
    #[cfg(test)]
    pub(crate) fn numbers(&self) -> u32 {
        self.numbers.end()
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
        let room_bytes = shard
            .full_bytes
            .unwrap_or(shard.capacity_bytes / FILLING_PART);
        let misses = self.tried(key, room_bytes >> self.halvings, shard.unit_bytes);
        self.requests += 1;
        if self.requests.is_multiple_of(LOOK_EVERY) {
            let scores = self.shadows.each_ref().map(|shadow| shadow.score);
            self.best = self.objective.best(scores, self.best);
        }
        if self.requests >= SCORED_MAX {
            self.requests /= 2;
            for shadow in &mut self.shadows {
                shadow.score = shadow.score.part(0.5);
            }
        }
        if self.is_too_costly(misses, shard) || self.is_too_large(shard) {
            self.halve();
        }
    }

    /// Whether the sample takes more memory than it may.
    fn is_too_large(&self, shard: Shard) -> bool {
        shard.residents >> self.halvings > self.sample_max || self.numbers.is_full()
    }

    /// Whether the sample takes more time than it may, now that so many shadows missed a request, and
    /// would tell anything by half.
    fn is_too_costly(&mut self, misses: u32, shard: Shard) -> bool {
        self.counted.requests += 1;
        self.counted.misses += misses;
        if self.counted.requests < COUNTED {
            return false;
        }
        let next = Counted {
            is_of_full: shard.full_bytes.is_some(),
            ..Counted::default()
        };
        let counted = std::mem::replace(&mut self.counted, next);
        // As many requests to the shard as the sampled ones stand for.
        let requests = f64::from(counted.requests) * f64::from(self.halvings).exp2();
        counted.is_of_full
            && f64::from(counted.misses) > MISSES_MAX * requests
            && shard.residents >> self.halvings >= 2 * HALVED_MIN
    }

    /// Tries all rules on a request; answers how many shadows it was a newcomer to.
    fn tried(&mut self, key: Key, capacity_bytes: u64, unit_bytes: f64) -> u32 {
        let Key { hash, size_bytes } = key;
        let mut newcomer_to = 0;
        let mut number = self.numbers.hold(hash);
        for shadow in &mut self.shadows {
            if number.is_some_and(|number| shadow.ranking.hit(number).is_some()) {
                continue;
            }
            shadow.score.miss(size_bytes);
            if u64::from(size_bytes) > capacity_bytes {
                continue;
            }
            number = number.or_else(|| self.numbers.enter(hash));
            if let Some(number) = number {
                newcomer_to += 1;
                self.numbers.held(number);
                shadow.enter(number, key, capacity_bytes, unit_bytes, &mut self.numbers);
            }
        }
        if let Some(number) = number {
            self.numbers.let_go(number);
        }
        newcomer_to
    }

    /// Samples half as many keys, and drops those that are in the sample no more.
    #[cold]
    fn halve(&mut self) {
        self.halvings += 1;
        for number in 0..self.numbers.end() {
            let hash = self.numbers.hash(number);
            if draw(hash).leading_zeros() >= self.halvings {
                continue;
            }
            for shadow in &mut self.shadows {
                if shadow.ranking.remove(number) {
                    self.numbers.let_go(number);
                }
            }
        }
    }
}

/// A cache without contents.
#[derive(Debug)]
struct Shadow {
    rule: Rule,
    ranking: Ranking,
    score: Score,
    /// Who left last.
    left: Vec<u32>,
}

impl Shadow {
    fn new(rule: Rule, keys_max: u32) -> Self {
        Self {
            rule,
            ranking: Ranking::new(keys_max, Fineness::Small),
            score: Score::default(),
            left: Vec::new(),
        }
    }

    /// Enters a key that was missed.
    fn enter(
        &mut self,
        number: u32,
        key: Key,
        capacity_bytes: u64,
        unit_bytes: f64,
        numbers: &mut Numbers,
    ) {
        let worth = Worth {
            rule: self.rule,
            unit_bytes,
        };
        self.ranking.insert(worth, number, key);
        let over_bytes = self.ranking.bytes().saturating_sub(capacity_bytes);
        if over_bytes == 0 {
            return;
        }
        let mut victims = Victims::reusing(std::mem::take(&mut self.left), over_bytes);
        self.ranking.victims(worth, capacity_bytes, &mut victims);
        let left = victims.into_slots();
        for number in &left {
            numbers.let_go(*number);
        }
        self.left = left;
    }
}

/// What decides whether a key is sampled: bits of its hash that have nothing to do with where the
/// hash puts it in a table.
fn draw(hash: u32) -> u32 {
    hash.wrapping_mul(0x9e37_79b1)
}

//! What the policy is for: which of the rules is best, given how each of them has done.

use larder_guest::Params;
use larder_guest::reinsertion::{self, Stored};

use crate::trial::RULES;

/// What was missed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Score {
    pub(crate) requests: f64,
    pub(crate) bytes: f64,
}

impl Score {
    pub(crate) fn miss(&mut self, size_bytes: u32) {
        self.requests += 1.0;
        self.bytes += f64::from(size_bytes);
    }

    /// This part of it.
    pub(crate) fn part(self, part: f64) -> Self {
        Self {
            requests: self.requests * part,
            bytes: self.bytes * part,
        }
    }
}

/// The parameter of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Objective {
    /// Fewest missed requests.
    Requests,
    /// Fewest missed bytes.
    Bytes,
    /// Fewest of both, each counted in parts of what the yardstick misses, bytes twice, and those
    /// beyond its own ten times.
    Balanced,
}

/// The rules by index: `0` is close to LRU.
const YARDSTICK: usize = 0;
/// The rule in use is taken to have missed less by this part, so that another must be clearly better
/// to take its place: by more where two sums are compared, as chance has a share in both.
const MARGIN_OF_ONE: f64 = 0.005;
const MARGIN_OF_BOTH: f64 = 0.01;
/// How often bytes count, and how often more those that a rule misses beyond what the yardstick
/// does: few are worth a little, and a score that stands a little above by chance is none that rules
/// it out.
const BYTES: f64 = 2.0;
const EXCESS: f64 = 8.0;

impl Objective {
    /// Reads the parameter.
    pub(crate) fn configured(params: &Params) -> Result<Self, String> {
        match params.string("objective")?.unwrap_or("balanced") {
            "requests" => Ok(Self::Requests),
            "bytes" => Ok(Self::Bytes),
            "balanced" => Ok(Self::Balanced),
            other => Err(format!(
                "parameter `objective`: expected requests, bytes or balanced, found {other:?}"
            )),
        }
    }

    /// What a disk tier keeps of a segment: what was hit most often, for its size if it is requests
    /// that count, and for the root of its size if both do.
    pub(crate) fn keep(self, entries: &[Stored]) -> Vec<bool> {
        reinsertion::keep_best(entries, |entry| match self {
            Self::Requests => entry.density(),
            Self::Bytes => f64::from(entry.hits),
            Self::Balanced => (f64::from(entry.hits) * entry.density()).sqrt(),
        })
    }

    /// The rule to begin with.
    pub(crate) const fn first(self) -> usize {
        match self {
            Self::Requests | Self::Balanced => 4,
            Self::Bytes => 1,
        }
    }

    /// The rule to follow, given that `used` was.
    pub(crate) fn best(self, scores: [Score; RULES], used: usize) -> usize {
        let yardstick = scores.get(YARDSTICK).copied().unwrap_or_default();
        let requests = yardstick.requests.max(1.0);
        let bytes = yardstick.bytes.max(1.0);
        let margin = match self {
            Self::Requests | Self::Bytes => MARGIN_OF_ONE,
            Self::Balanced => MARGIN_OF_BOTH,
        };
        let cost = |rule: usize, score: Score| {
            let score = score.part(if rule == used { 1.0 - margin } else { 1.0 });
            match self {
                Self::Requests => score.requests,
                Self::Bytes => score.bytes,
                Self::Balanced => {
                    let excess = (score.bytes - yardstick.bytes).max(0.0);
                    score.requests / requests + (BYTES * score.bytes + EXCESS * excess) / bytes
                }
            }
        };
        let costs = (0..)
            .zip(scores)
            .map(|(rule, score)| (rule, cost(rule, score)));
        let best = costs.min_by(|(_, a), (_, b)| a.total_cmp(b));
        best.map_or(YARDSTICK, |(rule, _)| rule)
    }
}

//! What the policy is for: which of the rules is best, given how each of them has done.

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

    pub(crate) fn halved(self) -> Self {
        Self {
            requests: self.requests / 2.0,
            bytes: self.bytes / 2.0,
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
    /// Fewest missed requests, as long as that costs no bytes against LRU; else fewest bytes.
    Balanced,
}

/// The rules by index: `0` is LRU.
const LRU: usize = 0;
/// Those that ignore sizes.
const BY_BYTES: std::ops::Range<usize> = 0..4;
/// Those that go by sizes.
const BY_REQUESTS: std::ops::Range<usize> = 4..7;
/// A rule must be better than the one in use by this part to take its place.
const MARGIN: f64 = 0.005;

impl Objective {
    /// The rule to begin with.
    pub(crate) const fn first(self) -> usize {
        match self {
            Self::Requests | Self::Balanced => 5,
            Self::Bytes => 2,
        }
    }

    /// The rule to follow, given that `used` was.
    pub(crate) fn best(self, scores: [Score; 7], used: usize) -> usize {
        let score = |rule: usize| scores.get(rule).copied().unwrap_or_default();
        let least = |rules: std::ops::Range<usize>, of: fn(Score) -> f64| {
            let favoured = |rule: usize| {
                let margin = if rule == used { 1.0 - MARGIN } else { 1.0 };
                of(score(rule)) * margin
            };
            rules
                .min_by(|a, b| favoured(*a).total_cmp(&favoured(*b)))
                .unwrap_or(LRU)
        };
        let (requests, bytes) = (|score: Score| score.requests, |score: Score| score.bytes);
        match self {
            Self::Requests => least(0..7, requests),
            Self::Bytes => least(0..7, bytes),
            Self::Balanced => {
                let rule = least(BY_REQUESTS, requests);
                let margin = if BY_REQUESTS.contains(&used) {
                    1.0 + MARGIN
                } else {
                    1.0
                };
                if score(rule).bytes <= score(LRU).bytes * margin {
                    rule
                } else {
                    least(BY_BYTES, bytes)
                }
            }
        }
    }
}

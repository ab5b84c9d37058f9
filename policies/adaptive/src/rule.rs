//! What an entry is worth: the rules that are tried, and their arithmetic.

/// Ticks of priority that an entry of average size is worth when it was asked for once.
const TICKS: f64 = 1024.0;
/// No entry is worth more: some 2^30 average entries.
const TICKS_MAX: f64 = 1_099_511_627_776.0;

/// How an entry's worth falls with its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BySize {
    /// It does not: every entry is as good as any other, so most bytes are served.
    Not,
    /// In proportion, as in GDSF: most requests are served.
    Fully,
}

/// What repeated use of an entry counts for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ByUse {
    /// Little: this part of a newcomer more each time the number of uses doubles. The latest use
    /// matters most, as in LRU.
    Doubling(f64),
    /// Every use counts, as in LFU with ageing.
    Each,
    /// As `Each`, but who was asked for once is worth this part of a newcomer elsewhere: newcomers
    /// are on probation, as in the small queue of S3-FIFO.
    Probation(f64),
}

/// One way to rank entries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rule {
    pub(crate) by_size: BySize,
    pub(crate) by_use: ByUse,
    /// How long uses are remembered of who left: until so many capacities have left after it.
    pub(crate) span: u32,
}

/// A rule with the size that it counts in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Worth {
    pub(crate) rule: Rule,
    /// An entry of this size is worth the same by every rule.
    pub(crate) unit_bytes: f64,
}

impl Worth {
    /// Of all entries the same.
    pub(crate) const EQUAL: Self = Self {
        rule: Rule {
            by_size: BySize::Not,
            by_use: ByUse::Doubling(0.0),
            span: 0,
        },
        unit_bytes: 1.0,
    };

    /// Ticks that an entry is worth, on top of the age of the shard at its last use.
    pub(crate) fn ticks(self, uses: u8, size_bytes: u32) -> u64 {
        let uses_count = f64::from(uses);
        let of_use = match self.rule.by_use {
            ByUse::Doubling(part) => 1.0 + part * f64::from(uses.max(1).ilog2()),
            ByUse::Each => uses_count,
            ByUse::Probation(part) if uses < 2 => part,
            ByUse::Probation(_) => uses_count - 1.0,
        };
        let of_size = match self.rule.by_size {
            BySize::Not => 1.0,
            BySize::Fully => self.unit_bytes / f64::from(size_bytes.max(1)),
        };
        // Not `f64::min`, which is a call in Wasm.
        let worth = TICKS * of_use * of_size;
        ticks(if worth < TICKS_MAX { worth } else { TICKS_MAX })
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "from 0 to TICKS_MAX; a fraction of a tick is worth nothing"
)]
fn ticks(worth: f64) -> u64 {
    worth as u64
}

/// The size that worth is counted in: about the mean of what comes.
///
/// Priorities of different times are compared, so it must not follow the mean step by step. It is
/// a power of two, and moves when the mean has gone to a quarter or four times of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    bytes: f64,
    sum_bytes: f64,
    count: f64,
}

impl Unit {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: 1.0,
            sum_bytes: 0.0,
            count: 0.0,
        }
    }

    pub(crate) fn bytes(self) -> f64 {
        self.bytes
    }

    /// Takes note of a newcomer.
    pub(crate) fn newcomer(&mut self, size_bytes: u32) {
        self.sum_bytes += f64::from(size_bytes);
        self.count += 1.0;
        // What the sum is if the mean is the unit.
        let at_unit = self.bytes * self.count;
        if self.sum_bytes < at_unit * 0.25 || self.sum_bytes > at_unit * 4.0 {
            let mean_bytes = (self.sum_bytes / self.count).max(1.0);
            self.bytes = mean_bytes.log2().round().exp2();
        }
        if self.count >= 1_048_576.0 {
            self.sum_bytes /= 2.0;
            self.count /= 2.0;
        }
    }
}

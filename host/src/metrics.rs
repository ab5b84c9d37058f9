//! Counters, gauges and histograms, and their text exposition (Prometheus format 0.0.4).
//!
//! A counter is spread over cells, one for each thread of a small machine, so that two workers
//! never fight for a cache line on the path of a request. Reading sums the cells; a snapshot is
//! not atomic across metrics.

use std::cell::Cell;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

const CELLS: usize = 8;

/// One cache line (two on CPUs that prefetch pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(AtomicU64);

fn cell() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static MINE: Cell<usize> = const { Cell::new(usize::MAX) });
    MINE.with(|mine| {
        if mine.get() == usize::MAX {
            mine.set(NEXT.fetch_add(1, Relaxed) % CELLS);
        }
        mine.get()
    })
}

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter([Line; CELLS]);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        if let Some(line) = self.0.get(cell()) {
            line.0.fetch_add(n, Relaxed);
        }
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, line| sum.wrapping_add(line.0.load(Relaxed)))
    }
}

/// Upper bounds of the buckets of every histogram: 1 µs to 10 s in steps of 1, 2.5, 5.
const BOUNDS_NS: [u64; 22] = [
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    2_500_000_000,
    10_000_000_000,
];
const BOUNDS_TEXT: [&str; 22] = [
    "0.00000025",
    "0.0000005",
    "0.000001",
    "0.0000025",
    "0.000005",
    "0.00001",
    "0.000025",
    "0.00005",
    "0.0001",
    "0.00025",
    "0.0005",
    "0.001",
    "0.0025",
    "0.005",
    "0.01",
    "0.025",
    "0.05",
    "0.1",
    "0.25",
    "0.5",
    "2.5",
    "10",
];

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct Histogram {
    cells: [HistogramCell; CELLS],
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct HistogramCell {
    buckets: [AtomicU64; 23],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// Counts one observation.
    pub fn observe(&self, duration: Duration) {
        self.observe_for(duration, 1);
    }

    /// Counts one observation that stands for `times` of them.
    pub fn observe_for(&self, duration: Duration, times: u64) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_NS.partition_point(|bound| *bound < ns);
        let Some(cell) = self.cells.get(cell()) else {
            return;
        };
        if let Some(count) = cell.buckets.get(bucket) {
            count.fetch_add(times, Relaxed);
        }
        cell.sum_ns.fetch_add(ns.saturating_mul(times), Relaxed);
    }

    /// Adds the observations of `other`.
    pub fn absorb(&self, other: &Self) {
        for (mine, theirs) in self.cells.iter().zip(&other.cells) {
            for (mine, theirs) in mine.buckets.iter().zip(&theirs.buckets) {
                mine.fetch_add(theirs.load(Relaxed), Relaxed);
            }
            mine.sum_ns.fetch_add(theirs.sum_ns.load(Relaxed), Relaxed);
        }
    }

    /// The sum of all observations.
    pub fn sum(&self) -> Duration {
        let cells = self.cells.iter();
        Duration::from_nanos(cells.map(|cell| cell.sum_ns.load(Relaxed)).sum())
    }

    /// Observations so far.
    pub fn count(&self) -> u64 {
        self.cells
            .iter()
            .flat_map(|cell| &cell.buckets)
            .map(|bucket| bucket.load(Relaxed))
            .sum()
    }
}

/// The text of `/metrics`, built family by family.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// Label names and values of one sample.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    /// Starts a family of counters.
    pub fn counters(&mut self, name: &str, help: &str) {
        self.family(name, "counter", help);
    }

    /// Starts a family of gauges.
    pub fn gauges(&mut self, name: &str, help: &str) {
        self.family(name, "gauge", help);
    }

    /// Starts a family of histograms.
    pub fn histograms(&mut self, name: &str, help: &str) {
        self.family(name, "histogram", help);
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// One sample of a counter or gauge.
    pub fn sample(&mut self, name: &str, labels: Labels<'_>, value: u64) {
        let labels = LabelText(labels, None);
        self.line(format_args!("{name}{labels} {value}\n"));
    }

    /// The samples of one histogram.
    pub fn histogram(&mut self, name: &str, labels: Labels<'_>, histogram: &Histogram) {
        let mut total = 0_u64;
        for bucket in 0..=BOUNDS_NS.len() {
            total += histogram
                .cells
                .iter()
                .filter_map(|cell| cell.buckets.get(bucket))
                .map(|count| count.load(Relaxed))
                .sum::<u64>();
            let bound = BOUNDS_TEXT.get(bucket).copied().unwrap_or("+Inf");
            let labels = LabelText(labels, Some(bound));
            self.line(format_args!("{name}_bucket{labels} {total}\n"));
        }
        let sum = histogram.sum();
        let labels = LabelText(labels, None);
        let (seconds, ns) = (sum.as_secs(), sum.subsec_nanos());
        self.line(format_args!(
            "{name}_sum{labels} {seconds}.{ns:09}\n{name}_count{labels} {total}\n"
        ));
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        self.text
            .write_fmt(text)
            .expect("writing to a string cannot fail");
    }

    /// The whole text.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// Labels in braces, with the values escaped, and the bucket bound if there is one.
struct LabelText<'a>(Labels<'a>, Option<&'a str>);

impl fmt::Display for LabelText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = self.1.map(|bound| ("le", bound));
        let mut separator = '{';
        for (name, value) in self.0.iter().copied().chain(bound) {
            write!(f, "{separator}{name}=\"")?;
            for c in value.chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    '"' => f.write_str("\\\"")?,
                    '\n' => f.write_str("\\n")?,
                    c => f.write_char(c)?,
                }
            }
            f.write_char('"')?;
            separator = ',';
        }
        if separator == ',' {
            f.write_char('}')
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_sum_over_threads() {
        let counter = Counter::default();
        std::thread::scope(|scope| {
            for _ in 0..CELLS + 3 {
                scope.spawn(|| (0..1_000).for_each(|_| counter.increment()));
            }
        });
        assert_eq!(counter.get(), 1_000 * (8 + 3));
    }

    #[test]
    fn a_histogram_is_cumulative_and_labels_are_escaped() {
        let histogram = Histogram::default();
        for ns in [1, 250, 251, 20_000_000_000] {
            histogram.observe(Duration::from_nanos(ns));
        }
        let mut text = Exposition::default();
        text.histogram("x", &[("a", "q\"\\\n")], &histogram);
        let text = text.into_text();
        assert!(
            text.contains("x_bucket{a=\"q\\\"\\\\\\n\",le=\"0.00000025\"} 2\n"),
            "{text}"
        );
        assert!(text.contains("le=\"0.0000005\"} 3\n"), "{text}");
        assert!(text.contains("le=\"+Inf\"} 4\n"), "{text}");
        assert!(text.contains("x_count{a=\"q\\\"\\\\\\n\"} 4\n"), "{text}");
    }

    #[test]
    fn bounds_agree_with_their_texts() {
        for (ns, text) in BOUNDS_NS.iter().zip(BOUNDS_TEXT) {
            let seconds: f64 = text.parse().expect("a number");
            let difference = (Duration::from_nanos(*ns).as_secs_f64() - seconds).abs();
            assert!(difference < 1e-12, "{ns} is not {text}");
        }
    }
}

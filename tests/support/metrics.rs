//! The text of `/metrics`, read into a map.

use std::collections::BTreeMap;

/// Samples by name and labels, as they are written: `larder_tier_bytes{tier="memory"}`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(pub(crate) BTreeMap<String, f64>);

impl Metrics {
    /// Reads the text format; a line that breaks it fails the test.
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut samples = BTreeMap::new();
        for line in lines {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
            let value = value
                .parse()
                .unwrap_or_else(|_| panic!("not a number: {line:?}"));
            let known = samples.insert(name.to_owned(), value);
            assert!(known.is_none(), "twice: {name}");
        }
        Self(samples)
    }

    /// The sum of all samples called `name` whose labels include each of `labels`
    /// (`key="value"`). Nothing there counts as 0.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let matching = self.0.iter().filter(|(sample, _)| {
            let (own, rest) = sample.split_once('{').unwrap_or((sample, ""));
            own == name && labels.iter().all(|label| rest.contains(label))
        });
        matching.map(|(_, value)| value).sum()
    }

    /// Like [`Metrics::sum`], for a whole number.
    #[track_caller]
    pub(crate) fn count(&self, name: &str, labels: &[&str]) -> u64 {
        // The sum of nothing is a negative zero.
        let sum = self.sum(name, labels) + 0.0;
        format!("{sum}")
            .parse()
            .unwrap_or_else(|_| panic!("{name} is {sum}"))
    }
}

//! The counts of every activation there was, by policy and hook, so that no counter ever falls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::activation::{Activation, HookStats};
use super::hook::Hook;
use super::sandbox::FaultKind;
use crate::metrics::Exposition;

/// Keeps counts.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    live: Vec<(Arc<str>, Hook, Arc<HookStats>)>,
    retired: BTreeMap<(Arc<str>, Hook), Arc<HookStats>>,
}

/// The counts of one policy at one hook.
pub type Total = (Arc<str>, Hook, Arc<HookStats>);

impl Ledger {
    /// Keeps the counts of `activation` from now on. Once is enough.
    pub fn enter(&self, activation: &Activation) {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = pages
            .live
            .iter()
            .any(|(.., stats)| Arc::ptr_eq(stats, &activation.stats));
        if !known {
            let stats = Arc::clone(&activation.stats);
            pages
                .live
                .push((Arc::clone(&activation.label), activation.hook, stats));
        }
        pages.retire();
    }

    /// Everything so far, one total a policy and hook.
    pub fn totals(&self) -> Vec<Total> {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pages.retire();
        let mut totals: BTreeMap<(Arc<str>, Hook), Arc<HookStats>> = BTreeMap::new();
        let retired = pages
            .retired
            .iter()
            .map(|((label, hook), stats)| (label, *hook, stats));
        let live = pages
            .live
            .iter()
            .map(|(label, hook, stats)| (label, *hook, stats));
        for (label, hook, stats) in retired.chain(live) {
            totals
                .entry((Arc::clone(label), hook))
                .or_default()
                .absorb(stats);
        }
        totals
            .into_iter()
            .map(|((label, hook), stats)| (label, hook, stats))
            .collect()
    }

    /// Writes the metrics of policies.
    pub fn expose(&self, out: &mut Exposition) {
        let totals = self.totals();
        let guests = || {
            totals
                .iter()
                .filter(|(label, ..)| !label.starts_with("native:"))
        };
        out.counters(
            "larder_policy_calls_total",
            "Policy calls, those of native rules included.",
        );
        for (label, hook, stats) in &totals {
            let labels = [("policy", &**label), ("hook", hook.as_str())];
            out.sample("larder_policy_calls_total", &labels, stats.calls.get());
        }
        out.counters(
            "larder_policy_faults_total",
            "Policy calls that failed, by kind.",
        );
        for (label, hook, stats) in guests() {
            for (kind, count) in FaultKind::ALL.iter().zip(&stats.faults) {
                let kind = kind.as_str();
                let labels = [
                    ("policy", &**label),
                    ("hook", hook.as_str()),
                    ("kind", kind),
                ];
                out.sample("larder_policy_faults_total", &labels, count.get());
            }
        }
        out.histograms(
            "larder_policy_call_seconds",
            "Running time of policy calls; of keying calls one in 16 is timed.",
        );
        for (label, hook, stats) in guests() {
            let labels = [("policy", &**label), ("hook", hook.as_str())];
            out.histogram("larder_policy_call_seconds", &labels, &stats.seconds);
        }
    }
}

impl Pages {
    /// Folds the counts of activations that nothing refers to any more into one a policy.
    fn retire(&mut self) {
        let (live, gone) = std::mem::take(&mut self.live)
            .into_iter()
            .partition(|(.., stats): &Total| Arc::strong_count(stats) > 1);
        self.live = live;
        for (label, hook, stats) in gone {
            self.retired
                .entry((label, hook))
                .or_default()
                .absorb(&stats);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_outlive_their_activation() {
        let ledger = Ledger::default();
        for round in 1..=3 {
            let activation = Activation::native(Hook::Keying);
            ledger.enter(&activation);
            ledger.enter(&activation);
            activation.stats.calls.add(10);
            let total: u64 = ledger
                .totals()
                .iter()
                .map(|(.., stats)| stats.calls.get())
                .sum();
            assert_eq!(total, 10 * round);
        }
        assert_eq!(ledger.totals().len(), 1);
    }
}

//! Counts of the requests of one site to its origins.

use super::fault::FaultKind;
use crate::metrics::Counter;

/// Counts of the requests of one site to its origins.
#[derive(Debug, Default)]
pub struct OriginMetrics {
    /// Requests, each counted once however often it was sent.
    pub requests: Counter,
    /// Times that a request was sent once more.
    pub retries: Counter,
    /// Retries that the budget did not allow.
    pub retries_denied: Counter,
    /// Connections made.
    pub connections: Counter,
    /// Connections closed.
    pub connections_closed: Counter,
    /// Attempts to connect that failed, whatever became of the request.
    pub connect_failures: Counter,
    failures: [Counter; FaultKind::ALL.len()],
}

impl OriginMetrics {
    /// Counts a request that got no answer.
    pub fn failed(&self, kind: FaultKind) {
        if let Some(counter) = self.failures.get(kind.index()) {
            counter.increment();
        }
    }

    /// Requests that got no answer, by kind.
    pub fn failures(&self) -> impl Iterator<Item = (FaultKind, u64)> {
        FaultKind::ALL
            .into_iter()
            .zip(&self.failures)
            .map(|(kind, counter)| (kind, counter.get()))
    }

    /// Requests that got no answer.
    pub fn failures_sum(&self) -> u64 {
        self.failures().map(|(_, count)| count).sum()
    }

    /// Connections open now.
    pub fn connections_open(&self) -> u64 {
        let closed = self.connections_closed.get();
        self.connections.get().saturating_sub(closed)
    }
}

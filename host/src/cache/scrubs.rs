//! Scrubs that an operator asked for: one at a time, of every tier that verifies what it holds.

use serde::Serialize;

use super::lower::Lower;
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes a second that a scrub reads at most, so that lookups keep most of the device.
const PACE: u64 = 64 << 20;

/// How a scrub is coming along, or what the last one came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Scrubs begun since the start; 0: there was none.
    pub id: u64,
    /// Whether it goes on.
    pub running: bool,
    /// The tiers it is done with.
    pub tiers: Vec<TierReport>,
}

/// What a scrub found in one tier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TierReport {
    /// The tier.
    pub name: &'static str,
    /// Entries that were read and verified.
    pub checked: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Entries that were damaged; they are gone now.
    pub corrupt: u64,
    /// Entries that a purge covered; they are gone now.
    pub purged: u64,
    /// Why it ended early, if it did.
    pub error: Option<String>,
}

/// The latest scrub.
#[derive(Debug, Default)]
pub struct Scrubs(Mutex<Report>);

impl Scrubs {
    /// The latest scrub.
    pub fn report(&self) -> Report {
        self.lock().clone()
    }

    /// Begins one. None if one is under way.
    pub fn begin(&self) -> Option<Report> {
        let mut report = self.lock();
        if report.running {
            return None;
        }
        *report = Report {
            id: report.id.saturating_add(1),
            running: true,
            tiers: Vec::new(),
        };
        Some(report.clone())
    }

    /// Ends the one that was begun.
    pub fn end(&self) {
        self.lock().running = false;
    }

    /// Scrubs every tier of `lower` that does so, one after the other.
    pub async fn run(&self, lower: &Lower) {
        for member in lower.members() {
            let Some(scrub) = member.tier.scrub(PACE) else {
                continue;
            };
            let name = member.tier.name();
            let report = match scrub.await {
                Ok(found) => TierReport {
                    name,
                    checked: found.entries,
                    bytes: found.bytes,
                    corrupt: found.damaged,
                    purged: found.purged,
                    error: None,
                },
                Err(error) => TierReport {
                    name,
                    error: Some(error.to_string()),
                    ..TierReport::default()
                },
            };
            tracing::info!(tier = name, checked = report.checked, corrupt = report.corrupt, error = ?report.error, "scrubbed");
            self.lock().tiers.push(report);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether any tier of `lower` verifies what it holds.
pub fn any(lower: &Lower) -> bool {
    // A future that is not polled does nothing.
    let mut members = lower.members().iter();
    members.any(|member| member.tier.scrub(PACE).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_scrub_at_a_time() {
        let scrubs = Scrubs::default();
        assert_eq!(scrubs.report(), Report::default());
        assert_eq!(scrubs.begin().map(|report| report.id), Some(1));
        assert_eq!(scrubs.begin(), None);
        scrubs.end();
        assert!(!scrubs.report().running);
        assert_eq!(scrubs.begin().map(|report| report.id), Some(2));
    }
}

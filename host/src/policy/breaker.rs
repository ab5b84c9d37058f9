//! When a policy has failed often enough to be taken out of service.

use std::collections::VecDeque;

/// Faults one after another that trip the breaker.
pub const IN_A_ROW: u32 = 5;
/// Calls looked back on.
const WINDOW: u64 = 1_000;
/// Calls that must have been made before the share of faults counts.
const WINDOW_MIN: u64 = 100;
/// One fault in this many calls is tolerated.
const TOLERATED: u64 = 100;

/// Why the breaker tripped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trip {
    /// [`IN_A_ROW`] calls failed one after another.
    InARow,
    /// More than 1 % of the last 1,000 calls failed.
    Share,
}

impl Trip {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InARow => "5 faults in a row",
            Self::Share => "faults in more than 1 % of the last 1,000 calls",
        }
    }
}

/// The faults of one activation. Successful calls never touch it.
#[derive(Debug, Default)]
pub struct Breaker {
    /// Ordinal numbers of the recent calls that failed.
    recent: VecDeque<u64>,
}

impl Breaker {
    /// Records that call number `call` (from 1) failed, as the `in_a_row`-th without a success.
    pub fn fault(&mut self, call: u64, in_a_row: u32) -> Option<Trip> {
        if in_a_row >= IN_A_ROW {
            return Some(Trip::InARow);
        }
        self.recent.push_back(call);
        while self
            .recent
            .front()
            .is_some_and(|&old| old.saturating_add(WINDOW) <= call)
        {
            self.recent.pop_front();
        }
        let faults = u64::try_from(self.recent.len()).unwrap_or(u64::MAX);
        let share_exceeded = faults * TOLERATED > call.min(WINDOW);
        (call >= WINDOW_MIN && share_exceeded).then_some(Trip::Share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trips_at(faults: impl Iterator<Item = u64>) -> Option<(u64, Trip)> {
        let (mut breaker, mut last, mut row) = (Breaker::default(), 0, 0);
        for call in faults {
            row = if call == last + 1 { row + 1 } else { 1 };
            last = call;
            if let Some(trip) = breaker.fault(call, row) {
                return Some((call, trip));
            }
        }
        None
    }

    #[test]
    fn five_in_a_row_trip_at_any_time() {
        assert_eq!(trips_at(1..=10), Some((5, Trip::InARow)));
        assert_eq!(
            trips_at([1, 2, 3, 4, 50_001, 50_002, 50_003, 50_004].into_iter()),
            None
        );
        assert_eq!(trips_at((70_000..).take(6)), Some((70_004, Trip::InARow)));
    }

    #[test]
    fn more_than_one_percent_trips_and_one_percent_does_not() {
        assert_eq!(trips_at((1..5_000).map(|n| n * 100)), None);
        assert_eq!(
            trips_at((1..5_000).map(|n| n * 90)),
            Some((180, Trip::Share))
        );
        assert_eq!(trips_at([10, 20, 30, 99].into_iter()), None);
        assert_eq!(trips_at([10, 100].into_iter()), Some((100, Trip::Share)));
    }

    #[test]
    fn old_faults_are_forgotten() {
        let eleven = (1..=10).map(|n| 10_000 + 2 * n).chain([11_500]);
        assert_eq!(trips_at(eleven), None);
    }
}

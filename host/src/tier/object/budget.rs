//! How many requests may be made beyond those that were wanted: retries and hedges. A store in
//! trouble must not get a multiple of its load from those who want to help themselves.

use std::sync::atomic::{AtomicU32, Ordering};

/// Parts of a spare request that each wanted request earns: 10 % of them may be repeated.
const EARNED: u32 = 1;
/// Parts that a spare request costs.
const COST: u32 = 10;
/// Parts that can be saved up: ten spare requests.
const SAVED_MAX: u32 = 100;

/// Spare requests.
#[derive(Debug)]
pub(super) struct Budget(AtomicU32);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU32::new(SAVED_MAX))
    }
}

impl Budget {
    /// A wanted request was made.
    pub(super) fn earn(&self) {
        let earn = |saved: u32| (saved < SAVED_MAX).then_some(saved + EARNED);
        self.change(earn);
    }

    /// Whether one more may be made than was wanted.
    pub(super) fn spend(&self) -> bool {
        self.change(|saved| saved.checked_sub(COST))
    }

    fn change(&self, change: impl FnMut(u32) -> Option<u32>) -> bool {
        let relaxed = Ordering::Relaxed;
        self.0.fetch_update(relaxed, relaxed, change).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_may_be_repeated_and_ten_are_saved_up() {
        let budget = Budget::default();
        let spend = || (0..100).take_while(|_| budget.spend()).count();
        assert_eq!(spend(), 10);
        for _ in 0..39 {
            budget.earn();
        }
        assert_eq!(spend(), 3);
        for _ in 0..1_000 {
            budget.earn();
        }
        assert_eq!(spend(), 10);
    }
}

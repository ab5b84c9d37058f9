//! How many requests may be sent once more: a fifth of all of them, so that retries never turn
//! the failure of an origin into twice its load.

use std::sync::atomic::{AtomicU32, Ordering};

/// What a retry takes; a request gives one.
const PRICE: u32 = 5;
/// Retries that a quiet site has in hand.
const RESERVE: u32 = 10;

/// The retries that a site may still make.
#[derive(Debug)]
pub struct RetryBudget(AtomicU32);

impl Default for RetryBudget {
    fn default() -> Self {
        Self(AtomicU32::new(RESERVE * PRICE))
    }
}

impl RetryBudget {
    /// A request is made for the first time.
    pub fn deposit(&self) {
        self.change(|left| Some((left + 1).min(RESERVE * PRICE)));
    }

    /// Whether a request may be sent once more; it is, then.
    pub fn withdraw(&self) -> bool {
        self.change(|left| left.checked_sub(PRICE))
    }

    fn change(&self, change: impl Fn(u32) -> Option<u32>) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_fifth_of_requests_and_a_reserve() {
        for requests in [0, 1, 10, 1_000, 10_000] {
            let budget = RetryBudget::default();
            let mut retries = 0;
            for _ in 0..requests {
                budget.deposit();
                while budget.withdraw() {
                    retries += 1;
                }
            }
            assert!(
                retries <= RESERVE + requests / PRICE,
                "{requests}: {retries}"
            );
            assert!(retries >= requests / PRICE, "{requests}: {retries}");
        }
    }

    #[test]
    fn calm_saves_no_more_than_the_reserve() {
        let budget = RetryBudget::default();
        (0..100_000).for_each(|_| budget.deposit());
        let retries = std::iter::from_fn(|| budget.withdraw().then_some(())).count();
        assert_eq!(u32::try_from(retries), Ok(RESERVE));
    }
}

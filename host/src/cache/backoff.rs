//! How long to leave alone what has just failed. Pure.

use std::time::Duration;

/// The pause after the first failure, before jitter.
pub const FIRST: Duration = Duration::from_secs(1);
/// The longest pause, before jitter. It bounds how long an origin that is back goes unnoticed.
pub const MOST: Duration = Duration::from_secs(10);

/// The pause after `rounds` failed tries in a row: it doubles with each. `random` spreads those who
/// failed together over a quarter to either side, so that they do not come back together.
pub fn pause(rounds: u32, random: u64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << rounds.saturating_sub(1).min(16));
    let whole = doubled.min(MOST);
    let part = u32::try_from(random >> 48).unwrap_or_default();
    whole / 4 * 3 + (whole / 2).saturating_mul(part) / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let middle = u64::MAX / 2;
        for (rounds, millis) in [
            (0, 1_000),
            (1, 1_000),
            (2, 2_000),
            (3, 4_000),
            (4, 8_000),
            (5, 10_000),
            (u32::MAX, 10_000),
        ] {
            let off = pause(rounds, middle).abs_diff(Duration::from_millis(millis));
            assert!(off < Duration::from_millis(1), "{rounds} rounds: {off:?}");
        }
        assert_eq!(pause(1, 0), Duration::from_millis(750));
        assert_eq!(pause(1, u64::MAX), Duration::from_millis(1_250));
    }

    proptest! {
        #[test]
        fn no_pause_is_outside_its_bounds(rounds: u32, random: u64) {
            let pause = pause(rounds, random);
            prop_assert!(pause >= FIRST / 4 * 3 && pause <= MOST / 4 * 5);
        }
    }
}

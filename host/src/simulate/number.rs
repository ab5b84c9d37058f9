//! Numbers of counts, for ratios and for reports.

/// `count` as a floating-point number; exact up to 2^53.
pub fn real(count: u64) -> f64 {
    let high = u32::try_from(count >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(count & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

/// The whole part of `value`, between zero and 2^64 - 1; zero for what is not a number.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, which is what is wanted"
)]
pub fn whole(value: f64) -> u64 {
    value as u64
}

/// `part` of `all`; zero of nothing.
pub fn ratio(part: u64, all: u64) -> f64 {
    if all == 0 {
        return 0.0;
    }
    real(part) / real(all)
}

/// A length in memory.
pub fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_saturate_and_are_exact_where_they_can_be() {
        for (value, expected) in [
            (0, 0.0),
            (1, 1.0),
            (u64::from(u32::MAX), 4_294_967_295.0),
            (1 << 52, 4_503_599_627_370_496.0),
        ] {
            assert!((real(value) - expected).abs() < f64::EPSILON, "{value}");
            assert_eq!(whole(expected + 0.25), value);
        }
        assert_eq!(
            (whole(-1.0), whole(f64::NAN), whole(1e30)),
            (0, 0, u64::MAX)
        );
        assert!((ratio(1, 4) - 0.25).abs() < 1e-12);
        assert!(ratio(1, 0).abs() < 1e-12);
    }
}

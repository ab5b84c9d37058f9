//! Ranks that follow a Zipf law, in constant time and memory: rejection-inversion (Hörmann and
//! Derflinger, "Rejection-inversion to generate variates from monotone discrete distributions",
//! 1996).

use super::Random;
use crate::simulate::number::{real, whole};

/// Draws ranks from 1 on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Zipf {
    objects: f64,
    skew: f64,
    /// The integral of the law from one half before the first rank, and to half after the last.
    first: f64,
    last: f64,
    /// Below this distance from a rank it is accepted without looking closer.
    certain: f64,
}

impl Zipf {
    /// Ranks up to `objects`, in proportion to `1 / rank^skew`.
    pub(super) fn new(objects: u64, skew: f64) -> Self {
        let objects = real(objects);
        Self {
            objects,
            skew,
            first: integral(1.5, skew) - 1.0,
            last: integral(objects + 0.5, skew),
            certain: 2.0 - inverse(integral(2.5, skew) - 2.0_f64.powf(-skew), skew),
        }
    }

    /// A rank.
    pub(super) fn draw(&self, random: &mut Random) -> u64 {
        loop {
            let area = self.last + random.unit() * (self.first - self.last);
            let place = inverse(area, self.skew);
            let rank = place.round().clamp(1.0, self.objects);
            let accepted = rank - place <= self.certain
                || area >= integral(rank + 0.5, self.skew) - rank.powf(-self.skew);
            if accepted {
                return whole(rank);
            }
        }
    }
}

/// The integral of `x^-skew`, up to a constant.
fn integral(x: f64, skew: f64) -> f64 {
    let log = x.ln();
    first_of_exponential((1.0 - skew) * log) * log
}

/// The inverse of [`integral`].
fn inverse(area: f64, skew: f64) -> f64 {
    let t = (area * (1.0 - skew)).max(-1.0);
    (first_of_logarithm(t) * area).exp()
}

/// `(e^x - 1) / x`, also near zero.
fn first_of_exponential(x: f64) -> f64 {
    if x.abs() > 1e-8 {
        x.exp_m1() / x
    } else {
        1.0 + x / 2.0
    }
}

/// `ln(1 + x) / x`, also near zero.
fn first_of_logarithm(x: f64) -> f64 {
    if x.abs() > 1e-8 {
        x.ln_1p() / x
    } else {
        1.0 - x / 2.0
    }
}

//! How large objects are.

use std::f64::consts::TAU;
use std::fmt;
use std::str::FromStr;

use super::Random;
use crate::config::ByteSize;
use crate::simulate::number::{real, whole};

/// The largest size that is drawn.
const SIZE_MAX: u64 = 1 << 40;

const ACCEPTED: &str = "write fixed:SIZE, uniform:MIN,MAX, lognormal:MEDIAN,SIGMA or \
                        pareto:MIN,SHAPE, with sizes such as 32KiB";

/// A distribution of sizes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sizes {
    /// All equal.
    Fixed(u64),
    /// Every size from the first to the second as likely.
    Uniform(u64, u64),
    /// The logarithm is normal: a median in bytes and a deviation of the natural logarithm.
    Lognormal(u64, f64),
    /// A heavy tail: the least size, and the exponent of the tail.
    Pareto(u64, f64),
}

impl Sizes {
    /// A size, from 1 byte to 1 TiB.
    pub(super) fn draw(&self, random: &mut Random) -> u64 {
        let size = match *self {
            Self::Fixed(size) => size,
            Self::Uniform(least, most) => least + whole(random.unit() * real(most - least + 1)),
            Self::Lognormal(median, sigma) => {
                // Box and Muller; one minus, as the logarithm of zero is not finite.
                let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
                let normal = radius * (TAU * random.unit()).cos();
                whole(real(median) * (sigma * normal).exp())
            }
            Self::Pareto(least, shape) => {
                whole(real(least) * (1.0 - random.unit()).powf(-1.0 / shape))
            }
        };
        size.clamp(1, SIZE_MAX)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = ByteSize::new;
        match *self {
            Self::Fixed(bytes) => write!(f, "fixed:{}", size(bytes)),
            Self::Uniform(least, most) => write!(f, "uniform:{},{}", size(least), size(most)),
            Self::Lognormal(median, sigma) => write!(f, "lognormal:{},{sigma}", size(median)),
            Self::Pareto(least, shape) => write!(f, "pareto:{},{shape}", size(least)),
        }
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no distribution of sizes; {ACCEPTED}");
        let size = |text: &str| {
            let size = text.parse::<ByteSize>().ok()?.bytes();
            (1..=SIZE_MAX).contains(&size).then_some(size)
        };
        let positive = |text: &str| {
            let number = text.parse::<f64>().ok()?;
            (number > 0.0 && number <= 100.0).then_some(number)
        };
        let (kind, numbers) = text.split_once(':').ok_or_else(wrong)?;
        let pair = numbers.split_once(',');
        let read = || match (kind, pair) {
            ("fixed", None) => Some(Self::Fixed(size(numbers)?)),
            ("uniform", Some((least, most))) => {
                let (least, most) = (size(least)?, size(most)?);
                (least <= most).then_some(Self::Uniform(least, most))
            }
            ("lognormal", Some((median, sigma))) => {
                Some(Self::Lognormal(size(median)?, positive(sigma)?))
            }
            ("pareto", Some((least, shape))) => Some(Self::Pareto(size(least)?, positive(shape)?)),
            _ => None,
        };
        read().ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(sizes: &str) -> Vec<u64> {
        let sizes: Sizes = sizes.parse().unwrap();
        let mut random = Random(7);
        let mut drawn: Vec<_> = (0..10_001).map(|_| sizes.draw(&mut random)).collect();
        drawn.sort_unstable();
        drawn
    }

    #[test]
    fn sizes_are_distributed_as_said() {
        assert!(drawn("fixed:32KiB").iter().all(|size| *size == 32 << 10));
        let uniform = drawn("uniform:10,19");
        for size in 10..20 {
            let found = uniform.iter().filter(|each| **each == size).count();
            assert!((850..1_150).contains(&found), "{size}: {found}");
        }
        let lognormal = drawn("lognormal:10000,1");
        assert!(
            (9_500..10_500).contains(&lognormal[5_000]),
            "{}",
            lognormal[5_000]
        );
        // One deviation above the median is at 84.13 %.
        assert!(
            (25_000..29_500).contains(&lognormal[8_413]),
            "{}",
            lognormal[8_413]
        );
        let pareto = drawn("pareto:100,1");
        assert!(
            pareto[0] >= 100 && (190..210).contains(&pareto[5_000]),
            "{}",
            pareto[5_000]
        );
    }

    #[test]
    fn a_distribution_is_read_as_it_is_written() {
        for text in [
            "fixed:1B",
            "uniform:1KiB,2KiB",
            "lognormal:32KiB,1.5",
            "pareto:100B,1.2",
        ] {
            let sizes: Sizes = text.parse().unwrap();
            assert_eq!(sizes.to_string().parse::<Sizes>().unwrap(), sizes, "{text}");
        }
        for text in [
            "",
            "fixed",
            "fixed:0",
            "fixed:1,2",
            "uniform:2,1",
            "uniform:1",
            "pareto:1,0",
            "lognormal:1,x",
            "zipf:1",
        ] {
            let told = text.parse::<Sizes>().unwrap_err();
            assert!(told.contains("write fixed:SIZE"), "{told}");
        }
    }
}

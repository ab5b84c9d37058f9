//! How large a simulated cache is: in bytes, or in percent of what the trace asks for.

use std::fmt;
use std::str::FromStr;

use super::footprint::Footprint;
use crate::config::ByteSize;

/// Hundred-thousandths of a percent in a whole.
const WHOLE: u64 = 10_000_000;

/// A capacity as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    text: String,
    amount: Amount,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Amount {
    Bytes(u64),
    /// Of the footprint, in [`WHOLE`] parts.
    Share(u64),
}

impl Capacity {
    /// Whether it is a share of the footprint, which then has to be known.
    pub fn is_share(&self) -> bool {
        matches!(self.amount, Amount::Share(_))
    }

    /// Bytes, for a trace of this footprint: the nearest number, and at least one.
    pub(super) fn bytes(&self, footprint: Footprint) -> u64 {
        match self.amount {
            Amount::Bytes(bytes) => bytes,
            Amount::Share(share) => {
                let parts = u128::from(footprint.bytes) * u128::from(share);
                let bytes = (parts + u128::from(WHOLE / 2)) / u128::from(WHOLE);
                u64::try_from(bytes).unwrap_or(u64::MAX).max(1)
            }
        }
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Capacity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let amount = match text.strip_suffix('%') {
            Some(percent) => Amount::Share(share(percent.trim()).ok_or_else(|| {
                format!(
                    "{text:?} is no share of the footprint; write more than 0% and at most 100%, \
                     to five decimals, or a number of bytes such as 256MiB"
                )
            })?),
            None => match text.parse::<ByteSize>() {
                Ok(size) if size.bytes() > 0 => Amount::Bytes(size.bytes()),
                Ok(_) => {
                    return Err("a cache of 0 bytes holds nothing; write at least 1".to_owned());
                }
                Err(rejected) => {
                    return Err(format!(
                        "{rejected}, or a share of the footprint such as 1%"
                    ));
                }
            },
        };
        Ok(Self {
            text: text.to_owned(),
            amount,
        })
    }
}

fn share(percent: &str) -> Option<u64> {
    let (whole, part) = percent.split_once('.').unwrap_or((percent, ""));
    if part.len() > 5 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits_only = !whole.is_empty() && whole.bytes().all(|byte| byte.is_ascii_digit());
    let whole = digits_only.then(|| whole.parse::<u64>().ok())??;
    let part = format!("{part:0<5}").parse::<u64>().ok()?;
    let share = whole.checked_mul(WHOLE / 100)?.checked_add(part)?;
    (1..=WHOLE).contains(&share).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_are_bytes_or_shares() {
        let footprint = Footprint {
            keys: 10,
            bytes: 12_345,
        };
        for (text, bytes) in [
            ("1", 1),
            ("256MiB", 256 << 20),
            ("100%", 12_345),
            ("10%", 1_235),
            ("0.1%", 12),
            ("0.00001%", 1),
            ("12.5%", 1_543),
        ] {
            let capacity: Capacity = text.parse().unwrap();
            assert_eq!(capacity.bytes(footprint), bytes, "{text}");
            assert_eq!(capacity.to_string(), text);
        }
        let vast = Footprint {
            keys: 1,
            bytes: u64::MAX,
        };
        assert_eq!("100%".parse::<Capacity>().unwrap().bytes(vast), u64::MAX);
    }

    #[test]
    fn what_is_no_capacity_is_told_with_what_is_accepted() {
        for text in [
            "150%",
            "100.00001%",
            "0%",
            "-1%",
            "%",
            "1.123456%",
            "x%",
            "1.x%",
            "+1%",
        ] {
            let told = text.parse::<Capacity>().unwrap_err();
            assert!(
                told.contains("write more than 0% and at most 100%"),
                "{told}"
            );
        }
        for text in ["0", "0MiB"] {
            assert!(
                text.parse::<Capacity>().unwrap_err().contains("0 bytes"),
                "{text}"
            );
        }
        for text in ["", "12XB", "-1", "1.5GB"] {
            let told = text.parse::<Capacity>().unwrap_err();
            assert!(told.contains("share of the footprint such as 1%"), "{told}");
        }
    }
}

//! Sizes, times and counts, each with its unit.
//!
//! A size is a whole number of bytes, a time a whole number of milliseconds. Writing a value and
//! reading it back gives the same value.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::text::{Rejected, text_value};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// Units of size, largest first among those that are exact powers, so that writing picks the
/// shortest form.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", TIB),
    ("GiB", GIB),
    ("MiB", MIB),
    ("KiB", KIB),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Units of time, largest first.
const TIME_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

const SIZE_ACCEPTED: &str =
    "write a number with an optional unit B, KB, MB, GB, TB, KiB, MiB, GiB, TiB";
const TIME_ACCEPTED: &str = "write a number with a unit ms, s, m, h, d";
const COUNT_ACCEPTED: &str = "write a whole number from 0 to 4294967295";

/// A number of bytes, written `"256MiB"`, `"64KB"` or `1024`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    /// `bytes` bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// `kib` times 1,024 bytes.
    pub const fn kib(kib: u64) -> Self {
        Self(kib.saturating_mul(KIB))
    }

    /// `mib` times 1,048,576 bytes.
    pub const fn mib(mib: u64) -> Self {
        Self(mib.saturating_mul(MIB))
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes as a length in memory, at most the largest there is.
    pub fn length(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// A length of time, written `"30s"`, `"5ms"`, `"1h"` or `"2d"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeSpan(u64);

impl TimeSpan {
    /// `ms` milliseconds.
    pub const fn millis(ms: u64) -> Self {
        Self(ms)
    }

    /// `s` seconds.
    pub const fn seconds(s: u64) -> Self {
        Self(s.saturating_mul(1_000))
    }

    /// The number of milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The same length of time for the standard library.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// A whole number without a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count(u32);

impl Count {
    /// `count` things.
    pub const fn new(count: u32) -> Self {
        Self(count)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number as a length in memory.
    pub fn length(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Splits `"30s"` into 30 and `"s"`. One space may stand between them. Signs, fractions and
/// numbers beyond 64 bits are none.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.strip_prefix(' ').unwrap_or(unit)))
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

fn in_largest_unit(value: u64, units: &[(&'static str, u64)]) -> (u64, &'static str) {
    units
        .iter()
        .find(|(_, factor)| value != 0 && value.is_multiple_of(*factor))
        .map_or((value, ""), |(name, factor)| (value / factor, name))
}

impl FromStr for ByteSize {
    type Err = Rejected;

    fn from_str(text: &str) -> Result<Self, Rejected> {
        let bytes = match number_and_unit(text) {
            Some((number, "")) => Some(number),
            _ => scaled(text, &SIZE_UNITS),
        };
        bytes
            .map(Self)
            .ok_or_else(|| Rejected::new(text, "a size", SIZE_ACCEPTED))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A size that is whole in both kinds of unit is written in the binary one.
        let (number, unit) = in_largest_unit(self.0, &SIZE_UNITS);
        write!(f, "{number}{}", if unit.is_empty() { "B" } else { unit })
    }
}

impl FromStr for TimeSpan {
    type Err = Rejected;

    fn from_str(text: &str) -> Result<Self, Rejected> {
        scaled(text, &TIME_UNITS)
            .map(Self)
            .ok_or_else(|| Rejected::new(text, "a time", TIME_ACCEPTED))
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = in_largest_unit(self.0, &TIME_UNITS);
        write!(f, "{number}{}", if unit.is_empty() { "s" } else { unit })
    }
}

impl FromStr for Count {
    type Err = Rejected;

    fn from_str(text: &str) -> Result<Self, Rejected> {
        text.parse()
            .map(Self)
            .map_err(|_| Rejected::new(text, "a count", COUNT_ACCEPTED))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_value!(ByteSize, "a size such as \"256MiB\"");
text_value!(TimeSpan, "a time such as \"30s\"");
text_value!(Count, "a whole number");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(text: &str, expected: Option<u64>) {
        assert_eq!(text.parse().ok(), expected.map(ByteSize), "{text:?}");
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        size("0", Some(0));
        size("1024", Some(1_024));
        size("12B", Some(12));
        size("64KB", Some(64_000));
        size("64KiB", Some(65_536));
        size("64 KiB", Some(65_536));
        size("3MB", Some(3_000_000));
        size("256MiB", Some(268_435_456));
        size("2GB", Some(2_000_000_000));
        size("1GiB", Some(1_073_741_824));
        size("1TB", Some(1_000_000_000_000));
        size("1TiB", Some(1_099_511_627_776));
        size("18446744073709551615", Some(u64::MAX));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "MiB",
            "-1",
            "+1",
            "1.5GiB",
            "12XB",
            "12mib",
            "12K",
            "12M",
            "1e3",
            "1_000",
            "12MiB ish",
            "18446744073709551616",
            "16777216TiB",
            "1  KiB",
            "٣",
        ] {
            size(text, None);
        }
        assert_eq!(
            "12XB".parse::<ByteSize>().unwrap_err().to_string(),
            "\"12XB\" is not a size; write a number with an optional unit \
             B, KB, MB, GB, TB, KiB, MiB, GiB, TiB"
        );
    }

    #[test]
    fn times_need_a_unit() {
        let time = |text: &str, expected: Option<u64>| {
            assert_eq!(text.parse().ok(), expected.map(TimeSpan), "{text:?}");
        };
        time("5ms", Some(5));
        time("30s", Some(30_000));
        time("2m", Some(120_000));
        time("1h", Some(3_600_000));
        time("2d", Some(172_800_000));
        time("0s", Some(0));
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1.5s",
            "1h30m",
            "30S",
            "30sec",
            "213503982334602d",
        ] {
            time(text, None);
        }
        assert_eq!(
            "soon".parse::<TimeSpan>().unwrap_err().to_string(),
            "\"soon\" is not a time; write a number with a unit ms, s, m, h, d"
        );
    }

    #[test]
    fn values_are_written_in_their_largest_exact_unit() {
        for (bytes, expected) in [
            (0, "0B"),
            (1, "1B"),
            (1_000, "1KB"),
            (1_024, "1KiB"),
            (1_500, "1500B"),
            (268_435_456, "256MiB"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), expected);
        }
        for (ms, expected) in [
            (0, "0s"),
            (5, "5ms"),
            (1_500, "1500ms"),
            (90_000, "90s"),
            (172_800_000, "2d"),
        ] {
            assert_eq!(TimeSpan(ms).to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(number: u64, count: u32) {
            prop_assert_eq!(ByteSize(number).to_string().parse(), Ok(ByteSize(number)));
            prop_assert_eq!(TimeSpan(number).to_string().parse(), Ok(TimeSpan(number)));
            prop_assert_eq!(Count(count).to_string().parse(), Ok(Count(count)));
        }

        #[test]
        fn any_text_is_answered(text: String) {
            let _size: Result<ByteSize, _> = text.parse();
            let _time: Result<TimeSpan, _> = text.parse();
        }
    }
}

//! Single values of a line, and what can be wrong with them.

use std::borrow::Cow;

/// Why a line is no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw(pub(super) Cow<'static, str>);

impl Flaw {
    /// The flaw that `text` says.
    pub(super) fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self(text.into())
    }

    /// As [`Self::new`], as the outcome of a line.
    pub(super) fn err<T>(text: impl Into<Cow<'static, str>>) -> Result<T, Self> {
        Err(Self::new(text))
    }
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Digits, and nothing else, as a number.
pub(super) fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The whole number in column `name`.
pub(super) fn number(text: &[u8], name: &str) -> Result<u64, Flaw> {
    let text = text.trim_ascii();
    digits(text).ok_or_else(|| match text {
        [] => Flaw::new(format!("the {name} is empty")),
        [b'-', rest @ ..] if digits(rest).is_some() => Flaw::new(format!("the {name} is negative")),
        _ => Flaw::new(format!("the {name} is not a whole number up to 2^64 - 1")),
    })
}

/// Seconds, with a fraction perhaps, as milliseconds.
pub(super) fn seconds(text: &[u8]) -> Result<u64, Flaw> {
    let text = text.trim_ascii();
    let milliseconds = match digits(text) {
        Some(seconds) => seconds.checked_mul(1_000),
        None => fraction(text),
    };
    milliseconds.ok_or_else(|| match text {
        [b'-', ..] => Flaw::new("the time is negative"),
        _ => Flaw::new("the time is not a number of seconds"),
    })
}

/// The whole number that `text` begins with, and what follows it. `None` if there is none, or it has
/// more digits than 64 bits hold whatever they are.
#[inline]
pub(super) fn leading_digits(text: &[u8]) -> Option<(u64, &[u8])> {
    const DIGITS_MAX: usize = 19;
    let mut number = 0_u64;
    for (place, byte) in text.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            let rest = text.get(place..).filter(|_| place > 0)?;
            return Some((number, rest));
        }
        if place == DIGITS_MAX {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    (!text.is_empty()).then_some((number, &[]))
}

/// The seconds that `text` begins with, with a fraction perhaps, as milliseconds, and what follows.
#[inline]
pub(super) fn leading_seconds(text: &[u8]) -> Option<(u64, &[u8])> {
    let (whole, mut rest) = leading_digits(text)?;
    let mut thousandths = 0;
    if let Some(part) = rest.strip_prefix(b".") {
        let count = part.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, after) = part.split_at_checked(count)?;
        let units = [100, 10, 1].into_iter();
        thousandths = units
            .zip(digits)
            .map(|(unit, byte)| unit * u64::from(byte - b'0'))
            .sum();
        rest = after;
    }
    Some((whole.checked_mul(1_000)?.checked_add(thousandths)?, rest))
}

fn fraction(text: &[u8]) -> Option<u64> {
    let point = memchr::memchr(b'.', text)?;
    let whole = text.get(..point).filter(|whole| !whole.is_empty())?;
    let part = text.get(point + 1..)?;
    let mut thousandths = 0;
    for place in 0..part.len().max(3) {
        let digit = part.get(place).map_or(Some(0), |byte| digits(&[*byte]))?;
        if place < 3 {
            thousandths = thousandths * 10 + digit;
        }
    }
    digits(whole)?.checked_mul(1_000)?.checked_add(thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_to_the_letter() {
        let told = |text: &str| number(text.as_bytes(), "size").map_err(|flaw| flaw.to_string());
        assert_eq!(told("0"), Ok(0));
        assert_eq!(told(" 18446744073709551615 "), Ok(u64::MAX));
        for (text, flaw) in [
            ("", "the size is empty"),
            ("-5", "the size is negative"),
            ("1.5", "the size is not a whole number up to 2^64 - 1"),
            (
                "18446744073709551616",
                "the size is not a whole number up to 2^64 - 1",
            ),
            ("--5", "the size is not a whole number up to 2^64 - 1"),
            ("1e3", "the size is not a whole number up to 2^64 - 1"),
        ] {
            assert_eq!(told(text), Err(flaw.to_owned()), "{text}");
        }
    }

    #[test]
    fn times_may_have_fractions() {
        for (text, expected) in [
            ("0", Some(0)),
            ("12", Some(12_000)),
            ("12.", Some(12_000)),
            ("12.5", Some(12_500)),
            ("1700000000.123456", Some(1_700_000_000_123)),
            (".5", None),
            ("-1", None),
            ("1.2.3", None),
            ("1.x", None),
            ("1.123x", None),
            ("99999999999999999999", None),
            ("", None),
        ] {
            assert_eq!(seconds(text.as_bytes()).ok(), expected, "{text}");
        }
    }
}

//! Dates of HTTP (RFC 9110 5.6.7), read as a cache reads them (RFC 9111 4.2).
//!
//! All three forms, names in any case, `GMT` and nothing else. A date the calendar does not have
//! is no date. Dates before 1970 are dates, so that "in the past" stays a value and not an error.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// 1 January 2026: stands for the present where a two-digit year must be read and the caller has
/// no clock at hand.
const REFERENCE_SECS: u64 = 1_767_225_600;

/// Seconds of a mean Gregorian year.
const YEAR_SECS: u64 = 31_556_952;

const DAY_SECS: i64 = 86_400;

const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];
const DAYS: [&[u8]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];
const LONG_DAYS: [&[u8]; 7] = [
    b"Monday",
    b"Tuesday",
    b"Wednesday",
    b"Thursday",
    b"Friday",
    b"Saturday",
    b"Sunday",
];

/// Reads a date; a two-digit year is one that is at most 50 years after the year 2026.
pub fn parse(value: &[u8]) -> Option<SystemTime> {
    parse_near(
        value,
        UNIX_EPOCH.checked_add(Duration::from_secs(REFERENCE_SECS))?,
    )
}

/// Reads a date; a two-digit year that would lie more than 50 years after `now` is the most recent
/// one in the past that ends alike (RFC 9110 5.6.7).
pub fn parse_near(value: &[u8], now: SystemTime) -> Option<SystemTime> {
    let value = value.trim_ascii();
    fixdate(value)
        .or_else(|| asctime(value))
        .or_else(|| rfc850(value, now))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn fixdate(value: &[u8]) -> Option<SystemTime> {
    let mut text = Cursor(value);
    text.name(&DAYS)?;
    text.literal(b", ")?;
    let day = text.digits(2)?;
    text.literal(b" ")?;
    let month = text.name(&MONTHS)?;
    text.literal(b" ")?;
    let year = text.digits(4)?;
    text.literal(b" ")?;
    let second = text.time()?;
    text.literal(b" GMT")?;
    text.end()?;
    instant(year, month, day, second)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(value: &[u8], now: SystemTime) -> Option<SystemTime> {
    let mut text = Cursor(value);
    text.name(&LONG_DAYS)?;
    text.literal(b", ")?;
    let day = text.digits(2)?;
    text.literal(b"-")?;
    let month = text.name(&MONTHS)?;
    text.literal(b"-")?;
    let year = text.digits(2)?;
    text.literal(b" ")?;
    let second = text.time()?;
    text.literal(b" GMT")?;
    text.end()?;
    let now_secs = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let latest = now.checked_add(Duration::from_secs(50 * YEAR_SECS))?;
    let century = i64::try_from(1970 + now_secs / YEAR_SECS)
        .ok()?
        .div_euclid(100)
        * 100;
    [100, 0, -100, -200]
        .into_iter()
        .filter_map(|offset| instant(century + offset + year, month, day, second))
        .find(|&time| time <= latest)
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(value: &[u8]) -> Option<SystemTime> {
    let mut text = Cursor(value);
    text.name(&DAYS)?;
    text.literal(b" ")?;
    let month = text.name(&MONTHS)?;
    text.literal(b" ")?;
    let day = match text.literal(b" ") {
        Some(()) => text.digits(1)?,
        None => text.digits(2)?,
    };
    text.literal(b" ")?;
    let second = text.time()?;
    text.literal(b" ")?;
    let year = text.digits(4)?;
    text.end()?;
    instant(year, month, day, second)
}

/// What is left to read of a date.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    /// Takes `expected`, in any case: a cache ought to match names so (RFC 9111 4.2).
    fn literal(&mut self, expected: &[u8]) -> Option<()> {
        let (taken, rest) = self.0.split_at_checked(expected.len())?;
        taken.eq_ignore_ascii_case(expected).then(|| self.0 = rest)
    }

    /// Takes one of `names` and gives its position, counted from 1.
    fn name(&mut self, names: &[&[u8]]) -> Option<i64> {
        (1..)
            .zip(names)
            .find_map(|(number, name)| self.literal(name).map(|()| number))
    }

    /// Takes exactly `count` digits.
    fn digits(&mut self, count: usize) -> Option<i64> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        let mut number = 0;
        for &byte in taken {
            let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
            number = number * 10 + digit;
        }
        self.0 = rest;
        Some(number)
    }

    /// Takes `08:49:37` and gives the second of the day. Second 60 is a leap second, which is the
    /// first of the next minute here as it is to the system's clock.
    fn time(&mut self) -> Option<i64> {
        let hour = self.digits(2)?;
        self.literal(b":")?;
        let minute = self.digits(2)?;
        self.literal(b":")?;
        let second = self.digits(2)?;
        (hour < 24 && minute < 60 && second <= 60).then_some((hour * 60 + minute) * 60 + second)
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// The instant `second` of a day of the Gregorian calendar, if it has that day.
fn instant(year: i64, month: i64, day: i64, second: i64) -> Option<SystemTime> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    };
    if !(1..=last).contains(&day) {
        return None;
    }
    // Years that begin in March put the leap day last, so a year's days before each month are the
    // same in all of them.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let years = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = years + (153 * month + 2) / 5 + day - 1;
    // Days from 1 March of year 0 to 1 January 1970.
    let since_epoch = (days - 719_468) * DAY_SECS + second;
    let distance = Duration::from_secs(since_epoch.unsigned_abs());
    if since_epoch < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(value: &str, expected: Option<i64>) {
        let expected = expected.map(|secs| {
            let distance = Duration::from_secs(secs.unsigned_abs());
            if secs < 0 {
                UNIX_EPOCH - distance
            } else {
                UNIX_EPOCH + distance
            }
        });
        assert_eq!(parse(value.as_bytes()), expected, "{value}");
    }

    #[test]
    fn the_three_forms_name_the_same_second() {
        for value in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "sun, 06 nOV 1994 08:49:37 gmt",
            " Sun, 06 Nov 1994 08:49:37 GMT\t",
        ] {
            check(value, Some(784_111_777));
        }
        check("Thu, 01 Jan 1970 00:00:00 GMT", Some(0));
        check("Wed, 31 Dec 1969 23:59:59 GMT", Some(-1));
        check("Sat Nov 26 08:49:37 1994", Some(785_839_777));
        check("Tue, 29 Feb 2000 00:00:00 GMT", Some(951_782_400));
        check("Thu, 31 Dec 1998 23:59:60 GMT", Some(915_148_800));
        check("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799));
    }

    #[test]
    fn anything_else_is_no_date() {
        for value in [
            "",
            "0",
            "-1",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun,  06 Nov 1994 08:49:37 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:00 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Thu, 30 Feb 2023 00:00:00 GMT",
            "Wed, 29 Feb 2100 00:00:00 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        ] {
            check(value, None);
        }
    }

    #[test]
    fn two_digit_years_reach_fifty_years_ahead() {
        let year = |value: &[u8], now: u64| {
            let time = parse_near(value, UNIX_EPOCH + Duration::from_secs(now)).unwrap();
            time.duration_since(UNIX_EPOCH).unwrap().as_secs() / YEAR_SECS + 1970
        };
        assert_eq!(
            year(b"Friday, 15-Jun-75 00:00:00 GMT", REFERENCE_SECS),
            2075
        );
        assert_eq!(
            year(b"Friday, 15-Jun-76 00:00:00 GMT", REFERENCE_SECS),
            1976
        );
        assert_eq!(
            year(b"Friday, 15-Jun-26 00:00:00 GMT", REFERENCE_SECS),
            2026
        );
        assert_eq!(
            year(
                b"Friday, 15-Jun-05 00:00:00 GMT",
                REFERENCE_SECS + 50 * YEAR_SECS
            ),
            2105
        );
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(secs in 0_u64..253_402_300_800) {
            let time = UNIX_EPOCH + Duration::from_secs(secs);
            prop_assert_eq!(parse(httpdate::fmt_http_date(time).as_bytes()), Some(time));
        }

        #[test]
        fn any_bytes_are_taken(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _: Option<SystemTime> = parse(&value);
        }
    }
}

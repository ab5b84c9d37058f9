//! Common log format, and what begins like it: the combined format and its many extensions.
//!
//! `host ident user [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.0" 200 2326 ...`. Nothing after
//! the number of bytes is looked at.

use super::field::{Flaw, digits};
use super::web::Logged;

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// Takes a line apart.
pub(super) fn parse(line: &[u8]) -> Result<Logged<'_>, Flaw> {
    let (_, rest) = cut(line, b'[').ok_or_else(|| Flaw::new("no [time]"))?;
    let (time, rest) = cut(rest, b']').ok_or_else(|| Flaw::new("no [time]"))?;
    let time_ms = unix_ms(time)
        .ok_or_else(|| Flaw::new("the time is not written as 10/Oct/2000:13:55:36 -0700"))?;
    let (_, rest) = cut(rest, b'"').ok_or_else(|| Flaw::new("no \"request\""))?;
    let end = closing_quote(rest).ok_or_else(|| Flaw::new("the \"request\" does not end"))?;
    let (request, rest) = rest.split_at_checked(end).unwrap_or_default();
    let mut words = rest.split(|byte| *byte == b' ').skip(1);
    let status = words
        .next()
        .and_then(digits)
        .ok_or_else(|| Flaw::new("the status is not a number"))?;
    let bytes = match words.next().map(<[u8]>::trim_ascii) {
        Some(b"-") => None,
        Some([b'-', ..]) => return Flaw::err("the number of bytes is negative"),
        Some(bytes) => Some(
            digits(bytes)
                .ok_or_else(|| Flaw::new("the number of bytes is neither a number nor -"))?,
        ),
        None => return Flaw::err("no number of bytes"),
    };
    let mut words = request.split(|byte| *byte == b' ');
    let method = words.next().unwrap_or_default();
    // A request line that was not HTTP has no target, and is not a request to a cache.
    let target = words.next().unwrap_or_default();
    Ok(Logged {
        time_ms,
        method: if target.is_empty() { b"" } else { method },
        host: b"",
        target,
        status,
        bytes,
    })
}

fn cut(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = memchr::memchr(at, text)?;
    Some((text.get(..place)?, text.get(place + 1..)?))
}

/// Where the quote is that ends the text; one after a backslash does not.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    text.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    })
}

/// `10/Oct/2000:13:55:36 -0700`; a time before 1970 is none.
fn unix_ms(text: &[u8]) -> Option<u64> {
    let mut parts = text.splitn(2, |byte| *byte == b' ');
    let (stamp, zone) = (parts.next()?, parts.next());
    let mut parts = stamp.split(|byte| matches!(byte, b'/' | b':'));
    let day = digits(parts.next()?).filter(|day| (1..=31).contains(day))?;
    let month = parts.next()?;
    let month = MONTHS
        .iter()
        .position(|name| name.eq_ignore_ascii_case(month))?;
    let year = digits(parts.next()?).filter(|year| (1970..=9999).contains(year))?;
    let mut clock = [0; 3];
    for (part, below) in clock.iter_mut().zip([24, 60, 61]) {
        *part = digits(parts.next()?).filter(|value| *value < below)?;
    }
    if parts.next().is_some() {
        return None;
    }
    let [hour, minute, second] = clock;
    let local = days_before(year, u64::try_from(month).ok()?, day) * 86_400
        + hour * 3_600
        + minute * 60
        + second;
    let seconds = match zone {
        None => local,
        Some([sign, offset @ ..]) if offset.len() == 4 => {
            let offset = digits(offset)?;
            let offset = offset / 100 * 3_600 + offset % 100 * 60;
            match sign {
                b'+' => local.checked_sub(offset)?,
                b'-' => local + offset,
                _ => return None,
            }
        }
        Some(_) => return None,
    };
    seconds.checked_mul(1_000)
}

/// Days from 1970-01-01 to this one, in the Gregorian calendar. `month` counts from 0.
fn days_before(year: u64, month: u64, day: u64) -> u64 {
    // Years begin in March here, so that the day that leap years add is the last one.
    let (year, month) = if month < 2 {
        (year - 1, month + 10)
    } else {
        (year, month - 2)
    };
    let in_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + in_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (text, expected) in [
            ("01/Jan/1970:00:00:00 +0000", Some(0)),
            ("10/Oct/2000:13:55:36 -0700", Some(971_211_336_000)),
            ("01/Aug/1995:00:00:01 -0400", Some(807_249_601_000)),
            ("29/Feb/2024:23:59:59 +0100", Some(1_709_247_599_000)),
            ("01/Mar/2100:00:00:00 +0000", Some(4_107_542_400_000)),
            ("10/Oct/2000:13:55:36", Some(971_186_136_000)),
            ("01/Jan/1970:00:00:00 +0100", None),
            ("10/Okt/2000:13:55:36 -0700", None),
            ("10/Oct/2000:24:55:36 -0700", None),
            ("10/Oct/2000:13:55:36 PST", None),
            ("10/Oct/2000:13:55", None),
            ("", None),
        ] {
            assert_eq!(unix_ms(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn common_and_combined_lines_come_apart() {
        let common =
            br#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a?b=1 HTTP/1.0" 200 2326"#;
        let expected = Logged {
            time_ms: 971_211_336_000,
            method: b"GET",
            host: b"",
            target: b"/a?b=1",
            status: 200,
            bytes: Some(2326),
        };
        assert_eq!(parse(common), Ok(expected));
        let combined = [&common[..], br#" "http://x/" "Mozilla \"5\"""#].concat();
        assert_eq!(parse(&combined), Ok(expected));
        let quoted = br#"h - - [10/Oct/2000:13:55:36 -0700] "GET /\"x\" HTTP/1.1" 304 -"#;
        let parsed = parse(quoted).unwrap();
        assert_eq!((parsed.target, parsed.bytes), (&br#"/\"x\""#[..], None));
        let garbage = br#"h - - [10/Oct/2000:13:55:36 -0700] "\x16\x03" 400 0"#;
        assert_eq!(parse(garbage).unwrap().method, b"");
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (line, flaw) in [
            ("", "no [time]"),
            (
                "h - - [x] \"GET / HTTP/1.0\" 200 1",
                "the time is not written as 10/Oct/2000:13:55:36 -0700",
            ),
            ("h - - [10/Oct/2000:13:55:36 -0700] 200 1", "no \"request\""),
            (
                "h - - [10/Oct/2000:13:55:36 -0700] \"GET /",
                "the \"request\" does not end",
            ),
            (
                "h - - [10/Oct/2000:13:55:36 -0700] \"GET /\" x 1",
                "the status is not a number",
            ),
            (
                "h - - [10/Oct/2000:13:55:36 -0700] \"GET /\" 200",
                "no number of bytes",
            ),
            (
                "h - - [10/Oct/2000:13:55:36 -0700] \"GET /\" 200 -3",
                "the number of bytes is negative",
            ),
            (
                "h - - [10/Oct/2000:13:55:36 -0700] \"GET /\" 200 x",
                "the number of bytes is neither a number nor -",
            ),
        ] {
            assert_eq!(
                parse(line.as_bytes()).unwrap_err().to_string(),
                flaw,
                "{line}"
            );
        }
    }
}

//! Comma-separated columns: `time,key,size`, perhaps `ttl`, in this order or in that of a header.
//!
//! Times are seconds, sizes bytes, lifetimes seconds; an empty `ttl` is one without end. A field
//! may be quoted as RFC 4180 has it. Columns that a header names and nobody asked for are passed
//! over.

use std::borrow::Cow;

use super::field::{Flaw, leading_digits, leading_seconds, number, seconds};
use crate::simulate::request::{NO_END, Request, key_of};

/// What a column may be called.
const NAMES: [(&str, &[&str]); 4] = [
    ("time", &["time", "timestamp"]),
    ("key", &["key", "id", "obj_id", "object", "url"]),
    ("size", &["size", "bytes", "obj_size"]),
    ("ttl", &["ttl", "ttl_s"]),
];

/// Where the columns are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    time: usize,
    key: usize,
    size: usize,
    ttl: Option<usize>,
    count: usize,
    /// They are `time,key,size`, perhaps `ttl`, and no others.
    is_in_order: bool,
}

/// What the first line turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First {
    /// The names of the columns.
    Header,
    /// A request.
    Request,
}

impl Columns {
    /// The columns of a file with this first line.
    pub(super) fn of(line: &[u8]) -> Result<(Self, First), String> {
        let fields: Vec<_> = Fields(Some(line)).collect();
        let shown = String::from_utf8_lossy(line);
        let time = fields.first().map(AsRef::as_ref).unwrap_or_default();
        if time
            .trim_ascii()
            .first()
            .is_some_and(|c| c.is_ascii_digit() || *c == b'-')
        {
            let count = fields.len();
            if !(3..=4).contains(&count) {
                return Err(format!(
                    "the first line has {}; without a header they are time,key,size and perhaps \
                     ttl: {shown:.80}",
                    columns(count)
                ));
            }
            let in_order = Self {
                time: 0,
                key: 1,
                size: 2,
                ttl: (count == 4).then_some(3),
                count,
                is_in_order: true,
            };
            return Ok((in_order, First::Request));
        }
        let place = |names: &[&str]| {
            let named = |field: &Cow<'_, [u8]>| {
                let field = field.strip_prefix(b"\xef\xbb\xbf").unwrap_or(field);
                names
                    .iter()
                    .any(|name| field.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
            };
            fields.iter().position(named)
        };
        let [time, key, size, ttl] = NAMES.map(|(_, names)| place(names));
        let (Some(time), Some(key), Some(size)) = (time, key, size) else {
            let missing: Vec<_> = NAMES
                .iter()
                .zip([time, key, size, Some(0)])
                .filter(|(_, place)| place.is_none())
                .map(|((name, _), _)| *name)
                .collect();
            return Err(format!(
                "the header has no column {}: {shown:.80}",
                missing.join(" and no column ")
            ));
        };
        let count = fields.len();
        let is_in_order =
            [time, key, size] == [0, 1, 2] && (count == 3 || (count == 4 && ttl == Some(3)));
        Ok((
            Self {
                time,
                key,
                size,
                ttl,
                count,
                is_in_order,
            },
            First::Header,
        ))
    }

    /// The request of a line.
    #[inline]
    pub(super) fn parse(&self, line: &[u8]) -> Result<Request, Flaw> {
        match self.plain(line) {
            Some(request) => Ok(request),
            None => self.any(line),
        }
    }

    /// The request of a line as most traces have them: the columns in order, digits, no quotes and
    /// no blanks. `None` for all other lines, which may be as good.
    #[inline]
    fn plain(&self, line: &[u8]) -> Option<Request> {
        if !self.is_in_order {
            return None;
        }
        let (time_ms, rest) = leading_seconds(line)?;
        let rest = rest.strip_prefix(b",")?;
        let (key, rest) = rest.split_at_checked(memchr::memchr(b',', rest)?)?;
        let is_plain = |byte: &u8| !byte.is_ascii_whitespace() && *byte != b'"';
        if !(is_plain(key.first()?) && is_plain(key.last()?)) {
            return None;
        }
        let (size, rest) = leading_digits(rest.strip_prefix(b",")?)?;
        let ttl_s = match (self.ttl, rest) {
            (None, []) | (Some(_), [b',']) => NO_END,
            (Some(_), [b',', ttl @ ..]) => {
                let (ttl, rest) = leading_digits(ttl)?;
                rest.is_empty().then(|| finite(ttl))?
            }
            _ => return None,
        };
        Some(Request {
            time_ms,
            key: key_of([key, b""]),
            size,
            key_bytes: u32::try_from(key.len()).unwrap_or(u32::MAX),
            ttl_s,
        })
    }

    #[cold]
    fn any(&self, line: &[u8]) -> Result<Request, Flaw> {
        let (mut time, mut key, mut size, mut ttl) = (None, None, None, None);
        let mut count = 0;
        for (place, field) in Fields(Some(line)).enumerate() {
            count += 1;
            if place == self.time {
                time = Some(seconds(&field)?);
            } else if place == self.key {
                key = Some(field);
            } else if place == self.size {
                size = Some(number(&field, "size")?);
            } else if Some(place) == self.ttl && !field.trim_ascii().is_empty() {
                ttl = Some(number(&field, "ttl")?);
            }
        }
        if count != self.count {
            return Flaw::err(format!("{}, not {}", columns(count), self.count));
        }
        let (Some(time_ms), Some(key), Some(size)) = (time, key, size) else {
            return Flaw::err("a column is missing");
        };
        let key = key.trim_ascii();
        if key.is_empty() {
            return Flaw::err("the key is empty");
        }
        Ok(Request {
            time_ms,
            key: key_of([key, b""]),
            size,
            key_bytes: u32::try_from(key.len()).unwrap_or(u32::MAX),
            ttl_s: ttl.map_or(NO_END, finite),
        })
    }
}

/// A lifetime that a trace gives, which has an end however long it is.
fn finite(ttl: u64) -> u32 {
    u32::try_from(ttl).unwrap_or(NO_END - 1).min(NO_END - 1)
}

fn columns(count: usize) -> String {
    match count {
        1 => "1 column".to_owned(),
        _ => format!("{count} columns"),
    }
}

/// The fields of a line.
struct Fields<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Fields<'a> {
    type Item = Cow<'a, [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0?;
        if let [b'"', quoted @ ..] = rest {
            let (field, rest) = unquoted(quoted);
            self.0 = rest;
            return Some(Cow::Owned(field));
        }
        let (field, rest) = match memchr::memchr(b',', rest) {
            Some(comma) => (rest.get(..comma).unwrap_or_default(), rest.get(comma + 1..)),
            None => (rest, None),
        };
        self.0 = rest;
        Some(Cow::Borrowed(field))
    }
}

/// A quoted field, after its first quote, and what follows its comma.
fn unquoted(text: &[u8]) -> (Vec<u8>, Option<&[u8]>) {
    let mut field = Vec::new();
    let mut rest = text;
    loop {
        match rest {
            [b'"', b'"', after @ ..] => {
                field.push(b'"');
                rest = after;
            }
            [b'"', b',', after @ ..] => return (field, Some(after)),
            [b'"'] | [] => return (field, None),
            [byte, after @ ..] => {
                field.push(*byte);
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn columns_of(line: &str) -> (Columns, First) {
        Columns::of(line.as_bytes()).unwrap()
    }

    #[test]
    fn a_line_is_read_by_the_header_or_in_order() {
        let request = |time_ms, key: &str, size, ttl_s| Request {
            time_ms,
            key: key_of([key.as_bytes(), b""]),
            size,
            key_bytes: u32::try_from(key.len()).unwrap(),
            ttl_s,
        };
        for (first, line, expected) in [
            ("0,a,1", "7,a,5", request(7_000, "a", 5, NO_END)),
            ("0,a,1", "7.25, a ,5", request(7_250, "a", 5, NO_END)),
            ("0,a,1,60", "7,a,5,60", request(7_000, "a", 5, 60)),
            ("0,a,1,60", "7,a,5,", request(7_000, "a", 5, NO_END)),
            ("Time,Key,Size", "7,/b,5", request(7_000, "/b", 5, NO_END)),
            (
                "url,op,bytes,timestamp",
                "/b,get,5,7",
                request(7_000, "/b", 5, NO_END),
            ),
            (
                "time,key,size",
                "7,\"/b?x=1,2\"\"\",5",
                request(7_000, "/b?x=1,2\"", 5, NO_END),
            ),
            (
                "time,key,size,ttl",
                "7,a,5,99999999999",
                request(7_000, "a", 5, NO_END - 1),
            ),
        ] {
            let (columns, _) = columns_of(first);
            assert_eq!(
                columns.parse(line.as_bytes()),
                Ok(expected),
                "{first} / {line}"
            );
        }
        assert_eq!(columns_of("time,key,size").1, First::Header);
        assert_eq!(columns_of("\u{feff}time,key,size").1, First::Header);
        assert_eq!(columns_of("1,key,5").1, First::Request);
    }

    proptest! {
        /// A plain line is read as any line is.
        #[test]
        fn plain_lines_are_lines(
            line in "[0-9]{0,3}(\\.[0-9]{0,5})?[,.x]?([a-b,\" ]{0,3}|[0-9]{18,21}),[0-9]{0,3}(,[0-9x]{0,2})?",
            four in any::<bool>(),
        ) {
            let (columns, _) = columns_of(if four { "0,a,1,60" } else { "0,a,1" });
            if let Some(request) = columns.plain(line.as_bytes()) {
                prop_assert_eq!(columns.any(line.as_bytes()), Ok(request));
            }
        }
    }

    #[test]
    fn wrong_columns_are_told() {
        let told = |first: &str| Columns::of(first.as_bytes()).unwrap_err();
        assert_eq!(
            told("1,2"),
            "the first line has 2 columns; without a header they are time,key,size and perhaps \
             ttl: 1,2"
        );
        assert_eq!(
            told("time,name"),
            "the header has no column key and no column size: time,name"
        );
        let (columns, _) = columns_of("0,a,1");
        for (line, flaw) in [
            ("1,a", "2 columns, not 3"),
            ("1,a,5,6", "4 columns, not 3"),
            ("1", "1 column, not 3"),
            ("1,a,-5", "the size is negative"),
            ("-1,a,5", "the time is negative"),
            ("x,a,5", "the time is not a number of seconds"),
            ("1,,5", "the key is empty"),
        ] {
            let told = columns.parse(line.as_bytes()).unwrap_err().to_string();
            assert_eq!(told, flaw, "{line}");
        }
    }
}

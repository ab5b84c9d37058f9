//! Lists and dictionaries of structured fields (RFC 9651 3.1, 3.2), as far as fields about caching
//! need them.
//!
//! Strict: a value that breaks the grammar anywhere, in parts that nobody reads too, is no list and
//! no dictionary at all. Parameters and the types that no such field has are checked and left out.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};

/// One member's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer, as it is written.
    Integer(&'a [u8]),
    /// The inside of a string, escapes still in it.
    String(&'a [u8]),
    /// A boolean; a member without a value is true.
    Boolean(bool),
    /// A decimal, token, byte sequence, date, display string or inner list.
    Other,
}

/// A key and its value.
pub type Member<'a> = (&'a [u8], Value<'a>);

/// All lines of a field as one value; `None` if there are none (RFC 9651 4.2).
pub fn combined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers.get_all(name).iter();
    let mut value = Cow::Borrowed(lines.next()?.as_bytes());
    for line in lines {
        let value = value.to_mut();
        value.extend_from_slice(b", ");
        value.extend_from_slice(line.as_bytes());
    }
    Some(value)
}

/// Reads a dictionary (4.2.2); `None` if it is none. Of a key that is given several times the last
/// counts.
pub fn dictionary(value: &[u8]) -> Option<Vec<Member<'_>>> {
    let mut members: Vec<Member<'_>> = Vec::new();
    Cursor::separated(value, |text| {
        let key = text.key()?;
        let value = match text.take(b'=') {
            Some(()) => text.member()?,
            None => Value::Boolean(true),
        };
        text.parameters()?;
        members.retain(|(known, _)| *known != key);
        members.push((key, value));
        Some(())
    })?;
    Some(members)
}

/// Reads a list (4.2.1); `None` if it is none.
pub fn list(value: &[u8]) -> Option<Vec<Value<'_>>> {
    let mut members = Vec::new();
    Cursor::separated(value, |text| {
        members.push(text.member()?);
        text.parameters()
    })?;
    Some(members)
}

/// What a string says whose inside, as [`Value::String`] has it, is `inside`.
pub fn unescaped(inside: &[u8]) -> Vec<u8> {
    let mut said = Vec::with_capacity(inside.len());
    let mut bytes = inside.iter();
    while let Some(byte) = bytes.next() {
        // A backslash stands before a quote or another backslash only.
        said.extend(if *byte == b'\\' {
            bytes.next()
        } else {
            Some(byte)
        });
    }
    said
}

/// What is left to read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// Reads `value` from end to end as members with commas between them (4.2.1, 4.2.2).
    fn separated(value: &'a [u8], mut member: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        let mut text = Self(value.trim_ascii_start());
        if text.0.is_empty() {
            return Some(());
        }
        loop {
            member(&mut text)?;
            text.whitespace();
            if text.0.is_empty() {
                return Some(());
            }
            text.take(b',')?;
            text.whitespace();
            // What follows a comma is a member, and no comma ends the list.
        }
    }

    /// Takes one byte if it is `expected`.
    fn take(&mut self, expected: u8) -> Option<()> {
        let (first, rest) = self.0.split_first()?;
        (*first == expected).then(|| self.0 = rest)
    }

    /// Takes every byte from the front that `accepts`.
    fn take_while(&mut self, accepts: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|&byte| !accepts(byte));
        let (taken, rest) = self
            .0
            .split_at_checked(end.unwrap_or(self.0.len()))
            .unwrap_or((self.0, &[]));
        self.0 = rest;
        taken
    }

    fn spaces(&mut self) {
        self.take_while(|byte| byte == b' ');
    }

    fn whitespace(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t'));
    }

    /// 4.2.3.3.
    fn key(&mut self) -> Option<&'a [u8]> {
        let first = self.0.first()?;
        if !(first.is_ascii_lowercase() || *first == b'*') {
            return None;
        }
        Some(self.take_while(|byte| {
            byte.is_ascii_lowercase()
                || byte.is_ascii_digit()
                || matches!(byte, b'_' | b'-' | b'.' | b'*')
        }))
    }

    /// 4.2.1.1, without the parameters.
    fn member(&mut self) -> Option<Value<'a>> {
        if self.take(b'(').is_none() {
            return self.bare_item();
        }
        loop {
            self.spaces();
            if self.take(b')').is_some() {
                return Some(Value::Other);
            }
            self.bare_item()?;
            self.parameters()?;
            if !matches!(self.0.first(), Some(b' ' | b')')) {
                return None;
            }
        }
    }

    /// 4.2.3.2.
    fn parameters(&mut self) -> Option<()> {
        while self.take(b';').is_some() {
            self.spaces();
            self.key()?;
            if self.take(b'=').is_some() {
                self.bare_item()?;
            }
        }
        Some(())
    }

    /// 4.2.3.1.
    fn bare_item(&mut self) -> Option<Value<'a>> {
        match self.0.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string().map(Value::String),
            b'?' => {
                self.take(b'?')?;
                let truth = self.take(b'1').is_some();
                (truth || self.take(b'0').is_some()).then_some(Value::Boolean(truth))
            }
            b':' => self.bytes(),
            b'@' => {
                self.take(b'@')?;
                // A date is written as an integer (4.2.9).
                matches!(self.number()?, Value::Integer(_)).then_some(Value::Other)
            }
            b'%' => self.display_string(),
            first if first.is_ascii_alphabetic() || *first == b'*' => {
                self.take_while(|byte| {
                    super::list::is_token_byte(byte) || matches!(byte, b':' | b'/')
                });
                Some(Value::Other)
            }
            _ => None,
        }
    }

    /// 4.2.4.
    fn number(&mut self) -> Option<Value<'a>> {
        let all = self.0;
        let sign = usize::from(self.take(b'-').is_some());
        let whole = self.take_while(|byte| byte.is_ascii_digit()).len();
        if self.take(b'.').is_some() {
            let part = self.take_while(|byte| byte.is_ascii_digit()).len();
            let fits = (1..=12).contains(&whole) && (1..=3).contains(&part);
            return fits.then_some(Value::Other);
        }
        let digits = all.get(..sign + whole)?;
        (1..=15).contains(&whole).then_some(Value::Integer(digits))
    }

    /// 4.2.5; the inside.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        let all = self.0;
        loop {
            self.take_while(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
            if self.take(b'"').is_some() {
                return all.get(..all.len().saturating_sub(self.0.len() + 1));
            }
            self.take(b'\\')?;
            if self.take(b'"').is_none() {
                self.take(b'\\')?;
            }
        }
    }

    /// 4.2.7. Padding may be left out, and stands at the end only.
    fn bytes(&mut self) -> Option<Value<'a>> {
        self.take(b':')?;
        let digits = self.take_while(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte));
        let padding = self.take_while(|byte| byte == b'=').len();
        self.take(b':')?;
        let fits = match (digits.len() % 4, padding) {
            (_, 0) => digits.len() % 4 != 1,
            (length, padding) => length >= 2 && length + padding == 4,
        };
        fits.then_some(Value::Other)
    }

    /// 4.2.10.
    fn display_string(&mut self) -> Option<Value<'a>> {
        self.take(b'%')?;
        self.take(b'"')?;
        let mut bytes = Vec::new();
        loop {
            let plain =
                self.take_while(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'%');
            bytes.extend_from_slice(plain);
            if self.take(b'"').is_some() {
                return std::str::from_utf8(&bytes).ok().map(|_| Value::Other);
            }
            self.take(b'%')?;
            bytes.push((self.nibble()? << 4) | self.nibble()?);
        }
    }

    /// One hexadecimal digit in lower case.
    fn nibble(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        match first {
            b'0'..=b'9' => Some(first - b'0'),
            b'a'..=b'f' => Some(first - b'a' + 10),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &'static str, expected: Option<&[(&str, Value<'static>)]>) {
        let expected: Option<Vec<_>> = expected.map(|members| {
            let members = members.iter();
            members
                .map(|(key, value)| (key.as_bytes(), *value))
                .collect()
        });
        assert_eq!(dictionary(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn dictionaries_are_read_as_the_rfc_has_them() {
        use Value::{Boolean, Integer, Other, String};
        check("", Some(&[]));
        check("  ", Some(&[]));
        check("a", Some(&[("a", Boolean(true))]));
        check(
            "a=?0, b=?1",
            Some(&[("a", Boolean(false)), ("b", Boolean(true))]),
        );
        check(
            "a=1,b=-2 \t,\tc=\"x\"",
            Some(&[
                ("a", Integer(b"1")),
                ("b", Integer(b"-2")),
                ("c", String(b"x")),
            ]),
        );
        check("a=1, a=2", Some(&[("a", Integer(b"2"))]));
        check(
            "a=\"x\\\"\\\\, b\"",
            Some(&[("a", String(b"x\\\"\\\\, b"))]),
        );
        check(
            "a=1;p;q=2; r=\"x\", b;s=?0",
            Some(&[("a", Integer(b"1")), ("b", Boolean(true))]),
        );
        for other in [
            "tok/en:*",
            "1.5",
            "-0.125",
            ":aGk=:",
            ":aGk:",
            "::",
            "@1700000000",
            "%\"f%c3%bc\"",
            "()",
            "( 1  \"x\";p=1 )",
            "(a b)",
        ] {
            let text: &'static str = format!("a={other}").leak();
            check(text, Some(&[("a", Other)]));
        }
        check(
            "a=000000000000001",
            Some(&[("a", Integer(b"000000000000001"))]),
        );
    }

    #[test]
    fn what_breaks_the_grammar_anywhere_is_no_dictionary() {
        for text in [
            "A=1",
            "1",
            "a=",
            "a= 1",
            "a =1",
            "a=1,",
            ",a=1",
            "a=1,,b",
            "a=1 b=2",
            "a;",
            "a;P",
            "a=\"x",
            "a=\"x\\y\"",
            "a='x'",
            "a=1.",
            "a=.5",
            "a=1.2345",
            "a=1234567890123.1",
            "a=1234567890123456",
            "a=--1",
            "a=+1",
            "a=1s",
            "a=?2",
            "a=?",
            "a=:a:",
            "a=:aG=k:",
            "a=:aGk",
            "a=@1.5",
            "a=@",
            "a=%\"%C3\"",
            "a=%\"%ff\"",
            "a=%x",
            "a=(1",
            "a=(1,2)",
            "a=(1\"x\")",
            "a=\u{e9}",
            "a=\"\u{e9}\"",
            "max-age=60; ",
            "a\u{b}=1",
            "a=1\n",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn lists_are_read_as_the_rfc_has_them() {
        use Value::{Boolean, Integer, Other, String};
        let check = |text: &str, expected: Option<&[Value<'_>]>| {
            assert_eq!(list(text.as_bytes()).as_deref(), expected, "{text}");
        };
        check("", Some(&[]));
        check("1", Some(&[Integer(b"1")]));
        check(
            "\"a\\\"b\";p=\"x, y\" ,\t?0, t;q, (1 \"z\");r, 1",
            Some(&[
                String(b"a\\\"b"),
                Boolean(false),
                Other,
                Other,
                Integer(b"1"),
            ]),
        );
        for bad in ["a,", ",a", "a,,b", "a b", "\"a", "(a", "a;", "a=1", "1 ,"] {
            check(bad, None);
        }
        assert_eq!(unescaped(b"a\\\"b\\\\"), b"a\"b\\");
    }

    fn item() -> impl Strategy<Value = String> {
        prop_oneof![
            (-999_999_999_999_999_i64..=999_999_999_999_999).prop_map(|n| n.to_string()),
            "\"[ !#-Z^-~]{0,8}\"",
            "[?][01]",
            "[a-zA-Z*][a-z0-9:/!#$%&'*+.^_`|~-]{0,8}",
            "-?[0-9]{1,12}[.][0-9]{1,3}",
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            members in proptest::collection::btree_map("[a-z*][a-z0-9_.*-]{0,8}", item(), 0..6)
        ) {
            let text: Vec<_> = members.iter().map(|(key, item)| format!("{key}={item};p=1")).collect();
            let text = text.join(" ,\t");
            let read = dictionary(text.as_bytes());
            let read = read.expect("what was written is a dictionary");
            prop_assert_eq!(read.len(), members.len());
            for ((key, value), (written, item)) in read.into_iter().zip(&members) {
                prop_assert_eq!(key, written.as_bytes());
                match value {
                    Value::Integer(digits) => prop_assert_eq!(digits, item.as_bytes()),
                    Value::String(inside) => {
                        let quoted = [b"\"", inside, b"\""].concat();
                        prop_assert_eq!(quoted.as_slice(), item.as_bytes());
                    }
                    Value::Boolean(truth) => prop_assert_eq!(item.as_str(), if truth { "?1" } else { "?0" }),
                    Value::Other => prop_assert!(!item.starts_with(['"', '?'])),
                }
            }
        }

        #[test]
        fn any_bytes_are_taken(text in proptest::collection::vec(any::<u8>(), 0..48)) {
            let members = dictionary(&text).map_or(0, |members| members.len());
            let values = list(&text).map_or(0, |values| values.len());
            prop_assert!(members <= text.len() && values <= text.len());
        }
    }
}

//! Groups of responses that are invalidated together (RFC 9875).
//!
//! `Cache-Groups` and `Cache-Group-Invalidation` are lists of strings in the syntax of structured
//! fields (RFC 9651). A field that is not is ignored as a whole, as that syntax demands.

use http::{HeaderMap, HeaderName};

/// The groups of a response (RFC 9875 2).
pub const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
/// The groups that the answer to an unsafe request invalidates (RFC 9875 3).
pub const CACHE_GROUP_INVALIDATION: HeaderName =
    HeaderName::from_static("cache-group-invalidation");

/// The groups that the field `name` lists; none if it is malformed.
pub fn groups(headers: &HeaderMap, name: &HeaderName) -> Vec<Vec<u8>> {
    let mut lines = headers.get_all(name).iter();
    let Some(first) = lines.next() else {
        return Vec::new();
    };
    // Lines make one list (RFC 9651 4.2).
    let mut text = first.as_bytes().to_vec();
    for line in lines {
        text.extend_from_slice(b", ");
        text.extend_from_slice(line.as_bytes());
    }
    list(&text).unwrap_or_default()
}

/// A list whose members are strings. Their parameters are read and ignored (RFC 9875 2).
fn list(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = Rest(text.trim_ascii());
    let mut members = Vec::new();
    while !rest.0.is_empty() {
        rest.expect(b'"')?;
        members.push(rest.string()?);
        rest.parameters()?;
        rest.skip_blanks();
        if rest.0.is_empty() {
            break;
        }
        rest.expect(b',')?;
        rest.skip_blanks();
        // A comma promises another member.
        rest.0.first()?;
    }
    Some(members)
}

/// What is left to read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    fn skip_while(&mut self, condition: impl Fn(u8) -> bool) -> usize {
        let length = self.0.iter().take_while(|byte| condition(**byte)).count();
        self.0 = self.0.get(length..).unwrap_or_default();
        length
    }

    /// A string after its opening quote (RFC 9651 4.2.5).
    fn string(&mut self) -> Option<Vec<u8>> {
        let mut string = Vec::new();
        loop {
            match self.next()? {
                b'"' => return Some(string),
                b'\\' => match self.next()? {
                    byte @ (b'"' | b'\\') => string.push(byte),
                    _ => return None,
                },
                byte @ b' '..=b'~' => string.push(byte),
                _ => return None,
            }
        }
    }

    /// `*( ";" *SP key [ "=" bare-item ] )` (RFC 9651 4.2.3.2).
    fn parameters(&mut self) -> Option<()> {
        while self.0.first() == Some(&b';') {
            self.next();
            self.skip_while(|byte| byte == b' ');
            let first = *self.0.first()?;
            if !(first.is_ascii_lowercase() || first == b'*') {
                return None;
            }
            self.skip_while(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte)
            });
            if self.0.first() == Some(&b'=') {
                self.next();
                self.bare_item()?;
            }
        }
        Some(())
    }

    /// Reads over an item; of what is no string only where it ends matters.
    fn bare_item(&mut self) -> Option<()> {
        if self.0.first() == Some(&b'%') {
            self.next();
            self.expect(b'"')?;
            return self.string().map(drop);
        }
        if self.0.first() == Some(&b'"') {
            self.next();
            return self.string().map(drop);
        }
        let read = self.skip_while(|byte| byte.is_ascii_graphic() && !b"\",;".contains(&byte));
        (read > 0).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn read(lines: &[&'static str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_GROUPS, HeaderValue::from_static(line));
        }
        let groups = groups(&headers, &CACHE_GROUPS);
        let text = |group| String::from_utf8(group).unwrap();
        groups.into_iter().map(text).collect()
    }

    #[test]
    fn lists_of_strings_are_read_and_all_else_is_ignored_whole() {
        let check = |lines: &[&'static str], expected: &[&str]| {
            assert_eq!(read(lines), expected, "{lines:?}");
        };
        check(&[], &[]);
        check(&[""], &[]);
        check(&["\"a\""], &["a"]);
        check(&[" \"a b\" ,\t\"\\\"c\\\\\" "], &["a b", "\"c\\"]);
        check(&["\"a\"", "\"b\", \"c\""], &["a", "b", "c"]);
        check(
            &["\"a\";x;y=1; z=\"q, r\";w=%\"f\", \"b\";*=t/u:v"],
            &["a", "b"],
        );
        check(&["\"\""], &[""]);
        for bad in [
            "a",
            "\"a",
            "\"a\",",
            "\"a\" \"b\"",
            "\"a\",,\"b\"",
            "(\"a\")",
            "\"a\\b\"",
            "\"a\", b",
            "\"a\";",
            "\"a\";X",
            "\"a\";x=",
            "\"a\tb\"",
            "1",
            "\"a\"; ",
        ] {
            check(&[bad], &[]);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(groups in prop::collection::vec("[ -~]{0,12}", 0..6)) {
            let quoted = groups.iter().map(|group| {
                format!("\"{}\"", group.replace('\\', "\\\\").replace('"', "\\\""))
            });
            let line = quoted.collect::<Vec<_>>().join(", ");
            let expected: Vec<Vec<u8>> = groups.into_iter().map(String::into_bytes).collect();
            prop_assert_eq!(list(line.as_bytes()), Some(expected));
        }

        #[test]
        fn no_bytes_break_it(line in prop::collection::vec(any::<u8>(), 0..48)) {
            let length = list(&line).map_or(0, |members| members.len());
            prop_assert!(length <= line.len());
        }
    }
}

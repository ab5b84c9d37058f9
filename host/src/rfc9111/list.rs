//! The list and quoted-string syntax that many fields share (RFC 9110 5.5, 5.6).
//!
//! Takes any bytes, since a field value may hold any but controls. Splitting takes time linear in
//! the value whatever it holds. What is malformed is never read as something more permissive than
//! the well-formed value nearest to it: a quote that is not closed quotes nothing.

use std::borrow::Cow;

/// The elements of one field line that is a comma-separated list, without the whitespace around
/// them. Empty elements are skipped (RFC 9110 5.6.1.2); commas in a quoted string do not separate.
pub fn elements(line: &[u8]) -> Elements<'_> {
    Elements {
        rest: line,
        quotes: Quotes::Count,
    }
}

/// Iterator over the elements of a list; see [`elements`].
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    rest: &'a [u8],
    quotes: Quotes,
}

/// Whether a quote still opens a quoted string.
#[derive(Clone, Copy, Debug)]
enum Quotes {
    Count,
    // A quote was found open to the end. Looking for the end of each later one would take time
    // quadratic in the line, so from here on they are ordinary bytes.
    Ignore,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let element = self.split().trim_ascii();
            if !element.is_empty() {
                return Some(element);
            }
        }
        None
    }
}

impl Elements<'_> {
    /// Whether a quote was found that is never closed, so that what was given last and what follows
    /// may have been meant to be quoted.
    pub const fn has_open_quote(&self) -> bool {
        matches!(self.quotes, Quotes::Ignore)
    }
}

impl<'a> Elements<'a> {
    /// Takes everything up to the next separating comma, and the comma.
    fn split(&mut self) -> &'a [u8] {
        let mut at = 0;
        while let Some(&byte) = self.rest.get(at) {
            match (byte, self.quotes) {
                (b',', _) => break,
                (b'"', Quotes::Count) => {
                    if let Some(close) = closing_quote(self.rest, at + 1) {
                        at = close;
                    } else {
                        self.quotes = Quotes::Ignore;
                    }
                    at += 1;
                }
                _ => at += 1,
            }
        }
        let (element, rest) = self.rest.split_at_checked(at).unwrap_or((self.rest, &[]));
        self.rest = rest.get(1..).unwrap_or_default();
        element
    }
}

/// Where the quoted string whose content begins at `from` ends, if it does.
fn closing_quote(line: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        match line.get(at)? {
            b'"' => return Some(at),
            // A quoted pair: the next byte stands for itself (RFC 9110 5.6.4).
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// One element of the form `token [ "=" ( token / quoted-string ) ]`, the syntax of
/// cache directives (RFC 9111 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directive<'a> {
    /// The name as sent; names compare without regard to case.
    pub name: &'a [u8],
    /// What follows it.
    pub argument: Argument<'a>,
}

/// The argument of a [`Directive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument<'a> {
    /// No `=`.
    None,
    /// A token.
    Token(&'a [u8]),
    /// The inside of a quoted string, quoted pairs still in it.
    Quoted(&'a [u8]),
    /// Something that the grammar does not allow.
    Malformed,
}

impl<'a> Argument<'a> {
    /// The text of the argument, if it is well-formed and there is one.
    pub fn text(self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Token(token) => Some(Cow::Borrowed(token)),
            Self::Quoted(inside) => Some(unescape(inside)),
            Self::None | Self::Malformed => None,
        }
    }
}

/// Reads one element as a directive; `None` if it does not even begin with a token.
pub fn directive(element: &[u8]) -> Option<Directive<'_>> {
    let end = element
        .iter()
        .position(|&byte| !is_token_byte(byte))
        .unwrap_or(element.len());
    let (name, rest) = element.split_at_checked(end)?;
    if name.is_empty() {
        return None;
    }
    let argument = match rest {
        [] => Argument::None,
        [b'=', b'"', inside @ ..] => match closing_quote(inside, 0) {
            Some(close) if close + 1 == inside.len() => {
                Argument::Quoted(inside.get(..close).unwrap_or_default())
            }
            _ => Argument::Malformed,
        },
        [b'=', token @ ..] if is_token(token) => Argument::Token(token),
        _ => Argument::Malformed,
    };
    Some(Directive { name, argument })
}

/// Removes the backslashes of quoted pairs (RFC 9110 5.6.4).
fn unescape(inside: &[u8]) -> Cow<'_, [u8]> {
    if !inside.contains(&b'\\') {
        return Cow::Borrowed(inside);
    }
    let mut plain = Vec::with_capacity(inside.len());
    let mut bytes = inside.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => plain.extend(bytes.next()),
            _ => plain.push(byte),
        }
    }
    Cow::Owned(plain)
}

/// Whether `bytes` is a token: one or more token bytes (RFC 9110 5.6.2).
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

/// Whether a token may hold `byte`.
pub const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_split_at_commas_outside_quoted_strings() {
        let check = |line: &[u8], expected: &[&[u8]]| {
            assert_eq!(
                elements(line).collect::<Vec<_>>(),
                expected,
                "{}",
                line.escape_ascii()
            );
        };
        check(b"", &[]);
        check(b" , ,\t", &[]);
        check(b"a", &[b"a"]);
        check(b" a ,\tb,,c ", &[b"a", b"b", b"c"]);
        check(b"a=\"x, y\", b", &[b"a=\"x, y\"", b"b"]);
        check(b"a=\"x\\\", y\", b", &[b"a=\"x\\\", y\"", b"b"]);
        check(b"a=\"x, b, c", &[b"a=\"x", b"b", b"c"]);
        check(b"a=\"x\", b=\"y, c", &[b"a=\"x\"", b"b=\"y", b"c"]);
        check(b"a=\"x\\", &[b"a=\"x\\"]);
        check(b"\xff,\x80", &[b"\xff", b"\x80"]);
    }

    #[test]
    fn directives_are_read_to_the_letter() {
        let check = |element: &'static [u8],
                     expected: Option<(&'static [u8], Argument<'static>)>| {
            let expected = expected.map(|(name, argument)| Directive { name, argument });
            assert_eq!(directive(element), expected, "{}", element.escape_ascii());
        };
        check(b"no-store", Some((b"no-store", Argument::None)));
        check(b"max-age=5", Some((b"max-age", Argument::Token(b"5"))));
        check(b"max-age=\"5\"", Some((b"max-age", Argument::Quoted(b"5"))));
        check(b"max-age=\"\"", Some((b"max-age", Argument::Quoted(b""))));
        check(b"max-age=", Some((b"max-age", Argument::Malformed)));
        check(b"max-age =5", Some((b"max-age", Argument::Malformed)));
        check(b"max-age= 5", Some((b"max-age", Argument::Malformed)));
        check(b"max-age=5 6", Some((b"max-age", Argument::Malformed)));
        check(b"max-age=\"5\"6", Some((b"max-age", Argument::Malformed)));
        check(b"max-age=\"5", Some((b"max-age", Argument::Malformed)));
        check(b"max-age=\"5\\\"", Some((b"max-age", Argument::Malformed)));
        check(b"=5", None);
        check(b"\"max-age=5\"", None);
        check(b"", None);
    }

    #[test]
    fn quoted_pairs_stand_for_themselves() {
        let text = |inside: &'static [u8]| Argument::Quoted(inside).text().unwrap().into_owned();
        assert_eq!(text(b"a\\\"b\\\\c"), b"a\"b\\c");
        assert_eq!(text(b"a\\"), b"a");
    }

    proptest! {
        #[test]
        fn no_bytes_are_invented_and_none_panic(line in proptest::collection::vec(any::<u8>(), 0..64)) {
            for element in elements(&line) {
                prop_assert!(!element.is_empty());
                let _: Option<Directive<'_>> = directive(element);
            }
        }

        #[test]
        fn a_list_of_tokens_is_read_back(tokens in proptest::collection::vec("[a-z0-9-]{1,8}", 0..8)) {
            let line = tokens.join(" ,\t");
            let read: Vec<_> = elements(line.as_bytes()).map(<[u8]>::to_vec).collect();
            let written: Vec<_> = tokens.into_iter().map(String::into_bytes).collect();
            prop_assert_eq!(read, written);
        }
    }
}

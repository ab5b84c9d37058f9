//! Entity tags and how they compare (RFC 9110 8.8.3).
//!
//! A backslash in an entity tag is an ordinary byte, and a comma inside its quotes too, so lists
//! of them are read here and not by the general list syntax.

/// One entity tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityTag<'a> {
    /// Whether `W/` stood before it.
    pub strength: Strength,
    /// What stands between the quotes.
    pub opaque: &'a [u8],
}

/// Whether equal validators promise equal bytes (RFC 9110 8.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// Byte for byte.
    Strong,
    /// Only the same meaning.
    Weak,
}

impl<'a> EntityTag<'a> {
    /// Reads a field value that is one entity tag.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        match Self::take(value.trim_ascii())? {
            (tag, []) => Some(tag),
            _ => None,
        }
    }

    /// Reads an entity tag off the front.
    fn take(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (strength, quoted) = match text {
            [b'W', b'/', rest @ ..] => (Strength::Weak, rest),
            _ => (Strength::Strong, text),
        };
        let inside = quoted.strip_prefix(b"\"")?;
        let end = inside.iter().position(|&byte| !is_tag_byte(byte))?;
        let (opaque, rest) = inside.split_at_checked(end)?;
        Some((Self { strength, opaque }, rest.strip_prefix(b"\"")?))
    }

    /// Strong comparison: both strong, and alike (RFC 9110 8.8.3.2).
    pub fn matches_strongly(self, other: EntityTag<'_>) -> bool {
        self.strength == Strength::Strong
            && other.strength == Strength::Strong
            && self.opaque == other.opaque
    }

    /// Weak comparison: alike, strong or not (RFC 9110 8.8.3.2).
    pub fn matches_weakly(self, other: EntityTag<'_>) -> bool {
        self.opaque == other.opaque
    }
}

/// The entity tags of one line of `If-Match` or `If-None-Match`. Elements that are none are
/// skipped.
pub fn list(line: &[u8]) -> impl Iterator<Item = EntityTag<'_>> {
    let mut rest = line;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_ascii_start();
            match rest {
                [] => return None,
                [b',', after @ ..] => rest = after,
                _ => {
                    let (tag, after) = element(rest);
                    rest = after;
                    if tag.is_some() {
                        return tag;
                    }
                }
            }
        }
    })
}

/// Reads one element, which ends at a comma or at the end of the line.
fn element(text: &[u8]) -> (Option<EntityTag<'_>>, &[u8]) {
    let (tag, rest) = match EntityTag::take(text) {
        Some((tag, rest)) => (Some(tag), rest.trim_ascii_start()),
        None => (None, text),
    };
    let end = rest
        .iter()
        .position(|&byte| byte == b',')
        .unwrap_or(rest.len());
    let clean = end == 0;
    (tag.filter(|_| clean), rest.get(end..).unwrap_or_default())
}

/// Whether an entity tag may hold `byte` (RFC 9110 8.8.3, `etagc`).
const fn is_tag_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x7e | 0x80..=0xff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn strong(opaque: &[u8]) -> EntityTag<'_> {
        EntityTag {
            strength: Strength::Strong,
            opaque,
        }
    }

    const fn weak(opaque: &[u8]) -> EntityTag<'_> {
        EntityTag {
            strength: Strength::Weak,
            opaque,
        }
    }

    #[test]
    fn single_tags_are_read_to_the_letter() {
        let check = |value: &'static [u8], expected: Option<EntityTag<'static>>| {
            assert_eq!(
                EntityTag::parse(value),
                expected,
                "{}",
                value.escape_ascii()
            );
        };
        check(b"\"a\"", Some(strong(b"a")));
        check(b" W/\"a\"\t", Some(weak(b"a")));
        check(b"\"\"", Some(strong(b"")));
        check(b"\"a\\\"", Some(strong(b"a\\")));
        check(b"\"\xff,\"", Some(strong(b"\xff,")));
        check(b"w/\"a\"", None);
        check(b"W/ \"a\"", None);
        check(b"a", None);
        check(b"\"a", None);
        check(b"\"a b\"", None);
        check(b"\"a\", \"b\"", None);
        check(b"", None);
    }

    #[test]
    fn lists_keep_commas_inside_tags_and_skip_what_is_none() {
        let check = |line: &'static [u8], expected: &[EntityTag<'static>]| {
            assert_eq!(
                list(line).collect::<Vec<_>>(),
                expected,
                "{}",
                line.escape_ascii()
            );
        };
        check(
            b"\"a\", W/\"b\",, \"c,d\" ,",
            &[strong(b"a"), weak(b"b"), strong(b"c,d")],
        );
        check(b"a, \"b\"", &[strong(b"b")]);
        check(b"\"a\"x, \"b\"", &[strong(b"b")]);
        check(b"\"a", &[]);
        check(b"*", &[]);
    }

    #[test]
    fn comparison_follows_the_table_of_the_rfc() {
        let check = |one: EntityTag<'_>, other: EntityTag<'_>, strongly, weakly| {
            assert_eq!(one.matches_strongly(other), strongly);
            assert_eq!(one.matches_weakly(other), weakly);
        };
        check(weak(b"1"), weak(b"1"), false, true);
        check(weak(b"1"), weak(b"2"), false, false);
        check(weak(b"1"), strong(b"1"), false, true);
        check(strong(b"1"), strong(b"1"), true, true);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(line in proptest::collection::vec(any::<u8>(), 0..48)) {
            for tag in list(&line) {
                prop_assert!(!tag.opaque.contains(&b'"'));
            }
        }
    }
}

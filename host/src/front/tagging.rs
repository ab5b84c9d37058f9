//! The tags that an origin gives its responses, by which operators purge them.
//!
//! `Surrogate-Key` and `xkey` are separated by spaces, `Cache-Tag` by commas; `Cache-Groups` is a
//! list of strings (RFC 9875). All of them together are one set. The first three are between an
//! origin and its caches and not shown to clients; `Cache-Groups` is for every cache on the way.

use http::{HeaderMap, HeaderName};

use crate::rfc9111::cache_groups::{self, CACHE_GROUPS};

/// Tags of one response, at most.
pub const TAGS_MAX: usize = 256;
/// Bytes of a tag, at most.
pub const TAG_BYTES_MAX: usize = 1_024;

/// Tags, separated by spaces.
pub const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
/// Tags, separated by commas.
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
/// Tags, separated by spaces.
const XKEY: HeaderName = HeaderName::from_static("xkey");

/// A response has more tags, or longer ones, than are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess;

/// What the origin says of a response.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Its tags, those of `Cache-Groups` among them.
    pub tags: Vec<Vec<u8>>,
    /// Its groups, which belong to its origin (RFC 9875 2.1).
    pub groups: Vec<Vec<u8>>,
}

/// Reads the tags of a response.
///
/// # Errors
/// There is an [`Excess`]: a response that could not be purged by some of its tags is not stored.
pub fn named(headers: &HeaderMap) -> Result<Named, Excess> {
    let mut tags: Vec<Vec<u8>> = Vec::new();
    for name in [SURROGATE_KEY, XKEY] {
        for line in headers.get_all(name) {
            let words = line.as_bytes().split(u8::is_ascii_whitespace);
            tags.extend(words.map(<[u8]>::to_vec));
        }
    }
    for line in headers.get_all(CACHE_TAG) {
        let members = line.as_bytes().split(|byte| *byte == b',');
        tags.extend(members.map(|tag| tag.trim_ascii().to_vec()));
    }
    let groups = cache_groups::groups(headers, &CACHE_GROUPS);
    tags.extend_from_slice(&groups);
    tags.retain(|tag| !tag.is_empty());
    if tags.len() > TAGS_MAX || tags.iter().any(|tag| tag.len() > TAG_BYTES_MAX) {
        return Err(Excess);
    }
    Ok(Named { tags, groups })
}

/// The tags in `Surrogate-Key` of a request that asks to purge by them.
pub fn keys(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(SURROGATE_KEY).into_iter();
    let words = lines.flat_map(|line| line.as_bytes().split(u8::is_ascii_whitespace));
    words.filter(|word| !word.is_empty())
}

/// Takes out the fields that are not for clients.
pub fn remove(headers: &mut HeaderMap) {
    for name in [SURROGATE_KEY, CACHE_TAG, XKEY] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, line) in lines {
            let name = HeaderName::from_static(name);
            headers.append(name, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    #[test]
    fn each_field_is_split_in_its_own_way() {
        let named = named(&headers(&[
            ("surrogate-key", "a  b,c\td "),
            ("surrogate-key", "e"),
            ("xkey", "f g"),
            ("cache-tag", "h i, j ,,k"),
            ("cache-groups", "\"l m\", \"n\""),
            ("cache-groups", "\"o\""),
            ("x-key", "z"),
        ]));
        let named = named.unwrap();
        let text = |tags: Vec<Vec<u8>>| {
            let text = tags.into_iter().map(|tag| String::from_utf8(tag).unwrap());
            text.collect::<Vec<_>>()
        };
        let expected = [
            "a", "b,c", "d", "e", "f", "g", "h i", "j", "k", "l m", "n", "o",
        ];
        assert_eq!(text(named.tags), expected);
        assert_eq!(text(named.groups), ["l m", "n", "o"]);
        assert_eq!(super::named(&HeaderMap::new()), Ok(Named::default()));
    }

    #[test]
    fn more_than_can_be_kept_is_told() {
        let many = |count: usize| "t ".repeat(count);
        let check = |name, line: &str, expected: bool| {
            let named = named(&headers(&[(name, line)]));
            assert_eq!(named.is_ok(), expected, "{name} {}", line.len());
        };
        check("surrogate-key", &many(TAGS_MAX), true);
        check("surrogate-key", &many(TAGS_MAX + 1), false);
        check("cache-tag", &"t".repeat(TAG_BYTES_MAX), true);
        check("cache-tag", &"t".repeat(TAG_BYTES_MAX + 1), false);
        check(
            "cache-groups",
            &format!("\"{}\"", "t".repeat(TAG_BYTES_MAX + 1)),
            false,
        );
    }

    #[test]
    fn only_what_is_for_caches_alone_is_taken_out() {
        let mut fields = headers(&[
            ("surrogate-key", "a"),
            ("cache-tag", "a"),
            ("xkey", "a"),
            ("cache-groups", "\"a\""),
        ]);
        remove(&mut fields);
        assert_eq!(fields, headers(&[("cache-groups", "\"a\"")]));
    }
}

//! Groups of responses that are invalidated together (RFC 9875).
//!
//! `Cache-Groups` and `Cache-Group-Invalidation` are lists of strings in the syntax of structured
//! fields (RFC 9651). A field that is not is ignored as a whole, as that syntax demands.

use http::{HeaderMap, HeaderName};

use super::structured::{self, Value};

/// The groups of a response (RFC 9875 2).
pub const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
/// The groups that the answer to an unsafe request invalidates (RFC 9875 3).
pub const CACHE_GROUP_INVALIDATION: HeaderName =
    HeaderName::from_static("cache-group-invalidation");

/// The groups that the field `name` lists; none if it is malformed.
pub fn groups(headers: &HeaderMap, name: &HeaderName) -> Vec<Vec<u8>> {
    let value = structured::combined(headers, name).unwrap_or_default();
    strings(&value).unwrap_or_default()
}

/// A list whose members are strings. Their parameters are read and ignored (RFC 9875 2).
fn strings(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let members = structured::list(value)?.into_iter();
    let groups = members.map(|member| match member {
        Value::String(inside) => Some(structured::unescaped(inside)),
        Value::Integer(_) | Value::Boolean(_) | Value::Other => None,
    });
    groups.collect()
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
            prop_assert_eq!(strings(line.as_bytes()), Some(expected));
        }

        #[test]
        fn no_bytes_break_it(line in prop::collection::vec(any::<u8>(), 0..48)) {
            let length = strings(&line).map_or(0, |members| members.len());
            prop_assert!(length <= line.len());
        }
    }
}

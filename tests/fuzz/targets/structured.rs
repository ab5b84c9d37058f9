//! Any bytes as a structured field: as a list, as a dictionary, and as each field about caching
//! that is one.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use larder::rfc9111::cache_groups::{self, CACHE_GROUP_INVALIDATION, CACHE_GROUPS};
use larder::rfc9111::structured::{Value, combined, dictionary, list};
use larder::rfc9111::targeted::{self, CDN_CACHE_CONTROL, LARDER_CACHE_CONTROL, SURROGATE_CONTROL};
use libfuzzer_sys::fuzz_target;

/// The field `name` with the lines of `bytes`.
fn field(bytes: &[u8], name: &HeaderName) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(name, value);
        }
    }
    headers
}

/// What of a value is written, and can be read again.
fn print(value: Value<'_>) -> Option<String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("only ASCII is accepted");
    match value {
        Value::Integer(digits) => Some(text(digits)),
        Value::String(inside) => Some(format!("\"{}\"", text(inside))),
        Value::Boolean(truth) => Some(if truth { "?1" } else { "?0" }.to_owned()),
        Value::Other => None,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let groups = field(bytes, &CACHE_GROUPS);
    let value = combined(&groups, &CACHE_GROUPS).unwrap_or_default();
    let members = dictionary(&value);
    if let Some(members) = &members {
        for (key, value) in members {
            assert!(key.first().is_some_and(|first| first.is_ascii_lowercase() || *first == b'*'));
            assert_eq!(members.iter().filter(|(other, _)| other == key).count(), 1);
            let Some(printed) = print(*value) else { continue };
            let printed = [key, &b"="[..], printed.as_bytes()].concat();
            assert_eq!(dictionary(&printed), Some(vec![(*key, *value)]));
        }
    }
    let items = list(&value);
    for item in items.iter().flatten() {
        let Some(printed) = print(*item) else { continue };
        assert_eq!(list(printed.as_bytes()), Some(vec![*item]));
    }
    // Groups are those lists whose members all are strings, and every one of them.
    let all_strings = |items: &Vec<Value<'_>>| {
        items.iter().all(|item| matches!(item, Value::String(_)))
    };
    let expected = items.filter(all_strings).map_or(0, |items| items.len());
    assert_eq!(cache_groups::groups(&groups, &CACHE_GROUPS).len(), expected);
    let invalidated = field(bytes, &CACHE_GROUP_INVALIDATION);
    let invalidated = cache_groups::groups(&invalidated, &CACHE_GROUP_INVALIDATION);
    assert_eq!(invalidated, cache_groups::groups(&groups, &CACHE_GROUPS));
    // A dictionary with a member takes the place of `Cache-Control`; nothing else does.
    let says_something = members.is_some_and(|members| !members.is_empty());
    for name in [LARDER_CACHE_CONTROL, CDN_CACHE_CONTROL] {
        let directives = targeted::directives(&field(bytes, &name));
        assert_eq!(directives.is_some(), says_something);
    }
    let mut surrogate = field(bytes, &SURROGATE_CONTROL);
    let before = surrogate.len();
    assert!(targeted::directives(&surrogate).is_none() || before > 0);
    assert_eq!(targeted::take(&mut surrogate).len(), before);
    assert!(surrogate.is_empty());
});

//! Validation: asking whether a stored response still holds, and taking over what the answer says
//! (RFC 9111 3.2, 4.3).
//!
//! What is asked is asked with the stored response's own validators; what the client asked for is
//! evaluated against the outcome and never sent along.

use http::header::{
    AGE, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue};

use super::entity_tag::{EntityTag, Strength};
use super::list;

/// The fields by which a request asks for less than the whole current representation. A fill is
/// made without the client's, since its outcome serves other clients too.
pub const PRECONDITIONS: [HeaderName; 6] = [
    IF_MATCH,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
    IF_RANGE,
    RANGE,
];

/// Makes `request` a validation of the one response that has the fields `stored`, in place of any
/// precondition or range it had (RFC 9111 4.3.1). Without a validator it becomes a plain request.
pub fn make_conditional(request: &mut HeaderMap, stored: &HeaderMap) {
    for name in PRECONDITIONS {
        request.remove(name);
    }
    // Both as they came: what the origin wrote is what it will recognise.
    if let Some(tag) = stored.get(ETAG) {
        request.insert(IF_NONE_MATCH, tag.clone());
    }
    if let Some(modified) = stored.get(LAST_MODIFIED) {
        request.insert(IF_MODIFIED_SINCE, modified.clone());
    }
}

/// Whether an answer to a validation is about the stored response that was validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identifies {
    /// It is: the stored response may be freshened and used.
    This,
    /// It is about another representation; the stored response must not be touched, and the
    /// request has to be made again without conditions.
    Another,
}

/// Whether a 304 freshens the stored response whose validators it was asked with
/// (RFC 9111 4.3.4, first match).
pub fn identifies(stored: &HeaderMap, not_modified: &HeaderMap) -> Identifies {
    let same = match (not_modified.get(ETAG), not_modified.get(LAST_MODIFIED)) {
        (Some(tag), _) => tags_agree(stored.get(ETAG), tag),
        // Within one second a date is the same for two representations, so it is a weak validator.
        (None, Some(modified)) => stored.get(LAST_MODIFIED) == Some(modified),
        // It names no representation, so it can only be about the one that was asked for.
        (None, None) => true,
    };
    if same {
        Identifies::This
    } else {
        Identifies::Another
    }
}

/// Compares the entity tag of a 304 with the stored one: strongly if it is strong, else weakly.
/// What is no entity tag agrees only with its own like.
fn tags_agree(stored: Option<&HeaderValue>, received: &HeaderValue) -> bool {
    let Some(stored) = stored else {
        return false;
    };
    match (
        EntityTag::parse(stored.as_bytes()),
        EntityTag::parse(received.as_bytes()),
    ) {
        (Some(stored), Some(received)) if received.strength == Strength::Strong => {
            stored.matches_strongly(received)
        }
        (Some(stored), Some(received)) => stored.matches_weakly(received),
        (None, None) => stored == received,
        _ => false,
    }
}

/// Whether the answer to a HEAD request freshens a stored response to GET with the fields `stored`
/// and content of `length` bytes; if not, that one is to be considered stale (RFC 9111 4.3.5).
pub fn head_identifies(stored: &HeaderMap, length: u64, head: &HeaderMap) -> Identifies {
    let agrees = |name: &HeaderName| match head.get(name) {
        Some(received) => stored.get(name) == Some(received),
        None => true,
    };
    let same_length = head
        .get(CONTENT_LENGTH)
        .is_none_or(|told| told.as_bytes() == length.to_string().as_bytes());
    if agrees(&ETAG) && agrees(&LAST_MODIFIED) && same_length {
        Identifies::This
    } else {
        Identifies::Another
    }
}

/// The stored fields, updated from a response that freshens them: each field it has replaces the
/// stored one, save those that must not (RFC 9111 3.2). `Age` is that of the update and none other:
/// from its arrival on the stored response is as old as the update was (RFC 9111 4.2.3).
pub fn freshen(stored: &HeaderMap, update: &HeaderMap) -> HeaderMap {
    let updates = |name: &HeaderName| !is_excepted(name) && !is_connection_listed(name, update);
    let mut fields = HeaderMap::with_capacity(stored.keys_len() + update.keys_len());
    for (name, value) in stored {
        if *name != AGE && !(update.contains_key(name) && updates(name)) {
            fields.append(name, value.clone());
        }
    }
    for (name, value) in update {
        if updates(name) {
            fields.append(name, value.clone());
        }
    }
    fields
}

/// The fields that no update changes.
fn is_excepted(name: &HeaderName) -> bool {
    // RFC 9111 3.2: the length of the stored content, and what the content depends on: its coding,
    // and its place in a whole.
    const CONTENT: [HeaderName; 3] = [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE];
    // RFC 9111 3.1: what is for one connection or one proxy is not stored.
    const HOP: [HeaderName; 7] = [
        CONNECTION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
    ];
    // Also hop by hop.
    const OTHER: [&str; 3] = [
        "keep-alive",
        "proxy-connection",
        "proxy-authentication-info",
    ];
    CONTENT.contains(name) || HOP.contains(name) || OTHER.contains(&name.as_str())
}

/// Whether `Connection` of `message` lists `name` (RFC 9110 7.6.1).
fn is_connection_listed(name: &HeaderName, message: &HeaderMap) -> bool {
    message.get_all(CONNECTION).iter().any(|line| {
        let mut options = list::elements(line.as_bytes());
        options.any(|option| option.eq_ignore_ascii_case(name.as_str().as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::Identifies::{Another, This};
    use super::*;
    use http::header::{CACHE_CONTROL, CONTENT_TYPE, SET_COOKIE};
    use proptest::prelude::*;

    fn fields(lines: &[(HeaderName, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, line)| (name.clone(), HeaderValue::from_static(line)))
            .collect()
    }

    #[test]
    fn a_validation_asks_with_the_stored_validators_only() {
        let mut request = fields(&[
            (IF_MATCH, "\"x\""),
            (IF_NONE_MATCH, "\"x\""),
            (IF_RANGE, "\"x\""),
            (RANGE, "bytes=0-1"),
            (IF_UNMODIFIED_SINCE, "x"),
            (CACHE_CONTROL, "no-cache"),
        ]);
        make_conditional(
            &mut request,
            &fields(&[(ETAG, "W/\"a\""), (LAST_MODIFIED, "then")]),
        );
        assert_eq!(
            request,
            fields(&[
                (CACHE_CONTROL, "no-cache"),
                (IF_NONE_MATCH, "W/\"a\""),
                (IF_MODIFIED_SINCE, "then")
            ])
        );
        make_conditional(&mut request, &HeaderMap::new());
        assert_eq!(request, fields(&[(CACHE_CONTROL, "no-cache")]));
    }

    #[test]
    fn a_304_is_about_the_response_it_names() {
        let check = |stored: &[(HeaderName, &'static str)],
                     update: &[(HeaderName, &'static str)],
                     expected| {
            assert_eq!(
                identifies(&fields(stored), &fields(update)),
                expected,
                "{stored:?} {update:?}"
            );
        };
        check(&[(ETAG, "\"a\"")], &[(ETAG, "\"a\"")], This);
        check(&[(ETAG, "\"a\"")], &[(ETAG, "\"b\"")], Another);
        check(&[(ETAG, "W/\"a\"")], &[(ETAG, "\"a\"")], Another);
        check(&[(ETAG, "\"a\"")], &[(ETAG, "W/\"a\"")], This);
        check(&[(ETAG, "\"a\"")], &[(ETAG, "W/\"b\"")], Another);
        check(&[(ETAG, "a")], &[(ETAG, "a")], This);
        check(&[(ETAG, "\"a\"")], &[(ETAG, "a")], Another);
        check(&[(LAST_MODIFIED, "t")], &[(ETAG, "\"a\"")], Another);
        check(&[(LAST_MODIFIED, "t")], &[(LAST_MODIFIED, "t")], This);
        check(&[(LAST_MODIFIED, "t")], &[(LAST_MODIFIED, "u")], Another);
        check(&[(ETAG, "\"a\"")], &[(LAST_MODIFIED, "t")], Another);
        check(&[(ETAG, "\"a\"")], &[], This);
        check(&[], &[], This);
    }

    #[test]
    fn head_freshens_what_it_agrees_with() {
        let stored = fields(&[(ETAG, "\"a\"")]);
        let check = |head: &[(HeaderName, &'static str)], expected| {
            assert_eq!(
                head_identifies(&stored, 3, &fields(head)),
                expected,
                "{head:?}"
            );
        };
        check(&[], This);
        check(&[(ETAG, "\"a\""), (CONTENT_LENGTH, "3")], This);
        check(&[(ETAG, "\"a\""), (CONTENT_LENGTH, "4")], Another);
        check(&[(ETAG, "\"b\"")], Another);
        check(&[(LAST_MODIFIED, "t")], Another);
    }

    #[test]
    fn freshening_replaces_fields_whole_and_spares_the_excepted() {
        let custom = |name| HeaderName::from_static(name);
        let stored = fields(&[
            (CONTENT_TYPE, "text/plain"),
            (CONTENT_LENGTH, "3"),
            (CONTENT_ENCODING, "gzip"),
            (SET_COOKIE, "a=1"),
            (SET_COOKIE, "b=1"),
            (custom("x-kept"), "old"),
            (custom("x-listed"), "old"),
            (custom("cache-status"), "far; hit"),
            (AGE, "70"),
        ]);
        let update = fields(&[
            (CONTENT_TYPE, "text/html"),
            (CONTENT_LENGTH, "0"),
            (CONTENT_ENCODING, "br"),
            (CONTENT_RANGE, "bytes 0-0/1"),
            (SET_COOKIE, "a=2"),
            (CONNECTION, "X-Listed"),
            (custom("x-listed"), "new"),
            (custom("keep-alive"), "5"),
            (custom("x-new"), "new"),
            (custom("cache-status"), "far; fwd=stale"),
            (AGE, "5"),
        ]);
        let without_age = freshen(&stored, &HeaderMap::new());
        assert!(!without_age.contains_key(AGE));
        assert_eq!(without_age.len(), stored.len() - 1);
        let expected = fields(&[
            (CONTENT_LENGTH, "3"),
            (CONTENT_ENCODING, "gzip"),
            (custom("x-kept"), "old"),
            (custom("x-listed"), "old"),
            (CONTENT_TYPE, "text/html"),
            (SET_COOKIE, "a=2"),
            (custom("x-new"), "new"),
            (custom("cache-status"), "far; fwd=stale"),
            (AGE, "5"),
        ]);
        assert_eq!(freshen(&stored, &update), expected);
    }

    fn some_fields() -> impl Strategy<Value = HeaderMap> {
        let name = prop::sample::select(vec![
            CONTENT_TYPE,
            CONTENT_LENGTH,
            SET_COOKIE,
            CACHE_CONTROL,
            ETAG,
            AGE,
            CONNECTION,
            HeaderName::from_static("x-a"),
        ]);
        let value = prop::sample::select(vec!["1", "2", "x-a", "etag"]);
        prop::collection::vec((name, value.prop_map(HeaderValue::from_static)), 0..8).prop_map(
            |fields| {
                let mut map = HeaderMap::new();
                for (name, value) in fields {
                    map.append(name, value);
                }
                map
            },
        )
    }

    proptest! {
        #[test]
        fn freshening_twice_is_freshening_once(stored in some_fields(), update in some_fields()) {
            let once = freshen(&stored, &update);
            prop_assert_eq!(freshen(&once, &update), once.clone());
            prop_assert_eq!(once.get(CONTENT_LENGTH), stored.get(CONTENT_LENGTH));
        }
    }
}

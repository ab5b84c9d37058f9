//! Runs a policy natively, so that `cargo test` in its crate needs neither Wasm nor a host.
//!
//! Everything goes through the packed forms and the views that a component uses, and what the host
//! would refuse fails here with a message that says why. Requests and responses are written as
//! plain text, the way they look on the wire. These functions panic where a test should fail.

mod operations;
mod shard;
mod text;

pub use operations::{Operation, victims_of};
pub use shard::{Answer, Shard};

use std::time::Duration;

use crate::bindings::freshness::exports::larder::policy::freshness as freshness_wit;
use crate::bindings::keying::exports::larder::policy::keying as keying_wit;
use crate::freshness::Native;
use crate::{Freshness, Keying, freshness, keying};

/// Bytes that an answered target may have.
const TARGET_MAX: usize = 8192;
/// Bytes that a variant may have.
const VARIANT_MAX: usize = 256;
/// Request fields that a keying policy may declare, and either list of a freshness policy.
const FIELDS_MAX: usize = 32;

/// A configured keying policy.
#[derive(Debug)]
pub struct KeyingPolicy<T>(keying::Configured<T>);

impl<T: Keying> KeyingPolicy<T> {
    /// Configures the policy with `params`, a JSON object.
    ///
    /// # Errors
    /// What the policy, or the check for unknown parameters, says against them.
    ///
    /// # Panics
    /// The policy declares fields that the host refuses.
    pub fn new(params: &str) -> Result<Self, String> {
        let configured = keying::Configured::<T>::new(params)?;
        check_names(&configured.fields);
        Ok(Self(configured))
    }

    /// Asks for the verdict on `request`: a request line such as `GET /path?query`, then fields
    /// such as `cookie: a=1`, one a line. The authority is that of `host`, or `example.com`.
    ///
    /// # Panics
    /// The text is no request, or the host would refuse the answer.
    pub fn key(&self, request: &str) -> keying::Verdict {
        let request = text::Request::parse(request);
        let verdict = self.0.key(&request.packed(&self.0.fields));
        if let keying::Verdict::Key { target, variant } = &verdict {
            if let Some(target) = target {
                check_target(target);
            }
            assert!(
                variant.len() <= VARIANT_MAX,
                "variant above {VARIANT_MAX} bytes: {variant:?}"
            );
        }
        verdict
    }
}

/// A configured freshness policy.
#[derive(Debug)]
pub struct FreshnessPolicy<T>(freshness::Configured<T>);

impl<T: Freshness> FreshnessPolicy<T> {
    /// Configures the policy with `params`, a JSON object.
    ///
    /// # Errors
    /// What the policy, or the check for unknown parameters, says against them.
    ///
    /// # Panics
    /// The policy declares fields that the host refuses.
    pub fn new(params: &str) -> Result<Self, String> {
        let configured = freshness::Configured::<T>::new(params)?;
        check_names(&configured.names.request_fields);
        check_names(&configured.names.response_fields);
        Ok(Self(configured))
    }

    /// Asks for the verdict on `response` to `request`, of which RFC 9111 made `native`.
    ///
    /// `request` is as for [`KeyingPolicy::key`]; `response` a status line such as `200 OK`, then
    /// fields. The response is new, and its length that of its `content-length`.
    ///
    /// # Panics
    /// A text is not what it should be, or the host would refuse the answer.
    pub fn freshness(&self, request: &str, response: &str, native: Native) -> freshness::Verdict {
        let request = text::Request::parse(request);
        let response = text::Response::parse(response);
        let names = &self.0.names;
        let request_fields = names
            .request_fields
            .iter()
            .map(|name| request.fields.value(name));
        let response_fields = names
            .response_fields
            .iter()
            .map(|name| response.fields.value(name));
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let verdict = self.0.freshness(&freshness_wit::Response {
            status: response.status,
            now: 1_700_000_000_000,
            age: 0,
            length: response
                .fields
                .value("content-length")
                .and_then(|length| length.parse().ok()),
            native: freshness_wit::NativeVerdict {
                rules: native.rules,
                lifetime: ms(native.lifetime),
                stale_while_revalidate: ms(native.stale_while_revalidate),
                stale_if_error: ms(native.stale_if_error),
            },
            target: request.target.clone(),
            fields: request_fields.chain(response_fields).collect(),
        });
        if let freshness::Verdict::Store(storing) = &verdict {
            check_tags(&storing.tags);
        }
        verdict
    }
}

/// The native verdict on a response with an explicit lifetime and nothing else.
pub fn fresh_for(lifetime: Duration) -> Native {
    Native {
        rules: freshness::Rules::EXPLICIT_LIFETIME,
        lifetime,
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
    }
}

fn check_names(names: &[String]) {
    assert!(
        names.len() <= FIELDS_MAX,
        "more than {FIELDS_MAX} fields declared"
    );
    for name in names {
        // RFC 9110 5.6.2: a field name is a token.
        let is_token = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        assert!(is_token && !name.is_empty(), "not a field name: {name:?}");
    }
}

fn check_target(target: &str) {
    assert!(
        target.len() <= TARGET_MAX,
        "target above {TARGET_MAX} bytes"
    );
    let is_visible = target
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let has_form = target == "*" || target.starts_with('/');
    assert!(is_visible && has_form, "not a request target: {target:?}");
}

fn check_tags(tags: &[String]) {
    assert!(tags.len() <= 64, "more than 64 tags");
    for tag in tags {
        let is_visible = tag
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b',');
        assert!(
            (1..=256).contains(&tag.len()) && is_visible,
            "not a tag: {tag:?}"
        );
    }
}

/// Packs for the views of [`keying`].
fn packed(texts: [&str; 3], fields: impl Iterator<Item = Option<String>>) -> keying_wit::Request {
    let mut text = String::new();
    let [method_end, authority_end, target_end] = texts.map(|part| {
        text.push_str(part);
        u32::try_from(text.len()).expect("a request is short")
    });
    let mut present = 0;
    for (bit, value) in fields.enumerate() {
        if let Some(value) = value {
            present |= 1 << bit;
            text.push_str(&value);
            text.push('\n');
        }
    }
    keying_wit::Request {
        text,
        method_end,
        authority_end,
        target_end,
        present,
    }
}

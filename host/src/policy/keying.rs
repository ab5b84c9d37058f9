//! The keying hook: packs a request, calls the guest, checks what it answers.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::activation::{Activation, TIMED_CALLS};
use super::bindings::keying::{Guest, Request, Verdict};
use super::local::Instance;
use super::sandbox::{Fault, Sandbox};
use crate::clock;

/// Bytes of an answered target, at most.
const TARGET_MAX: usize = 8 << 10;
/// Bytes of a variant, at most.
const VARIANT_MAX: usize = 256;
/// Declared fields, at most: one bit each in a word.
const FIELDS_MAX: usize = 32;

/// What a request is keyed by.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Request method.
    pub method: &'a str,
    /// Normalised authority.
    pub authority: &'a str,
    /// Request target in origin form.
    pub target: &'a str,
    /// Request fields.
    pub headers: &'a HeaderMap,
}

/// What the guest made of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keyed {
    /// Neither look up nor store.
    Pass,
    /// Look up and store under this.
    Key {
        /// The target to key by and to ask the origin for; none: as it came.
        target: Option<String>,
        /// Splits the key further.
        variant: String,
    },
}

/// A configured keying instance.
pub struct Keyer {
    sandbox: Sandbox,
    guest: Guest,
    fields: Vec<HeaderName>,
    text: String,
    calls: u64,
}

impl std::fmt::Debug for Keyer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyer")
            .field("fields", &self.fields)
            .finish_non_exhaustive()
    }
}

impl Instance for Keyer {
    fn make(activation: &Activation) -> Result<Self, Fault> {
        let policy = activation
            .policy
            .as_ref()
            .ok_or_else(|| Fault::answer("no policy"))?;
        let (mut sandbox, guest) = policy.keying(activation.limits)?;
        let fields = sandbox
            .call(|store| guest.call_configure(store, &activation.params))?
            .map_err(|message| super::refused(&message))?;
        let fields = super::field_names(&fields, FIELDS_MAX)?;
        Ok(Self {
            sandbox,
            guest,
            fields,
            text: String::with_capacity(512),
            calls: 0,
        })
    }
}

impl Keyer {
    /// The request fields that the policy reads.
    pub fn fields(&self) -> &[HeaderName] {
        &self.fields
    }

    /// Asks the guest, and times one call in [`TIMED_CALLS`].
    ///
    /// # Errors
    /// The guest failed or answered something forbidden; this instance must be dropped.
    #[inline]
    pub fn key(&mut self, input: Input<'_>, activation: &Activation) -> Result<Keyed, Fault> {
        self.calls = self.calls.wrapping_add(1);
        if !self.calls.is_multiple_of(TIMED_CALLS) {
            return self.call(input);
        }
        let start = clock::instant();
        let keyed = self.call(input);
        activation.stats.seconds.observe(start.elapsed());
        keyed
    }

    fn call(&mut self, input: Input<'_>) -> Result<Keyed, Fault> {
        self.text.clear();
        self.text.push_str(input.method);
        let method_end = offset(&self.text);
        self.text.push_str(input.authority);
        let authority_end = offset(&self.text);
        self.text.push_str(input.target);
        let target_end = offset(&self.text);
        let mut present = 0_u32;
        for (bit, name) in self.fields.iter().enumerate() {
            if super::push_field(input.headers, name, &mut self.text) {
                self.text.push('\n');
                present |= 1 << bit;
            }
        }
        let request = Request {
            text: &self.text,
            method_end,
            authority_end,
            target_end,
            present,
        };
        let guest = &self.guest;
        match self.sandbox.call(|store| guest.call_key(store, request))? {
            Verdict::Pass => Ok(Keyed::Pass),
            Verdict::Key(key) => {
                if let Some(target) = &key.target {
                    check_target(target, input.target)?;
                }
                if key.variant.len() > VARIANT_MAX {
                    return Err(Fault::answer("a variant of more than 256 bytes"));
                }
                Ok(Keyed::Key {
                    target: key.target,
                    variant: key.variant,
                })
            }
        }
    }
}

fn offset(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

/// An answered target goes to the origin as it is, so it must be one request target in origin form
/// (RFC 9112 3.2.1) and nothing else. Whatever a client may send is accepted when it is answered:
/// no request can make a policy that hands back what came look faulty.
fn check_target(target: &str, original: &str) -> Result<(), Fault> {
    if target.len() > TARGET_MAX && target.len() > original.len() {
        return Err(Fault::answer("a target of more than 8 KiB"));
    }
    if !target.starts_with('/') && target != original {
        return Err(Fault::answer("a target that does not start with '/'"));
    }
    let unusual = |byte: u8| b"<>`\\^{}|\"".contains(&byte);
    let mut closer_look = false;
    for byte in target.bytes() {
        if !byte.is_ascii_graphic() || byte == b'#' {
            return Err(Fault::answer(
                "a target with a byte that no request target may have",
            ));
        }
        closer_look |= unusual(byte);
    }
    // The client that talks to origins takes some of these in some places, as the front does.
    let sendable = || {
        let parsed = target.parse::<http::uri::PathAndQuery>();
        parsed.is_ok_and(|parsed| parsed.as_str() == target)
    };
    if closer_look && !sendable() {
        return Err(Fault::answer(
            "a target with a byte that must be percent-encoded",
        ));
    }
    Ok(())
}

/// Whether `value` can be handed over as it is; other bytes are read as Latin-1.
pub(super) fn visible(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::check_target;

    #[test]
    fn only_origin_form_targets_are_accepted() {
        for good in ["/", "/a?b=c", "//x", "/%00", "/a;b=c?d&&e=~", "/a?{b}|c"] {
            assert!(check_target(good, "/x").is_ok(), "{good}");
        }
        let long = format!("/{}", "a".repeat(8 << 10));
        let bad = [
            "",
            "a",
            "http://x/",
            "/a b",
            "/a\r\nb",
            "/\0",
            "/ü",
            "/a#b",
            "*",
            "/`",
            &long,
        ];
        for bad in bad {
            assert!(check_target(bad, "/x").is_err(), "{bad}");
        }
        assert!(check_target("*", "*").is_ok());
        assert!(check_target(&long, &long).is_ok());
    }

    #[test]
    fn what_came_may_be_answered_and_what_is_answered_may_be_sent() {
        for byte in 0..=u8::MAX {
            for target in [
                format!("/{}", char::from(byte)),
                format!("/?{}", char::from(byte)),
            ] {
                let sendable = target.parse::<http::uri::PathAndQuery>();
                let kept = sendable.is_ok_and(|sendable| sendable.as_str() == target);
                let graphic = byte.is_ascii_graphic() && byte != b'#';
                assert_eq!(
                    check_target(&target, "/x").is_ok(),
                    kept && graphic,
                    "{target:?}"
                );
            }
        }
    }
}

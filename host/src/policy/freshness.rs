//! The freshness hook: hands a response and the native verdict to the guest, checks its answer.

use http::{HeaderMap, HeaderName};

use super::activation::Activation;
use super::bindings::freshness::{Guest, NativeVerdict, Response, Rules, Tiers, Verdict};
use super::local::Instance;
use super::sandbox::{Fault, Sandbox};
use crate::clock;
use std::time::Duration;

/// Declared fields of each kind, at most.
const FIELDS_MAX: usize = 32;
/// Tags of one answer, at most.
const TAGS_MAX: usize = 64;
/// Bytes of a tag, at most.
const TAG_MAX: usize = 256;
/// Lifetimes above this many milliseconds mean "without end".
pub const LIFETIME_MAX_MS: u64 = 1 << 53;

/// A response whose lifetime is to be decided.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// The target as the client sent it.
    pub target: &'a str,
    /// Status of the response.
    pub status: u16,
    /// Wall-clock time, milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// Its age.
    pub age: Duration,
    /// Its length, if it is known.
    pub length: Option<u64>,
    /// What RFC 9111 makes of it.
    pub native: NativeVerdict,
    /// Request fields.
    pub request: &'a HeaderMap,
    /// Response fields.
    pub response: &'a HeaderMap,
}

/// What the guest made of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The native verdict stands.
    Native,
    /// Not to be stored.
    DoNotStore,
    /// Stored for this long.
    Store(Storing),
}

/// How to store a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storing {
    /// Freshness lifetime.
    pub fresh_for: Duration,
    /// Stale while it is validated in the background.
    pub stale_while_revalidate: Duration,
    /// Stale when the origin fails.
    pub stale_if_error: Duration,
    /// Whether the memory tier may hold it.
    pub memory: bool,
    /// Purge tags to add.
    pub tags: Vec<String>,
}

/// A configured freshness instance.
pub struct Freshener {
    sandbox: Sandbox,
    guest: Guest,
    request_fields: Vec<HeaderName>,
    response_fields: Vec<HeaderName>,
}

impl std::fmt::Debug for Freshener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Freshener").finish_non_exhaustive()
    }
}

impl Instance for Freshener {
    fn make(activation: &Activation) -> Result<Self, Fault> {
        let policy = activation
            .policy
            .as_ref()
            .ok_or_else(|| Fault::answer("no policy"))?;
        let (mut sandbox, guest) = policy.freshness(activation.limits)?;
        let needs = sandbox
            .call(|store| guest.call_configure(store, &activation.params))?
            .map_err(|message| super::refused(&message))?;
        Ok(Self {
            request_fields: super::field_names(&needs.request_fields, FIELDS_MAX)?,
            response_fields: super::field_names(&needs.response_fields, FIELDS_MAX)?,
            sandbox,
            guest,
        })
    }
}

impl Freshener {
    /// Asks the guest.
    ///
    /// # Errors
    /// The guest failed or answered something forbidden; this instance must be dropped.
    pub fn judge(&mut self, input: &Input<'_>, activation: &Activation) -> Result<Answer, Fault> {
        let start = clock::instant();
        let answer = self.call(input);
        activation.stats.seconds.observe(start.elapsed());
        answer
    }

    fn call(&mut self, input: &Input<'_>) -> Result<Answer, Fault> {
        let request = self
            .request_fields
            .iter()
            .map(|name| field(input.request, name));
        let response = self
            .response_fields
            .iter()
            .map(|name| field(input.response, name));
        let fields: Vec<Option<String>> = request.chain(response).collect();
        let fields: Vec<Option<&str>> = fields.iter().map(Option::as_deref).collect();
        let response = Response {
            status: input.status,
            now: input.now_ms,
            age: millis(input.age),
            length: input.length,
            native: input.native,
            target: input.target,
            fields: &fields,
        };
        let guest = &self.guest;
        match self
            .sandbox
            .call(|store| guest.call_freshness(store, response))?
        {
            Verdict::Native => Ok(Answer::Native),
            Verdict::DoNotStore => Ok(Answer::DoNotStore),
            Verdict::Store(storing) => {
                check_tags(&storing.tags)?;
                Ok(Answer::Store(Storing {
                    fresh_for: lifetime(storing.lifetime),
                    stale_while_revalidate: lifetime(storing.stale_while_revalidate),
                    stale_if_error: lifetime(storing.stale_if_error),
                    memory: storing.tiers.contains(Tiers::MEMORY),
                    tags: storing.tags,
                }))
            }
        }
    }
}

/// The native verdict as the guest sees it.
pub fn native_verdict(rules: Rules, windows: [Duration; 3]) -> NativeVerdict {
    let [lifetime, stale_while_revalidate, stale_if_error] = windows.map(millis);
    NativeVerdict {
        rules,
        lifetime,
        stale_while_revalidate,
        stale_if_error,
    }
}

fn field(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut text = String::new();
    super::push_field(headers, name, &mut text).then_some(text)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .min(LIFETIME_MAX_MS)
}

fn lifetime(ms: u64) -> Duration {
    Duration::from_millis(ms.min(LIFETIME_MAX_MS))
}

fn check_tags(tags: &[String]) -> Result<(), Fault> {
    if tags.len() > TAGS_MAX {
        return Err(Fault::answer("more than 64 tags"));
    }
    for tag in tags {
        let visible = tag
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b',');
        if tag.is_empty() || tag.len() > TAG_MAX || !visible {
            return Err(Fault::answer(
                "a tag that is not 1 to 256 visible ASCII bytes",
            ));
        }
    }
    Ok(())
}

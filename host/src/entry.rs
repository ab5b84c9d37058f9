//! What a tier holds: entries, their keys and their tags.
//!
//! An [`Entry`] that somebody else may hold never changes; freshening a response builds a new entry
//! that shares the body. Cloning a body or handing it to a client copies no byte of it.

pub mod body;
pub mod kept;
pub mod key;
pub mod partial;
pub mod tag;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use body::StoredBody;
use http::{HeaderMap, HeaderName, StatusCode};
pub use kept::{Kept, Unreadable};
pub use key::{CacheKey, KeyHasher, KeyView};
pub use partial::{PartialResponse, Parts, Stretch};
pub use tag::Tag;

use crate::clock::Moment;

/// A site, by a number that comes from its name alone: the same after a restart, and on every node
/// that knows the name. Below 2^63, so that no key of a site begins with a byte above `0x7f`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(pub u64);

impl SiteId {
    /// The site called `name`.
    pub fn of(name: &str) -> Self {
        let hash = blake3::Hasher::new_derive_key("larder 2026 site")
            .update(name.as_bytes())
            .finalize();
        let (first, _) = hash
            .as_bytes()
            .split_first_chunk()
            .unwrap_or((&[0; 8], &[]));
        Self(u64::from_be_bytes(*first) >> 1)
    }
}

fn bytes_len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// How long a stored response may be used, as decided when it was stored (RFC 9111 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// When the response, or the 304 that freshened it, arrived.
    pub stored_at: Moment,
    /// Its age at that moment.
    pub initial_age: Duration,
    /// Freshness lifetime.
    pub fresh_for: Duration,
    /// May be served stale for this long while it is validated in the background (RFC 5861 3).
    pub stale_while_revalidate: Duration,
    /// May be served stale for this long when the origin fails (RFC 5861 4).
    pub stale_if_error: Duration,
    /// Whether it may be used without asking the origin, and if so how long past its lifetime.
    pub reuse: Reuse,
}

/// What the response's own directives allow once it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// While fresh, and stale within the windows of [`Lifetime`].
    Normal,
    /// While fresh only: `must-revalidate`, `proxy-revalidate`, `s-maxage` (RFC 9111 5.2.2).
    FreshOnly,
    /// Never without validation: `no-cache`.
    AfterValidation,
}

/// Whether a stored response answers a request at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usable {
    /// Fresh for `remaining` longer, which is not zero.
    Fresh {
        /// Lifetime left.
        remaining: Duration,
    },
    /// Stale by `by`, and to be served while it is validated in the background.
    StaleWhileRevalidate {
        /// Time since it went stale.
        by: Duration,
    },
    /// To be validated first; `on_error` says whether it may answer if the origin fails.
    Stale {
        /// Time since it went stale; zero for a fresh response that must be validated.
        by: Duration,
        /// Whether `stale-if-error` covers this moment.
        on_error: bool,
    },
}

impl Lifetime {
    /// The current age at `now` (RFC 9111 4.2.3).
    pub fn age(&self, now: Moment) -> Duration {
        self.initial_age.saturating_add(now.since(self.stored_at))
    }

    /// Lifetime left at `now`, zero once stale.
    pub fn remaining(&self, now: Moment) -> Duration {
        self.fresh_for.saturating_sub(self.age(now))
    }

    /// Judges at `now`. Equality of age and lifetime is stale (RFC 9111 4.2).
    pub fn judge(&self, now: Moment) -> Usable {
        let age = self.age(now);
        let remaining = self.fresh_for.saturating_sub(age);
        let by = age.saturating_sub(self.fresh_for);
        match self.reuse {
            Reuse::AfterValidation => Usable::Stale {
                by,
                on_error: false,
            },
            _ if !remaining.is_zero() => Usable::Fresh { remaining },
            Reuse::FreshOnly => Usable::Stale {
                by,
                on_error: false,
            },
            Reuse::Normal if by < self.stale_while_revalidate => {
                Usable::StaleWhileRevalidate { by }
            }
            Reuse::Normal => Usable::Stale {
                by,
                on_error: by < self.stale_if_error,
            },
        }
    }
}

/// A stored response: what is sent again when a later request may be answered by it.
#[derive(Clone, Debug)]
pub struct StoredResponse {
    /// Final status.
    pub status: StatusCode,
    /// End-to-end fields as they go to a client, without `Age` and `Cache-Status`.
    pub headers: HeaderMap,
    /// The content.
    pub body: StoredBody,
    /// How long it may be used.
    pub lifetime: Lifetime,
    /// Which policy decided the lifetime: a name and version, or `native:rfc9111`.
    pub decided_by: std::sync::Arc<str>,
}

/// What a response is stored with besides its content.
#[derive(Clone, Debug)]
pub struct StoredHead {
    /// End-to-end fields, as in [`StoredResponse`].
    pub headers: HeaderMap,
    /// How long it may be used.
    pub lifetime: Lifetime,
    /// Which policy decided the lifetime.
    pub decided_by: std::sync::Arc<str>,
}

/// The request fields that choose among the responses of one key: for each `Vary` seen, newest
/// first, the nominated fields (RFC 9111 4.1). Stored under the primary key in place of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nominations {
    /// Sets of nominated fields, newest first, each sorted and without duplicates.
    pub sets: Vec<Vec<HeaderName>>,
}

/// What an entry holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// A response.
    Response(StoredResponse),
    /// Parts of a response.
    Partial(PartialResponse),
    /// Where to look on: the responses are stored under secondary keys.
    Nominations(Nominations),
}

/// One entry of a tier.
// Laid out as written: the counts of its `Arc`, a short key and its charge lie in one cache line, as
// the allocator of the program aligns so large a value to one.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Entry {
    /// The whole key, compared at every lookup.
    pub key: CacheKey,
    charge: u64,
    /// Whose it is.
    pub site: SiteId,
    serial: u64,
    /// What it is purged by, each once: its effective request URI, what that is below, and what
    /// the origin and the policy added.
    pub tags: Box<[Tag]>,
    demanded: Demanded,
    /// Fields that the origin addressed to this cache (RFC 9213): not for clients, but a 304 that
    /// freshens the response may leave them as they are.
    targeted: Option<Box<HeaderMap>>,
    /// What it holds.
    pub content: Content,
}

const _: () = assert!(
    2 * size_of::<usize>() + std::mem::offset_of!(Entry, site) == 64,
    "a key and a charge in two cache lines"
);

/// When a request last sent an entry to the origin that could have answered it: a moment in
/// milliseconds and one more; zero for never.
#[derive(Debug, Default)]
struct Demanded(AtomicU64);

impl Clone for Demanded {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Relaxed)))
    }
}

impl Entry {
    /// Bytes of the entry itself, and of the tier's own slot, index and list nodes, one allocation
    /// header for each. Measured with the allocator of the host, rounded up.
    #[expect(
        clippy::as_conversions,
        reason = "u64::try_from is not const; the size of a struct is small"
    )]
    const FIXED: u64 = size_of::<Self>() as u64 + 256;
    /// Bytes of a tag with its place in the tag index.
    const TAG: u64 = 64;

    /// Builds an entry and computes its charge.
    pub fn new(key: CacheKey, site: SiteId, tags: Vec<Tag>, content: Content) -> Self {
        let mut entry = Self::charged(key, site, tag::distinct(tags), content, 0);
        entry.charge = entry.measure();
        entry
    }

    /// Inlined, so that so large a value is built where it is to be.
    #[inline]
    fn charged(
        key: CacheKey,
        site: SiteId,
        tags: Box<[Tag]>,
        content: Content,
        charge: u64,
    ) -> Self {
        Self {
            key,
            site,
            tags,
            content,
            targeted: None,
            serial: next_serial(),
            charge,
            demanded: Demanded::default(),
        }
    }

    /// The same content under the head `fresh`, which a 304 has brought up to date, with `tags`.
    #[must_use]
    pub fn freshened(&self, fresh: StoredHead, tags: Vec<Tag>) -> Self {
        let StoredHead {
            headers,
            lifetime,
            decided_by,
        } = fresh;
        let content = match &self.content {
            Content::Response(response) => Content::Response(StoredResponse {
                status: response.status,
                headers,
                body: response.body.clone(),
                lifetime,
                decided_by,
            }),
            Content::Partial(partial) => Content::Partial(PartialResponse {
                headers,
                parts: partial.parts.clone(),
                lifetime,
                decided_by,
            }),
            Content::Nominations(nominations) => Content::Nominations(nominations.clone()),
        };
        Self::new(self.key.clone(), self.site, tags, content)
    }

    /// An entry without content that is charged what the caller says, as a simulation of a tier
    /// needs it.
    #[inline]
    pub fn weighing(key: CacheKey, site: SiteId, content: Content, charge: u64) -> Self {
        Self::charged(key, site, Box::default(), content, charge)
    }

    /// Becomes what [`Entry::weighing`] would make.
    #[inline]
    pub fn reweigh(&mut self, key: KeyView<'_>, site: SiteId, content: Content, charge: u64) {
        let Self {
            key: own_key,
            charge: own_charge,
            site: own_site,
            serial,
            tags,
            demanded,
            targeted,
            content: own_content,
        } = self;
        (*own_key, *own_site, *own_charge) = (key.to_key(), site, charge);
        (*serial, *tags) = (next_serial(), Box::default());
        (*demanded, *targeted) = (Demanded::default(), None);
        match (own_content, content) {
            // As large as any content is, most of it is not touched.
            (Content::Nominations(own), Content::Nominations(nominations)) => *own = nominations,
            (own, content) => *own = content,
        }
    }

    /// What an entry with a key of this many bytes, one tag and no fields is charged beyond its
    /// body.
    pub fn bookkeeping(key_bytes: u64) -> u64 {
        Self::FIXED
            .saturating_add(Self::TAG)
            .saturating_add(key::charge(key_bytes))
    }

    /// This entry, stale from `now` on: its windows for use while stale begin then, and its
    /// validators stay. None for what does not expire, or is stale already.
    pub fn softened(&self, now: Moment) -> Option<Self> {
        if !self.is_fresh_at(now) {
            return None;
        }
        let fresh_for = self.lifetime()?.age(now);
        let mut entry = self.clone();
        entry.serial = next_serial();
        match &mut entry.content {
            Content::Response(response) => response.lifetime.fresh_for = fresh_for,
            Content::Partial(partial) => partial.lifetime.fresh_for = fresh_for,
            Content::Nominations(_) => {}
        }
        Some(entry)
    }

    /// Whether it has lifetime left at `now`. What does not expire has none.
    pub fn is_fresh_at(&self, now: Moment) -> bool {
        self.remaining(now).is_some_and(|left| !left.is_zero())
    }

    /// The same with fields that the origin addressed to this cache.
    #[must_use]
    pub fn with_targeted(mut self, fields: &HeaderMap) -> Self {
        self.targeted = (!fields.is_empty()).then(|| Box::new(fields.clone()));
        self.charge = self.measure();
        self
    }

    /// Fields that the origin addressed to this cache, if there are any.
    pub fn targeted(&self) -> Option<&HeaderMap> {
        self.targeted.as_deref()
    }

    /// The same under `key`.
    #[must_use]
    pub fn under(self, key: CacheKey) -> Self {
        let mut entry = Self { key, ..self };
        entry.charge = entry.measure();
        entry
    }

    /// The same in the place of `earlier`, which keeps the time of its last demand.
    #[must_use]
    pub fn in_place_of(self, earlier: Option<&Self>) -> Self {
        let demanded = earlier.map_or_else(Demanded::default, |earlier| earlier.demanded.clone());
        Self { demanded, ..self }
    }

    /// Whether a request at `now` may demand that this entry is validated although it could answer:
    /// always the first one, and each later one if none was granted for `rest`. To be granted counts.
    pub fn grant_demand(&self, now: Moment, rest: Duration) -> bool {
        let last = self.demanded.0.load(Ordering::Relaxed);
        let due = last == 0 || now.since(Moment::from_millis(last - 1)) >= rest;
        let now = now.as_millis().saturating_add(1);
        let exchange = |last| {
            let place = &self.demanded.0;
            place.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
        };
        // Of several at once, one.
        due && exchange(last).is_ok()
    }

    /// Names this entry: no other one of this process has the same.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Bytes this entry costs a memory tier: content, fields, key, tags and bookkeeping.
    pub fn charge(&self) -> u64 {
        self.charge
    }

    /// The response, if the entry holds one.
    pub fn response(&self) -> Option<&StoredResponse> {
        match &self.content {
            Content::Response(response) => Some(response),
            Content::Partial(_) | Content::Nominations(_) => None,
        }
    }

    /// Whether all that it holds lies in memory.
    pub fn is_in_memory(&self) -> bool {
        self.response()
            .is_none_or(|stored| stored.body.place().is_none())
    }

    /// The parts of a response, if the entry holds no more of it.
    pub fn partial(&self) -> Option<&PartialResponse> {
        match &self.content {
            Content::Partial(partial) => Some(partial),
            Content::Response(_) | Content::Nominations(_) => None,
        }
    }

    /// The fields of the response, of which all or parts are held.
    pub fn headers(&self) -> Option<&HeaderMap> {
        match &self.content {
            Content::Response(response) => Some(&response.headers),
            Content::Partial(partial) => Some(&partial.headers),
            Content::Nominations(_) => None,
        }
    }

    /// How long the response may be used, of which all or parts are held.
    pub fn lifetime(&self) -> Option<&Lifetime> {
        match &self.content {
            Content::Response(response) => Some(&response.lifetime),
            Content::Partial(partial) => Some(&partial.lifetime),
            Content::Nominations(_) => None,
        }
    }

    /// Who decided that lifetime; nobody for what is no response.
    pub fn decided_by(&self) -> &str {
        match &self.content {
            Content::Response(response) => &response.decided_by,
            Content::Partial(partial) => &partial.decided_by,
            Content::Nominations(_) => "",
        }
    }

    /// Lifetime left at `now`; `None` for what does not expire.
    pub fn remaining(&self, now: Moment) -> Option<Duration> {
        self.lifetime().map(|lifetime| lifetime.remaining(now))
    }

    fn measure(&self) -> u64 {
        let tags = bytes_count(self.tags.len()).saturating_mul(Self::TAG);
        let targeted = self.targeted().map_or(0, fields_charge);
        let fixed = Self::FIXED + key::charge(bytes_len(self.key.view().bytes)) + tags;
        fixed
            + targeted
            + match &self.content {
                Content::Response(response) => {
                    fields_charge(&response.headers) + response.body.charge()
                }
                Content::Partial(partial) => {
                    fields_charge(&partial.headers) + partial.parts.charge()
                }
                Content::Nominations(nominations) => {
                    let names = nominations.sets.iter().map(Vec::len).sum::<usize>();
                    bytes_count(names).saturating_mul(64)
                }
            }
    }
}

/// Bytes that fields cost.
fn fields_charge(headers: &HeaderMap) -> u64 {
    const FIELD: u64 = 112;
    let text: u64 = headers.iter().map(field_len).sum();
    text + bytes_count(headers.capacity()).saturating_mul(FIELD)
}

fn next_serial() -> u64 {
    static SERIAL: AtomicU64 = AtomicU64::new(1);
    SERIAL.fetch_add(1, Ordering::Relaxed)
}

fn field_len((name, value): (&HeaderName, &http::HeaderValue)) -> u64 {
    bytes_len(name.as_str().as_bytes()) + bytes_len(value.as_bytes())
}

fn bytes_count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demands_are_granted_once_a_rest() {
        let key = KeyHasher::default().key(b"k").to_key();
        let content = Content::Nominations(Nominations::default());
        let entry = Entry::new(key.clone(), SiteId(0), Vec::new(), content.clone());
        let granted =
            |entry: &Entry, at| entry.grant_demand(Moment::from_millis(at), Duration::from_secs(1));
        assert!(granted(&entry, 0), "the first, at whatever time");
        assert!(!granted(&entry, 999));
        assert!(granted(&entry, 1_000));
        assert!(!granted(&entry, 1_500));
        let next = Entry::new(key.clone(), SiteId(0), Vec::new(), content.clone());
        let next = next.in_place_of(Some(&entry));
        assert!(
            !granted(&next, 1_999),
            "what replaces it does not start anew"
        );
        assert!(granted(&next, 2_000));
        let other = Entry::new(key, SiteId(0), Vec::new(), content).in_place_of(None);
        assert!(granted(&other, 2_000));
    }
}

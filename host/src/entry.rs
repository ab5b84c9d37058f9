//! What a tier holds: entries, their keys and their tags.
//!
//! An [`Entry`] never changes once it is built; freshening a response builds a new entry that
//! shares the body. Cloning a body or handing it to a client copies no byte of it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};

use crate::clock::Moment;

/// A site of the configuration, by its position there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(pub u32);

/// Hashes keys and tags. Seeded at random once a process, so that no client can aim at one shard
/// or build a collision (`SipHash`).
#[derive(Clone, Debug, Default)]
pub struct KeyHasher(RandomState);

impl KeyHasher {
    /// The keyed 64-bit hash of `bytes`.
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }

    /// A key to look up by, hashed once.
    pub fn key<'a>(&self, bytes: &'a [u8]) -> KeyView<'a> {
        KeyView {
            hash: self.hash(bytes),
            bytes,
        }
    }

    /// The tag `name` of `site`.
    pub fn tag(&self, site: SiteId, name: &[u8]) -> Tag {
        self.tag_of(site, b't', name)
    }

    /// The tag of a request URI of `site`, which no tag by name equals.
    pub fn uri_tag(&self, site: SiteId, uri: &[u8]) -> Tag {
        self.tag_of(site, b'u', uri)
    }

    fn tag_of(&self, site: SiteId, kind: u8, name: &[u8]) -> Tag {
        let mut hasher = self.0.build_hasher();
        hasher.write(&site.0.to_le_bytes());
        hasher.write_u8(kind);
        hasher.write(name);
        Tag(hasher.finish())
    }
}

/// A borrowed cache key and its hash. Equal keys have equal bytes; the hash only finds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyView<'a> {
    /// Keyed hash of `bytes`.
    pub hash: u64,
    /// The whole key.
    pub bytes: &'a [u8],
}

impl KeyView<'_> {
    /// An owned copy.
    pub fn to_key(self) -> CacheKey {
        CacheKey {
            hash: self.hash,
            bytes: self.bytes.into(),
        }
    }
}

/// An owned cache key and its hash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey {
    hash: u64,
    bytes: Box<[u8]>,
}

impl CacheKey {
    /// The key, borrowed.
    pub fn view(&self) -> KeyView<'_> {
        KeyView {
            hash: self.hash,
            bytes: &self.bytes,
        }
    }
}

/// Groups entries that are purged together. Hashed together with its site, so two sites never
/// share a tag. A collision of hashes purges an entry too many, which costs a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u64);

/// The content of a stored response: whole, and in as many pieces as it was stored in.
#[derive(Clone, Debug, Default)]
pub struct StoredBody {
    pieces: Pieces,
    len: u64,
}

#[derive(Clone, Debug)]
enum Pieces {
    One(Bytes),
    Many(std::sync::Arc<[Bytes]>),
}

impl Default for Pieces {
    fn default() -> Self {
        Self::One(Bytes::new())
    }
}

impl StoredBody {
    /// A body made of `pieces`, in order.
    pub fn new(mut pieces: Vec<Bytes>) -> Self {
        let len = pieces.iter().map(|piece| bytes_len(piece)).sum();
        let pieces = match pieces.len() {
            0 => Pieces::default(),
            1 => Pieces::One(pieces.pop().unwrap_or_default()),
            _ => Pieces::Many(pieces.into()),
        };
        Self { pieces, len }
    }

    /// Bytes in the body.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the body has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, in order.
    pub fn pieces(&self) -> &[Bytes] {
        match &self.pieces {
            Pieces::One(piece) => std::slice::from_ref(piece),
            Pieces::Many(pieces) => pieces,
        }
    }

    /// Bytes that the pieces cost beyond the content itself.
    fn bookkeeping(&self) -> u64 {
        match &self.pieces {
            Pieces::One(_) => 0,
            Pieces::Many(pieces) => u64::try_from(size_of_val(pieces.as_ref())).unwrap_or(u64::MAX),
        }
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

/// The request fields that choose among the responses of one key: for each `Vary` seen, newest
/// first, the nominated fields (RFC 9111 4.1). Stored under the primary key in place of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nominations {
    /// Sets of nominated fields, newest first, each sorted and without duplicates.
    pub sets: Vec<Vec<HeaderName>>,
}

/// What an entry holds.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a response is the common case; boxing it costs a hit"
)]
pub enum Content {
    /// A response.
    Response(StoredResponse),
    /// Where to look on: the responses are stored under secondary keys.
    Nominations(Nominations),
}

/// One entry of a tier.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The whole key, compared at every lookup.
    pub key: CacheKey,
    /// Whose it is.
    pub site: SiteId,
    /// What it is purged by. The first is the effective request URI.
    pub tags: Box<[Tag]>,
    /// What it holds.
    pub content: Content,
    serial: u64,
    charge: u64,
}

impl Entry {
    /// Builds an entry and computes its charge.
    pub fn new(key: CacheKey, site: SiteId, tags: Vec<Tag>, content: Content) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let mut entry = Self {
            key,
            site,
            tags: tags.into(),
            content,
            serial,
            charge: 0,
        };
        entry.charge = entry.measure();
        entry
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
            Content::Nominations(_) => None,
        }
    }

    /// Lifetime left at `now`; `None` for what does not expire.
    pub fn remaining(&self, now: Moment) -> Option<Duration> {
        self.response()
            .map(|response| response.lifetime.remaining(now))
    }

    fn measure(&self) -> u64 {
        // The tier's own slot, index and list nodes, one allocation header for each, and for each
        // tag its place in the tag index. Measured with the allocator of the host, rounded up.
        const ENTRY: u64 = 256;
        const TAG: u64 = 64;
        const FIELD: u64 = 112;
        let tags = bytes_count(self.tags.len()).saturating_mul(TAG);
        let fixed = bytes_count(size_of::<Self>()) + ENTRY + bytes_len(&self.key.bytes) + tags;
        fixed
            + match &self.content {
                Content::Response(response) => {
                    let text: u64 = response.headers.iter().map(field_len).sum();
                    let fields = bytes_count(response.headers.capacity()).saturating_mul(FIELD);
                    fields + text + response.body.len() + response.body.bookkeeping()
                }
                Content::Nominations(nominations) => {
                    let names = nominations.sets.iter().map(Vec::len).sum::<usize>();
                    bytes_count(names).saturating_mul(64)
                }
            }
    }
}

fn field_len((name, value): (&HeaderName, &http::HeaderValue)) -> u64 {
    bytes_len(name.as_str().as_bytes()) + bytes_len(value.as_bytes())
}

fn bytes_count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

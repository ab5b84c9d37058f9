//! What the calls of a program do: interface `tiers` over the chain of one site.
//!
//! An entry of a program is kept as the response that would have brought it: status 200, its body,
//! and its tags by name in `Surrogate-Key`. So every tier stores, charges and evicts it like any
//! other. Its key begins with a byte that no key of a request begins with.
//!
//! Arguments come from the guest and may be anything; each call answers them with an entry or an
//! error, waits for nothing, and is bounded by what the guest can hold.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::bindings::tiers::{Entry as Described, Error, Host, PutOptions, TierUsage};
use crate::cache::chain::{Chain, Found, Look};
use crate::clock;
use crate::entry::{
    CacheKey, Content, Entry, KeyView, Lifetime, Reuse, StoredBody, StoredResponse, Tag, Usable,
};
use crate::tier::memory::put::{Put, Rejected};

/// The first byte of every key of a program. Primary keys of requests begin with the high byte of
/// a site's number, which is below `0x80`, and secondary ones with `0xff`.
const PROGRAM: u8 = 0xfe;

/// Bytes of a key.
const KEY_MAX: usize = 1 << 10;

/// Bytes that one call reads.
const READ_MAX: u32 = 1 << 20;

/// Tags of one entry.
const TAGS_MAX: usize = 64;

/// Bytes of one tag.
const TAG_MAX: usize = 256;

/// The longest lifetime, in milliseconds, that is not "without end".
const LIFETIME_MAX: u64 = 1 << 53;

/// Where the names of an entry's tags are kept.
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

/// What stands where a response says which policy decided its lifetime.
const DECIDED_BY: &str = "program";

/// What one run may reach.
#[derive(Debug)]
pub(super) struct Access {
    chain: Chain,
    /// Bytes that puts may still charge.
    quota: u64,
    decided_by: Arc<str>,
}

impl Access {
    /// Access to `chain` with `quota` bytes of puts.
    pub(super) fn new(chain: Chain, quota: u64) -> Self {
        Self {
            chain,
            quota,
            decided_by: DECIDED_BY.into(),
        }
    }

    fn key(&self, name: &str) -> Result<CacheKey, Error> {
        if name.len() > KEY_MAX {
            return Err(Error::Refused);
        }
        let site = self.chain.site().0.to_be_bytes();
        let bytes = [&[PROGRAM], site.as_slice(), name.as_bytes()].concat();
        Ok(self.chain.key(&bytes).to_key())
    }

    fn tag(&self, name: &str) -> Result<Tag, Error> {
        let visible = |byte: u8| byte.is_ascii_graphic() && byte != b',';
        if name.is_empty() || name.len() > TAG_MAX || !name.bytes().all(visible) {
            return Err(Error::Refused);
        }
        Ok(self.chain.tag(name))
    }

    /// The entry that a put describes.
    fn entry(&self, name: &str, body: Vec<u8>, options: PutOptions) -> Result<Entry, Error> {
        let key = self.key(name)?;
        if options.tags.len() > TAGS_MAX {
            return Err(Error::Refused);
        }
        let mut names: Vec<String> = Vec::with_capacity(options.tags.len());
        let mut tags = Vec::with_capacity(options.tags.len());
        for name in options.tags {
            let tag = self.tag(&name)?;
            if !names.contains(&name) {
                names.push(name);
                tags.push(tag);
            }
        }
        tags.push(self.chain.key_tag(key.view()));
        let mut headers = HeaderMap::new();
        if !names.is_empty() {
            let names = HeaderValue::try_from(names.join(" ")).map_err(|_| Error::Refused)?;
            headers.insert(SURROGATE_KEY, names);
        }
        let lifetime = match options.lifetime {
            without_end if without_end > LIFETIME_MAX => u64::MAX,
            lifetime => lifetime,
        };
        let content = Content::Response(StoredResponse {
            status: StatusCode::OK,
            headers,
            // Boxed, so that no spare capacity is kept that nothing is charged for.
            body: StoredBody::new(vec![Bytes::from(body.into_boxed_slice())]),
            lifetime: Lifetime {
                stored_at: clock::now(),
                initial_age: Duration::ZERO,
                fresh_for: Duration::from_millis(lifetime),
                stale_while_revalidate: Duration::ZERO,
                stale_if_error: Duration::ZERO,
                reuse: Reuse::FreshOnly,
            },
            decided_by: Arc::clone(&self.decided_by),
        });
        Ok(Entry::new(key, self.chain.site(), tags, content))
    }

    /// At most `length` bytes of the content of `entry` from `offset` on.
    fn range(&self, entry: &Entry, offset: u64, length: u32) -> Result<Vec<u8>, Error> {
        let mut wanted = usize::try_from(length).unwrap_or(usize::MAX);
        let (mut bytes, mut at) = (Vec::new(), offset);
        while wanted > 0 {
            let read = self.chain.read(entry, at);
            let piece = read.map_err(|_| Error::Unavailable)?;
            let part = piece.get(..wanted).unwrap_or(&piece);
            if part.is_empty() {
                break;
            }
            bytes.extend_from_slice(part);
            wanted -= part.len();
            at = at.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
        }
        Ok(bytes)
    }

    fn find(&self, key: KeyView<'_>, look: Look) -> Option<Found> {
        self.chain.lookup(key, look)
    }
}

impl Host for Access {
    fn lookup(&mut self, key: String) -> Result<Option<Described>, Error> {
        let key = self.key(&key)?;
        let found = self.find(key.view(), Look::Use);
        Ok(found.and_then(|found| describe(&found)))
    }

    fn read(&mut self, key: String, offset: u64, length: u32) -> Result<Vec<u8>, Error> {
        let key = self.key(&key)?;
        if length > READ_MAX {
            return Err(Error::TooLarge);
        }
        // A body that is read in many calls is used once.
        let look = if offset == 0 { Look::Use } else { Look::Peek };
        let found = self.find(key.view(), look).ok_or(Error::NotFound)?;
        let stored = found.entry.response().ok_or(Error::NotFound)?;
        match stored.lifetime.judge(clock::now()) {
            Usable::Fresh { .. } => self.range(&found.entry, offset, length),
            Usable::StaleWhileRevalidate { .. } | Usable::Stale { .. } => Err(Error::NotFound),
        }
    }

    fn put(&mut self, key: String, body: Vec<u8>, options: PutOptions) -> Result<(), Error> {
        let tiers = options.tiers.clone();
        if let Some(unknown) = tiers
            .iter()
            .find(|tier| !self.chain.names().any(|name| name == **tier))
        {
            tracing::debug!(tier = %unknown, "a program named a tier that is not there");
            return Err(Error::Refused);
        }
        let wanted = |name: &str| tiers.is_empty() || tiers.iter().any(|tier| tier == name);
        let entry = Arc::new(self.entry(&key, body, options)?);
        let left = self.quota.checked_sub(entry.charge());
        let left = left.ok_or(Error::Refused)?;
        match self.chain.put(&entry, wanted) {
            Put::Stored => {
                self.quota = left;
                Ok(())
            }
            Put::Rejected(Rejected::TooLarge) => Err(Error::TooLarge),
            Put::Rejected(Rejected::Disabled) => Err(Error::Refused),
            Put::Rejected(Rejected::NoRoom) | Put::Superseded => Err(Error::Unavailable),
        }
    }

    fn remove(&mut self, key: String) -> Result<bool, Error> {
        let key = self.key(&key)?;
        self.chain
            .remove(key.view())
            .map_err(|_| Error::Unavailable)
    }

    fn purge_tag(&mut self, tag: String) -> Result<u64, Error> {
        let tag = self.tag(&tag)?;
        let purged = self.chain.purge_tag(tag);
        Ok(purged.map_err(|_| Error::Unavailable)?.entries)
    }

    fn usage(&mut self) -> Vec<TierUsage> {
        let tiers = self.chain.usage().map(|tier| TierUsage {
            name: tier.tier.to_owned(),
            entries: tier.usage.entries,
            bytes: tier.usage.bytes,
            capacity: tier.usage.capacity,
        });
        tiers.collect()
    }
}

/// What a program is shown of an entry.
fn describe(found: &Found) -> Option<Described> {
    let stored = found.entry.response()?;
    let tags = stored.headers.get(SURROGATE_KEY);
    let tags = tags.and_then(|names| names.to_str().ok()).into_iter();
    Some(Described {
        length: stored.body.len(),
        age: millis(stored.lifetime.age(clock::now())),
        lifetime: millis(stored.lifetime.fresh_for),
        tier: found.tier.to_owned(),
        tags: tags
            .flat_map(|names| names.split(' '))
            .map(str::to_owned)
            .collect(),
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

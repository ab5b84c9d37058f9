//! Cache keys: what an entry is found by.

use std::hash::{BuildHasher, RandomState};

use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

/// Hashes keys and tags. Keys are hashed with a seed drawn once a process, so that no client can
/// aim at one lock or build a collision (`SipHash`); tags have the same hash on every node.
#[derive(Clone)]
pub struct KeyHasher {
    keys: SipHasher13,
    /// At the start of a tag.
    pub(super) tags: blake3::Hasher,
}

/// Without the seed, which is nobody's business.
impl std::fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyHasher").finish_non_exhaustive()
    }
}

impl Default for KeyHasher {
    fn default() -> Self {
        let seed = RandomState::new();
        Self {
            keys: SipHasher13::new_with_keys(seed.hash_one(0), seed.hash_one(1)),
            tags: blake3::Hasher::new_derive_key("larder 2026 tag"),
        }
    }
}

impl KeyHasher {
    /// The keyed 64-bit hash of `bytes`.
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        self.keys.hash(bytes)
    }

    /// A key to look up by, hashed once.
    pub fn key<'a>(&self, bytes: &'a [u8]) -> KeyView<'a> {
        KeyView {
            hash: self.hash(bytes),
            bytes,
        }
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
            bytes: SmallVec::from_slice(self.bytes),
        }
    }
}

/// Bytes of a key that lie beside its hash. Longer ones lie elsewhere.
const KEY_BESIDE: usize = 24;

/// An owned cache key and its hash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey {
    hash: u64,
    bytes: SmallVec<[u8; KEY_BESIDE]>,
}

impl CacheKey {
    /// The key, borrowed.
    pub fn view(&self) -> KeyView<'_> {
        KeyView {
            hash: self.hash,
            bytes: &self.bytes,
        }
    }

    /// Whether its hash is this one.
    #[inline]
    pub fn has_hash(&self, hash: u64) -> bool {
        self.hash == hash
    }

    /// Whether it is the key of these bytes.
    #[inline]
    pub fn is(&self, bytes: &[u8]) -> bool {
        // No bytes lie nowhere, and to compare nothing there takes some CPUs longer than anything.
        self.bytes.len() == bytes.len() && (bytes.is_empty() || self.bytes.as_slice() == bytes)
    }
}

/// What a key of so many bytes is charged beyond the entry that it is in: bytes that lie elsewhere.
pub(super) fn charge(bytes: u64) -> u64 {
    if usize::try_from(bytes).is_ok_and(|bytes| bytes <= KEY_BESIDE) {
        0
    } else {
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Content, Entry, Nominations, SiteId, Tag, bytes_count};

    #[test]
    fn a_key_is_charged_where_it_lies_elsewhere() {
        let charge = |bytes: usize| {
            let key = KeyHasher::default().key(&vec![7; bytes]).to_key();
            assert_eq!(key.bytes.spilled(), bytes > KEY_BESIDE);
            let content = Content::Nominations(Nominations::default());
            let entry = Entry::new(key, SiteId(0), vec![Tag(1)], content);
            assert_eq!(entry.charge(), Entry::bookkeeping(bytes_count(bytes)));
            entry.charge()
        };
        let beside = charge(KEY_BESIDE);
        assert_eq!(charge(0), beside);
        assert_eq!(charge(KEY_BESIDE + 1), beside + 25);
        assert_eq!(charge(1_000), beside + 1_000);
    }
}

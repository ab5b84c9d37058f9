//! One request of a trace, as policies are shown it.

use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hasher};

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Milliseconds, from any beginning. Never less than that of the request before.
    pub(super) time_ms: u64,
    /// Hash of the key. The same in every run, so that two runs have the same outcome.
    pub(super) key: u64,
    /// Bytes of the object.
    pub(super) size: u64,
    /// Bytes of the key.
    pub(super) key_bytes: u32,
    /// Seconds for which the object may be used; [`NO_END`] if the trace does not say.
    pub(super) ttl_s: u32,
}

/// In the place of a lifetime: without end.
pub(super) const NO_END: u32 = u32::MAX;

/// The hash of a key, from its parts.
pub(super) fn key_of(parts: [&[u8]; 2]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for part in parts {
        hasher.write(part);
    }
    hasher.finish()
}

/// A map by key, whose hash is the key itself.
pub(super) type KeyMap<V> = HashMap<u64, V, KeyIsHash>;

/// Passes keys, which are hashes, through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyIsHash(u64);

impl BuildHasher for KeyIsHash {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl Hasher for KeyIsHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

//! What `Cache-Status` shows to trusted clients besides the outcome: the key, and who decided.

use std::net::IpAddr;

use super::cache_status::{CacheStatus, Outcome};
use super::worker::Worker;
use crate::entry::{CacheKey, Entry};
use crate::rfc9111::vary;

/// What a trusted client sees besides the outcome.
pub struct Shown {
    key: Vec<u8>,
    detail: Vec<u8>,
}

impl Shown {
    /// Of `entry`, for `client`; nothing for a client that is not trusted.
    #[inline]
    pub fn new(worker: &Worker, client: IpAddr, entry: &Entry) -> Self {
        if !worker.edge.trusts(client) {
            return Self::nothing();
        }
        Self::of_key(worker, client, &entry.key, entry.decided_by())
    }

    /// Nothing.
    pub fn nothing() -> Self {
        Self {
            key: Vec::new(),
            detail: Vec::new(),
        }
    }

    /// Of a response that is not stored yet and expected under `key`.
    pub fn of_key(worker: &Worker, client: IpAddr, key: &CacheKey, decided_by: &str) -> Self {
        if !worker.edge.trusts(client) {
            return Self::nothing();
        }
        Self {
            key: readable(key.view().bytes),
            detail: decided_by.as_bytes().to_vec(),
        }
    }

    /// The same with a `note`, if there is one, for a client that is shown anything.
    #[must_use]
    pub fn noting(mut self, note: Option<&str>) -> Self {
        if let Some(note) = note.filter(|_| !self.is_nothing()) {
            self.detail.extend_from_slice(b", ");
            self.detail.extend_from_slice(note.as_bytes());
        }
        self
    }

    /// Whether there is nothing to show.
    #[inline]
    pub fn is_nothing(&self) -> bool {
        self.key.is_empty() && self.detail.is_empty()
    }

    /// The status with what is shown.
    #[inline]
    pub fn status(&self, outcome: Outcome) -> CacheStatus<'_> {
        let some = |text: &'_ Vec<u8>| !text.is_empty();
        CacheStatus {
            outcome,
            key: Some(&self.key).filter(|key| some(key)).map(Vec::as_slice),
            detail: Some(&self.detail)
                .filter(|detail| some(detail))
                .map(Vec::as_slice),
        }
    }
}

/// A key in printable form: the URI, then the variant, the nominated fields and the namespace.
pub fn readable(key: &[u8]) -> Vec<u8> {
    let (primary, nominated) = vary::split(key);
    let (prefix, rest) = primary.split_at_checked(16).unwrap_or((&[], primary));
    let namespace = prefix
        .get(8..)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_le_bytes);
    let mut text = rest.strip_suffix(b"\n").unwrap_or(rest).to_vec();
    for (name, value) in nominated {
        text.extend_from_slice(b" ");
        text.extend_from_slice(name);
        text.extend_from_slice(b"=");
        text.extend_from_slice(value.unwrap_or(b"-"));
    }
    for byte in &mut text {
        if *byte == b'\n' {
            *byte = b' ';
        } else if !(byte.is_ascii_graphic() || *byte == b' ') {
            *byte = b'.';
        }
    }
    if let Some(namespace) = namespace.filter(|namespace| *namespace != 0) {
        text.extend_from_slice(format!(" ({namespace:016x})").as_bytes());
    }
    text
}

//! The key that a request is looked up by before any stored response has a say.

use super::authority::Scheme;
use super::site::Site;

/// What a request is for, as its key has it.
#[derive(Clone, Copy, Debug)]
pub struct Effective<'a> {
    /// How the client reached us.
    pub scheme: Scheme,
    /// Normalised.
    pub authority: &'a str,
    /// The target that the policy answered, or the one that came.
    pub target: &'a str,
}

/// Puts a primary key together. No part but the last can hold a line feed, so no two sets of parts
/// give the same bytes.
#[inline]
pub fn compose(key: &mut Vec<u8>, site: &Site, namespace: u64, uri: Effective<'_>, variant: &str) {
    key.clear();
    // Big-endian, so that a key never begins with the byte that marks secondary keys.
    key.extend_from_slice(&site.id.0.to_be_bytes());
    key.extend_from_slice(&namespace.to_le_bytes());
    key.extend_from_slice(uri.scheme.as_str().as_bytes());
    key.extend_from_slice(b"://");
    key.extend_from_slice(uri.authority.as_bytes());
    key.extend_from_slice(uri.target.as_bytes());
    key.push(b'\n');
    key.extend_from_slice(variant.as_bytes());
}

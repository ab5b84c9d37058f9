//! What a lookup in a tier outside of memory answers.

use std::sync::Arc;

use bytes::Bytes;

use super::envelope::Envelope;
use crate::entry::{Entry, Kept, KeyHasher, StoredBody};

/// An entry that a slower tier holds under the very key that was asked for.
#[derive(Debug)]
pub struct Found {
    /// All of it but its content.
    pub envelope: Envelope,
    /// Its content.
    pub body: FoundBody,
}

impl Found {
    /// The entry that it is.
    pub fn into_entry(self, hasher: &KeyHasher) -> Entry {
        let body = match self.body {
            FoundBody::Whole(bytes) => StoredBody::new(vec![bytes]),
            FoundBody::Kept(content) => StoredBody::kept(content),
        };
        self.envelope.into_entry(hasher, body)
    }
}

/// The content of an entry that was found.
#[derive(Clone, Debug)]
pub enum FoundBody {
    /// All of it, verified.
    Whole(Bytes),
    /// Too large to be held at once: read as it is wanted, and verified then.
    Kept(Arc<dyn Kept>),
}

//! Lookups: one request for a head and, mostly, its content, all of it verified; a second for the
//! beginning of large content.

use std::sync::Arc;

use super::body::{RemoteBody, Source};
use super::form::{self, Place, Unusable};
use super::names::Name;
use super::remote::Fault;
use super::{Inner, Mode, Unavailable};
use crate::entry::Unreadable;
use crate::tier::found::{Found, FoundBody};

/// The entry with `key`, of that name.
pub(super) async fn get(
    inner: Arc<Inner>,
    name: Name,
    key: Box<[u8]>,
) -> Result<Option<Found>, Unavailable> {
    let found = find(&inner, name, &key).await;
    let stats = &inner.remote.stats;
    let count = match &found {
        Ok(Some(_)) => &stats.hits,
        Ok(None) => &stats.misses,
        Err(_) => &stats.errors,
    };
    count.increment();
    found
}

async fn find(inner: &Inner, name: Name, key: &[u8]) -> Result<Option<Found>, Unavailable> {
    let stats = &inner.remote.stats;
    let object = match inner.remote.head(&inner.names.head(name)).await {
        Ok(object) => object,
        Err(Fault::Missing) => return Ok(None),
        Err(fault) => return Err(fault.into()),
    };
    let head = match form::decode(&object) {
        Ok(head) if *head.envelope.key == *key => head,
        // Two keys with one hash: no one will ever see it.
        Ok(_) | Err(Unusable::Foreign) => {
            stats.foreign.increment();
            return Ok(None);
        }
        Err(Unusable::Damaged) => {
            stats.damaged.increment();
            return Ok(None);
        }
    };
    if inner.outdated.covers(name, &head.envelope.born) {
        return Ok(None);
    }
    let (nonce, table) = match head.content {
        Place::Own { nonce, table } => (nonce, table),
        Place::Here(content) => {
            return Ok(Some(Found {
                envelope: head.envelope,
                body: FoundBody::Whole(content),
            }));
        }
    };
    let writable = inner.settings.mode == Mode::ReadWrite;
    let source = Source {
        remote: Arc::clone(&inner.remote),
        object: inner.names.body(name, nonce),
        nonce,
        head: writable.then(|| inner.names.head(name)),
        length: head.envelope.length,
        digest: head.envelope.digest,
        table,
    };
    let body = RemoteBody::new(source, inner.spawner.clone(), inner.reads.clone());
    match body.begin().await {
        Ok(()) => Ok(Some(Found {
            envelope: head.envelope,
            body: FoundBody::Kept(Arc::new(body)),
        })),
        Err(Unreadable::Gone | Unreadable::Damaged) => Ok(None),
        Err(Unreadable::TimedOut) => Err(Unavailable::TimedOut),
        Err(Unreadable::Failed) => Err(Unavailable::Failed),
    }
}

impl From<Fault> for Unavailable {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Withheld(withheld) if withheld.paused => Self::Throttled,
            Fault::Withheld(_) => Self::Offline,
            Fault::Throttled => Self::Throttled,
            Fault::TimedOut => Self::TimedOut,
            Fault::Denied => Self::Denied,
            Fault::Missing | Fault::Conflict | Fault::Failed => Self::Failed,
        }
    }
}

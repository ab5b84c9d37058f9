//! Lookups: one request for a head and, mostly, its content, all of it verified.

use std::sync::Arc;

use super::body::{RemoteBody, Source};
use super::form::{self, Place, Unusable};
use super::names::Name;
use super::remote::Fault;
use super::{Inner, Unavailable};
use crate::clock;
use crate::tier::found::{Found, FoundBody};

/// The entry with `key`, of that name.
pub(super) async fn get(
    inner: Arc<Inner>,
    name: Name,
    key: Box<[u8]>,
) -> Result<Option<Found>, Unavailable> {
    let began = clock::instant();
    let stats = &inner.remote.stats;
    let found = match inner.remote.head(&inner.names.head(name)).await {
        Ok(object) => match form::decode(&object) {
            Ok(head) if head.envelope.key == key => Some(head),
            // Two keys with one hash: no one will ever see it.
            Ok(_) | Err(Unusable::Foreign) => {
                stats.foreign.increment();
                None
            }
            Err(Unusable::Damaged) => {
                stats.damaged.increment();
                None
            }
        },
        Err(Fault::Missing) => None,
        Err(fault) => {
            stats.errors.increment();
            stats.error_time.observe(began.elapsed());
            return Err(fault.into());
        }
    };
    let Some(head) = found else {
        stats.misses.increment();
        stats.miss_time.observe(began.elapsed());
        return Ok(None);
    };
    stats.hits.increment();
    stats.hit_time.observe(began.elapsed());
    let body = match head.content {
        Place::Here(content) => FoundBody::Whole(content),
        Place::Own { nonce, table } => {
            let source = Source {
                remote: Arc::clone(&inner.remote),
                object: inner.names.body(name, nonce),
                length: head.envelope.length,
                digest: head.envelope.digest,
                table,
            };
            let body = RemoteBody::new(source, inner.spawner.clone(), inner.reads.clone());
            FoundBody::Kept(Arc::new(body))
        }
    };
    Ok(Some(Found {
        envelope: head.envelope,
        body,
    }))
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

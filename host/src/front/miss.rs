//! A lookup that ended without a fresh response, and what is known of the key besides.

use std::cell::Cell;
use std::sync::Arc;

use super::cache_status::ForwardReason;
use super::exchange::Exchange;
use super::origin::outage::Probe;
use crate::cache::flight::Shared;
use crate::entry::{CacheKey, Entry, Usable};
use crate::policy::activation::Activation;

/// A request whose key is known and which no fresh stored response answers.
pub struct Miss {
    /// Its primary key.
    pub primary: CacheKey,
    /// The key under which its response is expected.
    pub key: CacheKey,
    /// Why it goes to the origin.
    pub reason: ForwardReason,
    /// The stored response that cannot be used as it is.
    pub stale: Option<(Arc<Entry>, Usable)>,
    /// The latest purge before `stale` was looked up, if that came from a tier below memory.
    pub recalled: Option<u64>,
    /// The right to try an origin that is in trouble, if this request has it.
    pub probe: Cell<Option<Probe>>,
    /// What trusted clients are told of how it was decided.
    pub note: Option<&'static str>,
    /// The freshness policy it began with.
    pub freshness: Arc<Activation>,
    /// The request fields that the keying policy declared, where only those are forwarded.
    pub declared: Vec<http::HeaderName>,
}

/// What a flight's response is to a request that has joined it.
pub enum Share {
    /// It answers.
    Yes,
    /// It is another variant; the request's own is under this key.
    Other(CacheKey),
    /// It is for nobody but who asked.
    No,
}

impl Miss {
    /// What a response that is `shared` is to `exchange`.
    pub fn share(&self, exchange: &Exchange, shared: &Shared) -> Share {
        let Shared::With { nominated, key } = shared else {
            return Share::No;
        };
        let cache = &exchange.worker.edge.cache;
        let mine = cache.secondary(self.primary.view(), nominated, &exchange.head.headers);
        match mine == *key {
            true => Share::Yes,
            false => Share::Other(mine),
        }
    }
}

//! A lookup that ended without a fresh response, and what is known of the key besides.

use std::cell::Cell;
use std::sync::Arc;

use super::cache_status::ForwardReason;
use super::origin::outage::Probe;
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

//! What one worker thread owns, and what all of them share.

use std::cell::{Cell, RefCell, RefMut};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::access_log::AccessLog;
use super::authority::Scheme;
use super::heads::Heads;
use super::origin::{Deadlines, OriginClient};
use super::recorder::Recorder;
use super::site::{Site, SiteTable, Sites};
use crate::cache::Cache;
use crate::cache::hydration::Hydration;
use crate::config::Network;
use crate::metrics::{Counter, Histogram};
use crate::policy::freshness::Freshener;
use crate::policy::keying::Keyer;
use crate::policy::local::Warm;
use crate::tasks::Tasks;

/// Reading the clock twice is a fiftieth of the work of a hit, so one hit in this many is timed and
/// counted this many times.
const TIMED_HITS: u64 = 16;

/// What all workers share.
#[derive(Debug)]
pub struct Edge {
    /// Stored responses and fetches under way.
    pub cache: Cache,
    /// The sites.
    pub sites: Sites,
    /// Places of fetches.
    pub hydration: Hydration,
    /// Bounds on requests.
    pub limits: RequestLimits,
    /// Deadlines towards origins.
    pub deadlines: Deadlines,
    /// Clients that see keys and details.
    pub trusted: Vec<Network>,
    /// Clients that may send `PURGE`.
    pub purgers: Vec<Network>,
    /// Where each answered request is logged, if it is.
    pub access_log: Option<AccessLog>,
    /// Where requests are recorded as a trace, if they are.
    pub recorder: Option<Recorder>,
    /// What this process adds to `CDN-Loop` towards origins: unlike any other's, so that a request
    /// which comes back is known.
    pub loop_mark: HeaderValue,
    /// Counts that belong to no site.
    pub metrics: EdgeMetrics,
}

/// Lists the caches that a request has passed through (RFC 8586).
pub const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

/// A member of `CDN-Loop` that no other process adds.
pub fn loop_mark() -> HeaderValue {
    let random = RandomState::new().hash_one(std::process::id());
    HeaderValue::from_str(&format!("larder; id={random:016x}"))
        .unwrap_or_else(|_| HeaderValue::from_static("larder"))
}

impl Edge {
    /// Whether `client` may see keys and details.
    pub fn trusts(&self, client: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(client))
    }
}

/// Bounds on requests.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Bytes of a target.
    pub target: usize,
    /// Bytes of a request body.
    pub body: u64,
    /// Requests that wait for one fetch that another one has started.
    pub waiters: usize,
}

/// Counts that belong to no site.
#[derive(Debug, Default)]
pub struct EdgeMetrics {
    /// From the head of a request to the head of its answer.
    pub request_seconds: Histogram,
    /// How late the timers of the workers were.
    pub lag_seconds: Histogram,
    /// Requests answered by a fetch that another one had begun.
    pub collapsed: Counter,
    /// Requests refused because too many waited for the same fetch.
    pub waiters_refused: Counter,
    /// Requests refused before they reached a site.
    pub refused: Counter,
    /// Responses not stored because they have more tags than are kept, or longer ones.
    pub tags_refused: Counter,
    /// Connections accepted.
    pub connections: Counter,
    /// Connections closed.
    pub connections_closed: Counter,
    /// Connections closed because their client was too slow.
    pub connections_timed_out: Counter,
    /// TLS handshakes that failed.
    pub tls_failures: Counter,
    /// Connections over HTTP/2.
    pub http2_connections: Counter,
    /// Of these, connections closed because their client flooded them.
    pub http2_floods: Counter,
    /// Streams reset because their client did not take what was sent.
    pub http2_streams_timed_out: Counter,
    /// Connections that could not be accepted.
    pub accept_errors: Counter,
}

/// One worker thread.
#[derive(Debug)]
pub struct Worker {
    /// What all workers share.
    pub edge: Arc<Edge>,
    /// Its connections to origins.
    pub client: OriginClient,
    /// Its fetches.
    pub tasks: Tasks,
    local: RefCell<Local>,
    hits: Cell<u64>,
}

/// What only this thread touches, and never across a wait.
#[derive(Debug)]
pub struct Local {
    generation: u64,
    /// The sites, as of `generation`.
    pub table: Arc<SiteTable>,
    /// The warm instances of each site.
    pub hooks: Vec<LocalHooks>,
    /// Where keys are put together.
    pub key: Vec<u8>,
    /// The heads of hot responses.
    pub heads: Heads,
    /// The last `Host` that was found valid.
    pub host: KnownHost,
}

/// A `Host` that was found valid, and what it comes to. Most requests repeat the one before.
#[derive(Debug, Default)]
pub struct KnownHost {
    /// How its client reached us.
    pub scheme: Option<Scheme>,
    /// As it was sent.
    pub raw: Vec<u8>,
    /// Normalised.
    pub authority: String,
    /// The position of its site.
    pub position: Option<usize>,
}

/// The warm instances of one site.
#[derive(Debug)]
pub struct LocalHooks {
    /// Keying.
    pub keyer: Warm<Keyer>,
    /// Freshness.
    pub freshener: Warm<Freshener>,
}

impl LocalHooks {
    fn new(site: &Site) -> Self {
        Self {
            keyer: Warm::new(&site.hooks.keying),
            freshener: Warm::new(&site.hooks.freshness),
        }
    }
}

impl Worker {
    /// A worker of `edge` on this thread, which runs a local runtime.
    pub fn new(edge: Arc<Edge>) -> Self {
        let client = OriginClient::new(edge.deadlines);
        let local = RefCell::new(Local {
            generation: edge.sites.generation().wrapping_sub(1),
            table: Arc::default(),
            hooks: Vec::new(),
            key: Vec::with_capacity(512),
            heads: Heads::default(),
            host: KnownHost::default(),
        });
        Self {
            edge,
            client,
            tasks: Tasks::default(),
            local,
            hits: Cell::new(0),
        }
    }

    /// Whether the next request is timed should it be a hit: one in [`Worker::timed_hits`] is.
    #[inline]
    pub fn is_timed(&self) -> bool {
        let hits = self.hits.get().wrapping_add(1);
        self.hits.set(hits);
        hits.is_multiple_of(self.timed_hits())
    }

    /// How many hits one timed hit stands for; each one is timed where each one is logged.
    #[inline]
    pub fn timed_hits(&self) -> u64 {
        match self.edge.access_log {
            Some(_) => 1,
            None => TIMED_HITS,
        }
    }

    /// What only this thread touches, brought up to date.
    #[inline]
    pub fn local(&self) -> RefMut<'_, Local> {
        let mut local = self.local.borrow_mut();
        let generation = self.edge.sites.generation();
        if local.generation != generation {
            local.generation = generation;
            local.table = self.edge.sites.table();
            local.host = KnownHost::default();
            local.hooks = local
                .table
                .sites()
                .iter()
                .map(|site| LocalHooks::new(site))
                .collect();
        }
        local
    }
}

//! The sites as requests see them: which one an authority belongs to, and what each one needs.
//!
//! A table never changes; reloading and moving a site to another eviction domain publish a new
//! one, which workers notice by its generation.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;

use super::origin::metrics::OriginMetrics;
use super::origin::upstream::Upstream;
use crate::cache::stores::StoreOutcome;
use crate::config::{Coding, Forward, Honour, WritePolicy};
use crate::entry::SiteId;
use crate::metrics::Counter;
use crate::policy::activation::HookSlot;
use crate::policy::hook::Hook;
use crate::rfc9111::freshness::Bounds;
use crate::tier::memory::Domain;

/// One site.
#[derive(Debug)]
pub struct Site {
    /// Stable for the life of the process, also across reloads.
    pub id: SiteId,
    /// Its name.
    pub name: String,
    /// Its hosts; empty for the site that takes every other authority.
    pub hosts: Vec<String>,
    /// What stands in `Host` for a client that names no host: the address of its first server.
    pub origin: String,
    /// Its servers.
    pub upstream: Arc<Upstream>,
    /// `Host` towards the origin, in place of the client's.
    pub host: Option<HeaderValue>,
    /// Which request fields the origin sees on a fill that may be stored.
    pub forward: Forward,
    /// Codings that content is given on its way from the origin, best first.
    pub compress: Vec<Coding>,
    /// Which demands of requests are met at the origin's expense.
    pub honour: Honour,
    /// Default and longest lifetime.
    pub bounds: Bounds,
    /// Shortest lifetime a policy may give.
    pub ttl_min: Duration,
    /// Whose failure to write marks a store as failed.
    pub write_policy: WritePolicy,
    /// How long it is remembered that a response was not for sharing; zero: not at all.
    pub hit_for_miss: Duration,
    /// What runs at each hook.
    pub hooks: SiteHooks,
    /// The memory that its entries compete for.
    pub domain: Arc<Domain>,
    /// Counts.
    pub metrics: Arc<SiteMetrics>,
}

/// What runs at the hooks of a site. The slots outlive reloads.
#[derive(Clone, Debug)]
pub struct SiteHooks {
    /// Keying.
    pub keying: Arc<HookSlot>,
    /// Freshness.
    pub freshness: Arc<HookSlot>,
    /// Eviction, in the memory domain of the site.
    pub eviction: Arc<HookSlot>,
}

impl SiteHooks {
    /// The slot of `hook`.
    pub fn slot(&self, hook: Hook) -> &Arc<HookSlot> {
        match hook {
            Hook::Keying => &self.keying,
            Hook::Freshness => &self.freshness,
            Hook::Eviction => &self.eviction,
        }
    }
}

/// What became of a request. The words are the values of the metric label `cache_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheOutcome {
    /// Answered from a fresh stored response.
    Hit,
    /// Answered from a stale one, while it is validated or because the origin failed.
    Stale,
    /// Answered from a stored response after the origin confirmed it.
    Validated,
    /// Fetched.
    Miss,
    /// Answered by a fetch that another request had begun.
    Collapsed,
    /// Passed on without lookup.
    Bypass,
    /// Answered by this host: an error, a refusal.
    Error,
    /// Not answered: the client left first.
    Aborted,
}

impl CacheOutcome {
    /// Every outcome, in the order of the metrics.
    pub const ALL: [Self; 8] = [
        Self::Hit,
        Self::Stale,
        Self::Validated,
        Self::Miss,
        Self::Collapsed,
        Self::Bypass,
        Self::Error,
        Self::Aborted,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Validated => "validated",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
            Self::Bypass => "bypass",
            Self::Error => "error",
            Self::Aborted => "aborted",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Hit => 0,
            Self::Stale => 1,
            Self::Validated => 2,
            Self::Miss => 3,
            Self::Collapsed => 4,
            Self::Bypass => 5,
            Self::Error => 6,
            Self::Aborted => 7,
        }
    }
}

/// Counts of one site.
#[derive(Debug, Default)]
pub struct SiteMetrics {
    /// Requests by outcome, and by the first digit of the status.
    requests: [[Counter; 5]; CacheOutcome::ALL.len()],
    /// What went to the origin.
    pub origin: Arc<OriginMetrics>,
    /// Requests that were fetched beside others because of what their key brought lately.
    pub beside: Counter,
    /// Requests that were answered by a stale response without asking a failing origin.
    pub spared: Counter,
    /// Requests that were refused without asking a failing origin.
    pub refused: Counter,
    /// Responses that some tier was for.
    pub stores: Counter,
    /// Those that failed, by the write policy of the site.
    pub store_failures: Counter,
    /// The tiers that failed the latest store; none if it did not fail.
    failing: Mutex<Vec<&'static str>>,
}

impl SiteMetrics {
    /// Counts one answered request.
    #[inline]
    pub fn count(&self, outcome: CacheOutcome, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100).wrapping_sub(1);
        let row = self.requests.get(outcome.index());
        if let Some(counter) = row.and_then(|row| row.get(class)) {
            counter.increment();
        }
    }

    /// Counts what became of a store, where `policy` says what a failure is.
    pub fn count_store(&self, policy: WritePolicy, outcome: &StoreOutcome) {
        if !outcome.is_a_store() {
            return;
        }
        self.stores.increment();
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.clear();
        if outcome.fails(policy) {
            self.store_failures.increment();
            failing.extend(outcome.failed());
        }
    }

    /// The tiers that failed the latest store; none if it did not fail.
    pub fn failing(&self) -> Vec<&'static str> {
        let failing = self.failing.lock();
        failing.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests by outcome and status class (1 to 5).
    pub fn requests(&self) -> impl Iterator<Item = (CacheOutcome, usize, u64)> {
        CacheOutcome::ALL
            .into_iter()
            .zip(&self.requests)
            .flat_map(|(outcome, row)| {
                row.iter()
                    .enumerate()
                    .map(move |(class, counter)| (outcome, class + 1, counter.get()))
            })
    }

    /// Requests with this outcome.
    pub fn outcome(&self, outcome: CacheOutcome) -> u64 {
        self.requests()
            .filter(|(each, ..)| *each == outcome)
            .map(|(.., count)| count)
            .sum()
    }
}

/// All sites, and which one an authority belongs to.
#[derive(Debug, Default)]
pub struct SiteTable {
    sites: Vec<Arc<Site>>,
    by_host: HashMap<String, usize>,
    catch_all: Option<usize>,
}

impl SiteTable {
    /// A table of `sites`, whose hosts do not overlap.
    pub fn new(sites: Vec<Arc<Site>>) -> Self {
        let mut by_host = HashMap::new();
        for (index, site) in sites.iter().enumerate() {
            by_host.extend(site.hosts.iter().map(|host| (host.clone(), index)));
        }
        let catch_all = sites.iter().position(|site| site.hosts.is_empty());
        Self {
            sites,
            by_host,
            catch_all,
        }
    }

    /// The position of the site that answers for `host`.
    #[inline]
    pub fn find(&self, host: &str) -> Option<usize> {
        if self.by_host.is_empty() {
            return self.catch_all;
        }
        self.by_host.get(host).copied().or(self.catch_all)
    }

    /// The site at `position`.
    #[inline]
    pub fn get(&self, position: usize) -> Option<&Arc<Site>> {
        self.sites.get(position)
    }

    /// The site called `name`.
    pub fn named(&self, name: &str) -> Option<&Arc<Site>> {
        self.sites.iter().find(|site| site.name == name)
    }

    /// All sites, in the order of the configuration.
    pub fn sites(&self) -> &[Arc<Site>] {
        &self.sites
    }

    /// The domains of all sites, each once.
    pub fn domains(&self) -> Vec<Arc<Domain>> {
        let mut domains: Vec<Arc<Domain>> = Vec::new();
        for site in &self.sites {
            if !domains.iter().any(|known| Arc::ptr_eq(known, &site.domain)) {
                domains.push(Arc::clone(&site.domain));
            }
        }
        domains
    }
}

/// The current table.
#[derive(Debug, Default)]
pub struct Sites {
    generation: AtomicU64,
    table: Mutex<Arc<SiteTable>>,
}

impl Sites {
    /// Rises with every table.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The current table.
    pub fn table(&self) -> Arc<SiteTable> {
        Arc::clone(&self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Publishes `table`.
    pub fn publish(&self, table: SiteTable) {
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        self.generation.fetch_add(1, Ordering::Release);
    }
}

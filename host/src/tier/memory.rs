//! The memory tier: whole responses, found in about the time of a cache miss of the CPU.
//!
//! Synchronous and zero-copy: a hit is one short lock, one table probe and one reference count. A
//! lookup never does I/O, allocates or waits for a guest; what guest orders must hear is recorded
//! under the same lock and read by a thread of the domain. Budgets are hard: bytes and entries
//! are acquired before anything becomes resident. Of two stripe locks no thread ever holds both.
//!
//! ```text
//!   get ── stripe ── event log ──┐         Domain ── Budget (bytes, entries: all stripes)
//!   put ── stripe ── event log ──┤              └── shard ── stripe ── table in LRU order
//!                                v                                  ├─ slots    dense numbers
//!                        eviction thread                            ├─ tags     what a purge removes
//!                 observe(batch) │ ^ victims                        └─ events   since the last drain
//!                                v │
//!                        guest order, one a shard
//! ```

mod budget;
mod drain;
mod events;
mod layout;
pub mod listing;
pub mod lockstep;
mod ordered;
mod pace;
mod purge;
pub mod put;
mod remains;
mod residents;
mod room;
mod signals;
pub mod stats;
mod stripe;
mod sweep;
mod tags;
#[cfg(test)]
mod tests;

use budget::Budget;
use drain::Worker;
use events::Wake;
use layout::Layout;
pub use layout::Shards;
use pace::Pace;
use signals::Signals;
use stats::{Counters, EvictionReason, Stats};
use stripe::{Departed, Locked, Stripe};
use sweep::Sweeps;

use crate::entry::{Entry, KeyView, SiteId, Tag};
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::sync::thread::JoinHandle;
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use crate::tier::eviction::{OrderSource, ShardLimits};
use crate::tier::{Purged, Usage};

/// What a domain is made with.
#[derive(Clone, Debug)]
pub struct DomainSettings {
    /// The name shown to operators.
    pub name: String,
    /// Bytes. Zero: a domain that keeps nothing.
    pub capacity: u64,
    /// Entries. Zero: a domain that keeps nothing.
    pub max_entries: u32,
    /// Shards, and stripes of each.
    pub shards: Shards,
}

/// One eviction domain: a share of the memory whose entries compete with each other.
#[derive(Debug)]
pub struct Domain {
    inner: Arc<Inner>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// What the domain, its thread and its reservations share.
#[derive(Debug)]
struct Inner {
    name: String,
    budget: Budget,
    layout: Layout,
    stripes: Box<[Stripe]>,
    counters: Counters,
    signals: Signals,
    guest_memory: AtomicU64,
    sweeps: Sweeps,
    pace: Pace,
}

impl Domain {
    /// An empty domain in native order.
    pub fn new(settings: DomainSettings) -> Self {
        Self::of(Inner::new(settings, Pace::Requests))
    }

    fn of(inner: Inner) -> Self {
        Self {
            inner: Arc::new(inner),
            worker: Mutex::new(None),
        }
    }

    /// The name shown to operators.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Looks up, counts it, and tells the orders.
    pub fn get(&self, key: KeyView<'_>) -> Option<Arc<Entry>> {
        let mut stripe = self.inner.lock_of(key.hash);
        let found = stripe.lookup(key, Arc::clone);
        self.inner.unlock(stripe);
        found
    }

    /// Looks without counting it or telling anyone.
    pub fn peek(&self, key: KeyView<'_>) -> Option<Arc<Entry>> {
        self.inner.lock_of(key.hash).peek(key).map(Arc::clone)
    }

    /// Removes the entry of `key`, as an invalidation does.
    pub fn remove(&self, key: KeyView<'_>) -> Option<Arc<Entry>> {
        self.remove_if(key, &|_| true)
    }

    /// Removes the entry of `key` if `condition`, called under the lock of its stripe, holds for
    /// it: a decision about an older entry never removes a newer one.
    pub fn remove_if(
        &self,
        key: KeyView<'_>,
        condition: &dyn Fn(&Arc<Entry>) -> bool,
    ) -> Option<Arc<Entry>> {
        let mut departed = Departed::new(&self.inner.budget);
        let mut stripe = self.inner.lock_of(key.hash);
        if stripe.peek(key).is_some_and(condition) {
            let charge = stripe.remove(key, &mut departed)?;
            self.inner
                .counters
                .evicted(EvictionReason::Purged, 1, charge);
        }
        self.inner.unlock(stripe);
        departed.entries.pop()
    }

    /// How full the domain is. Takes no lock.
    pub fn usage(&self) -> Usage {
        let inner = &*self.inner;
        let (bytes, capacity) = inner.budget.use_and_capacity();
        Usage {
            entries: inner.budget.entries(),
            bytes,
            reserved: inner.budget.reserved(),
            capacity,
            max_entries: inner.budget.max_entries(),
            guest_memory: inner.guest_memory.load(Relaxed),
        }
    }

    /// Reads the counters. Takes no lock.
    pub fn stats(&self) -> Stats {
        let mut stats = self.inner.counters.read();
        for stripe in &self.inner.stripes {
            let read = |gauge: &AtomicU64| gauge.load(Relaxed);
            stats.hits = stats.hits.saturating_add(read(&stripe.lookups.hits));
            stats.misses = stats.misses.saturating_add(read(&stripe.lookups.misses));
            stats.lost_events = stats
                .lost_events
                .saturating_add(read(&stripe.gauges.lost_events));
        }
        stats
    }

    /// What one shard may hold, as its order is told.
    pub fn shard_limits(&self) -> ShardLimits {
        self.inner.shard_limits()
    }

    /// Changes the capacity. Shrinking evicts before it returns, and orders start anew.
    pub fn set_capacity(&self, bytes: u64) {
        self.inner.budget.set_limit(bytes);
        self.inner.shrink_to_limit();
        self.inner.signals.renew_order();
    }

    /// Lets orders made by `source` choose the victims from now on; `None`: the native order.
    /// Takes effect when the eviction thread comes to it, which [`Self::settle`] waits for.
    pub fn set_order(&self, source: Option<Arc<dyn OrderSource>>) {
        let starts = source.is_some();
        self.inner.signals.desire(source);
        let mut worker = lock(&self.worker);
        if starts && worker.is_none() && !self.inner.signals.is_stopped() {
            *worker = Worker::spawn(&self.inner);
        }
        self.inner.signals.wake();
    }

    /// Waits until every event recorded before the call has been observed by the orders, and use
    /// is as low as the eviction thread keeps it. Returns at once without a guest order.
    pub fn settle(&self) {
        if lock(&self.worker).is_some() {
            self.inner.signals.settle();
        }
    }

    /// Ends the eviction thread and waits for it. The domain goes on in native order.
    pub fn stop(&self) {
        self.inner.signals.stop();
        let worker = lock(&self.worker).take();
        if let Some(worker) = worker
            && worker.join().is_err()
        {
            tracing::error!(domain = self.inner.name, "the eviction thread panicked");
        }
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        self.inner.signals.stop();
    }
}

impl Inner {
    fn new(settings: DomainSettings, pace: Pace) -> Self {
        let layout = Layout::new(settings.shards, settings.capacity);
        let slots_max = layout.slots_of_each(settings.max_entries);
        Self {
            name: settings.name,
            budget: Budget::new(settings.capacity, u64::from(settings.max_entries)),
            layout,
            stripes: (0..layout.stripes())
                .map(|_| Stripe::new(slots_max))
                .collect(),
            counters: Counters::default(),
            signals: Signals::default(),
            guest_memory: AtomicU64::new(0),
            sweeps: Sweeps::default(),
            pace,
        }
    }

    /// The stripe that a key belongs to.
    #[inline]
    fn index(&self, hash: u64) -> usize {
        self.layout.stripe_of(hash)
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "positions come from `index` and from the stripes"
    )]
    fn stripe(&self, index: usize) -> &Stripe {
        &self.stripes[index]
    }

    /// Inlined, so that the guard is not handed over through memory.
    #[inline]
    fn lock(&self, index: usize) -> Locked<'_> {
        self.stripe(index)
            .lock(&self.budget, || self.note_reset(index))
    }

    #[cold]
    fn note_reset(&self, index: usize) {
        self.counters.shard_resets.increment();
        let domain = &self.name;
        tracing::error!(
            domain,
            stripe = index,
            "a panic left the stripe half changed: emptied"
        );
    }

    #[inline]
    fn unlock(&self, stripe: Locked<'_>) {
        if stripe.unlock() == Wake::Yes {
            self.signals.wake();
        }
    }

    fn shard_limits(&self) -> ShardLimits {
        let shards = u64::try_from(self.layout.shards()).unwrap_or(u64::MAX);
        let slots_max = self.stripes.first().map_or(0, |stripe| stripe.slots_max);
        ShardLimits {
            capacity: self.pace.capacity(&self.budget) / shards,
            max_entries: slots_max.saturating_mul(self.layout.stripes_of_each()),
        }
    }
}

/// Locks a value that is whole between any two instructions, so that a panic elsewhere under the
/// lock does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The memory tier: its eviction domains, and their sums.
#[derive(Debug, Default)]
pub struct MemoryTier {
    domains: Vec<Arc<Domain>>,
}

impl MemoryTier {
    /// A tier of these domains.
    pub fn new(domains: Vec<Arc<Domain>>) -> Self {
        Self { domains }
    }

    /// The domains, in the order they were given.
    pub fn domains(&self) -> &[Arc<Domain>] {
        &self.domains
    }

    /// How full the tier is.
    pub fn usage(&self) -> Usage {
        self.sum(Domain::usage)
    }

    /// Every counter, summed over the domains.
    pub fn stats(&self) -> Stats {
        self.sum(Domain::stats)
    }

    /// Entries that carry `tag`.
    pub fn count_tag(&self, tag: Tag) -> Purged {
        self.sum(|domain| domain.count_tag(tag))
    }

    /// Removes every entry that carries `tag`.
    pub fn purge_tag(&self, tag: Tag) -> Purged {
        self.sum(|domain| domain.purge_tag(tag))
    }

    /// Removes every entry of `site`.
    pub fn purge_site(&self, site: SiteId) -> Purged {
        self.sum(|domain| domain.purge_site(site))
    }

    /// Removes every entry.
    pub fn purge_all(&self) -> Purged {
        self.sum(Domain::purge_all)
    }

    /// Settles every domain.
    pub fn settle(&self) {
        self.domains.iter().for_each(|domain| domain.settle());
    }

    /// Ends every eviction thread.
    pub fn stop(&self) {
        self.domains.iter().for_each(|domain| domain.stop());
    }

    fn sum<T: Default + std::ops::AddAssign>(&self, part: impl Fn(&Domain) -> T) -> T {
        self.domains.iter().fold(T::default(), |mut sum, domain| {
            sum += part(domain);
            sum
        })
    }
}

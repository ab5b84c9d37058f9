//! A domain without threads: whatever a request causes has happened when it returns.
//!
//! The same shards, event logs, orders and eviction as when serving, driven by the caller's own
//! thread at a time the caller gives. Guest orders are told of every event, and victims leave
//! before the next request. So the same requests always have the same outcome, which is what a
//! simulation needs and a server cannot have.

use super::budget::Budget;
use super::drain::Worker;
use super::pace::{Lockstep as Terms, Pace, Room};
use super::put::Put;
use super::stats::Stats;
use super::stripe::Locked;
use super::{Domain, DomainSettings, Inner};
use crate::entry::{Content, Entry, KeyView, SiteId};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::tier::Usage;
use crate::tier::eviction::OrderSource;

/// How the capacity of a domain in lockstep is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// All of it for residents: nothing is kept free, and an entry of the whole capacity is stored.
    Exact,
    /// As when serving: a guest order keeps some headroom, and an entry charged more than a
    /// quarter is not stored.
    AsServed,
}

/// A domain that runs in lockstep with its caller.
pub struct Lockstep {
    domain: Domain,
    worker: Worker,
    capacity: u64,
}

impl std::fmt::Debug for Lockstep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lockstep").field(&self.domain).finish()
    }
}

impl Lockstep {
    /// An empty domain in the order of `source`, or in native order.
    pub fn new(
        settings: DomainSettings,
        meant: Capacity,
        source: Option<Arc<dyn OrderSource>>,
    ) -> Self {
        let DomainSettings {
            capacity,
            max_entries,
            ..
        } = settings;
        // A guest order is told of a newcomer before it names who makes room for it.
        let (room, settings) = match meant {
            Capacity::Exact if source.is_some() => (
                Room::Exactly(capacity, u64::from(max_entries)),
                DomainSettings {
                    capacity: capacity.saturating_mul(2),
                    max_entries: max_entries.saturating_add(1),
                    ..settings
                },
            ),
            Capacity::Exact => (Room::Exactly(capacity, u64::from(max_entries)), settings),
            Capacity::AsServed => (Room::AsServed, settings),
        };
        let terms = Terms {
            now_ms: AtomicU64::new(0),
            room,
        };
        let domain = Domain::of(Inner::new(settings, Pace::Lockstep(terms)));
        debug_assert_eq!(
            domain.inner.layout.stripes_of_each(),
            1,
            "who came last to a shard is who came last to its stripe"
        );
        domain.inner.signals.desire(source);
        let mut worker = Worker::new(Arc::clone(&domain.inner));
        worker.guarded_round();
        let mut this = Self {
            domain,
            worker,
            capacity,
        };
        this.keep_to_capacity();
        this
    }

    /// Sets the time, in milliseconds. It is for the caller to let it pass.
    pub fn set_time(&mut self, now_ms: u64) {
        if let Pace::Lockstep(terms) = &self.domain.inner.pace {
            terms.now_ms.store(now_ms, Relaxed);
        }
    }

    /// Looks up, counts it, tells the order, and answers what `read` makes of the entry.
    #[inline]
    pub fn get<R>(&mut self, key: KeyView<'_>, read: impl FnOnce(&Entry) -> R) -> Option<R> {
        let inner = &*self.domain.inner;
        let mut stripe = inner.lock_of(key.hash);
        let found = stripe.lookup(key, |entry| entry).map(|entry| read(entry));
        inner.unlock(stripe);
        self.catch_up();
        found
    }

    /// Has at hand what lookups of keys with these hashes are going to read. Memory answers many
    /// that ask at once almost as soon as one, and lookups have to ask one after another.
    pub fn prefetch(&self, hashes: impl Iterator<Item = u64>) {
        let inner = &*self.domain.inner;
        let mut held: Option<(usize, Locked<'_>)> = None;
        for hash in hashes {
            let index = inner.index(hash);
            let stripe = match held.take().filter(|(of, _)| *of == index) {
                Some((_, stripe)) => stripe,
                None => inner.lock(index),
            };
            stripe.touch(hash);
            held = Some((index, stripe));
        }
    }

    /// Stores an entry of `key`, of site 0, that is charged what the caller says, in place of an
    /// older one, and evicts what must leave for it.
    pub fn put(&mut self, key: KeyView<'_>, content: Content, charge: u64) -> Put {
        let remains = &mut self.worker.remains;
        let entry = remains.weighing(key, SiteId(0), content, charge);
        let put = self.domain.put(&entry, None, &|| true);
        drop(entry);
        self.catch_up();
        put
    }

    /// How full the domain is.
    pub fn usage(&self) -> Usage {
        Usage {
            capacity: self.capacity,
            ..self.domain.usage()
        }
    }

    /// Bytes in use.
    pub fn bytes(&self) -> u64 {
        self.budget().bytes()
    }

    /// Entries in use.
    pub fn entries(&self) -> u64 {
        self.budget().entries()
    }

    /// Reads the counters.
    pub fn stats(&self) -> Stats {
        self.domain.stats()
    }

    /// Whether the native order is in charge.
    pub fn is_native(&self) -> bool {
        self.worker.is_native()
    }

    fn budget(&self) -> &Budget {
        &self.domain.inner.budget
    }

    /// Does what the eviction thread would be woken for.
    fn catch_up(&mut self) {
        if self.domain.inner.signals.take_wake() {
            self.worker.guarded_round();
            self.keep_to_capacity();
        }
    }

    /// Without an order nobody is asked about a newcomer, and none needs to stand beside.
    fn keep_to_capacity(&mut self) {
        if self.worker.is_native() && self.budget().limit() > self.capacity {
            self.budget().set_limit(self.capacity);
            self.domain.inner.shrink_to_limit();
        }
    }
}

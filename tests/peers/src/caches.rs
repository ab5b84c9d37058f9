//! The caches: each holds so many entries, and shards as it would in use.

use std::sync::Arc;
use std::time::Duration;

use larder::entry::{Content, Entry, KeyHasher, Nominations, SiteId};
use larder::policy::activation::{Activation, HookSlot};
use larder::policy::component::Policy;
use larder::policy::evictor::GuestSource;
use larder::policy::hook::Hook;
use larder::policy::sandbox::Limits;
use larder::tier::memory::put::Put;
use larder::tier::memory::stats::EvictionReason;
use larder::tier::memory::{Domain, DomainSettings, Shards};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Bytes that an entry is charged.
const CHARGE: u64 = 1024;

/// What is measured.
pub trait Cache: Sync {
    /// What it is called.
    fn name(&self) -> String;
    /// Whether the entry of `key` is there; gets it.
    fn get(&self, key: u64) -> bool;
    /// Stores the entry of `key`.
    fn put(&self, key: u64);
    /// Entries it holds.
    fn len(&self) -> u64;
    /// What else there is to say.
    fn beside(&self) -> String {
        String::new()
    }
}

fn entry(key: u64, hasher: &KeyHasher) -> Arc<Entry> {
    let bytes = key.to_le_bytes();
    let content = Content::Nominations(Nominations::default());
    let key = hasher.key(&bytes).to_key();
    Arc::new(Entry::weighing(key, SiteId(0), content, CHARGE))
}

/// The memory tier.
pub struct Larder {
    name: String,
    domain: Domain,
    hasher: KeyHasher,
}

impl Larder {
    /// In native order.
    pub fn native(room: u64) -> Self {
        let settings = DomainSettings {
            name: "peers".to_owned(),
            capacity: room * CHARGE,
            max_entries: u32::try_from(room).expect("fewer than 2^32 entries"),
            shards: Shards::Auto,
        };
        Self {
            name: "larder native".to_owned(),
            domain: Domain::new(settings),
            hasher: KeyHasher::default(),
        }
    }

    /// In the order of a shipped policy.
    pub fn guided(engine: &Engine, policy: &str, room: u64) -> Self {
        let mut this = Self::native(room);
        this.name = format!("larder {policy}");
        let shipped = larder::embedded::POLICIES
            .iter()
            .find(|it| it.name == policy);
        let wasm = shipped.expect("a shipped policy").wasm;
        let component = Component::new(engine, wasm).expect("it compiles");
        let guest = Arc::new(Policy::new(engine, &component).expect("a policy"));
        let limits = Limits {
            memory: 64 << 20,
            deadline: Duration::from_millis(500),
        };
        let label = policy.into();
        let activation = Activation::new(Hook::Eviction, label, "{}".into(), Some(guest), limits);
        let slot = Arc::new(HookSlot::new(activation));
        this.domain
            .set_order(Some(Arc::new(GuestSource::new(slot))));
        this.domain.settle();
        this
    }
}

impl Drop for Larder {
    fn drop(&mut self) {
        self.domain.stop();
    }
}

impl Cache for Larder {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn get(&self, key: u64) -> bool {
        let bytes = key.to_le_bytes();
        self.domain.get(self.hasher.key(&bytes)).is_some()
    }

    fn put(&self, key: u64) {
        let put = self.domain.put(&entry(key, &self.hasher), None, &|| true);
        assert_eq!(put, Put::Stored, "it has room");
    }

    fn len(&self) -> u64 {
        self.domain.usage().entries
    }

    fn beside(&self) -> String {
        let stats = self.domain.stats();
        let all: u64 = stats.evictions().map(|(_, it)| it.entries).sum();
        let of = |part: u64, all: u64| 100.0 * part as f64 / all.max(1) as f64;
        format!(
            "{:.2} % of evictions are overruns, {:.1} % of hits untold, {} resyncs",
            of(stats.evicted(EvictionReason::NativeOverrun).entries, all),
            of(stats.lost_events, stats.hits),
            stats.resyncs,
        )
    }
}

/// `moka`, in its own order (a form of W-TinyLFU).
pub struct Moka {
    cache: moka::sync::Cache<u64, Arc<Entry>>,
    hasher: KeyHasher,
}

impl Moka {
    /// With room for so many entries.
    pub fn new(room: u64) -> Self {
        Self {
            cache: moka::sync::Cache::new(room),
            hasher: KeyHasher::default(),
        }
    }
}

impl Cache for Moka {
    fn name(&self) -> String {
        "moka".to_owned()
    }

    fn get(&self, key: u64) -> bool {
        self.cache.get(&key).is_some()
    }

    fn put(&self, key: u64) {
        self.cache.insert(key, entry(key, &self.hasher));
    }

    fn len(&self) -> u64 {
        self.cache.run_pending_tasks();
        self.cache.entry_count()
    }
}

/// `foyer`, in the order it is fastest in.
pub struct Foyer {
    cache: foyer_memory::Cache<u64, Arc<Entry>>,
    hasher: KeyHasher,
}

impl Foyer {
    /// With room for so many entries.
    pub fn new(room: u64) -> Self {
        let room = usize::try_from(room).expect("small");
        let order = foyer_memory::S3FifoConfig::default();
        Self {
            cache: foyer_memory::CacheBuilder::new(room)
                .with_eviction_config(order)
                .build(),
            hasher: KeyHasher::default(),
        }
    }
}

impl Cache for Foyer {
    fn name(&self) -> String {
        "foyer s3-fifo".to_owned()
    }

    fn get(&self, key: u64) -> bool {
        self.cache.get(&key).is_some()
    }

    fn put(&self, key: u64) {
        self.cache.insert(key, entry(key, &self.hasher));
    }

    fn len(&self) -> u64 {
        self.cache.usage() as u64
    }
}

/// `quick_cache`, in its own order (a form of Clock-PRO).
pub struct QuickCache {
    cache: quick_cache::sync::Cache<u64, Arc<Entry>>,
    hasher: KeyHasher,
}

impl QuickCache {
    /// With room for so many entries.
    pub fn new(room: u64) -> Self {
        Self {
            cache: quick_cache::sync::Cache::new(usize::try_from(room).expect("small")),
            hasher: KeyHasher::default(),
        }
    }
}

impl Cache for QuickCache {
    fn name(&self) -> String {
        "quick_cache".to_owned()
    }

    fn get(&self, key: u64) -> bool {
        self.cache.get(&key).is_some()
    }

    fn put(&self, key: u64) {
        self.cache.insert(key, entry(key, &self.hasher));
    }

    fn len(&self) -> u64 {
        self.cache.len() as u64
    }
}

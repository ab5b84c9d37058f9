//! What models are made of: sites, entries, domains, and a slow tier that is a map.

use std::collections::HashMap;

use bytes::Bytes;

use crate::entry::{CacheKey, Content, Entry, KeyHasher, KeyView, Nominations, SiteId, Tag};
use crate::metrics::Histogram;
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError, thread};
use crate::tier::Usage;
use crate::tier::envelope::{Born, Envelope};
use crate::tier::eviction::Reinsertion;
use crate::tier::found::{Found, FoundBody};
use crate::tier::memory::{Domain, DomainSettings, Shards};
use crate::tier::slow::{Answer, Figure, Health, SlowTier, Unavailable, Writer, Written};

/// Whose everything is.
pub(crate) const SITE: SiteId = SiteId(1);
/// What every entry is charged that [`weighing`] makes.
pub(crate) const CHARGE: u64 = 100;

/// Room for `entries` that are charged [`CHARGE`] each, in so many shards of so many stripes.
pub(crate) fn domain(entries: u32, (shards, stripes): (u32, u32)) -> Arc<Domain> {
    let some = |count| std::num::NonZeroU32::new(count).expect("some");
    Arc::new(Domain::new(DomainSettings {
        name: "model".to_owned(),
        capacity: u64::from(entries) * CHARGE,
        max_entries: entries,
        shards: Shards::Exactly(some(shards), some(stripes)),
    }))
}

fn nothing() -> Content {
    Content::Nominations(Nominations::default())
}

/// An entry that is charged [`CHARGE`].
pub(crate) fn weighing(key: &CacheKey) -> Arc<Entry> {
    Arc::new(Entry::weighing(key.clone(), SITE, nothing(), CHARGE))
}

/// An entry with `tags`, and that of its key. Younger than those before.
pub(crate) fn tagged(hasher: &KeyHasher, key: &CacheKey, tags: &[Tag]) -> Arc<Entry> {
    let mut tags = tags.to_vec();
    tags.push(hasher.key_tag(SITE, key.view()));
    Arc::new(Entry::new(key.clone(), SITE, tags, nothing()))
}

/// Runs `work` on a thread.
pub(crate) fn spawn(work: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    shuttle::thread::spawn(work)
}

/// Waits for the end of all `threads`.
pub(crate) fn join(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    for each in threads {
        each.join().expect("its panic was reported");
    }
}

/// Waits as a task does.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    shuttle::future::block_on(future)
}

/// A slow tier that is a map. Others may go on between a call and what it does.
#[derive(Debug)]
pub(crate) struct Map {
    name: &'static str,
    held: Mutex<HashMap<Box<[u8]>, (Arc<Entry>, Born)>>,
    write_time: Histogram,
}

impl Map {
    pub(crate) fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name,
            held: Mutex::new(HashMap::new()),
            write_time: Histogram::default(),
        })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, (Arc<Entry>, Born)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry under `key`.
    pub(crate) fn holds(&self, key: &CacheKey) -> Option<Arc<Entry>> {
        let held = self.held();
        held.get(key.view().bytes)
            .map(|(entry, _)| Arc::clone(entry))
    }

    /// Puts `entry` there.
    pub(crate) fn place(&self, entry: &Arc<Entry>, born: Born) {
        let key = entry.key.view().bytes.into();
        self.held().insert(key, (Arc::clone(entry), born));
    }

    fn find(&self, key: KeyView<'_>) -> Option<Found> {
        let held = self.held();
        let (entry, born) = held.get(key.bytes)?;
        Some(Found {
            envelope: Envelope::of(entry, *born, [0; 32])?,
            body: FoundBody::Whole(Bytes::new()),
        })
    }
}

impl SlowTier for Map {
    fn name(&self) -> &'static str {
        self.name
    }

    fn is_writable(&self) -> bool {
        true
    }

    fn may_hold(&self, key: KeyView<'_>) -> bool {
        self.held().contains_key(key.bytes)
    }

    fn get<'a>(&'a self, key: KeyView<'a>) -> Answer<'a, Result<Option<Found>, Unavailable>> {
        Box::pin(async move {
            let found = self.find(key);
            shuttle::future::yield_now().await;
            Ok(found)
        })
    }

    fn put<'a>(&'a self, entry: &'a Arc<Entry>, born: Born) -> Answer<'a, Written> {
        Box::pin(async move {
            shuttle::future::yield_now().await;
            self.place(entry, born);
            Written::Accepted
        })
    }

    fn writer(&self, _: KeyView<'_>, _: Option<u64>) -> Option<Box<dyn Writer>> {
        None
    }

    fn remove(&self, key: KeyView<'_>) {
        self.held().remove(key.bytes);
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn resize(&self, _: u64) -> Result<(), String> {
        Ok(())
    }

    fn set_reinsertion(&self, _: Arc<dyn Reinsertion>) {}

    fn health(&self) -> Health {
        Health::Online
    }

    fn figures(&self) -> Vec<Figure> {
        Vec::new()
    }

    fn write_time(&self) -> &Histogram {
        &self.write_time
    }

    fn evictions(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    fn settle(&self) -> Answer<'_, ()> {
        Box::pin(async {})
    }

    fn stop(&self) {}
}

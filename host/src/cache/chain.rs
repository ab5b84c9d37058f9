//! The tiers of one site as one, for who may wait: fastest first, a lookup stops at the first that
//! holds the key.
//!
//! Requests never come through here; they look into memory without a wait, and below it through
//! [`super::Cache::recall`].

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::{Builder, Runtime};

use super::stores::StoreOutcome;
use super::{Cache, Effect};
use crate::clock;
use crate::config::WritePolicy;
use crate::entry::{Entry, KeyView, SiteId, Tag};
use crate::tier::memory::Domain;
use crate::tier::memory::put::Put;
use crate::tier::{Purged, Selection, Usage};

/// The name of the memory tier, as operators and programs see it.
pub const MEMORY: &str = "memory";

/// What a lookup found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The name of the tier that answered.
    pub tier: &'static str,
    /// The entry. It may be stale.
    pub entry: Arc<Entry>,
}

/// How full one tier is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierUsage {
    /// The tier's name.
    pub tier: &'static str,
    /// What it holds, and may hold.
    pub usage: Usage,
}

/// Whether a lookup is a use of the entry, which counters and eviction policies hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is.
    Use,
    /// It is not.
    Peek,
}

/// Whose turn it is to put something under a key. Of two puts beside each other, tiers that took them
/// the other way round would hold different entries, and the older one would come back when memory
/// has lost the newer. Fetches need none: of two, only the later one is stored.
#[derive(Debug, Default)]
pub(super) struct Turns([Mutex<()>; 16]);

impl Turns {
    /// Waits for those who put something under `key`, and others that share their place.
    fn take(&self, key: KeyView<'_>) -> MutexGuard<'_, ()> {
        let place = usize::try_from(key.hash >> 60).unwrap_or_default();
        let turn = self.0.get(place).unwrap_or(&self.0[0]);
        turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tiers of one site. Every call blocks until the tiers have answered.
#[derive(Debug)]
pub struct Chain {
    cache: Arc<Cache>,
    site: SiteId,
    memory: Option<Arc<Domain>>,
    policy: WritePolicy,
    runtime: Runtime,
}

impl Chain {
    /// The chain of `site`: its `memory`, if it has any, and the tiers below it.
    ///
    /// # Errors
    /// The system has no room for another runtime.
    pub fn new(cache: Arc<Cache>, site: SiteId, memory: Option<Arc<Domain>>) -> io::Result<Self> {
        Ok(Self {
            cache,
            site,
            memory,
            policy: WritePolicy::default(),
            runtime: Builder::new_current_thread().enable_time().build()?,
        })
    }

    /// The same chain, whose puts fail as `policy` says.
    #[must_use]
    pub fn with_policy(self, policy: WritePolicy) -> Self {
        Self { policy, ..self }
    }

    /// Whose tiers these are.
    pub fn site(&self) -> SiteId {
        self.site
    }

    /// A key of these tiers, hashed.
    pub fn key<'a>(&self, bytes: &'a [u8]) -> KeyView<'a> {
        self.cache.hasher.key(bytes)
    }

    /// The tag `name` of the site.
    pub fn tag(&self, name: &str) -> Tag {
        self.cache.hasher.tag(self.site, name.as_bytes())
    }

    /// The tag of what is stored under `key`. Every entry that is put here carries it.
    pub fn key_tag(&self, key: KeyView<'_>) -> Tag {
        self.cache.hasher.key_tag(self.site, key)
    }

    /// The names of the tiers, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let lower = self.cache.lower.members();
        let memory = self.memory.as_ref().map(|_| MEMORY);
        memory
            .into_iter()
            .chain(lower.iter().map(|member| member.tier.name()))
    }

    /// The entry of `key` in the first tier that holds it. Faster ones are given it.
    pub fn lookup(&self, key: KeyView<'_>, look: Look) -> Option<Found> {
        let memory = self.memory.as_deref();
        let held = memory.and_then(|memory| match look {
            Look::Use => memory.get(key),
            Look::Peek => memory.peek(key),
        });
        if let Some(entry) = held {
            let tier = MEMORY;
            return Some(Found { tier, entry });
        }
        self.runtime.block_on(async {
            let recalled = self.cache.bring(memory, key).await?;
            self.cache.lower.fill(&recalled).await;
            Some(Found {
                tier: recalled.tier,
                entry: recalled.entry,
            })
        })
    }

    /// The content of `entry` from `at` on, as far as one read brings it.
    ///
    /// # Errors
    /// The tier that keeps it cannot read it.
    pub fn read(&self, entry: &Entry, at: u64) -> Result<bytes::Bytes, crate::entry::Unreadable> {
        let Some(stored) = entry.response() else {
            return Ok(bytes::Bytes::new());
        };
        match stored.body.place() {
            Some(content) => self.runtime.block_on(content.read(at)),
            None => Ok(stored.body.from(at)),
        }
    }

    /// Stores `entry` in those of the tiers that `wanted` names, in place of what was there. Whose
    /// failure fails it the write policy says; a tier that it is too large for does not. Of puts
    /// under one key, by any chain of the cache, each begins when the one before has ended.
    pub fn put(&self, entry: &Arc<Entry>, wanted: impl Fn(&str) -> bool) -> Put {
        let _turn = self.cache.turns.take(entry.key.view());
        let purges = &self.cache.flights.purges;
        let born = purges.born(purges.latest(), clock::unix_millis(clock::wall()));
        let _succeeding = self.cache.lower.announce(entry.key.view());
        let mut outcome = StoreOutcome::default();
        match &self.memory {
            Some(memory) if wanted(MEMORY) => match memory.put(entry, None, &|| true) {
                Put::Superseded => return Put::Superseded,
                put => outcome.add_memory(put),
            },
            // It must not go on to answer with what this takes the place of.
            Some(memory) => drop(memory.remove(entry.key.view())),
            None => {}
        }
        for member in self.cache.lower.members() {
            let name = member.tier.name();
            if !wanted(name) {
                member.tier.remove(entry.key.view());
            } else if let Some(written) = self.runtime.block_on(member.write(entry, born)) {
                outcome.add(name, written);
            }
        }
        outcome.answer(self.policy)
    }

    /// Removes the entry of `key` from every tier; whether any held one.
    ///
    /// # Errors
    /// It is gone, and may come back when the process is started again.
    pub fn remove(&self, key: KeyView<'_>) -> io::Result<bool> {
        let held = self.lookup(key, Look::Peek).is_some();
        self.purge_tag(self.key_tag(key))?;
        if let Some(memory) = &self.memory {
            memory.remove(key);
        }
        self.cache.lower.remove(key);
        Ok(held)
    }

    /// Removes what carries `tag` from every tier, and from what is on its way there.
    ///
    /// # Errors
    /// It is gone, and may come back when the process is started again.
    pub fn purge_tag(&self, tag: Tag) -> io::Result<Purged> {
        let selection = Selection::of_tags([tag]);
        let purged = self.cache.purge(&self.memory, &selection, Effect::Hard);
        self.cache.flights.purges.sync()?;
        Ok(purged)
    }

    /// How full each tier is, in order.
    pub fn usage(&self) -> impl Iterator<Item = TierUsage> {
        let memory = self.memory.iter().map(|memory| TierUsage {
            tier: MEMORY,
            usage: memory.usage(),
        });
        let lower = self.cache.lower.members().iter();
        memory.chain(lower.map(|member| TierUsage {
            tier: member.tier.name(),
            usage: member.tier.usage(),
        }))
    }
}

#[cfg(test)]
mod tests;

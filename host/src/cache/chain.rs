//! The tiers of one site as one: fastest first, a lookup stops at the first that holds the key.
//!
//! In this version the memory tier is the only one. What a chain does with several is settled
//! here, so that a further tier is a further variant of [`Tier`] and changes no caller. Nothing
//! here blocks.

use std::sync::Arc;

use super::Cache;
use crate::entry::{Entry, KeyView, SiteId, Tag};
use crate::tier::memory::Domain;
use crate::tier::memory::put::{Put, Rejected};
use crate::tier::{Purged, Usage};

/// One tier, as a site sees it.
#[derive(Clone, Debug)]
pub enum Tier {
    /// The share of the memory that the site's entries compete for.
    Memory(Arc<Domain>),
}

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

/// The tiers of one site.
#[derive(Clone, Debug)]
pub struct Chain {
    cache: Arc<Cache>,
    site: SiteId,
    tiers: Vec<Tier>,
}

impl Chain {
    /// The chain of `site`, of `tiers` in this order.
    pub fn new(cache: Arc<Cache>, site: SiteId, tiers: Vec<Tier>) -> Self {
        Self { cache, site, tiers }
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

    /// The entry of `key` in the first tier that holds it.
    pub fn lookup(&self, key: KeyView<'_>, look: Look) -> Option<Found> {
        self.tiers.iter().find_map(|tier| {
            let entry = tier.lookup(key, look)?;
            Some(Found {
                tier: tier.name(),
                entry,
            })
        })
    }

    /// Stores `entry` in every tier, in place of what was there. The answer is that of the first:
    /// a slower tier that takes nothing shows it in its own counts.
    pub fn put(&self, entry: &Arc<Entry>) -> Put {
        let mut answers = self.tiers.iter().map(|tier| tier.put(entry));
        let first = answers.next().unwrap_or(Put::Rejected(Rejected::Disabled));
        answers.for_each(|_: Put| ());
        first
    }

    /// Removes the entry of `key` from every tier; whether any held one.
    pub fn remove(&self, key: KeyView<'_>) -> bool {
        // Every tier is told, also after one that held it.
        let held = self.tiers.iter().filter(|tier| tier.remove(key)).count();
        held > 0
    }

    /// Removes what carries `tag` from every tier, and from what is on its way there.
    pub fn purge_tag(&self, tag: Tag) -> Purged {
        let mut purged = Purged::default();
        for tier in &self.tiers {
            match tier {
                Tier::Memory(domain) => purged += self.cache.purge_tags(domain, &[tag]),
            }
        }
        purged
    }

    /// How full each tier is, in order.
    pub fn usage(&self) -> impl Iterator<Item = TierUsage> {
        self.tiers.iter().map(|tier| TierUsage {
            tier: tier.name(),
            usage: tier.usage(),
        })
    }
}

impl Tier {
    /// The name shown to operators and programs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
        }
    }

    fn lookup(&self, key: KeyView<'_>, look: Look) -> Option<Arc<Entry>> {
        match (self, look) {
            (Self::Memory(domain), Look::Use) => domain.get(key),
            (Self::Memory(domain), Look::Peek) => domain.peek(key),
        }
    }

    fn put(&self, entry: &Arc<Entry>) -> Put {
        match self {
            Self::Memory(domain) => domain.put(entry, None, &|| true),
        }
    }

    fn remove(&self, key: KeyView<'_>) -> bool {
        match self {
            Self::Memory(domain) => domain.remove(key).is_some(),
        }
    }

    fn usage(&self) -> Usage {
        match self {
            Self::Memory(domain) => domain.usage(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::flights::Turn;
    use crate::entry::{CacheKey, Content, Nominations};
    use crate::tier::memory::{DomainSettings, Shards};

    const SITE: SiteId = SiteId(1);

    fn domain(capacity: u64) -> Arc<Domain> {
        Arc::new(Domain::new(DomainSettings {
            name: "test".to_owned(),
            capacity,
            max_entries: 100,
            shards: Shards::Auto,
        }))
    }

    fn chain(domains: &[&Arc<Domain>]) -> Chain {
        let tiers = domains
            .iter()
            .map(|domain| Tier::Memory(Arc::clone(domain)))
            .collect();
        Chain::new(Arc::default(), SITE, tiers)
    }

    fn entry(key: &CacheKey, tags: Vec<Tag>) -> Arc<Entry> {
        let content = Content::Nominations(Nominations::default());
        Arc::new(Entry::new(key.clone(), SITE, tags, content))
    }

    #[test]
    fn the_first_tier_that_holds_the_key_answers() {
        let (first, second) = (domain(1 << 20), domain(1 << 20));
        let chain = chain(&[&first, &second]);
        let key = chain.key(b"key").to_key();
        let found = || {
            chain
                .lookup(key.view(), Look::Peek)
                .map(|found| found.entry)
        };
        assert!(found().is_none());
        let (slow, fast) = (entry(&key, Vec::new()), entry(&key, Vec::new()));
        assert_eq!(second.put(&slow, None, &|| true), Put::Stored);
        assert!(found().is_some_and(|entry| Arc::ptr_eq(&entry, &slow)));
        assert_eq!(first.put(&fast, None, &|| true), Put::Stored);
        assert!(found().is_some_and(|entry| Arc::ptr_eq(&entry, &fast)));
        assert_eq!(
            (first.stats().hits, first.stats().misses),
            (0, 0),
            "a peek is no use"
        );
        assert!(chain.lookup(key.view(), Look::Use).is_some());
        assert_eq!((first.stats().hits, second.stats().hits), (1, 0));
    }

    #[test]
    fn every_tier_takes_a_put_a_removal_and_a_purge() {
        let (first, second) = (domain(1 << 20), domain(2 << 20));
        let chain = chain(&[&first, &second]);
        let (key, tag) = (chain.key(b"key").to_key(), chain.tag("tag"));
        let used = || {
            chain
                .usage()
                .map(|tier| tier.usage.entries)
                .collect::<Vec<_>>()
        };
        assert_eq!(chain.put(&entry(&key, vec![tag])), Put::Stored);
        assert_eq!(used(), [1, 1]);
        assert!(chain.remove(key.view()));
        assert_eq!(used(), [0, 0]);
        assert!(!chain.remove(key.view()));
        assert_eq!(chain.put(&entry(&key, vec![tag])), Put::Stored);
        assert_eq!(chain.purge_tag(chain.tag("other")), Purged::default());
        assert_eq!(chain.purge_tag(tag).entries, 2);
        assert_eq!(used(), [0, 0]);
        assert!(
            chain
                .usage()
                .map(|tier| tier.usage.capacity)
                .eq([1 << 20, 2 << 20])
        );
    }

    #[test]
    fn the_first_tier_decides_what_a_put_answers() {
        let (keeps, refuses) = (domain(1 << 20), domain(0));
        let disabled = Put::Rejected(Rejected::Disabled);
        for (tiers, expected) in [
            (vec![&keeps, &refuses], Put::Stored),
            (vec![&refuses, &keeps], disabled),
            (Vec::new(), disabled),
        ] {
            let chain = chain(&tiers);
            let key = chain.key(b"key").to_key();
            assert_eq!(chain.put(&entry(&key, Vec::new())), expected);
            assert_eq!(chain.remove(key.view()), !tiers.is_empty());
        }
    }

    #[test]
    fn a_purge_by_tag_reaches_what_is_on_its_way() {
        let chain = chain(&[&domain(1 << 20)]);
        let (key, tag) = (chain.key(b"key").to_key(), chain.tag("tag"));
        let Turn::Fly(pilot) = chain.cache.flights.take(key.view(), SITE, || vec![tag]) else {
            panic!("nobody else flies");
        };
        chain.purge_tag(chain.tag("other"));
        assert!(!pilot.flight().is_purged());
        chain.purge_tag(tag);
        assert!(pilot.flight().is_purged());
    }
}

//! The tiers: where stored responses are kept, fastest first.
//!
//! A tier knows entries, keys and tags, never HTTP rules or policies: whether a response may be
//! stored or used is decided above. Every tier keeps to its budget at every instant, and answers
//! an absent, damaged or unreachable entry as a miss.

pub mod disk;
pub mod envelope;
pub mod eviction;
pub mod found;
pub mod memory;
pub mod object;
pub mod slow;

use std::ops::AddAssign;

use crate::entry::{CacheKey, Entry, SiteId, Tag};

/// What a purge covers: everything that any part of it names.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Everything.
    pub all: bool,
    /// Everything of these sites.
    pub sites: Vec<SiteId>,
    /// What is stored under exactly these keys.
    pub keys: Vec<CacheKey>,
    /// In order, each once.
    tags: Vec<Tag>,
}

impl Selection {
    /// What carries one of `tags`.
    pub fn of_tags(tags: impl IntoIterator<Item = Tag>) -> Self {
        let mut tags: Vec<Tag> = tags.into_iter().collect();
        tags.sort_unstable();
        tags.dedup();
        Self {
            tags,
            ..Self::default()
        }
    }

    /// Everything.
    pub fn everything() -> Self {
        Self {
            all: true,
            ..Self::default()
        }
    }

    /// Everything of `site`.
    pub fn of_site(site: SiteId) -> Self {
        Self {
            sites: vec![site],
            ..Self::default()
        }
    }

    /// The tags, each once.
    pub fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// Whether it covers what belongs to `site` and carries `tags`; keys apart.
    pub fn covers(&self, site: SiteId, mut tags: impl Iterator<Item = Tag>) -> bool {
        self.all
            || self.sites.contains(&site)
            || tags.any(|tag| self.tags.binary_search(&tag).is_ok())
    }
}

/// What a purge removed, or would remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Entries.
    pub entries: u64,
    /// Bytes they were charged.
    pub bytes: u64,
}

impl Purged {
    /// One entry.
    pub fn of(entry: &Entry) -> Self {
        Self {
            entries: 1,
            bytes: entry.charge(),
        }
    }
}

impl AddAssign for Purged {
    fn add_assign(&mut self, other: Self) {
        self.entries = self.entries.saturating_add(other.entries);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// How full a tier is. Each number is exact; together they are not one snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Entries that can be found.
    pub entries: u64,
    /// Bytes in use: what the entries are charged, and `reserved`. Never above `capacity`.
    pub bytes: u64,
    /// Bytes set aside for responses that are still arriving.
    pub reserved: u64,
    /// Bytes the tier may use.
    pub capacity: u64,
    /// Entries the tier may hold.
    pub max_entries: u64,
    /// Bytes that guest eviction orders hold beside the tier's own.
    pub guest_memory: u64,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.entries = self.entries.saturating_add(other.entries);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.reserved = self.reserved.saturating_add(other.reserved);
        self.capacity = self.capacity.saturating_add(other.capacity);
        self.max_entries = self.max_entries.saturating_add(other.max_entries);
        self.guest_memory = self.guest_memory.saturating_add(other.guest_memory);
    }
}

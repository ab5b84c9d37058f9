//! What a purge covers, and what it came to.

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

//! Removing entries because somebody said so: by tag, by site, or all of them.
//!
//! A purge is exact for every entry inserted before it began, holds a shard's lock only for a
//! chunk at a time, and frees what it removed outside of it.

use std::sync::Arc;

use super::Domain;
use super::shard::{CHUNK, Contents, Departed, Locked, SLOTS};
use super::stats::EvictionReason;
use crate::entry::{Entry, SiteId, Tag};
use crate::tier::Purged;

/// Whether a chunk was the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    More,
    Done,
}

impl Domain {
    /// Entries that carry `tag`. Reads no entry.
    pub fn count_tag(&self, tag: Tag) -> Purged {
        let mut found = Purged::default();
        for index in 0..self.inner.shards.len() {
            let (entries, bytes) = self.inner.lock(index).count_tag(tag);
            found += Purged { entries, bytes };
        }
        found
    }

    /// Removes every entry that carries `tag`. Costs what it removes.
    pub fn purge_tag(&self, tag: Tag) -> Purged {
        let mut purged = Purged::default();
        for index in 0..self.inner.shards.len() {
            let horizon = self.inner.lock(index).horizon();
            let chunk = |shard: &mut Locked<'_>, departed: &mut Departed<'_>| {
                for _ in 0..CHUNK {
                    let Some(hash) = shard.oldest_tagged(tag, horizon) else {
                        return Progress::Done;
                    };
                    shard.take(hash, departed);
                }
                Progress::More
            };
            purged += self.in_chunks(index, chunk);
        }
        purged
    }

    /// Removes every entry of `site`.
    pub fn purge_site(&self, site: SiteId) -> Purged {
        let mut purged = Purged::default();
        for index in 0..self.inner.shards.len() {
            let mut shard = self.inner.lock(index);
            let (horizon, end) = (shard.horizon(), shard.slots_end());
            match shard.count_site(site) {
                0 => continue,
                all if all == shard.entries() => {
                    let contents = shard.empty(&self.inner.budget);
                    self.inner.unlock(shard);
                    purged += self.free(vec![contents]);
                    continue;
                }
                _ => drop(shard),
            }
            let mut slots = 0..end;
            let chunk = |shard: &mut Locked<'_>, departed: &mut Departed<'_>| {
                for (looked, at) in (1..).zip(slots.by_ref()) {
                    if let Some(entry) = shard.of_site(at, site, horizon) {
                        let hash = entry.key.view().hash;
                        shard.take(hash, departed);
                    }
                    if looked >= SLOTS || departed.entries.len() >= CHUNK {
                        break;
                    }
                }
                if slots.is_empty() {
                    Progress::Done
                } else {
                    Progress::More
                }
            };
            purged += self.in_chunks(index, chunk);
        }
        purged
    }

    /// Removes every entry, and hands them to a thread to free if there are many.
    pub fn purge_all(&self) -> Purged {
        let mut contents = Vec::new();
        for index in 0..self.inner.shards.len() {
            let mut shard = self.inner.lock(index);
            contents.push(shard.empty(&self.inner.budget));
            self.inner.unlock(shard);
        }
        self.free(contents)
    }

    /// Shows every entry of `site` to `visit`, outside any lock. Entries that come or go meanwhile
    /// may be missed.
    pub fn for_each(&self, site: SiteId, visit: &mut dyn FnMut(&Entry)) {
        let mut chunk: Vec<Arc<Entry>> = Vec::new();
        for index in 0..self.inner.shards.len() {
            let mut from = 0_u32;
            loop {
                let shard = self.inner.lock(index);
                let (end, horizon) = (shard.slots_end(), shard.horizon());
                let until = end.min(from.saturating_add(SLOTS));
                let slots = from..until;
                chunk.extend(
                    slots
                        .filter_map(|at| shard.of_site(at, site, horizon))
                        .cloned(),
                );
                drop(shard);
                chunk.drain(..).for_each(|entry| visit(&entry));
                from = until;
                if from == end {
                    break;
                }
            }
        }
    }

    fn in_chunks(
        &self,
        index: usize,
        mut chunk: impl FnMut(&mut Locked<'_>, &mut Departed<'_>) -> Progress,
    ) -> Purged {
        let mut purged = Purged::default();
        loop {
            let mut departed = Departed::new(&self.inner.budget);
            let mut shard = self.inner.lock(index);
            let progress = chunk(&mut shard, &mut departed);
            self.inner.unlock(shard);
            let (bytes, entries) = (departed.hold.bytes(), departed.hold.entries());
            purged += self.count(entries, bytes);
            if progress == Progress::Done {
                return purged;
            }
        }
    }

    fn free(&self, contents: Vec<Contents>) -> Purged {
        // Freeing an entry takes about a tenth of a microsecond; a purge is answered before.
        const MANY: u64 = 10_000;
        let mut purged = Purged::default();
        for part in &contents {
            purged += self.count(part.entries, part.bytes);
        }
        if purged.entries > MANY {
            let thread = std::thread::Builder::new().name("larder-free".to_owned());
            if let Err(error) = thread.spawn(move || drop(contents)) {
                // The closure is dropped with the error, so the entries were freed here instead.
                tracing::warn!(%error, "no thread to free purged entries");
            }
        }
        purged
    }

    fn count(&self, entries: u64, bytes: u64) -> Purged {
        self.inner
            .counters
            .evicted(EvictionReason::Purged, entries, bytes);
        Purged { entries, bytes }
    }
}

//! Removing entries because somebody said so: by tag, by site, or all of them.
//!
//! A purge is exact for every entry inserted before it began, holds a shard's lock only for a
//! chunk at a time, and frees what it removed outside of it. What is only counted or made stale is
//! listed first, so that an entry which is named twice counts once.

use std::sync::Arc;

use super::Domain;
use super::shard::walk::{Spot, Walk};
use super::shard::{CHUNK, Contents, Departed, Locked, SLOTS};
use super::stats::EvictionReason;
use crate::clock::Moment;
use crate::entry::{Entry, SiteId, Tag};
use crate::tier::{Purged, Selection};

/// Whether a chunk was the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    More,
    Done,
}

impl Domain {
    /// Removes what `selection` covers.
    pub fn purge(&self, selection: &Selection) -> Purged {
        if selection.all {
            return self.purge_all();
        }
        let mut purged = Purged::default();
        for site in &selection.sites {
            purged += self.purge_site(*site);
        }
        for tag in selection.tags() {
            purged += self.purge_tag(*tag);
        }
        for key in &selection.keys {
            if let Some(entry) = self.remove(key.view()) {
                purged += Purged::of(&entry);
            }
        }
        purged
    }

    /// What [`Self::purge`] would remove.
    pub fn count(&self, selection: &Selection) -> Purged {
        if let (false, [], [], [tag]) = (
            selection.all,
            &selection.sites[..],
            &selection.keys[..],
            selection.tags(),
        ) {
            return self.count_tag(*tag);
        }
        let mut counted = Purged::default();
        for (index, spots) in self.spots(selection) {
            for chunk in spots.chunks(CHUNK) {
                let shard = self.inner.lock(index);
                let entries = chunk.iter().filter_map(|spot| shard.at(*spot));
                entries.for_each(|entry| counted += Purged::of(entry));
            }
        }
        counted
    }

    /// Makes what `selection` covers stale from `now` on. Answers what that is, whether it was
    /// stale before or not.
    pub fn soften(&self, selection: &Selection, now: Moment) -> Purged {
        let mut softened = Purged::default();
        for (index, spots) in self.spots(selection) {
            for chunk in spots.chunks(CHUNK) {
                let shard = self.inner.lock(index);
                let found: Vec<(Spot, Arc<Entry>)> = chunk
                    .iter()
                    .filter_map(|spot| Some((*spot, Arc::clone(shard.at(*spot)?))))
                    .collect();
                drop(shard);
                // Copying heads takes longer than anything else here, so it is done unlocked.
                let mut stale: Vec<(Spot, Arc<Entry>)> = Vec::with_capacity(found.len());
                for (spot, entry) in &found {
                    softened += Purged::of(entry);
                    stale.extend(entry.softened(now).map(|entry| (*spot, Arc::new(entry))));
                }
                let mut shard = self.inner.lock(index);
                for (spot, entry) in &mut stale {
                    shard.exchange(*spot, entry);
                }
                drop(shard);
            }
        }
        softened
    }

    /// Where the entries that `selection` covers are, shard by shard, each once.
    fn spots(&self, selection: &Selection) -> impl Iterator<Item = (usize, Vec<Spot>)> {
        (0..self.inner.shards.len()).map(|index| {
            let mut spots = Vec::new();
            if selection.all || !selection.sites.is_empty() {
                let wanted = |site| selection.all || selection.sites.contains(&site);
                self.spots_of_sites(index, wanted, &mut spots);
            }
            for tag in selection.tags() {
                self.spots_of_tag(index, *tag, &mut spots);
            }
            for key in &selection.keys {
                if self.inner.index(key.view().hash) == index {
                    spots.extend(self.inner.lock(index).spot_of(key.view()));
                }
            }
            spots.sort_unstable();
            spots.dedup();
            (index, spots)
        })
    }

    fn spots_of_sites(&self, index: usize, wanted: impl Fn(SiteId) -> bool, into: &mut Vec<Spot>) {
        let (horizon, end) = {
            let shard = self.inner.lock(index);
            (shard.horizon(), shard.slots_end())
        };
        let mut from = 0;
        while from < end {
            let until = end.min(from.saturating_add(SLOTS));
            let shard = self.inner.lock(index);
            shard.spots(from..until, horizon, &wanted, into);
            from = until;
        }
    }

    fn spots_of_tag(&self, index: usize, tag: Tag, into: &mut Vec<Spot>) {
        let begin = into.len();
        let horizon = self.inner.lock(index).horizon();
        let mut most = usize::try_from(SLOTS).unwrap_or(usize::MAX);
        let mut after = None;
        loop {
            let shard = self.inner.lock(index);
            match shard.walk_tag(tag, after, horizon, most, into) {
                Walk::Done => return,
                Walk::More(resume) => after = Some(resume),
                // Where it stopped has left meanwhile. It begins anew and takes longer steps, so
                // that it ends however much comes and goes.
                Walk::Lost => {
                    into.truncate(begin);
                    after = None;
                    most = most.saturating_mul(8);
                }
            }
        }
    }

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
            let mut shard = self.inner.lock(index);
            let horizon = shard.horizon();
            let all = shard.count_tag(tag).0 == shard.entries();
            if all && shard.entries() > u64::from(SLOTS) {
                // As for a host that is the only one: all leaves at once, and is freed elsewhere.
                let contents = shard.empty(&self.inner.budget);
                self.inner.unlock(shard);
                purged += self.free(vec![contents]);
                continue;
            }
            drop(shard);
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
            purged += self.left(entries, bytes);
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
            purged += self.left(part.entries, part.bytes);
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

    fn left(&self, entries: u64, bytes: u64) -> Purged {
        self.inner
            .counters
            .evicted(EvictionReason::Purged, entries, bytes);
        Purged { entries, bytes }
    }
}

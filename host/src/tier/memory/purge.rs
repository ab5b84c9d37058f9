//! Removing entries because somebody said so: by tag, by site, or all of them.
//!
//! A purge is exact for every entry inserted before it began, holds a stripe's lock only for a
//! chunk at a time, and frees what it removed outside of it. One that covers many entries is in
//! force when it returns and carried out later (see `sweep`). What is only counted or made stale is
//! listed first, so that an entry which is named twice counts once.

use super::stats::EvictionReason;
use super::stripe::sweep::{Manner, Part};
use super::stripe::walk::{Spot, Walk};
use super::stripe::{CHUNK, Contents, Departed, Locked, SLOTS};
use super::{Domain, Inner};
use crate::clock::Moment;
use crate::entry::{Entry, SiteId, Tag};
use crate::sync::{Arc, thread};
use crate::tier::{Purged, Selection};

/// Whether a chunk was the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    More,
    Done,
}

/// `selection`, if the index knows how much it covers.
fn part(selection: &Selection) -> Option<Part> {
    let Selection {
        all, sites, keys, ..
    } = selection;
    match (all, &sites[..], selection.tags(), &keys[..]) {
        (true, ..) => Some(Part::All),
        (false, [site], [], []) => Some(Part::Site(*site)),
        (false, [], [tag], []) => Some(Part::Tag(*tag)),
        _ => None,
    }
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
        if let Some(part) = part(selection) {
            return self.inner.count(part);
        }
        let mut counted = Purged::default();
        for index in 0..self.inner.stripes.len() {
            for chunk in self.inner.spots(index, selection).chunks(CHUNK) {
                let stripe = self.inner.lock(index);
                let entries = chunk.iter().filter_map(|spot| stripe.at(*spot));
                entries.for_each(|entry| counted += Purged::of(entry));
            }
        }
        counted
    }

    /// The hashes of the keys of what [`Self::purge`] would remove, in no order and perhaps more
    /// than once; none if they are more than `most`.
    pub fn hashes(&self, selection: &Selection, most: u64) -> Option<Vec<u64>> {
        let counted = part(selection).map(|part| self.inner.count(part).entries);
        if counted.is_some_and(|entries| entries > most) {
            return None;
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut hashes = Vec::new();
        for index in 0..self.inner.stripes.len() {
            for chunk in self.inner.spots(index, selection).chunks(CHUNK) {
                let stripe = self.inner.lock(index);
                let entries = chunk.iter().filter_map(|spot| stripe.at(*spot));
                hashes.extend(entries.map(|entry| entry.key.view().hash));
            }
            if hashes.len() > most {
                return None;
            }
        }
        Some(hashes)
    }

    /// Makes what `selection` covers stale from `now` on. Answers what that is, whether it was
    /// stale before or not.
    pub fn soften(&self, selection: &Selection, now: Moment) -> Purged {
        let swept = part(selection).and_then(|part| self.sweep(part, Manner::Soften(now)));
        swept.unwrap_or_else(|| {
            let mut softened = Purged::default();
            for index in 0..self.inner.stripes.len() {
                let spots = self.inner.spots(index, selection);
                softened += self.inner.soften(index, &spots, now);
            }
            softened
        })
    }

    /// Entries that carry `tag`. Reads no entry.
    pub fn count_tag(&self, tag: Tag) -> Purged {
        self.inner.count(Part::Tag(tag))
    }

    /// Removes every entry that carries `tag`. Costs what it removes.
    pub fn purge_tag(&self, tag: Tag) -> Purged {
        let swept = self.sweep(Part::Tag(tag), Manner::Remove);
        swept.unwrap_or_else(|| {
            self.in_stripes(|index, horizon| self.inner.remove_tagged(index, tag, horizon))
        })
    }

    /// Removes every entry of `site`.
    pub fn purge_site(&self, site: SiteId) -> Purged {
        let swept = self.sweep(Part::Site(site), Manner::Remove);
        swept.unwrap_or_else(|| {
            self.in_stripes(|index, horizon| {
                let there = self.inner.lock(index).count(Part::Site(site));
                if there.entries == 0 {
                    // Looking for nobody would cost as much as for somebody.
                    return Purged::default();
                }
                let wanted = |other| other == site;
                self.inner.remove_of_sites(index, &wanted, horizon)
            })
        })
    }

    /// Removes every entry, and hands them to a thread to free if there are many.
    pub fn purge_all(&self) -> Purged {
        self.inner.begin_sweep(Part::All, Manner::Remove)
    }

    /// Sums what `purge` comes to in each stripe, which it is told with its latest insertion.
    fn in_stripes(&self, purge: impl Fn(usize, u64) -> Purged) -> Purged {
        let mut purged = Purged::default();
        for index in 0..self.inner.stripes.len() {
            let horizon = self.inner.lock(index).horizon();
            purged += purge(index, horizon);
        }
        purged
    }
}

impl Inner {
    /// Makes the entries at `spots` stale from `now` on. Answers what is there.
    pub(super) fn soften(&self, index: usize, spots: &[Spot], now: Moment) -> Purged {
        let mut softened = Purged::default();
        for chunk in spots.chunks(CHUNK) {
            let stripe = self.lock(index);
            let found: Vec<(Spot, Arc<Entry>)> = chunk
                .iter()
                .filter_map(|spot| Some((*spot, Arc::clone(stripe.at(*spot)?))))
                .collect();
            drop(stripe);
            for (_, entry) in &found {
                softened += Purged::of(entry);
            }
            self.make_stale(
                index,
                found.into_iter().map(|(spot, entry)| (spot, entry, now)),
            );
        }
        softened
    }

    /// Makes what was found in a stripe stale, each since its own moment.
    pub(super) fn make_stale(
        &self,
        index: usize,
        found: impl Iterator<Item = (Spot, Arc<Entry>, Moment)>,
    ) {
        // Copying heads takes longer than anything else here, so it is done unlocked.
        let stale = found.filter_map(|(spot, entry, since)| {
            let stale = entry.softened(since)?;
            Some((spot, Arc::new(stale)))
        });
        let mut stale: Vec<(Spot, Arc<Entry>)> = stale.collect();
        let mut stripe = self.lock(index);
        for (spot, entry) in &mut stale {
            stripe.exchange(*spot, entry);
        }
        drop(stripe);
    }

    /// Where the entries of a stripe that `selection` covers are, each once.
    fn spots(&self, index: usize, selection: &Selection) -> Vec<Spot> {
        let mut spots = Vec::new();
        let horizon = self.lock(index).horizon();
        if selection.all || !selection.sites.is_empty() {
            let wanted = |site| selection.all || selection.sites.contains(&site);
            self.spots_of_sites(index, &wanted, horizon, &mut spots);
        }
        for tag in selection.tags() {
            self.spots_of_tag(index, *tag, horizon, &mut spots);
        }
        for key in &selection.keys {
            if self.index(key.view().hash) == index {
                spots.extend(self.lock(index).spot_of(key.view()));
            }
        }
        spots.sort_unstable();
        spots.dedup();
        spots
    }

    /// Lists where the entries of `wanted` sites are, inserted no later than `horizon`.
    pub(super) fn spots_of_sites(
        &self,
        index: usize,
        wanted: &dyn Fn(SiteId) -> bool,
        horizon: u64,
        into: &mut Vec<Spot>,
    ) {
        let end = self.lock(index).slots_end();
        let mut from = 0;
        while from < end {
            let until = end.min(from.saturating_add(SLOTS));
            let stripe = self.lock(index);
            stripe.spots(from..until, horizon, wanted, into);
            from = until;
        }
    }

    /// Lists where the entries that carry `tag` are, inserted no later than `horizon`.
    pub(super) fn spots_of_tag(&self, index: usize, tag: Tag, horizon: u64, into: &mut Vec<Spot>) {
        let begin = into.len();
        let mut most = usize::try_from(SLOTS).unwrap_or(usize::MAX);
        let mut after = None;
        loop {
            let stripe = self.lock(index);
            match stripe.walk_tag(tag, after, horizon, most, into) {
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

    /// Removes the entries that carry `tag`, inserted no later than `horizon`.
    pub(super) fn remove_tagged(&self, index: usize, tag: Tag, horizon: u64) -> Purged {
        self.in_chunks(index, |stripe, leaving| {
            for _ in 0..CHUNK {
                let Some(hash) = stripe.oldest_tagged(tag, horizon) else {
                    return Progress::Done;
                };
                leaving.take(stripe, hash);
            }
            Progress::More
        })
    }

    /// Removes the entries of `wanted` sites, inserted no later than `horizon`.
    pub(super) fn remove_of_sites(
        &self,
        index: usize,
        wanted: &dyn Fn(SiteId) -> bool,
        horizon: u64,
    ) -> Purged {
        let mut slots = 0..self.lock(index).slots_end();
        self.in_chunks(index, |stripe, leaving| {
            for (looked, at) in (1..).zip(slots.by_ref()) {
                if let Some(hash) = stripe.of_site(at, wanted, horizon) {
                    leaving.take(stripe, hash);
                }
                if looked >= SLOTS || leaving.departed.entries.len() >= CHUNK {
                    break;
                }
            }
            match slots.is_empty() {
                true => Progress::Done,
                false => Progress::More,
            }
        })
    }

    fn in_chunks(
        &self,
        index: usize,
        mut chunk: impl FnMut(&mut Locked<'_>, &mut Leaving<'_>) -> Progress,
    ) -> Purged {
        let mut purged = Purged::default();
        loop {
            let mut leaving = Leaving {
                departed: Departed::new(&self.budget),
                purged: Purged::default(),
            };
            let mut stripe = self.lock(index);
            let progress = chunk(&mut stripe, &mut leaving);
            self.unlock(stripe);
            let hold = &leaving.departed.hold;
            self.left(hold.entries(), hold.bytes());
            purged += leaving.purged;
            if progress == Progress::Done {
                return purged;
            }
        }
    }

    /// Frees what stripes held, elsewhere if it is much.
    pub(super) fn free(&self, contents: Vec<Contents>) {
        // Freeing an entry takes about a tenth of a microsecond; a purge is answered before.
        const MANY: u64 = 10_000;
        let mut freed = 0_u64;
        for part in &contents {
            self.left(part.entries, part.bytes);
            freed = freed.saturating_add(part.entries);
        }
        if freed > MANY {
            let thread = thread::Builder::new().name("larder-free".to_owned());
            if let Err(error) = thread.spawn(move || drop(contents)) {
                // The closure is dropped with the error, so the entries were freed here instead.
                tracing::warn!(%error, "no thread to free purged entries");
            }
        }
    }

    /// Counts what purges removed.
    pub(super) fn left(&self, entries: u64, bytes: u64) {
        self.counters
            .evicted(EvictionReason::Purged, entries, bytes);
    }
}

/// What leaves with one chunk.
struct Leaving<'a> {
    departed: Departed<'a>,
    /// What of it an earlier purge had not covered, which has counted that already.
    purged: Purged,
}

impl Leaving<'_> {
    /// Removes the entry with this hash.
    fn take(&mut self, stripe: &mut Locked<'_>, hash: u64) {
        let counted = stripe.is_swept(hash);
        let before = self.departed.hold.bytes();
        stripe.take(hash, &mut self.departed);
        if !counted {
            self.purged += Purged {
                entries: 1,
                bytes: self.departed.hold.bytes().saturating_sub(before),
            };
        }
    }
}

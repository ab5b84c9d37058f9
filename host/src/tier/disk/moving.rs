//! What is kept of a segment that is reclaimed: it is written again, and what it was is forgotten.
//!
//! A response with its content in one record is copied. Of one with its content in extents, those
//! that lie in the segment are copied, one at a time, and a new parent after them, whose table
//! leads to them and to those that stay where they are. Who reads the content meanwhile reads on
//! where it was: the segment waits for its readers. Until the new parent is written the old one
//! counts; if the process ends in between, what was copied is found by nobody. Who reads the content
//! after that, from where it was, is led to where it is.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use super::Shared;
use super::content::{Extent, Layout};
use super::format::{
    FooterEntry, HEADER, Record, RecordHeader, RecordKind, SUPERBLOCK, UNIT, chunks_match, long,
    record_bytes, short,
};
use super::index::{Found as Located, Hash, Hits, Place};
use super::log::{Draft, Log, Right, Unwritten};
use super::reclaim::place_of;
use super::segment::Segment;
use crate::clock;
use crate::tier::envelope::Envelope;
use crate::tier::eviction::Stored;

/// What a segment that is reclaimed holds of an entry.
#[derive(Clone, Copy)]
struct Held {
    hash: Hash,
    /// Where the record lies, in this segment or, of a parent, in a younger one.
    located: Located,
    /// Bytes that keeping it takes.
    bytes: u64,
}

impl Log {
    /// Writes again what is worth it of `segment`, which holds `entries` and their extents, the
    /// most hit first, as far as `budget` goes. What then lacks part of its content is forgotten.
    pub(super) fn keep(
        &mut self,
        segment: &Arc<Segment>,
        entries: &[FooterEntry],
        budget: &mut u64,
    ) -> Result<(), Unwritten> {
        let now = clock::unix_millis(clock::wall());
        let mut held = self.shared.wholes_in(segment, entries, now);
        let large = self.shared.content_in_part(segment, entries, now);
        held.extend(&large);
        for one in self.shared.worthwhile(held, now) {
            if one.bytes > *budget {
                continue;
            }
            let written = match one.located.place.kind {
                RecordKind::Parent => self.move_content(segment, &one)?,
                _ => self.copy_whole(segment, &one)?,
            };
            *budget -= written;
        }
        self.flush()?;
        for one in large {
            if self.shared.index.remove_at(one.hash, one.located.place) {
                self.shared.stats.evicted.capacity.increment();
            }
        }
        Ok(())
    }

    /// Writes a whole record again, unless it is damaged or purged. The bytes that were written.
    fn copy_whole(&mut self, segment: &Segment, one: &Held) -> Result<u64, Unwritten> {
        let Some((meta, content, envelope)) =
            self.shared.record_at(segment, one.hash, one.located.place)
        else {
            return Ok(0);
        };
        if self.forget_purged(one, &envelope) {
            return Ok(0);
        }
        let draft = Draft {
            kind: RecordKind::Whole,
            hash: one.hash.0,
            meta: &meta,
            content: &[content],
            expires: one.located.expires,
        };
        let right = Right::Instead(one.located.place, Hits::Forgotten);
        self.append(&draft, right, Some(envelope.born))?;
        Ok(one.bytes)
    }

    /// Writes the extents in `segment` again, and a parent that leads to them, unless any of it is
    /// damaged, or purged. The bytes that were written.
    fn move_content(&mut self, segment: &Segment, one: &Held) -> Result<u64, Unwritten> {
        let Some((meta, envelope, layout)) = self.shared.parent_at(one.hash, one.located.place)
        else {
            return Ok(0);
        };
        if self.forget_purged(one, &envelope) {
            return Ok(0);
        }
        let mut moved = Layout::default();
        let mut hits = Hits::Forgotten;
        for (extent, table) in layout.parts() {
            // Content lies in the order of its age, also once it was moved. So all of it is as old
            // as what is written now if its end is; as long as that is not, the next part to be
            // reclaimed is judged by the same hits.
            if extent.segment.nonce != segment.nonce {
                hits = Hits::Kept;
                moved.append(Layout {
                    extents: vec![extent.clone()],
                    checksums: table.to_vec(),
                    length: extent.length,
                });
                continue;
            }
            hits = Hits::Forgotten;
            let Some(content) = self.shared.extent_content(extent, table) else {
                // It is not found again, nor is what was copied of it.
                return Ok(one.bytes);
            };
            moved.append(self.append_extents(one.hash, &[content])?);
        }
        let table = moved.encode();
        if !self.shared.fits(long(meta.len()), long(table.len())) {
            return Ok(one.bytes);
        }
        let draft = Draft {
            kind: RecordKind::Parent,
            hash: one.hash.0,
            meta: &meta,
            content: &[Bytes::from(table)],
            expires: one.located.expires,
        };
        let right = Right::Instead(one.located.place, hits);
        self.append(&draft, right, Some(envelope.born))?;
        Ok(one.bytes)
    }

    /// Forgets what a purge covers. Whether it does.
    fn forget_purged(&self, one: &Held, envelope: &Envelope) -> bool {
        let purged = !(self.shared.valid)(envelope);
        if purged && self.shared.index.remove_at(one.hash, one.located.place) {
            self.shared.stats.evicted.purged.increment();
        }
        purged
    }
}

impl Shared {
    /// What of `entries` of `segment` can be found, and has its content in the same record.
    fn wholes_in(&self, segment: &Segment, entries: &[FooterEntry], now: u64) -> Vec<Held> {
        let wholes = entries.iter().filter(|e| e.kind == RecordKind::Whole);
        let live = wholes.filter_map(|entry| {
            let (hash, place) = (Hash(entry.hash), place_of(segment.number, entry));
            let located = self.index.get(hash)?;
            let held = Held {
                hash,
                located,
                bytes: u64::from(entry.units) * UNIT,
            };
            (located.place == place && !located.expires.is_over(now)).then_some(held)
        });
        live.collect()
    }

    /// What can be found and has part of its content in `segment`, which holds `entries` besides.
    /// Blocks.
    fn content_in_part(&self, segment: &Segment, entries: &[FooterEntry], now: u64) -> Vec<Held> {
        let live = |hash| {
            let located = self.index.get(hash)?;
            let of_use = located.place.kind == RecordKind::Parent && !located.expires.is_over(now);
            let mut held = Held {
                hash,
                located,
                bytes: u64::from(located.place.units) * UNIT,
            };
            let (_, _, layout) = of_use.then(|| self.parent_at(hash, located.place))??;
            let here = layout.extents.iter();
            let here = here.filter(|extent| extent.segment.nonce == segment.nonce);
            let here: u64 = here.map(|extent| record_bytes(0, extent.length)).sum();
            held.bytes += here;
            // What lies here may be of what was there before.
            (here > 0).then_some(held)
        };
        let keys = self.keys_of_extents(segment, entries);
        keys.into_iter().filter_map(live).collect()
    }

    /// The keys of the extents in `segment`. They lie where `entries` do not. Blocks.
    fn keys_of_extents(&self, segment: &Segment, entries: &[FooterEntry]) -> BTreeSet<Hash> {
        let mut keys = BTreeSet::new();
        let mut at = SUPERBLOCK;
        let bounds = entries.iter().map(|entry| {
            let start = u64::from(entry.place) * UNIT;
            (start, start + u64::from(entry.units) * UNIT)
        });
        for (start, end) in bounds.chain([(segment.end(), segment.end())]) {
            while at < start {
                let Some(header) = self.extent_header(segment, at) else {
                    break;
                };
                keys.insert(Hash::of(header.hash));
                at += header.bytes();
            }
            at = at.max(end);
        }
        keys
    }

    fn extent_header(&self, segment: &Segment, at: u64) -> Option<RecordHeader> {
        let mut bytes = vec![0; short(HEADER)];
        self.io.read(&segment.file, &mut bytes, at).ok()?;
        let header = RecordHeader::decode(&bytes)?;
        let itself = header.nonce == segment.nonce && u64::from(header.place) * UNIT == at;
        (itself && header.kind == RecordKind::Extent).then_some(header)
    }

    /// Those of `held` that the rule for reinsertion wants written again, the most hit first.
    fn worthwhile(&self, held: Vec<Held>, now: u64) -> Vec<Held> {
        let stored = |one: &Held| Stored {
            hash: one.hash.0,
            size: one.bytes,
            hits: u32::try_from(one.located.hits).unwrap_or(u32::MAX),
            // Segments go in the order in which they were written, so all in one are of an age.
            age_s: 0,
            lifetime_s: one.located.expires.left(now),
        };
        let stored: Vec<Stored> = held.iter().map(stored).collect();
        let rule = {
            let rule = self.reinsertion.lock();
            Arc::clone(&rule.unwrap_or_else(PoisonError::into_inner))
        };
        let answered = held.into_iter().zip(rule.keep(&stored));
        let mut kept: Vec<Held> = answered
            .filter_map(|(one, keep)| keep.then_some(one))
            .collect();
        kept.sort_by_key(|one| std::cmp::Reverse(one.located.hits));
        kept
    }

    /// The meta, the content and the envelope of the record of `key` at `place` in `segment`,
    /// verified. Blocks.
    fn record_at(
        &self,
        segment: &Segment,
        key: Hash,
        place: Place,
    ) -> Option<(Vec<u8>, Bytes, Envelope)> {
        let mut bytes = vec![0; short(u64::from(place.units) * UNIT)];
        let at = u64::from(place.unit) * UNIT;
        self.io.read(&segment.file, &mut bytes, at).ok()?;
        let (meta, content) = {
            let record = Record::verify(&bytes).ok()?;
            let header = record.header;
            let itself = header.nonce == segment.nonce
                && header.place == place.unit
                && header.hash == key.0
                && header.kind == place.kind;
            let at = short(header.content_at());
            itself.then(|| (record.meta.to_vec(), at..at + record.content.len()))?
        };
        let envelope = Envelope::decode(&meta).ok()?;
        Some((meta, Bytes::from(bytes).slice(content), envelope))
    }

    /// The meta and the envelope of the parent of `key` at `place`, and where its content lies, all
    /// of which is still there. Blocks.
    pub(super) fn parent_at(&self, key: Hash, place: Place) -> Option<(Vec<u8>, Envelope, Layout)> {
        let segment = self.segments.get(place.segment)?;
        let (meta, table, envelope) = self.record_at(&segment, key, place)?;
        let layout = self.layout_in(&table).ok()?;
        (layout.length == envelope.length).then_some((meta, envelope, layout))
    }

    /// The content of `extent`, whose chunks have the checksums in `table`. Blocks.
    fn extent_content(&self, extent: &Extent, table: &[u32]) -> Option<Bytes> {
        let mut bytes = vec![0; short(extent.length)];
        let file = &extent.segment.file;
        self.io.read(file, &mut bytes, extent.content_at()).ok()?;
        chunks_match(&bytes, table.iter().copied()).then(|| bytes.into())
    }
}

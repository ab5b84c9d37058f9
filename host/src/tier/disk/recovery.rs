//! Finding out what the segments hold: from their footers, and of those without one by walking
//! through the records.
//!
//! Threads go through the segments, the youngest first, while the tier works already. What is
//! stored or removed meanwhile is newer than anything they find. Of two records of a key the one
//! that lies later counts, by the ordinal of its segment and its place in it.
//!
//! So an older record is found again if the later one is lost with all that told of it. Lives of
//! segments are numbered without gaps: where one is missing, or has a superblock that cannot be
//! read, all that is older is doubted, and validated before it is used. Of a damaged record its head
//! tells which key it was for, and nothing older is found under that. What nobody can tell is lost
//! unnoticed: the end of a segment that was not synced when the power failed, and a record whose
//! head is damaged in a segment without a footer; what lies behind it is found. A purge is never
//! undone, whatever is lost: it has a log of its own.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};

use super::Shared;
use super::format::{
    FooterEntry, HEADER, Record, RecordHeader, RecordKind, SUPERBLOCK, UNIT, UNITS_MAX,
    footer_bytes, long, short,
};
use super::index::{Found, Hash, Hour, Place};
use super::reclaim::place_of;
use super::segment::{Floors, Segment};
use crate::tier::envelope::Envelope;

/// Threads that load, at most.
const THREADS_MAX: usize = 4;
/// Keys that may be superseded while the tier loads. Beyond them nothing more is loaded.
const SUPERSEDED_MAX: usize = 1 << 20;
/// Bytes that are looked through at a time for the next record behind a damaged one.
const LOOK: u64 = 1 << 20;
/// Entries that are looked at without letting anybody supersede them.
const LOT: usize = 256;

/// What is known of the loading, until it is done.
#[derive(Debug)]
pub(super) struct Loading {
    superseded: RwLock<Option<HashSet<Hash>>>,
    done: Mutex<bool>,
    told: Condvar,
}

impl Default for Loading {
    fn default() -> Self {
        Self {
            superseded: RwLock::new(Some(HashSet::new())),
            done: Mutex::default(),
            told: Condvar::default(),
        }
    }
}

impl Loading {
    /// Nothing that is found under `hash` counts. False once everything is loaded.
    pub(super) fn supersede(&self, hash: Hash) -> bool {
        {
            let superseded = self.superseded.read();
            if superseded.unwrap_or_else(PoisonError::into_inner).is_none() {
                return false;
            }
        }
        let superseded = self.superseded.write();
        let mut superseded = superseded.unwrap_or_else(PoisonError::into_inner);
        let Some(hashes) = superseded.as_mut() else {
            return false;
        };
        if hashes.len() < SUPERSEDED_MAX {
            hashes.insert(hash);
        } else {
            // What is not loaded is a miss; what was superseded would be a wrong hit.
            *superseded = None;
        }
        true
    }

    /// Whether it is not done.
    pub(super) fn is_under_way(&self) -> bool {
        !*self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is done.
    pub(super) fn wait(&self) {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.told.wait_while(done, |done| !*done);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn finish(&self) {
        *self
            .superseded
            .write()
            .unwrap_or_else(PoisonError::into_inner) = None;
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.told.notify_all();
    }
}

/// Ends the loading, however it went.
struct Finish<'a>(&'a Shared);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        // What is superseded by nothing was needed for the order only.
        let tombstone = |found: Found| found.place.kind == RecordKind::Tombstone;
        self.0.index.sweep(tombstone);
        self.0.index.fit();
        self.0.condition.lock().loading = false;
        self.0.loading.finish();
    }
}

impl Shared {
    /// Loads what `segments`, oldest first, hold. Blocks.
    pub(super) fn load(&self, segments: &[Arc<Segment>]) {
        let _finish = Finish(self);
        let trailers = segments
            .iter()
            .filter_map(|segment| self.trailer_of(segment));
        self.index
            .reserve(trailers.map(|trailer| u64::from(trailer.entries)).sum());
        let next = AtomicUsize::new(0);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads.min(THREADS_MAX).min(segments.len()) {
                scope.spawn(|| {
                    while let Some(segment) = segments.iter().rev().nth(next.fetch_add(1, Relaxed))
                    {
                        if self.queue.is_stopping() {
                            return;
                        }
                        self.load_segment(segment);
                    }
                });
            }
        });
    }

    fn load_segment(&self, segment: &Segment) {
        if let Some((trailer, entries, floors)) = self.footer_of(segment) {
            *segment.floors() = floors;
            segment.extend(trailer.end);
            self.insert(segment, &entries);
            return;
        }
        let found = self.walk(segment);
        *segment.floors() = found.floors;
        segment.unsealed().clone_from(&found.entries);
        segment.extend(found.end);
        self.insert(segment, &found.entries);
        // Sealed, so that what may lie behind a torn record is never found.
        let sealed = self.write_footer(segment);
        if let Err(error) = sealed.and_then(|()| self.io.sync(&segment.file)) {
            self.stats.write_errors.increment();
            tracing::warn!(%error, number = segment.number, "a recovered segment could not be sealed");
        }
    }

    fn insert(&self, segment: &Segment, entries: &[FooterEntry]) {
        for lot in entries.chunks(LOT) {
            let superseded = self.loading.superseded.read();
            let superseded = superseded.unwrap_or_else(PoisonError::into_inner);
            let Some(superseded) = superseded.as_ref() else {
                return;
            };
            for entry in lot {
                let hash = Hash::of(entry.hash);
                let end = (u64::from(entry.place) + u64::from(entry.units)) * UNIT;
                let sound = u64::from(entry.place) * UNIT >= SUPERBLOCK
                    && end <= segment.end()
                    && u64::from(entry.units) <= UNITS_MAX
                    && entry.kind != RecordKind::Extent;
                if !sound || superseded.contains(&hash) {
                    continue;
                }
                let place = place_of(segment.number, entry);
                let later = |there: Found| self.is_later(segment, place, there.place);
                self.index
                    .insert_if(hash, place, Hour(entry.expires), later);
            }
        }
    }

    /// Whether `place` in `segment` was written later than `there`.
    fn is_later(&self, segment: &Segment, place: Place, there: Place) -> bool {
        let ordinal = self.segments.get(there.segment).map(|there| there.ordinal);
        ordinal.is_none_or(|ordinal| (ordinal, there.unit) < (segment.ordinal, place.unit))
    }

    /// Goes through the records of a segment that was not sealed, past those that are damaged.
    ///
    /// Every head that names this life was written in it, and none twice to one place: a segment that
    /// fails is given up as a whole.
    fn walk(&self, segment: &Segment) -> Walked {
        let mut walked = Walked {
            end: SUPERBLOCK,
            entries: Vec::new(),
            floors: Floors::default(),
        };
        let full = self.identity.segment_bytes;
        while let Some(header) = self.next_head(segment, walked.end) {
            let at = u64::from(header.place) * UNIT;
            let entries = long(walked.entries.len()) + 1;
            let fits = at + header.bytes() + footer_bytes(entries, long(Floors::MAX)) <= full;
            let mut bytes = vec![0; short(header.bytes())];
            if !fits || self.io.read(&segment.file, &mut bytes, at).is_err() {
                break;
            }
            match Record::verify(&bytes) {
                Ok(record) => walked.count(&record),
                Err(_) => walked.count_damaged(&header),
            }
            walked.end = at + header.bytes();
        }
        walked
    }

    /// The head of the first record of `segment` that lies at `from` or behind it.
    fn next_head(&self, segment: &Segment, from: u64) -> Option<RecordHeader> {
        let full = self.identity.segment_bytes;
        // Where it is to be, and then wherever it is.
        let (mut at, mut look) = (from, HEADER);
        while at + HEADER <= full {
            let mut bytes = vec![0; short(look.min(full - at))];
            self.io.read(&segment.file, &mut bytes, at).ok()?;
            let heads = bytes.chunks_exact(short(UNIT)).map(RecordHeader::decode);
            let is_it = |(place, header): (u64, Option<RecordHeader>)| {
                header.filter(|it| it.nonce == segment.nonce && u64::from(it.place) == place)
            };
            if let Some(header) = (at / UNIT..).zip(heads).find_map(is_it) {
                return Some(header);
            }
            at += look;
            look = LOOK;
        }
        None
    }
}

/// What was found in a segment.
struct Walked {
    end: u64,
    entries: Vec<FooterEntry>,
    floors: Floors,
}

impl Walked {
    fn add(&mut self, header: &RecordHeader, kind: RecordKind) {
        self.entries.push(FooterEntry {
            hash: header.hash,
            place: header.place,
            units: header.units,
            expires: header.expires,
            kind,
        });
    }

    /// What cannot be read any more superseded what is older all the same.
    fn count_damaged(&mut self, header: &RecordHeader) {
        if header.kind != RecordKind::Extent {
            self.add(header, RecordKind::Tombstone);
        }
    }

    fn count(&mut self, record: &Record<'_>) {
        let header = &record.header;
        if header.kind == RecordKind::Extent {
            return;
        }
        self.add(header, header.kind);
        // A form that cannot be read will not be served either.
        if let Ok(envelope) = Envelope::decode(record.meta) {
            self.floors.lower(envelope.born.node, envelope.born.purge);
        }
    }
}

//! Finding out what the segments hold: from their footers, and of those without one by walking
//! through the records.
//!
//! Threads go through the segments, the youngest first, while the tier works already. What is
//! stored or removed meanwhile is newer than anything they find. Of two records of a key the one
//! that lies later counts, by the ordinal of its segment and its place in it.
//!
//! So an older record is found again if the later one is lost with all that told of it. Lives of
//! segments are numbered without gaps: where one is missing, or has a superblock that cannot be
//! read, all that is older is doubted, and validated before it is used. What nobody can tell is lost
//! unnoticed: the end of a segment that was not synced when the power failed, and what lies behind
//! a damaged record in a segment whose footer is damaged too. A purge is never undone, whatever is
//! lost: it has a log of its own.

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

    /// Goes through the records of a segment that was not sealed, up to the first that is not whole.
    fn walk(&self, segment: &Segment) -> Walked {
        let mut walked = Walked {
            end: SUPERBLOCK,
            entries: Vec::new(),
            floors: Floors::default(),
        };
        let full = self.identity.segment_bytes;
        loop {
            let mut head = vec![0; short(HEADER)];
            if walked.end + HEADER > full
                || self.io.read(&segment.file, &mut head, walked.end).is_err()
            {
                return walked;
            }
            let Some(header) = RecordHeader::decode(&head) else {
                return walked;
            };
            let entries = long(walked.entries.len()) + 1;
            let fits =
                walked.end + header.bytes() + footer_bytes(entries, long(Floors::MAX)) <= full;
            let here = u64::from(header.place) * UNIT == walked.end;
            if header.nonce != segment.nonce || !here || !fits {
                return walked;
            }
            let mut bytes = vec![0; short(header.bytes())];
            if self.io.read(&segment.file, &mut bytes, walked.end).is_err() {
                return walked;
            }
            let Ok(record) = Record::verify(&bytes) else {
                return walked;
            };
            walked.count(&record);
            walked.end += header.bytes();
        }
    }
}

/// What was found in a segment.
struct Walked {
    end: u64,
    entries: Vec<FooterEntry>,
    floors: Floors,
}

impl Walked {
    fn count(&mut self, record: &Record<'_>) {
        let header = &record.header;
        if header.kind == RecordKind::Extent {
            return;
        }
        self.entries.push(FooterEntry {
            hash: header.hash,
            place: header.place,
            units: header.units,
            expires: header.expires,
            kind: header.kind,
        });
        // A form that cannot be read will not be served either.
        if let Ok(envelope) = Envelope::decode(record.meta) {
            self.floors.lower(envelope.born.node, envelope.born.purge);
        }
    }
}

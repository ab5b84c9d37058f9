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
//! tells which key it was for, and nothing older is found under that.
//!
//! Where the head is damaged too, and no footer can be read, nothing tells the key. But records lie
//! end to end: where one is found behind a gap, or none is although the trailer says where the last
//! one ends, something was lost, and all that is not younger than the segment is doubted. Such a
//! segment gets no footer, which would hide the gap: it is walked through again at every start until
//! it is reclaimed, which all that is older is by then. What lies behind the gap is found.
//!
//! The heads could also tell of their neighbours, so that less would have to be doubted. But a
//! sector that is lost takes several small records at once, so doubt would still be needed, and it
//! is cheap: it costs a validation.
//!
//! What nobody can tell is lost unnoticed: the end of a segment without even a trailer, be it that
//! it was not synced when the power failed or that its very last head is damaged. What stands there
//! is like what an earlier life left. A purge is never undone, whatever is lost: it has a log of its
//! own.

use std::collections::HashSet;
use std::sync::atomic::{
    AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};

use super::Shared;
use super::format::{
    FooterEntry, HEADER, Record, RecordHeader, RecordKind, SUPERBLOCK, TRAILER, Trailer, UNIT,
    UNITS_MAX, footer_bytes, long, short,
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
        let youngest_first = segments.iter().rev();
        let with_trailer = youngest_first.map(|segment| (segment, self.trailer_of(segment)));
        let (sealed, unsealed): (Vec<_>, Vec<_>) =
            with_trailer.partition(|(_, trailer)| trailer.is_some());
        let trailers = || sealed.iter().filter_map(|(_, trailer)| trailer.as_ref());
        let entries = trailers().map(|trailer| u64::from(trailer.entries));
        self.index.reserve(entries.sum());
        let footer = trailers().map(Trailer::footer).max().unwrap_or_default();
        // What is lost of those without a footer says what is to be believed of the others. Nothing
        // is served as it was from the moment on that it is known.
        self.load_each(&unsealed, 0);
        self.load_each(&sealed, short(footer));
    }

    /// Loads `segments`, whose footers have no more than `footer` bytes.
    fn load_each(&self, segments: &[(&Arc<Segment>, Option<Trailer>)], footer: usize) {
        let next = AtomicUsize::new(0);
        let load = || {
            // One for all of them: what is freed again and again leaves holes in the memory of the
            // process.
            let mut buffer = vec![0; footer];
            while let Some((segment, trailer)) = segments.get(next.fetch_add(1, Relaxed)) {
                if self.queue.is_stopping() {
                    return;
                }
                let trailer = trailer.as_ref();
                if !trailer.is_some_and(|it| self.load_footer(segment, it, &mut buffer)) {
                    self.load_records(segment, trailer.map_or(0, |it| it.end));
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads.min(THREADS_MAX).min(segments.len()) {
                scope.spawn(load);
            }
        });
    }

    /// Loads what the footer of `segment`, which ends with `trailer`, tells, by way of `buffer`.
    /// Whether it is sound.
    fn load_footer(&self, segment: &Segment, trailer: &Trailer, buffer: &mut [u8]) -> bool {
        let at = self.identity.segment_bytes - trailer.footer();
        let Some(bytes) = buffer.get_mut(..short(trailer.footer() - TRAILER)) else {
            return false;
        };
        if self.io.read(&segment.file, bytes, at).is_err() {
            return false;
        }
        let Some((entries, floors)) = trailer.contents(bytes) else {
            return false;
        };
        *segment.floors() = Floors::of(floors.collect());
        segment.extend(trailer.end);
        self.insert(segment, entries);
        true
    }

    /// Loads what a walk through the records of `segment` tells, which reach to `end` at least.
    fn load_records(&self, segment: &Segment, end: u64) {
        let mut found = self.walk(segment);
        found.gap |= found.end < end;
        if found.gap {
            self.doubted.fetch_max(segment.ordinal + 1, SeqCst);
            tracing::warn!(
                number = segment.number,
                "part of a segment of the disk tier is lost; what is older is validated before it \
                 is used, since it may have been replaced there"
            );
        }
        *segment.floors() = found.floors;
        segment.unsealed().clone_from(&found.entries);
        segment.extend(found.end);
        self.insert(segment, found.entries.iter().copied());
        if found.gap {
            return;
        }
        // Sealed, so that what may lie behind a torn record is never found.
        let sealed = self.write_footer(segment);
        if let Err(error) = sealed.and_then(|()| self.io.sync(&segment.file)) {
            self.stats.write_errors.increment();
            tracing::warn!(%error, number = segment.number, "a recovered segment could not be sealed");
        }
    }

    fn insert(&self, segment: &Segment, entries: impl Iterator<Item = FooterEntry>) {
        let mut entries = entries.peekable();
        while entries.peek().is_some() {
            let superseded = self.loading.superseded.read();
            let superseded = superseded.unwrap_or_else(PoisonError::into_inner);
            let Some(superseded) = superseded.as_ref() else {
                return;
            };
            for entry in entries.by_ref().take(LOT) {
                let hash = Hash::of(entry.hash);
                let end = (u64::from(entry.place) + u64::from(entry.units)) * UNIT;
                let sound = u64::from(entry.place) * UNIT >= SUPERBLOCK
                    && end <= segment.end()
                    && u64::from(entry.units) <= UNITS_MAX
                    && entry.kind != RecordKind::Extent;
                if !sound || superseded.contains(&hash) {
                    continue;
                }
                let place = place_of(segment.number, &entry);
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
            gap: false,
        };
        let full = self.identity.segment_bytes;
        let mut bytes = Vec::new();
        loop {
            let header = match self.next_head(segment, walked.end) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(_) => {
                    walked.gap = true;
                    break;
                }
            };
            let at = u64::from(header.place) * UNIT;
            let entries = long(walked.entries.len()) + 1;
            let fits = at + header.bytes() + footer_bytes(entries, long(Floors::MAX)) <= full;
            bytes.resize(short(header.bytes()), 0);
            if !fits || self.io.read(&segment.file, &mut bytes, at).is_err() {
                walked.gap = true;
                break;
            }
            walked.gap |= at > walked.end;
            match Record::verify(&bytes) {
                Ok(record) => walked.count(&record),
                Err(_) => walked.count_damaged(&header),
            }
            walked.end = at + header.bytes();
        }
        walked
    }

    /// The head of the first record of `segment` that lies at `from` or behind it.
    fn next_head(&self, segment: &Segment, from: u64) -> std::io::Result<Option<RecordHeader>> {
        let full = self.identity.segment_bytes;
        // Where it is to be, and then wherever it is.
        let (mut at, mut look) = (from, HEADER);
        let mut bytes = Vec::new();
        while at + HEADER <= full {
            bytes.resize(short(look.min(full - at)), 0);
            self.io.read(&segment.file, &mut bytes, at)?;
            let heads = bytes.chunks_exact(short(UNIT)).map(RecordHeader::decode);
            let is_it = |(place, header): (u64, Option<RecordHeader>)| {
                header.filter(|it| it.nonce == segment.nonce && u64::from(it.place) == place)
            };
            if let Some(header) = (at / UNIT..).zip(heads).find_map(is_it) {
                return Ok(Some(header));
            }
            at += look;
            look = LOOK;
        }
        Ok(None)
    }
}

/// What was found in a segment.
struct Walked {
    end: u64,
    entries: Vec<FooterEntry>,
    floors: Floors,
    /// Whether something was lost between the records, or could not be read.
    gap: bool,
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

//! The one thread that writes: records to the end of the open segment, batch by batch.
//!
//! Everything is in one order, the order in which it was queued, and a record that lies later
//! supersedes one of the same key that lies earlier, whatever else is lost. A record can be found
//! once its batch was written, never before.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::content::Assembly;
use super::format::{
    FooterEntry, HEADER, RecordHeader, RecordKind, SUPERBLOCK, Superblock, UNIT, encode_footer,
    footer_bytes, long, narrow, record_bytes, short,
};
use super::index::{Hash, Hits, Hour, Place};
use super::io::write_all;
use super::pieces::{checksums, digest, lots};
use super::queue::{Claim, Item, Lot, Queued};
use super::segment::{Floors, Segment};
use super::{Shared, random};
use crate::clock;
use crate::entry::Entry;
use crate::tier::envelope::{Born, Envelope};

/// Bytes that are written at once.
const BATCH: u64 = 1 << 20;
/// Records that are written at once: each is a few slices, and a call takes 1,024 of them.
const BATCH_RECORDS: usize = 256;
/// How long the thread waits for something to do.
const IDLE: Duration = Duration::from_secs(1);

/// What could not be written; who found out has told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unwritten;

/// The state of the writing thread.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) shared: Arc<Shared>,
    /// Every segment there is.
    pub(super) files: BTreeMap<u32, Arc<File>>,
    /// Segments that hold nothing.
    pub(super) free: VecDeque<u32>,
    /// Oldest first.
    pub(super) sealed: VecDeque<Arc<Segment>>,
    /// Segments that hold nothing that can be found, and that somebody still reads.
    pub(super) parked: VecDeque<Arc<Segment>>,
    pub(super) current: Option<Current>,
    pub(super) ordinal: u64,
    /// Segments there may be.
    pub(super) limit: usize,
    pub(super) batch: Batch,
    pub(super) failures: u32,
    /// Claims of what could not be written: what is older must not be found after a restart.
    pub(super) owed: Vec<Claim>,
    /// Until when nothing is written.
    pub(super) resting: Option<Instant>,
    /// Until when no segment is made, because there was no room for one.
    pub(super) no_room: Option<Instant>,
}

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) segment: Arc<Segment>,
    /// Where the next record goes.
    pub(super) at: u64,
    /// Entries that its footer will have.
    pub(super) entries: u64,
}

/// What is written next.
#[derive(Debug, Default)]
pub(super) struct Batch {
    parts: Vec<Bytes>,
    bytes: u64,
    staged: Vec<Staged>,
    entries: Vec<FooterEntry>,
    floors: Floors,
}

/// A record that will be visible once it is written.
#[derive(Debug)]
struct Staged {
    hash: Hash,
    place: Place,
    expires: Hour,
    right: Right,
}

/// What makes a record visible.
#[derive(Clone, Copy, Debug)]
pub(super) enum Right {
    /// If the key was not claimed later.
    Claim(Claim),
    /// If this place is still that of the key: the same entry, written again.
    Instead(Place, Hits),
}

/// A record to be written.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) kind: RecordKind,
    pub(super) hash: u64,
    pub(super) meta: &'a [u8],
    pub(super) content: &'a [Bytes],
    pub(super) expires: Hour,
}

impl Log {
    /// A log in `files`, of which `sealed` hold records, oldest first, and the others none; the
    /// highest ordinal is given with them.
    pub(super) fn new(
        shared: Arc<Shared>,
        files: BTreeMap<u32, Arc<File>>,
        (sealed, ordinal): (VecDeque<Arc<Segment>>, u64),
        limit: usize,
    ) -> Self {
        let used = |number: &u32| sealed.iter().any(|segment| segment.number == *number);
        let free = files.keys().copied().filter(|number| !used(number));
        Self {
            free: free.collect(),
            ordinal,
            shared,
            files,
            sealed,
            parked: VecDeque::new(),
            current: None,
            limit,
            batch: Batch::default(),
            failures: 0,
            owed: Vec::new(),
            resting: None,
            no_room: None,
        }
    }

    /// Writes what comes until nothing more does.
    pub(super) fn run(mut self) {
        loop {
            let lot = self.shared.queue.take(IDLE);
            let Lot {
                items,
                resize,
                unsynced,
                stopping,
            } = lot;
            for segment in unsynced {
                self.lost(&segment);
            }
            if let Some(capacity) = resize {
                self.resize(capacity);
            }
            self.wake();
            let count = items.len();
            for queued in items {
                // What could not be written was counted and told.
                self.write(queued).ok();
            }
            self.flush().ok();
            self.shared.queue.finish(count);
            if stopping && count == 0 {
                break;
            }
        }
        self.seal().ok();
    }

    fn write(&mut self, queued: Queued) -> Result<(), Unwritten> {
        let claim = queued.claim;
        if claim.is_some_and(|claim| !self.shared.queue.is_latest(claim)) {
            return Ok(());
        }
        let done = match (queued.item, claim) {
            (Item::Entry(entry, born), Some(claim)) => self.write_entry(&entry, born, claim),
            (Item::Content(envelope, content), Some(claim)) => {
                self.write_whole(*envelope, &content, claim)
            }
            (Item::Parent(envelope, assembly), Some(claim)) => {
                self.write_parent(*envelope, &assembly, claim)
            }
            (Item::Tombstone, Some(claim)) => self.write_tombstone(claim),
            (Item::Extent(assembly, pieces, _permit), _) => {
                let done = self.write_extents(&assembly, &pieces);
                if done.is_err() {
                    assembly.lock().abandoned = true;
                }
                done
            }
            (_, None) => Ok(()),
        };
        if let (Err(Unwritten), Some(claim)) = (done, claim) {
            self.owe(claim);
        }
        done
    }

    fn write_entry(&mut self, entry: &Entry, born: Born, claim: Claim) -> Result<(), Unwritten> {
        let body = entry.response().map(|stored| &stored.body);
        let pieces = body.map_or(&[][..], |body| body.pieces());
        let length: u64 = pieces.iter().map(|piece| long(piece.len())).sum();
        let Some(envelope) = Envelope::of(entry, born, [0; 32]) else {
            self.shared.queue.release(claim);
            return Ok(());
        };
        if length <= self.shared.whole_max() {
            return self.write_whole(envelope, pieces, claim);
        }
        let assembly = Assembly::new(claim.hash);
        for lot in lots(pieces, self.shared.extent_bytes()) {
            self.write_extents(&assembly, &lot)?;
        }
        self.write_parent(envelope, &assembly, claim)
    }

    fn write_whole(
        &mut self,
        mut envelope: Envelope,
        content: &[Bytes],
        claim: Claim,
    ) -> Result<(), Unwritten> {
        envelope.length = content.iter().map(|piece| long(piece.len())).sum();
        envelope.digest = digest(content);
        self.write_envelope(RecordKind::Whole, &envelope, content, claim)?;
        self.shared.stats.bytes_admitted.add(envelope.length);
        Ok(())
    }

    fn write_parent(
        &mut self,
        mut envelope: Envelope,
        assembly: &Assembly,
        claim: Claim,
    ) -> Result<(), Unwritten> {
        let table = {
            let assembled = assembly.lock();
            if assembled.abandoned || !assembled.layout.is_live() {
                return self.write_tombstone(claim);
            }
            let hash = || *assembled.hasher.finalize().as_bytes();
            envelope.digest = assembled.digest.unwrap_or_else(hash);
            envelope.length = assembled.layout.length;
            Bytes::from(assembled.layout.encode())
        };
        self.write_envelope(RecordKind::Parent, &envelope, &[table], claim)?;
        self.shared.stats.bytes_admitted.add(envelope.length);
        Ok(())
    }

    fn write_envelope(
        &mut self,
        kind: RecordKind,
        envelope: &Envelope,
        content: &[Bytes],
        claim: Claim,
    ) -> Result<(), Unwritten> {
        let length = content.iter().map(|piece| long(piece.len())).sum();
        let form = envelope.encode();
        let Some(form) = form.filter(|form| self.shared.fits(long(form.len()), length)) else {
            self.shared.stats.too_large.increment();
            return self.write_tombstone(claim);
        };
        let draft = Draft {
            kind,
            hash: claim.hash.0,
            meta: &form,
            content,
            expires: Hour::ending(envelope.expires()),
        };
        self.append(&draft, Right::Claim(claim), Some(envelope.born))
    }

    fn write_tombstone(&mut self, claim: Claim) -> Result<(), Unwritten> {
        let draft = Draft {
            kind: RecordKind::Tombstone,
            hash: claim.hash.0,
            meta: &[],
            content: &[],
            expires: Hour::default(),
        };
        self.append(&draft, Right::Claim(claim), None)
    }

    /// Appends a record that can be found once it is written.
    pub(super) fn append(
        &mut self,
        draft: &Draft<'_>,
        right: Right,
        born: Option<Born>,
    ) -> Result<(), Unwritten> {
        let content = draft.content.iter().map(|piece| long(piece.len())).sum();
        let bytes = record_bytes(long(draft.meta.len()), content);
        self.make_room(bytes)?;
        let (unit, _) = self.stage(draft)?;
        let Some(current) = &mut self.current else {
            return Err(Unwritten);
        };
        current.entries += 1;
        let (place, units) = (unit, narrow(bytes / UNIT));
        self.batch.entries.push(FooterEntry {
            hash: draft.hash,
            place,
            units,
            expires: draft.expires.0,
            kind: draft.kind,
        });
        if let Some(born) = born {
            self.batch.floors.lower(born.node, born.purge);
        }
        self.batch.staged.push(Staged {
            hash: Hash(draft.hash),
            place: Place {
                segment: current.segment.number,
                unit,
                units,
                kind: draft.kind,
            },
            expires: draft.expires,
            right,
        });
        self.flush_if_due()
    }

    /// Adds a record, for which there is room, to the batch. Its first unit and its checksums.
    pub(super) fn stage(&mut self, draft: &Draft<'_>) -> Result<(u32, Vec<u32>), Unwritten> {
        let Some(current) = &mut self.current else {
            return Err(Unwritten);
        };
        let content = draft.content.iter().map(|piece| long(piece.len())).sum();
        let table = checksums(draft.content);
        let mut head = Vec::with_capacity(short(HEADER) + draft.meta.len() + 4 * table.len());
        head.extend_from_slice(draft.meta);
        for crc in &table {
            head.extend_from_slice(&crc.to_le_bytes());
        }
        let bytes = record_bytes(long(draft.meta.len()), content);
        let header = RecordHeader {
            kind: draft.kind,
            nonce: current.segment.nonce,
            hash: draft.hash,
            place: narrow(current.at / UNIT),
            units: narrow(bytes / UNIT),
            meta: narrow(long(draft.meta.len())),
            content: narrow(content),
            expires: draft.expires.0,
            meta_crc: crc32fast::hash(&head),
        };
        head.splice(0..0, header.encode());
        let padding = bytes - long(head.len()) - content;
        let parts = &mut self.batch.parts;
        parts.push(head.into());
        parts.extend(draft.content.iter().cloned());
        parts.push(Bytes::from_static(ZEROS).slice(..short(padding)));
        self.batch.bytes += bytes;
        current.at += bytes;
        Ok((header.place, table))
    }

    pub(super) fn flush_if_due(&mut self) -> Result<(), Unwritten> {
        let due = self.batch.bytes >= BATCH || self.batch.parts.len() >= BATCH_RECORDS * 4;
        if due { self.flush() } else { Ok(()) }
    }

    /// Writes the batch, and makes what is in it visible.
    pub(super) fn flush(&mut self) -> Result<(), Unwritten> {
        let batch = std::mem::take(&mut self.batch);
        let Some(current) = self.current.as_ref().filter(|_| batch.bytes > 0) else {
            return Ok(());
        };
        let segment = Arc::clone(&current.segment);
        let from = current.at - batch.bytes;
        let io = self.shared.io.as_ref();
        let began = clock::instant();
        if let Err(error) = write_all(io, &segment.file, &batch.parts, from) {
            for staged in &batch.staged {
                if let Right::Claim(claim) = staged.right {
                    self.owe(claim);
                }
            }
            return Err(self.failed(&error));
        }
        self.shared.stats.write_time.observe(began.elapsed());
        self.shared.stats.bytes_written.add(batch.bytes);
        if self.failures > 0 {
            self.failures = 0;
            self.shared.condition.lock().unwritable = None;
        }
        segment.floors().absorb(&batch.floors);
        segment.unsealed().extend(batch.entries);
        segment.extend(current.at);
        self.shared.syncer.wrote(&segment);
        let mut claims = self.shared.queue.claims();
        for staged in batch.staged {
            let Staged {
                hash,
                place,
                expires,
                right,
            } = staged;
            match right {
                Right::Claim(claim) => {
                    // A tombstone keeps what is older from being found after a restart.
                    if claims.redeem(claim) && place.kind != RecordKind::Tombstone {
                        self.shared.index.insert(hash, place, expires);
                    }
                }
                Right::Instead(was, hits) => {
                    if self.shared.index.replace(hash, was, place, hits) {
                        self.shared.stats.reinserted.increment();
                    }
                }
            }
        }
        Ok(())
    }

    /// Sees to it that the open segment has room for a record of `bytes`.
    pub(super) fn make_room(&mut self, bytes: u64) -> Result<(), Unwritten> {
        if self.resting.is_some() {
            return Err(Unwritten);
        }
        let needed = |current: &Current| {
            current.at + bytes + footer_bytes(current.entries + 1, long(Floors::MAX))
        };
        let full = self.shared.identity.segment_bytes;
        if self.current.as_ref().is_some_and(|c| needed(c) <= full) {
            return Ok(());
        }
        self.rotate()?;
        match &self.current {
            Some(current) if needed(current) <= full => Ok(()),
            _ => Err(Unwritten),
        }
    }

    /// Seals the open segment, and opens another.
    fn rotate(&mut self) -> Result<(), Unwritten> {
        self.seal()?;
        if self.free.is_empty() && !self.grow() {
            // The spare one was lost to a failure.
            self.reclaim(false)?;
        }
        let Some(number) = self.free.pop_front() else {
            return Err(self.rest("no segment can be written"));
        };
        self.activate(number)?;
        // One is always kept free, so that what is kept of the oldest has somewhere to go.
        if self.free.is_empty() && !self.grow() {
            self.reclaim(true)?;
        }
        Ok(())
    }

    /// Begins a life of segment `number`. Its superblock is on the device before any record is.
    fn activate(&mut self, number: u32) -> Result<(), Unwritten> {
        let Some(file) = self.files.get(&number).map(Arc::clone) else {
            return Err(Unwritten);
        };
        self.ordinal += 1;
        let nonce = random();
        let identity = (self.ordinal, nonce);
        let segment = Arc::new(Segment::new(number, identity, file, SUPERBLOCK));
        self.current = Some(Current {
            segment: Arc::clone(&segment),
            at: SUPERBLOCK,
            entries: 0,
        });
        if let Err(error) = self.write_superblock(&segment.file, number, identity) {
            return Err(self.failed(&error));
        }
        self.shared.segments.set(number, Some(segment));
        Ok(())
    }

    /// Says on the device which life segment `number` has; ordinal 0: none.
    fn write_superblock(
        &self,
        file: &File,
        number: u32,
        (ordinal, nonce): (u64, u64),
    ) -> std::io::Result<()> {
        let superblock = Superblock {
            identity: self.shared.identity.clone(),
            number,
            ordinal,
            nonce,
        };
        let io = self.shared.io.as_ref();
        write_all(io, file, &[superblock.encode()], 0)?;
        self.shared.stats.bytes_written.add(SUPERBLOCK);
        io.sync(file)
    }

    /// Says on the device that `segment` holds nothing.
    pub(super) fn retire(&self, segment: &Segment) -> std::io::Result<()> {
        self.write_superblock(&segment.file, segment.number, (0, random()))
    }

    /// Writes the footer of the open segment, and has it synced.
    fn seal(&mut self) -> Result<(), Unwritten> {
        self.flush()?;
        let Some(current) = &self.current else {
            return Ok(());
        };
        let segment = Arc::clone(&current.segment);
        if let Err(error) = self.shared.write_footer(&segment) {
            return Err(self.failed(&error));
        }
        self.current = None;
        self.shared.syncer.sealed(&segment);
        self.sealed.push_back(segment);
        Ok(())
    }
}

/// What a record is padded with.
const ZEROS: &[u8] = &[0; 64];

impl Shared {
    /// Writes the footer of `segment`, whose records are all written.
    pub(super) fn write_footer(&self, segment: &Segment) -> std::io::Result<()> {
        let floors = segment.floors().clone();
        let entries = segment.unsealed().clone();
        let life = (segment.nonce, segment.ordinal);
        let footer = encode_footer(life, segment.end(), &entries, floors.pairs());
        let at = self.identity.segment_bytes - long(footer.len());
        write_all(self.io.as_ref(), &segment.file, &[&footer], at)?;
        self.stats.bytes_written.add(long(footer.len()));
        // From now on the footer tells.
        *segment.unsealed() = Vec::new();
        Ok(())
    }
}

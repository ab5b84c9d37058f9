//! Making room: whole segments, oldest first, but for what was hit since it was written.
//!
//! Segments die in the order in which they were opened, and a restart must not find what died:
//! that of two records of a key the older one goes first is what lets the newer one go unnoticed.
//! So a segment loses its superblock at once, and its bytes when nobody reads it any more.

use std::sync::Arc;
use std::time::Duration;

use super::format::{FooterEntry, TRAILER, Trailer, short};
use super::index::{Hash, Hour, Place};
use super::io::{is_full, occupied};
use super::log::{Log, Unwritten};
use super::segment::Segment;
use super::{Shared, segments_in};
use crate::clock;

/// What is written again of a segment, at most: one part in this many of it.
const KEPT_PART: u64 = 4;
/// Segments that wait for their readers, at most: one in this many.
const PARKED_PART: usize = 4;
/// How long no segment is made after there was no room for one.
const NO_ROOM_REST: Duration = Duration::from_secs(2);

impl Log {
    /// Makes one more segment, if there may be one and there is room.
    pub(super) fn grow(&mut self) -> bool {
        let resting = self.no_room.is_some_and(|until| clock::instant() < until);
        if resting || self.files.len() >= self.limit {
            return false;
        }
        let unused = |number: &u32| !self.files.contains_key(number);
        let Some(number) = (0..1 << 22).find(unused) else {
            return false;
        };
        let bytes = self.shared.identity.segment_bytes;
        match self.shared.directory.create(number, bytes) {
            Ok(file) => {
                // What the file system needs beside the content counts.
                if occupied(&file).is_ok_and(|occupied| occupied > bytes + super::SLACK) {
                    tracing::warn!("the file system needs more room for a segment than it should");
                    self.limit = self.files.len();
                    drop(self.shared.directory.remove(number, &file));
                    return false;
                }
                self.files.insert(number, Arc::new(file));
                self.free.push_back(number);
                self.no_room = None;
                self.shared.condition.lock().short = None;
                self.shared.count_segments(self.files.len());
                true
            }
            Err(error) => {
                if !is_full(&error) {
                    self.shared.stats.write_errors.increment();
                }
                let (has, of) = (self.files.len(), self.limit);
                tracing::warn!(%error, has, of, "the disk tier cannot grow");
                self.no_room = Some(clock::instant() + NO_ROOM_REST);
                self.shared.condition.lock().short =
                    Some(format!("it has {has} of {of} segments: {error}"));
                false
            }
        }
    }

    /// Frees the oldest segment, or as many as it takes for one that nobody reads. What was hit is
    /// written again if it is to be `kept`, as far as a quarter of a segment goes.
    pub(super) fn reclaim(&mut self, kept: bool) -> Result<(), Unwritten> {
        self.shared.loaded();
        let mut budget = match kept {
            true => self.shared.identity.segment_bytes / KEPT_PART,
            false => 0,
        };
        self.unpark();
        while self.free.is_empty() {
            let Some(oldest) = self.sealed.pop_front() else {
                self.unpark_oldest();
                return Ok(());
            };
            let entries = self.shared.entries_of(&oldest);
            // What is doubted must not come to lie where nothing is.
            if budget > 0
                && !self.shared.is_doubted(&oldest)
                && let Some(entries) = &entries
                && let Err(unwritten) = self.keep(&oldest, entries, &mut budget)
            {
                self.sealed.push_front(oldest);
                return Err(unwritten);
            }
            self.shared.forget(&oldest, entries.as_deref());
            self.shared.stats.reclaimed.increment();
            self.park(oldest);
            if self.parked.len() > (self.limit / PARKED_PART).max(1) {
                self.unpark_oldest();
            }
        }
        Ok(())
    }

    /// Frees a segment whose records cannot be found any more, once nobody reads it.
    fn park(&mut self, segment: Arc<Segment>) {
        segment.retire();
        self.shared.segments.set(segment.number, None);
        if let Err(error) = self.retire(&segment) {
            self.shared.stats.write_errors.increment();
            tracing::warn!(%error, "a segment could not be retired on the device");
        }
        if segment.let_go() {
            self.free.push_back(segment.number);
        } else {
            self.parked.push_back(segment);
        }
    }

    /// Frees parked segments that nobody reads any more.
    fn unpark(&mut self) {
        let parked = std::mem::take(&mut self.parked);
        for segment in parked {
            if segment.let_go() {
                self.free.push_back(segment.number);
            } else {
                self.parked.push_back(segment);
            }
        }
    }

    /// Frees the segment that was parked first, whoever reads it.
    fn unpark_oldest(&mut self) {
        if let Some(segment) = self.parked.pop_front() {
            segment.give_up();
            self.free.push_back(segment.number);
        }
    }

    /// Makes the tier as large as `capacity` says.
    pub(super) fn resize(&mut self, capacity: u64) {
        self.limit = segments_in(capacity, self.shared.identity.segment_bytes);
        self.shared.loaded();
        // Two are in use at least: the open one, and one to spare.
        while self.files.len() > self.limit.max(2) {
            let number = if let Some(number) = self.free.pop_front() {
                number
            } else if !self.parked.is_empty() {
                self.unpark_oldest();
                continue;
            } else if let Some(oldest) = self.sealed.pop_front() {
                let entries = self.shared.entries_of(&oldest);
                self.shared.forget(&oldest, entries.as_deref());
                oldest.retire();
                oldest.give_up();
                self.shared.segments.set(oldest.number, None);
                oldest.number
            } else {
                break;
            };
            if let Some(file) = self.files.remove(&number)
                && let Err(error) = self.shared.directory.remove(number, &file)
            {
                self.shared.stats.write_errors.increment();
                tracing::warn!(%error, number, "a segment could not be removed");
            }
        }
        self.shared.count_segments(self.files.len());
        self.shared.set_capacity_reached(capacity);
    }
}

/// Where the record of `entry` lies.
pub(super) const fn place_of(segment: u32, entry: &FooterEntry) -> Place {
    Place {
        segment,
        unit: entry.place,
        units: entry.units,
        kind: entry.kind,
    }
}

impl Shared {
    /// The records of `segment`, but for extents; none if the footer that tells them is damaged.
    pub(super) fn entries_of(&self, segment: &Segment) -> Option<Vec<FooterEntry>> {
        let unsealed = segment.unsealed().clone();
        if !unsealed.is_empty() {
            return Some(unsealed);
        }
        self.footer_of(segment)
    }

    /// The entries in the footer of `segment`. Blocks.
    fn footer_of(&self, segment: &Segment) -> Option<Vec<FooterEntry>> {
        let full = self.identity.segment_bytes;
        let trailer = self.trailer_of(segment)?;
        let at = full.checked_sub(trailer.footer())?;
        let mut bytes = vec![0; short(full - TRAILER - at)];
        self.io.read(&segment.file, &mut bytes, at).ok()?;
        let (entries, _) = trailer.contents(&bytes)?;
        Some(entries.collect())
    }

    /// The end of `segment`, if it was sealed in this life. Blocks.
    pub(super) fn trailer_of(&self, segment: &Segment) -> Option<Trailer> {
        let full = self.identity.segment_bytes;
        let mut bytes = vec![0; short(TRAILER)];
        let read = self.io.read(&segment.file, &mut bytes, full - TRAILER);
        let trailer = read.ok().and_then(|()| Trailer::decode(&bytes))?;
        let of_this_life = (trailer.nonce, trailer.ordinal) == (segment.nonce, segment.ordinal);
        let room = full.checked_sub(trailer.footer())?;
        (of_this_life && trailer.end <= room).then_some(trailer)
    }

    /// The entries of `segment` cannot be found any more.
    fn forget(&self, segment: &Segment, entries: Option<&[FooterEntry]>) {
        let Some(entries) = entries else {
            let number = segment.number;
            let dropped = self.index.sweep(|found| found.place.segment == number);
            self.stats.evicted.capacity.add(dropped);
            return;
        };
        let now = clock::unix_millis(clock::wall());
        for entry in entries {
            let place = place_of(segment.number, entry);
            if self.index.remove_at(Hash(entry.hash), place) {
                match Hour(entry.expires).is_over(now) {
                    true => self.stats.evicted.expired.increment(),
                    false => self.stats.evicted.capacity.increment(),
                }
            }
        }
    }
}

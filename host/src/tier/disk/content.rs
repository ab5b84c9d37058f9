//! Content that is too large for one record: the extents that hold it, and reading from them.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::Shared;
use super::format::{
    CHUNK, HEADER, RecordKind, SUPERBLOCK, UNIT, chunks, chunks_match, long, short,
};
use super::index::{Hash, Place};
use super::readers::NotRead;
use super::segment::Segment;
use crate::entry::kept::{READ_MAX, Reading};
use crate::entry::{Kept, Unreadable};

/// What is read in order is asked of the device so far ahead.
const AHEAD: NonZeroU64 = NonZeroU64::new(1 << 20).expect("more than nothing");
/// Bytes of one extent in the table of a parent, and of the count before them.
const EXTENT: usize = 20;
const COUNT: usize = 4;

/// A stretch of content.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    /// The segment that it lies in.
    pub segment: Arc<Segment>,
    /// The first unit of its record.
    pub unit: u32,
    /// Bytes of content in it.
    pub length: u64,
}

impl Extent {
    /// Where its content begins in the segment.
    pub(super) fn content_at(&self) -> u64 {
        u64::from(self.unit) * UNIT + HEADER + 4 * chunks(self.length)
    }
}

/// Where content lies. Each extent but the last holds whole chunks.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// The extents, in order.
    pub extents: Vec<Extent>,
    /// The checksum of each chunk.
    pub checksums: Vec<u32>,
    /// Bytes of content.
    pub length: u64,
}

impl Layout {
    /// Bytes of its table with `extents` and content of `length` bytes.
    pub(super) fn table_bytes(extents: u64, length: u64) -> u64 {
        long(COUNT) + extents * long(EXTENT) + 4 * chunks(length)
    }

    /// Goes on as `more` does.
    pub(super) fn append(&mut self, more: Self) {
        self.extents.extend(more.extents);
        self.checksums.extend(more.checksums);
        self.length += more.length;
    }

    /// Each extent, with the checksums of its chunks.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&Extent, &[u32])> {
        let mut checksums = self.checksums.as_slice();
        self.extents.iter().map(move |extent| {
            let (table, rest) = checksums
                .split_at_checked(short(chunks(extent.length)))
                .unwrap_or((checksums, &[]));
            checksums = rest;
            (extent, table)
        })
    }

    /// Whether all of it can still be found.
    pub(super) fn is_live(&self) -> bool {
        self.extents.iter().all(|extent| extent.segment.is_live())
    }

    /// The table that goes into the parent.
    pub(super) fn encode(&self) -> Vec<u8> {
        let length = Self::table_bytes(long(self.extents.len()), self.length);
        let mut bytes = Vec::with_capacity(short(length));
        let count = super::format::narrow(long(self.extents.len()));
        bytes.extend_from_slice(&count.to_le_bytes());
        for extent in &self.extents {
            bytes.extend_from_slice(&extent.segment.number.to_le_bytes());
            bytes.extend_from_slice(&extent.unit.to_le_bytes());
            bytes.extend_from_slice(&super::format::narrow(extent.length).to_le_bytes());
            bytes.extend_from_slice(&extent.segment.nonce.to_le_bytes());
        }
        for crc in &self.checksums {
            bytes.extend_from_slice(&crc.to_le_bytes());
        }
        bytes
    }

    /// The layout in the table `bytes`, whose segments `find` knows by number and nonce.
    ///
    /// # Errors
    /// [`Unreadable::Gone`] if an extent was reclaimed, [`Unreadable::Damaged`] if it is no table.
    pub(super) fn decode(
        bytes: &[u8],
        find: impl Fn(u32, u64) -> Option<Arc<Segment>>,
    ) -> Result<Self, Unreadable> {
        let damaged = Unreadable::Damaged;
        let (count, rest) = bytes.split_first_chunk::<COUNT>().ok_or(damaged)?;
        let count = short(u64::from(u32::from_le_bytes(*count)));
        let extents = count.checked_mul(EXTENT).ok_or(damaged)?;
        let (extents, table) = rest.split_at_checked(extents).ok_or(damaged)?;
        let mut layout = Self {
            extents: Vec::with_capacity(count),
            checksums: super::format::table_of(table).collect(),
            length: 0,
        };
        let (extents, _) = extents.as_chunks::<EXTENT>();
        for (at, extent) in extents.iter().enumerate() {
            let (numbers, nonce) = extent.split_at(12);
            let mut numbers = super::format::table_of(numbers);
            let mut number = || numbers.next().unwrap_or_default();
            let (segment, unit, length) = (number(), number(), u64::from(number()));
            let nonce = nonce.try_into().map_err(|_| damaged)?;
            let segment = find(segment, u64::from_le_bytes(nonce)).ok_or(Unreadable::Gone)?;
            let last = at + 1 == count;
            if length == 0 || !(last || length.is_multiple_of(CHUNK)) {
                return Err(damaged);
            }
            let extent = Extent {
                segment,
                unit,
                length,
            };
            let end = extent.content_at() + length;
            if u64::from(unit) * UNIT < SUPERBLOCK || end > extent.segment.end() {
                // The parent outlived a crash, and its extents did not.
                return Err(Unreadable::Gone);
            }
            layout.length += length;
            layout.extents.push(extent);
        }
        let whole = long(layout.checksums.len()) == chunks(layout.length);
        (whole && table.len().is_multiple_of(4))
            .then_some(layout)
            .ok_or(damaged)
    }

    /// At most `most` bytes of whole chunks of one extent, of which the first holds byte `at`.
    fn stretch(&self, at: u64, most: u64) -> Option<Stretch> {
        let mut start = 0;
        for extent in &self.extents {
            if at >= start + extent.length {
                start += extent.length;
                continue;
            }
            let within = at - start;
            let from = within - within % CHUNK;
            let to = (from + most).min(extent.length);
            // Extents begin with a chunk.
            let first = short((start + from) / CHUNK);
            let count = short(chunks(to - from));
            let table = self.checksums.get(first..first + count)?.to_vec();
            return Some(Stretch {
                segment: Arc::clone(&extent.segment),
                at: extent.content_at() + from,
                length: to - from,
                skip: within - from,
                table,
                in_order: most > CHUNK,
            });
        }
        None
    }
}

/// Whole chunks to read.
struct Stretch {
    segment: Arc<Segment>,
    at: u64,
    length: u64,
    skip: u64,
    table: Vec<u32>,
    /// Whether it goes on where the last one ended.
    in_order: bool,
}

/// Content whose extents are still being written, in order.
#[derive(Debug, Default)]
pub(super) struct Assembly(Mutex<Assembled>);

/// As much of it as was written.
#[derive(Debug, Default)]
pub(super) struct Assembled {
    /// The hash of its key.
    pub key: Hash,
    /// Where it lies.
    pub layout: Layout,
    /// The hash so far.
    pub hasher: blake3::Hasher,
    /// Whether nobody wants it any more, or part of it could not be written.
    pub abandoned: bool,
    /// The hash, where it is known from the start.
    pub digest: Option<[u8; 32]>,
}

impl Assembly {
    /// Content of the entry under this key, of which nothing is written yet.
    pub(super) fn new(key: Hash) -> Self {
        Self(Mutex::new(Assembled {
            key,
            ..Assembled::default()
        }))
    }

    /// Content that lies where `layout` says and has this digest.
    pub(super) fn of(layout: Layout, digest: [u8; 32]) -> Self {
        Self(Mutex::new(Assembled {
            layout,
            digest: Some(digest),
            ..Assembled::default()
        }))
    }

    /// What there is of it; whole between any two statements of whoever holds it.
    pub(super) fn lock(&self) -> MutexGuard<'_, Assembled> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Extents that are not overwritten while this is held, but for want of room.
#[derive(Debug)]
struct Pinned(Layout);

impl Pinned {
    /// `layout`, unless part of it is on its way out.
    fn new(layout: Layout) -> Option<Self> {
        for extent in &layout.extents {
            extent.segment.pin();
        }
        let pinned = Self(layout);
        // Asked after pinning: what was live then waits for the pin.
        pinned.0.is_live().then_some(pinned)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        for extent in &self.0.extents {
            extent.segment.unpin();
        }
    }
}

/// Where content lies, and what leads to it.
#[derive(Clone, Debug)]
struct Whereabouts {
    layout: Arc<Pinned>,
    /// Goes if the content cannot be read.
    parent: Place,
}

/// Content in extents.
pub(super) struct DiskContent {
    shared: Arc<Shared>,
    key: Hash,
    length: u64,
    digest: [u8; 32],
    whereabouts: Arc<Mutex<Whereabouts>>,
    /// Where the latest read ended: what goes on there is read in larger steps.
    ended: AtomicU64,
    /// Whether some of it was found damaged.
    damaged: Arc<AtomicBool>,
}

/// Where nothing was read yet.
const NOWHERE: u64 = u64::MAX;

impl std::fmt::Debug for DiskContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskContent")
            .field("length", &self.length)
            .field("parent", &self.whereabouts().parent)
            .finish_non_exhaustive()
    }
}

impl DiskContent {
    /// The content at `layout`, unless part of it is on its way out.
    pub(super) fn pin(
        shared: Arc<Shared>,
        layout: Layout,
        digest: [u8; 32],
        (key, parent): (Hash, Place),
    ) -> Option<Self> {
        let length = layout.length;
        let layout = Arc::new(Pinned::new(layout)?);
        Some(Self {
            shared,
            key,
            length,
            digest,
            whereabouts: Arc::new(Mutex::new(Whereabouts { layout, parent })),
            ended: AtomicU64::new(NOWHERE),
            damaged: Arc::default(),
        })
    }

    fn whereabouts(&self) -> Whereabouts {
        lock(&self.whereabouts).clone()
    }

    /// Where it lies and its digest, if it lies in the tier of `shared`, may be found there, and was
    /// sound so far.
    pub(super) fn shareable(&self, shared: &Arc<Shared>) -> Option<(Layout, [u8; 32])> {
        let layout = self.whereabouts().layout;
        let here = Arc::ptr_eq(&self.shared, shared) && layout.0.is_live();
        let sound = !self.damaged.load(Relaxed);
        (here && sound).then(|| (layout.0.clone(), self.digest))
    }
}

fn lock(whereabouts: &Mutex<Whereabouts>) -> MutexGuard<'_, Whereabouts> {
    whereabouts.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept for DiskContent {
    fn len(&self) -> u64 {
        self.length
    }

    fn read(&self, at: u64) -> Reading {
        let ended = self.ended.load(Relaxed);
        let most = match ended == at {
            true => long(READ_MAX),
            false => CHUNK,
        };
        let now = self.whereabouts();
        let Some(stretch) = now.layout.0.stretch(at, most) else {
            return Box::pin(async { Ok(Bytes::new()) });
        };
        self.ended
            .store(at + stretch.length - stretch.skip, Relaxed);
        if ended != NOWHERE && ended != at {
            // Somebody reads what was looked up before: that is as good as a lookup.
            self.shared.index.hit(self.key);
        }
        let (shared, key, digest) = (Arc::clone(&self.shared), self.key, self.digest);
        let damaged = Arc::clone(&self.damaged);
        let whereabouts = Arc::clone(&self.whereabouts);
        Box::pin(async move {
            let moved = !stretch.segment.is_live() && shared.is_elsewhere(key, now.parent);
            let cached = match moved {
                true => None,
                false => shared.cached_stretch(&stretch),
            };
            let read = match cached {
                Some(read) => Ok(read),
                None => {
                    let reader = Arc::clone(&shared);
                    let read = move || {
                        let found = moved.then(|| reader.follow(key, digest)).flatten();
                        let stretch = match found {
                            Some(found) => {
                                let there = found.layout.0.stretch(at, most);
                                *lock(&whereabouts) = found;
                                there.unwrap_or(stretch)
                            }
                            None => stretch,
                        };
                        reader.read_stretch(&stretch)
                    };
                    shared.readers.run(read).await
                }
            };
            match read {
                // The next request must not be promised what is not there.
                Ok(Err(Unreadable::Damaged)) => {
                    damaged.store(true, Relaxed);
                    shared.drop_content(key);
                    Err(Unreadable::Damaged)
                }
                Ok(Err(Unreadable::Gone)) => {
                    if shared.index.remove_at(key, now.parent) {
                        shared.stats.evicted.incomplete.increment();
                    }
                    Err(Unreadable::Gone)
                }
                Ok(read) => read,
                Err(NotRead::TimedOut | NotRead::Busy) => {
                    shared.stats.timeouts.increment();
                    Err(Unreadable::TimedOut)
                }
                Err(NotRead::Stopped) => Err(Unreadable::Gone),
            }
        })
    }
}

impl Shared {
    /// Whether another parent than the one at `place` is under `key` now.
    fn is_elsewhere(&self, key: Hash, place: Place) -> bool {
        let found = self.index.get(key).map(|found| found.place);
        found.is_some_and(|found| found.kind == RecordKind::Parent && found != place)
    }

    /// Where the content of `key` lies now, if it still is the one with this `digest`. Blocks.
    fn follow(&self, key: Hash, digest: [u8; 32]) -> Option<Whereabouts> {
        let parent = self.index.get(key)?.place;
        let (_, envelope, layout) = self.parent_at(key, parent)?;
        let layout = (envelope.digest == digest).then(|| Pinned::new(layout))??;
        Some(Whereabouts {
            layout: Arc::new(layout),
            parent,
        })
    }

    /// Reads `stretch` if the system has it in memory.
    fn cached_stretch(&self, stretch: &Stretch) -> Option<Result<Bytes, Unreadable>> {
        let mut bytes = vec![0; short(stretch.length)];
        self.io
            .read_cached(&stretch.segment.file, &mut bytes, stretch.at)
            .then(|| self.content_in(bytes, stretch))
    }

    /// Reads `stretch`. Blocks.
    fn read_stretch(&self, stretch: &Stretch) -> Result<Bytes, Unreadable> {
        let file = &stretch.segment.file;
        if stretch.in_order {
            self.io.read_ahead(file, stretch.at, AHEAD);
        }
        let mut bytes = vec![0; short(stretch.length)];
        match self.io.read(file, &mut bytes, stretch.at) {
            Err(_) if stretch.segment.is_gone() => Err(Unreadable::Gone),
            Err(error) => {
                self.failed_to_read(&error);
                Err(Unreadable::Failed)
            }
            Ok(()) => self.content_in(bytes, stretch),
        }
    }

    /// The content in `bytes`, which were read as `stretch`.
    fn content_in(&self, bytes: Vec<u8>, stretch: &Stretch) -> Result<Bytes, Unreadable> {
        if stretch.segment.is_gone() {
            return Err(Unreadable::Gone);
        }
        if !chunks_match(&bytes, stretch.table.iter().copied()) {
            self.stats.corrupt.increment();
            return Err(Unreadable::Damaged);
        }
        self.stats.bytes_read.add(stretch.length);
        Ok(Bytes::from(bytes).slice(short(stretch.skip)..))
    }
}

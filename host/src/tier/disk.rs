//! The disk tier: a log of segments of one length, whose entries outlast the process.
//!
//! ```text
//! put ──> queue ──> log (one thread) ──> segments ──> sync (one thread)
//! get ──> index ──> readers (threads) ──> segments
//! ```
//!
//! Nothing is answered that was not verified, byte by byte, against the checksums it was written
//! with, and against the whole key. Space is made a whole segment at a time, so the tier occupies
//! what it was given and never more. No call blocks the thread that polls it; what the device does
//! not do in time is a failure of the tier, never of a request.

mod content;
mod directory;
mod format;
mod index;
mod io;
mod log;
mod lookup;
mod queue;
mod readers;
mod reclaim;
mod recovery;
mod segment;
mod stats;
mod stream;
mod sync;
mod tier;

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use content::{Assembly, DiskContent};
use directory::{Contents, Directory, Stored};
use format::{CHUNK, Identity, SUPERBLOCK, UNIT, UNITS_MAX, long, record_bytes};
use index::{Hash, Index};
use io::{Io, System};
use log::Log;
use queue::{Claim, Item, Queue, Queued, Refused};
use readers::Readers;
use recovery::Loading;
use segment::{Segment, Segments};
use stats::Condition;
use sync::Syncer;

pub use directory::OpenError;
pub use stats::Stats;
pub use stream::Writer;

use crate::clock;
use crate::entry::kept::READ_MAX;
use crate::entry::{Content, Entry, Kept, KeyView};
use crate::tier::Usage;
use crate::tier::envelope::{Born, Envelope};
use crate::tier::slow::{Figure, Written};

/// Bytes of a segment, by default one part in 32 of the tier.
const SEGMENT_PART: u64 = 32;
const SEGMENT_MIN: u64 = 1 << 20;
const SEGMENT_MAX: u64 = 64 << 20;
/// Segments that a tier has at least.
const SEGMENTS_MIN: usize = 4;
/// Segments below which those of another length are made anew.
const SEGMENTS_FEW: usize = 8;
/// What a file system may need for a segment beside its content.
const SLACK: u64 = 4 << 10;
/// What the directory, the lock and two manifests may need.
const OVERHEAD: u64 = 64 << 10;
/// Bytes of memory that an item in the queue is charged beside what it holds.
const CHARGE: u64 = 1 << 10;
/// How long a put waits for room in the queue.
const PATIENCE: Duration = Duration::from_millis(250);
/// Bytes of one extent, at most.
const EXTENT_MAX: u64 = 1 << 20;
/// How long stopping may take.
const STOP: Duration = Duration::from_secs(10);

/// What a tier is to be like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its directory, which nothing else writes to. Made if it is missing.
    pub dir: PathBuf,
    /// Bytes of the device that it may occupy, directory and all.
    pub capacity: u64,
    /// Bytes that may wait to be written. 64 MiB do.
    pub queue: u64,
    /// Threads that read.
    pub readers: usize,
    /// How long a read may take.
    pub read_deadline: Duration,
    /// How long what was written may lie in the memory of the system only, while its segment is
    /// open.
    pub sync_interval: Duration,
}

impl Settings {
    /// A tier of `capacity` bytes in `dir`, with the defaults: 64 MiB of queue, 16 threads, 250 ms
    /// for a read, 5 s between syncs.
    pub fn new(dir: impl Into<PathBuf>, capacity: u64) -> Self {
        Self {
            dir: dir.into(),
            capacity,
            queue: 64 << 20,
            readers: 16,
            read_deadline: Duration::from_millis(250),
            sync_interval: Duration::from_secs(5),
        }
    }
}

/// Whether what is stored may still be used: a purge may cover it. Asked when an entry is to be
/// written again and when all are gone through, never at a lookup.
pub type Valid = Arc<dyn Fn(&Envelope) -> bool + Send + Sync>;

/// The disk tier. Its threads end with [`DiskTier::stop`].
#[derive(Debug)]
pub struct DiskTier {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads and everyone who reads have in common.
struct Shared {
    io: Arc<dyn Io>,
    directory: Directory,
    identity: Identity,
    index: Index,
    segments: Segments,
    queue: Queue,
    readers: Readers,
    syncer: Syncer,
    loading: Loading,
    stats: Stats,
    condition: Condition,
    valid: Valid,
    /// Bytes that the tier may occupy.
    capacity: AtomicU64,
    /// Segments there are.
    files: AtomicUsize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("directory", &self.directory)
            .field("capacity", &self.capacity)
            .field("files", &self.files)
            .field("condition", &self.condition)
            .finish_non_exhaustive()
    }
}

/// A number that nothing else has.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// Segments of `segment` bytes in a tier of `capacity`.
fn segments_in(capacity: u64, segment: u64) -> usize {
    format::short(capacity.saturating_sub(OVERHEAD) / (segment + SLACK))
}

/// Bytes of a segment of a new tier of `capacity`.
fn segment_bytes(capacity: u64) -> u64 {
    let part = (capacity / SEGMENT_PART).clamp(SEGMENT_MIN, SEGMENT_MAX);
    part - part % CHUNK
}

/// Joins `threads`, as long as `within` lasts. How many had not ended then.
fn join_within(threads: Vec<JoinHandle<()>>, within: Duration) -> usize {
    let until = clock::instant() + within;
    let mut kept = 0;
    for thread in threads {
        while !thread.is_finished() && clock::instant() < until {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        if thread.is_finished() {
            // What a thread that panicked leaves behind, others found out.
            drop(thread.join());
        } else {
            kept += 1;
        }
    }
    kept
}

impl DiskTier {
    /// Opens the tier in `settings.dir`, or makes one. It works at once; what it held before can
    /// be found as it is loaded. Blocks.
    ///
    /// # Errors
    /// The directory is not one for a disk tier, or somebody has it, or it cannot be read or
    /// written, or there is too little room.
    pub fn open(settings: &Settings, valid: Valid) -> Result<Arc<Self>, OpenError> {
        Self::open_with(settings, valid, Arc::new(System))
    }

    /// The same, with another operating system.
    fn open_with(
        settings: &Settings,
        valid: Valid,
        io: Arc<dyn Io>,
    ) -> Result<Arc<Self>, OpenError> {
        let least = OVERHEAD + long(SEGMENTS_MIN) * (SEGMENT_MIN + SLACK);
        if settings.capacity < least {
            return Err(OpenError::TooSmall {
                capacity: settings.capacity,
                least,
            });
        }
        let (directory, contents) = Directory::take(&settings.dir, Arc::clone(&io))?;
        let found = Found::settle(&directory, contents, settings)?;
        let limit = segments_in(settings.capacity, found.identity.segment_bytes);
        let readers = Readers::start(settings.readers, settings.read_deadline);
        let shared = Arc::new(Shared {
            io,
            directory,
            identity: found.identity,
            index: Index::default(),
            segments: Segments::default(),
            queue: Queue::new(settings.queue),
            readers: readers.map_err(OpenError::Threads)?,
            syncer: Syncer::default(),
            loading: Loading::default(),
            stats: Stats::default(),
            condition: Condition::default(),
            valid,
            capacity: AtomicU64::new(settings.capacity),
            files: AtomicUsize::new(found.files.len()),
        });
        shared.condition.lock().loading = true;
        for segment in &found.segments {
            let life = Some(Arc::clone(segment));
            shared.segments.set(segment.number, life);
        }
        let tier = Arc::new(Self {
            shared: Arc::clone(&shared),
            threads: Mutex::default(),
        });
        let segments: VecDeque<_> = found.segments.into();
        let log = Log::new(Arc::clone(&shared), found.files, segments.clone(), limit);
        let started = tier
            .start("disk-load", move |shared| {
                shared.load(&Vec::from(segments));
            })
            .and_then(|()| tier.start("disk-write", move |_| log.run()))
            .and_then(|()| {
                let interval = settings.sync_interval;
                tier.start("disk-sync", move |shared| {
                    shared.syncer.run(shared, interval);
                })
            });
        match started {
            Ok(()) => Ok(tier),
            Err(error) => {
                tier.stop();
                Err(OpenError::Threads(error))
            }
        }
    }

    /// Starts a thread. If it panics, the tier is offline from then on.
    fn start(
        &self,
        name: &str,
        work: impl FnOnce(&Shared) + Send + 'static,
    ) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let guarded = std::panic::AssertUnwindSafe(|| work(&shared));
                if std::panic::catch_unwind(guarded).is_err() {
                    tracing::error!("a thread of the disk tier failed; the tier is offline");
                    shared.condition.lock().offline = Some("a thread of it failed".to_owned());
                    shared.queue.abandon();
                }
            })?;
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(thread);
        Ok(())
    }

    /// Takes `entry`, which was fetched as `born` says, to be stored in place of whatever is under
    /// its key. Of two, the one that was put later stays. Waits at most 250 ms for room.
    ///
    /// Content that lies in this tier already is shared, not copied; content that lies in another
    /// one is copied piece by piece.
    pub async fn put(&self, entry: &Arc<Entry>, born: Born) -> Written {
        let shared = &self.shared;
        let body = match &entry.content {
            Content::Response(stored) => Some(&stored.body),
            Content::Nominations(_) => None,
            Content::Partial(_) => {
                // What is whole and older must not be found instead.
                let (claim, stored) = shared.claim(entry.key.view().bytes);
                shared.refuse(claim, stored);
                return Written::Unneeded;
            }
        };
        let place = body.and_then(|body| body.place());
        let item = match place.map(|place| (place, self.shareable(place))) {
            None => Item::Entry(Arc::clone(entry), born),
            Some((_, Some((assembly, digest)))) => match Envelope::of(entry, born, digest) {
                Some(envelope) => Item::Parent(Box::new(envelope), assembly),
                None => return Written::Unneeded,
            },
            Some((place, None)) => return self.copy(entry, born, place).await,
        };
        let (claim, stored) = shared.claim(entry.key.view().bytes);
        if body.is_some_and(|body| body.len() > shared.content_max()) {
            shared.stats.too_large.increment();
            shared.refuse(claim, stored);
            return Written::TooLarge;
        }
        let queued = Queued {
            item,
            claim: Some(claim),
            charge: entry.charge().max(CHARGE),
        };
        shared.enqueue(queued, claim, stored).await
    }

    /// Where `place` lies in this tier, if it does and may be found there.
    fn shareable(&self, place: &Arc<dyn Kept>) -> Option<(Arc<Assembly>, [u8; 32])> {
        let place: &dyn Any = place.as_ref();
        let content = place.downcast_ref::<DiskContent>()?;
        let (layout, digest) = content.shareable(&self.shared)?;
        Some((Arc::new(Assembly::of(layout, digest)), digest))
    }

    /// Stores `entry`, whose content is read from `place`.
    async fn copy(&self, entry: &Arc<Entry>, born: Born, place: &Arc<dyn Kept>) -> Written {
        let Some(envelope) = Envelope::of(entry, born, [0; 32]) else {
            return Written::Unneeded;
        };
        let refused = |written| {
            let (claim, stored) = self.shared.claim(entry.key.view().bytes);
            self.shared.refuse(claim, stored);
            written
        };
        let Some(mut writer) = self.writer(Some(place.len())) else {
            return refused(Written::TooLarge);
        };
        while writer.length() < place.len() {
            match place.read(writer.length()).await {
                Ok(bytes) if !bytes.is_empty() => {
                    if let Err(written) = writer.push(bytes).await {
                        return refused(written);
                    }
                }
                _ => return refused(Written::Unavailable),
            }
        }
        writer.commit(envelope).await
    }

    /// Stores content while it arrives; none if content of `length` bytes is too large.
    pub fn writer(&self, length: Option<u64>) -> Option<Writer> {
        if length.is_some_and(|length| length > self.shared.content_max()) {
            self.shared.stats.too_large.increment();
            return None;
        }
        Some(Writer::new(Arc::clone(&self.shared)))
    }

    /// Forgets what is under `key`, also what is on its way there. A crash within the next moments
    /// may undo it.
    pub fn remove(&self, key: KeyView<'_>) {
        let (claim, stored) = self.shared.claim(key.bytes);
        if stored {
            self.shared.stats.evicted.removed.increment();
        }
        self.shared.refuse(claim, stored);
    }

    /// Waits until everything that was put before is written and can be found, or was given up.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn settle(&self) {
        self.shared.queue.settle().await;
    }

    /// Writes and syncs what was put, seals the open segment and ends the threads. What the device
    /// does not take within 10 seconds is abandoned, and said. Blocks.
    pub fn stop(&self) {
        let threads = {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *threads)
        };
        if threads.is_empty() {
            return;
        }
        self.shared.queue.stop();
        let syncs = |thread: &JoinHandle<()>| thread.thread().name() == Some("disk-sync");
        let (sync, others): (Vec<_>, Vec<_>) = threads.into_iter().partition(syncs);
        let until = clock::instant() + STOP;
        let mut kept = join_within(others, STOP);
        let abandoned = self.shared.queue.abandon();
        self.shared.syncer.stop();
        let left = until.saturating_duration_since(clock::instant());
        kept += join_within(sync, left);
        let left = until.saturating_duration_since(clock::instant());
        kept += self.shared.readers.stop(left);
        if abandoned > 0 || kept > 0 {
            tracing::error!(
                entries = abandoned,
                threads = kept,
                "the disk tier stopped without finishing: the device did not answer in time"
            );
        }
        let mut condition = self.shared.condition.lock();
        condition.offline = Some("it was stopped".to_owned());
    }

    /// How full it is. `bytes` are those of the log in use, entries and what they superseded.
    pub fn usage(&self) -> Usage {
        let capacity = self.shared.capacity.load(Relaxed);
        Usage {
            entries: self.shared.index.entries(),
            bytes: self.shared.segments.bytes().min(capacity),
            capacity,
            ..Usage::default()
        }
    }

    /// What it counts.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Counts and sizes of its own.
    pub fn figures(&self) -> Vec<Figure> {
        let shared = &self.shared;
        let size = |name, help, value| Figure {
            name,
            help,
            is_count: false,
            value,
        };
        let mut figures = shared.stats.figures();
        let files = long(shared.files.load(Relaxed));
        figures.extend([
            size(
                "queue_bytes",
                "Bytes waiting to be written.",
                shared.queue.bytes(),
            ),
            size("index_bytes", "Memory of the index.", shared.index.bytes()),
            size(
                "allocated_bytes",
                "Bytes of the device set aside for segments.",
                files * shared.identity.segment_bytes,
            ),
            size("segments", "Segments set aside.", files),
        ]);
        figures
    }

    /// Gives the tier `bytes` of the device from now on, if they hold four segments of it. If they
    /// are fewer than before, the oldest segments are dropped; [`Usage::capacity`] falls once they
    /// are.
    ///
    /// # Errors
    /// They are too few.
    pub fn set_capacity(&self, bytes: u64) -> Result<(), OpenError> {
        let segment = self.shared.identity.segment_bytes;
        if segments_in(bytes, segment) < SEGMENTS_MIN {
            return Err(OpenError::TooSmall {
                capacity: bytes,
                least: OVERHEAD + long(SEGMENTS_MIN) * (segment + SLACK),
            });
        }
        self.shared.queue.resize(bytes);
        Ok(())
    }

    /// The lowest number of the latest purge of `node` when the fetch of anything that is stored
    /// began, or lower: purges of that node up to this one are not needed any more. None if
    /// nothing that is stored comes from that node.
    pub fn oldest_purge(&self, node: u64) -> Option<u64> {
        if self.shared.loading.is_under_way() {
            return Some(0);
        }
        // Asked first: what leaves the queue meanwhile is in a segment by then.
        let queued = self.shared.queue.floor(node);
        let segments = self.shared.segments.all();
        let stored = segments.iter().filter_map(|s| s.floors().lowest(node));
        stored.chain(queued).min()
    }
}

impl Drop for DiskTier {
    fn drop(&mut self) {
        // Signals only: who wants the rest written calls `stop`.
        self.shared.queue.stop();
        self.shared.syncer.stop();
    }
}

impl Shared {
    /// What the index knows `key` by.
    fn hash(&self, key: &[u8]) -> Hash {
        let hash = blake3::keyed_hash(&self.identity.hash_key, key);
        let (first, _) = hash
            .as_bytes()
            .split_first_chunk()
            .unwrap_or((&[0; 8], &[]));
        Hash::of(u64::from_le_bytes(*first))
    }

    /// Claims `key`, under which nothing can be found from now on. Also tells whether anything may
    /// be stored there.
    fn claim(&self, key: &[u8]) -> (Claim, bool) {
        let hash = self.hash(key);
        self.queue.claim(hash, || {
            // Both, in this order: what is loaded in between is removed.
            let loading = self.loading.supersede(hash);
            self.index.remove(hash) || loading
        })
    }

    /// Gives `claim` up. If anything may be `stored` there, a restart must not find it.
    fn refuse(&self, claim: Claim, stored: bool) {
        let tombstone = Queued {
            item: Item::Tombstone,
            claim: Some(claim),
            charge: 0,
        };
        if !stored || self.queue.offer(tombstone).is_err() {
            self.queue.release(claim);
        }
    }

    /// Queues what was claimed.
    async fn enqueue(&self, queued: Queued, claim: Claim, stored: bool) -> Written {
        let unqueued = Unqueued {
            shared: self,
            claim,
            stored,
        };
        let done = self.queue.push(queued, PATIENCE).await;
        if done.is_ok() {
            std::mem::forget(unqueued);
            return Written::Accepted;
        }
        match done {
            Err(Refused::Full(_)) => {
                self.stats.dropped.increment();
                Written::Full
            }
            Err(Refused::Closed) => {
                self.stats.refused.increment();
                Written::Unavailable
            }
            Err(Refused::Superseded) | Ok(()) => Written::Unneeded,
        }
    }

    /// Bytes of content that are written as one record.
    fn whole_max(&self) -> u64 {
        long(READ_MAX).min(self.identity.segment_bytes / 8)
    }

    /// Bytes of one extent.
    fn extent_bytes(&self) -> u64 {
        let part = (self.identity.segment_bytes / 4).min(EXTENT_MAX);
        part - part % CHUNK
    }

    /// Bytes of content of one response, at most.
    fn content_max(&self) -> u64 {
        self.capacity.load(Relaxed) / 4
    }

    /// Whether a record of so much meta and content may be written.
    fn fits(&self, meta: u64, content: u64) -> bool {
        let most = (self.identity.segment_bytes / 2).min(UNITS_MAX * UNIT);
        record_bytes(meta, content) <= most
    }

    /// Waits until everything is loaded.
    fn loaded(&self) {
        self.loading.wait();
    }

    fn count_segments(&self, files: usize) {
        self.files.store(files, Relaxed);
    }

    fn set_capacity_reached(&self, bytes: u64) {
        self.capacity.store(bytes, Relaxed);
    }
}

/// A claim that is given up unless what it is for is queued.
struct Unqueued<'a> {
    shared: &'a Shared,
    claim: Claim,
    stored: bool,
}

impl Drop for Unqueued<'_> {
    fn drop(&mut self) {
        self.shared.refuse(self.claim, self.stored);
    }
}

/// What there is to start with.
struct Found {
    identity: Identity,
    files: BTreeMap<u32, Arc<std::fs::File>>,
    /// Those that hold something, oldest first.
    segments: Vec<Arc<Segment>>,
}

impl Found {
    /// Makes `contents` such as `settings` want them.
    fn settle(
        directory: &Directory,
        contents: Contents,
        settings: &Settings,
    ) -> Result<Self, OpenError> {
        let failed = |doing| {
            move |source| OpenError::Io {
                path: settings.dir.clone(),
                doing,
                source,
            }
        };
        let Contents {
            identity,
            has_manifest,
            segments,
        } = contents;
        directory.tidy().map_err(failed("tidying up"))?;
        let capacity = settings.capacity;
        let wanted = segment_bytes(capacity);
        let suits = |identity: &Identity| {
            let bytes = identity.segment_bytes;
            let count = segments_in(capacity, bytes);
            bytes == wanted || (SEGMENTS_FEW..1 << 20).contains(&count)
        };
        let known = identity.as_ref().filter(|identity| suits(identity));
        let mut stored: Vec<Stored> = Vec::new();
        let identity = match known {
            Some(known) => {
                stored = segments;
                known.clone()
            }
            None => {
                if identity.is_some() {
                    tracing::warn!(
                        capacity,
                        "the segments of the disk tier do not suit its capacity; it starts empty"
                    );
                }
                for segment in segments {
                    let removed = directory.remove(segment.number, &segment.file);
                    removed.map_err(failed("removing a segment"))?;
                }
                Identity::new(wanted)
            }
        };
        if !has_manifest || known.is_none() {
            let written = directory.write_manifest(&identity);
            written.map_err(failed("writing the manifest"))?;
        }
        Self::fit(directory, stored, &identity, capacity)
            .map_err(failed("fitting the segments"))?
            .enough(directory, settings, identity)
    }

    /// Removes what is beyond `capacity`: what holds nothing first, then the oldest.
    fn fit(
        directory: &Directory,
        mut stored: Vec<Stored>,
        identity: &Identity,
        capacity: u64,
    ) -> std::io::Result<Fitted> {
        let ordinal = |stored: &Stored| stored.superblock.as_ref().map_or(0, |s| s.ordinal);
        stored.sort_by_key(ordinal);
        let limit = segments_in(capacity, identity.segment_bytes);
        let surplus = stored.len().saturating_sub(limit);
        for segment in stored.drain(..surplus) {
            directory.remove(segment.number, &segment.file)?;
        }
        let mut kept = Vec::new();
        for segment in stored {
            let length = segment.file.metadata()?.len();
            if length == identity.segment_bytes {
                kept.push(segment);
            } else {
                // A crash while it was made; the log makes it again.
                directory.remove(segment.number, &segment.file)?;
            }
        }
        Ok(Fitted(kept))
    }
}

struct Fitted(Vec<Stored>);

impl Fitted {
    /// Whether there is room for a tier at all, and the rest of it.
    fn enough(
        self,
        directory: &Directory,
        settings: &Settings,
        identity: Identity,
    ) -> Result<Found, OpenError> {
        let segment = identity.segment_bytes;
        let (_, free) = directory.room().map_err(|source| OpenError::Io {
            path: settings.dir.clone(),
            doing: "asking for the free space",
            source,
        })?;
        let has = long(self.0.len());
        let room = has + free / (segment + SLACK);
        let least = long(SEGMENTS_MIN);
        if room < least {
            return Err(OpenError::NoSpace {
                path: settings.dir.clone(),
                free,
                least: (least - has) * (segment + SLACK),
            });
        }
        let limit = long(segments_in(settings.capacity, segment));
        if room < limit {
            tracing::warn!(
                capacity = settings.capacity,
                fits = room * segment,
                "the file system has no room for all of the disk tier; it takes what there is"
            );
        }
        let life = |stored: &Stored| {
            let superblock = stored.superblock.as_ref()?;
            let life = (superblock.ordinal, superblock.nonce);
            let file = Arc::clone(&stored.file);
            Some(Arc::new(Segment::new(
                stored.number,
                life,
                file,
                SUPERBLOCK,
            )))
        };
        Ok(Found {
            segments: self.0.iter().filter_map(life).collect(),
            files: self.0.into_iter().map(|s| (s.number, s.file)).collect(),
            identity,
        })
    }
}

#[cfg(test)]
mod tests;

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
//! not do in time is a failure of the tier, never of a request. Deadlines need the clock of a tokio
//! runtime, of whichever kind.

mod content;
mod directory;
mod extents;
mod failure;
mod format;
mod index;
mod io;
mod log;
mod lookup;
mod moving;
mod opening;
mod patience;
mod pieces;
mod put;
mod queue;
mod readers;
mod reclaim;
mod recovery;
mod segment;
mod stats;
mod stream;
mod sync;
mod tier;
mod walk;

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use directory::Directory;
use format::{CHUNK, Identity, UNIT, UNITS_MAX, long, record_bytes};
use index::{Hash, Index};
use io::{Io, System};
use log::Log;
use opening::Found;
use patience::Patience;
use queue::Queue;
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
use crate::tier::Usage;
use crate::tier::envelope::Envelope;
use crate::tier::eviction::{HitSinceWritten, Reinsertion};
use crate::tier::slow::Figure;

/// Bytes of a segment, at least.
const SEGMENT_MIN: u64 = 1 << 20;
/// Segments that a tier has at least.
const SEGMENTS_MIN: usize = 4;
/// What a file system may need for a segment beside its content.
const SLACK: u64 = 4 << 10;
/// What the directory, the lock and two manifests may need.
const OVERHEAD: u64 = 64 << 10;
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
    patience: Patience,
    syncer: Syncer,
    loading: Loading,
    stats: Stats,
    condition: Condition,
    valid: Valid,
    /// Says what a segment that is reclaimed leaves behind.
    reinsertion: Mutex<Arc<dyn Reinsertion>>,
    /// Bytes that the tier may occupy.
    capacity: AtomicU64,
    /// Segments there are.
    files: AtomicUsize,
    /// What lies in segments of a lower ordinal may have been replaced by what was lost.
    doubted: AtomicU64,
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
            patience: Patience::default(),
            syncer: Syncer::default(),
            loading: Loading::default(),
            stats: Stats::default(),
            condition: Condition::default(),
            valid,
            reinsertion: Mutex::new(Arc::new(HitSinceWritten)),
            capacity: AtomicU64::new(settings.capacity),
            files: AtomicUsize::new(found.files.len()),
            doubted: AtomicU64::new(found.doubted),
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
        let sealed = (segments.clone(), found.ordinal);
        let log = Log::new(Arc::clone(&shared), found.files, sealed, limit);
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
                    shared.condition.set_offline("a thread of it failed");
                    shared.queue.abandon();
                }
            })?;
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(thread);
        Ok(())
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
        self.shared.condition.set_offline("it was stopped");
        if kept == 0 {
            self.shared.directory.release();
        }
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

    /// Asks `rule` from now on which entries of a segment are worth being written again.
    pub fn set_reinsertion(&self, rule: Arc<dyn Reinsertion>) {
        let place = self.shared.reinsertion.lock();
        *place.unwrap_or_else(PoisonError::into_inner) = rule;
    }

    /// What it counts.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Counts and sizes of its own.
    pub fn figures(&self) -> Vec<Figure> {
        let shared = &self.shared;
        let size = Figure::size;
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

    /// Whether what lies in `segment` may have been replaced by what was lost.
    fn is_doubted(&self, segment: &Segment) -> bool {
        segment.ordinal < self.doubted.load(SeqCst)
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

#[cfg(test)]
mod tests;

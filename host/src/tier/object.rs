//! The object-store tier: entries in S3, Google Cloud Storage, Azure Blob Storage or a directory,
//! which many nodes may share.
//!
//! Everything runs on one thread of its own, which talks to the store; whoever asks awaits the
//! answer on any runtime, and drops the request by dropping the future. Nothing of the store is
//! trusted: what is read is verified before it is handed out, an error is never a miss, and a
//! store that is slow or gone costs a lookup its deadline at most, and after some failures nothing
//! at all until it answers again. Uploads wait in a queue that is bounded in bytes.
//!
//! ```text
//! get    ──> lookup ──> remote: gate (breaker, pauses), deadline, retries, hedge ──> store
//!                └────> body: ranges of large content, as they are read
//! put, remove ──> queue ──> upload ──> remote ──> store
//! writer ──> stream: parts ──> remote;  its head ──> queue
//! ```
//!
//! Buckets need no life-cycle rule to stay correct. One that expires objects under `v1/` keeps the
//! store small, and one that ends incomplete multipart uploads clears up after a crash.

mod body;
mod breaker;
mod budget;
mod content;
mod form;
mod gate;
mod latency;
mod location;
mod lookup;
mod names;
mod outdated;
mod queue;
mod reads;
mod remote;
mod retired;
mod selftest;
mod settings;
mod slow;
mod stats;
mod stream;
mod sweep;
mod transport;
mod upload;

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

pub use breaker::BreakerState;
pub use location::OpenError;
pub use queue::Waiting;
pub use selftest::Coordination;
pub use settings::{Deadlines, Environment, Mode, Settings};
pub use stats::{Count, Outcome, Request, Stats};

use super::envelope::Born;
use super::found::Found;
use crate::clock;
use crate::entry::{Content, Entry, KeyView};
use crate::tasks::{Offload, Spawner};
use location::Location;
use names::{Name, Names};
use outdated::Outdated;
use queue::{Queue, Refused, Task};
use reads::Reads;
use remote::Remote;
use retired::Retired;
use selftest::Finding;
use stream::STREAMS;

/// Threads for calls that block: those of a local directory.
const BLOCKING: usize = 8;

/// Large contents that may be written at once: each may hold 8 MiB of what lies in another tier.
const COPIES: usize = 2;

/// Why a lookup has no answer. None of these is a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The store failed several times and is left alone for a while.
    #[error("the object store is offline")]
    Offline,
    /// The store asked for fewer requests.
    #[error("the object store wants fewer requests")]
    Throttled,
    /// As many reads as there may be are under way.
    #[error("too many reads of the object store are under way")]
    Busy,
    /// The store did not answer in time.
    #[error("the object store took too long")]
    TimedOut,
    /// The credentials are missing, wrong, or allow too little.
    #[error("the object store denies access")]
    Denied,
    /// The store failed.
    #[error("the object store failed")]
    Failed,
    /// The tier has stopped.
    #[error("the object-store tier has stopped")]
    Stopped,
}

/// Why an entry is not uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// The tier is only read.
    #[error("the object store is only read")]
    ReadOnly,
    /// It is an entry that is kept in memory only.
    #[error("parts of a response are kept in memory only")]
    Partial,
    /// It is larger than the queue.
    #[error("the entry is larger than the queue for uploads")]
    TooLarge,
    /// The queue is full.
    #[error("the queue for uploads is full")]
    QueueFull,
    /// The tier stops.
    #[error("the object-store tier stops")]
    Stopped,
}

/// How the tier does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// The store answers.
    Online,
    /// It has not answered yet, asked for a pause, or refuses what is written.
    Degraded(Arc<str>),
    /// It failed and is left alone for a while.
    Offline(Arc<str>),
}

/// The tier.
#[derive(Debug)]
pub struct ObjectTier {
    inner: Arc<Inner>,
    offload: Offload,
}

/// What the tasks of the tier share.
#[derive(Debug)]
struct Inner {
    settings: Settings,
    names: Names,
    remote: Arc<Remote>,
    queue: Queue,
    outdated: Outdated,
    reads: Reads,
    retired: Retired,
    /// Large contents that may be written at once.
    copies: Semaphore,
    /// Contents that may be uploaded at once while they arrive.
    streams: Arc<Semaphore>,
    finding: Finding,
    spawner: Spawner,
}

impl Inner {
    /// Starts what runs for as long as the tier does.
    fn start(self: &Arc<Self>, directory: Option<PathBuf>) {
        let settings = &self.settings;
        let (spawner, inner) = (&self.spawner, || Arc::clone(self));
        let shared = inner();
        if settings.mode == Mode::ReadOnly {
            self.finding.set(Coordination::ReadOnly);
            spawner.detach(async move { selftest::reach(&shared.remote, &shared.names).await });
            return;
        }
        spawner.detach(async move {
            selftest::run(&shared.remote, &shared.names, &shared.finding).await;
        });
        for _ in 0..settings.uploads {
            spawner.detach(upload::work(inner()));
        }
        let shared = inner();
        spawner.detach(async move { shared.retired.delete(&shared.remote, &shared.names).await });
        let (shared, every, orphaned) = (inner(), settings.sweep, settings.orphaned);
        spawner.detach(async move { sweep::run(&shared, every, orphaned).await });
        if let Some(directory) = directory {
            let shared = inner();
            spawner.detach_blocking(move || {
                let removed = sweep::staged(&directory);
                shared.remote.stats.swept.add(removed);
            });
        }
    }
}

impl Inner {
    /// Queues the removal of what is stored under that name.
    fn withdraw(&self, name: Name) {
        let stats = &self.remote.stats;
        match self.queue.push(name, Task::Remove) {
            Ok(true) => stats.superseded.increment(),
            Ok(false) => {}
            Err(Refused::Full | Refused::Closed) => {
                stats.removal_failures.increment();
                self.outdated.note(name, clock::unix_millis(clock::wall()));
            }
        }
    }
}

impl ObjectTier {
    /// Opens the tier. A store that cannot be reached is no error: the tier starts without it and
    /// uses it once it answers.
    ///
    /// # Errors
    /// The URL is not understood, the environment lacks what the service needs, the directory
    /// cannot be used, or there is no thread.
    pub fn open(settings: Settings) -> Result<Arc<Self>, OpenError> {
        let location = Location::open(&settings)?;
        let offload = Offload::start("larder-object", BLOCKING, Duration::from_secs(1));
        let offload = offload.map_err(OpenError::Thread)?;
        let remote = Remote::new(location.store, settings.deadlines, location.hint);
        let inner = Arc::new(Inner {
            names: Names::under(location.prefix),
            remote: Arc::new(remote),
            queue: Queue::new(settings.queue_bytes),
            outdated: Outdated::default(),
            reads: Reads::new(settings.reads),
            retired: Retired::new(settings.grace),
            copies: Semaphore::new(COPIES),
            streams: Arc::new(Semaphore::new(STREAMS)),
            finding: Finding::default(),
            spawner: offload.spawner(),
            settings,
        });
        inner.start(location.directory);
        Ok(Arc::new(Self { inner, offload }))
    }

    /// Looks an entry up, within the deadline for small requests. Small content comes with it. What
    /// is still to be replaced or removed is not found.
    ///
    /// # Errors
    /// The store has not answered. That is no miss.
    ///
    /// # Cancel safety
    /// Dropping the future drops the request.
    pub async fn get(&self, key: KeyView<'_>) -> Result<Option<Found>, Unavailable> {
        let stats = &self.inner.remote.stats;
        if let Some(withheld) = self.inner.remote.gate.closed_until() {
            stats.withheld.increment();
            stats.errors.increment();
            return Err(remote::Fault::Withheld(withheld).into());
        }
        let name = Name::of(key.bytes);
        if self.inner.queue.holds(name) {
            stats.misses.increment();
            return Ok(None);
        }
        let Some(place) = self.inner.reads.enter() else {
            stats.errors.increment();
            return Err(Unavailable::Busy);
        };
        let (inner, key) = (Arc::clone(&self.inner), key.bytes);
        let lookup = lookup::get(inner, name, key.into());
        let found = self.inner.spawner.run(lookup).await;
        drop(place);
        found.unwrap_or(Err(Unavailable::Stopped))
    }

    /// Queues `entry`, which was born so, to be uploaded in place of what is stored under its key.
    /// Never waits.
    ///
    /// # Errors
    /// It will not be uploaded. If that is for want of room, what is stored under its key is to be
    /// removed instead: it is older.
    pub fn put(&self, entry: &Arc<Entry>, born: Born) -> Result<(), Dropped> {
        if self.inner.settings.mode == Mode::ReadOnly {
            return Err(Dropped::ReadOnly);
        }
        if let Content::Partial(_) = entry.content {
            return Err(Dropped::Partial);
        }
        let name = Name::of(entry.key.view().bytes);
        let stats = &self.inner.remote.stats;
        let entry = Arc::clone(entry);
        let task = Task::Put { entry, born };
        let large = self.inner.queue.never_takes(&task);
        match self.inner.queue.push(name, task) {
            Ok(replaces) => {
                if replaces {
                    stats.superseded.increment();
                }
                return Ok(());
            }
            Err(Refused::Closed) => return Err(Dropped::Stopped),
            Err(Refused::Full) => {}
        }
        self.inner.withdraw(name);
        if large {
            stats.dropped_large.increment();
            return Err(Dropped::TooLarge);
        }
        stats.dropped_full.increment();
        Err(Dropped::QueueFull)
    }

    /// Queues the removal of what is stored under `key`, at best effort: whether an entry may be
    /// used is decided by when it was born, not by whether it is gone.
    pub fn remove(&self, key: KeyView<'_>) {
        if self.inner.settings.mode == Mode::ReadOnly {
            return;
        }
        self.inner.withdraw(Name::of(key.bytes));
    }

    /// Waits until all that was queued is done, or the store is not asked. What is left.
    pub async fn settle(&self) -> Waiting {
        self.inner
            .queue
            .settle(&self.inner.remote.gate, false)
            .await
    }

    /// Takes nothing more, finishes what is queued within the deadline for it, and ends. What was
    /// given up. Blocks; not to be called on the tier's own thread.
    pub fn stop(&self) -> Waiting {
        self.inner.queue.close();
        let (sender, receiver) = mpsc::sync_channel(1);
        let inner = Arc::clone(&self.inner);
        self.inner.spawner.detach(async move {
            let settled = inner.queue.settle(&inner.remote.gate, true);
            drop(timeout(inner.settings.deadlines.drain, settled).await);
            // Whoever does not wait for it has left.
            sender.send(()).unwrap_or_default();
        });
        // An error says that the thread has ended already.
        receiver.recv().unwrap_or_default();
        self.offload.end();
        let left = self.inner.queue.waiting();
        if left.items > 0 {
            self.inner.remote.stats.abandoned.add(left.items);
            tracing::warn!(
                entries = left.items,
                bytes = left.bytes,
                "entries were not uploaded to the object store before it was closed"
            );
        }
        left
    }

    /// What the tier counts.
    pub fn stats(&self) -> &Stats {
        &self.inner.remote.stats
    }

    /// Whether it is written to.
    pub fn mode(&self) -> Mode {
        self.inner.settings.mode
    }

    /// Entries that the store may go on holding although they have a successor: it could not be
    /// told. They are not used.
    pub fn outdated(&self) -> u64 {
        u64::try_from(self.inner.outdated.len()).unwrap_or(u64::MAX)
    }

    /// What waits to be uploaded or removed.
    pub fn waiting(&self) -> Waiting {
        self.inner.queue.waiting()
    }

    /// Reads under way.
    pub fn reading(&self) -> usize {
        self.inner.reads.taken()
    }

    /// The state of the breaker.
    pub fn breaker(&self) -> BreakerState {
        self.inner.remote.gate.state()
    }

    /// Whether nodes can coordinate through the store.
    pub fn coordination(&self) -> Coordination {
        self.inner.finding.get()
    }

    /// How the tier does.
    pub fn health(&self) -> Health {
        let remote = &self.inner.remote;
        let reason = || {
            let latest = remote.stats.latest_error();
            latest.unwrap_or_else(|| "the store has not answered yet".into())
        };
        let answered = [Outcome::Done, Outcome::Missing, Outcome::Conflict];
        let answers = Request::ALL
            .iter()
            .flat_map(|request| answered.map(|outcome| remote.stats.requests(*request, outcome)));
        if remote.gate.state() != BreakerState::Closed {
            Health::Offline(reason())
        } else if remote.gate.is_paused()
            || self.inner.queue.is_paused()
            || answers.sum::<u64>() == 0
        {
            Health::Degraded(reason())
        } else {
            Health::Online
        }
    }
}

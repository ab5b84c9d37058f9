//! The content of a large entry: an object of its own, read in ranges, each chunk verified before
//! it is handed out.
//!
//! A reader that goes on where its last read ended is served from one request of the store for a
//! while: first of [`WINDOW_MIN`] chunks, then of twice as many each time, up to [`WINDOW_MAX`].
//! One chunk waits for the reader and one is on its way, so a reader costs 512 KiB at most, and a
//! slow one slows down the request and nothing else.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::form::{self, CHUNK, CHUNK_LEN, Hashed, Table, chunks};
use super::names::Nonce;
use super::reads::Reads;
use super::remote::{Fault, Remote};
use super::stats::Outcome;
use crate::entry::kept::Reading;
use crate::entry::{Kept, Unreadable};
use crate::tasks::Spawner;

/// Chunks that the first request of a reader asks for: short ranges should not pay for more.
const WINDOW_MIN: u64 = 2;
/// Chunks that one request asks for, at most: 8 MiB.
const WINDOW_MAX: u64 = 32;
/// Readers that are remembered between their reads. More of them at once cost more requests.
const CURSORS: usize = 8;
/// How long a request waits for its reader to go on.
const IDLE: Duration = Duration::from_secs(10);

type Sender = mpsc::Sender<Result<Bytes, Unreadable>>;

/// The content of a large entry.
#[derive(Debug)]
pub(super) struct RemoteBody(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    source: Arc<Source>,
    spawner: Spawner,
    reads: Reads,
    /// Requests under way whose readers are between two reads, the oldest first.
    cursors: Mutex<Vec<Cursor>>,
    /// Whether some of it was found gone or damaged.
    lost: AtomicBool,
}

/// What is read.
#[derive(Debug)]
pub(super) struct Source {
    /// Where from.
    pub(super) remote: Arc<Remote>,
    /// The object.
    pub(super) object: Path,
    /// The version of the entry that it is the content of.
    pub(super) nonce: Nonce,
    /// The head that names it, if that may be deleted.
    pub(super) head: Option<Path>,
    /// Bytes of content.
    pub(super) length: u64,
    /// The hash of all of it.
    pub(super) digest: [u8; 32],
    /// What each chunk must be.
    pub(super) table: Table,
}

/// A request for a window of chunks, in the order of the content.
#[derive(Debug)]
struct Cursor {
    /// The chunk that comes next.
    next: u64,
    /// Chunks of the window.
    window: u64,
    /// That chunk, if it was fetched already.
    ready: Option<Bytes>,
    chunks: mpsc::Receiver<Result<Bytes, Unreadable>>,
}

impl RemoteBody {
    /// The content of `source`, read by tasks of `spawner` as far as `reads` has room.
    pub(super) fn new(source: Source, spawner: Spawner, reads: Reads) -> Self {
        Self(Arc::new(Shared {
            source: Arc::new(source),
            spawner,
            reads,
            cursors: Mutex::default(),
            lost: AtomicBool::new(false),
        }))
    }
}

impl RemoteBody {
    /// Fetches the beginning, which is wanted most often, so that content which is gone or damaged
    /// is known of before anyone is promised it.
    pub(super) async fn begin(&self) -> Result<(), Unreadable> {
        let mut cursor = self.0.open(0, WINDOW_MIN)?;
        let first = cursor.chunks.recv().await.unwrap_or(Err(Unreadable::Gone));
        cursor.ready = Some(first?);
        self.0.park(cursor);
        Ok(())
    }

    /// The hashes of the content, if it is what `object` of `remote` holds.
    pub(super) fn hashed_at(&self, remote: &Arc<Remote>, object: &Path) -> Option<Hashed> {
        let source = &self.0.source;
        let same = source.object == *object && Arc::ptr_eq(&source.remote, remote);
        let sound = !self.0.lost.load(Ordering::Relaxed);
        (same && sound).then(|| source.table.hashed((source.digest, source.length)))
    }
}

impl Kept for RemoteBody {
    fn len(&self) -> u64 {
        self.0.source.length
    }

    fn read(&self, at: u64) -> Reading {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.read(at).await })
    }
}

impl Shared {
    async fn read(&self, at: u64) -> Result<Bytes, Unreadable> {
        if at >= self.source.length {
            return Ok(Bytes::new());
        }
        let (chunk, skip) = (at / CHUNK_LEN, at % CHUNK_LEN);
        let (mut cursor, mut fresh) = match self.take(chunk) {
            Some(cursor) => (cursor, false),
            None => (self.open(chunk, WINDOW_MIN)?, true),
        };
        loop {
            let next = match cursor.ready.take() {
                Some(ready) => Some(Ok(ready)),
                None => cursor.chunks.recv().await,
            };
            match next {
                Some(Ok(mut bytes)) => {
                    cursor.next += 1;
                    self.park(cursor);
                    let skip = usize::try_from(skip).unwrap_or(CHUNK).min(bytes.len());
                    return Ok(bytes.split_off(skip));
                }
                Some(Err(unreadable)) => {
                    let lost = matches!(unreadable, Unreadable::Gone | Unreadable::Damaged);
                    self.lost.fetch_or(lost, Ordering::Relaxed);
                    return Err(unreadable);
                }
                // A request that was just made ends like this only if the tier has stopped.
                None if fresh => return Err(Unreadable::Gone),
                // The window is done, or waited too long.
                None => {
                    cursor = self.open(chunk, (cursor.window * 2).min(WINDOW_MAX))?;
                    fresh = true;
                }
            }
        }
    }

    /// The request of a reader that wants `chunk` next.
    fn take(&self, chunk: u64) -> Option<Cursor> {
        let mut cursors = self.cursors();
        let place = cursors.iter().position(|cursor| cursor.next == chunk)?;
        Some(cursors.remove(place))
    }

    fn park(&self, cursor: Cursor) {
        if cursor.next >= chunks(self.source.length) {
            return;
        }
        let mut cursors = self.cursors();
        if cursors.len() >= CURSORS {
            cursors.remove(0);
        }
        cursors.push(cursor);
    }

    fn cursors(&self) -> MutexGuard<'_, Vec<Cursor>> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, chunk: u64, window: u64) -> Result<Cursor, Unreadable> {
        let place = self.reads.enter().ok_or(Unreadable::Failed)?;
        let (sender, receiver) = mpsc::channel(1);
        let source = Arc::clone(&self.source);
        let end = chunk.saturating_add(window).min(chunks(source.length));
        self.spawner.detach(async move {
            source.fetch(chunk..end, sender).await;
            drop(place);
        });
        Ok(Cursor {
            next: chunk,
            window,
            ready: None,
            chunks: receiver,
        })
    }
}

impl Source {
    /// Reads chunks until there is no one who takes them, once more from where it broke.
    async fn fetch(&self, mut left: Range<u64>, sender: Sender) {
        let mut first = true;
        while let Err(unreadable) = self.stream(&mut left, &sender).await {
            let gone = unreadable == Unreadable::Gone;
            // Damage may have happened on the way here, but not twice.
            let damaged = unreadable == Unreadable::Damaged && !first;
            if gone || damaged {
                self.forget().await;
            }
            if !first || gone || !self.remote.may_retry() {
                // Whoever does not wait for it has left.
                sender.send(Err(unreadable)).await.unwrap_or_default();
                return;
            }
            first = false;
        }
    }

    /// The content is gone, or damaged. An entry that names it still will never be whole again, and
    /// goes too.
    async fn forget(&self) {
        let Some(head) = &self.head else { return };
        let prelude = self.remote.prelude(head).await;
        let named = prelude.is_ok_and(|it| form::content_of(&it) == Ok(Some(self.nonce)));
        if named {
            self.remote.stats.damaged.increment();
            // It is found out again if this fails.
            self.remote.delete(head).await.unwrap_or_default();
        }
    }

    async fn stream(&self, left: &mut Range<u64>, sender: &Sender) -> Result<(), Unreadable> {
        let end = self.length.min(left.end * CHUNK_LEN);
        let range = left.start * CHUNK_LEN..end;
        let found = self.remote.range(&self.object, range).await;
        let mut stream = found.map_err(unreadable)?.into_stream();
        let mut over = Bytes::new();
        while left.start < left.end {
            let wanted = (end - left.start * CHUNK_LEN).min(CHUNK_LEN);
            let next = next_chunk(&mut stream, &mut over, wanted);
            let chunk = match timeout(self.remote.deadlines.chunk, next).await {
                Ok(Ok(chunk)) => chunk,
                Ok(Err(text)) => {
                    self.remote.broke(&text, Outcome::Failed);
                    return Err(Unreadable::Failed);
                }
                Err(_) => {
                    let text = "a chunk of content did not come in time";
                    self.remote.broke(text, Outcome::TimedOut);
                    return Err(Unreadable::TimedOut);
                }
            };
            self.remote.stats.read_bytes.add(wanted);
            if !self.table.verifies(left.start, &chunk) {
                self.remote.stats.damaged.increment();
                return Err(Unreadable::Damaged);
            }
            match timeout(IDLE, sender.send(Ok(chunk))).await {
                Ok(Ok(())) => left.start += 1,
                // The reader has left, or is too slow to wait for.
                Ok(Err(_)) | Err(_) => return Ok(()),
            }
        }
        Ok(())
    }
}

/// The next `wanted` bytes; `over` is what came beyond the last ones.
async fn next_chunk(
    stream: &mut BoxStream<'static, object_store::Result<Bytes>>,
    over: &mut Bytes,
    wanted: u64,
) -> Result<Bytes, String> {
    let wanted = usize::try_from(wanted).unwrap_or(CHUNK);
    let mut chunk = BytesMut::with_capacity(wanted);
    loop {
        let now = over.split_to(over.len().min(wanted - chunk.len()));
        chunk.extend_from_slice(&now);
        if chunk.len() == wanted {
            return Ok(chunk.freeze());
        }
        *over = match stream.next().await {
            Some(Ok(bytes)) => bytes,
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("content ended before its end".to_owned()),
        };
    }
}

fn unreadable(fault: Fault) -> Unreadable {
    match fault {
        Fault::Missing => Unreadable::Gone,
        Fault::TimedOut => Unreadable::TimedOut,
        _ => Unreadable::Failed,
    }
}

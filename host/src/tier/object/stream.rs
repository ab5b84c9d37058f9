//! Uploads content while it arrives, when it lies nowhere whole: into an object of its own, part by
//! part, and the head that names it last, through the queue as every other task of its key.
//!
//! A stream holds a part that is being gathered or sent, and as much that waits to be. It sets the
//! pace of what arrives no longer than for [`PATIENCE`]; then it gives up. What was sent by then is
//! given up as well.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::content::{self, PART, Unwritten};
use super::form::CONTENT_MAX;
use super::names::{self, Name};
use super::queue::{Refused, Task};
use super::{Inner, Mode, ObjectTier};
use crate::entry::{KeyView, Unreadable};
use crate::tier::envelope::Envelope;
use crate::tier::slow::{self, Answer, Written};

/// Streams at once. Each holds two parts at most: 16 MiB.
pub(super) const STREAMS: usize = 4;
/// How long a stream waits for room: for the store to take what came before.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of room that a piece takes at least, so that many small ones are not much more than they
/// seem.
const PIECE_MIN: usize = 1 << 10;

/// What a stream is sent.
#[derive(Debug)]
enum Message {
    /// The next bytes, and their room.
    Piece(Bytes, OwnedSemaphorePermit),
    /// That was all.
    End(Box<Envelope>, oneshot::Sender<Written>),
}

/// Uploads content piece by piece. What was pushed is forgotten unless it is committed.
#[derive(Debug)]
pub(super) struct Writer {
    inner: Arc<Inner>,
    name: Name,
    stream: mpsc::Sender<Message>,
    /// Bytes that may wait.
    room: Arc<Semaphore>,
    length: u64,
    failed: Option<Written>,
}

/// The content of a stream, in the order in which it comes.
#[derive(Debug)]
pub(super) struct Arriving {
    messages: mpsc::Receiver<Message>,
    end: Option<(Box<Envelope>, oneshot::Sender<Written>)>,
}

impl Arriving {
    /// The next piece; none at the end.
    ///
    /// # Errors
    /// Whoever sent it has given up.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, Unreadable> {
        if self.end.is_some() {
            return Ok(None);
        }
        match self.messages.recv().await {
            Some(Message::Piece(piece, _room)) => Ok(Some(piece)),
            Some(Message::End(envelope, told)) => {
                self.end = Some((envelope, told));
                Ok(None)
            }
            None => Err(Unreadable::Gone),
        }
    }
}

impl ObjectTier {
    /// Uploads content under `key` while it arrives, `length` bytes of it if that is known. None if
    /// it is too long, or the store is not written to now, or enough is uploaded so.
    pub(super) fn stream(&self, key: KeyView<'_>, length: Option<u64>) -> Option<Writer> {
        let inner = &self.inner;
        if length.is_some_and(|length| length > CONTENT_MAX) {
            inner.remote.stats.dropped_large.increment();
            return None;
        }
        if inner.settings.mode == Mode::ReadOnly || inner.remote.gate.closed_until().is_some() {
            return None;
        }
        let Ok(turn) = Arc::clone(&inner.streams).try_acquire_owned() else {
            inner.remote.stats.dropped_full.increment();
            return None;
        };
        let room = usize::try_from(PART).unwrap_or_default();
        // As many pieces as there is room for, and the end.
        let (stream, messages) = mpsc::channel(room / PIECE_MIN + 1);
        let name = Name::of(key.bytes);
        let arriving = Arriving {
            messages,
            end: None,
        };
        let uploading = Arc::clone(inner);
        inner.spawner.detach(async move {
            upload(&uploading, name, arriving).await;
            drop(turn);
        });
        Some(Writer {
            inner: Arc::clone(inner),
            name,
            stream,
            room: Arc::new(Semaphore::new(room)),
            length: 0,
            failed: None,
        })
    }
}

/// Uploads what is `arriving`, and has the head written that names it.
async fn upload(inner: &Inner, name: Name, mut arriving: Arriving) {
    let (nonce, stats) = (names::nonce(), &inner.remote.stats);
    let object = inner.names.body(name, nonce);
    let written = content::stream(&inner.remote, &object, &mut arriving).await;
    let hashed = match written {
        Ok(hashed) => hashed,
        Err(unwritten) => {
            if let Unwritten::Fault(fault) = unwritten {
                stats.write_failures.increment();
                tracing::debug!(?fault, "content was not uploaded");
            }
            // Dropping what arrives tells whoever sends it.
            return;
        }
    };
    let Some((mut envelope, told)) = arriving.end else {
        return;
    };
    envelope.digest = hashed.digest;
    envelope.length = hashed.length;
    let task = Task::Head {
        envelope: Arc::from(envelope),
        content: Arc::new((nonce, hashed)),
    };
    let queued = inner.queue.push(name, task);
    if queued.is_err() {
        // Nothing will name it.
        inner.retired.push(name, nonce);
    }
    let written = match queued {
        Ok(replaces) => {
            if replaces {
                stats.superseded.increment();
            }
            Written::Accepted
        }
        Err(Refused::Full) => {
            stats.dropped_full.increment();
            Written::Full
        }
        Err(Refused::Closed) => Written::Unavailable,
    };
    // Whoever does not wait for it has left.
    told.send(written).unwrap_or_default();
}

impl Writer {
    async fn send(&mut self, piece: Bytes) -> Result<(), Written> {
        let most = usize::try_from(PART).unwrap_or(usize::MAX);
        let bytes = u32::try_from(piece.len().clamp(PIECE_MIN, most));
        let room = Arc::clone(&self.room).acquire_many_owned(bytes.unwrap_or_default());
        let Ok(Ok(room)) = timeout(PATIENCE, room).await else {
            self.inner.remote.stats.dropped_full.increment();
            return Err(Written::Full);
        };
        let sent = self.stream.try_send(Message::Piece(piece, room));
        sent.map_err(|_| Written::Unavailable)
    }
}

impl slow::Writer for Writer {
    fn push(&mut self, piece: Bytes) -> Answer<'_, bool> {
        Box::pin(async move {
            if self.failed.is_some() {
                return false;
            }
            let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            self.length = self.length.saturating_add(length);
            // If this is dropped while it waits, the content has a hole.
            self.failed = Some(Written::Unavailable);
            let sent = match self.length > CONTENT_MAX {
                true => Err(Written::TooLarge),
                false => self.send(piece).await,
            };
            self.failed = sent.err();
            self.failed.is_none()
        })
    }

    fn commit(self: Box<Self>, envelope: Envelope) -> Answer<'static, Written> {
        Box::pin(async move {
            let (told, hears) = oneshot::channel();
            let written = match self.failed {
                Some(failed) => failed,
                None => {
                    let end = Message::End(Box::new(envelope), told);
                    match self.stream.try_send(end) {
                        Ok(()) => hears.await.unwrap_or(Written::Unavailable),
                        Err(_) => Written::Unavailable,
                    }
                }
            };
            if written != Written::Accepted {
                // What is older must not be found instead.
                self.inner.withdraw(self.name);
            }
            written
        })
    }
}

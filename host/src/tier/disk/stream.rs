//! Storing content while it arrives, when it never lies in memory whole.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::Shared;
use super::content::Assembly;
use super::format::long;
use super::pieces::split;
use super::put::{CHARGE, PATIENCE, Unqueued};
use super::queue::{Item, Queued, Refused};
use crate::entry::KeyView;
use crate::tier::envelope::Envelope;
use crate::tier::slow::Written;

/// Extents of one writer that may wait to be written.
const EXTENTS_WAITING: usize = 8;
/// How long a writer waits for its own extents to be written. Longer than for room in the queue:
/// a segment is sealed and the next one opened meanwhile, which waits for the device.
const STREAM_PATIENCE: Duration = Duration::from_secs(2);

/// Stores content piece by piece. What was pushed is forgotten unless it is committed.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    assembly: Arc<Assembly>,
    room: Arc<Semaphore>,
    pieces: Vec<Bytes>,
    /// Bytes of `pieces`.
    held: u64,
    /// Bytes that were pushed.
    length: u64,
    /// Whether there are extents.
    extents: bool,
    failed: Option<Written>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, key: KeyView<'_>) -> Self {
        let assembly = Assembly::new(shared.hash(key.bytes));
        Self {
            shared,
            assembly: Arc::new(assembly),
            room: Arc::new(Semaphore::new(EXTENTS_WAITING)),
            pieces: Vec::new(),
            held: 0,
            length: 0,
            extents: false,
            failed: None,
        }
    }

    /// Adds `bytes` to the content. Waits for the device no longer than 2 seconds.
    ///
    /// # Errors
    /// The tier cannot take the content: it is too large, or too much waits to be written, or
    /// nothing can be written now. Nothing more is worth pushing then.
    ///
    /// # Cancel safety
    /// If it is dropped, the content cannot be committed any more.
    pub async fn push(&mut self, bytes: Bytes) -> Result<(), Written> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        self.length += long(bytes.len());
        if self.length > self.shared.content_max() {
            return Err(self.fail(Written::TooLarge));
        }
        self.held += long(bytes.len());
        self.pieces.push(bytes);
        let extent = self.shared.extent_bytes();
        while self.held >= extent {
            self.send(extent).await?;
        }
        Ok(())
    }

    /// Queues the first `bytes` of what is held as an extent.
    async fn send(&mut self, bytes: u64) -> Result<(), Written> {
        let (extent, rest) = split(&self.pieces, bytes);
        self.pieces = rest;
        self.held -= bytes;
        self.extents = true;
        // If this is dropped while it waits, the content has a hole.
        self.failed = Some(Written::Unavailable);
        let room = Arc::clone(&self.room).acquire_owned();
        let Ok(Ok(permit)) = tokio::time::timeout(STREAM_PATIENCE, room).await else {
            self.shared.stats.dropped.increment();
            return Err(self.fail(Written::Full));
        };
        if self.assembly.lock().abandoned {
            return Err(self.fail(Written::Unavailable));
        }
        let queued = Queued {
            item: Item::Extent(Arc::clone(&self.assembly), extent, permit),
            claim: None,
            charge: bytes,
        };
        match self.shared.queue.push(queued, PATIENCE).await {
            Ok(()) => {
                self.failed = None;
                Ok(())
            }
            Err(Refused::Full(_)) => {
                self.shared.stats.dropped.increment();
                Err(self.fail(Written::Full))
            }
            Err(Refused::Superseded | Refused::Closed) => {
                self.shared.stats.refused.increment();
                Err(self.fail(Written::Unavailable))
            }
        }
    }

    fn fail(&mut self, why: Written) -> Written {
        self.failed = Some(why);
        self.pieces.clear();
        self.assembly.lock().abandoned = true;
        why
    }

    /// Stores what was pushed as `envelope` says, whose length and digest are filled in. It takes
    /// the place of what was put before this call, and gives way to what is put after it.
    pub async fn commit(self, envelope: Envelope) -> Written {
        let shared = Arc::clone(&self.shared);
        let claimed = shared.claim_for_now(&envelope.key);
        self.commit_as(envelope, claimed).await
    }

    /// The same of a key that was claimed before.
    pub(super) async fn commit_as(mut self, envelope: Envelope, claimed: Unqueued<'_>) -> Written {
        let shared = Arc::clone(&self.shared);
        let whole = !self.extents && self.held <= shared.whole_max();
        if self.failed.is_none() && !whole && self.held > 0 {
            // What went wrong is in `failed`.
            self.send(self.held).await.ok();
        }
        if let Some(failed) = self.failed {
            return failed;
        }
        let (item, charge) = if whole {
            let pieces = std::mem::take(&mut self.pieces);
            (
                Item::Content(Box::new(envelope), pieces),
                CHARGE + self.held,
            )
        } else {
            let assembly = Arc::clone(&self.assembly);
            (Item::Parent(Box::new(envelope), assembly), CHARGE)
        };
        let queued = Queued {
            item,
            claim: Some(claimed.claim),
            charge,
        };
        let written = shared.enqueue_as(queued, claimed).await;
        if written == Written::Accepted {
            // The content belongs to the queue now.
            self.assembly = Arc::default();
        }
        written
    }

    /// Bytes that were pushed.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.assembly.lock().abandoned = true;
    }
}

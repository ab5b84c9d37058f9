//! Putting and removing: claims on keys, and what is queued for the log.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use super::content::{Assembly, DiskContent};
use super::index::Hash;
use super::queue::{Claim, Item, Queued, Refused};
use super::stream::Writer;
use super::{DiskTier, Shared};
use crate::entry::{Content, Entry, Kept, KeyView};
use crate::tier::envelope::{Born, Envelope};
use crate::tier::slow::Written;

/// Bytes of memory that an item in the queue is charged beside what it holds.
pub(super) const CHARGE: u64 = 1 << 10;
/// How long a put waits for room in the queue.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);

impl DiskTier {
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
        // Now, not once it is copied: what is put meanwhile is newer.
        let claimed = self.shared.claim_for_now(entry.key.view().bytes);
        let Some(mut writer) = self.writer(entry.key.view(), Some(place.len())) else {
            return Written::TooLarge;
        };
        while writer.length() < place.len() {
            match place.read(writer.length()).await {
                Ok(bytes) if !bytes.is_empty() => {
                    if let Err(written) = writer.push(bytes).await {
                        return written;
                    }
                }
                _ => return Written::Unavailable,
            }
        }
        writer.commit_as(envelope, claimed).await
    }

    /// Stores content under `key` while it arrives; none if content of `length` bytes is too large.
    pub fn writer(&self, key: KeyView<'_>, length: Option<u64>) -> Option<Writer> {
        if length.is_some_and(|length| length > self.shared.content_max()) {
            self.shared.stats.too_large.increment();
            return None;
        }
        Some(Writer::new(Arc::clone(&self.shared), key))
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
}

impl Shared {
    /// Claims `key`, under which nothing can be found from now on. Also tells whether anything may
    /// be stored there.
    pub(super) fn claim(&self, key: &[u8]) -> (Claim, bool) {
        self.claim_hash(self.hash(key))
    }

    /// The same of a key that is known by its hash.
    fn claim_hash(&self, hash: Hash) -> (Claim, bool) {
        self.queue.claim(hash, || {
            // Both, in this order: what is loaded in between is removed.
            let loading = self.loading.supersede(hash);
            self.index.remove(hash) || loading
        })
    }

    /// Forgets what is under `hash`, whose content is damaged, and what is on its way there: it may
    /// share that content.
    pub(super) fn drop_content(&self, hash: Hash) {
        let (claim, stored) = self.claim_hash(hash);
        if stored {
            self.stats.evicted.damaged.increment();
        }
        self.refuse(claim, stored);
    }

    /// Claims `key` like [`Self::claim`]; it is given up unless something is queued for it.
    pub(super) fn claim_for_now(&self, key: &[u8]) -> Unqueued<'_> {
        let (claim, stored) = self.claim(key);
        Unqueued {
            shared: self,
            claim,
            stored,
        }
    }

    /// Gives `claim` up. If anything may be `stored` there, a restart must not find it.
    pub(super) fn refuse(&self, claim: Claim, stored: bool) {
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
    pub(super) async fn enqueue(&self, queued: Queued, claim: Claim, stored: bool) -> Written {
        let unqueued = Unqueued {
            shared: self,
            claim,
            stored,
        };
        self.enqueue_as(queued, unqueued).await
    }

    /// Queues what was claimed.
    pub(super) async fn enqueue_as(&self, queued: Queued, claimed: Unqueued<'_>) -> Written {
        let done = self.queue.push(queued, PATIENCE).await;
        if done.is_ok() {
            std::mem::forget(claimed);
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
}

/// A claim that is given up unless what it is for is queued.
pub(super) struct Unqueued<'a> {
    shared: &'a Shared,
    pub(super) claim: Claim,
    stored: bool,
}

impl Drop for Unqueued<'_> {
    fn drop(&mut self) {
        self.shared.refuse(self.claim, self.stored);
    }
}

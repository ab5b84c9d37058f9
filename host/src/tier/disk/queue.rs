//! What waits to be written: a queue that is bounded in bytes, and the claims on keys.
//!
//! Whoever puts, commits or removes claims the key first, in the order of the calls. A record is
//! made visible only while its claim is the latest, so the newest put wins however the waiting for
//! room went. One lock guards queue and claims; a lookup never takes it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};

use super::content::Assembly;
use super::index::Hash;
use super::segment::{Floors, Segment};
use crate::entry::Entry;
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use crate::tier::envelope::{Born, Envelope};

/// Puts that wait for room at once, at most.
const WAITING_MAX: usize = 1_024;
/// Tombstones that wait, at most. A key that is removed beyond them is removed in memory only.
const TOMBSTONES_MAX: usize = 64 << 10;
/// What is taken off the queue at once: bytes, and items.
const LOT_BYTES: u64 = 4 << 20;
const LOT_ITEMS: usize = 512;

/// What is to be written.
#[derive(Debug)]
pub(super) enum Item {
    /// An entry whose content is in memory, or has none.
    Entry(Arc<Entry>, Born),
    /// A response whose content is small and came piece by piece.
    Content(Box<Envelope>, Vec<Bytes>),
    /// Part of the content of a response.
    Extent(Arc<Assembly>, Vec<Bytes>, OwnedSemaphorePermit),
    /// A response whose extents were queued before.
    Parent(Box<Envelope>, Arc<Assembly>),
    /// That nothing is stored under the key any more.
    Tombstone,
}

/// An item in the queue.
#[derive(Debug)]
pub(super) struct Queued {
    /// What is to be written.
    pub item: Item,
    /// Under which key, and with which claim; none for an extent.
    pub claim: Option<Claim>,
    /// Bytes of memory that it holds.
    pub charge: u64,
}

/// The right to be what is stored under a key, until somebody claims it later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The key.
    pub hash: Hash,
    number: u64,
}

/// Why something was not queued.
#[derive(Debug)]
pub(super) enum Refused {
    /// There is no room now.
    Full(Box<Queued>),
    /// The key was claimed later.
    Superseded,
    /// Nothing is written now.
    Closed,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Queued>,
    bytes: u64,
    tombstones: usize,
    claims: HashMap<Hash, u64>,
    claimed: u64,
    waiting: usize,
    /// Whether it takes items.
    open: bool,
    stopping: bool,
    /// Whether nobody takes anything off it any more.
    ended: bool,
    resize: Option<u64>,
    unsynced: Vec<Arc<Segment>>,
    queued: u64,
    done: u64,
    /// What was taken and is not yet counted in with any segment.
    in_hand: Floors,
}

/// What is to be done next.
#[derive(Debug, Default)]
pub(super) struct Lot {
    /// To be written, in this order.
    pub items: Vec<Queued>,
    /// The tier is to have this many bytes.
    pub resize: Option<u64>,
    /// Segments that the device failed to take.
    pub unsynced: Vec<Arc<Segment>>,
    /// Nothing more will come.
    pub stopping: bool,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    room: Notify,
    done: watch::Sender<u64>,
    max: u64,
}

/// Claims, while nobody can claim.
pub(super) struct Claims<'a>(MutexGuard<'a, State>);

impl Claims<'_> {
    /// Whether nobody claimed later. The claim ends.
    pub(super) fn redeem(&mut self, claim: Claim) -> bool {
        let latest = self.0.claims.get(&claim.hash) == Some(&claim.number);
        if latest {
            self.0.claims.remove(&claim.hash);
        }
        latest
    }
}

impl Queue {
    /// A queue of at most `max` bytes.
    pub(super) fn new(max: u64) -> Self {
        let state = State {
            open: true,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            wake: Condvar::new(),
            room: Notify::new(),
            done: watch::Sender::new(0),
            max,
        }
    }

    /// The state is whole between any two statements of whoever holds it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims a key, and does `forget`, which tells whether it forgot something, before anybody
    /// can claim it again. Also tells whether anything may be stored under the key.
    pub(super) fn claim(&self, hash: Hash, forget: impl FnOnce() -> bool) -> (Claim, bool) {
        let mut state = self.lock();
        state.claimed += 1;
        let number = state.claimed;
        let was = state.claims.insert(hash, number).is_some();
        let stored = forget();
        (Claim { hash, number }, was || stored)
    }

    /// Gives a claim up, unless somebody claimed later.
    pub(super) fn release(&self, claim: Claim) {
        self.claims().redeem(claim);
    }

    /// Looks at claims while nobody can claim.
    pub(super) fn claims(&self) -> Claims<'_> {
        Claims(self.lock())
    }

    /// Whether nobody claimed later.
    pub(super) fn is_latest(&self, claim: Claim) -> bool {
        self.lock().claims.get(&claim.hash) == Some(&claim.number)
    }

    /// Queues an item if there is room for it.
    pub(super) fn offer(&self, queued: Queued) -> Result<(), Refused> {
        let mut state = self.lock();
        let tombstone = matches!(queued.item, Item::Tombstone);
        // Tombstones are written once anything is.
        if !(state.open || tombstone) || state.ended {
            return Err(Refused::Closed);
        }
        if let Some(claim) = queued.claim
            && state.claims.get(&claim.hash) != Some(&claim.number)
        {
            return Err(Refused::Superseded);
        }
        let full = match tombstone {
            true => state.tombstones >= TOMBSTONES_MAX,
            false => state.bytes > 0 && state.bytes.saturating_add(queued.charge) > self.max,
        };
        if full {
            return Err(Refused::Full(Box::new(queued)));
        }
        state.tombstones += usize::from(tombstone);
        state.bytes = state.bytes.saturating_add(queued.charge);
        state.queued += 1;
        state.items.push_back(queued);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Queues an item, and waits `patience` for room.
    ///
    /// # Cancel safety
    /// May be dropped; the item is not queued then.
    pub(super) async fn push(&self, queued: Queued, patience: Duration) -> Result<(), Refused> {
        let mut queued = match self.offer(queued) {
            Err(Refused::Full(queued)) => queued,
            done => return done,
        };
        let Some(_waiting) = Waiting::new(self) else {
            return Err(Refused::Full(queued));
        };
        let until = tokio::time::Instant::now() + patience;
        loop {
            // Registered before the next try, so that no wake-up is lost.
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            queued = match self.offer(*queued) {
                Err(Refused::Full(queued)) => queued,
                done => return done,
            };
            if tokio::time::timeout_at(until, room).await.is_err() {
                return Err(Refused::Full(queued));
            }
        }
    }

    /// What is to be done next, after at most `patience`.
    pub(super) fn take(&self, patience: Duration) -> Lot {
        let mut state = self.lock();
        let idle = |state: &State| {
            state.items.is_empty()
                && state.resize.is_none()
                && state.unsynced.is_empty()
                && !state.stopping
        };
        if idle(&state) {
            let woken = self
                .wake
                .wait_timeout_while(state, patience, |state| idle(state));
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut lot = Lot {
            resize: state.resize.take(),
            unsynced: std::mem::take(&mut state.unsynced),
            stopping: state.stopping,
            ..Lot::default()
        };
        let mut bytes = 0;
        while bytes < LOT_BYTES && lot.items.len() < LOT_ITEMS {
            let Some(queued) = state.items.pop_front() else {
                break;
            };
            bytes += queued.charge;
            state.bytes = state.bytes.saturating_sub(queued.charge);
            state.tombstones -= usize::from(matches!(queued.item, Item::Tombstone));
            if let Item::Entry(_, born) = &queued.item {
                state.in_hand.lower(born.node, born.purge);
            } else if let Item::Content(envelope, _) | Item::Parent(envelope, _) = &queued.item {
                state.in_hand.lower(envelope.born.node, envelope.born.purge);
            }
            lot.items.push(queued);
        }
        drop(state);
        self.room.notify_waiters();
        lot
    }

    /// `items` that were taken are written, or given up.
    pub(super) fn finish(&self, items: usize) {
        let done = {
            let mut state = self.lock();
            state.done += super::format::long(items);
            state.in_hand = Floors::default();
            state.done
        };
        self.tell(done);
    }

    /// Tells whoever settles that so much is done. Of two who tell at once the lower number may come
    /// later.
    fn tell(&self, done: u64) {
        self.done.send_if_modified(|told| {
            let more = done > *told;
            *told = done.max(*told);
            more
        });
    }

    /// Waits until everything that was queued before is done.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub(super) async fn settle(&self) {
        let queued = self.lock().queued;
        let mut done = self.done.subscribe();
        // The sender is held here, so there is an answer.
        drop(done.wait_for(|done| *done >= queued).await);
    }

    /// Whether it takes items from now on.
    pub(super) fn set_open(&self, open: bool) {
        {
            let mut state = self.lock();
            state.open = open && !state.stopping;
        }
        self.room.notify_waiters();
    }

    /// Nothing more comes.
    pub(super) fn stop(&self) {
        {
            let mut state = self.lock();
            state.stopping = true;
            state.open = false;
        }
        self.wake.notify_all();
        self.room.notify_waiters();
    }

    /// Whether nothing more comes.
    pub(super) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Nothing that waits will be written. How much that was.
    pub(super) fn abandon(&self) -> usize {
        let (items, done) = {
            let mut state = self.lock();
            state.open = false;
            state.ended = true;
            state.bytes = 0;
            state.tombstones = 0;
            state.done = state.queued;
            (std::mem::take(&mut state.items), state.done)
        };
        self.tell(done);
        self.room.notify_waiters();
        items.len()
    }

    /// The tier is to have this many bytes.
    pub(super) fn resize(&self, bytes: u64) {
        self.lock().resize = Some(bytes);
        self.wake.notify_one();
    }

    /// The device failed to take what was written to `segment`.
    pub(super) fn unsynced(&self, segment: Arc<Segment>) {
        self.lock().unsynced.push(segment);
        self.wake.notify_one();
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// The lowest number of the latest purge of `node` when anything here began to be fetched.
    pub(super) fn floor(&self, node: u64) -> Option<u64> {
        let state = self.lock();
        let mut floors = state.in_hand.clone();
        for queued in &state.items {
            match &queued.item {
                Item::Entry(_, born) => floors.lower(born.node, born.purge),
                Item::Content(envelope, _) | Item::Parent(envelope, _) => {
                    floors.lower(envelope.born.node, envelope.born.purge);
                }
                Item::Extent(..) | Item::Tombstone => {}
            }
        }
        floors.lowest(node)
    }
}

/// A put that waits for room.
struct Waiting<'a>(&'a Queue);

impl<'a> Waiting<'a> {
    fn new(queue: &'a Queue) -> Option<Self> {
        let mut state = queue.lock();
        if state.waiting >= WAITING_MAX {
            return None;
        }
        state.waiting += 1;
        drop(state);
        Some(Self(queue))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

//! One fetch from the origin, shared by everyone who waits for it.
//!
//! The task that fetches holds the [`Pilot`]; clients hold [`Reader`]s. Bytes go to every reader as
//! they arrive. A flight that will be stored keeps all of its pieces; one that will not keeps a
//! [`window`], the fastest reader sets the pace, and a reader that falls out of the window is told so.
//!
//! Readers and pilot may live on different threads; the state is behind one short mutex.

mod window;

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};

use crate::clock;
use crate::entry::{CacheKey, Entry, SiteId, Tag};
use crate::rfc9111::content_range::ContentRange;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use window::{Next, Place, Window};

/// Bytes a flight keeps that no tier will store.
pub const WINDOW: u64 = 8 << 20;

/// Bytes such a flight is ahead of its fastest reader, unless all of its content fits the window; and
/// all it keeps where only the request which started it may read.
const AHEAD: u64 = 256 << 10;

/// What became of the request to the origin.
#[derive(Clone, Debug)]
pub enum Landing {
    /// The stored response was validated.
    Validated(Arc<Validation>),
    /// It was not made: another flight had stored this fresh response by then.
    Stored(Arc<Entry>),
    /// A response arrives.
    Response(Arc<Head>),
    /// The origin did not answer.
    Failed(Failure),
}

/// A stored response that the origin has confirmed.
#[derive(Debug)]
pub struct Validation {
    /// The freshened entry.
    pub entry: Arc<Entry>,
    /// Who may be answered by it.
    pub shared: Shared,
    /// Whether a tier was given it.
    pub stored: bool,
    /// Fields for the client that asked, which no other may see.
    pub withheld: HeaderMap,
    /// The status by which the origin confirmed it: 304, or 200 in answer to HEAD.
    pub answered: StatusCode,
}

/// How the origin failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection, or it broke, or what came was not HTTP.
    Unreachable,
    /// A deadline passed.
    TimedOut,
    /// Too many fetches wait for the origin, or this one has waited for too long.
    Crowded,
    /// The fetch was given up at shutdown, or its task died.
    Abandoned,
    /// The client's own body is larger than the limit.
    BodyTooLarge,
    /// The client's own body broke off.
    BodyBrokeOff,
}

/// The head of a response in flight.
#[derive(Debug)]
pub struct Head {
    /// Final status.
    pub status: StatusCode,
    /// The status that the origin answered with: 206 where it had to send only a part of what a
    /// tier holds the rest of.
    pub answered: StatusCode,
    /// Which bytes of the content these are, if not all.
    pub part: Option<ContentRange>,
    /// End-to-end fields, ready for a client, without `Age` and `Cache-Status`.
    pub headers: HeaderMap,
    /// Fields for the client that asked, which no other may see.
    pub withheld: HeaderMap,
    /// Length of the content, if the origin told it.
    pub length: Option<u64>,
    /// Its age on arrival, seconds.
    pub age: u64,
    /// Freshness lifetime left on arrival, seconds.
    pub ttl: u64,
    /// Who may be answered by it.
    pub shared: Shared,
    /// Whether a tier is to store it.
    pub stored: bool,
    /// Whether all of it is kept for those aboard, as memory has room for it or it fits the
    /// [`WINDOW`]. Of content whose length is not known, as far as can be told.
    pub kept: bool,
}

/// Who may be answered by a response in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shared {
    /// The request that asked for it and nobody else.
    No,
    /// Requests with the same primary key that agree on the nominated fields.
    With {
        /// Nominated fields, sorted.
        nominated: Vec<HeaderName>,
        /// The key of the response: secondary where fields are nominated.
        key: CacheKey,
    },
}

/// Flights so far.
static BEGUN: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// A fetch that others may join.
#[derive(Debug)]
pub struct Flight {
    /// The key under which it was started.
    pub key: CacheKey,
    /// Whose it is.
    pub site: SiteId,
    /// The tags of the request: its effective URI and the URI asked of the origin.
    pub(super) tags: Vec<Tag>,
    /// The tags that were decided on with the response.
    decided: OnceLock<Vec<Tag>>,
    /// The latest purge when it began.
    pub began: u64,
    /// When it began, milliseconds since the Unix epoch.
    pub at: u64,
    /// Its number among all flights: of two the one with the higher began later.
    pub(super) number: u64,
    purged: AtomicBool,
    /// The flight that tries once more after this one failed.
    pub(super) successor: OnceLock<Arc<Self>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    landing: Option<Landing>,
    window: Window,
    end: Option<End>,
    /// Those who may come aboard.
    interested: usize,
    /// Of them, those who wait for the landing and have not started the flight.
    joined: usize,
    /// Wakers since the last change, which took all before it.
    waiting: Vec<Waker>,
    changes: u64,
    pilot: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Complete,
    Broken,
}

impl Flight {
    /// A flight that has not landed, its pilot, and nobody aboard.
    pub fn new(key: CacheKey, site: SiteId, tags: Vec<Tag>, began: u64) -> (Arc<Self>, Pilot) {
        let flight = Arc::new(Self {
            key,
            site,
            tags,
            decided: OnceLock::new(),
            began,
            at: clock::unix_millis(clock::wall()),
            number: BEGUN.fetch_add(1, Ordering::Relaxed),
            purged: AtomicBool::new(false),
            successor: OnceLock::new(),
            state: Mutex::default(),
        });
        let pilot = Pilot {
            flight: Arc::clone(&flight),
        };
        (flight, pilot)
    }

    /// The tags of what this flight brings, as far as they are known yet.
    pub fn tags(&self) -> impl Iterator<Item = Tag> + Clone {
        let decided = self.decided.get().into_iter().flatten();
        self.tags.iter().chain(decided).copied()
    }

    /// Whether all of them are known.
    pub fn is_decided(&self) -> bool {
        self.decided.get().is_some()
    }

    /// Marks what this flight brings as outdated: it is delivered, and stored by no tier.
    pub fn purge(&self) {
        self.purged.store(true, Ordering::SeqCst);
    }

    /// Whether a purge covered this flight since it began.
    pub fn is_purged(&self) -> bool {
        self.purged.load(Ordering::SeqCst)
    }

    /// Waits until the origin has answered or failed.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn landing(&self) -> Landing {
        let mut place = None;
        poll_fn(|cx| {
            let mut state = self.lock();
            match &state.landing {
                Some(landing) => Poll::Ready(landing.clone()),
                None => {
                    state.wait(&mut place, cx);
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Counts as a reader from now on: who waits for the landing may come aboard then, and must
    /// not find that the flight has ended for want of readers. `joins` are as many as may wait for
    /// a flight that another request has started, if it is one of them; none if there are more.
    pub fn interest(self: &Arc<Self>, joins: Option<usize>) -> Option<Interest> {
        let mut state = self.lock();
        if joins.is_some_and(|most| state.joined >= most) {
            return None;
        }
        state.interested += 1;
        state.joined += usize::from(joins.is_some());
        Some(Interest {
            flight: Arc::clone(self),
            joined: joins.is_some(),
        })
    }

    /// Requests that wait for the landing and have not started the flight.
    pub fn waiting(&self) -> usize {
        self.lock().joined
    }

    /// Bytes that have arrived.
    pub fn arrived(&self) -> u64 {
        self.lock().window.arrived()
    }

    /// Whether all of its content has come: to who comes now it is something of the past.
    pub fn is_over(&self) -> bool {
        let state = self.lock();
        let length = match &state.landing {
            Some(Landing::Response(head)) => head.length,
            _ => None,
        };
        state.end.is_some() || length == Some(state.window.arrived())
    }

    /// A reader from the first byte, while the first byte is still kept.
    pub fn board(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.lock();
        let place = state.window.board()?;
        Some(Reader {
            flight: Arc::clone(self),
            place,
            waiting: None,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Has the task of `cx` woken by the next change. `place` remembers where its waker is, so
    /// that a task that is polled for other reasons is not listed twice.
    fn wait(&mut self, place: &mut Option<(u64, usize)>, cx: &Context<'_>) {
        let known = place.filter(|(changes, _)| *changes == self.changes);
        if let Some(waker) = known.and_then(|(_, index)| self.waiting.get_mut(index)) {
            waker.clone_from(cx.waker());
        } else {
            *place = Some((self.changes, self.waiting.len()));
            self.waiting.push(cx.waker().clone());
        }
    }

    /// Whether nobody can take anything, now or later. Who has fallen out of the window cannot.
    fn is_deserted(&self) -> bool {
        self.interested == 0 && self.window.readers() == 0
    }

    /// Bytes to keep once no tier is to store what arrives, and how many of them the fastest reader
    /// may have yet to take.
    fn limits(&self) -> (u64, u64) {
        match &self.landing {
            Some(Landing::Response(head)) if head.shared == Shared::No => (AHEAD, AHEAD),
            Some(Landing::Response(head)) if head.length.is_some_and(|all| all <= WINDOW) => {
                (WINDOW, WINDOW)
            }
            _ => (WINDOW, AHEAD),
        }
    }

    fn wake_pilot(&mut self) {
        if let Some(pilot) = self.pilot.take() {
            pilot.wake();
        }
    }
}

/// The duty to land a flight and to end it. Dropping it early breaks the flight for everyone.
#[derive(Debug)]
#[must_use = "dropping the pilot abandons the flight"]
pub struct Pilot {
    flight: Arc<Flight>,
}

impl Pilot {
    /// The flight.
    pub fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// Adds the tags that were decided on with the response. At most once.
    pub fn decide_tags(&self, tags: Vec<Tag>) {
        if self.flight.decided.set(tags).is_err() {
            tracing::error!("the tags of a flight were decided twice; the first decision stays");
        }
    }

    /// Tells everyone what the origin answered.
    pub fn land(&self, landing: Landing) {
        self.change(|state| state.landing = Some(landing));
    }

    /// Hands `piece` to every reader.
    pub fn push(&self, piece: Bytes) {
        self.change(|state| state.window.push(piece));
    }

    /// The body is whole.
    pub fn complete(self) {
        self.change(|state| state.end = Some(End::Complete));
    }

    /// The pieces so far, whole only once the origin's body has ended.
    pub fn pieces(&self) -> Vec<Bytes> {
        self.flight.lock().window.pieces().cloned().collect()
    }

    /// From now on only a window is kept. Waits until it has room, or until nobody can read.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn room(&self) -> Room {
        poll_fn(|cx| {
            let mut state = self.flight.lock();
            if state.is_deserted() {
                return Poll::Ready(Room::Deserted);
            }
            let (most, ahead) = state.limits();
            if state.window.slide(most, ahead) {
                return Poll::Ready(Room::Yes);
            }
            state.pilot = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Makes room in the window without waiting for readers, of whom none is left.
    pub fn shed(&self) {
        let mut state = self.flight.lock();
        let (most, _) = state.limits();
        state.window.shed(most);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let waiting = {
            let mut state = self.flight.lock();
            change(&mut state);
            state.changes += 1;
            std::mem::take(&mut state.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        self.change(|state| {
            if state.landing.is_none() {
                state.landing = Some(Landing::Failed(Failure::Abandoned));
            }
            state.end.get_or_insert(End::Broken);
        });
    }
}

/// Whether a flight that keeps a window may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is room for the next piece.
    Yes,
    /// No reader is left whom the next piece could reach.
    Deserted,
}

/// Reads a flight from its first byte.
#[derive(Debug)]
pub struct Reader {
    flight: Arc<Flight>,
    place: Place,
    /// Where its waker is.
    waiting: Option<(u64, usize)>,
}

/// What a reader finds next.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// The next bytes.
    Piece(Bytes),
    /// The body is over and whole.
    End,
    /// The body broke off.
    Broken,
    /// The next bytes are no longer kept.
    Lagging,
}

impl Reader {
    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.place.position
    }

    /// The next piece, once there is one.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        let mut state = self.flight.lock();
        let (next, leads) = state.window.take(&mut self.place);
        if leads {
            state.wake_pilot();
        }
        match next {
            Next::Piece(piece) => return Poll::Ready(Read::Piece(piece)),
            Next::Lost => return Poll::Ready(Read::Lagging),
            Next::End => {}
        }
        match state.end {
            Some(End::Complete) => Poll::Ready(Read::End),
            Some(End::Broken) => Poll::Ready(Read::Broken),
            None => {
                state.wait(&mut self.waiting, cx);
                Poll::Pending
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.flight.lock();
        state.window.leave(&self.place);
        // It may have been the fastest: the pilot has to look again.
        state.wake_pilot();
    }
}

/// Someone who may come aboard.
#[derive(Debug)]
#[must_use = "dropping it ends the interest"]
pub struct Interest {
    flight: Arc<Flight>,
    joined: bool,
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut state = self.flight.lock();
        state.joined = state.joined.saturating_sub(usize::from(self.joined));
        state.interested = state.interested.saturating_sub(1);
        state.wake_pilot();
    }
}

#[cfg(test)]
mod tests;

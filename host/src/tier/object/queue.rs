//! What waits to be written: entries to upload and keys to remove, one task a key, bounded in
//! bytes. A sixteenth of the room is for removals alone, so that they do not fail for uploads.
//!
//! Two tasks of one key never run at once, and the later replaces the earlier if that has not
//! begun: what the store has in the end is what was asked for last.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::form::Hashed;
use super::gate::Gate;
use super::names::{Name, Nonce};
use crate::clock::{self, Moment};
use crate::entry::{Entry, Tag};
use crate::tier::envelope::{Born, Envelope};

/// Bytes that a removal, and the bookkeeping of an upload, are charged.
const FIXED: u64 = 512;

/// What is to be done about one key.
#[derive(Clone, Debug)]
pub(super) enum Task {
    /// Upload its entry.
    Put {
        /// The entry, a response or nominations.
        entry: Arc<Entry>,
        /// Its origin in time.
        born: Born,
    },
    /// Upload the head of its entry, whose content is uploaded.
    Head {
        /// The entry without its content.
        envelope: Arc<Envelope>,
        /// The object of its content, and the hashes of that.
        content: Arc<(Nonce, Hashed)>,
    },
    /// Remove what is stored under it.
    Remove,
}

impl Task {
    /// When what it uploads was fetched, in milliseconds since the Unix epoch.
    pub(super) fn born_at(&self) -> Option<u64> {
        match self {
            Self::Put { born, .. } => Some(born.at),
            Self::Head { envelope, .. } => Some(envelope.born.at),
            Self::Remove => None,
        }
    }

    fn charge(&self) -> u64 {
        match self {
            Self::Put { entry, .. } => entry.charge().saturating_add(FIXED),
            Self::Head { envelope, content } => {
                let own = envelope.key.len() + envelope.tags.len() * size_of::<Tag>();
                let own = u64::try_from(own).unwrap_or(u64::MAX);
                content.1.bytes().saturating_add(own).saturating_add(FIXED)
            }
            Self::Remove => FIXED,
        }
    }
}

/// A task, with what is known of it so far.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The key's name.
    pub(super) name: Name,
    /// What is to be done.
    pub(super) task: Task,
    /// Times it was tried and failed by itself, not with all others.
    pub(super) failures: u32,
    not_before: Moment,
}

/// Why a task was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There is no room.
    Full,
    /// The tier stops.
    Closed,
}

/// What waits, or runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Tasks.
    pub items: u64,
    /// Bytes they are charged.
    pub bytes: u64,
}

/// Tasks that wait, in the order of their keys' first task.
#[derive(Debug)]
pub(super) struct Queue {
    capacity: u64,
    state: Mutex<State>,
    /// There may be something to do.
    ready: Notify,
    /// All is done, or nothing can be done now.
    settled: Notify,
}

#[derive(Debug, Default)]
struct State {
    order: VecDeque<Name>,
    waiting: HashMap<Name, Item>,
    running: HashMap<Name, u64>,
    /// Of both.
    bytes: u64,
    /// No task begins before.
    paused: Option<Moment>,
    closed: bool,
}

impl Queue {
    /// An empty one for `capacity` bytes.
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            state: Mutex::default(),
            ready: Notify::new(),
            settled: Notify::new(),
        }
    }

    /// Queues a task in place of an earlier one of its key that has not begun; whether there was
    /// one.
    ///
    /// # Errors
    /// There is no room for it, and the earlier one is gone too: it must not outlast this one.
    pub(super) fn push(&self, name: Name, task: Task) -> Result<bool, Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        let earlier = state.waiting.remove(&name);
        let replaces = earlier.is_some();
        state.bytes -= earlier.map_or(0, |item| item.task.charge());
        let charge = task.charge();
        if charge > self.room(&task).saturating_sub(state.bytes) {
            if replaces {
                state.order.retain(|other| *other != name);
            }
            return Err(Refused::Full);
        }
        if !replaces {
            state.order.push_back(name);
        }
        let item = Item {
            name,
            task,
            failures: 0,
            not_before: Moment::default(),
        };
        state.waiting.insert(name, item);
        state.bytes += charge;
        drop(state);
        self.ready.notify_one();
        Ok(replaces)
    }

    /// Whether a task of that key waits or runs: what is stored under it is not what it is to be.
    pub(super) fn holds(&self, name: Name) -> bool {
        let state = self.lock();
        state.waiting.contains_key(&name) || state.running.contains_key(&name)
    }

    /// Bytes that tasks may be charged together after a task like this.
    fn room(&self, task: &Task) -> u64 {
        match task {
            Task::Put { .. } | Task::Head { .. } => self.capacity - self.capacity / 16,
            Task::Remove => self.capacity,
        }
    }

    /// Whether `task` finds no room even if nothing else waits.
    pub(super) fn never_takes(&self, task: &Task) -> bool {
        task.charge() > self.room(task)
    }

    /// The next task that may run, as soon as there is one and `gate` is open. It runs until it is
    /// given back.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub(super) async fn next(&self, gate: &Gate) -> Item {
        loop {
            if let Some(withheld) = gate.closed_until() {
                self.settled.notify_waiters();
                sleep(until(withheld.until)).await;
                continue;
            }
            let wait = match self.take(clock::now()) {
                Ok(item) => {
                    // One wake-up may stand for several tasks.
                    self.ready.notify_one();
                    return item;
                }
                Err(wait) => wait,
            };
            match wait {
                None => self.ready.notified().await,
                Some(moment) => {
                    let more = timeout(until(moment), self.ready.notified()).await;
                    drop(more);
                }
            }
        }
    }

    /// The next task, or when to look again at the latest.
    fn take(&self, now: Moment) -> Result<Item, Option<Moment>> {
        let mut state = self.lock();
        if let Some(paused) = state.paused.filter(|&paused| paused > now) {
            self.settled.notify_waiters();
            return Err(Some(paused));
        }
        let mut soonest = None;
        let place = state.order.iter().position(|name| {
            let item = state.waiting.get(name);
            let Some(item) = item.filter(|_| !state.running.contains_key(name)) else {
                return false;
            };
            if item.not_before > now {
                soonest =
                    Some(soonest.map_or(item.not_before, |at: Moment| at.min(item.not_before)));
            }
            item.not_before <= now
        });
        let name = place.and_then(|place| state.order.remove(place));
        let item = name.and_then(|name| state.waiting.remove(&name));
        let item = item.ok_or(soonest)?;
        state.running.insert(item.name, item.task.charge());
        Ok(item)
    }

    /// The task has run.
    pub(super) fn done(&self, item: &Item) {
        self.give_back(item, None);
    }

    /// The task cannot be done: what is stored under its key is older, and is to be removed
    /// instead, unless a later task of the key waits.
    pub(super) fn withdraw(&self, item: &Item) {
        let removal = Item {
            task: Task::Remove,
            failures: 0,
            not_before: Moment::default(),
            ..item.clone()
        };
        self.give_back(item, Some(removal));
    }

    /// The task is to run again, not before that moment, unless a later one of its key waits.
    pub(super) fn again(&self, item: Item, not_before: Moment) {
        let again = Item { not_before, ..item };
        self.give_back(&again.clone(), Some(again));
    }

    fn give_back(&self, item: &Item, again: Option<Item>) {
        let mut state = self.lock();
        let charge = state.running.remove(&item.name).unwrap_or_default();
        let again = again.filter(|_| !state.waiting.contains_key(&item.name));
        match again {
            Some(again) => {
                state.bytes -= charge.saturating_sub(again.task.charge());
                state.order.push_back(again.name);
                state.waiting.insert(again.name, again);
            }
            None => state.bytes -= charge,
        }
        if state.waiting.is_empty() && state.running.is_empty() {
            self.settled.notify_waiters();
        }
        drop(state);
        self.ready.notify_one();
    }

    /// No task begins for `pause`.
    pub(super) fn pause(&self, pause: Duration) {
        self.lock().paused = Some(clock::now().after(pause));
    }

    /// Waits until nothing waits or runs; with `patience` also while the store is not asked,
    /// else until then. What is left.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub(super) async fn settle(&self, gate: &Gate, patience: bool) -> Waiting {
        loop {
            let settled = self.settled.notified();
            let mut settled = std::pin::pin!(settled);
            // Registered before the state is read, so that no wake-up is lost.
            settled.as_mut().enable();
            let (left, paused) = (self.waiting(), self.is_paused());
            let stuck = paused || gate.closed_until().is_some();
            if left.items == 0 || (stuck && !patience) {
                return left;
            }
            settled.await;
        }
    }

    /// Takes nothing more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    /// What waits or runs.
    pub(super) fn waiting(&self) -> Waiting {
        let state = self.lock();
        let items = state.waiting.len() + state.running.len();
        Waiting {
            items: u64::try_from(items).unwrap_or(u64::MAX),
            bytes: state.bytes,
        }
    }

    /// Whether no task begins now.
    pub(super) fn is_paused(&self) -> bool {
        self.lock()
            .paused
            .is_some_and(|paused| paused > clock::now())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn until(moment: Moment) -> Duration {
    moment.since(clock::now()).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{KeyHasher, Nominations, SiteId};
    use proptest::prelude::*;

    const BORN: Born = Born {
        node: 1,
        purge: 0,
        at: 0,
    };

    fn name(number: u8) -> Name {
        Name::of(&[number])
    }

    /// A task that is charged `charge`, which is at least 512 bytes.
    fn put(charge: u64) -> Task {
        let key = KeyHasher::default().key(b"k").to_key();
        let content = crate::entry::Content::Nominations(Nominations::default());
        let entry = Entry::weighing(key, SiteId(1), content, charge - FIXED);
        Task::Put {
            entry: Arc::new(entry),
            born: BORN,
        }
    }

    fn take(queue: &Queue) -> Option<Item> {
        queue.take(clock::now()).ok()
    }

    #[test]
    fn what_cannot_be_put_is_removed_unless_a_later_task_waits() {
        let queue = Queue::new(100_000);
        queue.push(name(1), put(5_000)).unwrap();
        let item = take(&queue).unwrap();
        assert!(queue.holds(name(1)) && !queue.holds(name(2)));
        queue.withdraw(&item);
        assert!(queue.holds(name(1)));
        let removal = take(&queue).unwrap();
        assert!(matches!(removal.task, Task::Remove));
        assert_eq!(
            queue.waiting(),
            Waiting {
                items: 1,
                bytes: FIXED
            }
        );
        queue.done(&removal);
        assert_eq!(queue.waiting(), Waiting::default());
        queue.push(name(1), put(5_000)).unwrap();
        let item = take(&queue).unwrap();
        queue.push(name(1), put(6_000)).unwrap();
        queue.withdraw(&item);
        let later = take(&queue).unwrap();
        assert!(matches!(later.task, Task::Put { .. }));
        queue.done(&later);
        assert_eq!(queue.waiting(), Waiting::default());
        assert!(!queue.holds(name(1)));
    }

    #[test]
    fn the_later_task_of_a_key_replaces_the_earlier_and_waits_for_one_that_runs() {
        let queue = Queue::new(1 << 20);
        assert_eq!(queue.push(name(1), put(1_000)), Ok(false));
        assert_eq!(queue.push(name(2), put(2_000)), Ok(false));
        assert_eq!(queue.push(name(1), put(3_000)), Ok(true));
        assert_eq!(queue.waiting().bytes, 5_000);
        let first = take(&queue).unwrap();
        assert_eq!((first.name, first.task.charge()), (name(1), 3_000));
        assert_eq!(queue.push(name(1), Task::Remove), Ok(false));
        let second = take(&queue).unwrap();
        assert_eq!(second.name, name(2));
        assert!(take(&queue).is_none(), "the first still runs");
        assert_eq!(queue.waiting().items, 3);
        // What is to run again gives way to what came later.
        queue.again(first, Moment::default());
        let third = take(&queue).unwrap();
        assert!(matches!(third.task, Task::Remove));
        queue.done(&second);
        queue.done(&third);
        assert_eq!(queue.waiting(), Waiting::default());
    }

    #[test]
    fn what_finds_no_room_takes_the_earlier_one_along() {
        let queue = Queue::new(16_000);
        assert_eq!(queue.push(name(1), put(10_000)), Ok(false));
        assert_eq!(queue.push(name(2), put(5_001)), Err(Refused::Full));
        assert_eq!(queue.push(name(2), put(5_000)), Ok(false));
        assert_eq!(queue.push(name(3), Task::Remove), Ok(false));
        assert_eq!(queue.push(name(1), put(10_001)), Err(Refused::Full));
        assert_eq!(
            queue.waiting(),
            Waiting {
                items: 2,
                bytes: 5_512
            }
        );
        assert!(queue.never_takes(&put(15_001)) && !queue.never_takes(&put(15_000)));
        queue.close();
        assert_eq!(queue.push(name(1), Task::Remove), Err(Refused::Closed));
        assert_eq!(
            take(&queue).unwrap().name,
            name(2),
            "what is queued still runs"
        );
    }

    #[test]
    fn what_is_to_wait_waits_and_lets_others_pass() {
        let queue = Queue::new(1 << 20);
        queue.push(name(1), put(1_000)).unwrap();
        queue.push(name(2), put(1_000)).unwrap();
        let first = take(&queue).unwrap();
        let later = clock::now().after(Duration::from_mins(1));
        queue.again(first, later);
        assert_eq!(take(&queue).unwrap().name, name(2));
        assert_eq!(queue.take(clock::now()).unwrap_err(), Some(later));
        assert_eq!(queue.take(later).unwrap().name, name(1));
        queue.pause(Duration::from_mins(1));
        queue.push(name(3), put(1_000)).unwrap();
        assert!(queue.is_paused() && take(&queue).is_none());
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_runs_one_task_of_a_key(
            steps in prop::collection::vec((0..4_u8, 0..6_u8, 512..4_000_u64), 0..200)
        ) {
            let queue = Queue::new(10_000);
            let mut running: Vec<Item> = Vec::new();
            for (step, number, charge) in steps {
                match step {
                    0 => drop(queue.push(name(number), put(charge))),
                    1 => drop(queue.push(name(number), Task::Remove)),
                    2 => if let Some(item) = take(&queue) {
                        prop_assert!(running.iter().all(|other| other.name != item.name));
                        running.push(item);
                    },
                    _ => if let Some(item) = running.pop() {
                        if charge % 2 == 0 {
                            queue.done(&item);
                        } else {
                            queue.again(item, Moment::default());
                        }
                    },
                }
                prop_assert!(queue.waiting().bytes <= 10_000);
            }
            for item in &running {
                queue.done(item);
            }
            while let Some(item) = take(&queue) {
                queue.done(&item);
            }
            prop_assert_eq!(queue.waiting(), Waiting::default());
        }
    }
}

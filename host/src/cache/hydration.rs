//! Which fetches go to origins now, and which wait: a bounded number at once, those that a client
//! waits for first, and no origin in the way of the others.
//!
//! A fetch takes a [`Place`] before it asks its origin and gives it back when the origin has
//! answered, however that ends. Of what waits, a client's fetch goes before a validation in the
//! background; among equals origins take turns, and an origin's own fetches go in the order of their
//! arrival. An origin has at most three quarters of the places, so that one that answers nothing
//! leaves room for the rest; what nobody waits for has at most a quarter. Waiting is bounded in
//! number, and in time by whoever waits.

mod line;

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::task::{Poll, Waker};

use crate::entry::SiteId;
use crate::metrics::Counter;
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use line::Line;

/// Fetches that wait for a place of one origin, at most.
const WAITING_MAX: usize = 10_000;

/// What a fetch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// A client waits for it.
    Interactive,
    /// A stored response is validated while it answers.
    Revalidation,
}

impl Priority {
    const ALL: [Self; 2] = [Self::Interactive, Self::Revalidation];

    const fn index(self) -> usize {
        match self {
            Self::Interactive => 0,
            Self::Revalidation => 1,
        }
    }
}

/// The places of all fetches.
#[derive(Debug)]
pub struct Hydration {
    state: Arc<Mutex<State>>,
    /// Fetches that found too many waiting.
    pub refused: Counter,
    /// Fetches that had to wait.
    pub delayed: Counter,
}

#[derive(Debug)]
struct State {
    places: usize,
    running: usize,
    /// Of these, what nobody waits for.
    background: usize,
    origins: HashMap<SiteId, Origin>,
    /// Origins with fetches that wait, by priority; each once, whose turn it is first.
    turns: [VecDeque<SiteId>; Priority::ALL.len()],
    waiting: usize,
}

#[derive(Debug, Default)]
struct Origin {
    running: usize,
    waiting: [Line; Priority::ALL.len()],
    /// Whether it is among those who take turns.
    has_turn: [bool; Priority::ALL.len()],
}

#[derive(Debug, Default)]
enum Ticket {
    #[default]
    New,
    Waiting(Waker),
    Granted,
    /// Nobody wants it any more.
    Left,
}

/// The right to ask an origin. Dropping it lets the next one go.
#[derive(Debug)]
#[must_use = "dropping it gives the place back"]
pub struct Place {
    state: Arc<Mutex<State>>,
    site: SiteId,
    priority: Priority,
}

/// Too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many fetches wait for this origin")]
pub struct Crowded;

impl Default for Hydration {
    /// Without a bound that anyone would notice.
    fn default() -> Self {
        Self::new(usize::MAX / 4)
    }
}

impl Hydration {
    /// `places` for fetches, at least one.
    pub fn new(places: usize) -> Self {
        let state = State {
            places: places.max(1),
            running: 0,
            background: 0,
            origins: HashMap::new(),
            turns: Default::default(),
            waiting: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            refused: Counter::default(),
            delayed: Counter::default(),
        }
    }

    /// Waits for a place to ask the origin of `site`.
    ///
    /// # Errors
    /// Too many wait already.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the turn.
    pub async fn enter(&self, site: SiteId, priority: Priority) -> Result<Place, Crowded> {
        let ticket = {
            let mut state = lock(&self.state);
            if state.may_run(site, priority) && !state.has_waiting(site, priority) {
                state.start(site, priority);
                return Ok(self.place(site, priority));
            }
            let Some(ticket) = state.queue(site, priority) else {
                self.refused.increment();
                return Err(Crowded);
            };
            ticket
        };
        self.delayed.increment();
        let mut guard = Leaving {
            hydration: self,
            site,
            priority,
            ticket: Some(ticket),
        };
        guard.granted().await;
        guard.ticket = None;
        Ok(self.place(site, priority))
    }

    fn place(&self, site: SiteId, priority: Priority) -> Place {
        Place {
            state: Arc::clone(&self.state),
            site,
            priority,
        }
    }

    /// Fetches that have a place, and fetches that wait for one.
    pub fn counts(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.running, state.waiting)
    }

    /// Places there are.
    pub fn places(&self) -> usize {
        lock(&self.state).places
    }
}

/// A fetch that waits, until it has its place.
struct Leaving<'a> {
    hydration: &'a Hydration,
    site: SiteId,
    priority: Priority,
    ticket: Option<Arc<Mutex<Ticket>>>,
}

impl Leaving<'_> {
    async fn granted(&self) {
        let Some(ticket) = &self.ticket else { return };
        poll_fn(|cx| {
            let mut ticket = lock(ticket);
            match *ticket {
                Ticket::Granted => Poll::Ready(()),
                Ticket::New | Ticket::Waiting(_) | Ticket::Left => {
                    *ticket = Ticket::Waiting(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else {
            return;
        };
        // Its waker goes after the lock: with a waker all that its task holds may go.
        let left = {
            let mut state = lock(&self.hydration.state);
            let left = std::mem::replace(&mut *lock(&ticket), Ticket::Left);
            if !matches!(left, Ticket::Granted) {
                state.leave(self.site, self.priority);
            }
            left
        };
        if matches!(left, Ticket::Granted) {
            // The place came just as nobody wanted it any more.
            drop(self.hydration.place(self.site, self.priority));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut woken = Vec::new();
        {
            let mut state = lock(&self.state);
            state.end(self.site, self.priority);
            while state.next(&mut woken) {}
        }
        for waker in woken {
            waker.wake();
        }
    }
}

impl State {
    /// At least one, so that nobody waits for ever.
    fn share(&self) -> usize {
        (self.places - self.places / 4).max(1)
    }

    fn background_share(&self) -> usize {
        (self.places / 4).max(1)
    }

    fn may_run(&self, site: SiteId, priority: Priority) -> bool {
        let of_origin = self.origins.get(&site).map_or(0, |origin| origin.running);
        let in_background =
            priority == Priority::Revalidation && self.background >= self.background_share();
        self.running < self.places && of_origin < self.share() && !in_background
    }

    fn has_waiting(&self, site: SiteId, priority: Priority) -> bool {
        let line = |origin: &Origin| {
            let line = origin.waiting.get(priority.index());
            line.is_some_and(|line| !line.is_empty())
        };
        self.origins.get(&site).is_some_and(line)
    }

    fn start(&mut self, site: SiteId, priority: Priority) {
        self.running += 1;
        self.background += usize::from(priority == Priority::Revalidation);
        self.origins.entry(site).or_default().running += 1;
    }

    fn end(&mut self, site: SiteId, priority: Priority) {
        self.running -= 1;
        self.background -= usize::from(priority == Priority::Revalidation);
        if let Some(origin) = self.origins.get_mut(&site) {
            origin.running -= 1;
        }
        self.tidy(site);
    }

    /// Forgets an origin that has nothing to do.
    fn tidy(&mut self, site: SiteId) {
        let idle = |origin: &Origin| origin.running == 0 && !origin.has_turn.contains(&true);
        if self.origins.get(&site).is_some_and(idle) {
            self.origins.remove(&site);
        }
    }

    fn queue(&mut self, site: SiteId, priority: Priority) -> Option<Arc<Mutex<Ticket>>> {
        let origin = self.origins.entry(site).or_default();
        let line = origin.waiting.get_mut(priority.index())?;
        if line.len() >= WAITING_MAX {
            return None;
        }
        let ticket = line.push();
        if let Some(has_turn) = origin.has_turn.get_mut(priority.index())
            && !std::mem::replace(has_turn, true)
            && let Some(turns) = self.turns.get_mut(priority.index())
        {
            turns.push_back(site);
        }
        self.waiting += 1;
        Some(ticket)
    }

    /// Somebody who waits has left.
    fn leave(&mut self, site: SiteId, priority: Priority) {
        self.waiting -= 1;
        let origin = self.origins.get_mut(&site);
        if let Some(line) = origin.and_then(|origin| origin.waiting.get_mut(priority.index())) {
            line.leave();
        }
    }

    /// Gives a place to whose turn it is, who is `woken` then. False if nobody may run.
    fn next(&mut self, woken: &mut Vec<Waker>) -> bool {
        for priority in Priority::ALL {
            let count = self.turns.get(priority.index()).map_or(0, VecDeque::len);
            for _ in 0..count {
                let turns = self.turns.get_mut(priority.index());
                let Some(site) = turns.and_then(VecDeque::pop_front) else {
                    break;
                };
                let runs = self.may_run(site, priority);
                let granted = runs.then(|| self.grant(site, priority)).flatten();
                let is_granted = granted.is_some();
                if is_granted {
                    self.waiting -= 1;
                    self.start(site, priority);
                }
                if let Some(Ticket::Waiting(waker)) = granted {
                    woken.push(waker);
                }
                self.turn_is_over(site, priority);
                if is_granted {
                    return true;
                }
            }
        }
        false
    }

    fn grant(&mut self, site: SiteId, priority: Priority) -> Option<Ticket> {
        let origin = self.origins.get_mut(&site)?;
        origin.waiting.get_mut(priority.index())?.grant()
    }

    /// An origin has another turn behind the others if more of its fetches wait.
    fn turn_is_over(&mut self, site: SiteId, priority: Priority) {
        let goes_on = self.has_waiting(site, priority);
        let origin = self.origins.get_mut(&site);
        if let Some(has_turn) = origin.and_then(|it| it.has_turn.get_mut(priority.index())) {
            *has_turn = goes_on;
        }
        match self.turns.get_mut(priority.index()) {
            Some(turns) if goes_on => turns.push_back(site),
            _ => self.tidy(site),
        }
    }
}

/// Everything behind these locks is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod costs;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::pin::Pin;
    use std::task::Context;

    const ONE: SiteId = SiteId(1);
    const TWO: SiteId = SiteId(2);
    use Priority::{Interactive, Revalidation};

    type Entering<'a> = Pin<Box<dyn Future<Output = Result<Place, Crowded>> + 'a>>;

    fn enter(hydration: &Hydration, site: SiteId, priority: Priority) -> Entering<'_> {
        Box::pin(hydration.enter(site, priority))
    }

    fn poll(entering: &mut Entering<'_>) -> Option<Place> {
        let mut cx = Context::from_waker(Waker::noop());
        match entering.as_mut().poll(&mut cx) {
            Poll::Ready(place) => Some(place.unwrap()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn clients_go_before_the_background_and_origins_take_turns() {
        let hydration = Hydration::new(1);
        let first = poll(&mut enter(&hydration, ONE, Interactive)).unwrap();
        let mut waiting: Vec<_> = [
            (ONE, Revalidation),
            (ONE, Interactive),
            (ONE, Interactive),
            (TWO, Interactive),
            (TWO, Revalidation),
        ]
        .map(|(site, priority)| Some(enter(&hydration, site, priority)))
        .into();
        let mut place = Some(first);
        let mut order = Vec::new();
        for _ in 0..waiting.len() {
            // All are polled, so that all stand in the queue.
            let mut next = None;
            for _ in 0..2 {
                for (at, entering) in waiting.iter_mut().enumerate() {
                    if let Some(found) = entering.as_mut().and_then(poll) {
                        order.push(at);
                        next = Some(found);
                        *entering = None;
                    }
                }
                drop(place.take());
            }
            place = next;
        }
        assert_eq!(order, [1, 3, 2, 0, 4]);
        assert_eq!(hydration.counts(), (1, 0));
    }

    #[test]
    fn an_origin_that_answers_nothing_leaves_room_for_others() {
        let hydration = Hydration::new(8);
        let hung: Vec<_> = (0..6)
            .map(|_| poll(&mut enter(&hydration, ONE, Interactive)).unwrap())
            .collect();
        let mut more = enter(&hydration, ONE, Interactive);
        assert!(poll(&mut more).is_none());
        let other = poll(&mut enter(&hydration, TWO, Interactive));
        assert!(other.is_some());
        assert_eq!(hydration.counts(), (7, 1));
        drop(hung);
        assert!(poll(&mut more).is_some());
    }

    #[test]
    fn what_nobody_waits_for_has_a_quarter() {
        let hydration = Hydration::new(8);
        let validating: Vec<_> = (0..2)
            .map(|_| poll(&mut enter(&hydration, ONE, Revalidation)).unwrap())
            .collect();
        assert!(poll(&mut enter(&hydration, TWO, Revalidation)).is_none());
        assert!(poll(&mut enter(&hydration, TWO, Interactive)).is_some());
        drop(validating);
    }

    #[test]
    fn too_many_are_refused_and_who_leaves_makes_room() {
        let hydration = Hydration::new(1);
        let running = poll(&mut enter(&hydration, ONE, Interactive)).unwrap();
        let mut waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| enter(&hydration, ONE, Interactive))
            .collect();
        assert!(waiting.iter_mut().all(|each| poll(each).is_none()));
        let mut cx = Context::from_waker(Waker::noop());
        let refused = enter(&hydration, ONE, Interactive).as_mut().poll(&mut cx);
        assert!(matches!(refused, Poll::Ready(Err(Crowded))));
        assert_eq!(hydration.refused.get(), 1);
        // Before anybody has had a turn.
        drop(waiting.split_off(1));
        let mut next = enter(&hydration, ONE, Interactive);
        assert!(poll(&mut next).is_none(), "it waits, and is not refused");
        assert_eq!(hydration.counts(), (1, 2));
        drop((waiting, next));
        assert_eq!(hydration.counts(), (1, 0));
        drop(running);
        assert!(poll(&mut enter(&hydration, ONE, Interactive)).is_some());
        assert!(lock(&hydration.state).origins.is_empty());
    }

    /// S9: forty fetches of 10 ms over four places take as many rounds of 10 ms as are in 150 ms,
    /// or fewer.
    #[test]
    fn a_backlog_keeps_every_place_busy() {
        let hydration = Hydration::new(4);
        let sites = [ONE, TWO].into_iter().cycle().take(40);
        let mut waiting: Vec<_> = sites
            .map(|site| enter(&hydration, site, Interactive))
            .collect();
        let mut rounds = 0;
        while !waiting.is_empty() {
            let mut running = Vec::new();
            waiting.retain_mut(|each| match poll(each) {
                Some(place) => {
                    running.push(place);
                    false
                }
                None => true,
            });
            rounds += 1;
            drop(running);
        }
        assert!(rounds <= 15, "{rounds}");
    }

    proptest! {
        /// Whatever enters, leaves early or ends: no bound is exceeded, nobody who may run waits,
        /// and nothing is left at the end.
        #[test]
        fn places_are_never_exceeded_nor_idle(
            places in 1_usize..6,
            steps in prop::collection::vec((0_u8..4, 0_usize..3, any::<bool>(), any::<usize>()), 0..80),
        ) {
            let hydration = Hydration::new(places);
            let mut waiting: Vec<(SiteId, Priority, Entering<'_>)> = Vec::new();
            let mut running: Vec<(SiteId, Priority, Place)> = Vec::new();
            for (step, site, client, pick) in steps {
                let priority = if client { Interactive } else { Revalidation };
                let site = SiteId(u64::try_from(site).unwrap());
                match step {
                    0 | 1 => waiting.push((site, priority, enter(&hydration, site, priority))),
                    2 if !running.is_empty() => {
                        drop(running.swap_remove(pick % running.len()));
                    }
                    3 if !waiting.is_empty() => {
                        drop(waiting.swap_remove(pick % waiting.len()));
                    }
                    _ => {}
                }
                let mut at = 0;
                while at < waiting.len() {
                    match poll(&mut waiting[at].2) {
                        Some(place) => {
                            let (site, priority, _) = waiting.remove(at);
                            running.push((site, priority, place));
                        }
                        None => at += 1,
                    }
                }
                let state = lock(&hydration.state);
                prop_assert_eq!((state.running, state.waiting), (running.len(), waiting.len()));
                prop_assert!(running.len() <= places);
                for site in (0..3).map(SiteId) {
                    let of_site = running.iter().filter(|(of, ..)| *of == site).count();
                    prop_assert!(of_site <= state.share());
                }
                let background = running.iter().filter(|(_, of, _)| *of == Revalidation).count();
                prop_assert!(background <= state.background_share());
                for (site, priority, _) in &waiting {
                    prop_assert!(!state.may_run(*site, *priority), "{site:?} {priority:?} may run");
                }
            }
            drop((waiting, running));
            prop_assert_eq!(hydration.counts(), (0, 0));
        }
    }
}

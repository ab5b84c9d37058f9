//! The connections of one worker, and their deadlines.
//!
//! Deadlines cost a request nothing but a store: each connection notes when it last moved, and a
//! sweep of the worker, a few times a second, ends those that have rested too long.

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

/// How often a worker looks at its connections.
pub const SWEEP: Duration = Duration::from_millis(100);
/// Bytes received at a time.
const RECEIVED: usize = 16 << 10;

/// What is allowed to a connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Bytes of a request head.
    pub head_bytes: usize,
    /// Fields of a request head.
    pub fields: usize,
    /// Time for a request head, from its first byte.
    pub head: Duration,
    /// Time without a byte: between requests, within a body, while a response waits for the
    /// client to take it.
    pub idle: Duration,
}

/// The connections of one worker.
#[derive(Debug)]
pub struct Connections {
    open: RefCell<Vec<Rc<Watch>>>,
    /// Sweeps so far: the clock of the deadlines.
    now: Cell<u64>,
    draining: Cell<bool>,
    received: RefCell<Box<[u8]>>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            open: RefCell::default(),
            now: Cell::new(0),
            draining: Cell::new(false),
            received: RefCell::new(vec![0; RECEIVED].into()),
        }
    }
}

/// What the sweep wants of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Nothing.
    GoOn,
    /// End after the current request.
    Drain,
    /// End now.
    Close,
}

/// What the sweep sees of a connection.
#[derive(Debug)]
struct Watch {
    place: Cell<usize>,
    /// When the connection last moved.
    moved: Cell<u64>,
    /// When the head that is arriving began.
    head_began: Cell<Option<u64>>,
    /// Whether an answer is being worked on or is arriving, which is no fault of the client.
    working: Cell<bool>,
    /// Whether the client has yet to send content, or to take what was sent to it.
    owing: Cell<bool>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
}

/// One connection's place among the others, until it drops.
#[derive(Debug)]
pub struct Watched {
    connections: Rc<Connections>,
    watch: Rc<Watch>,
}

impl Connections {
    /// Bytes arrive here; one for all connections of a worker, never held across a wait.
    #[inline]
    pub fn received(&self) -> RefMut<'_, Box<[u8]>> {
        self.received.borrow_mut()
    }

    /// Watches one more connection.
    pub fn open(self: &Rc<Self>) -> Watched {
        let mut open = self.open.borrow_mut();
        let watch = Rc::new(Watch {
            place: Cell::new(open.len()),
            moved: Cell::new(self.now.get()),
            head_began: Cell::new(None),
            working: Cell::new(false),
            owing: Cell::new(false),
            order: Cell::new(if self.draining.get() {
                Order::Drain
            } else {
                Order::GoOn
            }),
            waker: RefCell::new(None),
        });
        open.push(Rc::clone(&watch));
        Watched {
            connections: Rc::clone(self),
            watch,
        }
    }

    fn close(&self, watch: &Watch) {
        let mut open = self.open.borrow_mut();
        let place = watch.place.get();
        if place < open.len() {
            open.swap_remove(place);
            if let Some(moved) = open.get(place) {
                moved.place.set(place);
            }
        }
    }

    /// Advances the clock and ends connections that are over a deadline. How many those were.
    pub fn sweep(&self, limits: &ConnectionLimits) -> u64 {
        let now = self.now.get() + 1;
        self.now.set(now);
        let sweeps = |time: Duration| {
            u64::try_from(time.as_millis() / SWEEP.as_millis())
                .unwrap_or(u64::MAX)
                .max(1)
        };
        let (head, idle) = (sweeps(limits.head), sweeps(limits.idle));
        let mut ended = 0;
        for watch in self.open.borrow().iter() {
            let slow_head = watch
                .head_began
                .get()
                .is_some_and(|began| now - began > head);
            let clients_turn = watch.owing.get() || !watch.working.get();
            let resting = clients_turn && now - watch.moved.get() > idle;
            if slow_head || resting {
                ended += 1;
                watch.demand(Order::Close);
            }
        }
        ended
    }

    /// Ends every connection after its current request, the ones to come too.
    pub fn drain(&self) {
        self.draining.set(true);
        for watch in self.open.borrow().iter() {
            // Of a request that has not arrived whole nobody waits for the answer yet.
            let arriving = watch.head_began.get().is_some() && !watch.working.get();
            watch.demand(if arriving { Order::Close } else { Order::Drain });
        }
    }
}

impl Watch {
    fn demand(&self, order: Order) {
        self.order.set(self.order.get().max(order));
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

impl Watched {
    /// The connections of the worker.
    #[inline]
    pub fn all(&self) -> &Rc<Connections> {
        &self.connections
    }

    /// What the sweep wants; from now on it wakes `waker` when it wants more.
    #[inline]
    pub fn order(&self, waker: &Waker) -> Order {
        let mut known = self.watch.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
        self.watch.order.get()
    }

    /// Whether the connection is to end after the current request.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.watch.order.get() >= Order::Drain
    }

    /// A byte was received or sent.
    #[inline]
    pub fn moved(&self) {
        self.watch.moved.set(self.connections.now.get());
    }

    /// Whether a request head is arriving; its deadline counts from when it first was.
    #[inline]
    pub fn head_arrives(&self, arrives: bool) {
        match (arrives, self.watch.head_began.get()) {
            (true, None) => self.watch.head_began.set(Some(self.connections.now.get())),
            (false, Some(_)) => self.watch.head_began.set(None),
            _ => {}
        }
    }

    /// Whether an answer is being worked on or is arriving, which is no fault of the client.
    #[inline]
    pub fn set_working(&self, working: bool) {
        self.watch.working.set(working);
    }

    /// Whether the client has yet to send content, or to take what was sent to it.
    #[inline]
    pub fn set_owing(&self, owing: bool) {
        if owing && !self.watch.owing.get() {
            // Its time begins now: what it did before was up to others.
            self.moved();
        }
        self.watch.owing.set(owing);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.connections.close(&self.watch);
    }
}

//! The connections of one worker to origins, between requests.
//!
//! Over HTTP/1 a connection belongs to one request at a time and comes back when the response is
//! whole and nothing of it is in doubt; over HTTP/2 requests share one. Every list has a bound, and
//! what lies idle for too long is closed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use hyper::client::conn::http1;
use hyper::rt::Executor;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::h2::{Channel, Taken};
use super::outgoing::Outgoing;
use crate::tasks::LocalExecutor;

/// Idle connections that are kept for each address.
const IDLE_EACH_MAX: usize = 64;
/// Idle connections that are kept for all addresses together.
const IDLE_MAX: usize = 1024;
/// Idle connections are closed after this: sooner than common origins close theirs (nginx: 75 s).
const IDLE_AFTER: Duration = Duration::from_secs(55);
/// How often idle connections are looked through.
const SWEEP: Duration = Duration::from_secs(5);
/// Requests at once on one HTTP/2 connection, at most; an origin may allow fewer. The window of the
/// connection has room for so many.
const STREAMS_MAX: usize = 100;
/// HTTP/2 connections to one address; beyond them requests queue on the emptiest, within their
/// deadline.
const SHARED_MAX: usize = 16;

/// Names an address for the life of the process.
pub type EndpointId = u64;

/// The end of a connection that takes requests.
#[derive(Debug)]
pub enum Sender {
    /// Over HTTP/1.
    Http1(Alone),
    /// Over HTTP/2.
    Http2(Stream),
}

/// A connection over HTTP/1, which carries one request at a time.
#[derive(Debug)]
pub struct Alone {
    pub(super) sender: http1::SendRequest<Outgoing>,
    /// Whether a byte came since the request was sent.
    pub(super) heard: Rc<Cell<bool>>,
}

/// A place on a connection over HTTP/2.
#[derive(Debug)]
pub struct Stream {
    pub(super) channel: Channel,
    _taken: Taken,
}

/// The connection that a response comes over.
#[derive(Debug)]
pub struct Lease {
    pool: Pool,
    endpoint: EndpointId,
    sender: Sender,
    /// Whether the connection may carry another request.
    sound: bool,
}

impl Lease {
    /// The lease of `sender`, which leads to `endpoint`; `sound` unless the response is in doubt.
    pub(super) fn new(pool: &Pool, endpoint: EndpointId, sender: Sender, sound: bool) -> Self {
        Self {
            pool: pool.clone(),
            endpoint,
            sender,
            sound,
        }
    }

    /// The response is whole.
    pub(super) fn release(self) {
        let Sender::Http1(mut alone) = self.sender else {
            return;
        };
        if !self.sound {
            return;
        }
        let (pool, endpoint) = (self.pool, self.endpoint);
        // The connection finds out first whether more came than was asked for.
        LocalExecutor.execute(async move {
            if alone.sender.ready().await.is_ok() {
                pool.put(endpoint, alone);
            }
        });
    }
}

/// The connections of one worker.
#[derive(Clone, Debug, Default)]
pub struct Pool(Rc<RefCell<Idle>>, Rc<Notify>);

#[derive(Debug, Default)]
struct Idle {
    alone: HashMap<EndpointId, Vec<Resting>>,
    count: usize,
    shared: HashMap<EndpointId, Vec<Shared>>,
    /// Connections over HTTP/2 are made one at a time for each address.
    making: HashMap<EndpointId, Weak<Semaphore>>,
    sweeping: bool,
}

#[derive(Debug)]
struct Resting {
    alone: Alone,
    since: Instant,
}

#[derive(Debug)]
struct Shared {
    channel: Channel,
    used: Cell<Instant>,
}

impl Shared {
    fn stream(&self) -> Stream {
        self.used.set(Instant::now());
        Stream {
            channel: self.channel.clone(),
            _taken: self.channel.take(),
        }
    }

    fn has_room(&self) -> bool {
        self.channel.streams() < STREAMS_MAX.min(self.channel.streams_max())
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.channel.streams() == 0 && now.duration_since(self.used.get()) >= IDLE_AFTER
    }
}

impl Pool {
    /// A connection to `endpoint` that is open as far as is known.
    pub fn take(&self, endpoint: EndpointId) -> Option<Sender> {
        let mut idle = self.0.borrow_mut();
        idle.stream(endpoint)
            .map(Sender::Http2)
            .or_else(|| idle.alone(endpoint).map(Sender::Http1))
    }

    /// Keeps `alone` for the next request to `endpoint`, unless there are enough.
    fn put(&self, endpoint: EndpointId, alone: Alone) {
        let mut idle = self.0.borrow_mut();
        let since = Instant::now();
        if idle.count >= IDLE_MAX {
            return;
        }
        let resting = idle.alone.entry(endpoint).or_default();
        if resting.len() >= IDLE_EACH_MAX {
            return;
        }
        resting.push(Resting { alone, since });
        idle.count += 1;
        drop(idle);
        self.1.notify_waiters();
        self.watch();
    }

    /// Waits until a connection has come back, to whatever endpoint.
    pub(super) async fn returned(&self) {
        self.1.notified().await;
    }

    /// Shares a new connection to `endpoint`; a place on it.
    pub(super) fn share(&self, endpoint: EndpointId, channel: Channel) -> Stream {
        let shared = Shared {
            channel,
            used: Cell::new(Instant::now()),
        };
        let stream = shared.stream();
        self.0
            .borrow_mut()
            .shared
            .entry(endpoint)
            .or_default()
            .push(shared);
        self.watch();
        stream
    }

    /// Whose holder makes the next HTTP/2 connection to `endpoint`, while others wait.
    pub(super) fn making(&self, endpoint: EndpointId) -> Rc<Semaphore> {
        let mut idle = self.0.borrow_mut();
        let known = idle.making.get(&endpoint).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let semaphore = Rc::new(Semaphore::new(1));
            idle.making.retain(|_, known| known.strong_count() > 0);
            idle.making.insert(endpoint, Rc::downgrade(&semaphore));
            semaphore
        })
    }

    /// Has what rests for too long closed, for as long as anything rests.
    fn watch(&self) {
        if std::mem::replace(&mut self.0.borrow_mut().sweeping, true) {
            return;
        }
        let pool = Rc::downgrade(&self.0);
        LocalExecutor.execute(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(pool) = pool.upgrade() else { return };
                let mut idle = pool.borrow_mut();
                if !idle.sweep(Instant::now()) {
                    idle.sweeping = false;
                    return;
                }
            }
        });
    }
}

impl Idle {
    /// The connection that was used last: others may close.
    fn alone(&mut self, endpoint: EndpointId) -> Option<Alone> {
        let resting = self.alone.get_mut(&endpoint)?;
        while let Some(Resting { alone, since }) = resting.pop() {
            self.count -= 1;
            if alone.sender.is_ready() && since.elapsed() < IDLE_AFTER {
                return Some(alone);
            }
        }
        None
    }

    fn stream(&mut self, endpoint: EndpointId) -> Option<Stream> {
        let shared = self.shared.get_mut(&endpoint)?;
        shared.retain_mut(|shared| shared.channel.is_open());
        let free = shared.iter().find(|shared| shared.has_room());
        let full = || {
            let emptiest = shared.iter().min_by_key(|shared| shared.channel.streams());
            emptiest.filter(|_| shared.len() >= SHARED_MAX)
        };
        free.or_else(full).map(Shared::stream)
    }

    /// Drops what is closed or has rested for too long; whether anything is left.
    fn sweep(&mut self, now: Instant) -> bool {
        for resting in self.alone.values_mut() {
            resting.retain(|resting| {
                !resting.alone.sender.is_closed() && now.duration_since(resting.since) < IDLE_AFTER
            });
        }
        self.alone.retain(|_, resting| !resting.is_empty());
        self.count = self.alone.values().map(Vec::len).sum();
        for shared in self.shared.values_mut() {
            shared.retain_mut(|shared| shared.channel.is_open() && !shared.is_idle(now));
        }
        self.shared.retain(|_, shared| !shared.is_empty());
        self.count > 0 || !self.shared.is_empty()
    }
}

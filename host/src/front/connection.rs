//! One client connection: its bytes watched on their way in, its deadlines, its end.
//!
//! Deadlines cost a request nothing but a store: each connection notes when it last moved, and a
//! sweep of the worker, a few times a second, ends those that have rested too long.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use rustix::net;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::body::{BrokenOff, ResponseBody};
use super::exchange::{self, Answer};
use super::framing::{FILLER, Framing, Phase};
use super::worker::Worker;

/// How often a worker looks at its connections.
pub const SWEEP: Duration = Duration::from_millis(100);

/// What is allowed to a connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Bytes buffered for a request head.
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
#[derive(Debug, Default)]
pub struct Connections {
    open: RefCell<Vec<Rc<Watch>>>,
    /// Sweeps so far: the clock of the deadlines.
    now: Cell<u64>,
    draining: Cell<bool>,
    scratch: Rc<RefCell<Scratch>>,
}

/// Where bytes pass through; one for all connections of a worker.
#[derive(Debug)]
struct Scratch {
    /// Reads arrive here.
    received: Box<[u8]>,
    /// Small writes are put together here.
    joined: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            received: vec![0; RECEIVED].into(),
            joined: Vec::with_capacity(COPIED_WRITE),
        }
    }
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
    /// Whether an answer broke off, so that the connection must not end as if it were whole.
    broken: Cell<bool>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
}

/// What the sweep wants of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    GoOn,
    /// End after the current request.
    Drain,
    Close,
}

impl Connections {
    fn open(&self) -> Rc<Watch> {
        let mut open = self.open.borrow_mut();
        let watch = Rc::new(Watch {
            place: Cell::new(open.len()),
            moved: Cell::new(self.now.get()),
            head_began: Cell::new(None),
            working: Cell::new(false),
            owing: Cell::new(false),
            broken: Cell::new(false),
            order: Cell::new(if self.draining.get() {
                Order::Drain
            } else {
                Order::GoOn
            }),
            waker: RefCell::new(None),
        });
        open.push(Rc::clone(&watch));
        watch
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
            if watch.working.get() && watch.head_began.get().is_some() {
                // A head that waits behind an answer is not read, so it is not late.
                watch.head_began.set(Some(now));
            }
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

/// Serves the requests of one connection until it ends.
pub struct Connection {
    http: http1::Connection<TokioIo<Watched>, Requests>,
    watch: Rc<Watch>,
    connections: Rc<Connections>,
    draining: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("watch", &self.watch)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Serves `stream`, which belongs to `client`.
    pub fn new(
        worker: &Rc<Worker>,
        connections: &Rc<Connections>,
        limits: &ConnectionLimits,
        (stream, client): (TcpStream, IpAddr),
    ) -> Self {
        let watch = connections.open();
        let io = Watched {
            stream,
            framing: Framing::new(limits.head_bytes),
            watch: Rc::clone(&watch),
            connections: Rc::clone(connections),
            scratch: Rc::clone(&connections.scratch),
        };
        let requests = Requests {
            worker: Rc::clone(worker),
            client,
            watch: Rc::clone(&watch),
        };
        let http = http1::Builder::new()
            // The sweep does it, at no cost to a request.
            .header_read_timeout(None)
            .max_headers(limits.fields)
            .max_buf_size(limits.head_bytes)
            .half_close(false)
            .serve_connection(TokioIo::new(io), requests);
        Self {
            http,
            watch,
            connections: Rc::clone(connections),
            draining: false,
        }
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let connection = self.get_mut();
        match connection.watch.order.get() {
            Order::Close => return Poll::Ready(()),
            Order::Drain if !connection.draining => {
                connection.draining = true;
                Pin::new(&mut connection.http).graceful_shutdown();
            }
            Order::Drain | Order::GoOn => {}
        }
        {
            let mut waker = connection.watch.waker.borrow_mut();
            if !waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                *waker = Some(cx.waker().clone());
            }
        }
        // How a connection ended matters to nobody: broken responses were counted where they broke.
        Pin::new(&mut connection.http).poll(cx).map(|ended| {
            if let Err(error) = ended {
                tracing::trace!(%error, "a client connection ended");
            }
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.close(&self.watch);
    }
}

/// Hands requests to the exchange.
#[derive(Debug)]
pub struct Requests {
    worker: Rc<Worker>,
    client: IpAddr,
    watch: Rc<Watch>,
}

impl Service<Request<Incoming>> for Requests {
    type Response = http::Response<WorkedOn>;
    type Error = Infallible;
    type Future = Working;

    fn call(&self, request: Request<Incoming>) -> Working {
        let answer = exchange::answer(&self.worker, request, self.client);
        let work = matches!(answer, Answer::Later(_)).then(|| Work::new(&self.watch));
        Working { answer, work }
    }
}

/// Work on an answer, from the request until all of the answer is there to be sent.
#[derive(Debug)]
struct Work(Rc<Watch>);

impl Work {
    fn new(watch: &Rc<Watch>) -> Self {
        watch.working.set(true);
        Self(Rc::clone(watch))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.working.set(false);
    }
}

/// An answer being worked on.
#[derive(Debug)]
pub struct Working {
    answer: Answer,
    work: Option<Work>,
}

impl Future for Working {
    type Output = Result<http::Response<WorkedOn>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let working = self.get_mut();
        let Ok(response) = std::task::ready!(Pin::new(&mut working.answer).poll(cx));
        let work = working.work.take();
        Poll::Ready(Ok(response.map(|body| WorkedOn { body, work })))
    }
}

/// The body of an answer, which may still be arriving.
#[derive(Debug)]
pub struct WorkedOn {
    body: ResponseBody,
    /// Ends when the body is sent or given up.
    work: Option<Work>,
}

impl Body for WorkedOn {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let arriving = self.get_mut();
        let frame = std::task::ready!(Pin::new(&mut arriving.body).poll_frame(cx));
        if let (Some(Err(BrokenOff)), Some(work)) = (&frame, &arriving.work) {
            work.0.broken.set(true);
        }
        if frame.is_none() {
            arriving.work = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bytes up to which the slices of a write are copied together.
const COPIED_WRITE: usize = 4 << 10;
/// Bytes read at a time.
const RECEIVED: usize = 16 << 10;

/// The stream of a connection, watched.
#[derive(Debug)]
pub struct Watched {
    stream: TcpStream,
    framing: Framing,
    watch: Rc<Watch>,
    connections: Rc<Connections>,
    scratch: Rc<RefCell<Scratch>>,
}

impl Watched {
    #[inline]
    fn moved(&self) {
        self.watch.moved.set(self.connections.now.get());
    }

    /// Notes what became of a write.
    #[inline]
    fn wrote(&self, sent: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let blocked = sent.is_pending();
        if !blocked {
            self.moved();
        }
        self.watch
            .owing
            .set(blocked || self.framing.phase() == Phase::Content);
        sent
    }

    /// Reads as `TcpStream` does, by a plain system call: the C library's is a cancellation point,
    /// whose bookkeeping costs a hundredth of a hit. Goes through memory that is initialised
    /// already, which costs less than initialising what the caller offers.
    #[inline]
    fn receive(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            std::task::ready!(self.stream.poll_read_ready(cx))?;
            let received = &mut self.scratch.borrow_mut().received;
            let wanted = buf.remaining().min(received.len());
            let room = received.get_mut(..wanted).unwrap_or_default();
            let received = self.stream.try_io(Interest::READABLE, || {
                let (received, _) = net::recv(&self.stream, &mut *room, net::RecvFlags::empty())?;
                Ok(received)
            });
            match received {
                Ok(received) => {
                    buf.put_slice(room.get(..received).unwrap_or_default());
                    if received > 0 && received < wanted {
                        // All there was: the next read waits for the next event instead of asking
                        // the kernel in vain. Nothing can be missed, because events are only taken
                        // in on this thread, between tasks.
                        let drained = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                        drop(self.stream.try_io(Interest::READABLE, drained));
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// Writes as `TcpStream` does, by a plain system call.
#[inline]
fn send(stream: &TcpStream, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        std::task::ready!(stream.poll_write_ready(cx))?;
        let sent = stream.try_io(Interest::WRITABLE, || {
            Ok(net::send(stream, bytes, net::SendFlags::NOSIGNAL)?)
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            sent => return Poll::Ready(sent),
        }
    }
}

impl Drop for Watched {
    /// A body without a length (HTTP/1.0) ends with its connection, so one that broke off is reset.
    fn drop(&mut self) {
        if self.watch.broken.get()
            && let Err(error) = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
        {
            tracing::debug!(%error, "a broken answer could not be reset");
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let watched = self.get_mut();
        if watched.framing.is_oversized() {
            // The library answers 431 once its buffer is full.
            while buf.remaining() > 0 {
                let filler = [FILLER; 1 << 10];
                let some = filler.get(..buf.remaining()).unwrap_or(&filler);
                buf.put_slice(some);
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        std::task::ready!(watched.receive(cx, buf))?;
        let Some(new) = buf
            .filled_mut()
            .get_mut(before..)
            .filter(|new| !new.is_empty())
        else {
            return Poll::Ready(Ok(()));
        };
        watched.framing.watch(new);
        watched.moved();
        let began = &watched.watch.head_began;
        let phase = watched.framing.phase();
        watched.watch.owing.set(phase == Phase::Content);
        match phase {
            Phase::Head if began.get().is_none() => began.set(Some(watched.connections.now.get())),
            Phase::Head => {}
            Phase::Between | Phase::Content => began.set(None),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let watched = self.get_mut();
        let sent = send(&watched.stream, cx, bytes);
        watched.wrote(sent)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let watched = self.get_mut();
        // A head and a small body go out faster in one copied piece than in two gathered ones.
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let sent = if total <= COPIED_WRITE {
            let joined = &mut watched.scratch.borrow_mut().joined;
            joined.clear();
            for slice in slices {
                joined.extend_from_slice(slice);
            }
            send(&watched.stream, cx, joined)
        } else {
            let stream = Pin::new(&mut watched.stream);
            stream.poll_write_vectored(cx, slices)
        };
        watched.wrote(sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

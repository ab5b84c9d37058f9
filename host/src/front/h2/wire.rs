//! The byte stream under an HTTP/2 connection: what arrives is counted on its way in, and the
//! deadlines of the connection follow what moves.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::Frames;
use crate::clock;
use crate::front::connections::Watched;
use crate::front::transport::Transport;

/// What the wire, the connection and its streams know of one another.
#[derive(Debug)]
pub struct Link {
    /// The connection's place among the others.
    pub watched: Watched,
    frames: RefCell<Frames>,
    /// Streams that are being answered.
    streams: Cell<usize>,
    /// Whether anything was heard since that was last asked.
    heard: Cell<bool>,
    flooded: Cell<bool>,
    draining: Cell<bool>,
    /// What is left when the connection is over.
    left: RefCell<Option<Transport>>,
}

/// The byte stream, as the library reads and writes it.
#[derive(Debug)]
pub struct Wire {
    transport: Option<Transport>,
    /// What had arrived before.
    received: Vec<u8>,
    link: Rc<Link>,
}

/// One stream that is being answered.
#[derive(Debug)]
pub struct Open(Rc<Link>);

impl Link {
    /// A link for the connection `watched`, whose first bytes are awaited.
    pub fn new(watched: Watched) -> Rc<Self> {
        watched.head_arrives(true);
        Rc::new(Self {
            watched,
            frames: RefCell::default(),
            streams: Cell::new(0),
            heard: Cell::new(false),
            flooded: Cell::new(false),
            draining: Cell::new(false),
            left: RefCell::new(None),
        })
    }

    /// Counts one more stream, until what is returned drops.
    pub fn open(self: &Rc<Self>) -> Open {
        self.streams.set(self.streams.get() + 1);
        self.watched.set_working(true);
        self.watched.moved();
        Open(Rc::clone(self))
    }

    fn close(&self) {
        let left = self.streams.get().saturating_sub(1);
        self.streams.set(left);
        if left == 0 {
            self.watched.set_working(false);
            self.watched.moved();
            self.note_arrivals();
        }
    }

    /// From now on no more requests are expected.
    pub fn drain(&self) {
        self.draining.set(true);
        self.note_arrivals();
    }

    /// Whether anything was heard since the last call.
    pub fn was_heard(&self) -> bool {
        self.heard.replace(false)
    }

    /// Whether the client floods us.
    pub fn is_flooded(&self) -> bool {
        self.flooded.get()
    }

    /// What is left of the connection, once it is dropped.
    pub fn left(&self) -> Option<Transport> {
        self.left.take()
    }

    /// A client that has nothing more to get has the time for a head to let go.
    fn note_arrivals(&self) {
        let leaving = self.draining.get() && self.streams.get() == 0;
        let arriving = self.frames.borrow().is_head_arriving();
        self.watched.head_arrives(arriving || leaving);
    }

    fn received(&self, bytes: &[u8]) -> bool {
        self.heard.set(true);
        let taken = self.frames.borrow_mut().take(bytes, clock::coarse);
        self.flooded.set(taken.is_err());
        self.note_arrivals();
        taken.is_ok()
    }

    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        let Poll::Ready(Ok(bytes)) = written else {
            self.watched.set_owing(written.is_pending());
            return;
        };
        self.frames.borrow_mut().sent(*bytes);
        // Whoever only asks whether we are there is idle all the same.
        if self.streams.get() > 0 {
            self.watched.moved();
        }
        self.watched.set_owing(false);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Wire {
    /// `transport`, of which `received` has arrived already.
    pub fn new(transport: Transport, received: Vec<u8>, link: &Rc<Link>) -> Self {
        Self {
            transport: Some(transport),
            received,
            link: Rc::clone(link),
        }
    }

    fn transport(&mut self) -> io::Result<Pin<&mut Transport>> {
        let transport = self.transport.as_mut().map(Pin::new);
        transport.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.received.is_empty() {
            return self.transport()?.poll_read(cx, room);
        }
        let count = self.received.len().min(room.remaining());
        room.put_slice(self.received.get(..count).unwrap_or_default());
        self.received.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        *self.link.left.borrow_mut() = self.transport.take();
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if wire.link.is_flooded() {
            return Poll::Pending;
        }
        let before = room.filled().len();
        std::task::ready!(wire.poll_receive(cx, room))?;
        let bytes = room.filled().get(before..).unwrap_or_default();
        if !bytes.is_empty() && !wire.link.received(bytes) {
            // Nothing more is read; the connection says why and ends.
            room.set_filled(before);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        let written = wire.transport()?.poll_write(cx, bytes);
        wire.link.wrote(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        let written = wire.transport()?.poll_write_vectored(cx, slices);
        wire.link.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        let flushed = wire.transport()?.poll_flush(cx);
        wire.link.watched.set_owing(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().transport()?.poll_shutdown(cx)
    }
}

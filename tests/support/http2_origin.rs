//! An origin over HTTP/2 that does what a test says, frame by frame, whether the protocol allows it
//! or not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use h2::Reason;

use super::PATIENCE;
use super::edge::Setup;
use super::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, frame, frames,
};
use super::secure::accept;

const ACK: u8 = 1;
/// Requests at once, as a setting (RFC 9113 6.5.2).
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;

/// An origin over HTTP/2.
pub(crate) struct FrameOrigin {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

/// One connection, as the origin sees it.
pub(crate) struct Talk {
    stream: TcpStream,
    /// How many there were before.
    pub(crate) number: usize,
}

impl FrameOrigin {
    /// Has every connection served by `serve`, on a thread of its own, until that returns.
    pub(crate) fn start(serve: impl Fn(Talk) + Send + Sync + 'static) -> Self {
        Self::with_settings(&[], serve)
    }

    /// The same, with these settings.
    pub(crate) fn with_settings(
        settings: &[(u16, u32)],
        serve: impl Fn(Talk) + Send + Sync + 'static,
    ) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let (counts, serve) = (Arc::clone(&connections), Arc::new(serve));
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        let address = accept(move |stream| {
            let number = counts.fetch_add(1, Ordering::SeqCst);
            stream
                .set_read_timeout(Some(PATIENCE))
                .and_then(|()| stream.set_nodelay(true))
                .expect("socket options");
            let mut talk = Talk { stream, number };
            let mut preface = [0; 24];
            if talk.stream.read_exact(&mut preface).is_ok() {
                assert!(preface.starts_with(b"PRI * HTTP/2.0"), "it begins wrong");
                talk.send(&frame(SETTINGS, 0, 0, &payload));
                serve(talk);
            }
        });
        Self {
            address,
            connections,
        }
    }

    /// Answers every request with 200 and the number of its connection.
    pub(crate) fn answering() -> Self {
        Self::start(Talk::answer_all)
    }

    /// Number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// An edge before it, with further lines for its site.
    pub(crate) fn edge(&self, lines: &str) -> Setup {
        Setup::new().config(&format!(
            "[[site]]\norigin = \"http://{}\"\norigin_protocol = \"h2\"\n{lines}",
            self.address
        ))
    }
}

impl Talk {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // The edge may have left, as the test wants it to.
        drop(self.stream.write_all(bytes));
    }

    /// The next frame that a test has to know of; none once the edge has left. Settings and pings
    /// are answered.
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        loop {
            let frame = self.any_frame()?;
            match frame.kind {
                SETTINGS | PING if frame.flags & ACK == 0 => {
                    let payload = match frame.kind {
                        PING => frame.payload,
                        _ => Vec::new(),
                    };
                    self.send(&super::http2::frame(frame.kind, ACK, 0, &payload));
                }
                SETTINGS | PING | WINDOW_UPDATE => {}
                _ => return Some(frame),
            }
        }
    }

    fn any_frame(&mut self) -> Option<Frame> {
        let mut bytes = vec![0; 9];
        self.stream.read_exact(&mut bytes).ok()?;
        let length = usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8;
        let length = length | usize::from(bytes[2]);
        bytes.resize(9 + length, 0);
        self.stream.read_exact(&mut bytes[9..]).ok()?;
        frames(&bytes).pop()
    }

    /// The stream of the next request; none once the edge has left.
    pub(crate) fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.frame()?;
            if frame.kind == HEADERS {
                return Some(frame.stream);
            }
        }
    }

    /// What comes next on `stream` by way of content, and whether that is all.
    pub(crate) fn content(&mut self, stream: u32) -> Option<(Vec<u8>, bool)> {
        loop {
            let frame = self.frame()?;
            if (frame.kind, frame.stream) == (DATA, stream) {
                return Some((frame.payload, frame.flags & END_STREAM != 0));
            }
        }
    }

    /// Why `stream` was reset, once it is.
    pub(crate) fn was_reset(&mut self, stream: u32) -> Option<Reason> {
        loop {
            let frame = self.frame()?;
            if (frame.kind, frame.stream) == (RST_STREAM, stream) {
                return Some(frame.reason());
            }
        }
    }

    /// Whether the edge sends anything on a stream before it answers a ping.
    pub(crate) fn is_sent_before_pong(&mut self) -> bool {
        self.send(&frame(PING, 0, 0, &[7; 8]));
        let mut sent = false;
        while let Some(frame) = self.any_frame() {
            match frame.kind {
                PING if frame.flags & ACK != 0 => return sent,
                HEADERS | DATA => sent = true,
                _ => {}
            }
        }
        sent
    }

    /// Sends a head, in several frames if it is large (RFC 9113 6.10).
    pub(crate) fn head(&mut self, stream: u32, fields: &[(&str, &str)], ends: bool) {
        let flags = if ends { END_STREAM } else { 0 };
        let block = block(fields);
        let mut parts = block.chunks(16_384).peekable();
        let mut kind = HEADERS;
        while let Some(part) = parts.next() {
            let mut flags = if kind == HEADERS { flags } else { 0 };
            if parts.peek().is_none() {
                flags |= END_HEADERS;
            }
            self.send(&frame(kind, flags, stream, part));
            kind = CONTINUATION;
        }
    }

    pub(crate) fn data(&mut self, stream: u32, content: &[u8], ends: bool) {
        let flags = if ends { END_STREAM } else { 0 };
        self.send(&frame(DATA, flags, stream, content));
    }

    pub(crate) fn reset(&mut self, stream: u32, reason: Reason) {
        let code = u32::from(reason).to_be_bytes();
        self.send(&frame(RST_STREAM, 0, stream, &code));
    }

    /// Leaves; the requests up to the stream `last` are still answered.
    pub(crate) fn leave(&mut self, last: u32) {
        let mut payload = last.to_be_bytes().to_vec();
        payload.extend(u32::from(Reason::NO_ERROR).to_be_bytes());
        self.send(&frame(GOAWAY, 0, 0, &payload));
    }

    /// Lets the edge send `bytes` more on `stream`, or on the connection if that is 0.
    pub(crate) fn allow(&mut self, stream: u32, bytes: u32) {
        self.send(&frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes()));
    }

    /// Answers `stream` with `text`.
    pub(crate) fn answer(&mut self, stream: u32, text: &str) {
        self.head(stream, &[(":status", "200")], false);
        self.data(stream, text.as_bytes(), true);
    }

    /// Answers every further request with the number of the connection.
    pub(crate) fn answer_all(mut self) {
        while let Some(stream) = self.request() {
            let number = self.number.to_string();
            self.answer(stream, &number);
        }
    }

    /// Waits until the edge leaves.
    pub(crate) fn listen(mut self) {
        while self.frame().is_some() {}
    }
}

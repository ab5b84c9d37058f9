//! A client that sends exactly the bytes it is told to, and reads responses strictly.
//!
//! A response that breaks HTTP/1.1 framing fails the test; a body that breaks off is an answer
//! ([`Broken`]), because some tests demand it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::PATIENCE;

/// The authority that requests name unless they bring a `Host` of their own.
pub(crate) const HOST: &str = "edge.test";

/// One connection to the edge.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    /// Read and not yet used.
    buffer: Vec<u8>,
    ended: bool,
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) version: String,
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
}

/// A whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

/// A body that ended before its framing said so, or a connection that ended before a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// What came of the body.
    pub(crate) body: Vec<u8>,
}

/// How the length of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
    Close,
}

impl Head {
    /// The value of the field, lines joined by a comma; `None` if there is none.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let lines = self.lines(name);
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    /// Each line of the field.
    pub(crate) fn lines(&self, name: &str) -> Vec<&str> {
        let named = self
            .fields
            .iter()
            .filter(|(own, _)| own.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The framing of the body in answer to `method` (RFC 9112 6.3).
    pub(crate) fn framing(&self, method: &str) -> Framing {
        let coding = self.field("transfer-encoding");
        let lengths = self.lines("content-length");
        assert!(lengths.len() <= 1, "more than one length: {self:?}");
        assert!(
            coding.is_none() || lengths.is_empty(),
            "length and coding: {self:?}"
        );
        if method == "HEAD" || matches!(self.status, 100..=199 | 204 | 304) {
            return Framing::None;
        }
        match (coding, lengths.first()) {
            (Some(coding), _) => {
                assert_eq!(coding, "chunked");
                Framing::Chunked
            }
            (None, Some(length)) => Framing::Length(length.parse().expect("a decimal length")),
            (None, None) => Framing::Close,
        }
    }
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    /// The value of the field, lines joined by a comma.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        self.head.field(name)
    }

    /// `Cache-Status`, which every response of a site carries.
    #[track_caller]
    pub(crate) fn cache_status(&self) -> String {
        let status = self.field("cache-status");
        status.unwrap_or_else(|| panic!("no Cache-Status: {:?}", self.head))
    }

    /// `Age` in seconds.
    pub(crate) fn age(&self) -> Option<u64> {
        self.field("age")
            .map(|age| age.parse().expect("Age is a number"))
    }

    pub(crate) fn is_hit(&self) -> bool {
        self.cache_status().starts_with("larder; hit")
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    /// Connects.
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("the edge listens")
    }

    /// Connects to an edge that may be gone.
    #[track_caller]
    pub(crate) fn try_connect(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket option");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        Some(Self {
            stream,
            buffer: Vec::new(),
            ended: false,
        })
    }

    /// Sends `bytes` as they are.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the edge reads");
    }

    /// Sends `bytes`, which the edge may refuse to read to the end.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends `bytes`, and does not mind if the edge answers and closes before it has read them.
    pub(crate) fn offer(&mut self, bytes: impl AsRef<[u8]>) {
        drop(self.try_send(bytes));
    }

    /// Sends no more, and goes on reading.
    pub(crate) fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("connected");
    }

    /// The same, if the connection is still there.
    pub(crate) fn half_close_if_open(&mut self) {
        drop(self.stream.shutdown(Shutdown::Write));
    }

    /// One request and its answer.
    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.request("GET", target, &[], b"")
    }

    /// One request with `fields` and its answer.
    #[track_caller]
    pub(crate) fn get_with(&mut self, target: &str, fields: &[(&str, &str)]) -> Response {
        self.request("GET", target, fields, b"")
    }

    /// One request and its whole answer.
    #[track_caller]
    pub(crate) fn request(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        self.send(request(method, target, fields, body));
        self.response(method)
    }

    /// The whole answer to a request by `method` that was sent.
    #[track_caller]
    pub(crate) fn response(&mut self, method: &str) -> Response {
        self.try_response(method).expect("a whole response")
    }

    /// The answer to a request by `method` that was sent, whole or broken off.
    #[track_caller]
    pub(crate) fn try_response(&mut self, method: &str) -> Result<Response, Broken> {
        let head = self.try_head()?;
        let mut body = Vec::new();
        match self.read_body(&head, method, |piece| body.extend_from_slice(piece)) {
            Ok(()) => Ok(Response { head, body }),
            Err(()) => Err(Broken { body }),
        }
    }

    /// The head of the next response.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Head {
        self.try_head().expect("a response")
    }

    /// The head of the next response, unless the connection ends first.
    #[track_caller]
    pub(crate) fn try_head(&mut self) -> Result<Head, Broken> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Ok(parse_head(&head[..end]));
            }
            assert!(self.buffer.len() < 1 << 20, "a head without end");
            if !self.fill() {
                return Err(Broken {
                    body: std::mem::take(&mut self.buffer),
                });
            }
        }
    }

    /// Hands the body after `head` to `take`, piece by piece; an error if it broke off.
    #[track_caller]
    pub(crate) fn read_body(
        &mut self,
        head: &Head,
        method: &str,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), ()> {
        match head.framing(method) {
            Framing::None => Ok(()),
            Framing::Length(length) => self.exactly(length, &mut take),
            Framing::Close => {
                while self.buffer_some() {
                    take(&std::mem::take(&mut self.buffer));
                }
                // The end of the connection is the end of the body, if it was an orderly one.
                Ok(())
            }
            Framing::Chunked => loop {
                let line = self.line().ok_or(())?;
                let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
                let size = std::str::from_utf8(size).expect("a chunk size");
                let size = u64::from_str_radix(size.trim(), 16).expect("a chunk size");
                if size == 0 {
                    while !self.line().ok_or(())?.is_empty() {}
                    return Ok(());
                }
                self.exactly(size, &mut take)?;
                assert_eq!(self.line().ok_or(())?, b"", "a chunk ends with CR LF");
            },
        }
    }

    /// Some bytes of what comes next, unparsed; empty at the end of the connection.
    #[track_caller]
    pub(crate) fn some(&mut self) -> Vec<u8> {
        self.buffer_some();
        std::mem::take(&mut self.buffer)
    }

    /// Exactly `count` bytes of what comes next, unparsed.
    #[track_caller]
    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(
                self.fill(),
                "the connection ended after {} of {count}",
                self.buffer.len()
            );
        }
        self.buffer.drain(..count).collect()
    }

    /// Everything until the edge closes the connection.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.buffer)
    }

    /// Waits until the edge closes the connection, and fails if it says anything more.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self) {
        let rest = self.rest();
        assert!(
            rest.is_empty(),
            "more came: {:?}",
            String::from_utf8_lossy(&rest)
        );
    }

    /// Whether nothing arrives and nothing ends for `time`. A negative is only ever as sure as
    /// the time is long.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> bool {
        if !self.buffer.is_empty() || self.ended {
            return false;
        }
        self.stream
            .set_read_timeout(Some(time))
            .expect("a socket option");
        let mut byte = [0];
        let read = self.stream.peek(&mut byte);
        self.stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket option");
        read.is_err_and(|error| is_timeout(error.kind()))
    }

    /// Leaves with a reset, as a process that is killed with unread data does.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket
            .set_linger(Some(Duration::ZERO))
            .expect("a socket option");
    }

    /// The connection, of which nothing was read yet.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Makes the receive window small, for a client that does not keep up.
    pub(crate) fn read_slowly(&self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket
            .set_recv_buffer_size(16 << 10)
            .expect("a socket option");
    }

    fn exactly(&mut self, length: u64, take: &mut impl FnMut(&[u8])) -> Result<(), ()> {
        let mut left = length;
        while left > 0 {
            if !self.buffer_some() {
                return Err(());
            }
            let count = self
                .buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            take(&self.buffer[..count]);
            self.buffer.drain(..count);
            left -= super::pattern::to_u64(count);
        }
        Ok(())
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line = self.buffer.drain(..end + 2).take(end).collect();
                return Some(line);
            }
            if !self.fill() {
                return None;
            }
        }
    }

    #[track_caller]
    fn buffer_some(&mut self) -> bool {
        !self.buffer.is_empty() || self.fill()
    }

    /// Reads once; false at the end of the connection.
    #[track_caller]
    fn fill(&mut self) -> bool {
        if self.ended {
            return false;
        }
        let start = Instant::now();
        let mut piece = [0; 16 << 10];
        match self.stream.read(&mut piece) {
            Ok(0) => self.ended = true,
            Ok(count) => self.buffer.extend_from_slice(&piece[..count]),
            Err(error) if is_timeout(error.kind()) => {
                let so_far = String::from_utf8_lossy(&self.buffer).into_owned();
                panic!("nothing came for {:?}; so far: {so_far:?}", start.elapsed());
            }
            Err(_) => self.ended = true,
        }
        !self.ended
    }
}

/// The bytes of a request. `Host` is added unless `fields` have one, and a length if there is a
/// body and no framing in `fields`.
pub(crate) fn request(method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let has = |name: &str| fields.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    if !has("host") {
        head.extend(["Host: ", HOST, "\r\n"]);
    }
    for (name, value) in fields {
        head.extend([name, ": ", value, "\r\n"]);
    }
    if !body.is_empty() && !has("content-length") && !has("transfer-encoding") {
        head.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn parse_head(head: &[u8]) -> Head {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let mut words = status_line.splitn(3, ' ');
    let version = words.next().unwrap_or_default().to_owned();
    assert!(
        version.starts_with("HTTP/1."),
        "not a status line: {status_line:?}"
    );
    let status = words.next().and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
    let fields = lines.map(|line| {
        let (name, value) = line
            .split_once(':')
            .unwrap_or_else(|| panic!("not a field: {line:?}"));
        let is_name = !name.is_empty() && !name.contains([' ', '\t', '\r', '\n']);
        assert!(
            is_name && !value.contains(['\r', '\n']),
            "not a field: {line:?}"
        );
        (name.to_owned(), value.trim().to_owned())
    });
    Head {
        version,
        status,
        fields: fields.collect(),
    }
}

/// Where `needle` begins.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

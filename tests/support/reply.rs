//! What a scripted origin answers: a description of one response, down to how it breaks off.

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::{PATIENCE, pattern};

/// A door that stays shut until it is opened; then it stays open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().expect("nobody panics in here") = true;
        self.0.1.notify_all();
    }

    /// Waits until it is open. Gives up without a word after twice the patience of the tests:
    /// whoever waits for what is behind it has complained by then.
    pub(crate) fn pass(&self) {
        let open = self.0.0.lock().expect("nobody panics in here");
        let waited = self
            .0
            .1
            .wait_timeout_while(open, PATIENCE * 2, |open| !*open);
        drop(waited.expect("nobody panics in here"));
    }
}

/// How the body's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Length,
    Chunked,
    Close,
}

/// How a response ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The connection is closed.
    Close,
    /// The connection is reset.
    Reset,
    /// Nothing more comes, until the origin goes.
    Hang,
}

#[derive(Clone, Debug)]
enum Body {
    Bytes(Arc<[u8]>),
    /// Bytes of the pattern, from the first number up to but without the second.
    Pattern(u64, u64),
}

#[derive(Clone, Debug)]
enum Form {
    Whole,
    /// These bytes and nothing else.
    Raw(Arc<[u8]>),
    /// Not even a byte.
    Silence,
}

/// One response.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    form: Form,
    status: u16,
    fields: Vec<(String, String)>,
    body: Body,
    frame: Frame,
    piece: usize,
    before_head: Option<Gate>,
    within_body: Option<(u64, Gate)>,
    stop: Option<(u64, Stop)>,
    close: bool,
}

impl Reply {
    /// A response with an empty body.
    pub(crate) fn status(status: u16) -> Self {
        Self {
            form: Form::Whole,
            status,
            fields: Vec::new(),
            body: Body::Bytes(Arc::default()),
            frame: Frame::Length,
            piece: 64 << 10,
            before_head: None,
            within_body: None,
            stop: None,
            close: false,
        }
    }

    /// A 200 with this body.
    pub(crate) fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::status(200).body(body)
    }

    /// A 200 with this body that may be stored for a minute.
    pub(crate) fn cached(body: impl AsRef<[u8]>) -> Self {
        Self::ok(body).field("Cache-Control", "max-age=60")
    }

    /// A 200 with `length` bytes of the pattern.
    pub(crate) fn pattern(length: u64) -> Self {
        Self {
            body: Body::Pattern(0, length),
            ..Self::status(200)
        }
    }

    /// A 200 with the `length` bytes of the pattern from `start` on.
    pub(crate) fn pattern_at(start: u64, length: u64) -> Self {
        Self {
            body: Body::Pattern(start, start + length),
            ..Self::status(200)
        }
    }

    /// A 206 with the bytes of the pattern from `start` on, of `length` altogether.
    pub(crate) fn pattern_from(start: u64, length: u64) -> Self {
        Self::pattern_part(start, length, length)
    }

    /// A 206 with the bytes of the pattern from `start` up to but without `end`, of `length`
    /// altogether.
    pub(crate) fn pattern_part(start: u64, end: u64, length: u64) -> Self {
        Self {
            body: Body::Pattern(start, end),
            ..Self::status(206)
        }
        .field(
            "Content-Range",
            format!("bytes {start}-{}/{length}", end - 1),
        )
    }

    /// These bytes, whatever they are, and then the end of the connection.
    pub(crate) fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self {
            form: Form::Raw(Arc::from(bytes.as_ref())),
            close: true,
            ..Self::status(200)
        }
    }

    /// These bytes, whatever they are, on a connection that goes on.
    pub(crate) fn raw_kept(bytes: impl AsRef<[u8]>) -> Self {
        Self {
            close: false,
            ..Self::raw(bytes)
        }
    }

    /// No answer, ever.
    pub(crate) fn silence() -> Self {
        Self {
            form: Form::Silence,
            ..Self::status(200)
        }
    }

    /// The end of the connection instead of an answer.
    pub(crate) fn nothing() -> Self {
        Self::raw("")
    }

    pub(crate) fn body(self, body: impl AsRef<[u8]>) -> Self {
        Self {
            body: Body::Bytes(Arc::from(body.as_ref())),
            ..self
        }
    }

    /// Adds a field line.
    pub(crate) fn field(mut self, name: &str, value: impl Into<String>) -> Self {
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn framed(self, frame: Frame) -> Self {
        Self { frame, ..self }
    }

    pub(crate) fn chunked(self) -> Self {
        self.framed(Frame::Chunked)
    }

    /// Sends the body, or its chunks, in pieces of this many bytes.
    pub(crate) fn in_pieces(self, piece: usize) -> Self {
        Self { piece, ..self }
    }

    /// Waits for `gate` before the first byte.
    pub(crate) fn behind(self, gate: &Gate) -> Self {
        Self {
            before_head: Some(gate.clone()),
            ..self
        }
    }

    /// Waits for `gate` after the head and `bytes` of the body.
    pub(crate) fn pausing(self, bytes: u64, gate: &Gate) -> Self {
        Self {
            within_body: Some((bytes, gate.clone())),
            ..self
        }
    }

    /// Closes the connection after `bytes` of the body.
    pub(crate) fn cut_after(self, bytes: u64) -> Self {
        Self {
            stop: Some((bytes, Stop::Close)),
            ..self
        }
    }

    /// Resets the connection after `bytes` of the body.
    pub(crate) fn reset_after(self, bytes: u64) -> Self {
        Self {
            stop: Some((bytes, Stop::Reset)),
            ..self
        }
    }

    /// Sends nothing after `bytes` of the body, and keeps the connection.
    pub(crate) fn hang_after(self, bytes: u64) -> Self {
        Self {
            stop: Some((bytes, Stop::Hang)),
            ..self
        }
    }

    /// Says `Connection: close` and closes after the response.
    pub(crate) fn closing(self) -> Self {
        Self {
            close: true,
            ..self
        }
        .field("Connection", "close")
    }

    fn length(&self) -> u64 {
        match &self.body {
            Body::Bytes(bytes) => pattern::to_u64(bytes.len()),
            Body::Pattern(start, end) => end - start,
        }
    }

    /// Sends it in answer to `method`; whether the connection goes on. `over` opens when the
    /// origin goes.
    pub(super) fn send(
        &self,
        stream: &mut TcpStream,
        method: &str,
        over: &Gate,
    ) -> std::io::Result<bool> {
        if let Some(gate) = &self.before_head {
            gate.pass();
        }
        match &self.form {
            Form::Whole => {}
            Form::Raw(bytes) => {
                stream.write_all(bytes)?;
                return Ok(!self.close);
            }
            Form::Silence => {
                over.pass();
                return Ok(false);
            }
        }
        stream.write_all(self.head(method).as_bytes())?;
        let bodiless = method == "HEAD" || matches!(self.status, 204 | 304);
        if !bodiless && !self.send_body(stream, over)? {
            return Ok(false);
        }
        stream.flush()?;
        Ok(!self.close && (bodiless || self.frame != Frame::Close))
    }

    fn head(&self, method: &str) -> String {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        let has = |name: &str| {
            self.fields
                .iter()
                .any(|(own, _)| own.eq_ignore_ascii_case(name))
        };
        for (name, value) in &self.fields {
            head.extend([name, ": ", value, "\r\n"]);
        }
        if !has("date") {
            let now = httpdate::fmt_http_date(super::now());
            head.extend(["Date: ", &now, "\r\n"]);
        }
        let bodiless = matches!(self.status, 204 | 304);
        match self.frame {
            Frame::Length if !bodiless && !has("content-length") => {
                head.extend(["Content-Length: ", &self.length().to_string(), "\r\n"]);
            }
            Frame::Chunked if method != "HEAD" => head.push_str("Transfer-Encoding: chunked\r\n"),
            Frame::Length | Frame::Chunked | Frame::Close => {}
        }
        head.push_str("\r\n");
        head
    }

    /// Whether the connection is still in order.
    fn send_body(&self, stream: &mut TcpStream, over: &Gate) -> std::io::Result<bool> {
        let length = self.length();
        let mut sent = 0;
        let mut piece = vec![0; self.piece];
        loop {
            if let Some((at, gate)) = &self.within_body
                && *at == sent
            {
                stream.flush()?;
                gate.pass();
            }
            if let Some((at, stop)) = self.stop
                && at == sent
            {
                return end(stream, stop, over);
            }
            if sent == length {
                break;
            }
            let marks = [
                self.within_body.as_ref().map(|(at, _)| *at),
                self.stop.map(|(at, _)| at),
            ];
            let next = marks.into_iter().flatten().filter(|at| *at > sent).min();
            let to = next
                .unwrap_or(length)
                .min(length)
                .min(sent + pattern::to_u64(self.piece));
            let count = usize::try_from(to - sent).expect("at most a piece");
            let piece = &mut piece[..count];
            match &self.body {
                Body::Pattern(start, _) => pattern::fill(start + sent, piece),
                Body::Bytes(bytes) => {
                    let start = usize::try_from(sent).expect("within a slice");
                    piece.copy_from_slice(&bytes[start..start + count]);
                }
            }
            if self.frame == Frame::Chunked {
                stream.write_all(format!("{count:x}\r\n").as_bytes())?;
                stream.write_all(piece)?;
                stream.write_all(b"\r\n")?;
            } else {
                stream.write_all(piece)?;
            }
            sent = to;
        }
        if self.frame == Frame::Chunked {
            stream.write_all(b"0\r\n\r\n")?;
        }
        Ok(true)
    }
}

/// Ends a response before its time.
fn end(stream: &TcpStream, stop: Stop, over: &Gate) -> std::io::Result<bool> {
    match stop {
        Stop::Close => {}
        Stop::Reset => {
            let socket = socket2::SockRef::from(stream);
            socket.set_linger(Some(Duration::ZERO))?;
        }
        Stop::Hang => over.pass(),
    }
    Ok(false)
}

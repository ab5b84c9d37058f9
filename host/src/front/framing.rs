//! Watches the bytes of an HTTP/1 connection for messages whose framing is in doubt.
//!
//! The HTTP library forgives what RFC 9112 lets a recipient forgive, and hides it. A cache cannot
//! afford that: if it and the origin disagree about where a request ends, one client's bytes
//! become another's request. So every request head is looked at on its way in, and one that is
//! ambiguous is spoiled, which the library answers with 400 and a closed connection. Refused are
//! a line that ends without CR, `Content-Length` beside `Transfer-Encoding` or more than once,
//! and any transfer coding but `chunked` (RFC 9112 2.2, 6.1, 6.3, 11.2). Refused as well is a request
//! line with a `#`: a target has no fragment (RFC 9112 3.2), and the library would cut it off.

use std::ops::ControlFlow;

/// Bytes of a line that are remembered: no framing field that is accepted is longer.
const LINE_MAX: usize = 64;

/// What the library sees of a head from where it is too long.
pub const FILLER: u8 = b'x';

/// Where in a connection the next byte belongs.
#[derive(Debug)]
pub struct Framing {
    /// Bytes that a request head may have.
    head_max: usize,
    /// Bytes of the head that is arriving.
    head_bytes: usize,
    state: State,
    line: Line,
    head: Head,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the first byte of a request.
    #[default]
    Between,
    /// Within a request line that comes in pieces.
    RequestLine,
    Head,
    /// Content of a known length.
    Content(u64),
    ChunkSize,
    /// Chunk data and the line end after it.
    ChunkData(u64),
    Trailer,
    /// A request was spoiled; nothing after it counts.
    Spoiled,
    /// A head is longer than it may be; nothing after it counts.
    Oversized,
}

/// What the head has said of its framing so far.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    length: Option<u64>,
    chunked: bool,
}

/// The start of the current line.
#[derive(Debug)]
struct Line {
    bytes: [u8; LINE_MAX],
    len: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            bytes: [0; LINE_MAX],
            len: 0,
        }
    }
}

/// What the connection is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing: between two requests.
    Between,
    /// A request head.
    Head,
    /// The content of a request.
    Content,
}

/// The framing of a request is in doubt.
#[derive(Debug, PartialEq, Eq)]
struct InDoubt;

impl Framing {
    /// At the start of a connection whose request heads may have `head_max` bytes.
    pub fn new(head_max: usize) -> Self {
        Self {
            head_max,
            head_bytes: 0,
            state: State::default(),
            line: Line::default(),
            head: Head::default(),
        }
    }

    /// Whether a head is longer than it may be. The library notices by its buffer alone, which
    /// grows beyond its bound, so what it is to see from now on is a line without end.
    pub fn is_oversized(&self) -> bool {
        self.state == State::Oversized
    }

    /// What the connection is in the middle of.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Between => Phase::Between,
            State::RequestLine | State::Head => Phase::Head,
            _ => Phase::Content,
        }
    }

    /// Looks at `bytes` as they arrive; spoils them from where a request's framing is in doubt.
    pub fn watch(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match self.step(rest) {
                ControlFlow::Continue(taken) => at += taken.max(1),
                ControlFlow::Break(()) => {
                    // NUL is allowed nowhere in a head, whatever the library is looking for.
                    let filler = if self.is_oversized() { FILLER } else { 0 };
                    if let Some(rest) = bytes.get_mut(at..) {
                        rest.fill(filler);
                    }
                    return;
                }
            }
        }
    }

    /// Takes some of `rest`, which is not empty.
    fn step(&mut self, rest: &[u8]) -> ControlFlow<(), usize> {
        match self.state {
            State::Between
            | State::RequestLine
            | State::Head
            | State::ChunkSize
            | State::Trailer => self.line(rest),
            State::Content(left) => {
                let (taken, left) = skip(rest, left);
                self.state = if left == 0 {
                    State::Between
                } else {
                    State::Content(left)
                };
                ControlFlow::Continue(taken)
            }
            State::ChunkData(left) => {
                let (taken, left) = skip(rest, left);
                self.state = if left == 0 {
                    State::ChunkSize
                } else {
                    State::ChunkData(left)
                };
                ControlFlow::Continue(taken)
            }
            State::Spoiled | State::Oversized => ControlFlow::Break(()),
        }
    }

    /// Takes the rest of a line, or as much of it as there is, unless that is too much of a head.
    fn line(&mut self, rest: &[u8]) -> ControlFlow<(), usize> {
        let in_head = self.phase() != Phase::Content;
        let taken = self.take_line(rest);
        if taken.is_break() {
            self.state = State::Spoiled;
        }
        if let (true, ControlFlow::Continue(bytes)) = (in_head, taken) {
            self.head_bytes = self.head_bytes.saturating_add(bytes);
            if self.head_bytes > self.head_max {
                self.state = State::Oversized;
                return ControlFlow::Break(());
            }
            if self.phase() != Phase::Head {
                self.head_bytes = 0;
            }
        }
        taken
    }

    /// Takes the rest of a line, or as much of it as there is.
    fn take_line(&mut self, rest: &[u8]) -> ControlFlow<(), usize> {
        let Some(end) = memchr::memchr(b'\n', rest) else {
            self.line.push(rest);
            if self.state == State::Between {
                self.state = State::RequestLine;
            }
            if self.state == State::RequestLine && rest.contains(&b'#') {
                return ControlFlow::Break(());
            }
            return ControlFlow::Continue(rest.len());
        };
        let whole = rest.get(..=end).unwrap_or(rest);
        let ended = if self.line.len == 0 {
            // The common case: the line is here in one piece and needs no copy.
            let Some(line) = whole.strip_suffix(b"\r\n") else {
                return ControlFlow::Break(());
            };
            self.end_of_line(line)
        } else {
            let was_cr = self.line.bytes.get(self.line.len - 1) == Some(&b'\r');
            self.line.push(whole);
            let tail_is_cr = if whole.len() == 1 {
                was_cr
            } else {
                whole.ends_with(b"\r\n")
            };
            if !tail_is_cr {
                return ControlFlow::Break(());
            }
            let line = std::mem::take(&mut self.line);
            let text = line.bytes.get(..line.len).unwrap_or_default();
            self.end_of_line(text.strip_suffix(b"\r\n").unwrap_or(text))
        };
        match ended {
            Ok(()) => ControlFlow::Continue(whole.len()),
            Err(InDoubt) => ControlFlow::Break(()),
        }
    }

    fn end_of_line(&mut self, line: &[u8]) -> Result<(), InDoubt> {
        match self.state {
            // Empty lines before a request are ignored (RFC 9112 2.2).
            State::Between if line.is_empty() => {}
            State::Between | State::RequestLine if line.contains(&b'#') => return Err(InDoubt),
            State::Between | State::RequestLine => self.state = State::Head,
            State::Head if line.is_empty() => {
                self.state = match std::mem::take(&mut self.head) {
                    Head {
                        length: Some(_),
                        chunked: true,
                    } => return Err(InDoubt),
                    Head { chunked: true, .. } => State::ChunkSize,
                    Head {
                        length: None | Some(0),
                        ..
                    } => State::Between,
                    Head {
                        length: Some(length),
                        ..
                    } => State::Content(length),
                };
            }
            State::Head => self.field(line)?,
            State::ChunkSize => {
                let size = chunk_size(line)?;
                // The data is followed by a line end, the last chunk by the trailer section.
                self.state = if size == 0 {
                    State::Trailer
                } else {
                    State::ChunkData(size + 2)
                };
            }
            State::Trailer if line.is_empty() => self.state = State::Between,
            State::Trailer
            | State::Content(_)
            | State::ChunkData(_)
            | State::Spoiled
            | State::Oversized => {}
        }
        Ok(())
    }

    #[inline]
    fn field(&mut self, line: &[u8]) -> Result<(), InDoubt> {
        match line.first() {
            Some(b'c' | b'C') => {
                if let Some(value) = value_of(line, b"content-length") {
                    let length = decimal(value).ok_or(InDoubt)?;
                    if self.head.length.replace(length).is_some() {
                        return Err(InDoubt);
                    }
                }
            }
            Some(b't' | b'T') => {
                if let Some(value) = value_of(line, b"transfer-encoding") {
                    if self.head.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(InDoubt);
                    }
                    self.head.chunked = true;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Line {
    /// Remembers as much as fits. A framing field that does not fit is refused for its value.
    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match self.bytes.get_mut(self.len) {
                Some(place) => {
                    *place = *byte;
                    self.len += 1;
                }
                // The last two bytes are kept right, because they tell how the line ended.
                None => {
                    let [.., before, last] = &mut self.bytes;
                    *before = *last;
                    *last = *byte;
                }
            }
        }
    }
}

/// The value of the field `name` (lower-case), if `line` is that field. White space between name
/// and colon makes it neither, and the library refuses such a line.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    // As much as is remembered of a line in pieces, so that both are judged alike.
    let value = if line.len() + 2 > LINE_MAX {
        b""
    } else {
        value.trim_ascii()
    };
    found.eq_ignore_ascii_case(name).then_some(value)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    valid
        .then(|| std::str::from_utf8(digits).ok()?.parse().ok())
        .flatten()
}

fn chunk_size(line: &[u8]) -> Result<u64, InDoubt> {
    let digits = line
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii_end();
    let valid = (1..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).map_err(|_| InDoubt)?;
    let size = u64::from_str_radix(text, 16).map_err(|_| InDoubt)?;
    if valid { Ok(size) } else { Err(InDoubt) }
}

/// How many bytes of `rest` belong to the `left` ones, and how many are left then.
fn skip(rest: &[u8], left: u64) -> (usize, u64) {
    let there = u64::try_from(rest.len()).unwrap_or(u64::MAX);
    let taken = there.min(left);
    (usize::try_from(taken).unwrap_or(rest.len()), left - taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether every way of cutting `stream` in two passes unspoiled, or every way is spoiled.
    fn passes(stream: &str) -> bool {
        let mut verdicts = Vec::new();
        for cut in 0..=stream.len() {
            let mut framing = Framing::new(1_000);
            let mut bytes = stream.as_bytes().to_vec();
            let (first, second) = bytes.split_at_mut(cut);
            framing.watch(first);
            framing.watch(second);
            verdicts.push(bytes == stream.as_bytes());
            if bytes == stream.as_bytes() {
                assert_eq!(framing.phase(), Phase::Between, "{stream:?} cut at {cut}");
            }
        }
        let one_by_one = {
            let mut framing = Framing::new(1_000);
            stream.bytes().all(|byte| {
                let mut one = [byte];
                framing.watch(&mut one);
                one == [byte]
            })
        };
        verdicts.push(one_by_one);
        assert!(
            verdicts.windows(2).all(|pair| pair[0] == pair[1]),
            "{stream:?}: {verdicts:?}"
        );
        one_by_one
    }

    #[test]
    fn plain_requests_pass() {
        for stream in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nhost: a\r\ntrailer: x\r\ncontent-type: y\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab\ncdGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length:0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n3;x=y\r\na\nb\r\n0\r\nT: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            &format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(500)),
        ] {
            assert!(passes(stream), "{stream:?}");
        }
    }

    #[test]
    fn heads_are_bounded_however_they_arrive() {
        let head =
            |length: usize| format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(length - 23));
        assert!(passes(&head(1_000)));
        assert!(passes(&(head(1_000) + &head(1_000))));
        assert!(!passes(&head(1_001)));
        let body = "a".repeat(5_000);
        let post = format!("POST / HTTP/1.1\r\nContent-Length: 5000\r\n\r\n{body}");
        assert!(passes(&(post + &head(1_000))));
    }

    #[test]
    fn doubtful_framing_is_spoiled() {
        for fields in [
            "Host: a\nX: b\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: identity, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: gzip\r\n",
            &format!("Content-Length:{}5\r\n", " ".repeat(80)),
        ] {
            assert!(
                !passes(&format!("POST / HTTP/1.1\r\n{fields}\r\n")),
                "{fields:?}"
            );
        }
        assert!(!passes("GET / HTTP/1.1\n\r\n"));
        assert!(!passes("GET / HTTP/1.1\r\n\n"));
        assert!(!passes("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"));
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for body in [
            "g\r\n",
            "\r\n",
            "-1\r\n",
            "0x3\r\nabc\r\n",
            "3\nabc\r\n",
            "1111111111111111\r\n",
        ] {
            assert!(!passes(&format!("{chunked}{body}")), "{body:?}");
        }
    }
}

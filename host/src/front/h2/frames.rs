//! What the bytes of an HTTP/2 connection are, as far as the frame headers tell (RFC 9113 4.1).
//!
//! Frames that carry no request make work for nothing, and the library below answers most of them
//! without a limit. So they are counted where they arrive, before anything is kept of them: more
//! than [`CONTROL_MAX`] within a second is no client any more (RFC 9113 10.5).

use std::time::Duration;

use crate::clock::Moment;

/// The bytes with which a client begins (RFC 9113 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Frames without content within [`WINDOW`], at most.
const CONTROL_MAX: u32 = 10_000;
const WINDOW: Duration = Duration::from_secs(1);
/// The clock is read once in this many of them.
const STEP: u32 = 1_000;
/// A reset counts for this many: it makes us give up work that we have begun.
const RESET_WEIGHT: u32 = 10;
/// A client may widen its windows once for this many bytes that it is sent, at no charge.
const BYTES_PER_UPDATE: u64 = 2 << 10;
/// Bytes for which that is remembered.
const BYTES_MAX: u64 = 16 << 20;

const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// More frames without content than a client has reason to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood;

/// A place among the frames that a client sends.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    /// Bytes of the preface still to come.
    preface: usize,
    head: [u8; HEAD],
    /// Bytes of the frame header that have come.
    head_length: usize,
    /// Bytes of the frame still to come.
    payload: usize,
    /// Whether this frame is the last of a request head.
    ends_head: bool,
    /// Whether a request head, or the very first frame, is arriving.
    head_arriving: bool,
    counted: Counted,
    /// Bytes that were sent and not yet made up for by wider windows.
    sent: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    since: Moment,
    frames: u32,
    looked_at: u32,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            preface: PREFACE.len(),
            head: [0; HEAD],
            head_length: 0,
            payload: 0,
            ends_head: true,
            head_arriving: true,
            counted: Counted::default(),
            sent: 0,
        }
    }
}

impl Frames {
    /// Whether something is arriving that has to arrive in the time for a head.
    pub fn is_head_arriving(&self) -> bool {
        self.head_arriving
    }

    /// `bytes` were sent to the client.
    pub fn sent(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(BYTES_MAX);
        self.sent = self.sent.saturating_add(bytes).min(BYTES_MAX);
    }

    /// Takes in `bytes`, which the client sent; `now` is asked seldom.
    ///
    /// # Errors
    /// The client floods us.
    pub fn take(&mut self, mut bytes: &[u8], now: impl Fn() -> Moment) -> Result<(), Flood> {
        let skipped = self.preface.min(bytes.len());
        self.preface -= skipped;
        bytes = bytes.get(skipped..).unwrap_or_default();
        while !bytes.is_empty() {
            if self.payload > 0 {
                let skipped = self.payload.min(bytes.len());
                self.payload -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                self.end_of_frame();
                continue;
            }
            let missing = HEAD - self.head_length;
            let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
            let room = self.head.iter_mut().skip(self.head_length);
            room.zip(taken).for_each(|(to, from)| *to = *from);
            self.head_length += taken.len();
            bytes = rest;
            if self.head_length == HEAD {
                self.head_length = 0;
                self.frame(&now)?;
                self.end_of_frame();
            }
        }
        Ok(())
    }

    fn end_of_frame(&mut self) {
        if self.payload == 0 && self.ends_head {
            self.head_arriving = false;
        }
    }

    /// A frame header has come.
    fn frame(&mut self, now: &impl Fn() -> Moment) -> Result<(), Flood> {
        let [high, middle, low, kind, flags, ..] = self.head;
        let length = [high, middle, low];
        self.payload = length
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte));
        if matches!(kind, HEADERS | CONTINUATION) {
            self.head_arriving = true;
            self.ends_head = flags & END_HEADERS != 0;
        }
        let weight = match kind {
            HEADERS => 0,
            DATA if self.payload > 0 || flags & END_STREAM != 0 => 0,
            WINDOW_UPDATE if self.sent >= BYTES_PER_UPDATE => {
                self.sent -= BYTES_PER_UPDATE;
                0
            }
            RST_STREAM => RESET_WEIGHT,
            _ => 1,
        };
        self.counted.add(weight, now)
    }
}

impl Counted {
    fn add(&mut self, weight: u32, now: &impl Fn() -> Moment) -> Result<(), Flood> {
        self.frames = self.frames.saturating_add(weight);
        if self.frames < self.looked_at + STEP {
            return Ok(());
        }
        self.looked_at = self.frames;
        let now = now();
        if now.since(self.since) >= WINDOW {
            *self = Self {
                since: now,
                ..Self::default()
            };
        }
        match self.frames >= CONTROL_MAX {
            true => Err(Flood),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: u8 = 4;
    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let [.., high, middle, low] = length.to_be_bytes();
        let mut frame = vec![high, middle, low, kind, flags, 0, 0, 0, 1];
        frame.resize(HEAD + length, 0xff);
        frame
    }

    /// A connection that has begun.
    fn begun() -> Frames {
        let mut frames = Frames::default();
        let start = [PREFACE.to_vec(), frame(SETTINGS, 0, 6)].concat();
        assert_eq!(frames.take(&start, || Moment::from_millis(0)), Ok(()));
        frames
    }

    /// How many frames are taken when `per_ms` of them come each millisecond, of 30,000.
    fn taken(frames: &mut Frames, bytes: &[u8], per_ms: usize) -> usize {
        let from = 60_000;
        for number in 0..30_000 {
            let now = from + u64::try_from(number / per_ms).unwrap();
            if frames.take(bytes, || Moment::from_millis(now)).is_err() {
                return number;
            }
        }
        30_000
    }

    #[test]
    fn a_request_head_arrives_from_its_first_byte_to_its_last() {
        let mut stream = PREFACE.to_vec();
        // Each frame, and whether something is arriving once all of it is there.
        let mut expected = vec![(stream.len(), true)];
        for (bytes, arriving) in [
            (frame(SETTINGS, 0, 12), false),
            (frame(HEADERS, END_HEADERS, 20), false),
            (frame(DATA, 0, 300), false),
            (frame(HEADERS, 0, 20), true),
            (frame(CONTINUATION, 0, 0), true),
            (frame(CONTINUATION, END_HEADERS, 5), false),
            (frame(HEADERS, END_HEADERS, 0), false),
        ] {
            stream.extend(bytes);
            expected.push((stream.len(), arriving));
        }
        for step in [1, 2, 5, 9, 11, 64, 1_000] {
            let (mut frames, mut seen) = (Frames::default(), 0);
            for piece in stream.chunks(step) {
                assert_eq!(frames.take(piece, || Moment::from_millis(0)), Ok(()));
                seen += piece.len();
                if let Some((_, arriving)) = expected.iter().find(|(at, _)| *at == seen) {
                    assert_eq!(frames.is_head_arriving(), *arriving, "{step} {seen}");
                }
            }
            assert!(!frames.is_head_arriving());
        }
        let mut frames = begun();
        let head = frame(HEADERS, END_HEADERS, 20);
        frames.take(&head[..15], || Moment::from_millis(0)).unwrap();
        assert!(frames.is_head_arriving(), "all but five bytes of it");
    }

    #[test]
    fn floods_of_frames_without_content_are_noticed() {
        let unknown = 0x42;
        for (kind, length, expected) in [
            (SETTINGS, 0, 11_000),
            (PING, 8, 11_000),
            (2, 5, 11_000),
            (WINDOW_UPDATE, 4, 11_000),
            (CONTINUATION, 0, 11_000),
            (DATA, 0, 11_000),
            (unknown, 100, 11_000),
            (RST_STREAM, 4, 1_100),
        ] {
            let found = taken(&mut begun(), &frame(kind, 0, length), 100);
            assert!(found <= expected, "{kind}: {found}");
        }
    }

    #[test]
    fn requests_content_and_a_usual_number_of_control_frames_are_none() {
        for (kind, flags, length) in [
            (HEADERS, END_HEADERS | END_STREAM, 20),
            (DATA, 0, 1),
            (DATA, END_STREAM, 0),
        ] {
            let found = taken(&mut begun(), &frame(kind, flags, length), 1_000);
            assert_eq!(found, 30_000, "{kind}");
        }
        assert_eq!(taken(&mut begun(), &frame(PING, 0, 8), 8), 30_000);
    }

    #[test]
    fn windows_may_be_widened_for_what_was_sent() {
        let update = frame(WINDOW_UPDATE, 0, 4);
        let mut frames = begun();
        for _ in 0..100_000 {
            frames.sent(4 << 10);
            frames.take(&update, || Moment::from_millis(0)).unwrap();
        }
        let mut frames = begun();
        frames.sent(usize::MAX);
        assert!(taken(&mut frames, &update, 100) <= 20_000);
    }
}

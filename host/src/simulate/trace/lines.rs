//! Lines of any length up to a bound, without a copy, ended by LF, CR LF or CR, as mixed as the
//! file has them.

use std::io::{self, Read};

/// Bytes of the longest line that is looked at.
const LINE_MAX: usize = 1 << 20;

/// Lines of a text.
pub(super) struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
    /// The number of the line that was last returned, from 1.
    pub(super) number: u64,
}

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Without its end.
    Whole(&'a [u8]),
    /// More than [`LINE_MAX`] bytes, which nobody kept.
    TooLong,
}

/// Where in the buffer the next line is.
enum Found {
    Line { bytes: usize, with_end: usize },
    More,
}

impl<R: Read> Lines<R> {
    /// The lines of `input`.
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            buffer: vec![0; 2 * LINE_MAX],
            start: 0,
            end: 0,
            ended: false,
            number: 0,
        }
    }

    /// The next line, or `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        let mut too_long = false;
        loop {
            match self.find() {
                Found::Line { bytes, with_end } => {
                    let start = self.start;
                    self.start += with_end;
                    self.number += 1;
                    if too_long || bytes > LINE_MAX {
                        return Ok(Some(Line::TooLong));
                    }
                    let line = self.buffer.get(start..start + bytes);
                    return Ok(Some(Line::Whole(line.unwrap_or_default())));
                }
                Found::More if self.ended => return Ok(None),
                Found::More => {
                    if self.end - self.start > LINE_MAX {
                        too_long = true;
                        // Its last byte may be the first half of a line end.
                        self.start = self.end - 1;
                    }
                    self.read()?;
                }
            }
        }
    }

    fn find(&self) -> Found {
        let waiting = self.buffer.get(self.start..self.end).unwrap_or_default();
        match memchr::memchr2(b'\n', b'\r', waiting) {
            Some(bytes) => match waiting.get(bytes..) {
                Some([b'\r', b'\n', ..]) => Found::Line {
                    bytes,
                    with_end: bytes + 2,
                },
                Some([b'\r']) if !self.ended => Found::More,
                _ => Found::Line {
                    bytes,
                    with_end: bytes + 1,
                },
            },
            None if self.ended && !waiting.is_empty() => Found::Line {
                bytes: waiting.len(),
                with_end: waiting.len(),
            },
            None => Found::More,
        }
    }

    fn read(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let free = self.buffer.get_mut(self.end..).unwrap_or_default();
        let read = match self.input.read(free) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        };
        self.end += read;
        self.ended = read == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads in pieces of a given length.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let some = self.1.min(buffer.len());
            let (piece, rest) = self.0.split_at(some.min(self.0.len()));
            self.0 = rest;
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    fn lines(text: &[u8], piece: usize) -> Vec<Option<Vec<u8>>> {
        let mut lines = Lines::new(Pieces(text, piece));
        let mut all = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            all.push(match line {
                Line::Whole(line) => Some(line.to_vec()),
                Line::TooLong => None,
            });
            assert_eq!(u64::try_from(all.len()), Ok(lines.number));
        }
        all
    }

    #[test]
    fn line_ends_may_be_mixed() {
        let text = b"a\nb\r\nc\rd\n\re\r\r\nf";
        let expected: Vec<_> = ["a", "b", "c", "d", "", "e", "", "f"]
            .map(|line| Some(line.as_bytes().to_vec()))
            .to_vec();
        for piece in 1..20 {
            assert_eq!(lines(text, piece), expected, "in pieces of {piece}");
        }
        assert!(lines(b"", 1).is_empty());
        assert_eq!(lines(b"a\r", 1).len(), 1);
    }

    #[test]
    fn an_endless_line_is_passed_over_and_what_follows_is_read() {
        let mut text = vec![b'x'; 5 * LINE_MAX];
        text.extend_from_slice(b"\r\nnext\n");
        assert_eq!(lines(&text, 100_000), [None, Some(b"next".to_vec())]);
        let mut text = vec![b'x'; LINE_MAX];
        text.extend_from_slice(b"\nnext");
        let whole = Some(vec![b'x'; LINE_MAX]);
        assert_eq!(lines(&text, 100_000), [whole, Some(b"next".to_vec())]);
    }

    proptest! {
        #[test]
        fn lines_are_those_of_the_text(text in "[ab,\r\n]{0,200}", piece in 1_usize..50) {
            let normal = text.replace("\r\n", "\n").replace('\r', "\n");
            let expected: Vec<_> = normal.lines().map(|line| Some(line.as_bytes().to_vec())).collect();
            prop_assert_eq!(lines(text.as_bytes(), piece), expected);
        }
    }
}

//! The content of an HTTP/1 request: where it ends, and what of the bytes that arrive it is
//! (RFC 9112 6, 7).
//!
//! Pure and strict: a chunked coding that breaks the grammar in any way is no content at all,
//! because the cache and the origin must never disagree about where a request ends. Chunk
//! extensions and trailers are read and dropped (RFC 9112 7.1.1, RFC 9110 6.5.1).

use thiserror::Error;

/// Bytes of a chunk-size line with its extensions, at most.
const LINE_MAX: u32 = 1 << 10;
/// Bytes of a trailer section, at most.
const TRAILER_MAX: u32 = 8 << 10;
/// Digits of a chunk size, at most; no length that is accepted needs more.
const DIGITS_MAX: u32 = 15;

/// How much of a request's content is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing.
    Done,
    /// So many bytes, more than zero.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
}

/// A place in a chunked content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunked {
    place: Place,
    /// Bytes of the line or section so far.
    line: u32,
    size: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Size,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    /// At the start of a line after the last chunk.
    Trailer,
    TrailerLine,
    TrailerLineEnd,
    /// Within the end of the empty line that ends the section.
    LastLineEnd,
    End,
}

/// The next part of what arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Content; never empty.
    Data(&'a [u8]),
    /// All of the content has arrived; what is left belongs to the next request.
    End,
    /// Everything was taken, and more is to come.
    More,
}

/// The content cannot be told from what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the chunked coding is malformed")]
pub struct Malformed;

impl Content {
    /// Chunks, from the first.
    pub const fn chunked() -> Self {
        Self::Chunked(Chunked {
            place: Place::Size,
            line: 0,
            size: 0,
        })
    }

    /// `length` bytes.
    pub const fn length(length: u64) -> Self {
        match length {
            0 => Self::Done,
            _ => Self::Length(length),
        }
    }

    /// Whether all of it has been taken.
    pub const fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Takes the next part off the front of `bytes`.
    ///
    /// # Errors
    /// The chunked coding is malformed. The connection cannot go on.
    pub fn take<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Part<'a>, Malformed> {
        match self {
            Self::Done => Ok(Part::End),
            Self::Length(_) if bytes.is_empty() => Ok(Part::More),
            Self::Length(left) => {
                let (data, all) = take(bytes, *left);
                *self = Self::length(all);
                Ok(Part::Data(data))
            }
            Self::Chunked(chunked) => {
                let part = chunked.take(bytes)?;
                if part == Part::End {
                    *self = Self::Done;
                }
                Ok(part)
            }
        }
    }
}

impl Chunked {
    fn take<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Part<'a>, Malformed> {
        loop {
            if self.place == Place::Data {
                if bytes.is_empty() {
                    return Ok(Part::More);
                }
                let (data, left) = take(bytes, self.size);
                self.size = left;
                if left == 0 {
                    self.place = Place::DataCr;
                }
                return Ok(Part::Data(data));
            }
            let Some((&byte, rest)) = bytes.split_first() else {
                return Ok(Part::More);
            };
            *bytes = rest;
            self.place = self.step(byte)?;
            if self.place == Place::End {
                return Ok(Part::End);
            }
        }
    }

    fn step(&mut self, byte: u8) -> Result<Place, Malformed> {
        self.line += 1;
        let (place, max) = match (self.place, byte) {
            (Place::Size, b';') if self.line > 1 => (Place::Extension, LINE_MAX),
            (Place::Size, b'\r') if self.line > 1 => (Place::SizeEnd, LINE_MAX),
            (Place::Size, digit) => {
                let digit = char::from(digit).to_digit(16).ok_or(Malformed)?;
                self.size = self.size << 4 | u64::from(digit);
                (Place::Size, DIGITS_MAX)
            }
            (Place::Extension, b'\r') => (Place::SizeEnd, LINE_MAX),
            (Place::Extension, b'\t' | b' '..=0x7e | 0x80..) => (Place::Extension, LINE_MAX),
            (Place::SizeEnd, b'\n') => {
                self.line = 0;
                let last = self.size == 0;
                (if last { Place::Trailer } else { Place::Data }, LINE_MAX)
            }
            (Place::DataCr, b'\r') => (Place::DataLf, LINE_MAX),
            (Place::DataLf, b'\n') => {
                self.line = 0;
                (Place::Size, LINE_MAX)
            }
            (Place::Trailer, b'\r') => (Place::LastLineEnd, TRAILER_MAX),
            (Place::Trailer, b' ' | b'\t' | b':') => return Err(Malformed),
            (Place::TrailerLine, b'\r') => (Place::TrailerLineEnd, TRAILER_MAX),
            (Place::Trailer | Place::TrailerLine, b'\t' | b' '..=0x7e | 0x80..) => {
                (Place::TrailerLine, TRAILER_MAX)
            }
            (Place::LastLineEnd, b'\n') => (Place::End, TRAILER_MAX),
            (Place::TrailerLineEnd, b'\n') => (Place::Trailer, TRAILER_MAX),
            _ => return Err(Malformed),
        };
        match self.line > max {
            true => Err(Malformed),
            false => Ok(place),
        }
    }
}

/// Takes at most `wanted` bytes; them, and how many are wanted still.
fn take<'a>(bytes: &mut &'a [u8], wanted: u64) -> (&'a [u8], u64) {
    let count = usize::try_from(wanted).map_or(bytes.len(), |wanted| wanted.min(bytes.len()));
    let (taken, rest) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
    *bytes = rest;
    let left = wanted.saturating_sub(u64::try_from(count).unwrap_or(wanted));
    (taken, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content of `stream` and what follows it, however it is cut in two.
    fn decode(content: Content, stream: &str) -> Result<(String, String), Malformed> {
        let mut all = Vec::new();
        for cut in 0..=stream.len() {
            let (first, second) = stream.as_bytes().split_at(cut);
            all.push(decode_pieces(content, &[first, second]));
        }
        let singly: Vec<_> = stream.as_bytes().chunks(1).collect();
        all.push(decode_pieces(content, &singly));
        assert!(
            all.windows(2).all(|pair| pair[0] == pair[1]),
            "{stream:?}: {all:?}"
        );
        all.swap_remove(0)
    }

    fn decode_pieces(
        mut content: Content,
        pieces: &[&[u8]],
    ) -> Result<(String, String), Malformed> {
        let (mut data, mut rest) = (Vec::new(), Vec::new());
        for mut piece in pieces.iter().copied() {
            loop {
                match content.take(&mut piece)? {
                    Part::Data(part) => data.extend(part),
                    Part::More => break,
                    Part::End => {
                        rest.extend(piece);
                        break;
                    }
                }
            }
        }
        let text = |bytes| String::from_utf8(bytes).expect("ASCII");
        if !content.is_done() {
            data.extend(b" (more)");
        }
        Ok((text(data), text(rest)))
    }

    #[test]
    fn content_ends_where_it_says() {
        let chunked = Content::chunked();
        for (content, stream, data, rest) in [
            (Content::length(0), "GET", "", "GET"),
            (Content::length(3), "abcGET", "abc", "GET"),
            (Content::length(3), "ab", "ab (more)", ""),
            (chunked, "0\r\n\r\nGET", "", "GET"),
            (chunked, "3\r\nabc\r\n0\r\n\r\n", "abc", ""),
            (chunked, "3\r\na\nb\r\n0\r\n\r\nGET", "a\nb", "GET"),
            (chunked, "A\r\n0123456789\r\n000\r\n\r\n", "0123456789", ""),
            (
                chunked,
                "1;x=y;z=\"w\"\r\na\r\n0;q\r\nT: 1\r\nU:\r\n\r\nG",
                "a",
                "G",
            ),
            (chunked, "3\r\nabc\r\n0\r\n\r", "abc (more)", ""),
        ] {
            let expected = Ok((data.to_owned(), rest.to_owned()));
            assert_eq!(decode(content, stream), expected, "{stream:?}");
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        let extension = format!("1;{}\r\n", "x".repeat(1_100));
        let trailers = format!("0\r\n{}", "T: 1\r\n".repeat(2_000));
        for stream in [
            "g\r\n",
            "\r\n",
            ";x\r\n",
            "-1\r\n",
            "+1\r\n",
            " 1\r\n",
            "1 \r\n",
            "0x3\r\nabc\r\n",
            "3\nabc\r\n",
            "3\r\nabc\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\r\r\n",
            "3\r\rabc\r\n",
            "1;a\nb\r\n",
            "1;a\0b\r\n",
            "1111111111111111\r\n",
            "0\r\n\n",
            "0\r\nT: 1\n\r\n",
            "0\r\n folded\r\n\r\n",
            "0\r\n: x\r\n\r\n",
            "0\r\nT: a\0b\r\n\r\n",
            "0\r\nT: 1\r\r\n\r\n",
            &extension,
            &trailers,
        ] {
            assert_eq!(
                decode(Content::chunked(), stream),
                Err(Malformed),
                "{stream:?}"
            );
        }
    }
}

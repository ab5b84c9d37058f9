//! The bytes of a trace: from a file or standard input, decompressed by what they are rather than
//! by how they are called.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Bytes read from a file at once.
const READ_BYTES: usize = 256 << 10;

/// The bytes of a trace.
pub(super) struct Source {
    /// What the trace says.
    pub(super) text: Box<dyn Read>,
    /// Bytes read of the file so far.
    pub(super) consumed: Arc<AtomicU64>,
    /// Bytes of the file, if that is known.
    pub(super) total: Option<u64>,
}

/// Opens `path`; `-` is standard input.
pub(super) fn open(path: &Path) -> io::Result<Source> {
    let consumed = Arc::new(AtomicU64::new(0));
    let (raw, total): (Box<dyn Read>, _) = if path == Path::new("-") {
        (Box::new(io::stdin()), None)
    } else {
        let file = File::open(path)?;
        let about = file.metadata()?;
        if about.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::IsADirectory,
                "is a directory",
            ));
        }
        let total = about.is_file().then_some(about.len());
        (Box::new(file), total)
    };
    let counted = Counted {
        input: raw,
        bytes: Arc::clone(&consumed),
    };
    let text = decompressed(BufReader::with_capacity(READ_BYTES, counted))?;
    Ok(Source {
        text,
        consumed,
        total,
    })
}

/// Counts what is read through it.
struct Counted {
    input: Box<dyn Read>,
    bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        let more = u64::try_from(read).unwrap_or(u64::MAX);
        self.bytes.fetch_add(more, Relaxed);
        Ok(read)
    }
}

fn decompressed(mut input: impl BufRead + 'static) -> io::Result<Box<dyn Read>> {
    let mut magic = Vec::new();
    input.by_ref().take(4).read_to_end(&mut magic)?;
    let whole = Cursor::new(magic.clone()).chain(input);
    Ok(match *magic.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(whole)),
        // RFC 8878 3.1.1 and 3.1.2: a frame, or one to be skipped.
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Box::new(Zstd {
            input: whole,
            frame: FrameDecoder::new(),
            within: false,
        }),
        _ => Box::new(whole),
    })
}

/// Frame after frame of zstd.
struct Zstd<R> {
    input: R,
    frame: FrameDecoder,
    /// Whether a frame is being read.
    within: bool,
}

impl<R: BufRead> Zstd<R> {
    /// Begins the next frame, past those to be skipped. Answers whether there is one.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            if self.input.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.frame.init(&mut self.input) {
                Ok(()) => {
                    self.within = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let skipped = &mut self.input.by_ref().take(u64::from(length));
                    if io::copy(skipped, &mut io::sink())? < u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(damaged(error)),
            }
        }
    }

    fn end(&mut self) -> io::Result<()> {
        self.within = false;
        let said = self.frame.get_checksum_from_data();
        if said.is_some() && said != self.frame.get_calculated_checksum() {
            return Err(damaged("the checksum of a frame is wrong"));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() {
            if !self.within && !self.begin()? {
                break;
            }
            // What is collected before the end of a frame is all but the window it looks back on.
            if self.frame.can_collect() == 0 && !self.frame.is_finished() {
                let some = BlockDecodingStrategy::UptoBytes(buffer.len());
                self.frame
                    .decode_blocks(&mut self.input, some)
                    .map_err(damaged)?;
                continue;
            }
            let read = self.frame.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            self.end()?;
        }
        Ok(0)
    }
}

fn damaged(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    fn read(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        decompressed(Cursor::new(bytes))?.read_to_end(&mut text)?;
        Ok(text)
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        compress_to_vec(text, CompressionLevel::Fastest)
    }

    #[test]
    fn compression_is_known_by_content() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let (first, second) = text.split_at(300_000);
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        for packed in [
            text.clone(),
            gzip(&text),
            [gzip(first), gzip(second)].concat(),
            zstd(&text),
            [zstd(first), skipped.clone(), zstd(second)].concat(),
            [skipped, zstd(&text)].concat(),
        ] {
            assert!(read(packed).unwrap() == text);
        }
        for short in [&b""[..], b"a", b"1,2"] {
            assert_eq!(read(short.to_vec()).unwrap(), short);
        }
    }

    #[test]
    fn what_ends_early_is_an_error() {
        let text = b"1,a,10\n2,b,20\n".repeat(5_000);
        for packed in [gzip(&text), zstd(&text)] {
            for kept in [packed.len() / 2, packed.len() - 1, 5] {
                assert!(read(packed[..kept].to_vec()).is_err(), "{kept}");
            }
        }
    }

    #[test]
    fn damage_is_an_error() {
        let text = b"1,a,10\n2,b,20\n".repeat(5_000);
        for mut packed in [gzip(&text), zstd(&text)] {
            let middle = packed.len() / 2;
            packed[middle] ^= 0x10;
            assert!(read(packed).is_err());
        }
    }
}

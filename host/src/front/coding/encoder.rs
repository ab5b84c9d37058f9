//! Encodes content as it streams past.

use std::fmt;
use std::io::Write;

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::config::Coding;

/// Brotli quality: what nginx users run on the fly, at about the speed of gzip's 6.
const BROTLI_QUALITY: i32 = 4;
/// Brotli's window, as a power of two: 512 KiB, so that an encoder stays small.
const BROTLI_WINDOW: i32 = 19;
/// Bytes of the encoder's own buffer.
const BUFFER: usize = 16 << 10;

/// Content being encoded. It holds a bounded window of what it has seen.
pub struct Encoder {
    inner: Inner,
    /// Whether something was put in that may not have come out.
    holds: bool,
}

enum Inner {
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Gzip(Box<GzEncoder<Vec<u8>>>),
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// At the start of content.
    pub fn new(coding: Coding) -> Self {
        let inner = match coding {
            Coding::Brotli => {
                let params = BrotliEncoderParams {
                    quality: BROTLI_QUALITY,
                    lgwin: BROTLI_WINDOW,
                    ..BrotliEncoderParams::default()
                };
                let writer = CompressorWriter::with_params(Vec::new(), BUFFER, &params);
                Inner::Brotli(Box::new(writer))
            }
            Coding::Gzip => {
                let writer = GzEncoder::new(Vec::new(), Compression::default());
                Inner::Gzip(Box::new(writer))
            }
        };
        Self {
            inner,
            holds: false,
        }
    }

    /// Takes `piece`, and gives what has come out, which may be nothing.
    pub fn push(&mut self, piece: &[u8]) -> Bytes {
        self.holds = true;
        // Writing to memory does not fail.
        drop(match &mut self.inner {
            Inner::Brotli(writer) => writer.write_all(piece),
            Inner::Gzip(writer) => writer.write_all(piece),
        });
        self.take()
    }

    /// Gives out everything that was put in, so that no reader waits for what is there; nothing if
    /// that has come out already.
    pub fn flush(&mut self) -> Bytes {
        if std::mem::take(&mut self.holds) {
            drop(match &mut self.inner {
                Inner::Brotli(writer) => writer.flush(),
                Inner::Gzip(writer) => writer.flush(),
            });
        }
        self.take()
    }

    /// Ends the content, and gives the rest of it.
    pub fn finish(self) -> Bytes {
        match self.inner {
            Inner::Brotli(writer) => writer.into_inner().into(),
            Inner::Gzip(writer) => writer.finish().unwrap_or_default().into(),
        }
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(match &mut self.inner {
            Inner::Brotli(writer) => writer.get_mut(),
            Inner::Gzip(writer) => writer.get_mut(),
        })
        .into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn decode(coding: Coding, encoded: &[u8]) -> Vec<u8> {
        let mut decoded = Vec::new();
        match coding {
            Coding::Brotli => brotli::Decompressor::new(encoded, 4_096)
                .read_to_end(&mut decoded)
                .expect("valid"),
            Coding::Gzip => flate2::read::GzDecoder::new(encoded)
                .read_to_end(&mut decoded)
                .expect("valid"),
        };
        decoded
    }

    #[test]
    fn what_goes_in_comes_out_again() {
        let text: Vec<u8> = (0..200_000_u32)
            .flat_map(|number| number.to_string().into_bytes())
            .collect();
        for coding in [Coding::Brotli, Coding::Gzip] {
            for step in [1_000, 65_536, text.len()] {
                let mut encoder = Encoder::new(coding);
                let mut output = Vec::new();
                for piece in text.chunks(step) {
                    output.extend(encoder.push(piece));
                }
                output.extend(encoder.finish());
                assert!(output.len() < text.len() / 2, "{coding:?}");
                assert!(decode(coding, &output) == text, "{coding:?} by {step}");
            }
            assert_eq!(decode(coding, &Encoder::new(coding).finish()), b"");
        }
    }

    #[test]
    fn a_flush_withholds_nothing() {
        let mut encoder = Encoder::new(Coding::Gzip);
        let mut output = encoder.push(b"hello").to_vec();
        output.extend(encoder.flush());
        let mut decoded = [0; 5];
        flate2::read::GzDecoder::new(&*output)
            .read_exact(&mut decoded)
            .expect("all is there");
        assert_eq!(&decoded, b"hello");
        assert!(encoder.flush().is_empty(), "and nothing comes twice");
        output.extend(encoder.finish());
        assert_eq!(decode(Coding::Gzip, &output), b"hello");
    }
}

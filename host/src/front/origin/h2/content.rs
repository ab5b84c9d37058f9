//! The content of a response over HTTP/2.
//!
//! It is whole when the origin has ended its side of the stream, and not before: a reset without an
//! error code breaks content off like any other (RFC 9113 8.1). The library holds it against its
//! announced length.

use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;

use super::upload::Wanted;

/// The content of one response. Trailers are dropped.
#[derive(Debug)]
pub struct Content {
    stream: RecvStream,
    length: Option<u64>,
    /// The rest of the request, which is still being sent.
    upload: Option<Wanted>,
}

impl Content {
    /// What `stream` brings after the fields `headers`, while `upload` goes on.
    pub(super) fn new(stream: RecvStream, headers: &HeaderMap, upload: Option<Wanted>) -> Self {
        let length = match stream.is_end_stream() {
            true => Some(0),
            false => headers
                .get(CONTENT_LENGTH)
                .and_then(|length| length.to_str().ok()?.parse().ok()),
        };
        let mut content = Self {
            stream,
            length,
            upload,
        };
        if content.is_whole() {
            content.detach();
        }
        content
    }

    /// The length that was announced.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether all of it has been read.
    pub fn is_whole(&self) -> bool {
        self.stream.is_end_stream()
    }

    /// The next piece; `None` once it is whole.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let piece = std::task::ready!(self.stream.poll_data(cx));
        let piece = piece.map(|piece| {
            let piece = piece?;
            self.stream.flow_control().release_capacity(piece.len())?;
            Ok(piece)
        });
        if piece.is_none() || self.is_whole() {
            self.detach();
        }
        Poll::Ready(piece)
    }

    /// What is left of the request goes on without anybody who reads here.
    fn detach(&mut self) {
        if let Some(upload) = self.upload.take() {
            // It may have come to its end before.
            upload.send(()).unwrap_or_default();
        }
    }
}

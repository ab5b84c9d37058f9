//! What is to be sent on a connection, in order.
//!
//! Content is queued by reference. Small pieces are copied together with what is before them,
//! because that goes out faster than gathering them would.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};

use crate::front::transport::Transport;

/// Bytes up to which pieces are copied together.
const COPIED: usize = 4 << 10;
/// Pieces gathered in one system call.
const GATHERED: usize = 16;

/// What is to be sent.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Bytes>,
    /// Bytes that come after the queue.
    tail: Vec<u8>,
    bytes: usize,
}

impl Outbox {
    /// Bytes to be sent.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is to be sent.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Queues what `write` appends.
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.tail.len();
        write(&mut self.tail);
        self.bytes += self.tail.len().saturating_sub(before);
    }

    /// Queues `piece`.
    #[inline]
    pub fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        if self.tail.len() + piece.len() <= COPIED && !self.tail.is_empty() {
            self.tail.extend_from_slice(&piece);
            return;
        }
        self.flush_tail();
        self.queue.push_back(piece);
    }

    fn flush_tail(&mut self) {
        if !self.tail.is_empty() {
            self.queue.push_back(std::mem::take(&mut self.tail).into());
        }
    }

    /// Sends everything.
    pub fn poll_flush(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let sent = std::task::ready!(self.poll_send(transport, cx))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(sent);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(
        &self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match (self.queue.front(), self.queue.len()) {
            (None, _) => transport.poll_send(cx, &self.tail),
            (Some(only), 1) if self.tail.is_empty() => transport.poll_send(cx, only),
            _ => {
                let mut slices = [IoSlice::new(&[]); GATHERED];
                let pieces = self.queue.iter().map(|piece| &**piece);
                let all = pieces.chain(std::iter::once(&*self.tail));
                let mut count = 0;
                for (slice, piece) in slices.iter_mut().zip(all) {
                    *slice = IoSlice::new(piece);
                    count += 1;
                }
                transport.poll_send_gathered(cx, slices.get(..count).unwrap_or_default())
            }
        }
    }

    fn advance(&mut self, mut sent: usize) {
        self.bytes = self.bytes.saturating_sub(sent);
        while let Some(first) = self.queue.front_mut() {
            if sent < first.len() {
                return first.advance(sent);
            }
            sent -= first.len();
            self.queue.pop_front();
        }
        if sent >= self.tail.len() {
            self.tail.clear();
            // An idle connection keeps no more than a small answer needs.
            self.tail.shrink_to(COPIED);
        } else {
            self.tail.drain(..sent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_may_be_sent_at_a_time() {
        for step in [1, 2, 3, 7, 50, 104, 105, 8_000, 8_104, 9_000] {
            let mut outbox = Outbox::default();
            outbox.write(|out| out.extend_from_slice(b"head"));
            outbox.push(Bytes::from(vec![b'a'; 100]));
            outbox.push(Bytes::from(vec![b'b'; 8_000]));
            outbox.write(|out| out.extend_from_slice(b"tail"));
            let mut sent = Vec::new();
            let mut left = outbox.len();
            while !outbox.is_empty() {
                let queued: Vec<u8> = outbox.queue.iter().flatten().copied().collect();
                let all = [queued, outbox.tail.clone()].concat();
                assert_eq!(all.len(), left);
                let now = step.min(left);
                sent.extend_from_slice(&all[..now]);
                outbox.advance(now);
                left -= now;
                assert_eq!(outbox.len(), left);
            }
            assert_eq!(sent.len(), 8_108);
            assert!(sent.starts_with(b"heada") && sent.ends_with(b"btail"));
        }
    }
}

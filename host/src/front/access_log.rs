//! The access log: one JSON object a line on standard output, for each answered request.
//!
//! Lines go to a thread of their own through a bounded queue. A reader that does not keep up
//! costs lines, which are counted, and never a request its time.

use std::io::{self, BufWriter, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use serde::Serialize;

use crate::metrics::Counter;

/// Lines that may wait to be written.
const QUEUE_LINES: usize = 8_192;

/// One answered request.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// When it was answered, milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// The client's address.
    pub client: std::net::IpAddr,
    /// The site that answered.
    pub site: &'a str,
    /// Request method.
    pub method: &'a str,
    /// Normalised authority.
    pub host: &'a str,
    /// Request target as it came.
    pub path: &'a str,
    /// Status of the answer.
    pub status: u16,
    /// Bytes of its content; absent if that is not known when it begins.
    pub bytes: Option<u64>,
    /// Microseconds from the head of the request to the head of the answer.
    pub took_us: Option<u64>,
    /// What the cache did.
    pub cache_status: &'a str,
}

/// A log that is being written.
#[derive(Debug)]
pub struct AccessLog {
    lines: SyncSender<String>,
    dropped: Counter,
}

impl AccessLog {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start() -> io::Result<Self> {
        let (lines, waiting) = sync_channel(QUEUE_LINES);
        let thread = std::thread::Builder::new().name("larder-access".to_owned());
        thread.spawn(move || write(&waiting, io::stdout()))?;
        Ok(Self {
            lines,
            dropped: Counter::default(),
        })
    }

    /// Queues `line`, or drops it if the queue is full.
    pub fn write(&self, line: &Line<'_>) {
        let queued =
            serde_json::to_string(line).is_ok_and(|text| self.lines.try_send(text).is_ok());
        if !queued {
            self.dropped.increment();
        }
    }

    /// Lines that were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.get()
    }
}

/// Writes lines until no more can come, and flushes whenever none is waiting.
fn write(waiting: &Receiver<String>, out: impl Write) {
    let mut out = BufWriter::new(out);
    while let Ok(line) = waiting.recv() {
        let mut next = Some(line);
        let mut written = Ok(());
        while let Some(line) = next {
            written = written.and_then(|()| writeln!(out, "{line}"));
            next = waiting.try_recv().ok();
        }
        if let Err(error) = written.and_then(|()| out.flush()) {
            tracing::warn!(%error, "the access log cannot be written and ends");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queued_line_is_written_in_order() {
        let (lines, waiting) = sync_channel(8);
        for line in ["a", "b", "c"] {
            lines.send(line.to_owned()).expect("there is room");
        }
        drop(lines);
        let mut out = Vec::new();
        write(&waiting, &mut out);
        assert_eq!(out, b"a\nb\nc\n");
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (lines, _waiting) = sync_channel(1);
        let log = AccessLog {
            lines,
            dropped: Counter::default(),
        };
        let line = Line {
            unix_ms: 0,
            client: std::net::IpAddr::from([127, 0, 0, 1]),
            site: "s",
            method: "GET",
            host: "h",
            path: "/",
            status: 200,
            bytes: None,
            took_us: None,
            cache_status: "hit",
        };
        for _ in 0..3 {
            log.write(&line);
        }
        assert_eq!(log.dropped(), 2);
    }
}

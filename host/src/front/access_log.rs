//! The access log: one JSON object a line on standard output, for each answered request.
//!
//! Lines go to a thread of their own through a bounded queue. A reader that does not keep up
//! costs lines, which are counted, and never a request its time.

use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::metrics::Counter;

/// Lines that may wait to be written.
const QUEUE_LINES: usize = 8_192;
/// How long the last lines may take to be written when the process ends.
const FINISH: Duration = Duration::from_secs(2);

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
    /// An empty line only wakes the thread.
    lines: SyncSender<String>,
    ending: Arc<AtomicBool>,
    /// Disconnects when the thread has written its last line.
    written: Mutex<Receiver<()>>,
    dropped: Counter,
}

impl AccessLog {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start() -> io::Result<Self> {
        Self::to(io::stdout(), QUEUE_LINES)
    }

    fn to(out: impl Write + Send + 'static, queue: usize) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(queue);
        let (done, written) = sync_channel(0);
        let ending = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&ending);
        let thread = std::thread::Builder::new().name("larder-access".to_owned());
        thread.spawn(move || {
            let _done: SyncSender<()> = done;
            write(&waiting, &ends, out);
        })?;
        Ok(Self {
            lines,
            ending,
            written: Mutex::new(written),
            dropped: Counter::default(),
        })
    }

    /// Waits until what is queued is written, for two seconds at most, and ends the log.
    pub fn finish(&self) {
        self.ending.store(true, Ordering::Release);
        // Should the queue be full, the thread is awake and looks when it is empty.
        drop(self.lines.try_send(String::new()));
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = written.recv_timeout(FINISH) {
            tracing::warn!("nobody reads the access log; its last lines are lost");
        }
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
fn write(waiting: &Receiver<String>, ending: &AtomicBool, out: impl Write) {
    let mut out = BufWriter::new(out);
    while let Ok(line) = waiting.recv() {
        let mut next = Some(line);
        let mut written = Ok(());
        while let Some(line) = next {
            if !line.is_empty() {
                written = written.and_then(|()| writeln!(out, "{line}"));
            }
            next = waiting.try_recv().ok();
        }
        if let Err(error) = written.and_then(|()| out.flush()) {
            tracing::warn!(%error, "the access log cannot be written and ends");
            return;
        }
        if ending.load(Ordering::Acquire) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a test reads what was written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const LINE: Line<'_> = Line {
        unix_ms: 0,
        client: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        site: "s",
        method: "GET",
        host: "h",
        path: "/",
        status: 200,
        bytes: None,
        took_us: None,
        cache_status: "hit",
    };

    #[test]
    fn every_queued_line_is_written_in_order_before_the_end() {
        let out = Written::default();
        let log = AccessLog::to(out.clone(), 100).expect("a thread");
        for unix_ms in 0..100 {
            log.write(&Line { unix_ms, ..LINE });
        }
        log.finish();
        let text = String::from_utf8(out.0.lock().expect("not poisoned").clone()).expect("JSON");
        let times: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
            .map(|line| line["unix_ms"].as_u64().expect("a number"))
            .collect();
        assert_eq!(times, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (lines, _waiting) = sync_channel(1);
        let (_done, written) = sync_channel(0);
        let log = AccessLog {
            lines,
            ending: Arc::default(),
            written: Mutex::new(written),
            dropped: Counter::default(),
        };
        for _ in 0..3 {
            log.write(&LINE);
        }
        assert_eq!(log.dropped(), 2);
    }
}

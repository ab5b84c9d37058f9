//! The recorder: what clients ask for, as a trace that `larder simulate` reads.
//!
//! One line a request whose response is stored or was: time, hash of the key, size of the whole
//! content, lifetime left. The hash is keyed with a secret of the process, so that nobody learns a
//! key from it; requests of two processes have nothing in common. A request costs one push to a
//! bounded queue, which wakes nobody: a thread looks ten times a second. What finds the queue full
//! is dropped and counted.
//!
//! The trace is `trace.csv`. Where that reaches half of what both may take it becomes
//! `trace.1.csv`, in place of the one before, and a new one begins; so also at the start.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::clock::{self, Moment};
use crate::entry::Entry;
use crate::metrics::Counter;

/// Requests that may wait to be written: a tenth of a second of 650,000 a second.
const QUEUE: usize = 1 << 16;
/// How often the thread looks.
const TICK: Duration = Duration::from_millis(100);
/// How long the last requests may take to be written when the process ends.
const FINISH: Duration = Duration::from_secs(2);

const HEADER: &str = "time,key,size,ttl\n";

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    at: Moment,
    key: u64,
    bytes: u64,
    ttl_s: u64,
}

/// Counts of a recorder.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests that were written.
    pub written: Counter,
    /// Requests that found the queue full, or came after the files could no longer be written.
    pub dropped: Counter,
    /// Requests for content whose size was not known when its head arrived.
    pub unsized_content: Counter,
}

/// A recording under way.
#[derive(Debug)]
pub struct Recorder {
    samples: SyncSender<Sample>,
    counts: Arc<Counts>,
    ending: Arc<AtomicBool>,
    thread: Thread,
    /// Disconnects when the thread has written its last line.
    done: Mutex<Receiver<()>>,
}

impl Recorder {
    /// Begins to record in `dir`, which nothing else writes to, with no more than `bytes_max` in
    /// its files.
    ///
    /// # Errors
    /// The directory cannot be written, or another process records in it.
    pub fn start(dir: &Path, bytes_max: u64) -> io::Result<Self> {
        Self::with_queue(dir, bytes_max, QUEUE)
    }

    fn with_queue(dir: &Path, bytes_max: u64, queue: usize) -> io::Result<Self> {
        let trace = Trace::open(dir, bytes_max / 2)?;
        let (samples, waiting) = sync_channel(queue);
        let (ended, done) = sync_channel(0);
        let (counts, ending) = (
            Arc::new(Counts::default()),
            Arc::new(AtomicBool::new(false)),
        );
        let writer = Writer {
            waiting,
            trace,
            counts: Arc::clone(&counts),
            ending: Arc::clone(&ending),
        };
        let thread = std::thread::Builder::new().name("larder-record".to_owned());
        let handle = thread.spawn(move || {
            let _ended: SyncSender<()> = ended;
            writer.run();
        })?;
        Ok(Self {
            samples,
            counts,
            ending,
            thread: handle.thread().clone(),
            done: Mutex::new(done),
        })
    }

    /// Takes note of a request that `entry` answers.
    #[inline]
    pub fn answered(&self, entry: &Entry, now: Moment) {
        let size = match (entry.response(), entry.partial()) {
            (Some(response), _) => Some(response.body.len()),
            (None, Some(partial)) => partial.parts.complete(),
            (None, None) => return,
        };
        let ttl = entry.lifetime().map(|lifetime| lifetime.remaining(now));
        let ttl_s = ttl.unwrap_or_default().as_secs();
        self.asked(entry.key.view().hash, size, ttl_s, now);
    }

    /// Takes note of a request for `bytes` of content, if they are known, that stay fresh for
    /// `ttl_s` seconds.
    pub fn asked(&self, key: u64, bytes: Option<u64>, ttl_s: u64, now: Moment) {
        let Some(bytes) = bytes else {
            self.counts.unsized_content.increment();
            return;
        };
        let sample = Sample {
            at: now,
            key,
            bytes,
            ttl_s,
        };
        if self.samples.try_send(sample).is_err() {
            self.counts.dropped.increment();
        }
    }

    /// What became of requests so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Waits until what is queued is written, for two seconds at most, and ends the recording.
    pub fn finish(&self) {
        self.ending.store(true, Ordering::Release);
        self.thread.unpark();
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(RecvTimeoutError::Timeout) = done.recv_timeout(FINISH) {
            tracing::warn!("the recording cannot be written in time; its last requests are lost");
        }
    }
}

/// The thread that writes.
struct Writer {
    waiting: Receiver<Sample>,
    trace: Trace,
    counts: Arc<Counts>,
    ending: Arc<AtomicBool>,
}

impl Writer {
    fn run(mut self) {
        let start_ms = clock::unix_millis(clock::wall()).saturating_sub(clock::now().as_millis());
        loop {
            // Read first: what was queued before the end is written.
            let ending = self.ending.load(Ordering::Acquire);
            if let Err(error) = self.write(start_ms) {
                let dir = self.trace.dir.display();
                tracing::warn!(%dir, %error, "the recording cannot be written and ends");
                return;
            }
            if ending {
                return;
            }
            std::thread::park_timeout(TICK);
        }
    }

    fn write(&mut self, start_ms: u64) -> io::Result<()> {
        let mut written = 0;
        while let Ok(sample) = self.waiting.try_recv() {
            self.trace.push(start_ms, sample)?;
            written += 1;
        }
        if written > 0 {
            self.trace.file.flush()?;
            self.counts.written.add(written);
        }
        Ok(())
    }
}

/// The files of a recording.
struct Trace {
    dir: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    bytes_max: u64,
    line: Vec<u8>,
    _lock: File,
}

impl Trace {
    fn open(dir: &Path, bytes_max: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let lock = File::create(dir.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => io::Error::other(
                "another larder records there; stop it, or give each a directory of its own",
            ),
            error => error.into(),
        })?;
        let [current, before] = paths(dir);
        for path in [&current, &before] {
            // Of a larger recording than this one may be.
            if fs::metadata(path).is_ok_and(|file| file.len() > bytes_max) {
                fs::remove_file(path)?;
            }
        }
        if fs::metadata(&current).is_ok_and(|file| file.len() > length(HEADER.as_bytes())) {
            fs::rename(&current, &before)?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            file: begin(&current)?,
            bytes: length(HEADER.as_bytes()),
            bytes_max,
            line: Vec::new(),
            _lock: lock,
        })
    }

    fn push(&mut self, start_ms: u64, sample: Sample) -> io::Result<()> {
        let ms = start_ms.saturating_add(sample.at.as_millis());
        let Sample {
            key, bytes, ttl_s, ..
        } = sample;
        self.line.clear();
        let (seconds, fraction) = (ms / 1_000, ms % 1_000);
        writeln!(
            self.line,
            "{seconds}.{fraction:03},{key:016x},{bytes},{ttl_s}"
        )?;
        if self.bytes.saturating_add(length(&self.line)) > self.bytes_max {
            self.rotate()?;
        }
        self.bytes = self.bytes.saturating_add(length(&self.line));
        self.file.write_all(&self.line)
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let [current, before] = paths(&self.dir);
        fs::rename(&current, before)?;
        self.file = begin(&current)?;
        self.bytes = length(HEADER.as_bytes());
        Ok(())
    }
}

fn paths(dir: &Path) -> [PathBuf; 2] {
    ["trace.csv", "trace.1.csv"].map(|name| dir.join(name))
}

fn begin(path: &Path) -> io::Result<BufWriter<File>> {
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(HEADER.as_bytes())?;
    file.flush()?;
    Ok(file)
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dir: &Path, name: &str) -> String {
        fs::read_to_string(dir.join(name)).unwrap_or_default()
    }

    fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
        text.lines().skip(1).map(|line| line.split(',').collect())
    }

    #[test]
    fn requests_are_written_in_order_before_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let recorder = Recorder::start(dir.path(), 1 << 20).unwrap();
        for key in 0..1_000 {
            recorder.asked(key, Some(key * 10), 60, Moment::from_millis(key * 7));
        }
        recorder.asked(5, None, 60, Moment::from_millis(9_000));
        recorder.finish();
        let counts = recorder.counts();
        let found = [&counts.written, &counts.dropped, &counts.unsized_content];
        assert_eq!(found.map(Counter::get), [1_000, 0, 1]);
        let text = read(dir.path(), "trace.csv");
        assert!(text.starts_with(HEADER));
        let rows: Vec<_> = lines(&text).collect();
        assert_eq!(rows.len(), 1_000);
        let time = |row: &[&str]| row[0].parse::<f64>().unwrap();
        for (key, row) in rows.iter().enumerate() {
            let expected = [format!("{key:016x}"), (key * 10).to_string(), "60".into()];
            assert_eq!(row[1..], expected);
        }
        assert!((time(&rows[999]) - time(&rows[0]) - 6.993).abs() < 0.002);
    }

    #[test]
    fn the_files_never_take_more_than_they_may() {
        let dir = tempfile::tempdir().unwrap();
        let bytes_max = 8_192;
        for _ in 0..2 {
            let recorder = Recorder::start(dir.path(), bytes_max).unwrap();
            for key in 0..1_000 {
                recorder.asked(key, Some(u64::MAX), u64::MAX, Moment::from_millis(key));
            }
            recorder.finish();
            let (now, before) = (
                read(dir.path(), "trace.csv"),
                read(dir.path(), "trace.1.csv"),
            );
            assert!(length(now.as_bytes()) + length(before.as_bytes()) <= bytes_max);
            assert!(before.starts_with(HEADER) && length(before.as_bytes()) > bytes_max / 3);
            let last = lines(&now).last().unwrap();
            assert_eq!(last[1], format!("{:016x}", 999));
        }
        // One that may hold less drops what is too large for it.
        drop(Recorder::start(dir.path(), 1_024).map(|recorder| recorder.finish()));
        assert_eq!(read(dir.path(), "trace.csv"), HEADER);
        assert_eq!(read(dir.path(), "trace.1.csv"), "");
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (samples, _waiting) = sync_channel(1);
        let (_ended, done) = sync_channel(0);
        let recorder = Recorder {
            samples,
            counts: Arc::default(),
            ending: Arc::default(),
            thread: std::thread::current(),
            done: Mutex::new(done),
        };
        for key in 0..3 {
            recorder.asked(key, Some(1), 1, Moment::from_millis(0));
        }
        assert_eq!(recorder.counts().dropped.get(), 2);
    }

    #[test]
    fn a_directory_has_one_recorder() {
        let dir = tempfile::tempdir().unwrap();
        let first = Recorder::start(dir.path(), 1 << 20).unwrap();
        let told = Recorder::start(dir.path(), 1 << 20)
            .unwrap_err()
            .to_string();
        assert!(told.contains("another larder records there"), "{told}");
        first.finish();
        let file = dir.path().join("trace.csv");
        let told = Recorder::start(&file, 1 << 20).unwrap_err();
        assert_eq!(told.kind(), io::ErrorKind::AlreadyExists);
    }
}

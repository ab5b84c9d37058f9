//! The purge log: who is told that a purge outlasts the machine is told the truth, whoever waited for
//! the device.

use std::io;
use std::path::Path;

use super::Effect;
use super::purge_file::{self, FRAMES, Found, Logged};
use super::purge_log::{Medium, PurgeLog};
use super::purges::Mark;
use crate::check::many;
use crate::entry::Tag;
use crate::scene::{join, spawn};
use crate::sync::{Arc, Mutex, PoisonError, thread};
use crate::tier::Selection;

/// A device that keeps what was written before a sync began, once that has ended.
#[derive(Clone, Debug)]
struct Device(Arc<Mutex<Bytes>>);

#[derive(Debug)]
struct Bytes {
    written: Vec<u8>,
    kept: Vec<u8>,
    syncs: usize,
    /// Which of the syncs fails.
    fails: Option<usize>,
}

impl Device {
    fn new(content: &[u8], fails: Option<usize>) -> Self {
        Self(Arc::new(Mutex::new(Bytes {
            written: content.to_vec(),
            kept: content.to_vec(),
            syncs: 0,
            fails,
        })))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Bytes) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether purge `number` is found after a power cut.
    fn keeps(&self, number: u64) -> bool {
        let kept = self.with(|bytes| bytes.kept.clone());
        purges(&kept).iter().any(|mark| mark.number == number)
    }
}

/// The purges in the log `bytes`, which has lost none that it tells of.
fn purges(bytes: &[u8]) -> Vec<Mark> {
    let Found::Log(_, frames) = purge_file::decode(bytes) else {
        panic!("it is no log any more")
    };
    let marks = frames.iter().map(|logged| match logged {
        Logged::Purge(mark, ..) => *mark,
        other => panic!("{other:?}: it tells of more than there is"),
    });
    marks.collect()
}

impl Medium for Device {
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).expect("it is short");
        self.with(|device| {
            let end = at + bytes.len();
            if device.written.len() < end {
                device.written.resize(end, 0);
            }
            device.written[at..end].copy_from_slice(bytes);
            // The system may write down the head by itself, and nothing else.
            let head = usize::try_from(FRAMES).expect("it is short");
            let mut cut = device.kept.clone();
            cut[..head].copy_from_slice(&device.written[..head]);
            purges(&cut);
        });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let (written, fails) = self.with(|device| {
            device.syncs += 1;
            (device.written.clone(), device.fails == Some(device.syncs))
        });
        thread::yield_now();
        if fails {
            return Err(io::Error::other("as it was told"));
        }
        self.with(|device| device.kept = written);
        Ok(())
    }
}

/// A purge that is acknowledged is on the device, though another one may have waited for it, and the
/// head never tells of more than there is; after the device has failed nothing is acknowledged that is
/// not there.
pub fn what_is_acknowledged_is_on_the_device() {
    for fails in [None, Some(1), Some(2)] {
        many(10_000, move || {
            let (content, tally) = purge_file::file(1, &[]);
            let device = Device::new(&content, fails);
            let medium = Box::new(device.clone());
            let log = PurgeLog::over(medium, Path::new("log"), 1, Vec::new(), tally);
            let log = Arc::new(log);
            let purge = |number: u64| {
                let (log, device) = (Arc::clone(&log), device.clone());
                spawn(move || {
                    let mark = Mark { number, at: 0 };
                    let selection = Selection::of_tags([Tag(number)]);
                    log.append(&Logged::Purge(mark, Effect::Hard, selection));
                    match log.sync() {
                        Ok(()) => assert!(device.keeps(number), "{number} is lost"),
                        Err(_) => assert!(fails.is_some()),
                    }
                })
            };
            join([purge(1), purge(2), purge(3)]);
            let syncs = device.with(|device| device.syncs);
            assert!((1..=3).contains(&syncs));
        });
    }
}

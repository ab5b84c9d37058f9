//! The file in which purges outlast the process: appended to before a purge is acknowledged, read
//! back at start.
//!
//! What is appended is synced, and then the head of the file is told how much that is (see
//! [`super::purge_file`]), so that a log that has lost its end is known. That is written before the
//! purge is acknowledged, and is on the device with the next purge, or when the system writes it
//! down, within some seconds: until then a power cut makes it say less than there is.
//!
//! Who waits while another syncs is synced with it (group commit): a write of the purges, a sync and
//! a write of the head for all of them.
//!
//! At start the log is written anew, without what does not matter any more, beside itself, and
//! renamed. Numbers jump then: those that were given out for purges that never came to the device
//! are not given out again, or what was stored after such a one would pass for newer than the next.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Effect;
use super::purge_file::{self, Found, Logged, TALLIES, Tally, VERSION};
use crate::clock;
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes that wait to be written while the device takes none.
const PENDING_MAX: usize = 16 << 20;
/// By how much numbers jump at start: more than a process gives out while the device takes none.
const STEP: u64 = 1 << 32;

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else, or a later version wrote it.
    #[error(
        "{} is no purge log of version 1 or {VERSION}: it is damaged, or something else; move it \
         away to start without it, and what the disk tier holds is not used",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

/// What a log asks of the system once it is open: a seam, so that tests can end it at any call.
pub(super) trait Medium: Debug + Send + Sync {
    /// Writes all of `bytes` at `at`. After an error, part of them may be there.
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Waits until what was written is on the device.
    fn sync(&self) -> io::Result<()>;
}

impl Medium for File {
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// The log of one node.
#[derive(Debug)]
pub struct PurgeLog {
    path: PathBuf,
    node: u64,
    medium: Box<dyn Medium>,
    appending: Mutex<Appending>,
    synced: Mutex<Synced>,
    /// What earlier processes logged, until it was replayed.
    earlier: Mutex<Vec<Logged>>,
}

#[derive(Debug)]
struct Appending {
    /// What of the file is whole frames.
    tally: Tally,
    /// Frames that are not written yet, because the device took none.
    pending: Vec<u8>,
    frames: u64,
    /// Whether the device has failed to sync, after which nobody knows what it holds.
    lost: bool,
}

impl Appending {
    /// Writes what is pending. If that fails it is written again, to the same place.
    fn flush(&mut self, medium: &dyn Medium) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        medium.write(&self.pending, self.tally.end())?;
        self.tally.add(&self.pending);
        self.pending.clear();
        Ok(())
    }
}

/// What is known to be on the device.
#[derive(Debug)]
struct Synced {
    frames: u64,
    /// Where the tally of it is, and where the one before.
    places: [u64; 2],
}

impl PurgeLog {
    /// Opens the log at `path`, or begins one. If one `is_missing`, because there is what it should
    /// tell of, that which is begun says so from its first byte. Blocks.
    ///
    /// # Errors
    /// The file is something else, or cannot be read or written.
    pub fn open(path: &Path, is_missing: bool) -> Result<Self, LogError> {
        let io = |source| LogError::Io {
            path: path.to_owned(),
            source,
        };
        let bytes = match fs::read(path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io(error)),
        };
        let Some((node, earlier)) = earlier(bytes.as_deref(), is_missing) else {
            return Err(LogError::Foreign {
                path: path.to_owned(),
            });
        };
        let (content, tally) = purge_file::file(node, &earlier);
        let file = replace(path, &content).map_err(io)?;
        Ok(Self::over(Box::new(file), path, node, earlier, tally))
    }

    /// The log of `node` on `medium`, which is at `path` and holds `earlier`, counted by `tally`.
    pub(super) fn over(
        medium: Box<dyn Medium>,
        path: &Path,
        node: u64,
        earlier: Vec<Logged>,
        tally: Tally,
    ) -> Self {
        Self {
            path: path.to_owned(),
            node,
            medium,
            appending: Mutex::new(Appending {
                tally,
                pending: Vec::new(),
                frames: 0,
                lost: false,
            }),
            synced: Mutex::new(Synced {
                frames: 0,
                places: TALLIES,
            }),
            earlier: Mutex::new(earlier),
        }
    }

    /// The node whose purges these are: a random number, drawn when the log was begun.
    pub(super) fn node(&self) -> u64 {
        self.node
    }

    /// What earlier processes logged, oldest first. Once.
    pub(super) fn replay(&self) -> Vec<Logged> {
        std::mem::take(&mut *lock(&self.earlier))
    }

    /// Appends `logged`. What goes wrong [`Self::sync`] tells.
    pub(super) fn append(&self, logged: &Logged) {
        let mut appending = lock(&self.appending);
        appending.frames += 1;
        appending.pending.extend(purge_file::encode(logged));
        if appending.pending.len() > PENDING_MAX {
            // Fewer words for the same and more.
            appending.pending = purge_file::encode(&Logged::Forgotten(logged.mark()));
        }
        if let Err(error) = appending.flush(&*self.medium) {
            tracing::error!(path = %self.path.display(), %error, "a purge could not be written down");
        }
    }

    /// Waits until all that was appended is on the device. Blocks.
    pub(super) fn sync(&self) -> io::Result<()> {
        let wanted = lock(&self.appending).frames;
        // Who waits here while another syncs finds its own frames synced as well, mostly.
        let mut synced = lock(&self.synced);
        if synced.frames >= wanted {
            return Ok(());
        }
        let (tally, frames) = {
            let mut appending = lock(&self.appending);
            if appending.lost {
                let message = "the device failed to sync the purge log; restart once it is sound";
                return Err(io::Error::other(message));
            }
            appending.flush(&*self.medium)?;
            (appending.tally, appending.frames)
        };
        if let Err(error) = self.medium.sync() {
            lock(&self.appending).lost = true;
            return Err(error);
        }
        // Over the older of the two tallies: the other holds until this one is whole.
        let [latest, before] = synced.places;
        self.medium.write(&tally.encode(), before)?;
        *synced = Synced {
            frames,
            places: [before, latest],
        };
        Ok(())
    }
}

/// The node whose log `bytes` are and what it tells the next process; none of what is no log. If
/// there are no bytes, because it `is_missing` or because it is new, it is that of a new node.
fn earlier(bytes: Option<&[u8]>, is_missing: bool) -> Option<(u64, Vec<Logged>)> {
    match bytes.map(purge_file::decode) {
        None if is_missing => Some((random(), vec![purge_file::forgotten(&[])])),
        None => Some((random(), Vec::new())),
        Some(Found::Log(node, mut frames)) => {
            frames.push(Logged::Began(purge_file::beyond(&frames, STEP)));
            Some((node, compacted(frames)))
        }
        // It was there before it had its name, so it was whole once.
        Some(Found::Short) => Some((random(), vec![purge_file::lost(&[])])),
        Some(Found::Foreign) => None,
    }
}

/// Without what a later purge of everything covers, and without what earlier processes began, but
/// for the latest, which is told by its number from what came after.
fn compacted(mut frames: Vec<Logged>) -> Vec<Logged> {
    let covers = |logged: &Logged| match logged {
        Logged::Purge(_, effect, selection) => *effect == Effect::Hard && selection.all,
        Logged::Forgotten(_) => true,
        Logged::Began(_) => false,
    };
    let from = frames.iter().rposition(covers).unwrap_or_default();
    frames.drain(..from);
    let mut began = frames.iter().filter(|it| matches!(it, Logged::Began(_)));
    // That of this process, and the one before, after which it stored without a purge.
    let since = began.nth_back(1).map_or(0, |logged| logged.mark().number);
    frames.retain(|it| !matches!(it, Logged::Began(mark) if mark.number < since));
    frames
}

/// Writes the file at `path` anew with `content`, and opens it for writing.
fn replace(path: &Path, content: &[u8]) -> io::Result<File> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(file)
}

/// A number that no other node has.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(clock::unix_millis(clock::wall()))
}

/// Everything behind these locks is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

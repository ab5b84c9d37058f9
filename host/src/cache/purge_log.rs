//! The file in which purges outlast the process: appended to before a purge is acknowledged, read
//! back at start.
//!
//! ```text
//! "LARDERPL" version:u32 node:u64 crc:u32                    once
//! length:u32 crc:u32 message                                 for each purge (postcard)
//! ```
//!
//! Numbers are little-endian, checksums CRC-32 of what they guard. Anything behind the last whole
//! frame but zeros says that a purge may be lost, and then everything that was stored before is
//! taken for purged. Who waits while another syncs is synced with it (group commit).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::Effect;
use super::purges::Mark;
use crate::clock;
use crate::entry::{SiteId, Tag};
use crate::tier::Selection;

const MAGIC: &[u8; 8] = b"LARDERPL";
const VERSION: u32 = 1;
const HEADER: usize = 24;
/// Tags of one message. A purge of more is logged in several.
const TAGS_MAX: usize = 50_000;
/// Bytes that wait to be written while the device takes none.
const PENDING_MAX: usize = 16 << 20;
/// By how much numbers jump where some may be lost: more than any log holds.
const GAP: u64 = 1 << 40;

/// What a log holds.
#[derive(Clone, Debug)]
pub(super) enum Logged {
    /// A purge.
    Purge(Mark, Effect, Selection),
    /// Purges up to this one may have been lost.
    Forgotten(Mark),
}

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
    #[error("{} is no purge log of version {VERSION}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

/// The log of one node.
#[derive(Debug)]
pub struct PurgeLog {
    path: PathBuf,
    node: u64,
    appending: Mutex<Appending>,
    /// Frames that are known to be on the device.
    synced: Mutex<u64>,
    /// What earlier processes logged, until it was replayed.
    earlier: Mutex<Vec<Logged>>,
}

#[derive(Debug)]
struct Appending {
    file: File,
    /// Bytes of it that are whole frames.
    length: u64,
    /// Frames that are not written yet, because the device took none.
    pending: Vec<u8>,
    frames: u64,
    /// Whether the device has failed to sync, after which nobody knows what it holds.
    lost: bool,
}

impl Appending {
    /// Writes what is pending, all or nothing of it.
    fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.pending);
        if written.is_err() {
            // Part of a frame must not stay in the way of the next one.
            self.file.set_len(self.length)?;
        } else {
            self.length += u64::try_from(self.pending.len()).unwrap_or_default();
            self.pending.clear();
        }
        written
    }
}

#[derive(Serialize, Deserialize)]
struct Frame {
    number: u64,
    at: u64,
    /// 0 hard, 1 soft, 2 forgotten.
    what: u8,
    all: bool,
    sites: Vec<u64>,
    tags: Vec<u64>,
}

impl PurgeLog {
    /// Opens the log at `path`, or begins one. Blocks.
    ///
    /// # Errors
    /// The file is something else, or cannot be read or written.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let io = |source| LogError::Io {
            path: path.to_owned(),
            source,
        };
        let bytes = match fs::read(path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io(error)),
        };
        let (node, earlier) = match bytes.as_deref().map(header) {
            None => (random(), Vec::new()),
            Some(Header::Node(node, frames)) => (node, compacted(read(frames))),
            // It was there before it had its name, so it was whole once.
            Some(Header::Short) => (random(), vec![lost(0)]),
            Some(Header::Foreign) => {
                return Err(LogError::Foreign {
                    path: path.to_owned(),
                });
            }
        };
        let file = rewrite(path, node, &earlier).map_err(io)?;
        Ok(Self {
            path: path.to_owned(),
            node,
            appending: Mutex::new(Appending {
                length: file.metadata().map_err(io)?.len(),
                file,
                pending: Vec::new(),
                frames: 0,
                lost: false,
            }),
            synced: Mutex::new(0),
            earlier: Mutex::new(earlier),
        })
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
        appending.pending.extend(encode(logged));
        if appending.pending.len() > PENDING_MAX {
            // Fewer words for the same and more.
            let (Logged::Purge(mark, ..) | Logged::Forgotten(mark)) = logged;
            appending.pending = encode(&Logged::Forgotten(*mark));
        }
        if let Err(error) = appending.flush() {
            tracing::error!(path = %self.path.display(), %error, "a purge could not be written down");
        }
    }

    /// Waits until all that was appended is on the device. Blocks.
    pub(super) fn sync(&self) -> io::Result<()> {
        let wanted = lock(&self.appending).frames;
        // Who waits here while another syncs finds its own frames synced as well, mostly.
        let mut synced = lock(&self.synced);
        if *synced >= wanted {
            return Ok(());
        }
        let (file, frames) = {
            let mut appending = lock(&self.appending);
            if appending.lost {
                let message = "the device failed to sync the purge log; restart once it is sound";
                return Err(io::Error::other(message));
            }
            appending.flush()?;
            (appending.file.try_clone()?, appending.frames)
        };
        let done = file.sync_data();
        match &done {
            Ok(()) => *synced = frames,
            Err(_) => lock(&self.appending).lost = true,
        }
        done
    }
}

enum Header<'a> {
    /// The node, and the frames.
    Node(u64, &'a [u8]),
    Short,
    Foreign,
}

fn header(bytes: &[u8]) -> Header<'_> {
    let Some((header, frames)) = bytes.split_at_checked(HEADER) else {
        return match MAGIC.starts_with(bytes.get(..8).unwrap_or(bytes)) {
            true => Header::Short,
            false => Header::Foreign,
        };
    };
    let mut fields = Fields(header);
    let magic = fields.take(8);
    let (version, node, crc) = (fields.u32(), fields.u64(), fields.u32());
    let guarded = header.get(..20).unwrap_or_default();
    match (
        magic == Some(MAGIC),
        version,
        crc == Some(crc32fast::hash(guarded)),
    ) {
        (true, Some(VERSION), true) => {
            node.map_or(Header::Foreign, |node| Header::Node(node, frames))
        }
        _ => Header::Foreign,
    }
}

/// Reads numbers one after another.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
}

/// The frames in `bytes`, up to where they stop making sense.
fn read(bytes: &[u8]) -> Vec<Logged> {
    let mut frames = Vec::new();
    let mut fields = Fields(bytes);
    let mut latest = 0;
    while !fields.0.is_empty() {
        // A crash of the machine leaves zeros where nothing was acknowledged.
        if fields.0.iter().all(|byte| *byte == 0) {
            break;
        }
        if let Some(logged) = next(&mut fields) {
            let (Logged::Purge(mark, ..) | Logged::Forgotten(mark)) = &logged;
            latest = latest.max(mark.number);
            frames.push(logged);
        } else {
            frames.push(lost(latest));
            break;
        }
    }
    frames
}

/// That purges after number `latest` are lost.
fn lost(latest: u64) -> Logged {
    tracing::error!(
        latest,
        "the purge log is damaged; everything stored on slow tiers until now is taken for purged"
    );
    Logged::Forgotten(Mark {
        number: latest.saturating_add(GAP),
        at: clock::unix_millis(clock::wall()),
    })
}

/// The next frame, if it is whole.
fn next(fields: &mut Fields<'_>) -> Option<Logged> {
    let length = usize::try_from(fields.u32()?).ok()?;
    let crc = fields.u32()?;
    let message = fields.take(length)?;
    if crc != crc32fast::hash(message) {
        return None;
    }
    let (frame, rest) = postcard::take_from_bytes::<Frame>(message).ok()?;
    let mark = Mark {
        number: frame.number,
        at: frame.at,
    };
    let effect = match frame.what {
        0 => Effect::Hard,
        1 => Effect::Soft,
        2 => return Some(Logged::Forgotten(mark)),
        _ => return None,
    };
    let mut selection = Selection::of_tags(frame.tags.into_iter().map(Tag));
    selection.all = frame.all;
    selection.sites = frame.sites.into_iter().map(SiteId).collect();
    rest.is_empty()
        .then_some(Logged::Purge(mark, effect, selection))
}

fn encode(logged: &Logged) -> Vec<u8> {
    let nothing = Selection::default();
    let (mark, what, selection) = match logged {
        Logged::Purge(mark, Effect::Soft, selection) => (mark, 1, selection),
        Logged::Purge(mark, Effect::Hard | Effect::None, selection) => (mark, 0, selection),
        Logged::Forgotten(mark) => (mark, 2, &nothing),
    };
    let mut lots = selection.tags().chunks(TAGS_MAX);
    let mut bytes = Vec::new();
    // At least one, also of a purge without tags.
    let mut lot = lots.next().unwrap_or_default();
    loop {
        let frame = Frame {
            number: mark.number,
            at: mark.at,
            what,
            all: selection.all,
            sites: selection.sites.iter().map(|site| site.0).collect(),
            tags: lot.iter().map(|tag| tag.0).collect(),
        };
        // A struct of numbers and lists always encodes.
        let message = postcard::to_stdvec(&frame).unwrap_or_default();
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&message).to_le_bytes());
        bytes.extend_from_slice(&message);
        match lots.next() {
            Some(next) => lot = next,
            None => return bytes,
        }
    }
}

/// Without what a later purge of everything covers.
fn compacted(frames: Vec<Logged>) -> Vec<Logged> {
    let covers = |logged: &Logged| match logged {
        Logged::Purge(_, effect, selection) => *effect == Effect::Hard && selection.all,
        Logged::Forgotten(_) => true,
    };
    let from = frames.iter().rposition(covers).unwrap_or_default();
    frames.into_iter().skip(from).collect()
}

/// Writes a log anew, and opens it for appending.
fn rewrite(path: &Path, node: u64, frames: &[Logged]) -> io::Result<File> {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&node.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    for frame in frames {
        bytes.extend(encode(frame));
    }
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    OpenOptions::new().append(true).open(path)
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
mod tests {
    use super::super::purges::{Purges, Standing};
    use super::*;
    use crate::tier::envelope::Born;

    const SITE: SiteId = SiteId(1);

    fn tags(tags: std::ops::Range<u64>) -> Selection {
        Selection::of_tags(tags.map(Tag))
    }

    fn open(path: &Path) -> Purges {
        Purges::open(PurgeLog::open(path).unwrap())
    }

    fn standing(purges: &Purges, born: &Born, tag: u64) -> Standing {
        purges.standing(born, SITE, std::iter::once(Tag(tag)))
    }

    #[test]
    fn purges_outlast_the_process_and_numbers_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("purges");
        let born = {
            let purges = open(&path);
            let born = purges.born(purges.latest(), 0);
            assert_eq!(purges.record(&tags(0..3), Effect::Hard).number, 1);
            assert_eq!(purges.record(&tags(5..120_000), Effect::Soft).number, 2);
            purges.sync().unwrap();
            born
        };
        for _ in 0..2 {
            let purges = open(&path);
            assert_eq!((purges.latest(), purges.node()), (2, born.node));
            assert_eq!(standing(&purges, &born, 2), Standing::Purged);
            assert_eq!(standing(&purges, &born, 3), Standing::Valid);
            for tag in [5, 119_999] {
                assert!(matches!(
                    standing(&purges, &born, tag),
                    Standing::Softened(_)
                ));
            }
        }
        let purges = open(&path);
        assert_eq!(
            purges.record(&Selection::everything(), Effect::Hard).number,
            3
        );
        purges.sync().unwrap();
        drop(purges);
        assert!(fs::metadata(&path).unwrap().len() > 100_000);
        let purges = open(&path);
        assert_eq!(standing(&purges, &born, 3), Standing::Purged);
        assert!(fs::metadata(&path).unwrap().len() < 100, "compacted");
    }

    #[test]
    fn what_is_missing_at_the_end_was_stored_before_nothing_that_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("purges");
        let purges = open(&path);
        let born = purges.born(0, 0);
        purges.record(&tags(1..2), Effect::Hard);
        purges.sync().unwrap();
        let first = fs::metadata(&path).unwrap().len();
        purges.record(&tags(2..3), Effect::Hard);
        purges.sync().unwrap();
        let whole = fs::read(&path).unwrap();
        let first = usize::try_from(first).unwrap();
        for length in first..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let purges = open(&path);
            for tag in 1..4 {
                let expected = match (tag, length) {
                    (2.., cut) if cut == first => Standing::Valid,
                    _ => Standing::Purged,
                };
                assert_eq!(standing(&purges, &born, tag), expected, "{length}");
            }
            // What was stored after the purge that is missing tells that it is.
            let later = purges.born(2, 0);
            assert_eq!(standing(&purges, &later, 9), Standing::Purged, "{length}");
        }
        let mut zeros = whole.clone();
        zeros.resize(whole.len() + 4_096, 0);
        fs::write(&path, zeros).unwrap();
        assert_eq!(standing(&open(&path), &born, 3), Standing::Valid);
    }

    #[test]
    fn after_damage_nothing_that_was_stored_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("purges");
        let purges = open(&path);
        let born = purges.born(0, 0);
        for tag in 1..4 {
            purges.record(&tags(tag..tag + 1), Effect::Hard);
        }
        purges.sync().unwrap();
        let whole = fs::read(&path).unwrap();
        let frame = (whole.len() - HEADER) / 3;
        for at in HEADER..HEADER + frame * 3 {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                fs::write(&path, &damaged).unwrap();
                let purges = open(&path);
                for tag in 1..4 {
                    assert_eq!(
                        standing(&purges, &born, tag),
                        Standing::Purged,
                        "{at} {bit}"
                    );
                }
                let later = purges.born(purges.latest(), 0);
                assert_eq!(standing(&purges, &later, 9), Standing::Valid);
            }
        }
        for at in 0..HEADER {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(
                matches!(PurgeLog::open(&path), Err(LogError::Foreign { .. })),
                "{at}"
            );
        }
    }

    #[test]
    fn of_a_log_that_was_cut_short_nothing_older_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("purges");
        let purges = open(&path);
        let at = clock::unix_millis(clock::wall());
        let born = purges.born(purges.latest(), at);
        assert_eq!(standing(&purges, &born, 1), Standing::Valid);
        drop(purges);
        let whole = fs::read(&path).unwrap();
        for length in 0..HEADER {
            fs::write(&path, &whole[..length]).unwrap();
            for _ in 0..2 {
                let purges = open(&path);
                assert_eq!(standing(&purges, &born, 1), Standing::Purged, "{length}");
                let later = purges.born(purges.latest(), 0);
                assert_eq!(standing(&purges, &later, 1), Standing::Valid);
            }
        }
    }

    #[test]
    fn what_is_no_log_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("purges");
        fs::write(&path, b"something else").unwrap();
        let error = PurgeLog::open(&path).unwrap_err().to_string();
        assert!(
            error.ends_with("purges is no purge log of version 1"),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"something else");
    }
}

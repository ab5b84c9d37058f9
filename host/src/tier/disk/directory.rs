//! The directory of the tier: whose it is, who has it, and what is in it.
//!
//! One process at a time has it, by a lock that the kernel gives back whatever becomes of the
//! process. What is not ours, or of another version, is refused as it was found; what is ours and
//! damaged is used as far as it goes. Links are never followed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Advice, FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::format::{Head, Identity, Superblock, VERSION, long};
use super::io::Io;
use super::random;

const LOCK: &str = "LOCK";
const MANIFEST: &str = "manifest";
const MANIFEST_NEW: &str = "manifest.new";
const SEGMENT: &str = "seg-";
/// What a lock file begins with.
const OWNED: &str = "larder disk tier";

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused.
    #[error("cannot use {} for the disk tier: {doing}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It is a file.
    #[error("{} is no directory; the disk tier needs one of its own", path.display())]
    NotADirectory {
        /// What was given.
        path: PathBuf,
    },
    /// It holds something else.
    #[error(
        "{} holds files that are not of a disk tier, such as `{found}`; nothing was changed: \
         name a directory that is empty or missing", path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One of the files.
        found: String,
    },
    /// Another version wrote it.
    #[error(
        "{} was written by a disk tier of version {version}, this is version {VERSION}; nothing \
         was changed: run the other version, or name another directory", path.display()
    )]
    Version {
        /// The directory.
        path: PathBuf,
        /// The version.
        version: u32,
    },
    /// Another process has it.
    #[error(
        "{} is in use by {holder}; two processes cannot share a disk tier: stop the other one, or \
         name another directory", path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who has it.
        holder: String,
    },
    /// The capacity holds too few segments.
    #[error("a disk tier of {capacity} bytes is too small; it needs at least {least}")]
    TooSmall {
        /// What was given.
        capacity: u64,
        /// The least there is.
        least: u64,
    },
    /// The file system has too little room even for a small tier.
    #[error(
        "the file system of {} has {free} bytes left, and the disk tier needs at least {least}",
        path.display()
    )]
    NoSpace {
        /// The directory.
        path: PathBuf,
        /// What is left for it.
        free: u64,
        /// The least there is.
        least: u64,
    },
    /// No thread could be started.
    #[error("cannot start the threads of the disk tier: {0}")]
    Threads(#[source] io::Error),
}

/// A directory that this process has.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    io: Arc<dyn Io>,
    /// Held for as long as the directory is.
    lock: File,
}

/// A segment that was found.
#[derive(Debug)]
pub(super) struct Stored {
    /// Its number.
    pub number: u32,
    /// Its file.
    pub file: Arc<File>,
    /// Its superblock, if it is sound and of this tier.
    pub superblock: Option<Superblock>,
    /// Whether there was another one, so that it may have held something that is lost.
    pub is_lost: bool,
}

impl Stored {
    /// The segment in `file`.
    ///
    /// # Errors
    /// A later version wrote it: which.
    fn of(number: u32, file: File) -> Result<Self, u32> {
        let (superblock, is_lost) = match superblock(&file) {
            Head::Known(superblock) => (Some(superblock), false),
            Head::Version(version) => return Err(version),
            Head::Unknown => (None, !is_unused(&file)),
        };
        Ok(Self {
            number,
            file: Arc::new(file),
            superblock,
            is_lost,
        })
    }
}

/// What is in a directory.
#[derive(Debug)]
pub(super) struct Contents {
    /// Of the tier that it holds, if there is one.
    pub identity: Option<Identity>,
    /// Whether the manifest says so too.
    pub has_manifest: bool,
    /// The segments.
    pub segments: Vec<Stored>,
}

/// What the name of a file says.
enum Name {
    Lock,
    Manifest,
    New,
    Segment(u32),
    Other,
}

fn name_of(name: &str) -> Name {
    let number = |digits: &str| {
        let canonical = digits.len() >= 6 && digits.bytes().all(|b| b.is_ascii_digit());
        canonical.then(|| digits.parse().ok()).flatten()
    };
    match name {
        LOCK => Name::Lock,
        MANIFEST => Name::Manifest,
        MANIFEST_NEW => Name::New,
        _ => match name.strip_prefix(SEGMENT).and_then(number) {
            Some(number) if number < 1 << 22 => Name::Segment(number),
            _ => Name::Other,
        },
    }
}

/// Opens a file for reading and writing, never through a link.
fn open(path: &Path, create: bool) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    // Records are read one at a time: what lies behind one is seldom wanted next. A file system that
    // takes no advice goes on as it does.
    rustix::fs::fadvise(&file, 0, None, Advice::Random).ok();
    Ok(file)
}

impl Directory {
    /// Takes the directory at `path`, which is made if it is missing. Blocks.
    ///
    /// # Errors
    /// It is not ours, of another version, or somebody has it.
    pub(super) fn take(path: &Path, io: Arc<dyn Io>) -> Result<(Self, Contents), OpenError> {
        let failed = |doing, source| OpenError::Io {
            path: path.to_owned(),
            doing,
            source,
        };
        match fs::metadata(path) {
            Ok(metadata) if !metadata.is_dir() => {
                return Err(OpenError::NotADirectory {
                    path: path.to_owned(),
                });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut builder = DirBuilder::new();
                let made = builder.recursive(true).mode(0o700).create(path);
                made.map_err(|error| failed("creating it", error))?;
            }
            Err(error) => return Err(failed("looking at it", error)),
        }
        // Looked at before anything is made in it, and again once nobody else makes anything.
        Self::contents(path)?;
        let file = path.join(LOCK);
        let lock = open(&file, true).map_err(|error| failed("opening its lock", error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(OpenError::Locked {
                    path: path.to_owned(),
                    holder: holder(&lock),
                });
            }
            Err(error) => return Err(failed("locking it", error.into())),
        }
        let contents = Self::contents(path)?;
        let directory = Self {
            path: path.to_owned(),
            io,
            lock,
        };
        directory
            .sign()
            .map_err(|error| failed("writing its lock", error))?;
        Ok((directory, contents))
    }

    /// Says in the lock file who has it.
    fn sign(&self) -> io::Result<()> {
        let text = format!("{OWNED}, process {}\n", std::process::id());
        self.lock.write_all_at(text.as_bytes(), 0)?;
        self.lock.set_len(long(text.len()))
    }

    /// What is in the directory at `path`.
    fn contents(path: &Path) -> Result<Contents, OpenError> {
        let failed = |doing, source| OpenError::Io {
            path: path.to_owned(),
            doing,
            source,
        };
        let newer = |version| OpenError::Version {
            path: path.to_owned(),
            version,
        };
        let mut contents = Contents {
            identity: None,
            has_manifest: false,
            segments: Vec::new(),
        };
        let (mut owned, mut other, mut links) = (false, None, Vec::new());
        for entry in fs::read_dir(path).map_err(|error| failed("listing it", error))? {
            let entry = entry.map_err(|error| failed("listing it", error))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let file = entry.path();
            match name_of(&name) {
                Name::Other => other = Some(name.into_owned()),
                Name::New => {}
                Name::Lock => owned |= starts_with(&file, OWNED.as_bytes()),
                Name::Manifest => match Identity::decode(&beginning(&file, Identity::MANIFEST)) {
                    Head::Known(identity) => {
                        contents.has_manifest = true;
                        contents.identity = Some(identity);
                    }
                    Head::Version(version) => return Err(newer(version)),
                    Head::Unknown => {}
                },
                Name::Segment(number) => match open(&file, false) {
                    Ok(opened) => {
                        let stored = Stored::of(number, opened).map_err(newer)?;
                        contents.segments.push(stored);
                    }
                    Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                        links.push((number, file));
                    }
                    Err(error) => return Err(failed("opening a segment", error)),
                },
            }
        }
        contents.settle();
        let foreign = match &contents.identity {
            Some(_) => None,
            None if owned => None,
            None => other
                .or_else(|| contents.segments.first().map(|s| segment_name(s.number)))
                .or_else(|| links.first().map(|(number, _)| segment_name(*number)))
                .or_else(|| path.join(MANIFEST).exists().then(|| MANIFEST.to_owned())),
        };
        if let Some(found) = foreign {
            return Err(OpenError::Foreign {
                path: path.to_owned(),
                found,
            });
        }
        for (_, link) in links {
            tracing::warn!(path = %link.display(), "a link is in the place of a segment; it is removed");
            fs::remove_file(&link).map_err(|error| failed("removing a link", error))?;
        }
        Ok(contents)
    }

    /// Writes the manifest, and removes what was left of an earlier attempt.
    pub(super) fn write_manifest(&self, identity: &Identity) -> io::Result<()> {
        let (fresh, path) = (self.path.join(MANIFEST_NEW), self.path.join(MANIFEST));
        self.clear(&fresh)?;
        let file = open(&fresh, true)?;
        super::io::write_all(self.io.as_ref(), &file, &[identity.encode()], 0)?;
        self.io.sync(&file)?;
        self.io.rename(&fresh, &path)?;
        self.io.sync_directory(&self.path)
    }

    fn clear(&self, path: &Path) -> io::Result<()> {
        match self.io.remove(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Makes the file of segment `number`, of `bytes` that are set aside for it.
    pub(super) fn create(&self, number: u32, bytes: u64) -> io::Result<File> {
        let path = self.path.join(segment_name(number));
        self.clear(&path)?;
        let file = open(&path, true)?;
        let made = self
            .io
            .allocate(&file, bytes)
            .and_then(|()| self.io.sync(&file))
            .and_then(|()| self.io.sync_directory(&self.path));
        if made.is_err() {
            // What was set aside is given back even if the name cannot be removed.
            drop(self.io.resize(&file, 0));
            drop(self.io.remove(&path));
        }
        made.map(|()| file)
    }

    /// Removes segment `number`, whose file is given back though somebody may hold it.
    pub(super) fn remove(&self, number: u32, file: &File) -> io::Result<()> {
        self.clear(&self.path.join(segment_name(number)))?;
        self.io.resize(file, 0)
    }

    /// Removes what a crash may have left of a manifest.
    pub(super) fn tidy(&self) -> io::Result<()> {
        self.clear(&self.path.join(MANIFEST_NEW))
    }

    /// Bytes that are free on the file system.
    pub(super) fn free(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.lock)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Lets others have the directory.
    pub(super) fn release(&self) {
        if let Err(error) = flock(&self.lock, FlockOperation::Unlock) {
            tracing::warn!(%error, "the lock of the disk tier could not be given back");
        }
    }
}

impl Contents {
    /// Finds out the identity if the manifest does not tell it, and what is not of it.
    fn settle(&mut self) {
        self.segments.sort_by_key(|stored| stored.number);
        if self.identity.is_none() {
            let mut known = self.segments.iter().filter_map(|s| s.superblock.as_ref());
            self.identity = known.next().map(|superblock| superblock.identity.clone());
        }
        for stored in &mut self.segments {
            let ours = |superblock: &Superblock| {
                Some(&superblock.identity) == self.identity.as_ref()
                    && superblock.number == stored.number
            };
            stored.is_lost |= stored.superblock.as_ref().is_some_and(|it| !ours(it));
            let found = stored.superblock.take().filter(ours);
            stored.superblock = found.filter(|superblock| superblock.ordinal != 0);
        }
    }
}

impl Identity {
    /// A new tier with segments of `segment_bytes`.
    pub(super) fn new(segment_bytes: u64) -> Self {
        let mut hash_key = [0; 32];
        for (bytes, random) in hash_key.chunks_mut(8).zip(std::iter::repeat_with(random)) {
            bytes.copy_from_slice(&random.to_le_bytes());
        }
        Self {
            store: u128::from(random()) << 64 | u128::from(random()),
            segment_bytes,
            hash_key,
        }
    }
}

pub(super) fn segment_name(number: u32) -> String {
    format!("{SEGMENT}{number:06}")
}

/// The superblock of a segment.
fn superblock(file: &File) -> Head<Superblock> {
    let mut bytes = vec![0; Superblock::BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => Superblock::decode(&bytes),
        // Too short, or not readable: of no use either way.
        Err(_) => Head::Unknown,
    }
}

/// Whether a segment never had a superblock: it begins with zeros, or is shorter than one.
fn is_unused(file: &File) -> bool {
    let mut bytes = vec![0; Superblock::BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => bytes.iter().all(|byte| *byte == 0),
        Err(error) => error.kind() == io::ErrorKind::UnexpectedEof,
    }
}

/// The first bytes of a file, as far as there are any.
fn beginning(path: &Path, bytes: usize) -> Vec<u8> {
    let mut beginning = Vec::new();
    if let Ok(file) = open(path, false) {
        // What cannot be read says nothing.
        drop(file.take(long(bytes)).read_to_end(&mut beginning));
    }
    beginning
}

fn starts_with(path: &Path, text: &[u8]) -> bool {
    beginning(path, text.len()) == text
}

/// Who has the lock, as far as it says.
fn holder(lock: &File) -> String {
    let mut text = String::new();
    drop(lock.take(200).read_to_string(&mut text));
    match text.trim().strip_prefix(OWNED) {
        Some(rest) if !rest.is_empty() => rest.trim_start_matches([',', ' ']).to_owned(),
        _ => "another process".to_owned(),
    }
}

//! Files that are whole or absent after a crash at any instruction.
//!
//! A file is written under a temporary name in its own directory, flushed, renamed over its place,
//! and the directory is flushed, so a reader sees the old bytes or the new ones and nothing else.
//! Leftovers of a crash carry [`LEFTOVER`] in their name and are removed at the next start.
//! Directories and files are for the owner only. Callers serialise writers of one directory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::refusal::{Refusal, RefusalKind};

/// A file or directory of the data directory that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}", path.display())]
pub struct FileError {
    /// A verb: read, write, remove.
    pub doing: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`: `doing` something with `path` failed.
    pub(super) fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

impl From<FileError> for Refusal {
    fn from(error: FileError) -> Self {
        Self::new(
            RefusalKind::Host,
            "storage",
            format!("{error}: {}", error.source),
            "check the free space and the permissions of the data directory",
        )
    }
}

/// Begins the name of every file that is still being written.
const LEFTOVER: &str = ".writing-";

/// Makes `dir` and its parents, readable by the owner only. An existing directory is left as it is.
///
/// # Errors
/// A directory could not be made.
pub(super) fn create_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    // The name of a new directory is durable once its parent is flushed.
    dir.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .map_or(Ok(()), flush_dir)
}

/// Puts `bytes` at `path`, in place of what was there.
///
/// # Errors
/// The bytes could not be made durable; what was at `path` may or may not have been replaced, and
/// is whole in either case.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a file needs a directory and a name",
        ));
    };
    let temporary = dir.join(format!("{LEFTOVER}{}", name.to_string_lossy()));
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: what remains is removed at the next start.
        drop(fs::remove_file(&temporary));
    }
    written.and_then(|()| flush_dir(dir))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Removes `path` durably; a file that is not there counts as removed.
///
/// # Errors
/// The file is still there, or may come back after a crash.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => path.parent().map_or(Ok(()), flush_dir),
    }
}

/// Reads `path` unless it is longer than `limit` bytes.
///
/// # Errors
/// The file could not be read, or is longer.
pub(super) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) {
        Ok(bytes)
    } else {
        Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("longer than {limit} bytes"),
        ))
    }
}

/// Removes what a crash left behind in `dir` and answers the names of all other entries.
///
/// # Errors
/// The directory could not be read or a leftover not removed.
pub(super) fn entries(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // A name that is not UTF-8 is none of ours and stays untouched.
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name.starts_with(LEFTOVER) {
            fs::remove_file(entry.path())?;
        } else {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn flush_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        create_dir(&dir).unwrap();
        create_dir(&dir).unwrap();
        let path = dir.join("file");
        for bytes in [b"first".as_slice(), b"2", b""] {
            replace(&path, bytes).unwrap();
            assert_eq!(read(&path, 5).unwrap(), bytes);
            assert_eq!(entries(&dir).unwrap(), ["file"]);
        }
        assert_eq!((mode(&dir), mode(&path)), (0o700, 0o600));
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(entries(&dir).unwrap().is_empty());
    }

    #[test]
    fn a_failed_write_keeps_the_old_bytes() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        replace(&path, b"old").unwrap();
        // A directory in the way of the temporary name makes the write fail, even for root.
        fs::create_dir(root.path().join(format!("{LEFTOVER}file"))).unwrap();
        replace(&path, b"new").unwrap_err();
        assert_eq!(read(&path, 3).unwrap(), b"old");
    }

    #[test]
    fn leftovers_of_a_crash_are_removed() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(format!("{LEFTOVER}x")), b"half").unwrap();
        fs::write(root.path().join("x"), b"whole").unwrap();
        assert_eq!(entries(root.path()).unwrap(), ["x"]);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_over_the_limit_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        replace(&path, b"12345").unwrap();
        assert_eq!(
            read(&path, 4).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
    }
}

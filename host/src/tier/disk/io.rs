//! What the tier asks of the operating system: a seam, so that tests can make it fail.
//!
//! Every call but [`Io::read_cached`] blocks, so no other is made on the thread of a request.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Advice, FallocateFlags};
use rustix::io::{Errno, ReadWriteFlags};

/// Calls on files and directories.
pub(super) trait Io: Debug + Send + Sync {
    /// Fills `buffer` with what is in `file` from `at` on.
    fn read(&self, file: &File, buffer: &mut [u8], at: u64) -> io::Result<()>;

    /// Fills `buffer` as [`Self::read`] does if the system has all of that in memory. Otherwise, or
    /// if that cannot be told, it answers false at once, and what `buffer` holds means nothing.
    fn read_cached(&self, file: &File, buffer: &mut [u8], at: u64) -> bool;

    /// `bytes` of `file` from `at` on will be read soon. Does not wait for them.
    fn read_ahead(&self, file: &File, at: u64, bytes: NonZeroU64);

    /// Writes some of `parts`, one after another, from `at` on. How many bytes it wrote.
    fn write(&self, file: &File, parts: &[IoSlice<'_>], at: u64) -> io::Result<usize>;

    /// Waits until what was written to `file` is on the device.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Sets `bytes` of the device aside for `file`.
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()>;

    /// Makes `file` as long as `bytes`, and gives back what lies behind.
    fn resize(&self, file: &File, bytes: u64) -> io::Result<()>;

    /// Renames a file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Waits until the names in `directory` are on the device.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
}

/// The operating system.
#[derive(Debug)]
pub(super) struct System;

impl Io for System {
    fn read(&self, file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
        file.read_exact_at(buffer, at)
    }

    fn read_cached(&self, file: &File, buffer: &mut [u8], at: u64) -> bool {
        let wanted = buffer.len();
        let mut parts = [IoSliceMut::new(buffer)];
        // RWF_NOWAIT: neither for the device nor for a lock.
        let read = rustix::io::preadv2(file, &mut parts, at, ReadWriteFlags::NOWAIT);
        read == Ok(wanted)
    }

    fn read_ahead(&self, file: &File, at: u64, bytes: NonZeroU64) {
        // Advice: who does not take it reads later.
        rustix::fs::fadvise(file, at, Some(bytes), Advice::WillNeed).ok();
    }

    fn write(&self, file: &File, parts: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        loop {
            match rustix::io::pwritev(file, parts, at) {
                Err(Errno::INTR) => {}
                done => return done.map_err(Into::into),
            }
        }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
            // The file system cannot; then it may be found full at a write.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(bytes),
            done => done.map_err(Into::into),
        }
    }

    fn resize(&self, file: &File, bytes: u64) -> io::Result<()> {
        file.set_len(bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }
}

/// Slices that one call takes, at most (`IOV_MAX`).
const SLICES_MAX: usize = 1_024;

/// Writes all of `parts`, one after another, from `at` on.
///
/// # Errors
/// As the system says; part of them may be written then.
pub(super) fn write_all(
    io: &dyn Io,
    file: &File,
    parts: &[impl AsRef<[u8]>],
    mut at: u64,
) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = parts
        .iter()
        .map(|part| IoSlice::new(part.as_ref()))
        .filter(|slice| !slice.is_empty())
        .collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        let some = left.get(..SLICES_MAX).unwrap_or(left);
        let written = io.write(file, some, at)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        at += super::format::long(written);
        IoSlice::advance_slices(&mut left, written);
    }
    Ok(())
}

/// Bytes that `file` occupies on the device.
pub(super) fn occupied(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.blocks() * 512)
}

/// Whether the device, or what may be used of it, is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

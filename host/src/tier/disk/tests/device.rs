//! A device that fails as it is told: at the N-th call, for a while, or for good.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

use rustix::io::Errno;

use super::super::io::{Io, System};

/// Which calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Read,
    Write,
    Sync,
    Allocate,
}

/// A part of a file as it was before a write that was not synced.
struct Undo {
    file: File,
    at: u64,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct State {
    /// What fails, and how.
    failing: Option<(Call, Errno)>,
    /// By inode: what the device may have lost if the power goes.
    unsynced: HashMap<u64, Vec<Undo>>,
}

/// The device. Syncs cost nothing: what the system has outlives a process.
pub(super) struct Device {
    state: Mutex<State>,
    /// Calls that change something, so far.
    pub(super) calls: AtomicU64,
    /// The call from which on everything fails.
    pub(super) dies_at: AtomicU64,
    /// Whether what is not synced is remembered, so as to be lost.
    volatile: AtomicBool,
    held: Mutex<bool>,
    released: Condvar,
    /// Looks at what the system has in memory until one finds it; zero: none does.
    looks: AtomicU64,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").finish_non_exhaustive()
    }
}

impl Device {
    pub(super) fn sound() -> Arc<Self> {
        Self::dying_at(u64::MAX)
    }

    /// One that is gone from the N-th call on, the first of which is 1.
    pub(super) fn dying_at(call: u64) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            calls: AtomicU64::new(0),
            dies_at: AtomicU64::new(call),
            volatile: AtomicBool::new(false),
            held: Mutex::new(false),
            released: Condvar::new(),
            looks: AtomicU64::new(0),
        })
    }

    /// The same, and what was not synced by then may be lost.
    pub(super) fn losing_power_at(call: u64) -> Arc<Self> {
        let device = Self::dying_at(call);
        device.volatile.store(true, SeqCst);
        device
    }

    pub(super) fn fail(&self, call: Call, errno: Errno) {
        self.state.lock().unwrap().failing = Some((call, errno));
    }

    pub(super) fn heal(&self) {
        self.state.lock().unwrap().failing = None;
    }

    /// Reads wait, or go on.
    pub(super) fn hold(&self, held: bool) {
        *self.held.lock().unwrap() = held;
        self.released.notify_all();
    }

    /// What is looked for is in memory at the N-th look, and in none after it.
    pub(super) fn bring_by(&self, look: u64) {
        self.looks.store(look, SeqCst);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.calls.load(SeqCst) >= self.dies_at.load(SeqCst)
    }

    /// Loses about half of the blocks that were not synced.
    pub(super) fn lose(&self, mut random: impl FnMut() -> u64) {
        let unsynced = std::mem::take(&mut self.state.lock().unwrap().unsynced);
        for undo in unsynced
            .into_values()
            .flat_map(|undo| undo.into_iter().rev())
        {
            for (block, bytes) in undo.bytes.chunks(4 << 10).enumerate() {
                if random().is_multiple_of(2) {
                    let at = undo.at + u64::try_from(block).unwrap() * 4096;
                    undo.file.write_all_at(bytes, at).unwrap();
                }
            }
        }
    }

    /// Counts a call that changes something.
    fn change(&self, call: Option<Call>) -> io::Result<()> {
        let number = self.calls.fetch_add(1, SeqCst) + 1;
        if number >= self.dies_at.load(SeqCst) {
            return Err(Errno::IO.into());
        }
        match self.state.lock().unwrap().failing {
            Some((failing, errno)) if Some(failing) == call => Err(errno.into()),
            _ => Ok(()),
        }
    }
}

impl Io for Device {
    fn read(&self, file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let held = self.held.lock().unwrap();
        drop(self.released.wait_while(held, |held| *held).unwrap());
        if self.is_dead() {
            return Err(Errno::IO.into());
        }
        if let Some((Call::Read, errno)) = self.state.lock().unwrap().failing {
            return Err(errno.into());
        }
        System.read(file, buffer, at)
    }

    /// Nothing is in memory, unless it was told to be: every read is one that can fail.
    fn read_cached(&self, file: &File, buffer: &mut [u8], at: u64) -> bool {
        let one_less = |looks: u64| looks.checked_sub(1);
        let is_there = self.looks.fetch_update(SeqCst, SeqCst, one_less) == Ok(1);
        is_there && System.read(file, buffer, at).is_ok()
    }

    fn read_ahead(&self, _file: &File, _at: u64, _bytes: NonZeroU64) {}

    fn write(&self, file: &File, parts: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        let was_alive = !self.is_dead();
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if self.volatile.load(SeqCst) && was_alive {
            let mut bytes = vec![0; length];
            if file.read_exact_at(&mut bytes, at).is_ok() {
                let undo = Undo {
                    file: file.try_clone()?,
                    at,
                    bytes,
                };
                let inode = file.metadata()?.ino();
                let mut state = self.state.lock().unwrap();
                state.unsynced.entry(inode).or_default().push(undo);
            }
        }
        if let Err(error) = self.change(Some(Call::Write)) {
            if was_alive && self.is_dead() {
                // The last one is torn.
                let whole: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
                file.write_all_at(&whole[..length / 2], at)?;
            }
            return Err(error);
        }
        System.write(file, parts, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.change(Some(Call::Sync))?;
        let inode = file.metadata()?.ino();
        self.state.lock().unwrap().unsynced.remove(&inode);
        Ok(())
    }

    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.change(Some(Call::Allocate))?;
        System.allocate(file, bytes)
    }

    fn resize(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.change(None)?;
        System.resize(file, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(None)?;
        System.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(None)?;
        System.remove(path)
    }

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        self.change(None)
    }
}

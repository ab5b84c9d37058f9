//! The segments: files of one length, each of which lives again and again.
//!
//! A [`Segment`] is one life of one file. It is *live* while its records can be found, *retired*
//! once they cannot although who holds the segment may still read them, and *gone* before the
//! first byte of the next life is written. Who has read from it asks afterwards whether it is gone:
//! if it is not, what was read is of this life.

use std::fs::File;

use super::format::FooterEntry;
use crate::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

const LIVE: u8 = 0;
const RETIRED: u8 = 1;
const GONE: u8 = 2;

/// One life of a segment.
#[derive(Debug)]
pub(super) struct Segment {
    /// Names the file.
    pub number: u32,
    /// Higher than that of every life that began before.
    pub ordinal: u64,
    /// Stands in everything that belongs to this life.
    pub nonce: u64,
    /// The file.
    pub file: Arc<File>,
    end: AtomicU64,
    phase: AtomicU8,
    pins: AtomicU32,
    floors: Mutex<Floors>,
    /// The records, as long as there is no footer that tells them.
    unsealed: Mutex<Vec<FooterEntry>>,
}

impl Segment {
    /// A life whose records end at `end`.
    pub(super) fn new(
        number: u32,
        (ordinal, nonce): (u64, u64),
        file: Arc<File>,
        end: u64,
    ) -> Self {
        Self {
            number,
            ordinal,
            nonce,
            file,
            end: AtomicU64::new(end),
            phase: AtomicU8::new(LIVE),
            pins: AtomicU32::new(0),
            floors: Mutex::default(),
            unsealed: Mutex::default(),
        }
    }

    /// Where the records end that can be read.
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// The records up to `end` can be read.
    pub(super) fn extend(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    /// Whether its records may be found.
    pub(super) fn is_live(&self) -> bool {
        self.phase.load(Ordering::SeqCst) == LIVE
    }

    /// Whether what is read from it may be of the next life.
    pub(super) fn is_gone(&self) -> bool {
        self.phase.load(Ordering::SeqCst) == GONE
    }

    /// Its records are not to be found any more.
    pub(super) fn retire(&self) {
        self.phase.fetch_max(RETIRED, Ordering::SeqCst);
    }

    /// Its bytes may change from now on.
    pub(super) fn give_up(&self) {
        self.phase.store(GONE, Ordering::SeqCst);
    }

    /// Keeps its bytes where they are, if it was live after this.
    pub(super) fn pin(&self) {
        self.pins.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends one [`Self::pin`].
    pub(super) fn unpin(&self) {
        self.pins.fetch_sub(1, Ordering::SeqCst);
    }

    /// Lets its bytes change, unless anybody wants them to stay where they are. It was retired before.
    pub(super) fn let_go(&self) -> bool {
        // Who pins it after this look finds that it is not live.
        let free = self.pins.load(Ordering::SeqCst) == 0;
        if free {
            self.give_up();
        }
        free
    }

    /// Purges that what it holds may be older than.
    pub(super) fn floors(&self) -> MutexGuard<'_, Floors> {
        self.floors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its records, until it was sealed.
    pub(super) fn unsealed(&self) -> MutexGuard<'_, Vec<FooterEntry>> {
        self.unsealed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For each node, the lowest number of its latest purge when anything began to be fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Floors(Vec<(u64, u64)>);

impl Floors {
    /// Nodes that are told apart.
    pub(super) const MAX: usize = 16;
    /// Stands for every node.
    const ANY: u64 = 0;

    /// Those in a footer.
    pub(super) fn of(pairs: Vec<(u64, u64)>) -> Self {
        Self(pairs)
    }

    /// As they go into a footer.
    pub(super) fn pairs(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// Counts in what was born after `purge` of `node`.
    pub(super) fn lower(&mut self, node: u64, purge: u64) {
        if let Some((_, lowest)) = self.0.iter_mut().find(|(known, _)| *known == node) {
            *lowest = purge.min(*lowest);
        } else if self.0.len() < Self::MAX {
            self.0.push((node, purge));
        } else {
            self.0 = vec![(Self::ANY, 0)];
        }
    }

    /// Counts in all that `others` does.
    pub(super) fn absorb(&mut self, others: &Self) {
        for (node, purge) in &others.0 {
            self.lower(*node, *purge);
        }
    }

    /// The lowest of `node`.
    pub(super) fn lowest(&self, node: u64) -> Option<u64> {
        let of_node = |(known, _): &&(u64, u64)| *known == node || *known == Self::ANY;
        self.0.iter().filter(of_node).map(|(_, purge)| *purge).min()
    }
}

/// The live segments, by number.
#[derive(Debug, Default)]
pub(super) struct Segments {
    lives: RwLock<Vec<Option<Arc<Segment>>>>,
}

impl Segments {
    /// The life of segment `number`.
    pub(super) fn get(&self, number: u32) -> Option<Arc<Segment>> {
        let lives = self.lives.read().unwrap_or_else(PoisonError::into_inner);
        lives.get(usize::try_from(number).ok()?)?.clone()
    }

    /// Segment `number` begins a life, or has none any more.
    pub(super) fn set(&self, number: u32, life: Option<Arc<Segment>>) {
        let mut lives = self.lives.write().unwrap_or_else(PoisonError::into_inner);
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        if lives.len() <= at {
            lives.resize(at + 1, None);
        }
        if let Some(place) = lives.get_mut(at) {
            *place = life;
        }
    }

    /// All of them, oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Segment>> {
        let lives = self.lives.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = lives.iter().flatten().cloned().collect();
        drop(lives);
        all.sort_by_key(|segment| segment.ordinal);
        all
    }

    /// Bytes of their records.
    pub(super) fn bytes(&self) -> u64 {
        let lives = self.lives.read().unwrap_or_else(PoisonError::into_inner);
        lives.iter().flatten().map(|segment| segment.end()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_only_fall_and_never_forget_a_node() {
        let mut floors = Floors::default();
        floors.lower(1, 7);
        floors.lower(2, 9);
        floors.lower(1, 8);
        assert_eq!(floors.lowest(1), Some(7));
        floors.lower(1, 3);
        assert_eq!((floors.lowest(1), floors.lowest(2)), (Some(3), Some(9)));
        assert_eq!(floors.lowest(3), None);
        for node in 3..=18 {
            floors.lower(node, 5);
        }
        // More than can be told apart: anything may be older than any purge.
        for node in [1, 2, 18, 99] {
            assert_eq!(floors.lowest(node), Some(0), "{node}");
        }
        let mut all = Floors::default();
        all.lower(4, 4);
        all.absorb(&floors);
        assert_eq!(all.lowest(7), Some(0));
    }
}

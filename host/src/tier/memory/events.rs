//! What happened in a stripe since the guest order of its shard last looked, packed for it.
//!
//! Bounded: hits are dropped, and counted, once the log is half a millisecond of traffic behind;
//! inserts and removes are kept until a second bound, and past that the order is declared behind
//! and has to be made anew. Nothing is recorded for a stripe without a guest order.

use std::mem::offset_of;

use crate::tier::eviction::pack;

/// The most words that an order is given at once.
pub(super) const BATCH_WORDS: usize = 1024;
/// Words that are worth waking the eviction thread for: with hits that wait, one batch.
const WAKE_WORDS: usize = BATCH_WORDS - RECENT;
/// Words from which hits are dropped.
const HITS_UNTIL: usize = 4 * BATCH_WORDS;
/// Words that the log never exceeds.
const WORDS_MAX: usize = 16 * BATCH_WORDS;

/// Whether a log takes events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Recording {
    /// No guest order listens.
    #[default]
    Off,
    /// Every insert and remove since the order was told of the residents is here.
    On,
    /// Inserts or removes were dropped: the order no longer knows the residents.
    Behind,
}

/// Whether an event made it worth waking the eviction thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// Not yet.
    No,
    /// The log reached a batch.
    Yes,
}

/// Hits that wait to be recorded.
const RECENT: usize = 9;

/// The log of one stripe. The latest hits are kept apart from it for a while: in the cache line of the
/// lock, if this is what the lock is for, so that a hit does not wait for what another CPU has
/// recorded.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct EventLog {
    recording: Recording,
    recent_len: u8,
    recent: [u32; RECENT],
    words: Vec<u64>,
}

const _: () = assert!(
    offset_of!(EventLog, words) == 40,
    "with the lock and two counters, a cache line"
);

impl EventLog {
    /// Starts over: an order is about to be told of the residents.
    pub(super) fn start(&mut self) {
        self.clear();
        // Reserved whole, so that no event allocates. Pages that are never written cost nothing.
        self.words.reserve_exact(WORDS_MAX + RECENT);
        self.recording = Recording::On;
    }

    /// Stops recording and drops what was recorded.
    pub(super) fn stop(&mut self) {
        *self = Self::default();
    }

    /// Declares a listening order behind.
    pub(super) fn fall_behind(&mut self) {
        if self.recording == Recording::On {
            self.clear();
            self.recording = Recording::Behind;
        }
    }

    /// Whether the log takes events.
    #[inline]
    pub(super) fn recording(&self) -> Recording {
        self.recording
    }

    /// Swaps the recorded events, if there are any, with `spare`, which must be empty.
    pub(super) fn swap(&mut self, spare: &mut Vec<u64>) {
        debug_assert!(spare.is_empty(), "events would be recorded twice");
        self.settle();
        if !self.words.is_empty() {
            spare.reserve_exact(WORDS_MAX + RECENT);
            std::mem::swap(&mut self.words, spare);
        }
    }

    /// Records a hit. `Err` if it was dropped.
    #[inline]
    pub(super) fn hit(&mut self, slot: u32) -> Result<Wake, Dropped> {
        if self.recording != Recording::On {
            return Ok(Wake::No);
        }
        let mut wake = Wake::No;
        if usize::from(self.recent_len) >= RECENT {
            wake = self.settle();
        }
        if self.recent_len == 0 && self.words.len() + RECENT > HITS_UNTIL {
            return Err(Dropped);
        }
        if let Some(recent) = self.recent.get_mut(usize::from(self.recent_len)) {
            *recent = slot;
            self.recent_len += 1;
        }
        Ok(wake)
    }

    /// Records an insert, or a replacement if `slot` is already known.
    pub(super) fn insert(
        &mut self,
        slot: u32,
        hash: u64,
        size: u64,
        lifetime: Option<u64>,
    ) -> Wake {
        self.record(&pack::insert(slot, hash, size, lifetime))
    }

    /// Records that an entry left and that the order did not name it.
    pub(super) fn remove(&mut self, slot: u32) -> Wake {
        self.record(&[pack::remove(slot)])
    }

    fn record(&mut self, event: &[u64]) -> Wake {
        if self.recording != Recording::On {
            return Wake::No;
        }
        let before = self.words.len();
        let recent = usize::from(self.recent_len);
        if before + recent + event.len() > WORDS_MAX {
            self.fall_behind();
            return Wake::Yes;
        }
        self.settle();
        self.words.extend_from_slice(event);
        self.woken(before)
    }

    /// Records the latest hits, which are no more than there is room for.
    fn settle(&mut self) -> Wake {
        let before = self.words.len();
        let recent = self.recent.iter().take(self.recent_len.into());
        self.words.extend(recent.map(|slot| pack::hit(*slot)));
        self.recent_len = 0;
        self.woken(before)
    }

    /// Whether what came after the first `before` words made a batch of it.
    fn woken(&self, before: usize) -> Wake {
        if before < WAKE_WORDS && self.words.len() >= WAKE_WORDS {
            Wake::Yes
        } else {
            Wake::No
        }
    }

    fn clear(&mut self) {
        self.recent_len = 0;
        self.words.clear();
    }
}

/// The log had no room for a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dropped;

/// One event, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// A hit on this slot.
    Hit(u32, &'a [u64]),
    /// An insert into this slot.
    Insert(u32, &'a [u64]),
    /// A remove from this slot.
    Remove(u32, &'a [u64]),
}

/// The first event in `words` and the words after it.
pub(super) fn split_first(words: &[u64]) -> Option<(Event<'_>, &[u64])> {
    let first = words.first()?;
    let slot = u32::try_from(first & u64::from(u32::MAX)).ok()?;
    match first >> 62 {
        0 => words
            .split_at_checked(1)
            .map(|(event, rest)| (Event::Hit(slot, event), rest)),
        1 => words
            .split_at_checked(3)
            .map(|(event, rest)| (Event::Insert(slot, event), rest)),
        _ => words
            .split_at_checked(1)
            .map(|(event, rest)| (Event::Remove(slot, event), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_dropped_first_and_inserts_are_not() {
        let mut log = EventLog::default();
        assert_eq!(log.hit(1), Ok(Wake::No), "nobody listens");
        assert!(log.words.is_empty());
        log.start();
        let capacity = log.words.capacity();
        let taken: Vec<Wake> = (0..2 * HITS_UNTIL).map_while(|_| log.hit(7).ok()).collect();
        assert!((HITS_UNTIL - RECENT..=HITS_UNTIL).contains(&taken.len()));
        assert_eq!(taken.iter().filter(|it| **it == Wake::Yes).count(), 1);
        assert_eq!(log.hit(7), Err(Dropped));
        while log.words.len() + 3 <= WORDS_MAX {
            assert_eq!(log.insert(7, 1, 2, None), Wake::No);
            assert_eq!(log.hit(7), Err(Dropped), "room for inserts and removes");
        }
        assert_eq!(log.words.capacity(), capacity, "recording never allocates");
        assert_eq!(log.recording(), Recording::On);
        assert_eq!(log.insert(7, 1, 2, None), Wake::Yes);
        assert_eq!(log.recording(), Recording::Behind);
        assert!(log.words.is_empty());
    }

    #[test]
    fn events_come_apart_as_they_were_recorded() {
        let mut log = EventLog::default();
        log.start();
        assert_eq!(log.hit(3), Ok(Wake::No));
        // The two words after the first must not be taken for events of their own.
        log.insert(4, u64::MAX, 2 << 62, Some(9));
        log.remove(u32::MAX);
        let mut words = Vec::new();
        log.swap(&mut words);
        let mut seen = Vec::new();
        let mut rest = words.as_slice();
        while let Some((event, after)) = split_first(rest) {
            seen.push(event);
            rest = after;
        }
        assert_eq!(
            seen,
            [
                Event::Hit(3, &words[..1]),
                Event::Insert(4, &words[1..4]),
                Event::Remove(u32::MAX, &words[4..]),
            ]
        );
    }
}

//! Eviction: W-TinyLFU (Einziger, Friedman and Manes, ACM TOS 2017), in bytes.
//!
//! Newcomers enter a small window, an LRU. Who is pushed out of it while the shard is full is a
//! candidate for the main part, and meets the entry that would leave there: who was asked for more
//! often lately stays, by the counts of a sketch that remembers all keys, resident or not. The main part is a
//! segmented LRU: a hit takes an entry from probation to protection, and who is pushed out of
//! protection goes back on probation.
//!
//! What the paper leaves open is decided so: shares are of *resident* bytes, and the shard is full
//! when it holds what it held after room was made last, which is right also while the host keeps
//! headroom; an entry larger than the window's share of the capacity is a candidate at once, as it
//! would flush the window; a candidate that is used before it meets anybody is protected; a
//! replaced entry counts as hit.
//!
//! On disk it keeps what was hit most often since it was written.
//!
//! Parameters: `window`, its share in percent, 1 to 99, by default 1; `protected`, the share of the
//! main part that is protected, in percent, 1 to 99, by default 80.
//!
//! Keeps 32 bytes for each entry.

mod sketch;

use larder_guest::eviction::{Insert, Limits, Link, Links, Queue, Slots, Victims};
use larder_guest::reinsertion::{self, Stored};
use larder_guest::{Eviction, Params, Reinsertion};
use sketch::Sketch;

/// The policy; see the crate's documentation.
#[derive(Debug)]
pub struct WTinyLfu {
    entries: Slots<Entry, 512>,
    links: Links,
    window: Queue,
    candidates: Queue,
    probation: Queue,
    protected: Queue,
    sketch: Sketch,
    window_percent: u64,
    protected_percent: u64,
    /// Larger entries do not enter the window.
    window_size_max: u64,
    /// Bytes that were left when room was made last; the capacity before.
    full_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    size_bytes: u64,
    hash: u32,
    segment: Segment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment {
    None,
    Window,
    Candidates,
    Probation,
    Protected,
}

impl Eviction for WTinyLfu {
    fn configure(params: &Params, limits: Limits) -> Result<Self, String> {
        let percent = |name: &'static str, default| match params.u64(name)?.unwrap_or(default) {
            percent @ 1..=99 => Ok(percent),
            _ => Err(format!(
                "parameter `{name}`: expected a percentage from 1 to 99"
            )),
        };
        let window_percent = percent("window", 1)?;
        let vacant = Entry {
            size_bytes: 0,
            hash: 0,
            segment: Segment::None,
        };
        Ok(Self {
            entries: Slots::new(limits.max_entries, vacant),
            links: Slots::new(limits.max_entries, Link::VACANT),
            window: Queue::EMPTY,
            candidates: Queue::EMPTY,
            probation: Queue::EMPTY,
            protected: Queue::EMPTY,
            sketch: Sketch::new(),
            window_percent,
            protected_percent: percent("protected", 80)?,
            window_size_max: limits.capacity_bytes.saturating_mul(window_percent) / 100,
            full_bytes: limits.capacity_bytes,
        })
    }

    fn hit(&mut self, slot: u32) {
        if let Some(entry) = self.take_out(slot) {
            self.used(slot, entry);
        }
    }

    fn insert(&mut self, insert: Insert) {
        let slot = insert.slot;
        let newcomer = Entry {
            size_bytes: insert.size_bytes,
            hash: insert.half_hash(),
            segment: Segment::None,
        };
        let known = self.take_out(slot);
        if let Some(known) = known.filter(|known| known.hash == newcomer.hash) {
            let size_bytes = newcomer.size_bytes;
            self.used(
                slot,
                Entry {
                    size_bytes,
                    ..known
                },
            );
            return;
        }
        if self.entries.get_or_grow(slot).is_none() || self.links.get_or_grow(slot).is_none() {
            return;
        }
        self.sketch.count(newcomer.hash, self.len());
        if newcomer.size_bytes > self.window_size_max {
            let beyond = self.beyond_the_window(newcomer);
            self.put(slot, newcomer, beyond);
            return;
        }
        self.put(slot, newcomer, Segment::Window);
        while self.is_over(&self.window, self.window_percent)
            && let Some(slot) = self.window.oldest()
            && let Some(entry) = self.take_out(slot)
        {
            let beyond = self.beyond_the_window(entry);
            self.put(slot, entry, beyond);
        }
    }

    fn remove(&mut self, slot: u32) {
        self.take_out(slot);
    }

    fn victims(&mut self, victims: &mut Victims) {
        while victims.missing_bytes() > 0 {
            let main = self.probation.oldest().or(self.protected.oldest());
            let slot = match (self.candidates.oldest(), main) {
                (Some(candidate), Some(main)) if self.is_asked_for_more(candidate, main) => {
                    if let Some(entry) = self.take_out(candidate) {
                        self.put(candidate, entry, Segment::Probation);
                    }
                    main
                }
                (Some(slot), _) | (None, Some(slot)) => slot,
                (None, None) => match self.window.oldest() {
                    Some(slot) => slot,
                    None => break,
                },
            };
            let Some(entry) = self.take_out(slot) else {
                break;
            };
            victims.name(slot, entry.size_bytes);
        }
        self.full_bytes = self.bytes();
    }
}

larder_guest::eviction!(WTinyLfu);

/// What a disk tier keeps of a segment.
#[derive(Debug)]
pub struct Keeps;

impl Reinsertion for Keeps {
    fn configure(_: &Params) -> Result<Self, String> {
        Ok(Self)
    }

    fn keep(&self, entries: &[Stored]) -> Vec<bool> {
        reinsertion::keep_best(entries, |entry| f64::from(entry.hits))
    }
}

larder_guest::reinsertion!(Keeps);

impl WTinyLfu {
    fn queues(&self) -> [&Queue; 4] {
        [
            &self.window,
            &self.candidates,
            &self.probation,
            &self.protected,
        ]
    }

    fn len(&self) -> u32 {
        self.queues().iter().map(|queue| queue.len).sum()
    }

    fn bytes(&self) -> u64 {
        let add = |sum: u64, queue: &&Queue| sum.saturating_add(queue.bytes);
        self.queues().iter().fold(0, add)
    }

    /// Where `entry` goes, which is in no queue.
    fn beyond_the_window(&self, entry: Entry) -> Segment {
        if self.bytes().saturating_add(entry.size_bytes) > self.full_bytes {
            Segment::Candidates
        } else {
            Segment::Probation
        }
    }

    /// Whether `segment` has more than `percent` of all bytes.
    fn is_over(&self, segment: &Queue, percent: u64) -> bool {
        segment.bytes.saturating_mul(100) > percent.saturating_mul(self.bytes())
    }

    fn is_asked_for_more(&self, candidate: u32, main: u32) -> bool {
        let count = |slot| {
            let entry = self.entries.get(slot);
            entry.map_or(0, |entry| self.sketch.estimate(entry.hash))
        };
        count(candidate) > count(main)
    }

    /// Counts a use of `entry`, which was taken out of `slot`, and puts it where it belongs then.
    fn used(&mut self, slot: u32, entry: Entry) {
        self.sketch.count(entry.hash, self.len());
        if entry.segment == Segment::Window {
            self.put(slot, entry, Segment::Window);
            return;
        }
        self.put(slot, entry, Segment::Protected);
        // One at a time: an entry brings about its own size of overflow, more or less.
        let share = self.protected_percent * (100 - self.window_percent) / 100;
        if self.is_over(&self.protected, share)
            && let Some(slot) = self.protected.oldest()
            && let Some(entry) = self.take_out(slot)
        {
            self.put(slot, entry, Segment::Probation);
        }
    }

    fn take_out(&mut self, slot: u32) -> Option<Entry> {
        let place = self.entries.get_mut(slot)?;
        let entry = *place;
        place.segment = Segment::None;
        let queue = match entry.segment {
            Segment::None => return None,
            Segment::Window => &mut self.window,
            Segment::Candidates => &mut self.candidates,
            Segment::Probation => &mut self.probation,
            Segment::Protected => &mut self.protected,
        };
        queue.remove(&mut self.links, slot, entry.size_bytes);
        Some(entry)
    }

    /// Puts `entry` at the newest end of `segment`.
    fn put(&mut self, slot: u32, entry: Entry, segment: Segment) {
        if let Some(place) = self.entries.get_mut(slot) {
            *place = Entry { segment, ..entry };
        }
        let queue = match segment {
            Segment::None => return,
            Segment::Window => &mut self.window,
            Segment::Candidates => &mut self.candidates,
            Segment::Probation => &mut self.probation,
            Segment::Protected => &mut self.protected,
        };
        queue.push(&mut self.links, slot, entry.size_bytes);
    }
}

#[cfg(test)]
mod tests;

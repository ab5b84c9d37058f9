//! A priority queue of slots for priorities that only ever pass: a hierarchical timing wheel
//! (Varghese and Lauck, SOSP 1987).
//!
//! Slots lie in first-in-first-out queues, 64 to a level. A queue of level 0 holds one tick, one of
//! level n a span of 64^n ticks. The farther a slot's tick differs from the current one, the
//! higher its level, so that eleven levels hold all ticks there are, entering and leaving cost
//! the same however many slots there are, and slots of one tick leave in the order they came.
//! The caller takes slots out of the first queue and, if it is one of a higher level, enters them
//! anew; each such step brings a slot to a lower level.

use larder_guest::eviction::{Links, Queue};

const LEVEL_BITS: u32 = 6;
const LEVELS: usize = 11;
const QUEUES_OF_LEVEL: usize = 1 << LEVEL_BITS;

/// The number of a queue, which its slots remember.
pub(crate) type Place = u16;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Wheel {
    queues: Vec<Queue>,
    /// Bit i of word n: queue i of level n is not empty.
    filled: [u64; LEVELS],
    now: u64,
    /// The queue of a higher level that is being emptied into lower ones, which comes first.
    spread: Option<Place>,
}

/// The queue that comes first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct First {
    /// Its oldest slot.
    pub(crate) slot: u32,
    pub(crate) place: Place,
    /// All its slots are due at its tick, which is now.
    pub(crate) is_exact: bool,
}

impl Wheel {
    pub(crate) fn new() -> Self {
        Self {
            queues: vec![Queue::EMPTY; LEVELS * QUEUES_OF_LEVEL],
            filled: [0; LEVELS],
            now: 0,
            spread: None,
        }
    }

    /// The tick up to which all that was due has come first.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Enters `slot`, due at `tick`, or now if that has passed. Answers its place.
    pub(crate) fn enter(&mut self, links: &mut Links, slot: u32, tick: u64) -> Place {
        let tick = tick.max(self.now);
        // The highest bit in which the two differ decides; bit 0 stands for no difference.
        let level = ((tick ^ self.now) | 1).ilog2() / LEVEL_BITS;
        let queue = (tick >> (level * LEVEL_BITS)) & 63;
        let place = u64::from(level) << LEVEL_BITS | queue;
        let place = Place::try_from(place).unwrap_or_default();
        if let Some(queue) = self.queues.get_mut(usize::from(place)) {
            queue.push(links, slot, 0);
        }
        self.mark(place, true);
        place
    }

    /// Takes out `slot`, which is at `place`.
    pub(crate) fn leave(&mut self, links: &mut Links, slot: u32, place: Place) {
        if let Some(queue) = self.queues.get_mut(usize::from(place)) {
            queue.remove(links, slot, 0);
            if queue.len == 0 {
                self.mark(place, false);
            }
        }
    }

    /// Moves on to the first queue that is not empty.
    pub(crate) fn first(&mut self) -> Option<First> {
        let spread = self
            .spread
            .and_then(|place| Some((place, self.oldest(place)?)));
        if let Some((place, slot)) = spread {
            return Some(First {
                slot,
                place,
                is_exact: false,
            });
        }
        self.spread = None;
        for (level, filled) in (0_u32..).zip(self.filled) {
            let shift = level * LEVEL_BITS;
            let ahead = filled & (u64::MAX << ((self.now >> shift) & 63));
            if ahead == 0 {
                continue;
            }
            let queue = u64::from(ahead.trailing_zeros());
            let above = u64::MAX.checked_shl(shift + LEVEL_BITS).unwrap_or(0);
            self.now = self.now.max(self.now & above | queue << shift);
            let place = Place::try_from(u64::from(level) << LEVEL_BITS | queue).ok()?;
            let is_exact = level == 0;
            self.spread = (!is_exact).then_some(place);
            return Some(First {
                slot: self.oldest(place)?,
                place,
                is_exact,
            });
        }
        None
    }

    fn oldest(&self, place: Place) -> Option<u32> {
        self.queues.get(usize::from(place))?.oldest()
    }

    fn mark(&mut self, place: Place, is_filled: bool) {
        if let Some(filled) = self.filled.get_mut(usize::from(place >> LEVEL_BITS)) {
            let bit = 1 << (place & 63);
            *filled = if is_filled {
                *filled | bit
            } else {
                *filled & !bit
            };
        }
    }
}

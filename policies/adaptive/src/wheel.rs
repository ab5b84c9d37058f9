//! A priority queue of slots for priorities that only ever pass: a hierarchical timing wheel
//! (Varghese and Lauck, SOSP 1987).
//!
//! Slots lie in first-in-first-out queues. A queue of the first level holds one tick, and there are
//! 64 of them or 4,096 (see [`Fineness`]). Each further level has 64, each for as many ticks as all
//! queues of the level before. The farther a slot's tick differs from the current one, the higher
//! its level, so that eleven levels hold all ticks there are, entering and leaving cost the same
//! however many slots there are, and slots of one tick leave in the order they came. The caller
//! takes slots out of the first queue and, if it is one of a higher level, enters them anew; each
//! such step brings a slot to a lower level.

use crate::queues::{Front, Queues, Spot};

/// Levels from the second on.
const COARSE_LEVELS: usize = 10;
const COARSE_BITS: u32 = 6;

/// How many ticks the first level holds: the more, the more slots need not come to a second queue
/// before they come first, and the more room the wheel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fineness {
    /// 64.
    Small,
    /// 4,096.
    Large,
}

impl Fineness {
    #[inline]
    const fn bits(self) -> u32 {
        match self {
            Self::Small => 6,
            Self::Large => 12,
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Wheel {
    queues: Queues,
    fineness: Fineness,
    /// Bit i of word n: queue 64n + i of the first level is not empty.
    fine: Vec<u64>,
    /// Bit n: word n of these is not zero.
    fine_words: u64,
    /// Bit i of word n: queue i of level n + 1 is not empty.
    coarse: [u64; COARSE_LEVELS],
    now: u64,
    /// The queue of a higher level that is being emptied into lower ones, which comes first.
    spread: Option<u16>,
}

/// The queue that comes first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct First {
    queue: u16,
    /// All that is in it is due at its tick, which is now.
    pub(crate) is_exact: bool,
}

impl Wheel {
    /// An empty one that has come to the tick `now`.
    pub(crate) fn new(fineness: Fineness, now: u64) -> Self {
        let fine_bits = fineness.bits();
        let queues = (1 << fine_bits) + (COARSE_LEVELS << COARSE_BITS);
        Self {
            queues: Queues::new(queues),
            fineness,
            fine: vec![0; 1 << (fine_bits - 6)],
            fine_words: 0,
            coarse: [0; COARSE_LEVELS],
            now,
            spread: None,
        }
    }

    pub(crate) fn fineness(&self) -> Fineness {
        self.fineness
    }

    /// Whether it would keep far less if the `len` slots in it were entered anew.
    pub(crate) fn is_sparse(&self, len: u32) -> bool {
        self.queues.are_sparse(len)
    }

    /// Chunks of its queues, and queues.
    #[cfg(test)]
    pub(crate) fn chunks(&self) -> (u32, u32) {
        self.queues.chunks()
    }

    /// The tick up to which all that was due has come first.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Enters `slot`, due at `tick`, or now if that has passed. Answers where it lies.
    #[inline]
    pub(crate) fn enter(&mut self, slot: u32, tick: u64) -> Spot {
        let tick = tick.max(self.now);
        // The highest bit in which the two differ decides; bit 0 stands for no difference.
        let bits = ((tick ^ self.now) | 1).ilog2();
        let queue = if bits < self.fineness.bits() {
            tick & self.fine_mask()
        } else {
            let level = (bits - self.fineness.bits()) / COARSE_BITS;
            let queue = (tick >> self.shift(level)) & 63;
            self.coarse_from(level) + queue
        };
        let queue = u16::try_from(queue).unwrap_or_default();
        let (at, is_first) = self.queues.push(queue, slot);
        if is_first {
            self.mark(queue, true);
        }
        at
    }

    /// Takes out the slot that lies at `spot`.
    pub(crate) fn leave(&mut self, spot: Spot) {
        if let Some(queue) = self.queues.remove(spot)
            && self.queues.is_empty(queue)
        {
            self.mark(queue, false);
        }
    }

    /// Moves on to the first queue that is not empty.
    pub(crate) fn first(&mut self) -> Option<First> {
        if let Some(queue) = self.spread {
            if !self.queues.is_empty(queue) {
                return Some(First {
                    queue,
                    is_exact: false,
                });
            }
            self.spread = None;
        }
        if let Some(tick) = self.first_fine() {
            self.now = tick;
            return Some(First {
                queue: u16::try_from(tick & self.fine_mask()).unwrap_or_default(),
                is_exact: true,
            });
        }
        for (level, filled) in (0_u32..).zip(self.coarse) {
            if filled == 0 {
                continue;
            }
            let shift = self.shift(level);
            let ahead = filled & (u64::MAX << ((self.now >> shift) & 63));
            if ahead == 0 {
                continue;
            }
            let queue = u64::from(ahead.trailing_zeros());
            let above = u64::MAX.checked_shl(shift + COARSE_BITS).unwrap_or(0);
            self.now = self.now.max(self.now & above | queue << shift);
            let queue = u16::try_from(self.coarse_from(level) + queue).ok()?;
            self.spread = Some(queue);
            return Some(First {
                queue,
                is_exact: false,
            });
        }
        None
    }

    /// The tick of the first queue of the first level that is not empty, from now on.
    fn first_fine(&self) -> Option<u64> {
        let queue = self.now & self.fine_mask();
        let word = queue >> 6;
        let ahead = self.fine_word(word) & (u64::MAX << (queue & 63));
        let first = if ahead == 0 {
            let words = self.fine_words & (u64::MAX << word << 1);
            if words == 0 {
                return None;
            }
            let word = u64::from(words.trailing_zeros());
            word << 6 | u64::from(self.fine_word(word).trailing_zeros())
        } else {
            word << 6 | u64::from(ahead.trailing_zeros())
        };
        Some(self.now - queue + first)
    }

    fn fine_word(&self, word: u64) -> u64 {
        let word = usize::try_from(word).ok();
        let word = word.and_then(|word| self.fine.get(word));
        word.copied().unwrap_or_default()
    }

    fn fine_mask(&self) -> u64 {
        (1 << self.fineness.bits()) - 1
    }

    /// Ticks of a queue of a level after the first, as a power of two.
    fn shift(&self, level: u32) -> u32 {
        self.fineness.bits() + level * COARSE_BITS
    }

    /// The first queue of a level after the first.
    fn coarse_from(&self, level: u32) -> u64 {
        (1 << self.fineness.bits()) + u64::from(level << COARSE_BITS)
    }

    /// The oldest in a queue.
    #[inline]
    pub(crate) fn front(&self, first: First) -> Option<Front> {
        self.queues.front(first.queue)
    }

    /// Takes out what is before `end` in the front of a queue.
    #[inline]
    pub(crate) fn take_front(&mut self, first: First, end: usize) {
        if self.queues.take_front(first.queue, end) {
            self.mark(first.queue, false);
        }
    }

    #[inline]
    fn mark(&mut self, queue: u16, is_filled: bool) {
        let queue = u32::from(queue);
        let coarse = queue.checked_sub(1 << self.fineness.bits());
        let word = usize::try_from(coarse.unwrap_or(queue) >> 6).unwrap_or(usize::MAX);
        let filled = if coarse.is_some() {
            self.coarse.get_mut(word)
        } else {
            self.fine.get_mut(word)
        };
        let Some(filled) = filled else { return };
        *filled = with(*filled, queue & 63, is_filled);
        if coarse.is_none() {
            self.fine_words = with(self.fine_words, queue >> 6, *filled != 0);
        }
    }
}

/// `word` with that bit set or not.
fn with(word: u64, bit: u32, is_set: bool) -> u64 {
    let bit = 1 << (bit & 63);
    if is_set { word | bit } else { word & !bit }
}

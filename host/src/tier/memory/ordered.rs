//! The guest order of one shard, and what it has been told.
//!
//! The order hears a consistent story whatever the shard did meanwhile: hits and removes only of
//! slots it was told of and has not named. So a named slot that it should not know is its mistake
//! and nobody else's, and a slot that changed since it last looked is nobody's.

use super::events::{BATCH_WORDS, Event, split_first};
use super::shard::walk::Listed;
use crate::tier::eviction::{EvictionOrder, OrderFault, pack};

/// A set of slots.
#[derive(Debug, Default)]
struct SlotSet {
    words: Vec<u64>,
    len: usize,
}

impl SlotSet {
    fn split(slot: u32) -> (usize, u64) {
        (
            usize::try_from(slot / 64).unwrap_or(usize::MAX),
            1 << (slot % 64),
        )
    }

    fn contains(&self, slot: u32) -> bool {
        let (word, bit) = Self::split(slot);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    fn insert(&mut self, slot: u32) {
        let (at, bit) = Self::split(slot);
        if at >= self.words.len() {
            self.words.resize(at + 1, 0);
        }
        if let Some(word) = self.words.get_mut(at)
            && *word & bit == 0
        {
            *word |= bit;
            self.len += 1;
        }
    }

    /// Answers whether `slot` was in the set.
    fn remove(&mut self, slot: u32) -> bool {
        let (at, bit) = Self::split(slot);
        match self.words.get_mut(at) {
            Some(word) if *word & bit != 0 => {
                *word &= !bit;
                self.len -= 1;
                true
            }
            _ => false,
        }
    }
}

/// Whether all of an answer could be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Every slot named was one the order knew, once.
    Right,
    /// Some were not, and were left out.
    Wrong,
}

/// The order of one shard.
pub(super) struct Ordered {
    order: Box<dyn EvictionOrder>,
    known: SlotSet,
    batch: Vec<u64>,
    /// Insertions up to this one have been told.
    pub(super) horizon: u64,
    /// Insertions up to this one had been told when victims were last asked for, if ever.
    pub(super) asked: Option<u64>,
}

impl Ordered {
    /// An order that is to be told of the residents inserted up to `horizon`.
    pub(super) fn new(order: Box<dyn EvictionOrder>, horizon: u64) -> Self {
        let batch = Vec::with_capacity(BATCH_WORDS);
        Self {
            order,
            known: SlotSet::default(),
            batch,
            horizon,
            asked: None,
        }
    }

    /// Tells of `residents`, in this sequence.
    pub(super) fn tell(&mut self, now_ms: u64, residents: &[Listed]) -> Result<(), OrderFault> {
        for listed in residents {
            self.known.insert(listed.slot);
            let event = pack::insert(listed.slot, listed.hash, listed.size, listed.lifetime);
            self.add(now_ms, &event)?;
        }
        self.send(now_ms)
    }

    /// Tells of recorded events, leaving out what it does not know of.
    pub(super) fn observe(&mut self, now_ms: u64, events: &[u64]) -> Result<(), OrderFault> {
        self.note(now_ms, events)?;
        self.send(now_ms)
    }

    /// Takes note of recorded events, and tells of them but for the last batch.
    fn note(&mut self, now_ms: u64, events: &[u64]) -> Result<(), OrderFault> {
        let mut rest = events;
        while let Some((event, after)) = split_first(rest) {
            rest = after;
            match event {
                Event::Hit(slot, words) if self.known.contains(slot) => self.add(now_ms, words)?,
                Event::Insert(slot, words) => {
                    self.known.insert(slot);
                    self.add(now_ms, words)?;
                }
                Event::Remove(slot, words) if self.known.remove(slot) => self.add(now_ms, words)?,
                Event::Hit(..) | Event::Remove(..) => {}
            }
        }
        Ok(())
    }

    /// Tells of recorded events, asks for victims worth `need` bytes, and leaves out what is not a
    /// resident that the order knows.
    pub(super) fn make_room(
        &mut self,
        now_ms: u64,
        events: &[u64],
        need: u64,
    ) -> Result<(Vec<u32>, Answer), OrderFault> {
        self.note(now_ms, events)?;
        let named = self.order.make_room(now_ms, &self.batch, need);
        self.batch.clear();
        let mut named = named?;
        // No honest answer is longer than the residents; an endless one is not looked through.
        let mut answer = if named.len() > self.known.len {
            Answer::Wrong
        } else {
            Answer::Right
        };
        named.truncate(self.known.len);
        named.retain(|slot| {
            let known = self.known.remove(*slot);
            if !known {
                answer = Answer::Wrong;
            }
            known
        });
        Ok((named, answer))
    }

    /// Tells the order that its answer was wrong.
    pub(super) fn wrong_answer(&mut self) {
        self.order.wrong_answer();
    }

    /// Bytes the order holds.
    pub(super) fn memory(&self) -> u64 {
        self.order.memory()
    }

    fn add(&mut self, now_ms: u64, event: &[u64]) -> Result<(), OrderFault> {
        if self.batch.len() + event.len() > BATCH_WORDS {
            self.send(now_ms)?;
        }
        self.batch.extend_from_slice(event);
        Ok(())
    }

    fn send(&mut self, now_ms: u64) -> Result<(), OrderFault> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let sent = self.order.observe(now_ms, &self.batch);
        self.batch.clear();
        sent
    }
}

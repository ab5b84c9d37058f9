//! The guest order of one shard, and what it has been told.
//!
//! The order hears a consistent story whatever the stripes did meanwhile: hits and removes only of
//! slots it was told of and has not named. So a named slot that it should not know is its mistake
//! and nobody else's, and a slot that changed since it last looked is nobody's.

use super::events::{BATCH_WORDS, Event, split_first};
use super::layout::Numbering;
use super::stripe::walk::Listed;
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

/// How much of one stripe the order has been told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// Insertions up to this one have been told.
    pub(super) horizon: u64,
    /// Insertions up to this one had been told when victims were last asked for, if ever.
    pub(super) asked: Option<u64>,
    /// Accesses when recording began. Each stripe counts its own.
    pub(super) accesses: u64,
}

/// The order of one shard.
pub(super) struct Ordered {
    order: Box<dyn EvictionOrder>,
    pub(super) numbering: Numbering,
    known: SlotSet,
    batch: Vec<u64>,
    /// Of each stripe.
    pub(super) told: Vec<Told>,
}

impl Ordered {
    /// An order that knows slots by this numbering, and is to be told of the residents inserted up to
    /// the horizon of each stripe.
    pub(super) fn new(
        order: Box<dyn EvictionOrder>,
        numbering: Numbering,
        told: Vec<Told>,
    ) -> Self {
        Self {
            order,
            numbering,
            known: SlotSet::default(),
            batch: Vec::with_capacity(BATCH_WORDS),
            told,
        }
    }

    /// Tells of `residents` and the stripes they are in, in this sequence.
    pub(super) fn tell(
        &mut self,
        now_ms: u64,
        residents: &[(Listed, u32)],
    ) -> Result<(), OrderFault> {
        for (listed, stripe) in residents {
            let number = self.numbering.number(*stripe, listed.slot);
            self.known.insert(number);
            let event = pack::insert(number, listed.hash, listed.size, listed.lifetime);
            self.add(now_ms, number, &event)?;
        }
        self.send(now_ms)
    }

    /// Takes note of events that a stripe has recorded, leaving out what the order does not know of,
    /// and tells of them but for the last batch.
    pub(super) fn note(
        &mut self,
        now_ms: u64,
        stripe: u32,
        events: &[u64],
    ) -> Result<(), OrderFault> {
        let mut rest = events;
        while let Some((event, after)) = split_first(rest) {
            rest = after;
            let (Event::Hit(slot, words) | Event::Insert(slot, words) | Event::Remove(slot, words)) =
                event;
            let number = self.numbering.number(stripe, slot);
            let is_told = match event {
                Event::Hit(..) => self.known.contains(number),
                Event::Insert(..) => {
                    self.known.insert(number);
                    true
                }
                Event::Remove(..) => self.known.remove(number),
            };
            if is_told {
                self.add(now_ms, number, words)?;
            }
        }
        Ok(())
    }

    /// Tells of what was noted, asks for victims worth `need` bytes, and leaves out what is not a
    /// resident that the order knows: the numbers of victims.
    pub(super) fn make_room(
        &mut self,
        now_ms: u64,
        need: u64,
    ) -> Result<(Vec<u32>, Answer), OrderFault> {
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
        named.retain(|number| {
            let known = self.known.remove(*number);
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

    /// Adds an event about the slot of this number.
    fn add(&mut self, now_ms: u64, number: u32, event: &[u64]) -> Result<(), OrderFault> {
        if self.batch.len() + event.len() > BATCH_WORDS {
            self.send(now_ms)?;
        }
        if let [first, rest @ ..] = event {
            self.batch.push(pack::about(*first, number));
            self.batch.extend_from_slice(rest);
        }
        Ok(())
    }

    /// Tells of what was noted.
    pub(super) fn send(&mut self, now_ms: u64) -> Result<(), OrderFault> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let sent = self.order.observe(now_ms, &self.batch);
        self.batch.clear();
        sent
    }
}

//! The seam between a tier and whatever orders its entries for eviction.
//!
//! The tier owns the entries and the budget; an [`EvictionOrder`] only hears what happened and
//! names victims. It may be wrong, slow or absent: the tier then completes in its native order.

use std::fmt;

/// Hears the events of one shard and names its victims. Never called on the path of a request.
pub trait EvictionOrder: Send {
    /// Applies `events`, oldest first, packed as [`pack`] does. `now_ms` is Unix time.
    ///
    /// # Errors
    /// The order faulted and must not be used again.
    fn observe(&mut self, now_ms: u64, events: &[u64]) -> Result<(), OrderFault>;

    /// Names slots to evict, best victim first, worth at least `need` bytes together if it can.
    ///
    /// # Errors
    /// The order faulted and must not be used again.
    fn victims(&mut self, need: u64) -> Result<Vec<u32>, OrderFault>;

    /// Applies `events`, of which there may be none, and then names slots: [`Self::observe`] and
    /// [`Self::victims`] at once.
    ///
    /// # Errors
    /// The order faulted and must not be used again.
    fn make_room(
        &mut self,
        now_ms: u64,
        events: &[u64],
        need: u64,
    ) -> Result<Vec<u32>, OrderFault> {
        if !events.is_empty() {
            self.observe(now_ms, events)?;
        }
        self.victims(need)
    }

    /// The tier found `answer` wrong: it names slots that were free, or one slot twice.
    fn wrong_answer(&mut self);

    /// Bytes of memory the order itself holds.
    fn memory(&self) -> u64;
}

/// Makes the orders of a tier, one a shard.
pub trait OrderSource: Send + Sync {
    /// A new order for a shard that is empty as far as the order knows.
    ///
    /// # Errors
    /// There is no order to be had (any more); the tier uses its native one.
    fn order(&self, shard: ShardLimits) -> Result<Box<dyn EvictionOrder>, OrderFault>;

    /// The name shown to operators.
    fn name(&self) -> String;
}

/// What a shard may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardLimits {
    /// Bytes.
    pub capacity: u64,
    /// Entries; slots are below this number.
    pub max_entries: u32,
}

/// An order failed: it trapped, overran its deadline, or could not be made.
#[derive(Debug)]
pub struct OrderFault(pub String);

impl fmt::Display for OrderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OrderFault {}

/// Says which entries of a segment that is reclaimed are worth being written again. Never called on
/// the path of a request.
pub trait Reinsertion: Send + Sync {
    /// As many answers as `entries`, in their sequence.
    fn keep(&self, entries: &[Stored]) -> Vec<bool>;
}

/// An entry of a segment that is reclaimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Keyed hash of its key.
    pub hash: u64,
    /// Bytes it takes in that segment. Of large content, the rest may lie in others.
    pub size: u64,
    /// Hits since it was written.
    pub hits: u32,
    /// Seconds since it was written.
    pub age_s: u32,
    /// Seconds of lifetime left; `None`: without end.
    pub lifetime_s: Option<u64>,
}

/// The tiers' own rule: what was hit since it was written is worth it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HitSinceWritten;

impl Reinsertion for HitSinceWritten {
    fn keep(&self, entries: &[Stored]) -> Vec<bool> {
        entries.iter().map(|entry| entry.hits > 0).collect()
    }
}

/// Events packed into words, as the policy interface defines them.
///
/// First word: bits 0-31 slot, 32-61 argument, 62-63 kind. An insert has two more words.
pub mod pack {
    /// Bits of the argument.
    const ARGUMENT_MAX: u64 = (1 << 30) - 1;

    /// A lookup was served from the entry in `slot`. One word.
    pub const fn hit(slot: u32) -> u64 {
        slot_word(slot)
    }

    /// An entry was put into `slot`: keyed hash of its key, bytes charged, and seconds of
    /// lifetime left (`None`: without end). Three words.
    pub const fn insert(slot: u32, hash: u64, size: u64, lifetime_s: Option<u64>) -> [u64; 3] {
        let argument = match lifetime_s {
            // All ones means "without end", so a finite lifetime stops one short of it.
            Some(seconds) if seconds < ARGUMENT_MAX => seconds,
            Some(_) => ARGUMENT_MAX - 1,
            None => ARGUMENT_MAX,
        };
        [slot_word(slot) | argument << 32 | 1 << 62, hash, size]
    }

    /// The entry in `slot` left for a reason other than being named a victim. One word.
    pub const fn remove(slot: u32) -> u64 {
        slot_word(slot) | 2 << 62
    }

    /// The first word of an event, about this slot instead.
    pub const fn about(word: u64, slot: u32) -> u64 {
        word >> 32 << 32 | slot_word(slot)
    }

    /// An entry that is asked about for reinsertion. Four words.
    pub fn stored(entry: &super::Stored) -> [u64; 4] {
        // All ones means "without end", so a finite lifetime stops one short of it.
        let lifetime_s = entry
            .lifetime_s
            .map_or(u64::MAX, |left| left.min(u64::MAX - 1));
        let uses = u64::from(entry.hits) | u64::from(entry.age_s) << 32;
        [entry.hash, entry.size, uses, lifetime_s]
    }

    #[expect(
        clippy::as_conversions,
        reason = "u64::from is not const; widening loses nothing"
    )]
    const fn slot_word(slot: u32) -> u64 {
        slot as u64
    }
}

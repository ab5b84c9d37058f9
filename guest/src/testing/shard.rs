//! One shard of a memory tier, simulated: what an eviction policy sees of the host, without it.
//!
//! Events are batched and packed, and victims asked for in lots, as the host does both; the shard
//! fails the test when a policy names a slot that holds nothing. What a policy leaves undone it
//! completes in its own order and counts, as the host would.

use std::collections::HashMap;
use std::time::Duration;

use crate::Eviction;
use crate::eviction::{self, Insert, Limits, Victims, event};

/// Words of a batch.
const BATCH_WORDS: usize = 256;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The key was resident.
    Hit,
    /// It was not, and was inserted; these keys left to make room, first named first. The key
    /// itself is among them if the policy refused it.
    Miss {
        /// Keys that left.
        evicted: Vec<u64>,
    },
}

/// A shard that runs the eviction policy `T`.
#[derive(Debug)]
pub struct Shard<T> {
    policy: T,
    limits: Limits,
    lot_bytes: u64,
    words: Vec<u64>,
    slots: HashMap<u64, u32>,
    residents: Vec<Option<Resident>>,
    free: Vec<u32>,
    bytes: u64,
    requests: u64,
    shortfalls: u64,
}

#[derive(Clone, Copy, Debug)]
struct Resident {
    key: u64,
    size_bytes: u64,
    used: u64,
}

impl<T: Eviction> Shard<T> {
    /// An empty shard, whose policy is configured with `params`, a JSON object.
    ///
    /// Victims are asked for one newcomer at a time; see [`with_lots`](Self::with_lots).
    ///
    /// # Errors
    /// What the policy, or the check for unknown parameters, says against them.
    pub fn new(params: &str, limits: Limits) -> Result<Self, String> {
        Ok(Self {
            policy: eviction::configured(params, limits)?,
            limits,
            lot_bytes: 0,
            words: Vec::new(),
            slots: HashMap::new(),
            residents: Vec::new(),
            free: Vec::new(),
            bytes: 0,
            requests: 0,
            shortfalls: 0,
        })
    }

    /// Asks for at least `lot_bytes` at a time, and so keeps headroom, as the host does.
    #[must_use]
    pub fn with_lots(self, lot_bytes: u64) -> Self {
        Self { lot_bytes, ..self }
    }

    /// Requests `key`, which is charged `size_bytes`, and inserts it if it is not resident.
    ///
    /// # Panics
    /// The policy named a slot that holds nothing.
    pub fn request(&mut self, key: u64, size_bytes: u64) -> Answer {
        self.requests += 1;
        if let Some(slot) = self.slots.get(&key).copied() {
            if let Some(Some(resident)) = self.residents.get_mut(index(slot)) {
                resident.used = self.requests;
            }
            event::hit(slot, &mut self.words);
            self.flush_full_batch();
            return Answer::Hit;
        }
        if size_bytes > self.limits.capacity_bytes {
            return Answer::Miss {
                evicted: Vec::new(),
            };
        }
        self.insert(key, size_bytes);
        let evicted = self.make_room();
        self.flush_full_batch();
        Answer::Miss { evicted }
    }

    /// Takes `key` out for a reason that is not eviction; does nothing if it is not resident.
    pub fn remove(&mut self, key: u64) {
        if let Some(slot) = self.slots.get(&key).copied() {
            event::remove(slot, &mut self.words);
            self.vacate(slot);
            self.flush_full_batch();
        }
    }

    /// The policy, to look at what it keeps.
    pub fn policy(&self) -> &T {
        &self.policy
    }

    /// Whether `key` is resident.
    pub fn contains(&self, key: u64) -> bool {
        self.slots.contains_key(&key)
    }

    /// Bytes of all residents; within the capacity after every call.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Times that the policy named less than it was asked for.
    pub fn shortfalls(&self) -> u64 {
        self.shortfalls
    }

    fn insert(&mut self, key: u64, size_bytes: u64) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.residents.push(None);
            u32::try_from(self.residents.len() - 1).expect("slots are 32 bits")
        });
        let used = self.requests;
        if let Some(place) = self.residents.get_mut(index(slot)) {
            *place = Some(Resident {
                key,
                size_bytes,
                used,
            });
        }
        self.slots.insert(key, slot);
        self.bytes += size_bytes;
        let lifetime = Some(Duration::from_hours(1));
        let insert = Insert {
            slot,
            hash: hash(key),
            size_bytes,
            lifetime,
        };
        event::insert(insert, &mut self.words);
    }

    fn make_room(&mut self) -> Vec<u64> {
        let mut evicted = Vec::new();
        // The newcomer has a slot above the budget, which the host keeps for it.
        let entries_max = index(self.limits.max_entries).saturating_sub(1);
        while self.bytes > self.limits.capacity_bytes || self.slots.len() > entries_max {
            let over = self.bytes.saturating_sub(self.limits.capacity_bytes);
            let need = over.max(self.lot_bytes).max(1);
            self.flush();
            let mut victims = Victims::new(need);
            self.policy.victims(&mut victims);
            let mut named = 0;
            for slot in victims.into_slots() {
                let left = self
                    .vacate(slot)
                    .unwrap_or_else(|| panic!("slot {slot} was named and holds nothing"));
                named += left.size_bytes;
                evicted.push(left.key);
            }
            if named < need && !self.slots.is_empty() {
                self.shortfalls += 1;
                evicted.extend(self.evict_least_recently_used());
            }
        }
        evicted
    }

    /// The host's own order, for what the policy left undone.
    fn evict_least_recently_used(&mut self) -> Option<u64> {
        let residents = self.residents.iter().flatten();
        let key = residents.min_by_key(|resident| resident.used)?.key;
        self.remove(key);
        Some(key)
    }

    fn vacate(&mut self, slot: u32) -> Option<Resident> {
        let left = self.residents.get_mut(index(slot))?.take()?;
        self.slots.remove(&left.key);
        self.free.push(slot);
        self.bytes -= left.size_bytes;
        Some(left)
    }

    fn flush_full_batch(&mut self) {
        if self.words.len() >= BATCH_WORDS {
            self.flush();
        }
    }

    fn flush(&mut self) {
        eviction::apply(
            &mut self.policy,
            1_700_000_000_000 + self.requests,
            &self.words,
        );
        self.words.clear();
    }
}

fn index(slot: u32) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX)
}

/// Spreads keys over 64 bits, as the host's keyed hash does, but the same in every run.
fn hash(key: u64) -> u64 {
    let mut bits = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

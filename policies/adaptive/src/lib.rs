//! Eviction: by size and frequency, adapting to the traffic. No paper has it as a whole.
//!
//! Entries are ranked as in GreedyDual-Size-Frequency: what an entry is worth, on top of the age of
//! the shard when it was used last (see `ranking`). What repeated use counts for, and whether size
//! counts at all, is a *rule* (see `rule`), and no rule is right for all traffic: newcomers on
//! probation save a cache from scans and loops and harm it where all is recent; worth by size
//! serves the most requests and may serve fewer bytes. So six rules, one of them close to LRU, are
//! tried all the time on a sample of the keys, in shadows that hold no contents (see `trial`), and
//! the one that is best for the objective (see `objective`) ranks the entries.
//!
//! Whatever the rule, who left is remembered with its uses until four times the capacity has left
//! after it (see `memory`), and a newcomer worth less than the victims it needs is refused; of those
//! that were named before it, as they are worth less still, half may leave with it.
//!
//! Parameters: `objective`. `"requests"`: to miss the fewest requests. `"bytes"`: the fewest bytes.
//! `"balanced"`, the default: the fewest of both, each counted in parts of what the rule close to LRU
//! would miss, bytes twice, and those beyond what it would miss ten times. So half the requests may
//! cost a twentieth more bytes, and all of them a tenth; a rule is kept until it costs another
//! hundredth.
//!
//! On disk it keeps what was hit most often since it was written: for its size if it is requests
//! that count, for the root of its size if both do.
//!
//! Keeps 46 bytes for each entry, ghosts included, or 57 where most leave by purges, and some KB for
//! its wheels: 38, and up to 300 for queues that hold little, in shards of more than 4,096 entries.
//! The shadows keep 26 for each of their entries and 150 for each key that any of them holds: each
//! has a sample of up to a 21st of the entries that the shard may have, or 3,072 in shards of more
//! than 64,512, but 512 in small ones, and all of them together hold up to half as many keys more.
//!
//! An event costs the same however many entries there are. What the shadows cost is what they miss:
//! for each request to a full shard all of them together miss five quarters at most, on average over
//! some thousand, or the sample is halved; but up to six in shards of fewer than 128 entries.

mod memory;
mod numbers;
mod objective;
mod queues;
mod ranking;
mod rule;
mod trial;
mod wheel;

use larder_guest::eviction::{Insert, Limits, Victims};
use larder_guest::reinsertion::Stored;
use larder_guest::{Eviction, Params, Reinsertion};
use objective::Objective;
use ranking::{Key, Ranking};
use rule::{Unit, Worth};
use trial::{Shard, Trial};
use wheel::Fineness;

/// The policy; see the crate's documentation.
#[derive(Debug)]
pub struct Adaptive {
    ranking: Ranking,
    trial: Trial,
    unit: Unit,
    capacity_bytes: u64,
    /// What the shard held when room was made last, which may be less; none before the first time.
    full_bytes: Option<u64>,
}

impl Eviction for Adaptive {
    fn configure(params: &Params, limits: Limits) -> Result<Self, String> {
        let objective = Objective::configured(params)?;
        Ok(Self {
            ranking: Ranking::new(limits.max_entries, Fineness::Large),
            trial: Trial::new(objective, limits.max_entries),
            unit: Unit::new(),
            capacity_bytes: limits.capacity_bytes,
            full_bytes: None,
        })
    }

    fn hit(&mut self, slot: u32) {
        if let Some(key) = self.ranking.hit(slot) {
            self.requested(key);
        }
    }

    fn insert(&mut self, insert: Insert) {
        let key = Key {
            hash: insert.half_hash(),
            size_bytes: u32::try_from(insert.size_bytes).unwrap_or(u32::MAX),
        };
        self.unit.newcomer(key.size_bytes);
        self.ranking.insert(self.worth(), insert.slot, key);
        self.requested(key);
    }

    fn remove(&mut self, slot: u32) {
        self.ranking.remove(slot);
    }

    fn victims(&mut self, victims: &mut Victims) {
        let full_bytes = self.ranking.bytes().saturating_sub(victims.missing_bytes());
        self.full_bytes = Some(full_bytes.min(self.capacity_bytes));
        let worth = self.worth();
        self.ranking.victims(worth, self.capacity_bytes, victims);
    }
}

larder_guest::eviction!(Adaptive);

/// What a disk tier keeps of a segment.
#[derive(Debug)]
pub struct Keeps(Objective);

impl Reinsertion for Keeps {
    fn configure(params: &Params) -> Result<Self, String> {
        Objective::configured(params).map(Self)
    }

    fn keep(&self, entries: &[Stored]) -> Vec<bool> {
        self.0.keep(entries)
    }
}

larder_guest::reinsertion!(Keeps);

impl Adaptive {
    fn worth(&self) -> Worth {
        Worth {
            rule: self.trial.rule(),
            unit_bytes: self.unit.bytes(),
        }
    }

    #[inline]
    fn requested(&mut self, key: Key) {
        let shard = Shard {
            residents: self.ranking.len(),
            capacity_bytes: self.capacity_bytes,
            full_bytes: self.full_bytes,
            unit_bytes: self.unit.bytes(),
        };
        self.trial.request(key, shard);
    }
}

#[cfg(test)]
mod tests;

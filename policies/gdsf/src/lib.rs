//! Eviction: GreedyDual-Size-Frequency (Cherkasova, HP Labs HPL-98-69R1, 1998), with admission.
//!
//! An entry's priority is `L + uses / size`, `L` being that of the last that had to leave when the
//! entry was last used. So small and often used entries stay, and those that are used no more are
//! overtaken by the rest in time. This serves the most requests of all policies here, and not the
//! most bytes. Entries of equal priority leave in the order of their last use.
//!
//! The paper admits every newcomer. Here one that is worth less than a victim it would need is
//! refused instead, and of those that are worth less still at most half leave with it: they turn out
//! not to be needed once a larger entry above them is named, and stay, but no more of them than
//! leave, or the same ones would be named over and over. A refusal raises `L` as any departure does,
//! or residents that are used no more would keep newcomers out for ever. A replaced entry is used.
//! Takes no parameters.
//!
//! On disk it keeps what was hit most often for its size since it was written.
//!
//! Keeps 40 bytes for each entry; an event costs time with the logarithm of their number.

mod heap;

use heap::{Entry, Heap};
use larder_guest::eviction::{Insert, Limits, Victims};
use larder_guest::reinsertion::{self, Stored};
use larder_guest::{Eviction, Params, Reinsertion};

/// The policy; see the crate's documentation.
#[derive(Debug)]
pub struct Gdsf {
    heap: Heap,
    /// `L` of the paper.
    age: f64,
    /// How often any entry was used.
    uses: u64,
}

impl Eviction for Gdsf {
    fn configure(_: &Params, limits: Limits) -> Result<Self, String> {
        Ok(Self {
            heap: Heap::new(limits.max_entries),
            age: 0.0,
            uses: 0,
        })
    }

    fn hit(&mut self, slot: u32) {
        if let Some(entry) = self.heap.get(slot) {
            self.use_once(slot, entry);
        }
    }

    fn insert(&mut self, insert: Insert) {
        let newcomer = Entry {
            priority: 0.0,
            used: 0,
            size_bytes: u32::try_from(insert.size_bytes).unwrap_or(u32::MAX),
            hash: insert.half_hash(),
            uses: 0,
        };
        let known = self.heap.get(insert.slot);
        let entry = match known.filter(|known| known.hash == newcomer.hash) {
            Some(known) => Entry {
                size_bytes: newcomer.size_bytes,
                ..known
            },
            None => newcomer,
        };
        self.use_once(insert.slot, entry);
    }

    fn remove(&mut self, slot: u32) {
        self.heap.remove(slot);
    }

    fn victims(&mut self, victims: &mut Victims) {
        // Slots alone: for a newcomer of a quarter of the shard they may be most of the small ones.
        let mut named = Vec::new();
        let mut named_bytes = 0_u64;
        while named_bytes < victims.missing_bytes()
            && let Some((slot, entry)) = self.heap.pop()
        {
            named_bytes = named_bytes.saturating_add(entry.size_bytes.into());
            named.push(slot);
        }
        let mut spare_bytes = named_bytes.saturating_sub(victims.missing_bytes());
        let mut stay_max = named.len() / 2;
        for slot in named {
            let Some(entry) = self.heap.popped(slot) else {
                continue;
            };
            let size_bytes = u64::from(entry.size_bytes);
            if size_bytes <= spare_bytes && stay_max > 0 {
                spare_bytes -= size_bytes;
                stay_max -= 1;
                self.heap.put(slot, entry);
                continue;
            }
            self.age = self.age.max(entry.priority);
            victims.name(slot, size_bytes);
        }
    }
}

larder_guest::eviction!(Gdsf);

/// What a disk tier keeps of a segment.
#[derive(Debug)]
pub struct Keeps;

impl Reinsertion for Keeps {
    fn configure(_: &Params) -> Result<Self, String> {
        Ok(Self)
    }

    fn keep(&self, entries: &[Stored]) -> Vec<bool> {
        reinsertion::keep_best(entries, Stored::density)
    }
}

larder_guest::reinsertion!(Keeps);

impl Gdsf {
    fn use_once(&mut self, slot: u32, mut entry: Entry) {
        self.uses += 1;
        entry.used = self.uses;
        entry.uses = entry.uses.saturating_add(1);
        entry.priority = self.age + f64::from(entry.uses) / f64::from(entry.size_bytes.max(1));
        self.heap.put(slot, entry);
    }
}

#[cfg(test)]
mod tests;

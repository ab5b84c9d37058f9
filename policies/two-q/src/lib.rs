//! Eviction: 2Q, the full version (Johnson and Shasha, VLDB 1994), in bytes.
//!
//! Newcomers enter a first-in-first-out queue, `A1in`, in which hits mean nothing: several in a row
//! are one use. Who leaves it is remembered, by hash alone, in a ghost queue, `A1out`. Who returns
//! while remembered enters the main queue, `Am`, which is an LRU. Room is made in `A1in` while it
//! has more than its share, else in `Am`.
//!
//! What the paper leaves open is decided so: `A1in` is over its share when it holds more than `in`
//! percent of all *resident* bytes, and `A1out` is `out` percent as long as there are residents, which
//! is right also while the host keeps headroom; a replaced entry counts as hit.
//!
//! Parameters: `in`, percent of bytes, 1 to 99, by default 25; `out`, percent of entries, 1 to 400,
//! by default 50.
//!
//! Keeps 25 bytes for each entry, and 16 for each that is remembered: 33 with the defaults.

use larder_guest::eviction::{Ghosts, Insert, Limits, Link, Links, Queue, Slots, Victims};
use larder_guest::{Eviction, Params};

/// The policy; see the crate's documentation.
#[derive(Debug)]
pub struct TwoQ {
    places: Slots<Place, 4096>,
    facts: Slots<Facts, 512>,
    links: Links,
    a1in: Queue,
    am: Queue,
    a1out: Ghosts,
    in_percent: u64,
    out_percent: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Vacant,
    A1in,
    Am,
}

#[derive(Clone, Copy, Debug)]
struct Facts {
    size_bytes: u64,
    hash: u32,
}

impl Eviction for TwoQ {
    fn configure(params: &Params, limits: Limits) -> Result<Self, String> {
        let in_percent = params.u64("in")?.unwrap_or(25);
        if !(1..=99).contains(&in_percent) {
            return Err("parameter `in`: expected a percentage from 1 to 99".to_owned());
        }
        let out_percent = params.u64("out")?.unwrap_or(50);
        if !(1..=400).contains(&out_percent) {
            return Err("parameter `out`: expected a percentage from 1 to 400".to_owned());
        }
        let vacant = Facts {
            size_bytes: 0,
            hash: 0,
        };
        Ok(Self {
            places: Slots::new(limits.max_entries, Place::Vacant),
            facts: Slots::new(limits.max_entries, vacant),
            links: Slots::new(limits.max_entries, Link::VACANT),
            a1in: Queue::EMPTY,
            am: Queue::EMPTY,
            a1out: Ghosts::new(),
            in_percent,
            out_percent,
        })
    }

    fn hit(&mut self, slot: u32) {
        if self.place(slot) == Place::Am
            && let Some(facts) = self.facts.get(slot)
        {
            self.am.remove(&mut self.links, slot, facts.size_bytes);
            self.am.push(&mut self.links, slot, facts.size_bytes);
        }
    }

    fn insert(&mut self, insert: Insert) {
        let slot = insert.slot;
        let facts = Facts {
            size_bytes: insert.size_bytes,
            hash: insert.half_hash(),
        };
        if self.replace(slot, facts) {
            self.hit(slot);
            return;
        }
        // Another key in a slot that was not reported free: what was there has left.
        self.remove(slot);
        let remembered = self.remembered_max();
        let (Some(place), Some(known), Some(_)) = (
            self.places.get_or_grow(slot),
            self.facts.get_or_grow(slot),
            self.links.get_or_grow(slot),
        ) else {
            return;
        };
        *known = facts;
        let queue = if self.a1out.take(facts.hash, remembered) {
            *place = Place::Am;
            &mut self.am
        } else {
            *place = Place::A1in;
            &mut self.a1in
        };
        queue.push(&mut self.links, slot, facts.size_bytes);
    }

    fn remove(&mut self, slot: u32) {
        self.take_out(slot);
    }

    fn victims(&mut self, victims: &mut Victims) {
        while victims.missing_bytes() > 0 {
            let from_a1in = self.a1in_is_over_its_share();
            let queue = if from_a1in { &self.a1in } else { &self.am };
            let Some(slot) = queue.oldest() else { break };
            let Some(facts) = self.take_out(slot) else {
                break;
            };
            if from_a1in {
                let remembered = self.remembered_max();
                self.a1out.insert(facts.hash, remembered);
            }
            victims.name(slot, facts.size_bytes);
        }
    }
}

larder_guest::eviction!(TwoQ);

impl TwoQ {
    fn place(&self, slot: u32) -> Place {
        self.places.get(slot).copied().unwrap_or(Place::Vacant)
    }

    /// Takes note of a new size if `slot` holds the key already; false if it does not.
    fn replace(&mut self, slot: u32, facts: Facts) -> bool {
        let queue = match self.place(slot) {
            Place::A1in => &mut self.a1in,
            Place::Am => &mut self.am,
            Place::Vacant => return false,
        };
        let Some(known) = self
            .facts
            .get_mut(slot)
            .filter(|known| known.hash == facts.hash)
        else {
            return false;
        };
        queue.resize(known.size_bytes, facts.size_bytes);
        *known = facts;
        true
    }

    fn take_out(&mut self, slot: u32) -> Option<Facts> {
        let facts = self.facts.get(slot).copied()?;
        let place = self.places.get_mut(slot)?;
        let queue = match *place {
            Place::A1in => &mut self.a1in,
            Place::Am => &mut self.am,
            Place::Vacant => return None,
        };
        *place = Place::Vacant;
        queue.remove(&mut self.links, slot, facts.size_bytes);
        Some(facts)
    }

    fn a1in_is_over_its_share(&self) -> bool {
        let all_bytes = self.a1in.bytes.saturating_add(self.am.bytes);
        let is_over =
            self.a1in.bytes.saturating_mul(100) > self.in_percent.saturating_mul(all_bytes);
        self.a1in.len > 0 && (is_over || self.am.len == 0)
    }

    fn remembered_max(&self) -> u32 {
        let residents = u64::from(self.a1in.len) + u64::from(self.am.len);
        u32::try_from(residents * self.out_percent / 100).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests;

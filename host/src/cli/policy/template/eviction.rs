//! Which residents leave a full memory tier.
//!
//! Larder keeps the entries; a policy only keeps their order. It is told what happened and asked
//! for victims, in batches, on a thread of its own, so no request ever waits for it. An entry is
//! known by its slot: a small number that is used again once the entry has left. One instance
//! sees one shard of the tier.
//!
//! This one is the clock algorithm: a hand goes round the slots; what was used since it last came
//! by gets a second chance, the rest leaves. Change it to your needs; `larder policy test` shows
//! whether it does what you mean, without a server.

use larder_guest::eviction::{Insert, Limits, Slots, Victims};
use larder_guest::{Eviction, Params};

struct Policy {
    slots: Slots<Slot>,
    /// One past the highest slot that was ever filled.
    end: u32,
    hand: u32,
}

#[derive(Clone, Copy)]
enum Slot {
    Vacant,
    Resident { size_bytes: u64, used: bool },
}

impl Eviction for Policy {
    /// Reads what the operator set: `eviction = { name = "...", params = { ... } }`. This policy
    /// takes no parameters, and Larder refuses those that nobody asked for.
    fn configure(_: &Params, limits: Limits) -> Result<Self, String> {
        Ok(Self {
            slots: Slots::new(limits.max_entries, Slot::Vacant),
            end: 0,
            hand: 0,
        })
    }

    fn hit(&mut self, slot: u32) {
        if let Some(Slot::Resident { used, .. }) = self.slots.get_mut(slot) {
            *used = true;
        }
    }

    fn insert(&mut self, insert: Insert) {
        if let Some(slot) = self.slots.get_or_grow(insert.slot) {
            *slot = Slot::Resident {
                size_bytes: insert.size_bytes,
                used: true,
            };
            self.end = self.end.max(insert.slot + 1);
        }
    }

    fn remove(&mut self, slot: u32) {
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = Slot::Vacant;
        }
    }

    fn victims(&mut self, victims: &mut Victims) {
        // Twice round at most: the first time clears the marks, the second finds a victim.
        for _ in 0..self.end.saturating_mul(2) {
            if victims.missing_bytes() == 0 {
                return;
            }
            let at = self.hand;
            self.hand = if at + 1 < self.end { at + 1 } else { 0 };
            let Some(slot) = self.slots.get_mut(at) else {
                continue;
            };
            match slot {
                Slot::Vacant => {}
                Slot::Resident {
                    used: true,
                    size_bytes,
                } => {
                    *slot = Slot::Resident {
                        used: false,
                        size_bytes: *size_bytes,
                    };
                }
                Slot::Resident {
                    used: false,
                    size_bytes,
                } => {
                    victims.name(at, *size_bytes);
                    // What is named has left; no removal is reported for it.
                    *slot = Slot::Vacant;
                }
            }
        }
    }
}

larder_guest::eviction!(Policy);

#[cfg(test)]
mod tests {
    use super::*;
    use larder_guest::testing::{Answer, Shard};

    fn shard(capacity_bytes: u64) -> Shard<Policy> {
        let limits = Limits {
            capacity_bytes,
            max_entries: 1_000,
        };
        Shard::new("{}", limits).expect("good parameters")
    }

    fn miss(evicted: &[u64]) -> Answer {
        Answer::Miss {
            evicted: evicted.to_vec(),
        }
    }

    #[test]
    fn what_was_used_gets_a_second_chance() {
        let mut shard = shard(3);
        for key in [1, 2, 3] {
            assert_eq!(shard.request(key, 1), miss(&[]));
        }
        // Nothing has been passed over yet, so the first in the round leaves.
        assert_eq!(shard.request(4, 1), miss(&[1]));
        assert_eq!(shard.request(2, 1), Answer::Hit);
        assert_eq!(shard.request(5, 1), miss(&[3]));
        assert!(shard.contains(2));
    }

    #[test]
    fn several_leave_for_a_large_one() {
        let mut shard = shard(4);
        for key in [1, 2, 3, 4] {
            shard.request(key, 1);
        }
        assert_eq!(shard.request(5, 3), miss(&[1, 2, 3]));
    }

    #[test]
    fn the_budget_is_held_and_nothing_is_left_to_the_host() {
        let mut shard = shard(100);
        for request in 0..10_000_u64 {
            let key = request * request % 97;
            shard.request(key, 1 + key % 7);
            if request % 11 == 0 {
                shard.remove(key);
            }
            assert!(shard.bytes() <= 100);
        }
        assert_eq!(shard.shortfalls(), 0);
    }

    #[test]
    fn parameters_are_refused() {
        let limits = Limits {
            capacity_bytes: 1,
            max_entries: 1,
        };
        assert!(Shard::<Policy>::new(r#"{"unknown":1}"#, limits).is_err());
    }
}

//! The policy names the same victims, in the same order, as the algorithm written plainly.

use larder_guest::eviction::{Insert, Limits, Victims};
use larder_guest::testing::{Operation, Shard, victims_of};
use larder_guest::{Eviction, Params};
use proptest::collection::vec;
use proptest::prelude::{any, proptest};
use proptest::{prop_assert, prop_assert_eq};

use super::Sieve;

const LIMITS: Limits = Limits {
    capacity_bytes: 2_000,
    max_entries: 80,
};

/// SIEVE with a list of entries, oldest first, and the place of the hand in it.
struct Model {
    entries: Vec<Entry>,
    hand: usize,
    slots: u32,
}

struct Entry {
    insert: Insert,
    is_marked: bool,
    is_new: bool,
}

impl Model {
    fn place(&self, slot: u32) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| entry.insert.slot == slot)
    }

    fn take_out(&mut self, place: usize) -> Entry {
        if place < self.hand {
            self.hand -= 1;
        }
        let entry = self.entries.remove(place);
        self.wrap();
        entry
    }

    /// A hand that has passed all but who came last starts again at the oldest.
    fn wrap(&mut self) {
        let settled = self.entries.iter().filter(|entry| !entry.is_new).count();
        if self.hand >= settled {
            self.hand = 0;
        }
    }
}

impl Eviction for Model {
    fn configure(_: &Params, limits: Limits) -> Result<Self, String> {
        Ok(Self {
            entries: Vec::new(),
            hand: 0,
            slots: limits.max_entries,
        })
    }

    fn hit(&mut self, slot: u32) {
        if let Some(place) = self.place(slot) {
            self.entries[place].is_marked = true;
        }
    }

    fn insert(&mut self, insert: Insert) {
        if let Some(place) = self.place(insert.slot) {
            let entry = &mut self.entries[place];
            if entry.insert.hash == insert.hash {
                entry.insert = insert;
                entry.is_marked = true;
                return;
            }
            self.take_out(place);
        }
        if insert.slot < self.slots {
            for entry in &mut self.entries {
                entry.is_new = false;
            }
            self.entries.push(Entry {
                insert,
                is_marked: false,
                is_new: true,
            });
        }
    }

    fn remove(&mut self, slot: u32) {
        if let Some(place) = self.place(slot) {
            self.take_out(place);
        }
    }

    fn victims(&mut self, victims: &mut Victims) {
        while victims.missing_bytes() > 0 && !self.entries.is_empty() {
            let entry = &mut self.entries[self.hand];
            if entry.is_marked {
                entry.is_marked = false;
                self.hand += 1;
                self.wrap();
            } else {
                let entry = self.take_out(self.hand);
                victims.name(entry.insert.slot, entry.insert.size_bytes);
            }
        }
        for entry in &mut self.entries {
            entry.is_new = false;
        }
    }
}

proptest! {
    #[test]
    fn survives_what_a_host_may_say(draws in vec(any::<u64>(), 0..500)) {
        let operations: Vec<_> = draws.into_iter().map(Operation::extreme).collect();
        for named in victims_of::<Sieve>("{}", LIMITS, &operations) {
            prop_assert!(named.iter().all(|slot| *slot < LIMITS.max_entries));
        }
    }

    #[test]
    fn names_the_same_victims_as_the_plain_algorithm(draws in vec(any::<u64>(), 0..3_000)) {
        let operations: Vec<_> = draws.into_iter().map(Operation::drawn).collect();
        let named = victims_of::<Sieve>("{}", LIMITS, &operations);
        prop_assert_eq!(named, victims_of::<Model>("{}", LIMITS, &operations));
    }
}

#[test]
fn the_hand_passes_who_was_used_and_stops_at_who_was_not() {
    let limits = Limits {
        capacity_bytes: 4,
        max_entries: 10,
    };
    let mut shard = Shard::<Sieve>::new("{}", limits).unwrap();
    for key in [1, 2, 3, 4, 1, 3] {
        shard.request(key, 1);
    }
    let mut evicted = Vec::new();
    for key in [5, 6, 7] {
        if let larder_guest::testing::Answer::Miss { evicted: left } = shard.request(key, 1) {
            evicted.extend(left);
        }
    }
    // 1 and 3 lose their marks as the hand passes; it comes to 5 before it comes to 1 again.
    assert_eq!(evicted, [2, 4, 5]);
    assert_eq!(shard.shortfalls(), 0);
}

#[test]
fn one_call_takes_a_bounded_number_of_marks_off() {
    let limits = Limits {
        capacity_bytes: 1 << 20,
        max_entries: 100_000,
    };
    let mut policy = Sieve::configure(&Params::default(), limits).unwrap();
    for slot in 0..50_000 {
        policy.insert(Insert {
            slot,
            hash: u64::from(slot),
            size_bytes: 1,
            lifetime: None,
        });
        policy.hit(slot);
    }
    let mut victims = Victims::new(1);
    policy.victims(&mut victims);
    assert_eq!(victims.into_slots(), [super::MOVES_MAX]);
}

//! The policy names the same victims, in the same order, as the algorithm written plainly.

use larder_guest::eviction::{Insert, Limits, Victims};
use larder_guest::testing::{Answer, Operation, Shard, victims_of};
use larder_guest::{Eviction, Params};
use proptest::collection::vec;
use proptest::prelude::{any, proptest};
use proptest::{prop_assert, prop_assert_eq};

use super::Gdsf;

const LIMITS: Limits = Limits {
    capacity_bytes: 2_000,
    max_entries: 80,
};

/// GDSF with a list of entries that is sorted when somebody has to leave.
#[derive(Default)]
struct Model {
    entries: Vec<Entry>,
    age: f64,
    slots: u32,
}

#[derive(Clone, Copy)]
struct Entry {
    insert: Insert,
    uses: f64,
    priority: f64,
}

impl Model {
    /// Who was used last is last, so that a stable sort leaves equals in the order of use.
    fn use_once(&mut self, mut entry: Entry) {
        self.remove(entry.insert.slot);
        entry.uses += 1.0;
        let size_bytes = u32::try_from(entry.insert.size_bytes.max(1)).unwrap();
        entry.priority = self.age + entry.uses / f64::from(size_bytes);
        self.entries.push(entry);
    }

    fn find(&self, slot: u32) -> Option<Entry> {
        self.entries
            .iter()
            .find(|entry| entry.insert.slot == slot)
            .copied()
    }
}

impl Eviction for Model {
    fn configure(_: &Params, limits: Limits) -> Result<Self, String> {
        Ok(Self {
            slots: limits.max_entries,
            ..Self::default()
        })
    }

    fn hit(&mut self, slot: u32) {
        if let Some(entry) = self.find(slot) {
            self.use_once(entry);
        }
    }

    fn insert(&mut self, insert: Insert) {
        if insert.slot >= self.slots {
            return;
        }
        let known = self
            .find(insert.slot)
            .filter(|known| known.insert.hash == insert.hash);
        let entry = known.map_or(
            Entry {
                insert,
                uses: 0.0,
                priority: 0.0,
            },
            |known| Entry { insert, ..known },
        );
        self.use_once(entry);
    }

    fn remove(&mut self, slot: u32) {
        self.entries.retain(|entry| entry.insert.slot != slot);
    }

    fn victims(&mut self, victims: &mut Victims) {
        let mut order = self.entries.clone();
        order.sort_by(|a, b| a.priority.total_cmp(&b.priority));
        let need = victims.missing_bytes();
        let mut bytes = 0;
        order.retain(|entry| {
            let is_needed = bytes < need;
            bytes += if is_needed {
                entry.insert.size_bytes
            } else {
                0
            };
            is_needed
        });
        let mut spare = bytes.saturating_sub(need);
        let mut stay_max = order.len() / 2;
        for entry in order {
            let size = entry.insert.size_bytes;
            if size <= spare && stay_max > 0 {
                spare -= size;
                stay_max -= 1;
                continue;
            }
            self.age = self.age.max(entry.priority);
            victims.name(entry.insert.slot, size);
            self.remove(entry.insert.slot);
        }
    }
}

proptest! {
    #[test]
    fn survives_what_a_host_may_say(draws in vec(any::<u64>(), 0..500)) {
        let operations: Vec<_> = draws.into_iter().map(Operation::extreme).collect();
        for named in victims_of::<Gdsf>("{}", LIMITS, &operations) {
            prop_assert!(named.iter().all(|slot| *slot < LIMITS.max_entries));
        }
    }

    #[test]
    fn names_the_same_victims_as_the_plain_algorithm(draws in vec(any::<u64>(), 0..3_000)) {
        let operations: Vec<_> = draws.into_iter().map(Operation::drawn).collect();
        let named = victims_of::<Gdsf>("{}", LIMITS, &operations);
        prop_assert_eq!(named, victims_of::<Model>("{}", LIMITS, &operations));
    }
}

fn shard(capacity_bytes: u64) -> Shard<Gdsf> {
    let limits = Limits {
        capacity_bytes,
        max_entries: 1_000,
    };
    Shard::new("{}", limits).unwrap()
}

#[test]
fn a_newcomer_worth_less_than_a_victim_is_refused_and_nobody_else_leaves() {
    let mut shard = shard(100);
    for key in 0..10 {
        shard.request(key, 10);
        shard.request(key, 10);
    }
    assert_eq!(shard.request(50, 60), Answer::Miss { evicted: vec![50] });
    assert!((0..10).all(|key| shard.contains(key)));
    // One of those ten, used once, goes before a small newcomer.
    shard.remove(3);
    shard.request(60, 10);
    assert_eq!(shard.request(61, 5), Answer::Miss { evicted: vec![60] });
}

#[test]
fn large_entries_make_room_for_small_ones() {
    let mut shard = shard(1_000);
    shard.request(0, 500);
    shard.request(0, 500);
    for key in 1..=100 {
        shard.request(key, 10);
    }
    assert!(!shard.contains(0));
    assert_eq!(shard.bytes(), 1_000);
    assert_eq!(shard.shortfalls(), 0);
}

//! The policy names the same victims, in the same order, as the algorithm written plainly.

use larder_guest::eviction::{Insert, Limits, Victims};
use larder_guest::testing::{Operation, Shard, victims_of};
use larder_guest::{Eviction, Params};
use proptest::collection::vec;
use proptest::prelude::{any, proptest};
use proptest::{prop_assert, prop_assert_eq};

use super::Arc;

const LIMITS: Limits = Limits {
    capacity_bytes: 600,
    max_entries: 80,
};

/// ARC with four lists, oldest first.
#[derive(Default)]
struct Model {
    t1: Vec<Insert>,
    t2: Vec<Insert>,
    b1: Vec<Insert>,
    b2: Vec<Insert>,
    target: u64,
    came_from_b2: bool,
    /// Who came last, if it is in `t1` and was not used again.
    newcomer: Option<u32>,
    capacity: u64,
    slots: u32,
    peak_entries: usize,
}

fn bytes(list: &[Insert]) -> u64 {
    list.iter().map(|entry| entry.size_bytes).sum()
}

fn take(list: &mut Vec<Insert>, is_it: impl Fn(&Insert) -> bool) -> Option<Insert> {
    let place = list.iter().position(is_it)?;
    Some(list.remove(place))
}

impl Model {
    fn take(&mut self, slot: u32) -> Option<Insert> {
        self.newcomer = self.newcomer.filter(|newcomer| *newcomer != slot);
        let of = |list: &mut Vec<Insert>| take(list, |insert| insert.slot == slot);
        of(&mut self.t1).or_else(|| of(&mut self.t2))
    }

    fn forget_some(&mut self) {
        self.peak_entries = self.peak_entries.max(self.t1.len() + self.t2.len());
        while bytes(&self.t1) + bytes(&self.b1) > self.capacity && !self.b1.is_empty() {
            self.b1.remove(0);
        }
        let all = |model: &Self| {
            [&model.t1, &model.b1, &model.t2, &model.b2]
                .map(|list| bytes(list))
                .iter()
                .sum::<u64>()
        };
        while all(self) > 2 * self.capacity && !self.b2.is_empty() {
            self.b2.remove(0);
        }
        while self.b1.len() + self.b2.len() > self.peak_entries {
            let b1_is_longer = self.b1.len() >= self.b2.len();
            (if b1_is_longer {
                &mut self.b1
            } else {
                &mut self.b2
            })
            .remove(0);
        }
    }
}

impl Eviction for Model {
    fn configure(_: &Params, limits: Limits) -> Result<Self, String> {
        Ok(Self {
            capacity: limits.capacity_bytes,
            slots: limits.max_entries,
            ..Self::default()
        })
    }

    fn hit(&mut self, slot: u32) {
        if let Some(entry) = self.take(slot) {
            self.t2.push(entry);
        }
    }

    fn insert(&mut self, insert: Insert) {
        if let Some(known) = self.take(insert.slot)
            && known.hash == insert.hash
        {
            self.t2.push(insert);
            return;
        }
        if insert.slot >= self.slots {
            return;
        }
        let (b1, b2) = (bytes(&self.b1), bytes(&self.b2));
        let size = insert.size_bytes;
        let same = |known: &Insert| known.hash == insert.hash;
        self.came_from_b2 = false;
        self.newcomer = None;
        let mut list = &mut self.t2;
        if take(&mut self.b1, same).is_some() {
            self.target = (self.target + (size * b2 / b1.max(1)).max(size)).min(self.capacity);
        } else if take(&mut self.b2, same).is_some() {
            self.target = self
                .target
                .saturating_sub((size * b1 / b2.max(1)).max(size));
            self.came_from_b2 = true;
        } else {
            list = &mut self.t1;
            self.newcomer = Some(insert.slot);
        }
        list.push(insert);
        self.forget_some();
    }

    fn remove(&mut self, slot: u32) {
        self.take(slot);
    }

    fn victims(&mut self, victims: &mut Victims) {
        while victims.missing_bytes() > 0 && self.t1.len() + self.t2.len() > 0 {
            let settled = (self.t1.iter()).filter(|entry| Some(entry.slot) != self.newcomer);
            let settled: u64 = settled.map(|entry| entry.size_bytes).sum();
            let is_over = settled > self.target || (self.came_from_b2 && settled == self.target);
            let from_t1 = self.t2.is_empty() || (settled > 0 && is_over);
            let (list, ghosts) = if from_t1 {
                (&mut self.t1, &mut self.b1)
            } else {
                (&mut self.t2, &mut self.b2)
            };
            let entry = list.remove(0);
            self.newcomer = self.newcomer.filter(|newcomer| *newcomer != entry.slot);
            ghosts.push(entry);
            // A key may be resident in two slots, and is a ghost once.
            let hash = entry.hash;
            let other = if from_t1 { &mut self.b2 } else { &mut self.b1 };
            take(other, |known| known.hash == hash);
            let ghosts = if from_t1 { &mut self.b1 } else { &mut self.b2 };
            if ghosts.iter().filter(|known| known.hash == hash).count() > 1 {
                take(ghosts, |known| known.hash == hash);
            }
            self.forget_some();
            victims.name(entry.slot, entry.size_bytes);
        }
        self.newcomer = None;
        self.came_from_b2 = false;
    }
}

proptest! {
    #[test]
    fn survives_what_a_host_may_say(draws in vec(any::<u64>(), 0..500)) {
        let operations: Vec<_> = draws.into_iter().map(Operation::extreme).collect();
        for named in victims_of::<Arc>("{}", LIMITS, &operations) {
            prop_assert!(named.iter().all(|slot| *slot < LIMITS.max_entries));
        }
    }

    #[test]
    fn names_the_same_victims_as_the_plain_algorithm(draws in vec(any::<u64>(), 0..3_000)) {
        let operations: Vec<_> = draws.into_iter().map(Operation::drawn).collect();
        let named = victims_of::<Arc>("{}", LIMITS, &operations);
        prop_assert_eq!(named, victims_of::<Model>("{}", LIMITS, &operations));
    }
}

fn shard() -> Shard<Arc> {
    let limits = Limits {
        capacity_bytes: 100,
        max_entries: 1_000,
    };
    Shard::new("{}", limits).unwrap()
}

#[test]
fn a_scan_does_not_flush_what_was_used_twice() {
    let mut shard = shard();
    for key in (0..80).chain(0..80).chain(1_000..9_000) {
        shard.request(key, 1);
    }
    assert!((0..80).all(|key| shard.contains(key)));
    assert_eq!(shard.shortfalls(), 0);
}

#[test]
fn recency_gets_room_when_it_pays() {
    let mut shard = shard();
    // Used twice and never again; then keys that each return soon after they left.
    for key in (0..100).chain(0..100) {
        shard.request(key, 1);
    }
    let mut hits = 0;
    for step in 0..4_000_u64 {
        let key = 1_000 + step - (step % 2) * 61.min(step);
        hits += u64::from(shard.contains(key));
        shard.request(key, 1);
    }
    assert!(hits > 1_000, "{hits}");
}

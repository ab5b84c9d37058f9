//! The policy names the same victims, in the same order, as the algorithm written plainly.

use std::collections::VecDeque;

use larder_guest::eviction::{Insert, Limits, Victims};
use larder_guest::testing::{Operation, Shard, victims_of};
use larder_guest::{Eviction, Params};
use proptest::collection::vec;
use proptest::prelude::{any, proptest};
use proptest::{prop_assert, prop_assert_eq};

use super::TwoQ;

const LIMITS: Limits = Limits {
    capacity_bytes: 2_000,
    max_entries: 80,
};

/// 2Q with two queues of entries, oldest first, and a list of all that ever became ghosts.
struct Model {
    a1in: VecDeque<Insert>,
    am: VecDeque<Insert>,
    a1out: Vec<Option<u64>>,
    in_percent: u64,
    slots: u32,
}

fn bytes(queue: &VecDeque<Insert>) -> u64 {
    queue.iter().map(|entry| entry.size_bytes).sum()
}

impl Model {
    /// The ghosts that still count: the last half as many as there are residents.
    fn remembered(&mut self) -> &mut [Option<u64>] {
        let length = usize::midpoint(self.a1in.len(), self.am.len());
        let forgotten = self.a1out.len().saturating_sub(length);
        &mut self.a1out[forgotten..]
    }
}

impl Eviction for Model {
    fn configure(params: &Params, limits: Limits) -> Result<Self, String> {
        Ok(Self {
            a1in: VecDeque::new(),
            am: VecDeque::new(),
            a1out: Vec::new(),
            in_percent: params.u64("in")?.unwrap_or(25),
            slots: limits.max_entries,
        })
    }

    fn hit(&mut self, slot: u32) {
        if let Some(place) = self.am.iter().position(|entry| entry.slot == slot) {
            let entry = self.am.remove(place).unwrap();
            self.am.push_back(entry);
        }
    }

    fn insert(&mut self, insert: Insert) {
        let mut residents = self.a1in.iter_mut().chain(&mut self.am);
        let same = |entry: &&mut Insert| entry.slot == insert.slot && entry.hash == insert.hash;
        if let Some(entry) = residents.find(same) {
            *entry = insert;
            self.hit(insert.slot);
            return;
        }
        self.remove(insert.slot);
        if insert.slot >= self.slots {
            return;
        }
        let mut was_ghost = false;
        for ghost in self.remembered() {
            if *ghost == Some(insert.hash) {
                *ghost = None;
                was_ghost = true;
            }
        }
        let queue = if was_ghost {
            &mut self.am
        } else {
            &mut self.a1in
        };
        queue.push_back(insert);
    }

    fn remove(&mut self, slot: u32) {
        self.a1in.retain(|entry| entry.slot != slot);
        self.am.retain(|entry| entry.slot != slot);
    }

    fn victims(&mut self, victims: &mut Victims) {
        while victims.missing_bytes() > 0 && self.a1in.len() + self.am.len() > 0 {
            let a1in = bytes(&self.a1in);
            let is_over = a1in * 100 > self.in_percent * (a1in + bytes(&self.am));
            if !self.a1in.is_empty() && (self.am.is_empty() || is_over) {
                let entry = self.a1in.pop_front().unwrap();
                self.a1out.push(Some(entry.hash));
                victims.name(entry.slot, entry.size_bytes);
            } else {
                let entry = self.am.pop_front().unwrap();
                victims.name(entry.slot, entry.size_bytes);
            }
        }
    }
}

proptest! {
    #[test]
    fn survives_what_a_host_may_say(draws in vec(any::<u64>(), 0..500)) {
        let operations: Vec<_> = draws.into_iter().map(Operation::extreme).collect();
        for named in victims_of::<TwoQ>("{}", LIMITS, &operations) {
            prop_assert!(named.iter().all(|slot| *slot < LIMITS.max_entries));
        }
    }

    #[test]
    fn names_the_same_victims_as_the_plain_algorithm(
        draws in vec(any::<u64>(), 0..3_000),
        percent in 1_u64..=99,
    ) {
        let operations: Vec<_> = draws.into_iter().map(Operation::drawn).collect();
        let params = format!("{{\"in\": {percent}}}");
        let named = victims_of::<TwoQ>(&params, LIMITS, &operations);
        prop_assert_eq!(named, victims_of::<Model>(&params, LIMITS, &operations));
    }
}

#[test]
fn a_scan_does_not_flush_what_returned() {
    let limits = Limits {
        capacity_bytes: 400,
        max_entries: 1_000,
    };
    let mut shard = Shard::<TwoQ>::new("{}", limits).unwrap().with_lots(8);
    // Twice in a row is one use; once more after others have come is a second one.
    for key in (0..500).chain(300..400).chain(0..150) {
        shard.request(key, 1);
        shard.request(key, 1);
    }
    let kept = |shard: &Shard<TwoQ>| (0..150).filter(|key| shard.contains(*key)).count();
    let before = kept(&shard);
    for key in 10_000..20_000 {
        shard.request(key, 1);
    }
    assert!(before > 100, "{before}");
    assert_eq!(kept(&shard), before);
    assert_eq!(shard.shortfalls(), 0);
}

#[test]
fn shares_are_percentages() {
    let check = |params, expected: Option<&str>| {
        assert_eq!(
            Shard::<TwoQ>::new(params, LIMITS).err().as_deref(),
            expected
        );
    };
    check(r#"{"in": 1, "out": 400}"#, None);
    check(r#"{"in": 99, "out": 1}"#, None);
    let of_in = "parameter `in`: expected a percentage from 1 to 99";
    check(r#"{"in": 0}"#, Some(of_in));
    check(r#"{"in": 100}"#, Some(of_in));
    let of_out = "parameter `out`: expected a percentage from 1 to 400";
    check(r#"{"out": 0}"#, Some(of_out));
    check(r#"{"out": 401}"#, Some(of_out));
    check(
        r#"{"inn": 25}"#,
        Some("unknown parameter `inn`; accepted: in, out"),
    );
}

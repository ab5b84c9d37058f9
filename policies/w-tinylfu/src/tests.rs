//! The policy names the same victims, in the same order, as the algorithm written plainly.

use std::collections::HashMap;

use larder_guest::eviction::{Insert, Limits, Victims};
use larder_guest::testing::{Operation, Shard, victims_of};
use larder_guest::{Eviction, Params};
use proptest::collection::vec;
use proptest::prelude::{any, proptest};
use proptest::{prop_assert, prop_assert_eq};

use super::WTinyLfu;
use super::sketch::Sketch;

const LIMITS: Limits = Limits {
    capacity_bytes: 2_000,
    max_entries: 80,
};

/// W-TinyLFU with four lists, least recently used first. The counts are those of the sketch, which
/// has tests of its own.
struct Model {
    window: Vec<Insert>,
    candidates: Vec<Insert>,
    probation: Vec<Insert>,
    protected: Vec<Insert>,
    sketch: Sketch,
    percent: u64,
    limits: Limits,
    full: u64,
}

fn bytes(list: &[Insert]) -> u64 {
    list.iter().map(|entry| entry.size_bytes).sum()
}

impl Model {
    fn lists(&mut self) -> [&mut Vec<Insert>; 4] {
        [
            &mut self.window,
            &mut self.candidates,
            &mut self.probation,
            &mut self.protected,
        ]
    }

    fn all(&self) -> u64 {
        bytes(&self.window)
            + bytes(&self.candidates)
            + bytes(&self.probation)
            + bytes(&self.protected)
    }

    fn take(&mut self, slot: u32) -> Option<(usize, Insert)> {
        self.lists()
            .into_iter()
            .enumerate()
            .find_map(|(number, list)| {
                let place = list.iter().position(|entry| entry.slot == slot)?;
                Some((number, list.remove(place)))
            })
    }

    fn count(&mut self, insert: &Insert) {
        let len = self.lists().map(|list| list.len()).iter().sum::<usize>();
        self.sketch
            .count(insert.half_hash(), u32::try_from(len).unwrap());
    }

    fn push_beyond(&mut self, entry: Insert) {
        let is_full = self.all() + entry.size_bytes > self.full;
        let list = if is_full {
            &mut self.candidates
        } else {
            &mut self.probation
        };
        list.push(entry);
    }

    fn used(&mut self, list: usize, entry: Insert) {
        self.count(&entry);
        if list == 0 {
            self.window.push(entry);
            return;
        }
        self.protected.push(entry);
        let share = 80 * (100 - self.percent) / 100;
        if bytes(&self.protected) * 100 > share * self.all() {
            let demoted = self.protected.remove(0);
            self.probation.push(demoted);
        }
    }
}

impl Eviction for Model {
    fn configure(params: &Params, limits: Limits) -> Result<Self, String> {
        Ok(Self {
            window: Vec::new(),
            candidates: Vec::new(),
            probation: Vec::new(),
            protected: Vec::new(),
            sketch: Sketch::new(),
            percent: params.u64("window")?.unwrap_or(1),
            limits,
            full: limits.capacity_bytes,
        })
    }

    fn hit(&mut self, slot: u32) {
        if let Some((list, entry)) = self.take(slot) {
            self.used(list, entry);
        }
    }

    fn insert(&mut self, insert: Insert) {
        if let Some((list, known)) = self.take(insert.slot)
            && known.hash == insert.hash
        {
            self.used(list, insert);
        } else if insert.slot < self.limits.max_entries {
            self.count(&insert);
            let share = self.limits.capacity_bytes * self.percent / 100;
            if insert.size_bytes > share {
                self.push_beyond(insert);
                return;
            }
            self.window.push(insert);
            while bytes(&self.window) * 100 > self.percent * self.all() {
                let pushed = self.window.remove(0);
                self.push_beyond(pushed);
            }
        }
    }

    fn remove(&mut self, slot: u32) {
        self.take(slot);
    }

    fn victims(&mut self, victims: &mut Victims) {
        while victims.missing_bytes() > 0 {
            let main = self.probation.first().or(self.protected.first()).copied();
            let candidate = self.candidates.first().copied();
            let count = |entry: &Insert| self.sketch.estimate(entry.half_hash());
            let entry = match (candidate, main) {
                (Some(candidate), Some(main)) if count(&candidate) > count(&main) => {
                    self.candidates.remove(0);
                    self.probation.push(candidate);
                    main
                }
                (Some(candidate), _) => candidate,
                (None, Some(main)) => main,
                (None, None) => match self.window.first() {
                    Some(entry) => *entry,
                    None => break,
                },
            };
            self.take(entry.slot);
            victims.name(entry.slot, entry.size_bytes);
        }
        self.full = self.all();
    }
}

proptest! {
    #[test]
    fn survives_what_a_host_may_say(draws in vec(any::<u64>(), 0..500)) {
        let operations: Vec<_> = draws.into_iter().map(Operation::extreme).collect();
        for named in victims_of::<WTinyLfu>("{}", LIMITS, &operations) {
            prop_assert!(named.iter().all(|slot| *slot < LIMITS.max_entries));
        }
    }

    #[test]
    fn names_the_same_victims_as_the_plain_algorithm(
        draws in vec(any::<u64>(), 0..3_000),
        percent in 1_u64..=99,
    ) {
        let operations: Vec<_> = draws.into_iter().map(Operation::drawn).collect();
        let params = format!("{{\"window\": {percent}}}");
        let named = victims_of::<WTinyLfu>(&params, LIMITS, &operations);
        prop_assert_eq!(named, victims_of::<Model>(&params, LIMITS, &operations));
    }

    #[test]
    fn counts_are_never_too_low_before_they_are_halved(keys in vec(any::<u32>(), 0..40)) {
        let mut sketch = Sketch::new();
        let mut exact = HashMap::new();
        for key in keys {
            sketch.count(key % 40, 40);
            *exact.entry(key % 40).or_insert(0_u64) += 1;
        }
        for (key, count) in exact {
            prop_assert!(sketch.estimate(key) >= count.min(15));
        }
    }
}

#[test]
fn counts_tell_keys_apart_while_the_sketch_grows_and_fade() {
    let hash = |key: u32| key.wrapping_mul(0x9e37_79b1);
    let mut sketch = Sketch::new();
    // It grows by one block a request.
    for _ in 0..5_000 {
        sketch.count(hash(u32::MAX), 20_000);
    }
    for round in 0..4 {
        for key in 0..20_000 {
            if key % 4 == 0 || round == 0 {
                sketch.count(hash(key), 20_000);
            }
        }
    }
    let share_above = |sketch: &Sketch, offset: u32, count| {
        let keys = (offset..20_000).step_by(4);
        keys.filter(|key| sketch.estimate(hash(*key)) > count)
            .count()
            * 100
            / 5_000
    };
    // A sixth of the blocks has been halved meanwhile.
    let (often, once) = (share_above(&sketch, 0, 3), share_above(&sketch, 1, 3));
    assert!(often > 80 && once < 10, "{often} {once}");
    for request in 0..800_000_u32 {
        sketch.count(request % 8, 20_000);
    }
    assert!(share_above(&sketch, 0, 1) < 10);
}

#[test]
fn a_scan_does_not_get_past_the_window() {
    let limits = Limits {
        capacity_bytes: 1_000,
        max_entries: 2_000,
    };
    let mut shard = Shard::<WTinyLfu>::new("{}", limits).unwrap().with_lots(16);
    for _ in 0..4 {
        for key in 0..900 {
            shard.request(key, 1);
        }
    }
    for key in 10_000..12_000 {
        shard.request(key, 1);
    }
    let kept = (0..900).filter(|key| shard.contains(*key)).count();
    assert!(kept > 800, "{kept}");
    assert_eq!(shard.shortfalls(), 0);
}

#[test]
fn shares_are_percentages() {
    let check = |params, expected: Option<&str>| {
        assert_eq!(
            Shard::<WTinyLfu>::new(params, LIMITS).err().as_deref(),
            expected
        );
    };
    check(r#"{"window": 1, "protected": 99}"#, None);
    let of_window = "parameter `window`: expected a percentage from 1 to 99";
    check(r#"{"window": 0}"#, Some(of_window));
    check(r#"{"window": 100}"#, Some(of_window));
    let of_protected = "parameter `protected`: expected a percentage from 1 to 99";
    check(r#"{"protected": 100}"#, Some(of_protected));
    check(
        r#"{"windows": 1}"#,
        Some("unknown parameter `windows`; accepted: window, protected"),
    );
}

//! The process ends at any call, or the power does: nothing wrong is ever found afterwards.

use std::collections::HashMap;

use proptest::prelude::*;

use super::device::Device;
use super::*;

const CAPACITY: u64 = 5 * MIB;

/// What may be found: the number of every put and removal is higher than that of the one before.
#[derive(Default)]
struct Model {
    /// The latest put or removal of each key; a removal leaves nothing.
    latest: HashMap<String, (u64, bool)>,
    /// The one that is known to outlast the process.
    settled: HashMap<String, (u64, bool)>,
    number: u64,
}

impl Model {
    async fn put(&mut self, tier: &DiskTier, key: &str, length: usize) {
        self.number += 1;
        let entry = large(key, self.number, length);
        tier.put(&entry, BORN).await;
        self.latest.insert(key.to_owned(), (self.number, true));
    }

    fn remove(&mut self, tier: &DiskTier, key: &str) {
        self.number += 1;
        tier.remove(view(key));
        self.latest.insert(key.to_owned(), (self.number, false));
    }

    async fn settle(&mut self, tier: &DiskTier, device: &Device) {
        tier.settle().await;
        if !device.is_dead() {
            self.settled.clone_from(&self.latest);
        }
    }

    /// The process goes on: what is found is the latest.
    async fn check(&self, tier: &DiskTier, key: &str) {
        if let Ok(Some((found, _))) = tier.read(key).await {
            assert_eq!(self.latest.get(key), Some(&(found, true)), "{key}");
        }
    }

    /// The process has ended: what is found is not older than what was settled. What that is, is
    /// the latest from now on.
    async fn check_after_crash(&mut self, tier: &DiskTier) {
        let mut latest = HashMap::new();
        for key in self.latest.keys() {
            let (settled, _) = self.settled.get(key).copied().unwrap_or_default();
            let found = tier.which(key).await;
            assert!(
                found.is_none_or(|found| found >= settled),
                "{key} {found:?}"
            );
            // What was removed without a crash in between stays removed.
            if let (Some(found), Some((number, false))) = (found, self.settled.get(key)) {
                assert!(found > *number, "{key} came back");
            }
            latest.insert(
                key.clone(),
                found.map_or((self.number, false), |n| (n, true)),
            );
        }
        self.latest.clone_from(&latest);
        self.settled = latest;
    }
}

/// Fills a tier more than once, with overwriting and removing, and large content that is moved.
async fn scenario(tier: &DiskTier, device: &Device, model: &mut Model) {
    model.put(tier, "moved", 150_000).await;
    for round in 0..150_u64 {
        let key = format!("key {}", round % 13);
        model.put(tier, &key, 40_000).await;
        model.put(tier, "hot", 100).await;
        if round % 5 == 0 {
            model
                .put(tier, &format!("large {}", round % 2), 400_000)
                .await;
        }
        if round % 7 == 3 {
            model.remove(tier, &format!("key {}", (round + 5) % 13));
        }
        if round % 3 == 0 {
            model.settle(tier, device).await;
            model.check(tier, "hot").await;
            model.check(tier, "moved").await;
            model.check(tier, &key).await;
        }
    }
    model.settle(tier, device).await;
}

/// Calls that the scenario makes if nothing fails.
fn calls() -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::sound();
    let tier = open_on(dir.path(), CAPACITY, &device).unwrap();
    let mut model = Model::default();
    run(async {
        scenario(&tier, &device, &mut model).await;
        assert!(tier.which("moved").await.is_some());
    });
    tier.stop();
    assert!(
        tier.stats().reclaimed.get() > 10,
        "it is filled more than once"
    );
    device.calls.load(SeqCst)
}

#[test]
fn a_process_that_ends_at_any_call_leaves_nothing_wrong() {
    let calls = calls();
    let step = (calls / times(40)).max(1);
    for at in (1..=calls).step_by(usize::try_from(step).unwrap()) {
        let dir = tempfile::tempdir().unwrap();
        let device = Device::dying_at(at);
        let mut model = Model::default();
        if let Ok(tier) = open_on(dir.path(), CAPACITY, &device) {
            run(scenario(&tier, &device, &mut model));
            tier.stop();
        }
        for _ in 0..2 {
            let tier = open(dir.path(), CAPACITY);
            assert!(occupied(dir.path()) <= CAPACITY);
            run(async {
                model.check_after_crash(&tier).await;
                model.put(&tier, "after", 1_000).await;
                tier.settle().await;
                assert_eq!(tier.which("after").await, Some(model.number), "call {at}");
                model.settle(&tier, &Device::sound()).await;
            });
            tier.stop();
        }
    }
}

#[test]
fn power_that_goes_at_any_call_leaves_nothing_wrong() {
    let calls = calls();
    let mut random = Random(7);
    let step = (calls / times(25)).max(1);
    for at in (1..=calls).step_by(usize::try_from(step).unwrap()) {
        let dir = tempfile::tempdir().unwrap();
        let device = Device::losing_power_at(at);
        let mut model = Model::default();
        if let Ok(tier) = open_on(dir.path(), CAPACITY, &device) {
            run(scenario(&tier, &device, &mut model));
            tier.stop();
        }
        device.lose(|| random.next());
        let tier = open(dir.path(), CAPACITY);
        run(async {
            for key in model.latest.keys() {
                // Any value that was put, whole, or none.
                tier.read(key).await.unwrap();
            }
            model.put(&tier, "after", 1_000).await;
            tier.settle().await;
            assert_eq!(tier.which("after").await, Some(model.number), "call {at}");
        });
        tier.stop();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, usize),
    Stream(u8, usize, bool),
    Freshen(u8),
    Remove(u8),
    Get(u8),
    Settle,
    Reopen,
    Crash,
}

fn steps() -> impl Strategy<Value = Step> {
    let key = 0..12_u8;
    prop_oneof![
        6 => (key.clone(), 0..60_000_usize).prop_map(|(k, n)| Step::Put(k, n)),
        2 => (key.clone(), 150_000..900_000_usize).prop_map(|(k, n)| Step::Put(k, n)),
        2 => (key.clone(), 0..900_000_usize, any::<bool>())
            .prop_map(|(k, n, commit)| Step::Stream(k, n, commit)),
        2 => key.clone().prop_map(Step::Freshen),
        2 => key.clone().prop_map(Step::Remove),
        8 => key.prop_map(Step::Get),
        2 => Just(Step::Settle),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

async fn stream(tier: &DiskTier, model: &mut Model, key: &str, length: usize, commit: bool) {
    let number = model.number + 1;
    let Some(mut writer) = tier.writer(view(key), Some(long(length))) else {
        return;
    };
    for piece in content(number, length).chunks(50_000) {
        if writer.push(Bytes::copy_from_slice(piece)).await.is_err() {
            break;
        }
    }
    if commit {
        model.number = number;
        let envelope = Envelope::of(&small(key, number, 0), BORN, [0; 32]).unwrap();
        writer.commit(envelope).await;
        model.latest.insert(key.to_owned(), (number, true));
    }
}

/// Puts what is there again, under another head.
async fn freshen(tier: &DiskTier, model: &Model, key: &str) {
    let Ok(Some(found)) = tier.get(view(key)).await else {
        return;
    };
    let (number, there) = model.latest[key];
    assert!(there);
    let body = match found.body {
        FoundBody::Whole(bytes) => StoredBody::new(vec![bytes]),
        FoundBody::Kept(kept) => StoredBody::kept(kept),
    };
    tier.put(&entry(key, number, body), BORN).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(u32::try_from(times(10)).unwrap_or(u32::MAX)))]

    #[test]
    fn whatever_is_done_the_latest_is_found_or_nothing(
        steps in prop::collection::vec(steps(), 1..120),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut device = Device::sound();
        let mut tier = open_on(dir.path(), CAPACITY, &device).unwrap();
        let mut model = Model::default();
        run(async {
            for step in steps {
                match step {
                    Step::Put(key, length) => {
                        model.put(&tier, &key.to_string(), length).await;
                    }
                    Step::Stream(key, length, commit) => {
                        stream(&tier, &mut model, &key.to_string(), length, commit).await;
                    }
                    Step::Freshen(key) => freshen(&tier, &model, &key.to_string()).await,
                    Step::Remove(key) => model.remove(&tier, &key.to_string()),
                    Step::Get(key) => model.check(&tier, &key.to_string()).await,
                    Step::Settle => model.settle(&tier, &device).await,
                    Step::Reopen => {
                        tier.stop();
                        device = Device::sound();
                        tier = open_on(dir.path(), CAPACITY, &device).unwrap();
                        model.settled.clone_from(&model.latest);
                    }
                    Step::Crash => {
                        device.dies_at.store(0, SeqCst);
                        tier.stop();
                        device = Device::sound();
                        tier = open_on(dir.path(), CAPACITY, &device).unwrap();
                        model.check_after_crash(&tier).await;
                    }
                }
                assert!(occupied(dir.path()) <= CAPACITY);
            }
        });
        tier.stop();
    }
}

//! The whole chain, memory and disk and a shared store, against what a naive model allows: whatever
//! is asked, changed, purged, restarted, killed, lost and damaged in whatever order, an answer may be
//! of an older time than it could be, but it is never wrong, never brought back, and never stale
//! without the origin's word.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::support::edge::{Edge, Setup};
use crate::truth::{Dice, TAGS, knob, tag_of, target};
use crate::world::World;

/// Resources, few enough to meet again and again.
const RESOURCES: usize = 12;
/// Steps of a case, at most.
const STEPS: usize = 60;

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Get(usize),
    Range(usize, u64, u64),
    /// Only what is stored.
    Held(usize),
    /// The origin has something newer, and a client insists on it.
    Reload(usize),
    /// The origin has something newer.
    Change(usize),
    PurgeUrl(usize, bool),
    PurgeTag(usize, bool),
    PurgeAll(bool),
    Flush,
    Scrub,
    Stop,
    Kill,
    LoseDisk,
    LoseStore,
    Flip(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let one = || 0..RESOURCES;
    prop_oneof![
        12 => one().prop_map(Step::Get),
        3 => (one(), 0_u64..200_000, 1_u64..100_000).prop_map(|(it, at, of)| Step::Range(it, at, of)),
        3 => one().prop_map(Step::Held),
        5 => one().prop_map(Step::Reload),
        4 => one().prop_map(Step::Change),
        2 => (one(), any::<bool>()).prop_map(|(it, soft)| Step::PurgeUrl(it, soft)),
        2 => (0..TAGS, any::<bool>()).prop_map(|(it, soft)| Step::PurgeTag(it, soft)),
        1 => any::<bool>().prop_map(Step::PurgeAll),
        3 => Just(Step::Flush),
        1 => Just(Step::Scrub),
        2 => Just(Step::Stop),
        2 => Just(Step::Kill),
        1 => Just(Step::LoseDisk),
        1 => Just(Step::LoseStore),
        1 => any::<u64>().prop_map(Step::Flip),
    ]
}

/// An edge with a little of everything.
fn start(world: &World) -> Edge {
    let setup = Setup::before(world.origin()).keeping();
    let store = format!("file://{}", setup.path("store").display());
    setup
        .flag("--memory", "1MiB")
        .flag("--disk", "6MiB")
        .flag("--object-store", &store)
        .start()
}

/// The files below `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { &mut open } else { &mut found }.push(path);
        }
    }
    found.sort();
    found
}

/// Flips some bits of what is stored.
fn flip(edge: &Edge, seed: u64) {
    let mut dice = Dice::new(seed);
    let mut found = files(&edge.data_dir().join("cache"));
    found.retain(|path| path.to_string_lossy().contains("seg-"));
    found.extend(files(&edge.dir().join("store")));
    for _ in 0..20 {
        let Some(path) = found.get(dice.index(found.len())) else {
            return;
        };
        // It may have been replaced meanwhile.
        let Ok(file) = File::options().read(true).write(true).open(path) else {
            continue;
        };
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        let (at, mut byte) = (dice.below(length), [0]);
        if file.read_exact_at(&mut byte, at).is_ok() {
            byte[0] ^= 1 << dice.below(8);
            file.write_all_at(&byte, at).expect("within the file");
        }
    }
}

impl Step {
    fn take(self, world: &World, edge: &mut Edge) {
        let mut visitor = world.visitor(edge.address());
        visitor.alone = true;
        let mut get = |resource, fields: &[(&str, &str)]| {
            let answer = visitor.get(resource, fields);
            // What is damaged breaks off, once.
            answer
                .or_else(|| visitor.get(resource, fields))
                .expect("an answer")
        };
        let purge = |edge: &Edge, what, covered: &dyn Fn(usize) -> bool| {
            let done = world.purge(edge.admin_address(), &what, covered);
            assert_eq!(done, Some(true));
        };
        match self {
            Self::Get(resource) => drop(get(resource, &[])),
            Self::Range(resource, at, length) => {
                let range = format!("bytes={at}-{}", at + length);
                get(resource, &[("Range", &range)]);
            }
            Self::Held(resource) => drop(get(resource, &[("Cache-Control", "only-if-cached")])),
            Self::Reload(resource) => {
                world.change(resource);
                get(resource, &[("Cache-Control", "no-cache")]);
            }
            Self::Change(resource) => world.change(resource),
            Self::PurgeUrl(resource, soft) => {
                let url = format!("http://edge.test{}", target(resource));
                purge(edge, json!({"urls": [url], "soft": soft}), &|it| {
                    it == resource
                });
            }
            Self::PurgeTag(tag, soft) => {
                let what = json!({"tags": [tag_of(tag)], "soft": soft});
                purge(edge, what, &|it| it % TAGS == tag);
            }
            Self::PurgeAll(soft) => purge(edge, json!({"all": true, "soft": soft}), &|_| true),
            Self::Flush => {
                edge.flush();
                world.keep();
            }
            Self::Scrub => {
                let (status, answer) = edge.admin("POST", "/v1/scrub", &[], b"");
                assert!(matches!(status, 200 | 202 | 409), "{status} {answer}");
            }
            Self::Stop => {
                edge.stop();
                world.keep();
                edge.restart();
            }
            Self::Kill => {
                edge.kill();
                world.forget();
                edge.restart();
            }
            Self::LoseDisk | Self::LoseStore => {
                edge.stop();
                let dir = match self {
                    Self::LoseDisk => edge.data_dir().join("cache"),
                    _ => edge.dir().join("store"),
                };
                fs::remove_dir_all(dir).expect("it was there");
                world.lose();
                edge.restart();
            }
            Self::Flip(seed) => {
                flip(edge, seed);
                world.lose();
            }
        }
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "what was measured")]
fn no_answer_is_wrong_whatever_happens_to_the_tiers() {
    let cases = u32::try_from(knob("LARDER_MODEL_CASES", 16)).expect("a number of cases");
    let config = Config {
        cases,
        max_shrink_iters: 150,
        failure_persistence: None,
        ..Config::default()
    };
    let told = std::cell::Cell::new(String::new());
    let done =
        TestRunner::new(config).run(&prop::collection::vec(step(), STEPS / 2..STEPS), |steps| {
            let world = World::of(RESOURCES, 300_000);
            let mut edge = start(&world);
            for step in steps {
                step.take(&world, &mut edge);
            }
            world.sweep(&edge);
            told.set(world.told());
            Ok(())
        });
    eprintln!("{cases} cases, the last of them: {}", told.take());
    done.expect("no answer is wrong");
}

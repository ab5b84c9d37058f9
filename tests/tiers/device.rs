//! A device that is full, fails or hangs: clients get right answers, hits in memory do not wait for
//! it, the disk tier keeps to its budget to the byte, and writes again when it can.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::below::count;
use crate::inject;
use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::world::World;

/// How soon after a device is well again the tier uses it again.
const RECOVERY: Duration = Duration::from_secs(5);
/// Bytes that the tier is given.
const BUDGET: u64 = 16 << 20;

fn setup(world: &World) -> Setup {
    Setup::before(world.origin())
        .keeping()
        .flag("--memory", "4MiB")
        .flag("--disk", &format!("{BUDGET}"))
}

/// Bytes that the files of the disk tier occupy, directory and all.
pub(crate) fn occupied(dir: &Path) -> u64 {
    // A file may go while it is listed.
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let all = files.filter_map(|file| file.metadata().ok());
    let own = std::fs::metadata(dir).ok();
    all.chain(own).map(|metadata| metadata.blocks() * 512).sum()
}

/// The most that is occupied at any look within `time`.
fn watch(edge: &Edge, time: Duration) -> u64 {
    let cache = edge.data_dir().join("cache");
    let (until, mut most) = (Instant::now() + time, 0);
    while Instant::now() < until {
        most = most.max(occupied(&cache));
        std::thread::park_timeout(Duration::from_millis(5));
    }
    most
}

/// Waits until the tier has written something new.
#[track_caller]
fn writes_again(world: &World, edge: &Edge) -> Duration {
    let began = Instant::now();
    let before = count(edge, "disk", "writes");
    eventually("the disk to be written again", || {
        for resource in 0..3 {
            world.change(resource);
            let mut visitor = world.visitor(edge.address());
            visitor.get(resource, &[("Cache-Control", "no-cache")]);
        }
        count(edge, "disk", "writes") > before
    });
    began.elapsed()
}

#[test]
#[expect(clippy::print_stderr, reason = "what was measured")]
fn calls_that_fail_cost_no_answer_and_writing_goes_on_afterwards() {
    if !inject::possible() {
        return;
    }
    let faults = [
        ("pwritev", "error=ENOSPC:when=5..8"),
        ("pwritev", "error=ENOSPC:when=4+9"),
        ("pwritev", "error=EIO:when=5..8"),
        ("fdatasync", "error=EIO:when=4..6"),
        ("fallocate", "error=ENOSPC:when=3..6"),
        ("rename", "error=EIO:when=4+1"),
        ("pread64,preadv2", "error=EIO:when=3+4"),
    ];
    for (calls, fault) in faults {
        let world = World::with_quiet(80, 1, 1 << 20);
        let mut edge = setup(&world).start();
        world.sweep(&edge);
        let before = world.latency(&edge);
        edge.stop();
        edge.set_under(&inject::failing(calls, fault));
        world.forget();
        edge.restart();
        let mut during = before;
        let most = world.load(&edge, 7, 3, |edge| {
            let most = watch(edge, Duration::from_millis(500));
            during = world.latency(edge);
            most.max(watch(edge, Duration::from_millis(100)))
        });
        assert!(most <= BUDGET, "{calls} {fault}: {most} bytes");
        // Two failures, and a rest after each, are still to come for some.
        let took = writes_again(&world, &edge);
        eprintln!(
            "{calls} {fault}: {}; at most {most} of {BUDGET} bytes; written again within {took:?}; \
             hits in memory {before:?} before, {during:?} under load meanwhile",
            world.told()
        );
        edge.kill();
        world.forget();
        edge.set_under(&[]);
        edge.restart();
        world.sweep(&edge);
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "what was measured")]
fn a_device_that_hangs_holds_nobody_up() {
    if !inject::possible() {
        return;
    }
    let world = World::with_quiet(60, 1, 1 << 20);
    let mut edge = setup(&world).start();
    world.sweep(&edge);
    let before = world.latency(&edge);
    edge.kill();
    world.forget();
    std::fs::remove_dir_all(edge.data_dir().join("cache")).expect("the tier's directory");
    // Each call of the disk tier takes two seconds, but for the first few, so that it starts.
    let mut words = inject::failing("pwritev,fdatasync", "delay_exit=2000000:when=3+");
    let reads = "pread64,preadv2";
    words.extend([
        "-e".to_owned(),
        format!("inject={reads}:delay_exit=2000000"),
    ]);
    let trace = words.iter_mut().find(|word| word.starts_with("trace="));
    trace.expect("what is traced").extend([",", reads]);
    edge.set_under(&words);
    edge.restart();
    let (mut during, mut slowest) = (before, Duration::ZERO);
    world.load(&edge, 8, 3, |edge| {
        during = world.latency(edge);
        let mut visitor = world.visitor(edge.address());
        for resource in 0..world.len() {
            let began = Instant::now();
            visitor.get(resource, &[]);
            slowest = slowest.max(began.elapsed());
        }
    });
    eprintln!(
        "{}; hits in memory {before:?} before, {during:?} under load meanwhile; slowest answer \
         {slowest:?}",
        world.told()
    );
    during.assert_no_slower_than(before);
    assert!(
        slowest < Duration::from_secs(2),
        "{slowest:?} for an answer"
    );
    edge.kill();
    world.forget();
    edge.set_under(&[]);
    edge.restart();
    world.sweep(&edge);
}

/// A small file system, for as long as this is kept.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(at: &'a Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a directory");
        let size = format!("size={bytes}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at)
            .output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            inject::skipped("only root may mount a small file system");
            return None;
        }
        Some(Self(at))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0).status();
        drop(unmounted);
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "what was measured")]
fn a_full_file_system_costs_no_answer_and_is_used_once_there_is_room() {
    let world = World::with_quiet(120, 1, 1 << 20);
    let place = tempfile::tempdir().expect("a directory");
    let Some(_small) = Small::mount(place.path(), 24 << 20) else {
        return;
    };
    let cache = place.path().join("cache");
    let ballast = place.path().join("ballast");
    let setup = setup(&world).set("disk.dir", &cache.display().to_string());
    let mut edge = setup.start();
    let before = world.latency(&edge);
    for round in 0..3 {
        // Whatever the tier has not taken by now.
        let file = std::fs::File::create(&ballast).expect("a file");
        let block = vec![1; 65_536];
        let taken = std::iter::repeat_with(|| std::io::Write::write_all(&mut &file, &block));
        let full = taken.take_while(Result::is_ok).count();
        drop(file);
        let mut during = before;
        world.load(&edge, round, 3, |edge| during = world.latency(edge));
        world.sweep(&edge);
        let state = edge.stats()["tiers"][1].clone();
        assert_eq!(state["state"], "degraded", "{state}");
        assert!(
            state["reason"]
                .as_str()
                .is_some_and(|it| it.contains("segment")),
            "{state}"
        );
        std::fs::remove_file(&ballast).expect("a file");
        let allocated = |edge: &Edge| {
            let metrics = edge.metrics();
            metrics.count("larder_tier_allocated_bytes", &["tier=\"disk\""])
        };
        let (had, began) = (allocated(&edge), Instant::now());
        // It takes more only when there is more to be stored.
        let more = |edge: &Edge| allocated(edge) > had || had + (2 << 20) > BUDGET;
        world.load(&edge, round, 2, |edge| {
            eventually("the tier to take what there is", || more(edge));
        });
        let took = began.elapsed();
        assert!(took <= RECOVERY, "{took:?}");
        let most = occupied(&cache);
        assert!(most <= BUDGET, "{most} bytes");
        eprintln!(
            "{} MiB of something else: {}; {most} of {BUDGET} bytes; used {took:?} after there \
             was room; hits in memory {before:?} before, {during:?} under load meanwhile",
            full / 16,
            world.told()
        );
        edge.kill();
        world.forget();
        edge.restart();
        world.sweep(&edge);
        // The next one begins with nothing of it, and no room for it.
        edge.kill();
        world.forget();
        std::fs::remove_dir_all(&cache).expect("the tier's directory");
        edge.restart();
    }
}

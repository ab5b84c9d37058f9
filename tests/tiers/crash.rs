//! The process ends at any moment, under load: what is found afterwards is right, to the byte, no
//! purge is undone, and it is found soon.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::inject;
use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::truth::{Dice, knob};
use crate::world::World;

/// Threads that ask.
const THREADS: u64 = 4;
/// How soon after a restart an edge is ready.
const READY: Duration = Duration::from_secs(1);

/// An edge with little memory before `world`, and a disk of `disk`.
fn edge(world: &World, disk: &str) -> Edge {
    Setup::before(world.origin())
        .keeping()
        .flag("--memory", "4MiB")
        .flag("--disk", disk)
        .start()
}

/// Waits until the edge says that it is ready and its tiers that they are loaded.
fn ready(edge: &Edge) {
    eventually("the edge to be ready", || {
        let ready = edge.admin_response("GET", "/readyz", &[], b"");
        ready.status() == 200 && ready.text().contains("disk: online")
    });
}

/// Runs until `until`, or until the edge has ended by itself.
fn while_it_runs(edge: &Edge, length: Duration) {
    let until = Instant::now() + length;
    let end = Path::new("/proc").join(edge.pid().to_string()).join("exe");
    // The process of somebody who ended is kept until he is asked after, without what it ran.
    while Instant::now() < until && end.exists() {
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "what was measured")]
fn killed_at_random_it_is_back_soon_with_what_it_had_and_nothing_wrong() {
    let rounds = knob("LARDER_ROUNDS", 30);
    let world = World::with_quiet(200, 50, 3 << 20);
    let mut edge = edge(&world, "256MiB");
    let mut dice = Dice::new(1);
    let (mut stored, mut back) = (0, 0);
    let mut took = Vec::new();
    for round in 0..rounds {
        stored += world.renew_quiet(&edge);
        let length = Duration::from_millis(50 + dice.below(400));
        world.load(&edge, round, THREADS, |edge| while_it_runs(edge, length));
        edge.kill();
        world.forget();
        let began = Instant::now();
        edge.restart();
        ready(&edge);
        took.push(began.elapsed());
        back += world.find_quiet(&edge);
        world.sweep(&edge);
    }
    took.sort();
    let at = |part: usize| took.get((took.len() * part).div_ceil(100) - 1).copied();
    let (half, most) = (at(50).unwrap_or_default(), at(99).unwrap_or_default());
    eprintln!(
        "{rounds} rounds: {}; {back} of {stored} back; ready within {half:?}, 99 % within {most:?}",
        world.told()
    );
    assert!(back * 100 >= stored * 98, "{back} of {stored}");
    // Of a few rounds on a busy machine one or two say nothing.
    let (told, which) = match rounds >= 100 {
        true => (most, "99 %"),
        false => (at(90).unwrap_or_default(), "90 %"),
    };
    assert!(told <= READY, "{which} within {told:?}");
}

/// What became of edges that were to be killed at some call.
#[derive(Clone, Copy, Debug, Default)]
struct Killed {
    starting: u64,
    loaded: u64,
    not: u64,
}

/// Kills an edge at `points` calls, mostly of another kind each time, and looks at what is left.
fn killed_at(points: u64, seed: u64) -> (Killed, String) {
    let world = World::of(60, 1 << 20);
    let mut edge = edge(&world, "16MiB");
    let mut dice = Dice::new(seed);
    let mut killed = Killed::default();
    // Some calls are not reached, and some of those tries are due to a busy machine.
    for point in 0..points * 4 {
        if killed.starting + killed.loaded == points {
            break;
        }
        // Few segments are made in a run, and few files renamed; there are many writes.
        let (calls, at) = match point % 10 {
            0..5 => ("pwritev", 1 + dice.below(20)),
            5..8 => ("fdatasync,fsync", 1 + dice.below(4)),
            8 => ("fallocate,ftruncate", 1 + dice.below(3)),
            _ => ("rename", 1 + dice.below(2)),
        };
        if !edge.is_over() {
            edge.kill();
        }
        if point % 10 >= 8 {
            // What is made at the first start is made again.
            std::fs::remove_dir_all(edge.data_dir().join("cache")).expect("the tier's directory");
        }
        edge.set_under(&inject::killing(calls, at));
        match edge.try_restart() {
            Err(ended) => {
                assert_eq!(ended.code, None, "it was killed: {}", ended.log);
                killed.starting += 1;
            }
            Ok(()) => {
                let length = Duration::from_millis(200);
                world.load(&edge, dice.next(), 3, |edge| while_it_runs(edge, length));
                if edge.is_over() {
                    killed.loaded += 1;
                } else {
                    killed.not += 1;
                    edge.kill();
                }
            }
        }
        world.forget();
        edge.set_under(&[]);
        edge.restart();
        world.sweep(&edge);
    }
    (killed, world.told())
}

#[test]
#[expect(clippy::print_stderr, reason = "what was measured")]
fn killed_at_any_call_that_writes_it_starts_again_with_nothing_wrong() {
    if !inject::possible() {
        return;
    }
    let points = knob("LARDER_KILL_POINTS", 200);
    let began = Instant::now();
    let lanes = 3;
    let all: Vec<(Killed, String)> = std::thread::scope(|scope| {
        let lane = |lane| scope.spawn(move || killed_at(points.div_ceil(lanes), lane));
        let started: Vec<_> = (0..lanes).map(lane).collect();
        let ended = started
            .into_iter()
            .map(|lane| lane.join().expect("no panic"));
        ended.collect()
    });
    let mut reached = 0;
    for (killed, told) in all {
        eprintln!("{killed:?}: {told}");
        reached += killed.starting + killed.loaded;
    }
    eprintln!("killed at {reached} calls in {:?}", began.elapsed());
    assert!(
        reached >= points,
        "{reached} of {points} calls were reached"
    );
}

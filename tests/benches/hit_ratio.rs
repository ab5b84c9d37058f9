//! What the shipped default misses of real traces, beside what others do: the traces and the figures
//! of the others are in the folder that `LARDER_TRACES` names. Every trace is replayed by
//! `larder simulate`, in caches of the sizes that there are figures for. Run with
//! `cargo bench -p larder --bench hit_ratio`. Exit code 1 if a bound is missed, or if there are figures
//! for none of the traces.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(
    clippy::indexing_slicing,
    reason = "an answer without what is looked for ends the bench"
)]

#[path = "../simulate/published.rs"]
mod published;

use std::collections::HashMap;
use std::process::{Command, ExitCode};

use published::{Cell, Trace, cells, folder, traces};
use serde_json::Value;

/// Whom the default is compared with, by the names of the reference.
const PEERS: [&str; 14] = [
    "FIFO",
    "LRU",
    "CLOCK",
    "SLRU",
    "ARC",
    "TwoQ",
    "LIRS",
    "S3FIFO",
    "Sieve",
    "WTinyLFU",
    "GDSF",
    "Hyperbolic",
    "LHD",
    "LeCaR",
];
const ADAPTIVE: &str = "adaptive";
const REQUESTS: &str = "adaptive?objective=requests";
const BYTES: &str = "adaptive?objective=bytes";
const POLICIES: [&str; 3] = [ADAPTIVE, REQUESTS, BYTES];
/// Caches of fewer objects say little.
const OBJECTS_MIN: f64 = 50.0;
/// Parts of the footprint that means are of.
const SMALL: f64 = 0.01;
const LARGE: f64 = 0.1;

/// What a cache missed, as parts of the requests and of their bytes.
#[derive(Clone, Copy)]
struct Missed {
    requests: f64,
    bytes: f64,
}

/// A cache of one size under one trace.
struct Cache<'a> {
    trace: &'a Trace,
    bytes: u64,
    /// What the peers missed, by their names.
    peers: HashMap<String, Missed>,
    /// What we did, by policy.
    ours: HashMap<&'static str, Missed>,
}

impl Cache<'_> {
    fn is_counted(&self) -> bool {
        self.trace.objects_in(self.bytes) >= OBJECTS_MIN
    }

    /// Its part of the footprint.
    fn part(&self) -> f64 {
        self.trace.objects_in(self.bytes) / self.trace.keys
    }

    fn is_of(&self, part: f64) -> bool {
        (self.part() / part - 1.0).abs() < 0.05
    }

    /// The peer that misses the least by `what`.
    fn best(&self, what: impl Fn(Missed) -> f64) -> (f64, &str) {
        let of = |(name, missed): (&'static str, Missed)| (what(missed), name);
        let peers = PEERS.iter().map(|name| (*name, self.peers[*name]));
        let best = peers.map(of).min_by(|(a, _), (b, _)| a.total_cmp(b));
        best.expect("peers")
    }

    fn lru(&self) -> Missed {
        self.peers["LRU"]
    }
}

fn requests(missed: Missed) -> f64 {
    missed.requests
}

fn bytes(missed: Missed) -> f64 {
    missed.bytes
}

fn main() -> ExitCode {
    let Some(folder) = folder() else {
        println!("LARDER_TRACES names no folder of traces: there is nothing to replay");
        return ExitCode::SUCCESS;
    };
    let (traces, cells) = (traces(&folder), cells(&folder, &PEERS));
    let mut caches: Vec<Cache<'_>> = Vec::new();
    for trace in &traces {
        let mut of_it = caches_of(trace, &cells);
        replay(trace, &mut of_it);
        caches.extend(of_it);
    }
    if caches.is_empty() {
        println!(
            "there are figures for none of the traces in {}",
            folder.display()
        );
        return ExitCode::FAILURE;
    }
    println!(
        "{:<22} {:>6} {:>8}  {:>7} {:>18} {:>8}  {:>7} {:>18} {:>8}",
        "trace", "cache", "objects", "LRU", "best peer", ADAPTIVE, "LRU", "best peer", ADAPTIVE
    );
    let mut failed = 0;
    for cache in caches.iter().filter(|cache| cache.is_counted()) {
        let verdicts = verdicts(cache);
        failed += verdicts.len();
        println!("{}  {}", shown(cache), verdicts.join(", "));
    }
    failed += means(&caches);
    println!("{failed} bounds missed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A line about a cache: requests first, then bytes.
fn shown(cache: &Cache<'_>) -> String {
    let of = |what: fn(Missed) -> f64| {
        let (best, name) = cache.best(what);
        let (lru, ours) = (what(cache.lru()), what(cache.ours[ADAPTIVE]));
        format!("{lru:>7.4} {name:>11} {best:.4} {ours:>8.4}")
    };
    format!(
        "{:<22} {:>4.1} % {:>8.0}  {}  {}",
        cache.trace.name,
        cache.part() * 100.0,
        cache.trace.objects_in(cache.bytes),
        of(requests),
        of(bytes)
    )
}

/// What is wrong with one cell.
fn verdicts(cache: &Cache<'_>) -> Vec<String> {
    let (ours, lru) = (cache.ours[ADAPTIVE], cache.lru());
    let mut wrong = Vec::new();
    if ours.requests - lru.requests > 0.01 {
        wrong.push("MORE THAN A POINT WORSE THAN LRU".to_owned());
    }
    let by_requests = ours.requests <= cache.best(requests).0 && ours.bytes - lru.bytes <= 0.005;
    let by_bytes = ours.bytes <= cache.best(bytes).0 && ours.requests - lru.requests <= 0.005;
    if cache.trace.is_sized && cache.is_of(LARGE) && !by_requests && !by_bytes {
        wrong.push("BEST BY NEITHER".to_owned());
    }
    wrong
}

/// Prints means over cells, and answers how many are beyond their bounds.
fn means(caches: &[Cache<'_>]) -> usize {
    let both = |cache: &&Cache<'_>| cache.is_of(SMALL) || cache.is_of(LARGE);
    let unit: Vec<_> = caches
        .iter()
        .filter(|it| !it.trace.is_sized && it.is_counted())
        .filter(both)
        .collect();
    // Small ones count here, as they do in the figures that the bounds come from.
    let web: Vec<_> = caches
        .iter()
        .filter(|it| {
            it.trace.is_sized
                && ["web_", "cdn_"]
                    .iter()
                    .any(|kind| it.trace.name.starts_with(kind))
        })
        .filter(both)
        .collect();
    let s3_fifo = gain(&unit, requests, |it| it.peers["S3FIFO"]);
    let figures = [
        (
            "fewer requests than LRU without sizes (as many as S3-FIFO)",
            gain(&unit, requests, |it| it.ours[ADAPTIVE]),
            s3_fifo,
        ),
        (
            "fewer requests than LRU of web and CDN traces, objective=requests",
            gain(&web, requests, |it| it.ours[REQUESTS]),
            Some(0.188),
        ),
        (
            "fewer bytes than LRU of web and CDN traces, objective=bytes",
            gain(&web, bytes, |it| it.ours[BYTES]),
            Some(0.03),
        ),
    ];
    let mut failed = 0;
    for (what, gain, least) in figures {
        let Some((gain, least)) = gain.zip(least) else {
            println!("{what}: no such traces");
            continue;
        };
        let holds = gain >= least;
        failed += usize::from(!holds);
        let (gain, least) = (gain * 100.0, least * 100.0);
        let verdict = if holds { "yes" } else { "NO" };
        println!("{what}: {gain:.1} %  at least {least:.1}: {verdict}");
    }
    failed
}

/// By which part fewer are missed than by LRU, on average.
fn gain(
    caches: &[&Cache<'_>],
    what: fn(Missed) -> f64,
    of: impl Fn(&Cache<'_>) -> Missed,
) -> Option<f64> {
    let gains = caches
        .iter()
        .map(|cache| 1.0 - what(of(cache)) / what(cache.lru()));
    let (count, sum) = gains.fold((0.0, 0.0), |(count, sum), gain| (count + 1.0, sum + gain));
    (count > 0.0).then(|| sum / count)
}

/// Caches of all sizes that there are figures for, with what the peers missed.
fn caches_of<'a>(trace: &'a Trace, cells: &[Cell]) -> Vec<Cache<'a>> {
    let mut caches: Vec<Cache<'a>> = Vec::new();
    for cell in cells.iter().filter(|cell| cell.trace == trace.name) {
        let known = caches.iter().position(|it| it.bytes == cell.cache_bytes);
        let at = known.unwrap_or_else(|| {
            caches.push(Cache {
                trace,
                bytes: cell.cache_bytes,
                peers: HashMap::new(),
                ours: HashMap::new(),
            });
            caches.len() - 1
        });
        let missed = Missed {
            requests: cell.request_miss,
            bytes: cell.byte_miss,
        };
        caches[at].peers.insert(cell.algorithm.clone(), missed);
    }
    caches
}

/// Replays a trace in these caches.
fn replay(trace: &Trace, caches: &mut [Cache<'_>]) {
    if caches.is_empty() {
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.args(["simulate", "--format", "json", "--trace"]);
    command.arg(&trace.file);
    for policy in POLICIES {
        command.args(["--policy", policy]);
    }
    for cache in caches.iter() {
        command.args(["--capacity", &cache.bytes.to_string()]);
    }
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for row in document["results"].as_array().expect("rows") {
        let whole = |name: &str| row[name].as_u64().expect("a count");
        let ratio = |name: &str| row[name].as_f64().expect("a ratio");
        let (peak, capacity) = (whole("peak_bytes"), whole("capacity_bytes"));
        assert!(peak <= capacity, "{row}: more than the capacity");
        let mut policies = POLICIES.into_iter();
        let policy = policies.find(|it| row["policy"] == *it);
        let policy = policy.expect("one of ours");
        let missed = Missed {
            requests: ratio("request_miss_ratio"),
            bytes: ratio("byte_miss_ratio"),
        };
        for cache in caches.iter_mut().filter(|it| it.bytes == capacity) {
            cache.ours.insert(policy, missed);
        }
    }
}

//! What `reinsert` is worth: misses of a disk log that keeps, of each segment it reclaims, what a
//! policy says, against one that keeps nothing and one that keeps what was hit. On the traces in the
//! folder named by `LARDER_TRACES`, or on made-up traffic. Run with
//! `cargo bench -p larder --bench reinsertion`.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "figures are rounded, and a bench may end where it is wrong"
)]

use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use larder::policy::activation::{Activation, HookSlot};
use larder::policy::component::Policy;
use larder::policy::engine::engine;
use larder::policy::hook::Hook;
use larder::policy::reinserter::GuestReinsertion;
use larder::policy::sandbox::Limits;
use larder::tier::eviction::{HitSinceWritten, Reinsertion, Stored};
use wasmtime::component::Component;

/// Segments of the log, and how much of one may be kept.
const SEGMENTS: usize = 32;
const KEPT_PART: u64 = 4;

/// Requests, as indices into sizes.
struct Trace {
    name: String,
    sizes: Vec<u64>,
    requests: Vec<usize>,
}

/// Keeps nothing.
struct Fifo;

impl Reinsertion for Fifo {
    fn keep(&self, entries: &[Stored]) -> Vec<bool> {
        vec![false; entries.len()]
    }
}

fn main() {
    let mut rules: Vec<(String, Box<dyn Reinsertion>)> = vec![
        ("fifo".to_owned(), Box::new(Fifo)),
        ("hit since written".to_owned(), Box::new(HitSinceWritten)),
    ];
    for (policy, params) in [
        ("s3-fifo", "{}"),
        ("gdsf", "{}"),
        ("adaptive", "{}"),
        ("adaptive", "{\"objective\":\"requests\"}"),
    ] {
        rules.push((
            format!("{policy} {params}"),
            Box::new(guest(policy, params)),
        ));
    }
    let traces = traces();
    for percent in [10, 50] {
        println!(
            "log of {percent} % of the footprint: request miss / byte miss / bytes written again"
        );
        let mut gains = vec![(0.0, 0.0); rules.len()];
        for trace in &traces {
            println!("  {}", trace.name);
            let mut plain = None;
            for ((name, rule), gain) in rules.iter().zip(&mut gains) {
                let found = Log::new(trace, percent).replay(trace, &**rule);
                let (requests, bytes) = *plain.get_or_insert((found.requests, found.bytes));
                gain.0 += 1.0 - found.requests / requests;
                gain.1 += 1.0 - found.bytes / bytes;
                println!(
                    "    {name:36} {:.4} / {:.4} / {:.2}",
                    found.requests, found.bytes, found.again
                );
            }
        }
        for ((name, _), (requests, bytes)) in rules.iter().zip(gains) {
            let mean = |sum: f64| 100.0 * sum / traces.len() as f64;
            println!(
                "  mean: {name:34} {:5.1} % fewer request misses, {:5.1} % fewer missed bytes",
                mean(requests),
                mean(bytes)
            );
        }
    }
}

fn guest(policy: &str, params: &str) -> GuestReinsertion {
    let engine = engine().expect("an engine");
    let shipped = larder::embedded::POLICIES.iter();
    let wasm = shipped.clone().find(|shipped| shipped.name == policy);
    let component = Component::new(&engine, wasm.expect("shipped").wasm).expect("it compiles");
    let runs = Arc::new(Policy::new(&engine, &component).expect("a policy"));
    let limits = Limits {
        memory: 4 << 20,
        deadline: Duration::from_millis(500),
    };
    let activation = Activation::new(
        Hook::Eviction,
        policy.into(),
        params.into(),
        Some(runs),
        limits,
    );
    GuestReinsertion::new(Arc::new(HookSlot::new(activation)))
}

/// What came of a replay: parts of requests, of bytes, and of what was written.
struct Found {
    requests: f64,
    bytes: f64,
    again: f64,
}

/// Where an entry lies, and what became of it there.
#[derive(Clone, Copy)]
struct Place {
    segment: u64,
    hits: u32,
    written: usize,
}

/// A log of segments, oldest first.
struct Log {
    segment_bytes: u64,
    segments: VecDeque<Segment>,
    next: u64,
    places: Vec<Option<Place>>,
    again: u64,
}

struct Segment {
    number: u64,
    bytes: u64,
    entries: Vec<usize>,
}

impl Log {
    fn new(trace: &Trace, percent: u64) -> Self {
        let footprint: u64 = trace.sizes.iter().sum();
        let mut log = Self {
            segment_bytes: (footprint * percent / 100 / SEGMENTS as u64).max(1),
            segments: VecDeque::new(),
            next: 0,
            places: vec![None; trace.sizes.len()],
            again: 0,
        };
        log.open();
        log
    }

    fn replay(mut self, trace: &Trace, rule: &dyn Reinsertion) -> Found {
        let (mut missed, mut missed_bytes, mut bytes, mut admitted) = (0_u64, 0_u64, 0_u64, 0_u64);
        for (now, key) in trace.requests.iter().copied().enumerate() {
            let size = trace.sizes[key];
            bytes += size;
            if let Some(place) = &mut self.places[key] {
                place.hits += 1;
                continue;
            }
            missed += 1;
            missed_bytes += size;
            if size <= self.segment_bytes {
                admitted += size;
                self.write(trace, rule, key, now);
            }
        }
        Found {
            requests: missed as f64 / trace.requests.len() as f64,
            bytes: missed_bytes as f64 / bytes as f64,
            again: self.again as f64 / admitted.max(1) as f64,
        }
    }

    fn open(&mut self) {
        self.segments.push_back(Segment {
            number: self.next,
            bytes: 0,
            entries: Vec::new(),
        });
        self.next += 1;
    }

    /// Writes an entry, and whatever has to be written again for it.
    fn write(&mut self, trace: &Trace, rule: &dyn Reinsertion, key: usize, now: usize) {
        let mut waiting = VecDeque::from([key]);
        while let Some(key) = waiting.pop_front() {
            let size = trace.sizes[key];
            if self.segments[self.segments.len() - 1].bytes + size > self.segment_bytes {
                self.open();
                // One segment is being written.
                if self.segments.len() >= SEGMENTS {
                    waiting.extend(self.reclaim(trace, rule, now));
                }
            }
            let last = self.segments.len() - 1;
            let segment = &mut self.segments[last];
            segment.bytes += size;
            segment.entries.push(key);
            self.places[key] = Some(Place {
                segment: segment.number,
                hits: 0,
                written: now,
            });
        }
    }

    /// Gives the oldest segment up. Answers what is to be written again of it.
    fn reclaim(&mut self, trace: &Trace, rule: &dyn Reinsertion, now: usize) -> Vec<usize> {
        let Some(segment) = self.segments.pop_front() else {
            return Vec::new();
        };
        let mut keys = Vec::new();
        let mut entries = Vec::new();
        for key in segment.entries {
            if let Some(place) = self.places[key].take_if(|place| place.segment == segment.number) {
                keys.push(key);
                entries.push(Stored {
                    hash: (key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                    size: trace.sizes[key],
                    hits: place.hits,
                    age_s: u32::try_from(now - place.written).unwrap_or(u32::MAX),
                    lifetime_s: None,
                });
            }
        }
        let mut left = segment.bytes / KEPT_PART;
        let mut kept = Vec::new();
        for (key, keep) in keys.into_iter().zip(rule.keep(&entries)) {
            if keep && trace.sizes[key] <= left {
                left -= trace.sizes[key];
                self.again += trace.sizes[key];
                kept.push(key);
            }
        }
        kept
    }
}

fn traces() -> Vec<Trace> {
    let Some(folder) = std::env::var_os("LARDER_TRACES") else {
        return vec![made_up()];
    };
    let files = std::fs::read_dir(folder).expect("the folder");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(".csv.zst"));
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Trace {
    let file = std::fs::File::open(path).expect("a trace");
    let mut text = String::new();
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(file).expect("zstd");
    decoder.read_to_string(&mut text).expect("text");
    let lines = text.lines().skip(1).map(|line| {
        let fields: Vec<_> = line.split(',').collect();
        (fields[1], fields[2].parse().expect("a size"))
    });
    let name = path.file_name().expect("a name").to_string_lossy();
    trace(name.into_owned(), lines)
}

/// Zipf-like popularity, sizes from one to a thousand, and a third of the requests for what is
/// never asked for again.
fn made_up() -> Trace {
    let mut state = 1_u64;
    let mut draw = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let requests: Vec<(u64, u64)> = (0..400_000)
        .map(|number| {
            let key = match draw() % 3 {
                0 => 1_000_000 + number,
                // Each power of two is drawn as often as any other.
                _ => draw() % (1 << (draw() % 16)),
            };
            (key, 1 + key.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_000)
        })
        .collect();
    trace("made-up traffic".to_owned(), requests.into_iter())
}

fn trace<K: std::hash::Hash + Eq>(name: String, requests: impl Iterator<Item = (K, u64)>) -> Trace {
    let mut trace = Trace {
        name,
        sizes: Vec::new(),
        requests: Vec::new(),
    };
    let mut keys = HashMap::new();
    for (key, size) in requests {
        let next = trace.sizes.len();
        let index = *keys.entry(key).or_insert(next);
        if index == next {
            trace.sizes.push(size);
        }
        trace.requests.push(index);
    }
    trace
}

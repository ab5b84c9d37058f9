//! What a policy call costs, in nanoseconds: the least of many batches, because the machine's other
//! work only ever adds. A replay is the same each time, and of each of its calls the least counts.
//! Run with `cargo bench -p larder --bench policy_calls`; names of shipped policies and component
//! files after `--` measure these alone.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "figures are rounded"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "small numbers, and a bench may end where it is wrong"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use larder::policy::activation::{Activation, HookSlot};
use larder::policy::component::Policy;
use larder::policy::engine::engine;
use larder::policy::evictor::GuestSource;
use larder::policy::hook::Hook;
use larder::policy::keying::{Input, Keyer};
use larder::policy::local::Warm;
use larder::policy::sandbox::Limits;
use larder::tier::eviction::{EvictionOrder, OrderFault, OrderSource, ShardLimits, pack};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Entries of the usual size that the shard of the eviction bench has room for.
const SLOTS: u32 = 100_000;
const CAPACITY: u64 = SLOTS as u64 * SIZE;
/// Keys that its requests are drawn from, Zipf-distributed with this exponent.
const KEYS: u32 = 400_000;
const EXPONENT: f64 = 0.9;
/// Bytes of an entry, unless sizes are what is tried.
const SIZE: u64 = 1_000;
/// Bytes of memory that a policy may take for each entry, ghosts included.
const BYTES_OF_ENTRY_MAX: f64 = 64.0;
/// Replays whose calls are compared.
const RUNS: usize = 8;
/// Words handed over at a time, and victims asked for at a time.
const BATCH_WORDS: usize = 1024;
const LOT: u32 = 64;

/// The shipped ones.
const EVICTION: [&str; 8] = [
    "lru",
    "s3-fifo",
    "sieve",
    "two-q",
    "arc",
    "w-tinylfu",
    "gdsf",
    "adaptive",
];

fn main() {
    let engine = engine().expect("an engine");
    let mut policies: Vec<String> = std::env::args().skip(1).collect();
    // What cargo itself hands over.
    policies.retain(|argument| !argument.starts_with('-'));
    if policies.is_empty() {
        keying(&engine);
        policies = EVICTION.map(str::to_owned).to_vec();
    }
    for policy in &policies {
        let bound = match policy.as_str() {
            "lru" => Some(18.0),
            "adaptive" => Some(45.0),
            _ => None,
        };
        hits(&engine, policy);
        let usual = replay(&engine, policy, Traffic::Usual, bound);
        for hostile in [
            Traffic::Scan,
            Traffic::Flood,
            Traffic::Sizes,
            Traffic::Collisions,
        ] {
            replay(&engine, policy, hostile, Some(usual * 2.0));
        }
    }
}

fn slot(engine: &Engine, name: &str, hook: Hook) -> Arc<HookSlot> {
    let shipped = larder::embedded::POLICIES
        .iter()
        .find(|policy| policy.name == name);
    let wasm = match shipped {
        Some(shipped) => shipped.wasm.to_vec(),
        None => std::fs::read(name).expect("a shipped policy or a file"),
    };
    let component = Component::new(engine, wasm).expect("it compiles");
    let policy = Arc::new(Policy::new(engine, &component).expect("a policy"));
    let limits = Limits {
        memory: 64 << 20,
        deadline: Duration::from_millis(500),
    };
    let activation = Activation::new(hook, name.into(), "{}".into(), Some(policy), limits);
    Arc::new(HookSlot::new(activation))
}

fn keying(engine: &Engine) {
    let fields = [
        (
            http::header::USER_AGENT,
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
        ),
        (http::HeaderName::from_static("sec-ch-ua-mobile"), "?1"),
        (http::header::ACCEPT, "*/*"),
    ];
    let headers: http::HeaderMap = fields
        .into_iter()
        .map(|(name, value)| (name, http::HeaderValue::from_static(value)))
        .collect();
    for (policy, target, what, bound) in [
        (
            "normalize-query",
            "/path/to/page",
            "three strings, no field",
            None,
        ),
        (
            "device-class",
            "/path/to/page",
            "three strings, two fields, a variant",
            Some(400.0),
        ),
        (
            "normalize-query",
            "/page?b=2&utm_source=x&a=1",
            "a query sorted and rewritten",
            None,
        ),
    ] {
        let slot = slot(engine, policy, Hook::Keying);
        let mut warm = Warm::<Keyer>::new(&slot);
        let ns = least(200, 5_000, || {
            let input = Input {
                method: "GET",
                authority: "www.example.com",
                target,
                headers: &headers,
            };
            let keyed = warm.call(&slot, |keyer, activation| keyer.key(input, activation));
            assert!(keyed.is_some(), "the call failed");
        });
        report(&format!("keying: {policy}: {what}"), ns, bound);
    }
}

/// A full shard, and only hits.
fn hits(engine: &Engine, policy: &str) {
    let mut order = order(engine, policy, SLOTS);
    for slot in 0..SLOTS {
        let insert = pack::insert(slot, u64::from(slot) * 0x9e37_79b9_7f4a_7c15, 1_000, None);
        order.observe(0, &insert).expect("observed");
    }
    let mut zipf = Zipf::new(SLOTS);
    let batches: Vec<Vec<u64>> = (0..64)
        .map(|_| (0..256).map(|_| pack::hit(zipf.draw())).collect())
        .collect();
    let mut next = 0;
    let ns = least(300, 64, || {
        order.observe(0, &batches[next]).expect("observed");
        next = (next + 1) % batches.len();
    });
    report(
        &format!("eviction: {policy}: a hit event, batches of 256"),
        ns / 256.0,
        (policy == "lru").then_some(12.0),
    );
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Traffic {
    /// Zipf-distributed keys of one size.
    Usual,
    /// Nothing twice.
    Scan,
    /// The usual, and as many keys again that never come twice.
    Flood,
    /// Zipf-distributed keys of every size there is, one byte and a quarter of the shard among them,
    /// and slots for all of them.
    Sizes,
    /// Zipf-distributed keys whose hashes differ in the upper half alone.
    Collisions,
}

impl Traffic {
    fn hash(self, key: u32) -> u64 {
        match self {
            Self::Collisions => u64::from(key) << 32,
            _ => u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    fn size(self, key: u32) -> u64 {
        match self {
            Self::Sizes => match key % 1_000 {
                0 => CAPACITY / 4,
                few @ 1..100 => SIZE * u64::from(few),
                _ => 1 + u64::from(key) % 200,
            },
            _ => SIZE,
        }
    }

    fn slots(self) -> u32 {
        match self {
            Self::Sizes => KEYS,
            _ => SLOTS,
        }
    }
}

/// Requests against a shard that is too small: every miss inserts, and room is made in lots.
/// Answers the nanoseconds of an event.
fn replay(engine: &Engine, policy: &str, traffic: Traffic, bound: Option<f64>) -> f64 {
    let mut figures = Replay::new(engine, policy, traffic).run();
    for _ in 1..RUNS {
        let again = Replay::new(engine, policy, traffic).run();
        assert_eq!(figures.calls.len(), again.calls.len(), "not the same calls");
        for (least, call) in figures.calls.iter_mut().zip(again.calls) {
            *least = call.min(*least);
        }
    }
    let verdict = match figures.bytes_of_entry <= BYTES_OF_ENTRY_MAX {
        true => "",
        false => ", MORE THAN 64",
    };
    let what = format!(
        "eviction: {policy}: {traffic:?}: all-in per event (hit ratio {:.3}, {:.0} bytes an \
         entry{verdict})",
        figures.hit_ratio, figures.bytes_of_entry
    );
    let took: Duration = figures.calls.iter().sum();
    let ns = took.as_nanos() as f64 / figures.events as f64;
    report(&what, ns, bound);
    ns
}

/// What this thread has computed so far: a replay is too long to find a machine that does nothing
/// else.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// What [`cpu_time`] itself takes, at least. It asks the kernel, which costs as much as tens of
/// events.
fn reading_the_clock() -> Duration {
    let took = (0..1_000).map(|_| {
        let start = cpu_time();
        cpu_time().saturating_sub(start)
    });
    took.min().unwrap_or_default()
}

/// A host in small, with the time its order takes.
struct Replay {
    order: Box<dyn EvictionOrder>,
    traffic: Traffic,
    resident: HashMap<u32, u32>,
    /// Key of each slot.
    keys: Vec<u32>,
    free: Vec<u32>,
    bytes: u64,
    peak_entries: usize,
    words: Vec<u64>,
    /// What it takes to read the clock once.
    clock: Duration,
    /// What each call took.
    calls: Vec<Duration>,
    events: u64,
}

struct Figures {
    calls: Vec<Duration>,
    events: u64,
    hit_ratio: f64,
    bytes_of_entry: f64,
}

impl Replay {
    fn new(engine: &Engine, policy: &str, traffic: Traffic) -> Self {
        let slots = traffic.slots();
        Self {
            order: order(engine, policy, slots),
            traffic,
            resident: HashMap::new(),
            keys: vec![u32::MAX; slots as usize],
            free: (0..slots).rev().collect(),
            bytes: 0,
            peak_entries: 0,
            words: Vec::with_capacity(BATCH_WORDS + 3),
            clock: reading_the_clock(),
            calls: Vec::new(),
            events: 0,
        }
    }

    fn run(mut self) -> Figures {
        let empty = self.order.memory();
        let mut zipf = Zipf::new(KEYS);
        let mut hits = 0_u64;
        let requests = 1_500_000;
        for request in 0..requests {
            let key = match self.traffic {
                Traffic::Scan => request,
                Traffic::Flood if request % 2 == 0 => KEYS + request,
                _ => zipf.draw(),
            };
            // The first part fills the shard and is not counted.
            if request == 500_000 {
                self.calls.clear();
                (self.events, hits) = (0, 0);
            }
            self.events += 1;
            if let Some(slot) = self.resident.get(&key) {
                hits += 1;
                self.words.push(pack::hit(*slot));
            } else {
                self.insert(key);
            }
            if self.words.len() >= BATCH_WORDS - 3 {
                self.observe();
            }
        }
        Figures {
            hit_ratio: hits as f64 / 1_000_000.0,
            bytes_of_entry: (self.order.memory() - empty) as f64 / self.peak_entries as f64,
            calls: self.calls,
            events: self.events,
        }
    }

    /// Inserts, and makes room in lots if that was too much, as the host does in a simulation: the
    /// newcomer may be among those that leave.
    fn insert(&mut self, key: u32) {
        let size = self.traffic.size(key);
        let slot = self.free.pop().expect("room was made");
        self.keys[slot as usize] = key;
        self.resident.insert(key, slot);
        self.bytes += size;
        let hash = self.traffic.hash(key);
        self.words.extend(pack::insert(slot, hash, size, None));
        self.peak_entries = self.peak_entries.max(self.resident.len());
        while self.free.is_empty() || self.bytes > CAPACITY {
            let mean = self.bytes / self.resident.len().max(1) as u64;
            let need = u64::from(LOT) * mean.max(1);
            let victims = self.timed(|order, words| order.make_room(0, words, need));
            assert!(!victims.is_empty(), "no victims");
            for victim in victims {
                self.events += 1;
                let left = self.keys[victim as usize];
                self.resident.remove(&left);
                self.bytes -= self.traffic.size(left);
                self.free.push(victim);
            }
        }
    }

    fn observe(&mut self) {
        self.timed(|order, words| order.observe(0, words));
    }

    /// Hands the words over in a call.
    fn timed<R>(
        &mut self,
        call: impl FnOnce(&mut dyn EvictionOrder, &[u64]) -> Result<R, OrderFault>,
    ) -> R {
        let start = cpu_time();
        let answer = call(&mut *self.order, &self.words).expect("an answer");
        let took = cpu_time().saturating_sub(start);
        self.calls.push(took.saturating_sub(self.clock));
        self.words.clear();
        answer
    }
}

fn order(engine: &Engine, policy: &str, slots: u32) -> Box<dyn EvictionOrder> {
    let source = GuestSource::new(slot(engine, policy, Hook::Eviction));
    let limits = ShardLimits {
        capacity: CAPACITY,
        max_entries: slots,
    };
    source.order(limits).expect("an order")
}

/// Draws from a Zipf distribution, always the same sequence.
struct Zipf {
    cumulative: Vec<f64>,
    state: u64,
}

impl Zipf {
    fn new(keys: u32) -> Self {
        let mut sum = 0.0;
        let weight = |rank: u32| f64::from(rank).powf(-EXPONENT);
        let cumulative = (1..=keys).map(weight).map(|weight| {
            sum += weight;
            sum
        });
        Self {
            cumulative: cumulative.collect(),
            state: 1,
        }
    }

    fn draw(&mut self) -> u32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let total = self.cumulative.last().copied().unwrap_or_default();
        let point = (self.state >> 11) as f64 / (1_u64 << 53) as f64 * total;
        self.cumulative.partition_point(|sum| *sum < point) as u32
    }
}

/// Nanoseconds of one `call`: the least of `batches` batches of `size`.
fn least(batches: usize, size: u32, mut call: impl FnMut()) -> f64 {
    (0..batches)
        .map(|_| {
            let start = Instant::now();
            (0..size).for_each(|_| call());
            start.elapsed().as_nanos() as f64 / f64::from(size)
        })
        .fold(f64::MAX, f64::min)
}

fn report(what: &str, ns: f64, bound: Option<f64>) {
    let verdict = match bound {
        Some(bound) if ns <= bound => format!("at most {bound}: yes"),
        Some(bound) => format!("at most {bound}: NO"),
        None => String::new(),
    };
    println!("{what:90} {ns:7.1} ns  {verdict}");
}

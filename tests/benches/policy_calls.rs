//! What a policy call costs, in nanoseconds: the least of many batches, because the machine's other
//! work only ever adds. Run with `cargo bench -p larder --bench policy_calls`.
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
use larder::tier::eviction::{EvictionOrder, OrderSource, ShardLimits, pack};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Slots of the shard that the eviction bench fills.
const SLOTS: u32 = 100_000;
/// Keys that its requests are drawn from, Zipf-distributed with this exponent.
const KEYS: u32 = 400_000;
const EXPONENT: f64 = 0.9;
/// Words handed over at a time, and victims asked for at a time.
const BATCH_WORDS: usize = 1024;
const LOT: u32 = 64;

fn main() {
    let engine = engine().expect("an engine");
    keying(&engine);
    for (policy, bound) in [("lru", Some(18.0)), ("s3-fifo", None)] {
        hits(&engine, policy);
        replay(&engine, policy, bound);
    }
}

fn slot(engine: &Engine, name: &str, hook: Hook) -> Arc<HookSlot> {
    let shipped = larder::embedded::POLICIES
        .iter()
        .find(|policy| policy.name == name);
    let component = Component::new(engine, shipped.expect("shipped").wasm).expect("it compiles");
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
    let mut order = order(engine, policy);
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
        Some(12.0),
    );
}

/// Requests against a shard that is too small: every miss inserts, and room is made in lots.
fn replay(engine: &Engine, policy: &str, bound: Option<f64>) {
    let mut best = f64::MAX;
    let mut hit_ratio = 0.0;
    for _ in 0..5 {
        let mut order = order(engine, policy);
        let mut zipf = Zipf::new(KEYS);
        let mut resident: HashMap<u32, u32> = HashMap::new();
        let mut keys = vec![u32::MAX; SLOTS as usize];
        let mut free: Vec<u32> = (0..SLOTS).rev().collect();
        let mut words = Vec::with_capacity(BATCH_WORDS + 3);
        let (mut guest, mut events, mut hits) = (Duration::ZERO, 0_u64, 0_u64);
        let requests = 1_500_000;
        for request in 0..requests {
            let key = zipf.draw();
            // The first part fills the shard and is not counted.
            if request == 500_000 {
                (guest, events, hits) = (Duration::ZERO, 0, 0);
            }
            events += 1;
            if let Some(slot) = resident.get(&key) {
                hits += 1;
                words.push(pack::hit(*slot));
            } else {
                if free.is_empty() {
                    let start = Instant::now();
                    order.observe(0, &words).expect("observed");
                    let victims = order.victims(u64::from(LOT) * 1_000).expect("victims");
                    guest += start.elapsed();
                    words.clear();
                    assert!(!victims.is_empty(), "no victims");
                    for victim in victims {
                        events += 1;
                        resident.remove(&keys[victim as usize]);
                        free.push(victim);
                    }
                }
                let slot = free.pop().expect("room was made");
                keys[slot as usize] = key;
                resident.insert(key, slot);
                let hash = u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                words.extend(pack::insert(slot, hash, 1_000, None));
            }
            if words.len() >= BATCH_WORDS - 3 {
                let start = Instant::now();
                order.observe(0, &words).expect("observed");
                guest += start.elapsed();
                words.clear();
            }
        }
        best = best.min(guest.as_nanos() as f64 / events as f64);
        hit_ratio = hits as f64 / 1_000_000.0;
    }
    let what = format!("eviction: {policy}: all-in per event (hit ratio {hit_ratio:.3})");
    report(&what, best, bound);
}

fn order(engine: &Engine, policy: &str) -> Box<dyn EvictionOrder> {
    let source = GuestSource::new(slot(engine, policy, Hook::Eviction));
    let limits = ShardLimits {
        capacity: u64::from(SLOTS) * 1_000,
        max_entries: SLOTS,
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
    println!("{what:70} {ns:7.1} ns  {verdict}");
}

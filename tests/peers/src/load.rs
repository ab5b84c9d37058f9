//! What is asked for: keys in the order in which they arrive, made before anything is measured.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Requests before anything is measured, and meanwhile.
const WARM: usize = 2_000_000;
const ASKED: usize = 8_000_000;
/// Requests that a thread takes at once.
const TAKEN: usize = 64;

/// Traffic, and the room that caches have for it.
pub struct Load {
    /// What it is called.
    pub name: &'static str,
    /// Entries that a cache may hold.
    pub room: u64,
    /// Different keys.
    pub keys: u64,
    /// What is asked for to warm up.
    pub warm: Arrivals,
    /// What is measured.
    pub asked: Arrivals,
}

/// Requests that threads take as they arrive: whoever is free takes the next. So they are asked for
/// in about the order of the trace, however long one of the threads has to wait for a CPU.
pub struct Arrivals {
    keys: Vec<u64>,
    taken: AtomicUsize,
}

impl Arrivals {
    fn new(keys: Vec<u64>) -> Self {
        let taken = AtomicUsize::new(0);
        Self { keys, taken }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Has them arrive again.
    pub fn again(&self) {
        self.taken.store(0, Relaxed);
    }

    /// Takes the next few. `None` when all are taken.
    pub fn take(&self) -> Option<&[u64]> {
        let from = self.taken.fetch_add(TAKEN, Relaxed);
        let rest = self.keys.get(from..)?;
        let taken = &rest[..TAKEN.min(rest.len())];
        (!taken.is_empty()).then_some(taken)
    }
}

impl Load {
    /// Zipf(0.99) over a million keys, room for a tenth.
    pub fn zipf() -> Self {
        const KEYS: u32 = 1_000_000;
        let mut sum = 0.0;
        let cumulative: Vec<f64> = (1..=KEYS)
            .map(|rank| {
                sum += f64::from(rank).powf(-0.99);
                sum
            })
            .collect();
        let mut state = 1_u64;
        let mut draw = |count: usize| {
            let key = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let point = (state >> 11) as f64 / (1_u64 << 53) as f64 * sum;
                cumulative.partition_point(|sum| *sum < point) as u64
            };
            Arrivals::new(std::iter::repeat_with(key).take(count).collect())
        };
        Self {
            name: "Zipf(0.99)",
            room: u64::from(KEYS) / 10,
            keys: KEYS.into(),
            warm: draw(WARM),
            asked: draw(ASKED),
        }
    }

    /// The keys of a trace; room for a tenth.
    pub fn trace(path: &Path) -> Self {
        let file = std::fs::read(path).expect("a trace");
        let mut text = String::new();
        ruzstd::decoding::StreamingDecoder::new(file.as_slice())
            .expect("zstd")
            .read_to_string(&mut text)
            .expect("a trace");
        let key = |line: &str| line.split(',').nth(1).and_then(|key| key.parse().ok());
        let keys: Vec<u64> = text.lines().skip(1).filter_map(key).collect();
        let distinct = keys.iter().collect::<HashSet<_>>().len() as u64;
        Self {
            name: "kv_scarab_recs",
            room: distinct / 10,
            keys: distinct,
            warm: Arrivals::new(Vec::new()),
            asked: Arrivals::new(keys),
        }
    }
}

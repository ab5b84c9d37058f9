//! What is asked for: the keys of each thread, made before anything is measured.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

/// Requests of each thread before it is measured, and while it is.
const WARM: usize = 1_000_000;
const ASKED: usize = 4_000_000;

/// Traffic, and the room that caches have for it.
pub struct Load {
    /// What it is called.
    pub name: &'static str,
    /// Entries that a cache may hold.
    pub room: u64,
    /// Different keys.
    pub keys: u64,
    /// For each thread its keys, first those before it is measured.
    pub threads: Vec<Requests>,
}

/// The requests of one thread.
pub struct Requests {
    /// To warm up.
    pub warm: Vec<u64>,
    /// To be measured.
    pub asked: Vec<u64>,
}

impl Load {
    /// Zipf(0.99) over a million keys, room for a tenth.
    pub fn zipf(threads: usize) -> Self {
        const KEYS: u32 = 1_000_000;
        let mut sum = 0.0;
        let cumulative: Vec<f64> = (1..=KEYS)
            .map(|rank| {
                sum += f64::from(rank).powf(-0.99);
                sum
            })
            .collect();
        let requests = |thread: usize| {
            let mut state = thread as u64 + 1;
            let mut draw = |count: usize| -> Vec<u64> {
                (0..count)
                    .map(|_| {
                        state ^= state << 13;
                        state ^= state >> 7;
                        state ^= state << 17;
                        let point = (state >> 11) as f64 / (1_u64 << 53) as f64 * sum;
                        cumulative.partition_point(|sum| *sum < point) as u64
                    })
                    .collect()
            };
            Requests {
                warm: draw(WARM),
                asked: draw(ASKED),
            }
        };
        Self {
            name: "Zipf(0.99)",
            room: u64::from(KEYS) / 10,
            keys: KEYS.into(),
            threads: (0..threads).map(requests).collect(),
        }
    }

    /// The keys of a trace, dealt to the threads by turns; room for a tenth.
    pub fn trace(path: &Path, threads: usize) -> Self {
        let file = std::fs::read(path).expect("a trace");
        let mut text = String::new();
        ruzstd::decoding::StreamingDecoder::new(file.as_slice())
            .expect("zstd")
            .read_to_string(&mut text)
            .expect("a trace");
        let key = |line: &str| line.split(',').nth(1).and_then(|key| key.parse().ok());
        let keys: Vec<u64> = text.lines().skip(1).filter_map(key).collect();
        let distinct = keys.iter().collect::<HashSet<_>>().len() as u64;
        let dealt = |thread| keys.iter().skip(thread).step_by(threads).copied();
        Self {
            name: "kv_scarab_recs",
            room: distinct / 10,
            keys: distinct,
            threads: (0..threads)
                .map(|thread| Requests {
                    warm: Vec::new(),
                    asked: dealt(thread).collect(),
                })
                .collect(),
        }
    }
}

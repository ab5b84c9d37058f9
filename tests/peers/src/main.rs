//! The memory tier beside the caches that Rust programs use otherwise: throughput of two threads
//! that look up and put what they miss, hit ratio, and how long a hit may take meanwhile.
//!
//! All hold the same entries, as many of them, and see the same requests, of which a thread that is
//! free takes the next few. Each is measured in turns with the others, and the best turn counts,
//! because other work of the machine only ever takes away. Two kinds of traffic: Zipf(0.99) over ten
//! times as many keys as fit, and `kv_scarab_recs.csv.zst` in the folder that `LARDER_TRACES` names,
//! at a tenth of its keys, if there is one. `LARDER_TURNS` says how often each is measured (3).
//! Arguments name those that are measured: shipped policies, `native`, `moka`, `foyer`,
//! `quick_cache`; and traffic, if not all: `zipf`, `kv_scarab_recs`.

mod caches;
mod load;
mod measure;

use std::time::Duration;

use caches::{Foyer, Larder, Moka, QuickCache};
use load::Load;
use measure::Figures;

/// What is measured, unless arguments name some of it.
const MEASURED: [&str; 7] = [
    "adaptive",
    "lru",
    "s3-fifo",
    "native",
    "moka",
    "foyer",
    "quick_cache",
];
/// What they are asked for, unless arguments name some of it.
const TRAFFIC: [&str; 2] = [ZIPF, TRACE];
const ZIPF: &str = "zipf";
const TRACE: &str = "kv_scarab_recs";
/// That of the program, for all of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let turns = std::env::var("LARDER_TURNS").ok();
    let turns = turns.and_then(|turns| turns.parse().ok()).unwrap_or(3);
    let engine = larder::policy::engine::engine().expect("an engine");
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let known = MEASURED.iter().chain(&TRAFFIC);
    if let Some(name) = asked.iter().find(|name| known.clone().all(|it| it != name)) {
        eprintln!(
            "{name}: neither a cache nor traffic: {:?}",
            known.collect::<Vec<_>>()
        );
        std::process::exit(2);
    }
    let is_named = |name: &str| asked.iter().any(|it| it == name);
    let is_any = |names: &[&str]| names.iter().any(|name| is_named(name));
    let is_asked = |name: &str, of: &[&str]| is_named(name) || !is_any(of);
    let mut loads = Vec::new();
    if is_asked(ZIPF, &TRAFFIC) {
        loads.push(Load::zipf());
    }
    if is_asked(TRACE, &TRAFFIC) {
        match std::env::var_os("LARDER_TRACES") {
            Some(folder) => {
                let path = std::path::Path::new(&folder).join("kv_scarab_recs.csv.zst");
                loads.push(Load::trace(&path));
            }
            None => println!("LARDER_TRACES names no folder of traces: kv_scarab_recs is left out"),
        }
    }
    for load in &loads {
        println!(
            "\n{}: room for {} of {} keys",
            load.name, load.room, load.keys
        );
        println!(
            "{:<18} {:>9} {:>8} {:>7} {:>10} {:>10}  {}",
            "cache", "M req/s", "of moka", "hits", "p99.9 hit", "max hit", "beside"
        );
        let mut best: Vec<Figures> = Vec::new();
        for _ in 0..turns {
            let turn = MEASURED.iter().filter(|name| is_asked(name, &MEASURED));
            let turn = turn.map(|name| match *name {
                "native" => measure::measure(load, &|| Larder::native(load.room)),
                "moka" => measure::measure(load, &|| Moka::new(load.room)),
                "foyer" => measure::measure(load, &|| Foyer::new(load.room)),
                "quick_cache" => measure::measure(load, &|| QuickCache::new(load.room)),
                policy => measure::measure(load, &|| Larder::guided(&engine, policy, load.room)),
            });
            for (at, figures) in turn.enumerate() {
                match best.get_mut(at) {
                    None => best.push(figures),
                    Some(before) => before.better(figures),
                }
            }
        }
        let moka = best.iter().find(|it| it.name == "moka");
        let of_moka = |it: &Figures| {
            let part = moka.map(|moka| it.per_second / moka.per_second);
            part.map_or("-".to_owned(), |part| format!("{part:.2}"))
        };
        for it in &best {
            println!(
                "{:<18} {:>9.2} {:>8} {:>7.4} {:>10} {:>10}  {}",
                it.name,
                it.per_second / 1e6,
                of_moka(it),
                it.hit_ratio,
                shown(it.slow_hit),
                shown(it.slowest_hit),
                it.beside
            );
        }
    }
}

fn shown(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}

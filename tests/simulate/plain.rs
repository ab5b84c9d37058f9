//! A least-recently-used cache as plain as can be, and the simulator against it.

use std::collections::BTreeMap;

use crate::rig::{self, Request, count, ratio, rows, simulated};

/// What a cache missed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Missed {
    requests: u64,
    bytes: u64,
    evictions: u64,
}

/// Least recently used first, by bytes; what is larger than the cache is not kept.
fn lru(requests: &[Request], capacity: u64) -> Missed {
    let mut by_use: BTreeMap<u64, Request> = BTreeMap::new();
    let mut used_at: BTreeMap<u64, u64> = BTreeMap::new();
    let mut bytes = 0;
    let mut missed = Missed::default();
    for (now, (key, size)) in (0..).zip(requests) {
        if let Some(at) = used_at.insert(*key, now) {
            let entry = by_use.remove(&at).expect("both know it");
            by_use.insert(now, entry);
            continue;
        }
        missed.requests += 1;
        missed.bytes += size;
        if *size > capacity {
            used_at.remove(key);
            continue;
        }
        while bytes + size > capacity {
            let (_, (old, freed)) = by_use.pop_first().expect("somebody has the bytes");
            used_at.remove(&old);
            bytes -= freed;
            missed.evictions += 1;
        }
        bytes += size;
        by_use.insert(now, (*key, *size));
    }
    missed
}

#[test]
fn native_lru_and_lru_miss_what_a_plain_lru_misses() {
    for (traffic, capacities) in [
        (
            "--requests 30000 --objects 2000 --skew 0.8 --one-hit 0.1 --scans 0.1 --scan-length 300 \
             --churn 2 --sizes lognormal:20KiB,1.5 --seed 5",
            [40_000_u64, 3_000_000, 30_000_000],
        ),
        (
            "--requests 30000 --objects 1000 --sizes fixed:1 --seed 6",
            [1, 30, 900],
        ),
    ] {
        let trace = rig::generated(traffic);
        let requests = rig::requests(&trace);
        let file = rig::file(&trace);
        let capacities_given: String = capacities.map(|c| format!(" --capacity {c}")).concat();
        let arguments = format!("--policy native:lru --policy lru{capacities_given}");
        let document = simulated(file.path(), &arguments);
        let rows = rows(&document);
        assert_eq!(rows.len(), 6);
        for (pair, capacity) in rows.chunks(2).zip(capacities) {
            let expected = lru(&requests, capacity);
            assert!(expected.requests > 0 && expected.requests < 30_000 || capacity == 1);
            for (row, policy) in pair.iter().zip(["native:lru", "lru"]) {
                assert_eq!(row["policy"], policy);
                assert_eq!(count(row, "capacity_bytes"), capacity);
                assert_eq!(
                    count(row, "misses"),
                    expected.requests,
                    "{policy} at {capacity}"
                );
                assert_eq!(
                    count(row, "evictions"),
                    expected.evictions,
                    "{policy} at {capacity}"
                );
                let bytes: u64 = requests.iter().map(|(_, size)| size).sum();
                let missed = ratio(row, "byte_miss_ratio") * f64_of(bytes);
                assert!(
                    (missed - f64_of(expected.bytes)).abs() < 1.0,
                    "{policy} at {capacity}"
                );
                assert!(count(row, "peak_bytes") <= capacity);
                assert_eq!(count(row, "faults"), 0);
            }
        }
    }
}

fn f64_of(count: u64) -> f64 {
    count.to_string().parse().expect("a number")
}

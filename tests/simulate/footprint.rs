//! What the shipped policies keep in memory for an entry, ghosts included, as their instances have
//! it at the end.

use std::fmt::Write;

use crate::rig::{count, file, rows, simulated};

/// Entries that the cache holds.
const ENTRIES: u64 = 30_000;
/// Bytes for each, at most.
const BYTES_MAX: u64 = 64;

/// Requests for keys that look random, of which a third fits: most are missed, so that all ghosts
/// there can be are there at the end.
fn trace(requests: u32) -> String {
    let mut text = "time,key,size\n".to_owned();
    let mut state = 1_u64;
    for time in 0..requests {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let key = (state >> 33) % (3 * ENTRIES);
        writeln!(text, "{time},{key},1").expect("text");
    }
    text
}

#[test]
fn no_shipped_policy_keeps_more_than_64_bytes_an_entry() {
    // What an instance has for itself, whatever it is for.
    let few = simulated(file(trace(100)).path(), "--capacity 10");
    let many = simulated(
        file(trace(250_000)).path(),
        &format!("--capacity {ENTRIES}"),
    );
    assert!(rows(&many).len() > 8);
    for (few, many) in rows(&few).iter().zip(rows(&many)) {
        assert_eq!(few["policy"], many["policy"]);
        assert_eq!(count(many, "peak_entries"), ENTRIES, "{many}");
        let bytes = count(many, "guest_memory_bytes") - count(few, "guest_memory_bytes");
        assert!(
            bytes <= ENTRIES * BYTES_MAX,
            "{}: {} bytes an entry",
            many["policy"],
            bytes / ENTRIES
        );
    }
}

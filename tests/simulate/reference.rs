//! Real traces against a reference: for those who have them, in the folder named by
//! `LARDER_TRACES`, with `reference.csv` beside them (`trace`, `cache_bytes`, `algo`, `req_miss`,
//! `byte_miss`). Without the variable there is nothing to compare with. Large traces are replayed
//! in the long form of the tests.

use std::path::PathBuf;

use crate::rig::{ratio, rows, simulated};
use crate::support::long;

/// Bytes of compressed trace that are replayed in the short form.
const SHORT_BYTES: u64 = 400 << 10;

struct Cell {
    trace: String,
    bytes: u64,
    request_miss: f64,
    byte_miss: f64,
}

fn cells(text: &str, algorithm: &str) -> Vec<Cell> {
    let mut lines = text.lines();
    let names: Vec<_> = lines.next().expect("a header").split(',').collect();
    let place = |name: &str| {
        names
            .iter()
            .position(|each| *each == name)
            .expect("a column")
    };
    let columns = ["trace", "cache_bytes", "algo", "req_miss", "byte_miss"].map(place);
    lines
        .map(|line| {
            let fields: Vec<_> = line.split(',').collect();
            columns.map(|place| fields[place])
        })
        .filter(|fields| fields[2] == algorithm)
        .map(|[trace, bytes, _, request_miss, byte_miss]| Cell {
            trace: trace.to_owned(),
            bytes: bytes.parse().expect("bytes"),
            request_miss: request_miss.parse().expect("a ratio"),
            byte_miss: byte_miss.parse().expect("a ratio"),
        })
        .collect()
}

#[test]
fn lru_agrees_with_the_reference_to_a_tenth_of_a_point() {
    let Some(folder) = std::env::var_os("LARDER_TRACES").map(PathBuf::from) else {
        return;
    };
    let text = std::fs::read_to_string(folder.join("reference.csv")).expect("a reference");
    let mut compared = 0;
    for cell in cells(&text, "LRU") {
        let file = folder.join(format!("{}.csv.zst", cell.trace));
        let Ok(about) = file.metadata() else { continue };
        if about.len() > SHORT_BYTES && !long() {
            continue;
        }
        let arguments = format!("--policy native:lru --policy lru --capacity {}", cell.bytes);
        for row in rows(&simulated(&file, &arguments)) {
            for (name, expected) in [
                ("request_miss_ratio", cell.request_miss),
                ("byte_miss_ratio", cell.byte_miss),
            ] {
                let found = ratio(row, name);
                assert!(
                    (found - expected).abs() <= 0.001,
                    "{} at {}: {} of {} is {found}, not {expected}",
                    cell.trace,
                    cell.bytes,
                    name,
                    row["policy"]
                );
            }
        }
        compared += 1;
    }
    assert!(
        compared > 0,
        "no trace of the reference is in {}",
        folder.display()
    );
}

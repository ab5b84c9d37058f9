//! Real traces against a reference: for those who have them, in the folder named by
//! `LARDER_TRACES`, with what another simulator found beside them: `reference.csv` (`trace`,
//! `cache_bytes`, `algo`, `req_miss`, `byte_miss`) and `traces.csv` (`trace`, `keys`,
//! `footprint_bytes`, `sized`). Without the variable there is nothing to compare with. Large traces
//! are replayed in the long form of the tests.

use std::collections::HashMap;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::rig::{ratio, rows, simulated};
use crate::support::long;

/// Bytes of compressed trace that are replayed in the short form.
const SHORT_BYTES: u64 = 400 << 10;

/// By how many points a policy may miss more than the reference, or less.
struct Agreement {
    policy: &'static str,
    /// The reference's name for it.
    algorithm: &'static str,
    /// Where objects have no sizes.
    plain: RangeInclusive<f64>,
    /// Requests, where they have.
    requests: RangeInclusive<f64>,
    /// Bytes, where they have.
    bytes: RangeInclusive<f64>,
    /// Smaller caches are not compared.
    objects_min: f64,
}

const TENTH: RangeInclusive<f64> = -0.1..=0.1;
const HALF: RangeInclusive<f64> = -0.5..=0.5;

/// What goes beyond half a point is explained in the documentation of the policy.
const AGREEMENTS: [Agreement; 6] = [
    same("native:lru", "LRU", TENTH),
    same("lru", "LRU", TENTH),
    same("gdsf", "GDSF", HALF),
    same("sieve", "Sieve", HALF),
    Agreement {
        policy: "s3-fifo",
        algorithm: "S3FIFO",
        plain: -2.0..=0.5,
        requests: -2.0..=2.5,
        bytes: -2.5..=6.5,
        objects_min: 100.0,
    },
    Agreement {
        policy: "arc",
        algorithm: "ARC",
        plain: HALF,
        requests: -4.0..=1.0,
        bytes: -5.5..=1.2,
        objects_min: 0.0,
    },
];

const fn same(
    policy: &'static str,
    algorithm: &'static str,
    points: RangeInclusive<f64>,
) -> Agreement {
    let (low, high) = (*points.start(), *points.end());
    Agreement {
        policy,
        algorithm,
        plain: low..=high,
        requests: low..=high,
        bytes: low..=high,
        objects_min: 0.0,
    }
}

struct About {
    sized: bool,
    mean_bytes: f64,
}

struct Cell {
    trace: String,
    bytes: u64,
    request_miss: f64,
    byte_miss: f64,
}

/// The lines of a table, with the columns of these names.
fn columns<const N: usize>(path: &Path, names: [&str; N]) -> Vec<[String; N]> {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut lines = text.lines();
    let header: Vec<_> = lines.next().expect("a header").split(',').collect();
    let places = names.map(|name| {
        let place = header.iter().position(|each| *each == name);
        place.unwrap_or_else(|| panic!("{}: no column {name}", path.display()))
    });
    let line = |line: &str| {
        let fields: Vec<_> = line.split(',').collect();
        places.map(|place| fields[place].to_owned())
    };
    lines.map(line).collect()
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    let parsed = text.parse();
    parsed.unwrap_or_else(|_| panic!("{text:?} is no number"))
}

fn traces(folder: &Path) -> HashMap<String, About> {
    let names = ["trace", "keys", "footprint_bytes", "sized"];
    let lines = columns(&folder.join("traces.csv"), names);
    let about = |[trace, keys, footprint, sized]: [String; 4]| {
        let mean_bytes = number::<f64>(&footprint) / number::<f64>(&keys);
        let sized = sized == "1";
        (trace, About { sized, mean_bytes })
    };
    lines.into_iter().map(about).collect()
}

fn cells(folder: &Path, algorithm: &str) -> Vec<Cell> {
    let names = ["algo", "trace", "cache_bytes", "req_miss", "byte_miss"];
    let lines = columns(&folder.join("reference.csv"), names).into_iter();
    let lines = lines.filter(|[algo, ..]| algo == algorithm);
    let cell = |[_, trace, bytes, request_miss, byte_miss]: [String; 5]| Cell {
        trace,
        bytes: number(&bytes),
        request_miss: number(&request_miss),
        byte_miss: number(&byte_miss),
    };
    lines.map(cell).collect()
}

#[track_caller]
fn agrees(agreement: &Agreement) {
    let Some(folder) = std::env::var_os("LARDER_TRACES").map(PathBuf::from) else {
        let policy = agreement.policy;
        // Past the harness, which shows what a test prints only if it fails.
        writeln!(
            std::io::stderr(),
            "{policy}: not compared, LARDER_TRACES names no folder"
        )
        .expect("standard error");
        return;
    };
    let traces = traces(&folder);
    let mut compared = 0;
    for cell in cells(&folder, agreement.algorithm) {
        let file = folder.join(format!("{}.csv.zst", cell.trace));
        let (Ok(metadata), Some(about)) = (file.metadata(), traces.get(&cell.trace)) else {
            continue;
        };
        let too_few =
            number::<f64>(&cell.bytes.to_string()) < agreement.objects_min * about.mean_bytes;
        if too_few || (metadata.len() > SHORT_BYTES && !long()) {
            continue;
        }
        let arguments = format!("--policy {} --capacity {}", agreement.policy, cell.bytes);
        let (requests, bytes) = if about.sized {
            (&agreement.requests, &agreement.bytes)
        } else {
            (&agreement.plain, &agreement.plain)
        };
        for row in rows(&simulated(&file, &arguments)) {
            for (name, expected, accepted) in [
                ("request_miss_ratio", cell.request_miss, requests),
                ("byte_miss_ratio", cell.byte_miss, bytes),
            ] {
                let points = (ratio(row, name) - expected) * 100.0;
                assert!(
                    accepted.contains(&points),
                    "{} on {} in {} bytes: {name} is {points:.2} points from {expected}, accepted \
                     are {accepted:?}",
                    agreement.policy,
                    cell.trace,
                    cell.bytes,
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

#[test]
fn policies_miss_what_the_reference_misses() {
    AGREEMENTS.iter().for_each(agrees);
}

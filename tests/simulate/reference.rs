//! Real traces against a reference, for those who have both (see `published`): policies miss what
//! another simulator says that their algorithms miss. Without them there is nothing to compare with.
//! Large traces are replayed in the long form of the tests.

use std::io::Write;
use std::ops::RangeInclusive;

use crate::published::{cells, folder, traces};
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

#[track_caller]
fn agrees(agreement: &Agreement) {
    let Some(folder) = folder() else {
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
    for cell in cells(&folder, &[agreement.algorithm]) {
        let Some(trace) = traces.iter().find(|trace| trace.name == cell.trace) else {
            continue;
        };
        let too_few = trace.objects_in(cell.cache_bytes) < agreement.objects_min;
        let is_large = trace.file.metadata().expect("a file").len() > SHORT_BYTES;
        if too_few || (is_large && !long()) {
            continue;
        }
        let arguments = format!(
            "--policy {} --capacity {}",
            agreement.policy, cell.cache_bytes
        );
        let (requests, bytes) = if trace.is_sized {
            (&agreement.requests, &agreement.bytes)
        } else {
            (&agreement.plain, &agreement.plain)
        };
        for row in rows(&simulated(&trace.file, &arguments)) {
            for (name, expected, accepted) in [
                ("request_miss_ratio", cell.request_miss, requests),
                ("byte_miss_ratio", cell.byte_miss, bytes),
            ] {
                let points = (ratio(row, name) - expected) * 100.0;
                assert!(
                    accepted.contains(&points),
                    "{} on {} in {} bytes: {name} is {points:.2} points from the {expected} of {}, \
                     accepted are {accepted:?}",
                    agreement.policy,
                    cell.trace,
                    cell.cache_bytes,
                    cell.algorithm,
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

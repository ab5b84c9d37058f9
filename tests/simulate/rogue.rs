//! Policies that fail: the run goes on, and its row says so.

use crate::fixtures::{build, rogue};
use crate::rig::{count, document, file, generated, larder, path, rows, succeeds};

#[test]
fn a_policy_that_fails_is_marked_and_the_run_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let wasm = dir.path().join("rogue.wasm");
    std::fs::write(&wasm, rogue()).expect("writes");
    let trace = file(generated(
        "--requests 4000 --objects 300 --sizes uniform:1,100 --seed 8",
    ));
    let policies = [
        ("mode=behave", false),
        ("mode=trap-observe", true),
        ("mode=trap-victims", true),
        ("mode=loop-victims", true),
        ("mode=told&at_least=100", true),
        ("mode=unknown", true),
        ("mode=duplicate", true),
        ("mode=everything", false),
        ("mode=endless", true),
    ]
    .map(|(params, faults)| (format!("{}?{params}", path(&wasm)), faults));
    let mut command = larder(&[
        "simulate",
        "--trace",
        path(trace.path()),
        "--format",
        "json",
    ]);
    for (policy, _) in &policies {
        command.args(["--policy", policy]);
    }
    let (out, err) = succeeds(command.args(["--capacity", "2000", "--policy", "native:lru"]));
    let document = document(&out);
    let rows = rows(&document);
    let native = rows.last().expect("a row");
    for (row, (policy, faults)) in rows.iter().zip(&policies) {
        assert_eq!(row["policy"], **policy);
        assert_eq!(count(row, "requests"), 4_000, "{row}");
        assert!(count(row, "peak_bytes") <= 2_000, "{row}");
        assert!(count(row, "misses") < 4_000, "{row}");
        assert_eq!(count(row, "faults") > 0, *faults, "{row}");
        assert_eq!(
            err.contains(&format!("{policy} at 2000 faulted (")),
            *faults,
            "{err}"
        );
        if policy.contains("trap-") {
            assert_eq!(row["fell_back"], true, "{row}");
            // It never decided, so all was in native order, which under a guest order knows who was
            // used and not exactly when.
            let difference = count(row, "misses").abs_diff(count(native, "misses"));
            assert!(difference * 50 <= count(native, "misses"), "{row} {native}");
        }
    }
    assert!(
        err.contains("was taken out of service, and native:lru went on"),
        "{err}"
    );
}

#[test]
fn a_policy_that_miscounts_is_marked_and_the_run_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let wasm = dir.path().join("miscounts.wasm");
    std::fs::write(&wasm, build("miscounts")).expect("writes");
    // Many leave for one now and then.
    let trace = file(generated(
        "--requests 4000 --objects 300 --sizes uniform:1,100 --seed 8",
    ));
    let policies = [
        ("behave", false),
        ("one-more", true),
        ("most", true),
        ("repeat", true),
        ("trap-rest", true),
        ("loop-rest", true),
        ("long-rest", true),
    ]
    .map(|(mode, faults)| (format!("{}?mode={mode}", path(&wasm)), faults));
    let mut command = larder(&["simulate", "--format", "json", "--trace"]);
    command.arg(trace.path());
    for (policy, _) in &policies {
        command.args(["--policy", policy]);
    }
    let (out, err) = succeeds(command.args(["--capacity", "2000"]));
    let document = document(&out);
    for (row, (policy, faults)) in rows(&document).iter().zip(&policies) {
        assert_eq!(row["policy"], **policy);
        assert_eq!(count(row, "requests"), 4_000, "{row}");
        assert!(count(row, "peak_bytes") <= 2_000, "{row}");
        assert!(count(row, "misses") < 4_000, "{row}");
        assert_eq!(count(row, "faults") > 0, *faults, "{row}");
        let told = err.contains(&format!("{policy} at 2000 faulted ("));
        assert_eq!(told, *faults, "{err}");
    }
}

#[test]
fn newcomers_that_are_named_at_once_are_refusals() {
    let dir = tempfile::tempdir().expect("a directory");
    let wasm = dir.path().join("rogue.wasm");
    std::fs::write(&wasm, rogue()).expect("writes");
    let trace = file("0,a,1\n1,b,1\n2,c,1\n3,d,1\n4,a,1\n5,b,1\n6,c,1\n");
    let policy = format!("{}?mode=newest", path(&wasm));
    let mut command = larder(&[
        "simulate",
        "--trace",
        path(trace.path()),
        "--format",
        "json",
    ]);
    let (out, _) = succeeds(command.args(["--capacity", "2", "--policy", &policy]));
    let document = document(&out);
    let row = &rows(&document)[0];
    // a and b stay; c, d and c are not let in.
    assert_eq!(count(row, "misses"), 5, "{row}");
    assert_eq!(
        (count(row, "evictions"), count(row, "refusals")),
        (0, 3),
        "{row}"
    );
}

//! Policies that fail: the run goes on, and its row says so.

use serde_json::Value;

use crate::fixtures::{build, rogue};
use crate::rig::{count, document, file, generated, larder, path, rows, succeeds};

/// Replays traffic where many leave for one now and then through `wasm` as each of `modes` has it, and
/// at last in native order. Checks that the run goes on, and that who faults, and only who does, is
/// marked. Answers the rows and what was said.
#[track_caller]
fn marked(wasm: &[u8], modes: &[(&str, bool)]) -> (Vec<Value>, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let file_of = dir.path().join("policy.wasm");
    std::fs::write(&file_of, wasm).expect("writes");
    let trace = file(generated(
        "--requests 4000 --objects 300 --sizes uniform:1,100 --seed 8",
    ));
    let policy = |mode: &str| format!("{}?mode={mode}", path(&file_of));
    let mut command = larder(&["simulate", "--format", "json", "--capacity", "2000"]);
    command.arg("--trace").arg(trace.path());
    for (mode, _) in modes {
        command.args(["--policy", &policy(mode)]);
    }
    let (out, err) = succeeds(command.args(["--policy", "native:lru"]));
    let document = document(&out);
    let rows = rows(&document);
    assert_eq!(rows.len(), modes.len() + 1);
    for (row, (mode, faults)) in rows.iter().zip(modes) {
        assert_eq!(row["policy"], *policy(mode));
        assert_eq!(count(row, "requests"), 4_000, "{row}");
        assert!(count(row, "peak_bytes") <= 2_000, "{row}");
        assert!(count(row, "misses") < 4_000, "{row}");
        assert_eq!(count(row, "faults") > 0, *faults, "{row}");
        let told = err.contains(&format!("{} at 2000 faulted (", policy(mode)));
        assert_eq!(told, *faults, "{err}");
    }
    (rows.to_vec(), err)
}

#[test]
fn a_policy_that_fails_is_marked_and_the_run_goes_on() {
    let modes = [
        ("behave", false),
        ("trap-observe", true),
        ("trap-victims", true),
        ("loop-victims", true),
        ("told&at_least=100", true),
        ("unknown", true),
        ("duplicate", true),
        ("everything", false),
        ("endless", true),
    ];
    let (rows, err) = marked(rogue(), &modes);
    let native = rows.last().expect("a row");
    for (row, (mode, _)) in rows.iter().zip(modes) {
        if mode.starts_with("trap-") {
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
    let modes = [
        ("behave", false),
        ("one-more", true),
        ("most", true),
        ("repeat", true),
        ("trap-rest", true),
        ("loop-rest", true),
        ("long-rest", true),
    ];
    marked(&build("miscounts"), &modes);
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

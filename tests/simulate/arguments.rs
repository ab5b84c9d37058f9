//! Wrong arguments: exit code 2, and what would have been right.

use crate::rig::{fails, file, generated, larder, path};

#[test]
fn wrong_arguments_exit_with_2_and_name_the_choices() {
    let trace = file("0,a,1\n");
    for (arguments, expected) in [
        ("--policy lur", "write native:lru, one of "),
        ("--policy native:fifo", "write native:lru, one of "),
        ("--policy ttl-by-path", "write native:lru, one of "),
        ("--policy nowhere.wasm", "nowhere.wasm: No such file"),
        (
            "--policy s3-fifo?small=0",
            "expected a percentage from 1 to 99",
        ),
        ("--policy s3-fifo?smal=5", "unknown parameter `smal`"),
        ("--policy s3-fifo?small", "\"small\" is no parameter"),
        ("--capacity 0", "a cache of 0 bytes holds nothing"),
        ("--capacity 150%", "write more than 0% and at most 100%"),
        ("--capacity 1.5GB", "is not a size"),
        ("--capacity -1", "unexpected argument"),
        ("--format xml", "[possible values: table, json]"),
        ("--input tsv", "[possible values: csv, clf, json]"),
        ("--shards 0", "invalid value '0'"),
    ] {
        let mut words = vec!["simulate", "--trace", path(trace.path())];
        words.extend(arguments.split_whitespace());
        let told = fails(&mut larder(&words), 2);
        assert!(told.contains(expected), "{arguments}: {told}");
    }
    let told = fails(
        &mut larder(&["simulate", "--trace", "-", "--capacity", "1%"]),
        2,
    );
    assert!(told.contains("takes two readings"), "{told}");
    let plot = [
        "simulate",
        "--trace",
        path(trace.path()),
        "--plot",
        "/nowhere/x.svg",
    ];
    let told = fails(&mut larder(&plot), 1);
    assert!(
        told.contains("--plot /nowhere/x.svg: No such file"),
        "{told}"
    );
}

#[test]
fn a_component_that_is_no_eviction_policy_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let wasm = dir.path().join("x.wasm");
    std::fs::write(&wasm, b"not wasm").expect("writes");
    let trace = file("0,a,1\n");
    let words = [
        "simulate",
        "--trace",
        path(trace.path()),
        "--policy",
        path(&wasm),
    ];
    let told = fails(&mut larder(&words), 2);
    assert!(told.contains("x.wasm: "), "{told}");
}

#[test]
fn generated_traffic_is_as_said() {
    assert_eq!(
        generated("--requests 500 --seed 4"),
        generated("--requests 500 --seed 4")
    );
    assert_ne!(
        generated("--requests 500 --seed 4"),
        generated("--requests 500 --seed 5")
    );
    assert_eq!(
        generated("--requests 2 --objects 1 --sizes fixed:7 --rate 4"),
        "time,key,size\n0.000,1,7\n0.250,1,7\n"
    );
    for (arguments, expected) in [
        (
            "--one-hit 2",
            "one-hit is a share of the requests, from 0 to 1, not 2",
        ),
        (
            "--one-hit 0.6 --scans 0.6",
            "one-hit and scans together is a share",
        ),
        ("--skew -1", "unexpected argument"),
        ("--objects 0", "objects is at least 1"),
        ("--sizes gaussian:1,2", "write fixed:SIZE"),
    ] {
        let words: Vec<_> = ["trace", "generate"]
            .into_iter()
            .chain(arguments.split_whitespace())
            .collect();
        let told = fails(&mut larder(&words), 2);
        assert!(told.contains(expected), "{arguments}: {told}");
    }
}

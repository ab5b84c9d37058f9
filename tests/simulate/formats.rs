//! Traces in every format, and what is wrong with them.

use std::io::Write;
use std::process::Stdio;

use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::rig::{
    count, document, fails, file, generated, larder, path, rows, simulated, succeeds,
};

const ONE: &str = "--policy lru --capacity 300KiB";

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).expect("writes");
    encoder.finish().expect("ends")
}

fn zstd(text: &[u8]) -> Vec<u8> {
    compress_to_vec(text, CompressionLevel::Fastest)
}

#[test]
fn the_same_requests_have_the_same_outcome_however_they_are_written() {
    let trace = generated("--requests 5000 --objects 300 --seed 2");
    let plain = simulated(file(&trace).path(), ONE);
    let misses = count(&rows(&plain)[0], "misses");
    assert!(misses > 300 && misses < 5_000);
    let no_header = trace.split_once('\n').expect("a header").1.to_owned();
    let mut turned = String::new();
    for line in trace.lines() {
        let columns: Vec<_> = line.split(',').collect();
        let quoted = ["\"", columns[1], "\""].concat();
        turned += &[columns[2], "x", &quoted, columns[0]].join(",");
        turned += "\r\n";
    }
    let mixed = trace.replacen('\n', "\r\n", 100).replace("7\n", "7\r");
    for written in [
        no_header.into_bytes(),
        turned.into_bytes(),
        mixed.into_bytes(),
        gzip(trace.as_bytes()),
        zstd(trace.as_bytes()),
    ] {
        let document = simulated(file(&written).path(), ONE);
        assert_eq!(count(&rows(&document)[0], "misses"), misses);
        assert_eq!(count(&document["trace"], "bad_lines"), 0);
    }
    let mut command = larder(&["simulate", "--trace", "-", "--format", "json"]);
    command.args(ONE.split_whitespace());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(&zstd(trace.as_bytes())).expect("writes");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let piped = document(&String::from_utf8(output.stdout).expect("text"));
    assert_eq!(count(&rows(&piped)[0], "misses"), misses);
}

#[test]
fn logs_are_read_as_a_cache_would_have_seen_them() {
    let clf = "\
h - - [10/Oct/2000:13:55:36 -0700] \"GET /a HTTP/1.0\" 200 100\n\
h - - [10/Oct/2000:13:55:37 -0700] \"POST /a HTTP/1.0\" 200 100\n\
h - - [10/Oct/2000:13:55:38 -0700] \"GET /a HTTP/1.0\" 304 - \"-\" \"agent\"\n\
h - - [10/Oct/2000:13:55:39 -0700] \"GET /b HTTP/1.0\" 200 50\n";
    let json = "\
{\"unix_ms\":1,\"client\":\"::1\",\"site\":\"s\",\"method\":\"GET\",\"host\":\"h\",\"path\":\"/a\",\"status\":200,\"bytes\":100,\"took_us\":1,\"cache_status\":\"hit\"}\n\
{\"unix_ms\":2,\"method\":\"POST\",\"host\":\"h\",\"path\":\"/a\",\"status\":200,\"bytes\":100}\n\
{\"unix_ms\":3,\"method\":\"GET\",\"host\":\"h\",\"path\":\"/a\",\"status\":304,\"bytes\":null}\n\
{\"unix_ms\":4,\"method\":\"GET\",\"host\":\"i\",\"path\":\"/a\",\"status\":200,\"bytes\":50}\n";
    for (text, format) in [(clf, "clf"), (json, "json")] {
        for given in ["", &format!("--input {format}")] {
            let document = simulated(file(text).path(), &format!("{ONE} {given}"));
            let row = &rows(&document)[0];
            assert_eq!(
                (count(row, "requests"), count(row, "misses")),
                (3, 2),
                "{format}"
            );
            assert_eq!(count(&document["trace"], "bytes"), 250);
            assert_eq!(count(&document["trace"], "not_cacheable"), 1);
        }
    }
}

#[test]
fn bad_lines_are_counted_and_named_or_end_it() {
    let trace = file("time,key,size\n1,a,5\n2,b\n3,c,-7\n5,d,5\n4,a,5\n5,x,5,5\n");
    let arguments = ["simulate", "--trace", path(trace.path()), "--policy", "lru"];
    let json = ["--capacity", "50", "--format", "json"];
    let (out, err) = succeeds(larder(&arguments).args(json));
    let document = document(&out);
    assert_eq!(count(&document["trace"], "requests"), 3);
    assert_eq!(count(&document["trace"], "bad_lines"), 3);
    assert_eq!(count(&document["trace"], "times_backwards"), 1);
    for line in [
        "3 bad lines were passed over",
        "line 3: 2 columns, not 3",
        "line 4: the size is negative",
        "line 6: time goes back by 1000 ms",
        "line 7: 4 columns, not 3",
    ] {
        assert!(err.contains(line), "{err}");
    }
    let told = fails(larder(&arguments).args(json).arg("--strict"), 1);
    assert!(told.contains("line 3: 2 columns, not 3"), "{told}");
}

#[test]
fn what_is_no_trace_is_told() {
    let told = |content: &[u8], more: &str| {
        let trace = file(content);
        let mut words = vec!["simulate", "--trace", path(trace.path())];
        words.extend(ONE.split_whitespace());
        words.extend(more.split_whitespace());
        fails(&mut larder(&words), 1)
    };
    for (content, more, expected) in [
        (&b""[..], "", "there is no request in it"),
        (b"time,key,size\n", "", "there is no request in it"),
        (
            b"time,key\n1,a\n",
            "",
            "the header has no column size: time,key",
        ),
        (b"1,a\n", "", "the first line has 2 columns"),
        (
            b"what is this\n",
            "",
            "in no known format (csv: time,key,size; clf: common",
        ),
        (
            b"1,a,5\n",
            "--input json",
            "1 bad lines; line 1: not a line of the access log",
        ),
        (
            b"x - - [10/Oct/2000:13:55:36 -0700] \"POST /a HTTP/1.0\" 200 1\n",
            "",
            "that a cache could answer",
        ),
    ] {
        let told = told(content, more);
        assert!(told.contains(expected), "{told}");
    }
    let text = b"1,a,5\n".repeat(100_000);
    for packed in [gzip(&text), zstd(&text)] {
        let half = &packed[..packed.len() / 2];
        for capacity in ["", "--capacity 1%"] {
            let told = told(half, capacity);
            assert!(told.contains(": cannot be read past "), "{told}");
        }
    }
    let told = fails(&mut larder(&["simulate", "--trace", "/nowhere/at.all"]), 1);
    assert!(
        told.starts_with("error: /nowhere/at.all: No such file"),
        "{told}"
    );
    let told = fails(&mut larder(&["simulate", "--trace", "/tmp"]), 1);
    assert!(told.contains("/tmp"), "{told}");
}

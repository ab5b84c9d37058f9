//! Ctrl-C: what there is so far is printed.

use std::io::Write;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::rig::{count, document, larder, rows};

#[test]
fn an_interrupted_simulation_prints_what_it_has() {
    let mut child = larder(&["simulate", "--trace", "-", "--format", "json"])
        .args(["--policy", "lru", "--capacity", "1MiB"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut input = child.stdin.take().expect("a pipe");
    let pid = Pid::from_child(&child);
    let batch = b"1,a,500000\n2,b,500000\n3,c,500000\n".repeat(5_000);
    // More than any pipe holds, so that it reads by now; and then until it reads no more.
    let mut written = 0;
    while input.write_all(&batch).is_ok() {
        written += 1;
        if written == 20 {
            kill_process(pid, Signal::INT).expect("it runs still");
        }
    }
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130));
    let document = document(&String::from_utf8(output.stdout).expect("text"));
    assert_eq!(document["interrupted"], true);
    let row = &rows(&document)[0];
    assert!(
        count(row, "requests") > 0 && count(row, "misses") > 0,
        "{row}"
    );
    let told = String::from_utf8(output.stderr).expect("text");
    assert!(
        told.contains("interrupted: these are the results of the first "),
        "{told}"
    );
}

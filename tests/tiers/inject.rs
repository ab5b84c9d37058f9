//! An operating system that fails, or kills, at chosen calls: `strace` beside the edge.

use std::io::Write;
use std::process::{Command, Stdio};

/// Whether calls to the system can be made to fail here. Says so if not.
pub(crate) fn possible() -> bool {
    let tried = Command::new("strace")
        .args(["-f", "-qq", "--seccomp-bpf", "-o", "/dev/null"])
        .args([
            "-e",
            "trace=fdatasync",
            "-e",
            "inject=fdatasync:error=EIO",
            "true",
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let possible = tried.is_ok_and(|status| status.success());
    if !possible {
        skipped("there is no strace that may trace here");
    }
    possible
}

/// Says that this test is skipped.
pub(crate) fn skipped(why: &str) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let text = format!("{name}: skipped, for {why}\n");
    // Past the capture of the test's output, so that it is seen.
    std::io::stderr()
        .write_all(text.as_bytes())
        .expect("a terminal");
}

/// What to start an edge under that is killed at the call number `at` of one of its threads to one
/// of `calls`. The edge is the process that was started.
pub(crate) fn killing(calls: &str, at: u64) -> Vec<String> {
    // Where a filter picks the calls, signals get lost.
    under(&[], calls, &format!("signal=KILL:when={at}"))
}

/// What to start an edge under that meets `fault` at some of `calls`, as `strace` takes them. Other
/// calls cost nothing more.
pub(crate) fn failing(calls: &str, fault: &str) -> Vec<String> {
    under(&["--seccomp-bpf"], calls, fault)
}

fn under(how: &[&str], calls: &str, fault: &str) -> Vec<String> {
    let words = ["strace", "-D", "-f", "-qq", "-o", "/dev/null"];
    let words = [words.as_slice(), how].concat();
    let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    words.extend([
        "-e".to_owned(),
        format!("trace={calls}"),
        "-e".to_owned(),
        format!("inject={calls}:{fault}"),
    ]);
    words
}

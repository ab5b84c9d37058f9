//! An operating system that fails, or kills, at chosen calls: `strace` beside the edge.

use std::io::Write;
use std::process::{Command, Stdio};

/// Whether calls to the system can be made to fail here. Says so if not.
pub(crate) fn possible() -> bool {
    let tried = Command::new("strace")
        .args(["-f", "-qq", "--seccomp-bpf", "-o", "/dev/null"])
        .args(["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO", "true"])
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

/// What to start an edge under that meets `fault` at some of `calls`, as `strace` takes them. The
/// edge is the process that was started.
pub(crate) fn under(calls: &str, fault: &str) -> Vec<String> {
    let words = ["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e"];
    let mut words = words.map(str::to_owned).to_vec();
    words.extend([
        format!("trace={calls}"),
        "-e".to_owned(),
        format!("inject={calls}:{fault}"),
    ]);
    words
}

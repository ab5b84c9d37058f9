//! Traces to replay, and the program that replays them.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::support::edge::LARDER;

/// One request of a trace: key and size.
pub(crate) type Request = (u64, u64);

/// A command of the program.
pub(crate) fn larder(arguments: &[&str]) -> Command {
    let mut command = Command::new(LARDER);
    command
        .args(arguments)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command that succeeds prints, and what it notes.
#[track_caller]
pub(crate) fn succeeds(command: &mut Command) -> (String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("it runs");
    let (out, err) = (text(&stdout), text(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{out}{err}");
    (out, err)
}

/// What a command says that fails with `code` and prints nothing.
#[track_caller]
pub(crate) fn fails(command: &mut Command, code: i32) -> String {
    let output = command.output().expect("it runs");
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert_eq!(text(&output.stdout), "", "{told}");
    told
}

/// A file with this content.
pub(crate) fn file(content: impl AsRef<[u8]>) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(content.as_ref()).expect("writes");
    file
}

/// The path as an argument.
pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// A trace as `trace generate` writes it.
pub(crate) fn generated(arguments: &str) -> String {
    let words: Vec<_> = ["trace", "generate"]
        .into_iter()
        .chain(arguments.split_whitespace())
        .collect();
    succeeds(&mut larder(&words)).0
}

/// The requests of a generated trace.
pub(crate) fn requests(trace: &str) -> Vec<Request> {
    let request = |line: &str| {
        let columns: Vec<_> = line.split(',').collect();
        let key = u64::from_str_radix(columns[1], 16).expect("a key");
        (key, columns[2].parse().expect("a size"))
    };
    trace.lines().skip(1).map(request).collect()
}

/// The results of `simulate` on the trace in `file`.
#[track_caller]
pub(crate) fn simulated(file: &Path, arguments: &str) -> Value {
    let mut words = vec!["simulate", "--trace", path(file), "--format", "json"];
    words.extend(arguments.split_whitespace());
    document(&succeeds(&mut larder(&words)).0)
}

/// JSON, read.
#[track_caller]
pub(crate) fn document(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The rows of a document.
pub(crate) fn rows(document: &Value) -> &[Value] {
    document["results"].as_array().expect("rows")
}

/// A ratio of a row.
pub(crate) fn ratio(row: &Value, name: &str) -> f64 {
    row[name].as_f64().expect("a number")
}

/// A count of a row.
pub(crate) fn count(row: &Value, name: &str) -> u64 {
    row[name].as_u64().expect("a number")
}

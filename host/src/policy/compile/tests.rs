//! Compilation in real children: this test program stands in for the server, a shell for children
//! that misbehave.

use std::time::Instant;

use super::child::serve_parent;
use super::*;
use crate::policy::inspect::fixtures::{compile_bomb, policy, wasm};

/// Set in a child that is this test program itself: its limits on CPU seconds and memory bytes.
const CHILD_LIMITS: &str = "LARDER_TEST_COMPILE_LIMITS";

/// A shell in place of the compiler.
fn shell(script: &str, wall: Duration) -> Compiler {
    Compiler::with("/bin/sh".into(), vec!["-c".into(), script.into()], wall)
}

/// The real child, run by this test program: the test harness writes to its standard output, so
/// the artefact goes through descriptor 3 instead.
fn child(cpu_seconds: u64, address_space_bytes: u64) -> Compiler {
    let module = module_path!()
        .split_once("::")
        .expect("a path below the crate")
        .1;
    let script = format!(
        "export {CHILD_LIMITS}={cpu_seconds}:{address_space_bytes}; exec 3>&1 >/dev/null; \
         exec '{}' --exact {module}::child_process --nocapture",
        std::env::current_exe()
            .expect("this program has a path")
            .display(),
    );
    shell(&script, Duration::from_mins(1))
}

/// Does nothing in an ordinary run of the tests.
#[test]
fn child_process() {
    let Ok(limits) = std::env::var(CHILD_LIMITS) else {
        return;
    };
    let (cpu_seconds, address_space_bytes) = limits.split_once(':').unwrap();
    let output = std::fs::OpenOptions::new()
        .write(true)
        .open("/proc/self/fd/3")
        .unwrap();
    let streams = (io::stdin().lock(), output);
    let answer = serve_parent(
        streams,
        cpu_seconds.parse().unwrap(),
        address_space_bytes.parse().unwrap(),
    );
    let code = answer.map_or_else(
        |failure| {
            failure.tell();
            i32::from(failure.code)
        },
        |()| 0,
    );
    std::process::exit(code);
}

fn check(compiler: &Compiler, wasm: &[u8], code: &str, status: u16, words: &str) {
    let refusal = compiler.compile(wasm).expect_err("the compilation fails");
    assert_eq!(
        (refusal.code, refusal.status()),
        (code, status),
        "{refusal:?}"
    );
    assert!(
        refusal.message.contains(words),
        "{words:?} is missing in {refusal:?}"
    );
}

#[test]
fn a_child_compiles_what_this_process_would() {
    let wasm = policy();
    let compiled = child(CPU_SECONDS, ADDRESS_SPACE_BYTES)
        .compile(&wasm)
        .unwrap();
    let engine = Engine::new(&crate::policy::engine::compile_config()).unwrap();
    assert_eq!(compiled, compile_here(&engine, &wasm).unwrap());
}

#[test]
fn an_invalid_component_is_refused_with_the_reason() {
    let mut wrong = wasm("(component (core module (func (result i32) i32.const 77)))");
    let at = wrong
        .windows(2)
        .position(|pair| pair == [0x41, 0xcd])
        .unwrap();
    // `i32.const` becomes `i64.const`, which the function's type does not allow.
    wrong[at] = 0x42;
    let compiler = child(CPU_SECONDS, ADDRESS_SPACE_BYTES);
    check(
        &compiler,
        &wrong,
        "invalid_component",
        422,
        "expected i32, found i64",
    );
    let cut = &policy()[..100];
    check(&compiler, cut, "invalid_component", 422, "unexpected end");
}

#[test]
fn a_compile_bomb_ends_at_its_cpu_limit() {
    let start = Instant::now();
    check(
        &child(1, ADDRESS_SPACE_BYTES),
        &compile_bomb(),
        "compile_limit",
        422,
        "of CPU time",
    );
    assert!(
        start.elapsed() < Duration::from_secs(50),
        "the clock ended it, not the limit"
    );
}

#[test]
fn a_child_without_memory_is_refused() {
    // More CPU time than the bomb needs before it has used up the little memory there is.
    check(
        &child(60, 1 << 20),
        &compile_bomb(),
        "compile_limit",
        422,
        "MiB of memory",
    );
}

#[test]
fn a_child_that_does_not_end_is_ended() {
    let start = Instant::now();
    // Half a megabyte does not fit into the pipe, so the writer is stuck until the child dies.
    let compiler = shell("exec sleep 1000", Duration::from_millis(100));
    check(
        &compiler,
        &vec![0; 1 << 19],
        "compile_limit",
        422,
        "takes longer than",
    );
    assert!(start.elapsed() < Duration::from_secs(100));
    // Closing its output does not help it.
    let compiler = shell("exec sleep 1000 >&- 2>&-", Duration::from_millis(100));
    check(&compiler, b"", "compile_limit", 422, "takes longer than");
}

#[test]
fn every_end_of_a_child_has_its_message() {
    let shell = |script| shell(script, Duration::from_mins(1));
    check(
        &shell("exec cat /dev/zero"),
        b"",
        "compile_limit",
        422,
        "larger than 64 MiB",
    );
    check(
        &shell("kill -XCPU $$"),
        b"",
        "compile_limit",
        422,
        "CPU time",
    );
    check(&shell("kill -KILL $$"), b"", "compile_limit", 422, "killed");
    check(&shell("kill -SEGV $$"), b"", "compile_limit", 422, "stack");
    check(
        &shell("echo wrong >&2; echo; exit 1"),
        &vec![0; 1 << 19],
        "invalid_component",
        422,
        "wrong",
    );
    check(
        &shell("echo because >&2; exit 2"),
        b"",
        "compiler_failed",
        500,
        "because",
    );
    check(&shell("exit 101"), b"", "compiler_failed", 500, "101");
    check(&shell("exit 0"), b"", "compiler_failed", 500, "failed");
    check(
        &Compiler::new("/does/not/exist"),
        b"",
        "compiler_unavailable",
        500,
        "could not be run",
    );
}

#[test]
fn error_text_is_one_short_line() {
    let script = "while :; do printf 'a\\nb\\033 '; done >&2";
    let refusal = shell(&format!("{script}; exit 1"), Duration::from_mins(1)).compile(b"");
    let message = refusal.unwrap_err().message;
    assert!(
        message.len() < 3 << 10 && !message.contains(char::is_control),
        "{message}"
    );
}

#[test]
fn advice_for_programmers_is_left_out() {
    let text = b"thread 'main' panicked:\n\tno such\x1b thing\nnote: run with `X=1`\n";
    assert_eq!(one_line(text), "thread 'main' panicked: no such thing");
}

#[test]
fn the_queue_is_bounded_and_places_come_back() {
    let waiting = AtomicUsize::new(0);
    let mut places: Vec<_> = (0..=WAITING)
        .map(|_| Place::take(&waiting).unwrap())
        .collect();
    for _ in 0..3 {
        let refusal = Place::take(&waiting).map(drop).unwrap_err();
        assert_eq!((refusal.code, refusal.status()), ("compiler_busy", 503));
    }
    places.pop();
    places.push(Place::take(&waiting).unwrap());
    drop(places);
    assert_eq!(waiting.into_inner(), 0);
}

#[test]
fn uploads_are_compiled_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    // A second child that runs beside a first finds its directory, and fails.
    let script = format!(
        "cd '{}' && mkdir mine && rmdir mine && echo done",
        dir.path().display()
    );
    let compiler = shell(&script, Duration::from_mins(1));
    thread::scope(|scope| {
        for _ in 0..=WAITING {
            scope.spawn(|| assert_eq!(compiler.compile(b"").unwrap().as_bytes(), b"done\n"));
        }
    });
}

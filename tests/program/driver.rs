//! The fixture `tiers-driver`, built by the program's own command and compiled once.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use larder::policy::engine::engine;
use larder::program::Program;

/// The component.
pub(crate) fn wasm() -> &'static [u8] {
    static WASM: OnceLock<Vec<u8>> = OnceLock::new();
    WASM.get_or_init(|| build("tiers-driver"))
}

/// The program.
pub(crate) fn program() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let engine = engine().expect("an engine");
        Program::load(&engine, wasm()).expect("the fixture is a program")
    })
}

fn build(name: &str) -> Vec<u8> {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests");
    // The command leaves the component beside the sources, where two runs would meet.
    let lock = File::create(scratch.join(format!("{name}.lock"))).expect("a file");
    lock.lock().expect("locks");
    let dir = guests.join(name);
    let built = Command::new(env!("CARGO_BIN_EXE_larder"))
        .args(["policy", "build"])
        .arg(&dir)
        .env("CARGO_TARGET_DIR", scratch.join("guests"))
        .env("CARGO_NET_OFFLINE", "true")
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let errors = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{errors}");
    let printed = String::from_utf8_lossy(&built.stdout);
    let file = printed.split("  ").next().expect("it prints the path");
    let wasm = std::fs::read(file).expect("it was built");
    std::fs::remove_file(file).expect("it is ours");
    wasm
}

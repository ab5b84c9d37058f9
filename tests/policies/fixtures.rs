//! Components to push: the rogue policy, built by the program's own command, and what no Rust
//! compiler would make.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::support::edge::LARDER;
use crate::text;

/// Where tests may leave files that later runs use again.
pub(crate) fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// A command of the program that runs cargo within a target directory of the tests.
pub(crate) fn building(target: &str) -> Command {
    let mut command = Command::new(LARDER);
    command
        .env("CARGO_TARGET_DIR", scratch().join(target))
        .env("CARGO_NET_OFFLINE", "true")
        .env("CARGO_TERM_COLOR", "never")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

/// The fixture `rogue`: every hook, well-behaved without parameters.
pub(crate) fn rogue() -> &'static [u8] {
    static ROGUE: OnceLock<Vec<u8>> = OnceLock::new();
    ROGUE.get_or_init(|| build("rogue"))
}

/// Another version of `rogue`, equal in all it does.
pub(crate) fn rogue_again(number: u8) -> Vec<u8> {
    let mut wasm = rogue().to_vec();
    // A custom section: kind 0, three bytes, of which the name takes two.
    wasm.extend_from_slice(&[0, 3, 1, b'n', number]);
    wasm
}

/// A fixture by its name.
pub(crate) fn build(name: &str) -> Vec<u8> {
    let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = manifest_dir.join("../tests/guests").join(name);
    // The command leaves the component beside the sources, where two runs would meet.
    let lock = File::create(scratch().join(format!("{name}.lock"))).expect("a file");
    lock.lock().expect("locks");
    let built = building("guests")
        .args(["policy", "build"])
        .arg(&dir)
        .output()
        .expect("it runs");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let file = dir.join(format!("{name}.wasm"));
    let wasm = std::fs::read(&file).expect("it was built");
    std::fs::remove_file(&file).expect("it is ours");
    wasm
}

/// A file in the tests' directory with these bytes.
pub(crate) fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch().join(name);
    std::fs::write(&path, bytes).expect("a file");
    path
}

/// A keying policy that answers whatever bytes lie at `pointer`, `length` of them, as its target.
/// Every string in its memory is `/` and two bytes that are never UTF-8.
pub(crate) fn raw_target(pointer: u32, length: u32) -> Vec<u8> {
    text::keying(&format!(
        r#"(data (i32.const 512) "/\ff\fe")
           (func (export "key") (param i32 i32 i32 i32 i32 i32) (result i32)
             (i32.store8 (i32.const 64) (i32.const 1))
             (i32.store8 (i32.const 68) (i32.const 1))
             (i32.store (i32.const 72) (i32.const {}))
             (i32.store (i32.const 76) (i32.const {}))
             (i32.store (i32.const 80) (i32.const 0))
             (i32.store (i32.const 84) (i32.const 0))
             (i32.const 64))"#,
        pointer.cast_signed(),
        length.cast_signed(),
    ))
}

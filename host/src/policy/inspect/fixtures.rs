//! Small components for the tests of the upload path.

use std::fmt::Write as _;

/// The component that `text` describes.
pub(crate) fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the fixture parses")
}

/// A component that exports one function in each of `interfaces`; `core` is in its core module.
pub(crate) fn exporting(interfaces: &[&str], core: &str) -> Vec<u8> {
    let mut exports = String::new();
    for name in interfaces {
        write!(exports, r#"(export "{name}" (instance 0))"#).expect("writes to a string");
    }
    wasm(&format!(
        r#"(component
            (core module (func (export "f")) {core})
            (core instance (instantiate 0))
            (func (canon lift (core func 0 "f")))
            (instance (export "f" (func 0)))
            {exports})"#
    ))
}

/// A component that offers keying by name, if not by type.
pub(crate) fn policy() -> Vec<u8> {
    exporting(&["larder:policy/keying@0.1.0"], "")
}

/// Another component with the same exports for each `number`.
pub(crate) fn numbered_policy(number: u16) -> Vec<u8> {
    let mut wasm = policy();
    // A custom section: kind 0, three bytes, of which the name takes one and its length one.
    let [high, low] = number.to_be_bytes();
    wasm.extend_from_slice(&[0, 4, 1, b'n', high, low]);
    wasm
}

/// One function of 300,000 additions, 14 seconds of compiling for an unguarded host.
pub(crate) fn compile_bomb() -> Vec<u8> {
    let additions = "i32.const 1 i32.add ".repeat(300_000);
    let core = format!("(func (result i32) i32.const 1 {additions})");
    exporting(&["larder:policy/keying@0.1.0"], &core)
}

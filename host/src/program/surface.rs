//! What a program asks for, read from its bytes before any of it is compiled.
//!
//! One linear pass over section headers. It names what may not be imported and bounds what compile
//! time grows with faster than the file; full validation is the compiler's.

use wasmparser::{Parser, Payload};

use crate::policy::inspect::Limits;
use crate::policy::refusal::{Refusal, RefusalKind};

/// The interface that a program may import, without its patch version.
const TIERS: &str = "larder:cache/tiers@0.1.";

/// Bytes shown of a name.
const NAME_SHOWN: usize = 100;

const HINT: &str = "build it for wasm32-unknown-unknown, against world program of larder:cache@0.1";

/// Checks that `wasm` is a component within `limits` that imports nothing but the tiers.
///
/// # Errors
/// Why it is not.
pub(super) fn check(wasm: &[u8], limits: &Limits) -> Result<(), Refusal> {
    if wasm.len() > limits.component_bytes {
        let (found, allowed) = (wasm.len(), limits.component_bytes);
        return Err(Refusal::new(
            RefusalKind::TooLarge,
            "program_too_large",
            format!("the program has {found} bytes; {allowed} are allowed"),
            "build in release mode with `strip = true` and `lto = \"fat\"`",
        ));
    }
    if !Parser::is_component(wasm) {
        return Err(Refusal::new(
            RefusalKind::Malformed,
            "not_a_component",
            "the program is not a WebAssembly component",
            HINT,
        ));
    }
    let mut depth = 0_usize;
    let mut functions = 0_usize;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(|error| malformed(&error))? {
            Payload::Version { .. } => depth = depth.saturating_add(1),
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CodeSectionEntry(body) => {
                functions = functions.saturating_add(1);
                let range = body.range();
                let bytes = range.end.saturating_sub(range.start);
                within(bytes, limits.body_bytes, "bytes in one function")?;
                within(functions, limits.functions, "functions")?;
            }
            Payload::ComponentImportSection(imports) if depth == 1 => {
                for import in imports {
                    importable(import.map_err(|error| malformed(&error))?.name.name)?;
                }
            }
            _ => {}
        }
        within(depth, limits.nesting, "levels of nesting")?;
    }
    Ok(())
}

fn importable(name: &str) -> Result<(), Refusal> {
    let patch = name.strip_prefix(TIERS);
    if patch
        .is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return Ok(());
    }
    let shown = name
        .get(..name.floor_char_boundary(NAME_SHOWN))
        .unwrap_or_default();
    Err(Refusal::unacceptable(
        "imports",
        format!(
            "a program may import {TIERS}x and nothing else; this one imports {}",
            shown.escape_debug()
        ),
        HINT,
    ))
}

fn within(found: usize, allowed: usize, what: &str) -> Result<(), Refusal> {
    if found <= allowed {
        return Ok(());
    }
    Err(Refusal::unacceptable(
        "compile_limit",
        format!("the program has {found} {what}; {allowed} are allowed"),
        "split large functions, and leave out what the program does not use",
    ))
}

fn malformed(error: &wasmparser::BinaryReaderError) -> Refusal {
    Refusal::unacceptable(
        "malformed",
        format!(
            "the program is malformed at byte {}: {}",
            error.offset(),
            error.message()
        ),
        HINT,
    )
}

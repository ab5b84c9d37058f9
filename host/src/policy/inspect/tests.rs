//! What each kind of unacceptable upload is answered.

use proptest::prelude::*;

use super::fixtures::{compile_bomb, exporting, policy, wasm};
use super::*;
use crate::policy::hook::{NEWCOMER, REINSERTION, ROOM};

const KEYING: &str = "larder:policy/keying@0.1.0";

fn refused(bytes: &[u8]) -> Refusal {
    inspect(bytes, &Limits::default()).expect_err("the file is refused")
}

/// Checks the code, the status, and words that must be in the message or the hint.
fn check(bytes: &[u8], code: &str, status: u16, words: &[&str]) {
    let refusal = refused(bytes);
    assert_eq!(
        (refusal.code, refusal.status()),
        (code, status),
        "{refusal:?}"
    );
    assert!(!refusal.hint.is_empty());
    for word in words {
        let found = refusal.message.contains(word) || refusal.hint.contains(word);
        assert!(found, "{word:?} is missing in {refusal:?}");
    }
}

#[test]
fn hooks_are_found_by_their_exports() {
    let found = |exports: &[&str]| inspect(&exporting(exports, ""), &Limits::default());
    assert_eq!(found(&[KEYING]), Ok(vec![Hook::Keying]));
    let all = Hook::ALL.map(Hook::interface);
    assert_eq!(found(&all), Ok(Hook::ALL.to_vec()));
    let [keying, freshness, eviction] = all;
    assert_eq!(
        found(&[eviction, freshness, keying]),
        Ok(Hook::ALL.to_vec())
    );
    // Patch versions only add interfaces.
    let patched = found(&["larder:policy/eviction@0.1.7", "somebody:else/thing@2.0.0"]);
    assert_eq!(patched, Ok(vec![Hook::Eviction]));
}

#[test]
fn what_is_not_a_component_is_named() {
    check(b"", "not_wasm", 400, &["empty"]);
    check(
        b"#!/bin/sh\n",
        "not_wasm",
        400,
        &["not WebAssembly", "larder policy build"],
    );
    check(b"\n (component)", "not_wasm", 400, &["text"]);
    check(b"\0asm", "truncated", 422, &["byte 4"]);
    check(b"\0asm\x0c\0\x01\0", "unknown_encoding", 422, &["0c"]);
    let module = wasm("(module (func (export \"f\")))");
    check(
        &module,
        "core_module",
        422,
        &["core module", "wasm-component-ld"],
    );
}

#[test]
fn a_component_cut_anywhere_is_refused() {
    let whole = exporting(&[KEYING], "(memory 1) (data (i32.const 0) \"abc\")");
    assert!(inspect(&whole, &Limits::default()).is_ok());
    let mut in_the_middle = 0;
    for end in 4..whole.len() {
        let refusal = refused(&whole[..end]);
        in_the_middle += usize::from(refusal.code == "truncated");
        assert!(
            ["truncated", "no_hook", "malformed"].contains(&refusal.code),
            "{refusal:?}"
        );
    }
    // A cut between two sections looks like a component without exports.
    assert!(
        in_the_middle * 10 > whole.len() * 8,
        "{in_the_middle} of {}",
        whole.len()
    );
}

#[test]
fn the_wrong_world_is_named() {
    check(
        &wasm("(component)"),
        "no_hook",
        422,
        &["exports nothing", KEYING],
    );
    let other = exporting(&["wasi:http/incoming-handler@0.2.0", "run"], "");
    check(
        &other,
        "no_hook",
        422,
        &["wasi:http/incoming-handler@0.2.0, run", KEYING],
    );
    for name in [
        "keying@0.2.0",
        "keying@1.0.0",
        "keying@0.1.0-rc1",
        "keying",
        "eviction@0.10.0",
    ] {
        let name = format!("larder:policy/{name}");
        check(
            &exporting(&[&name], ""),
            "wrong_version",
            422,
            &[&name, "0.1.0"],
        );
    }
    let unknown = "larder:policy/pricing@0.1.0";
    check(
        &exporting(&[KEYING, unknown], ""),
        "unknown_hook",
        422,
        &[unknown],
    );
    let twice = exporting(&[KEYING, "larder:policy/keying@0.1.1"], "");
    check(&twice, "bad_export", 422, &["keying@0.1.1", "once"]);
    let export = format!("(component (component) (export \"{KEYING}\" (component 0)))");
    check(&wasm(&export), "bad_export", 422, &[KEYING]);
}

#[test]
fn what_is_of_use_beside_eviction_comes_with_it() {
    let eviction = Hook::Eviction.interface();
    for beside in BESIDE_EVICTION {
        let both = exporting(&[eviction, beside], "");
        assert_eq!(
            inspect(&both, &Limits::default()).unwrap(),
            [Hook::Eviction]
        );
        for others in [&[][..], &[KEYING]] {
            let names: Vec<_> = others.iter().copied().chain([beside]).collect();
            check(
                &exporting(&names, ""),
                "bad_export",
                422,
                &[beside, "without eviction"],
            );
        }
        let again = beside.replace("0.1.0", "0.1.1");
        let twice = exporting(&[eviction, beside, &again], "");
        check(&twice, "bad_export", 422, &[&again, "once"]);
    }
    let all = exporting(&[eviction, REINSERTION, ROOM, NEWCOMER], "");
    assert_eq!(inspect(&all, &Limits::default()).unwrap(), [Hook::Eviction]);
}

#[test]
fn imports_are_refused_by_name() {
    let wasi = wasm(r#"(component (import "wasi:cli/environment@0.2.6" (instance)))"#);
    check(
        &wasi,
        "imports",
        422,
        &["wasi:cli/environment@0.2.6", "wasm32-unknown-unknown"],
    );
    let own = wasm(r#"(component (import "larder:cache/tiers@0.1.0" (instance)))"#);
    check(
        &own,
        "imports",
        422,
        &["larder:cache/tiers@0.1.0", "arguments"],
    );
    let many: Vec<_> = (0..20)
        .map(|number| format!("(import \"a{number}\" (instance))"))
        .collect();
    let many = many.concat();
    check(
        &wasm(&format!("(component {many})")),
        "imports",
        422,
        &["a0, a1", "a7 and 12 more"],
    );
    // An import of a component inside is satisfied by the one around it.
    let nested = r#"(component
        (component $inner (import "x" (instance)))
        (instance $x) (instance (instantiate $inner (with "x" (instance $x)))))"#;
    check(&wasm(nested), "no_hook", 422, &[]);
}

#[test]
fn a_hostile_name_does_not_reach_the_message() {
    // The text format would refuse such a name, so it is put into the finished binary.
    let mut bytes = wasm(r#"(component (import "aaaaaaaaaaaa" (instance)))"#);
    let at = bytes
        .windows(12)
        .position(|window| window == b"aaaaaaaaaaaa")
        .unwrap();
    bytes[at..at + 6].copy_from_slice(b"\n\x1b[31m");
    let refusal = refused(&bytes);
    assert_eq!(refusal.code, "imports");
    assert!(!refusal.message.contains(char::is_control), "{refusal:?}");
    let long = format!(
        "(component (import \"{}\" (instance)))",
        "long".repeat(1000)
    );
    assert!(refused(&wasm(&long)).message.len() < 300);
}

#[test]
fn each_limit_holds_to_the_unit() {
    let limits = Limits::default();
    let fits = |core: &str| inspect(&exporting(&[KEYING], core), &limits);
    let over = |core: &str, found: &str| {
        check(&exporting(&[KEYING], core), "compile_limit", 422, &[found]);
    };
    // The fixture has a function of its own.
    assert!(fits(&"(func)".repeat(4_999)).is_ok());
    over(&"(func)".repeat(5_000), "5001 functions; 5000 are allowed");
    assert!(fits("(memory 64)").is_ok());
    over("(memory 65)", "bytes of initial memory");
    over("(memory 33) (memory 32)", "bytes of initial memory");
    assert!(fits("(table 10000 funcref)").is_ok());
    over(
        "(table 9000 funcref) (table 1001 funcref)",
        "10001 initial table elements",
    );
    assert!(fits(&format!("(func (local {}))", "i64 ".repeat(4_096))).is_ok());
    over(
        &format!("(func (local {}))", "i64 ".repeat(4_097)),
        "4097 local variables",
    );
    over(&"(global i32 (i32.const 0))".repeat(20_001), "definitions");
    // `nop` is one byte; the count of locals and `end` are the other two.
    assert!(fits(&format!("(func {})", "nop ".repeat((64 << 10) - 2))).is_ok());
    over(
        &format!("(func {})", "nop ".repeat((64 << 10) - 1)),
        "65537 bytes in one function",
    );

    let nested = |depth: usize| {
        let text = format!("{}{}", "(component ".repeat(depth), ")".repeat(depth));
        refused(&wasm(&text))
    };
    assert_eq!(nested(8).code, "no_hook");
    assert_eq!(nested(9).code, "compile_limit");
}

#[test]
fn the_size_cap_is_exact() {
    let bytes = policy();
    let limits = |component_bytes| Limits {
        component_bytes,
        ..Limits::default()
    };
    assert!(inspect(&bytes, &limits(bytes.len())).is_ok());
    let refusal = inspect(&bytes, &limits(bytes.len() - 1)).unwrap_err();
    assert_eq!((refusal.code, refusal.status()), ("policy_too_large", 413));
}

#[test]
fn code_at_instantiation_is_refused() {
    let core = exporting(&[KEYING], "(func $start) (start $start)");
    check(&core, "start_function", 422, &["configure"]);
}

#[test]
fn a_compile_bomb_is_refused_before_anything_is_compiled() {
    let bomb = compile_bomb();
    assert!(bomb.len() < Limits::default().component_bytes);
    check(
        &bomb,
        "compile_limit",
        422,
        &["bytes in one function", "65536"],
    );
}

proptest! {
    /// Any answer is fine; the scan must end without a panic and without a hook made of noise.
    #[test]
    fn noise_is_survived(
        tail in prop::collection::vec(any::<u8>(), 0..300),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..4),
    ) {
        let limits = Limits::default();
        let noise = [b"\0asm\x0d\0\x01\0".as_slice(), &tail].concat();
        prop_assert!(inspect(&noise, &limits).is_err());
        let mut flipped = policy();
        for (at, bits) in flips {
            let at = at.index(flipped.len());
            flipped[at] ^= bits;
        }
        if let Ok(hooks) = inspect(&flipped, &limits) {
            prop_assert!(!hooks.is_empty());
        }
    }
}

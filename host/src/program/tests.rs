//! Loading and running programs, with components written as text.

use std::sync::Arc;

use super::*;
use crate::entry::SiteId;
use crate::policy::engine::engine;

fn refusal(wasm: &[u8]) -> Refusal {
    let engine = engine().expect("an engine");
    Program::load(&engine, wasm).expect_err("it is refused")
}

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the fixture parses")
}

/// A component with `imports` that exports nothing.
fn importing(imports: &[&str]) -> Vec<u8> {
    let imports = imports
        .iter()
        .map(|name| format!("(import {name:?} (instance))"));
    component(&format!("(component {})", imports.collect::<String>()))
}

#[test]
fn an_import_other_than_the_tiers_is_refused_by_name() {
    for name in [
        "wasi:cli/environment@0.2.0",
        "larder:cache/other@0.1.0",
        "larder:cache/tiers@0.2.0",
        "larder:cache/tiers@0.1.0-rc",
        "larder:cache/tiers@1.1.0",
        "larder:cache/tiers",
        "larder:policy/keying@0.1.0",
        "environment",
    ] {
        for imports in [vec![name], vec!["larder:cache/tiers@0.1.0", name]] {
            let refusal = refusal(&importing(&imports));
            assert_eq!((refusal.code, refusal.status()), ("imports", 422), "{name}");
            assert!(refusal.message.contains(name), "{}", refusal.message);
        }
    }
}

#[test]
fn a_call_of_the_tiers_that_does_not_exist_is_refused_by_name() {
    let wasm = component(
        r#"(component
            (import "larder:cache/tiers@0.1.7" (instance (export "frobnicate" (func))))
            (core module $m (func (export "run") (param i32 i32) (result i32) unreachable)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                (memory (export "memory") 1))
            (core instance $i (instantiate $m))
            (func (export "run") (param "params" string) (result (result string (error string)))
                (canon lift (core func $i "run") (memory (core memory $i "memory"))
                    (realloc (core func $i "realloc")))))"#,
    );
    let refusal = refusal(&wasm);
    assert_eq!(refusal.code, "invalid_component");
    assert!(
        refusal.message.contains("frobnicate"),
        "{}",
        refusal.message
    );
}

#[test]
fn what_is_no_component_is_refused() {
    let whole = importing(&["larder:cache/tiers@0.1.0"]);
    let cut = whole.get(..whole.len() - 3).unwrap_or_default();
    let core = component("(module)");
    for (wasm, code, status) in [
        (b"".as_slice(), "not_a_component", 400),
        (b"#!/bin/sh", "not_a_component", 400),
        (&core, "not_a_component", 400),
        (cut, "malformed", 422),
        (&vec![0; (1 << 20) + 1], "program_too_large", 413),
    ] {
        let refusal = refusal(wasm);
        assert_eq!((refusal.code, refusal.status()), (code, status));
    }
}

#[test]
fn run_must_be_there_with_its_type() {
    let none = importing(&["larder:cache/tiers@0.1.0"]);
    let instance = component(r#"(component (instance $i) (export "run" (instance $i)))"#);
    let other = component(
        r#"(component
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func (export "run") (canon lift (core func $i "f"))))"#,
    );
    let number = component(
        r#"(component
            (core module $m (func (export "f") (param i32 i32) (result i32) unreachable)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                (memory (export "memory") 1))
            (core instance $i (instantiate $m))
            (func (export "run") (param "params" string) (result u32)
                (canon lift (core func $i "f") (memory (core memory $i "memory"))
                    (realloc (core func $i "realloc")))))"#,
    );
    for wasm in [none, instance, other, number] {
        let refusal = refusal(&wasm);
        assert_eq!((refusal.code, refusal.status()), ("no_run", 422));
        assert!(refusal.hint.contains("run: func"), "{}", refusal.hint);
    }
}

#[test]
fn what_would_take_long_to_compile_is_refused_before() {
    let additions = "i32.const 1 i32.add ".repeat(30_000);
    let bomb = component(&format!(
        "(component (core module (func (result i32) i32.const 1 {additions})))"
    ));
    let many = component(&format!(
        "(component (core module {}))",
        "(func)".repeat(5_001)
    ));
    let deep = component(&format!(
        "(component {}{})",
        "(component ".repeat(8),
        ")".repeat(8)
    ));
    for (wasm, what) in [
        (bomb, "bytes in one function"),
        (many, "functions"),
        (deep, "levels of nesting"),
    ] {
        let refusal = refusal(&wasm);
        assert_eq!(refusal.code, "compile_limit");
        assert!(refusal.message.contains(what), "{}", refusal.message);
    }
}

#[test]
fn what_one_call_hands_over_is_bounded_by_the_memory_of_the_grant() {
    // A thousand tags, all of them the same 60,000 bytes: one page names 60 MB.
    let wasm = component(
        r#"(component
            (import "larder:cache/tiers@0.1.0" (instance $tiers
                (type $e (enum "not-found" "unavailable" "refused" "too-large"))
                (export "error" (type $error (eq $e)))
                (type $o (record (field "lifetime" u64) (field "tags" (list string))
                    (field "tiers" (list string))))
                (export "put-options" (type $options (eq $o)))
                (export "put" (func (param "key" string) (param "body" (list u8))
                    (param "options" $options) (result (result (error $error)))))))
            (core module $memory (memory (export "memory") 2)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
            (core instance $memory (instantiate $memory))
            (core func $put (canon lower (func $tiers "put") (memory (core memory $memory "memory"))))
            (core module $main
                (import "host" "put" (func $put
                    (param i32 i32 i32 i32 i64 i32 i32 i32 i32 i32)))
                (import "memory" "memory" (memory 2))
                (func (export "run") (param i32 i32) (result i32) (local $at i32)
                    (local.set $at (i32.const 65536))
                    (loop $next
                        (i32.store offset=4 (local.get $at) (i32.const 60000))
                        (local.set $at (i32.add (local.get $at) (i32.const 8)))
                        (br_if $next (i32.lt_u (local.get $at) (i32.const 73536))))
                    (call $put (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0)
                        (i64.const 1) (i32.const 65536) (i32.const 1000) (i32.const 0) (i32.const 0)
                        (i32.const 80000))
                    unreachable))
            (core instance $main (instantiate $main
                (with "host" (instance (export "put" (func $put))))
                (with "memory" (instance $memory))))
            (func (export "run") (param "params" string) (result (result string (error string)))
                (canon lift (core func $main "run") (memory (core memory $memory "memory"))
                    (realloc (core func $memory "realloc")))))"#,
    );
    let engine = engine().expect("an engine");
    let program = Program::load(&engine, &wasm).expect("it is a program");
    for (memory, expected) in [(1 << 20, "fuel"), (100 << 20, "unreachable")] {
        let grant = Grant {
            site: "example".to_owned(),
            put_bytes: 0,
            deadline: Duration::from_secs(10),
            memory,
        };
        let chain = Chain::new(Arc::default(), SiteId(0), None).unwrap();
        let error = program.run(&grant, chain, &Map::new());
        let error = error.expect_err("it traps").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

//! Components written as text.

/// The interface of the keying hook.
pub(crate) const KEYING: &str = "larder:policy/keying@0.1.0";

/// The component that `text` describes.
#[track_caller]
pub(crate) fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// A keying policy with the right types, whose core module defines `key`.
pub(crate) fn keying(key: &str) -> Vec<u8> {
    typed_keying(
        key,
        r#"(param "request" $request) (result $verdict)"#,
        r#"(param "request" $named-request) (result $named-verdict)"#,
    )
}

/// A keying policy whose `key` has another signature than the interface.
pub(crate) fn keying_of_another_type() -> Vec<u8> {
    let key = r#"(func (export "key") (param i32 i32) (result i32) (i32.const 0))"#;
    let signature = r#"(param "request" string) (result u32)"#;
    typed_keying(key, signature, signature)
}

/// Types have to be exported by the instance whose functions use them, so the functions pass
/// through a component that does nothing but give the types their names.
fn typed_keying(key: &str, signature: &str, named: &str) -> Vec<u8> {
    let types = r#"
      (type $request (record (field "text" string) (field "method-end" u32)
        (field "authority-end" u32) (field "target-end" u32) (field "present" u32)))
      (type $cache-key (record (field "target" (option string)) (field "variant" string)))"#;
    let verdict = r#"(variant (case "pass") (case "key" "#;
    wasm(&format!(
        r#"(component
          (core module $core
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
            (func (export "configure") (param i32 i32) (result i32) (i32.const 1024))
            {key})
          (core instance $core (instantiate $core))
          {types}
          (type $verdict {verdict}$cache-key)))
          (func $configure (param "params" string) (result (result (list string) (error string)))
            (canon lift (core func $core "configure") (memory (core memory $core "memory"))
              (realloc (core func $core "realloc"))))
          (func $key {signature}
            (canon lift (core func $core "key") (memory (core memory $core "memory"))
              (realloc (core func $core "realloc"))))
          (component $named
            {types}
            (import "request" (type $imported-request (eq $request)))
            (import "cache-key" (type $imported-cache-key (eq $cache-key)))
            (type $verdict {verdict}$imported-cache-key)))
            (import "verdict" (type $imported-verdict (eq $verdict)))
            (import "configure" (func $configure (param "params" string)
              (result (result (list string) (error string)))))
            (import "key" (func $key {imported}))
            (export $named-request "request" (type $imported-request))
            (export $named-cache-key "cache-key" (type $imported-cache-key))
            (type $local-verdict {verdict}$named-cache-key)))
            (export $named-verdict "verdict" (type $local-verdict))
            (export "configure" (func $configure))
            (export "key" (func $key) (func {named})))
          (instance $keying (instantiate $named
            (with "request" (type $request)) (with "cache-key" (type $cache-key))
            (with "verdict" (type $verdict))
            (with "configure" (func $configure)) (with "key" (func $key))))
          (export "{KEYING}" (instance $keying)))"#,
        imported = signature
            .replace("$request", "$imported-request")
            .replace("$verdict", "$imported-verdict"),
    ))
}

/// A component that exports one function under the name of an interface; `core` is in its core
/// module.
pub(crate) fn exporting(interface: &str, core: &str) -> Vec<u8> {
    wasm(&format!(
        r#"(component
          (core module (func (export "f")) {core})
          (core instance (instantiate 0))
          (func (canon lift (core func 0 "f")))
          (instance (export "f" (func 0)))
          (export "{interface}" (instance 0)))"#
    ))
}

/// A component that imports an interface of WASI and would otherwise be a policy.
pub(crate) fn importing_wasi() -> Vec<u8> {
    wasm(&format!(
        r#"(component
          (import "wasi:clocks/monotonic-clock@0.2.6" (instance (export "now" (func (result u64)))))
          (core module (func (export "f")))
          (core instance (instantiate 0))
          (func (canon lift (core func 0 "f")))
          (instance (export "f" (func 1)))
          (export "{KEYING}" (instance 1)))"#
    ))
}

/// One function of 300,000 additions: seconds of compiling for a host that takes it.
pub(crate) fn compile_bomb() -> Vec<u8> {
    let additions = "i32.const 1 i32.add ".repeat(300_000);
    exporting(
        KEYING,
        &format!("(func (result i32) i32.const 1 {additions})"),
    )
}

/// As many functions, each as large, as pass inspection: the bomb that only the compiler's own
/// limits can stop or bear.
pub(crate) fn many_functions() -> Vec<u8> {
    let additions = "i32.const 1 i32.add ".repeat(12_000);
    let functions = format!("(func (result i32) i32.const 1 {additions})").repeat(25);
    exporting(KEYING, &functions)
}

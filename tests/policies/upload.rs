//! Bad uploads: each is refused with a clear answer, nothing is kept, nothing stops.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::load::{telling_origin, told};
use crate::site::{activate, active, at_hook, push, use_policy};
use crate::support::edge::{Edge, Setup};
use crate::{fixtures, text};

/// The parts of an error; fails unless it has all of them.
#[track_caller]
pub(crate) fn error(answer: &Value) -> (String, String, String) {
    let part = |name: &str| {
        let part = answer["error"][name]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(!part.is_empty(), "no {name}: {answer}");
        part
    };
    (part("code"), part("message"), part("hint"))
}

#[track_caller]
fn refused(edge: &Edge, path: &str, body: &[u8], status: u16, code: &str, words: &[&str]) {
    let (found, answer) = edge.admin_put(path, body);
    assert_eq!(found, status, "{path}: {answer}");
    let (found, message, hint) = error(&answer);
    assert_eq!(found, code, "{answer}");
    for word in words {
        assert!(
            message.contains(word) || hint.contains(word),
            "no {word:?}: {answer}"
        );
    }
}

/// Every file below `dir`.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path))
        } else {
            found.push(path)
        }
    }
    found.sort();
    found
}

#[test]
fn bad_components_are_refused_and_leave_nothing() {
    let origin = telling_origin();
    let edge = Setup::before(&origin)
        .set("limits.policy_upload", "2MiB")
        .keeping()
        .start();
    let version = push(&edge, fixtures::rogue());
    use_policy(&edge, "keying", "rogue", &json!({ "mode": "path" }));
    let before = (edge.admin_get("/v1/policies"), files(&edge.data_dir()));

    let rogue = fixtures::rogue();
    let module = text::wasm(r#"(module (func (export "key")))"#);
    let nowhere = text::exporting("somebody:else/thing@1.0.0", "");
    let other_version = text::exporting("larder:policy/keying@2.0.0", "");
    let other_hook = text::exporting("larder:policy/routing@0.1.0", "");
    let wasi = text::importing_wasi();
    let (mistyped, half) = (text::exporting(text::KEYING, ""), &rogue[..rogue.len() / 2]);
    let starting = text::exporting(text::KEYING, "(func $start unreachable) (start $start)");
    let flipped = {
        let mut wasm = text::keying(
            r#"(func (export "key") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 0))"#,
        );
        let at = wasm
            .windows(2)
            .position(|pair| pair == [0x41, 0x00])
            .expect("a constant");
        wasm[at] = 0xff;
        wasm
    };
    let too_large = vec![0; (2 << 20) + 1];
    let cases: [(&str, &[u8], u16, &str, &[&str]); 15] = [
        ("empty", b"", 400, "not_wasm", &["empty"]),
        (
            "script",
            b"#!/bin/sh\necho\n",
            400,
            "not_wasm",
            &["larder policy build"],
        ),
        ("wat", b"(component)", 400, "not_wasm", &["text"]),
        ("module", &module, 422, "core_module", &["component"]),
        ("magic", b"\0asm", 422, "truncated", &["byte 4"]),
        ("half", half, 422, "truncated", &["cut short"]),
        (
            "nowhere",
            &nowhere,
            422,
            "no_hook",
            &["somebody:else/thing", "larder:policy/keying"],
        ),
        (
            "version",
            &other_version,
            422,
            "wrong_version",
            &["2.0.0", "0.1.0"],
        ),
        ("hook", &other_hook, 422, "unknown_hook", &["routing"]),
        (
            "wasi",
            &wasi,
            422,
            "imports",
            &[
                "wasi:clocks/monotonic-clock@0.2.6",
                "wasm32-unknown-unknown",
            ],
        ),
        ("functions", &mistyped, 422, "wrong_signature", &["wit/"]),
        (
            "type",
            &text::keying_of_another_type(),
            422,
            "wrong_signature",
            &["expected `record`"],
        ),
        ("start", &starting, 422, "start_function", &["configure"]),
        (
            "invalid",
            &flipped,
            422,
            "invalid_component",
            &["illegal opcode"],
        ),
        (
            "large",
            &too_large,
            413,
            "too_large",
            &["2097152", "limits.policy_upload"],
        ),
    ];
    for (name, wasm, status, code, words) in cases {
        refused(
            &edge,
            &format!("/v1/policies/{name}"),
            wasm,
            status,
            code,
            words,
        );
    }
    refused(
        &edge,
        "/v1/policies/bomb",
        &text::compile_bomb(),
        422,
        "compile_limit",
        &["one function"],
    );

    assert_eq!(edge.admin_get("/v1/policies"), before.0);
    let left = files(&edge.data_dir());
    let left: Vec<_> = left.iter().filter(|file| !before.1.contains(file)).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    assert_eq!(active(&edge, "keying"), format!("rogue@{version}"));
    assert_eq!(edge.get("/a?b").text(), told("/a"));
}

#[test]
fn bad_names_are_refused() {
    let origin = telling_origin();
    let edge = Setup::before(&origin).keeping().start();
    let before = (edge.admin_get("/v1/policies"), files(&edge.data_dir()));
    let long = "a".repeat(65);
    for name in [
        "", "A", "-a", ".a", "a..b", "%2e%2e", "..", "a%2fb", "a%00", "ü", "a b", &long, "native",
        "native-x", "lru",
    ] {
        if name.contains([' ', 'ü']) {
            // No request target; the command escapes it, and so would any client.
            let escaped = name.replace(' ', "%20").replace('ü', "%C3%BC");
            refused(
                &edge,
                &format!("/v1/policies/{escaped}"),
                fixtures::rogue(),
                400,
                "bad_name",
                &[],
            );
        } else {
            refused(
                &edge,
                &format!("/v1/policies/{name}"),
                fixtures::rogue(),
                400,
                "bad_name",
                &[],
            );
        }
    }
    assert_eq!(
        (edge.admin_get("/v1/policies"), files(&edge.data_dir())),
        before
    );
}

#[test]
fn names_with_slashes_are_bad_names() {
    let origin = telling_origin();
    let edge = Setup::before(&origin).keeping().start();
    for name in ["../x", "a/b", "../../x", "a/b/c", "x/"] {
        refused(
            &edge,
            &format!("/v1/policies/{name}"),
            fixtures::rogue(),
            400,
            "bad_name",
            &[],
        );
    }
    assert!(!edge.dir().join("x").exists());
}

#[test]
fn known_bytes_are_known_and_an_active_policy_stays() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    let path = "/v1/policies/rogue";
    let (status, first) = edge.admin_put(path, fixtures::rogue());
    assert_eq!(status, 201, "{first}");
    assert_eq!(first["hooks"], json!(["keying", "freshness", "eviction"]));
    assert_eq!(first["bytes"], json!(fixtures::rogue().len()));
    let (status, again) = edge.admin_put(path, fixtures::rogue());
    assert_eq!((status, &again["version"]), (200, &first["version"]));
    let version = first["version"].as_str().expect("a version");

    use_policy(&edge, "keying", &format!("rogue@{version}"), &json!({}));
    let one = format!("/v1/policies/rogue/{version}");
    let (status, answer) = edge.admin_delete(&one);
    assert_eq!(
        (status, error(&answer).0.as_str()),
        (409, "in_use"),
        "{answer}"
    );
    use_policy(&edge, "keying", "native:default", &json!({}));
    let (status, answer) = edge.admin_delete("/v1/policies/rogue/000000000000");
    assert_eq!(
        (status, error(&answer).0.as_str()),
        (404, "unknown_version"),
        "{answer}"
    );
    let (status, answer) = edge.admin_delete("/v1/policies/rogue/xyz");
    assert_eq!(
        (status, error(&answer).0.as_str()),
        (400, "bad_version"),
        "{answer}"
    );
    let lru = edge.admin_get("/v1/policies").1["policies"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|policy| policy["name"] == "lru")
        .expect("it is shipped")["version"]
        .clone();
    let shipped = format!("/v1/policies/lru/{}", lru.as_str().expect("a version"));
    let (status, answer) = edge.admin_delete(&shipped);
    assert_eq!(
        (status, error(&answer).0.as_str()),
        (422, "shipped"),
        "{answer}"
    );
}

#[test]
fn what_a_rollback_needs_and_is_gone_is_said_and_changes_nothing() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    let version = push(&edge, fixtures::rogue());
    use_policy(&edge, "keying", "rogue", &json!({ "mode": "path" }));
    use_policy(&edge, "keying", "normalize-query", &json!({}));
    let before = at_hook(&edge, "keying");
    let (deleted, _) = edge.admin_delete(&format!("/v1/policies/rogue/{version}"));
    let (status, answer) = edge.admin_post("/v1/sites/default/rollback", &json!({}));
    if deleted == 200 {
        assert_eq!(
            (status, error(&answer).0.as_str()),
            (404, "unknown_policy"),
            "{answer}"
        );
        assert_eq!(at_hook(&edge, "keying"), before);
    } else {
        assert_eq!((deleted, status), (409, 200), "{answer}");
    }
}

#[test]
fn a_version_that_nothing_uses_is_deleted() {
    let origin = telling_origin();
    let edge = Setup::before(&origin).keeping().start();
    let before = files(&edge.data_dir());
    let version = push(&edge, fixtures::rogue());
    let (status, answer) = edge.admin_delete(&format!("/v1/policies/rogue/{version}"));
    assert_eq!(
        (status, &answer["deleted"]),
        (200, &json!(true)),
        "{answer}"
    );
    assert_eq!(files(&edge.data_dir()), before);
    let (status, answer) = activate(&edge, "keying", "rogue", &json!({}));
    assert_eq!(
        (status, error(&answer).0.as_str()),
        (404, "unknown_policy"),
        "{answer}"
    );
}

#[test]
fn refused_activations_change_nothing() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    push(&edge, fixtures::rogue());
    use_policy(&edge, "keying", "rogue", &json!({ "mode": "path" }));
    let before = at_hook(&edge, "keying");
    let check = |hook: &str, policy: &str, params: Value, status: u16, code: &str, words: &str| {
        let (found, answer) = activate(&edge, hook, policy, &params);
        assert_eq!(found, status, "{answer}");
        let (found, message, hint) = error(&answer);
        assert_eq!(found, code, "{answer}");
        assert!(message.contains(words) || hint.contains(words), "{answer}");
    };
    // The policy's own message reaches the operator.
    let nonsense = json!({ "mode": "nonsense" });
    check(
        "keying",
        "rogue",
        nonsense.clone(),
        422,
        "refused_parameters",
        "there is no mode",
    );
    check(
        "freshness",
        "rogue",
        nonsense.clone(),
        422,
        "refused_parameters",
        "there is no mode",
    );
    check(
        "eviction",
        "rogue",
        nonsense,
        422,
        "refused_parameters",
        "there is no mode",
    );
    check(
        "keying",
        "rogue",
        json!({ "mdoe": "path" }),
        422,
        "refused_parameters",
        "mdoe",
    );
    check(
        "keying",
        "rogue",
        json!({ "mode": 1 }),
        422,
        "refused_parameters",
        "mode",
    );
    check(
        "keying",
        "rogue",
        json!({ "mode": "refuse" }),
        422,
        "refused_parameters",
        "refuses",
    );
    check("keying", "lru", json!({}), 422, "wrong_hook", "eviction");
    check(
        "eviction",
        "normalize-query",
        json!({}),
        422,
        "wrong_hook",
        "keying",
    );
    check(
        "keying",
        "nobody",
        json!({}),
        404,
        "unknown_policy",
        "rogue",
    );
    check(
        "keying",
        "rogue@000000000000",
        json!({}),
        404,
        "unknown_version",
        "rogue",
    );
    check(
        "keying",
        "native:lru",
        json!({}),
        422,
        "unknown_policy",
        "native:default",
    );
    check(
        "keying",
        "native:default",
        json!({ "a": 1 }),
        422,
        "refused_parameters",
        "no parameters",
    );
    check("routing", "rogue", json!({}), 400, "bad_json", "routing");
    let (status, answer) = edge.admin_post(
        "/v1/sites/nowhere/policy",
        &json!({ "hook": "keying", "policy": "rogue" }),
    );
    assert_eq!(
        (status, error(&answer).0.as_str()),
        (404, "unknown_site"),
        "{answer}"
    );
    assert!(error(&answer).2.contains("default"), "{answer}");
    let (status, answer) =
        edge.admin_post("/v1/sites/default/policy", &json!({ "policy": "rogue" }));
    assert_eq!(
        (status, error(&answer).0.as_str()),
        (400, "hook_needed"),
        "{answer}"
    );
    assert_eq!(at_hook(&edge, "keying"), before);
    assert_eq!(edge.get("/a?b").text(), told("/a"));
}

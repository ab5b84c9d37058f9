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

/// Uploads `body` and fails unless the answer is `expected`, a status and a code, and says `words`.
#[track_caller]
fn refused(edge: &Edge, path: &str, body: &[u8], expected: &str, words: &str) {
    let (status, answer) = edge.admin_put(path, body);
    says(status, &answer, expected, words);
}

#[track_caller]
fn says(status: u16, answer: &Value, expected: &str, words: &str) {
    let (code, message, hint) = error(answer);
    assert_eq!(format!("{status} {code}"), expected, "{answer}");
    let said = message.contains(words) || hint.contains(words);
    assert!(said, "no {words:?}: {answer}");
}

/// Every file below `dir`.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A file, what an upload of it is answered, and words of the answer.
type Case = (Vec<u8>, &'static str, &'static str);

/// Files that are no component at all, or not all of one.
fn no_components() -> Vec<Case> {
    let rogue = fixtures::rogue();
    let module = text::wasm(r#"(module (func (export "key")))"#);
    let large = vec![0; (2 << 20) + 1];
    vec![
        (Vec::new(), "400 not_wasm", "empty"),
        (b"#!/bin/sh\n".to_vec(), "400 not_wasm", "policy build"),
        (b"(component)".to_vec(), "400 not_wasm", "text"),
        (module, "422 core_module", "component"),
        (b"\0asm".to_vec(), "422 truncated", "byte 4"),
        (rogue[..rogue.len() / 2].to_vec(), "422 truncated", "short"),
        (large, "413 too_large", "limits.policy_upload"),
    ]
}

/// Components that are no policies.
fn no_policies() -> Vec<Case> {
    let exporting = |name: &str| text::exporting(name, "");
    let starting = "(func $start unreachable) (start $start)";
    let starting = text::exporting(text::KEYING, starting);
    let wrong_hook = exporting("larder:policy/routing@0.1.0");
    vec![
        (exporting("a:b/c@1.0.0"), "422 no_hook", "a:b/c@1.0.0"),
        (
            exporting("a:b/c@1.0.0"),
            "422 no_hook",
            "larder:policy/keying",
        ),
        (
            exporting("larder:policy/keying@2.0.0"),
            "422 wrong_version",
            "2.0.0",
        ),
        (wrong_hook, "422 unknown_hook", "routing"),
        (
            text::importing_wasi(),
            "422 imports",
            "wasi:clocks/monotonic-clock@0.2.6",
        ),
        (
            text::importing_wasi(),
            "422 imports",
            "wasm32-unknown-unknown",
        ),
        (exporting(text::KEYING), "422 wrong_signature", "wit/"),
        (
            text::keying_of_another_type(),
            "422 wrong_signature",
            "expected `record`",
        ),
        (starting, "422 start_function", "configure"),
        (invalid(), "422 invalid_component", "illegal opcode"),
        (text::compile_bomb(), "422 compile_limit", "one function"),
    ]
}

/// A sound policy but for one instruction that does not exist.
fn invalid() -> Vec<u8> {
    let key = "(param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 0)";
    let mut wasm = text::keying(&format!(r#"(func (export "key") {key})"#));
    let constant = wasm.windows(2).position(|pair| pair == [0x41, 0]);
    wasm[constant.expect("an instruction")] = 0xff;
    wasm
}

#[test]
fn bad_components_are_refused_and_leave_nothing() {
    let origin = telling_origin();
    let setup = Setup::before(&origin).set("limits.policy_upload", "2MiB");
    let edge = setup.keeping().start();
    let version = push(&edge, fixtures::rogue());
    use_policy(&edge, "keying", "rogue", &json!({ "mode": "path" }));
    let before = (edge.admin_get("/v1/policies"), files(&edge.data_dir()));

    for (wasm, expected, words) in no_components().iter().chain(&no_policies()) {
        refused(&edge, "/v1/policies/bad", wasm, expected, words);
    }

    assert_eq!(edge.admin_get("/v1/policies"), before.0);
    assert_eq!(active(&edge, "keying"), format!("rogue@{version}"));
    assert_eq!(edge.get("/a?b").text(), told("/a"));
    let left = files(&edge.data_dir());
    let left: Vec<_> = left
        .iter()
        .filter(|file| !before.1.contains(file))
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
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
                "400 bad_name",
                "name",
            );
        } else {
            refused(
                &edge,
                &format!("/v1/policies/{name}"),
                fixtures::rogue(),
                "400 bad_name",
                "name",
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
            "400 bad_name",
            "name",
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

/// Hook, policy and parameters of an activation, the answer, and words of it.
const BAD_ACTIVATIONS: [(&str, &str, &str, &str, &str); 13] = [
    (
        "keying",
        "rogue",
        r#"{"mode":"x"}"#,
        REFUSED,
        "there is no mode",
    ),
    (
        "freshness",
        "rogue",
        r#"{"mode":"x"}"#,
        REFUSED,
        "there is no mode",
    ),
    (
        "eviction",
        "rogue",
        r#"{"mode":"x"}"#,
        REFUSED,
        "there is no mode",
    ),
    ("keying", "rogue", r#"{"mdoe":"path"}"#, REFUSED, "mdoe"),
    ("keying", "rogue", r#"{"mode":1}"#, REFUSED, "mode"),
    (
        "keying",
        "rogue",
        r#"{"mode":"refuse"}"#,
        REFUSED,
        "refuses",
    ),
    ("keying", "lru", "{}", "422 wrong_hook", "eviction"),
    (
        "eviction",
        "normalize-query",
        "{}",
        "422 wrong_hook",
        "keying",
    ),
    ("keying", "nobody", "{}", "404 unknown_policy", "rogue"),
    (
        "keying",
        "rogue@000000000000",
        "{}",
        "404 unknown_version",
        "rogue",
    ),
    (
        "keying",
        "native:lru",
        "{}",
        "422 unknown_policy",
        "native:default",
    ),
    (
        "keying",
        "native:default",
        r#"{"a":1}"#,
        REFUSED,
        "no parameters",
    ),
    ("routing", "rogue", "{}", "400 bad_json", "routing"),
];
const REFUSED: &str = "422 refused_parameters";

#[test]
fn refused_activations_change_nothing() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    push(&edge, fixtures::rogue());
    use_policy(&edge, "keying", "rogue", &json!({ "mode": "path" }));
    let before = at_hook(&edge, "keying");
    for (hook, policy, params, expected, words) in BAD_ACTIVATIONS {
        let params = serde_json::from_str(params).expect("JSON");
        let (status, answer) = activate(&edge, hook, policy, &params);
        says(status, &answer, expected, words);
    }
    let rogue = json!({ "hook": "keying", "policy": "rogue" });
    let (status, answer) = edge.admin_post("/v1/sites/nowhere/policy", &rogue);
    says(
        status,
        &answer,
        "404 unknown_site",
        "the sites are: default",
    );
    let rogue = json!({ "policy": "rogue" });
    let (status, answer) = edge.admin_post("/v1/sites/default/policy", &rogue);
    says(
        status,
        &answer,
        "400 hook_needed",
        "keying, freshness, eviction",
    );
    assert_eq!(at_hook(&edge, "keying"), before);
    assert_eq!(edge.get("/a?b").text(), told("/a"));
}

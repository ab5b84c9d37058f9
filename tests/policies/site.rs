//! What the tests do with a site: push, activate, and see what runs.

use serde_json::{Value, json};

use crate::support::edge::Edge;

/// The name that tests push under.
pub(crate) const NAME: &str = "rogue";

/// Pushes `wasm` as [`NAME`]; its version.
#[track_caller]
pub(crate) fn push(edge: &Edge, wasm: &[u8]) -> String {
    push_as(edge, NAME, wasm)
}

#[track_caller]
pub(crate) fn push_as(edge: &Edge, name: &str, wasm: &[u8]) -> String {
    let (status, answer) = edge.admin_put(&format!("/v1/policies/{name}"), wasm);
    assert!(matches!(status, 200 | 201), "{status} {answer}");
    answer["version"].as_str().expect("a version").to_owned()
}

/// Asks for `policy` at `hook` of the default site.
pub(crate) fn activate(edge: &Edge, hook: &str, policy: &str, params: &Value) -> (u16, Value) {
    let body = json!({ "hook": hook, "policy": policy, "params": params });
    edge.admin_post("/v1/sites/default/policy", &body)
}

/// Puts `policy` in effect at `hook` of the default site; the answer.
#[track_caller]
pub(crate) fn use_policy(edge: &Edge, hook: &str, policy: &str, params: &Value) -> Value {
    let (status, answer) = activate(edge, hook, policy, params);
    assert_eq!(status, 200, "{answer}");
    answer
}

/// What `/v1/stats` says of `hook` of the default site.
#[track_caller]
pub(crate) fn at_hook(edge: &Edge, hook: &str) -> Value {
    at_site(edge, "default", hook)
}

#[track_caller]
pub(crate) fn at_site(edge: &Edge, site: &str, hook: &str) -> Value {
    let stats = edge.stats();
    let sites = stats["sites"].as_array().expect("sites");
    let found = sites
        .iter()
        .find(|each| each["name"] == site)
        .expect("the site");
    found["policies"][hook].clone()
}

/// The label of what runs at `hook` of the default site.
#[track_caller]
pub(crate) fn active(edge: &Edge, hook: &str) -> String {
    at_hook(edge, hook)["active"]
        .as_str()
        .expect("a label")
        .to_owned()
}

/// Calls at `hook` so far, of all policies together.
#[track_caller]
pub(crate) fn calls(edge: &Edge, hook: &str) -> u64 {
    edge.metrics()
        .count("larder_policy_calls_total", &[&format!("hook=\"{hook}\"")])
}

/// Faults of `policy` at `hook`, of one kind or of all.
#[track_caller]
pub(crate) fn faults(edge: &Edge, policy: &str, hook: &str, kind: Option<&str>) -> u64 {
    let labels = [
        Some(format!("policy=\"{policy}\"")),
        Some(format!("hook=\"{hook}\"")),
        kind.map(|kind| format!("kind=\"{kind}\"")),
    ];
    let labels: Vec<&str> = labels.iter().flatten().map(String::as_str).collect();
    edge.metrics().count("larder_policy_faults_total", &labels)
}

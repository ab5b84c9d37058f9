//! What survives an end, and what does not run again.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::fixtures;
use crate::load::{telling_origin, told};
use crate::site::{active, at_hook, push, use_policy};
use crate::support::edge::{Edge, Setup};
use crate::support::origin::Origin;

#[track_caller]
fn only_file(dir: &Path, start: &str, extension: &str) -> PathBuf {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|own| own == extension))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(start))
        })
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// An edge with a data directory whose keying is `rogue` with `mode` `path`, and that label.
fn keeper(origin: &Origin) -> (Edge, String) {
    let edge = Setup::before(origin).keeping().start();
    let version = push(&edge, fixtures::rogue());
    use_policy(&edge, "keying", "rogue", &json!({ "mode": "path" }));
    (edge, format!("rogue@{version}"))
}

#[track_caller]
fn keyed_by_path(edge: &Edge, label: &str) {
    let state = at_hook(edge, "keying");
    assert_eq!(state["active"], json!(label), "{state}");
    assert_eq!(state["params"], json!({ "mode": "path" }), "{state}");
    assert_eq!(state["source"], "use", "{state}");
    assert_eq!(edge.get("/a?b").text(), told("/a"));
}

#[test]
fn policies_and_activations_survive_a_restart_and_a_kill() {
    let origin = telling_origin();
    let (mut edge, label) = keeper(&origin);
    let policies = edge.admin_get("/v1/policies");
    edge.restart();
    keyed_by_path(&edge, &label);
    assert_eq!(edge.admin_get("/v1/policies"), policies);
    edge.kill();
    edge.restart();
    keyed_by_path(&edge, &label);
    assert_eq!(edge.admin_get("/v1/policies"), policies);
    // It and the shipped policy for eviction: a start compiles nothing.
    let metrics = edge.metrics();
    let outcomes = ["loaded", "compiled"];
    let count = |outcome| {
        metrics.count(
            "larder_artefacts_total",
            &[&format!("outcome=\"{outcome}\"")],
        )
    };
    assert_eq!(outcomes.map(count), [2, 0]);

    // The history as well.
    let (status, answer) = edge.admin_post("/v1/sites/default/rollback", &json!({}));
    assert_eq!(
        (status, &answer["active"]),
        (200, &json!("native:default")),
        "{answer}"
    );
    edge.kill();
    edge.restart();
    assert_eq!(active(&edge, "keying"), "native:default");
}

#[test]
fn without_a_data_directory_uploads_end_with_the_process() {
    let origin = telling_origin();
    let mut edge = Edge::before(&origin);
    push(&edge, fixtures::rogue());
    use_policy(&edge, "keying", "rogue", &json!({ "mode": "path" }));
    assert!(edge.log().contains("no data_dir"), "{}", edge.log());
    edge.restart();
    assert_eq!(active(&edge, "keying"), "native:default");
}

#[test]
fn a_damaged_artefact_is_compiled_again() {
    let origin = telling_origin();
    let (mut edge, label) = keeper(&origin);
    let version = label.strip_prefix("rogue@").expect("its name");
    let artefact = only_file(&edge.data_dir().join("compiled"), version, "cwasm");
    let sound = fs::read(&artefact).expect("an artefact");
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 1;
    let mut longer = sound.clone();
    longer.push(0);
    let damages: [(&str, &[u8]); 5] = [
        ("a flipped bit", &flipped),
        ("cut short", &sound[..sound.len() / 2]),
        ("one byte more", &longer),
        ("empty", b""),
        ("something else", b"\x7fELF"),
    ];
    for (what, bytes) in damages {
        edge.stop();
        fs::write(&artefact, bytes).expect("written");
        edge.restart();
        keyed_by_path(&edge, &label);
        let metrics = edge.metrics();
        let outcome = |outcome: &str| metrics.count("larder_artefacts_total", &[outcome]);
        let counts =
            ["rejected", "compiled", "loaded"].map(|each| outcome(&format!("outcome=\"{each}\"")));
        // The shipped policy for eviction is loaded as it was.
        assert_eq!(counts, [1, 1, 1], "{what}");
        assert!(
            edge.log().contains("will be compiled again"),
            "{what}: {}",
            edge.log()
        );
        edge.restart();
        assert_eq!(
            edge.metrics()
                .count("larder_artefacts_total", &["outcome=\"loaded\""]),
            2,
            "{what}"
        );
    }
    // Signed by another host's key, it is foreign, however sound.
    edge.stop();
    fs::remove_file(edge.data_dir().join("state/artefact.key")).expect("it was there");
    edge.restart();
    keyed_by_path(&edge, &label);
    assert_eq!(
        edge.metrics()
            .count("larder_artefacts_total", &["outcome=\"rejected\""]),
        2
    );
}

#[test]
fn a_damaged_policy_is_not_run_and_the_site_is_served() {
    let origin = telling_origin();
    let (mut edge, _) = keeper(&origin);
    let wasm = only_file(&edge.data_dir().join("policies/rogue"), "", "wasm");
    edge.stop();
    let mut bytes = fs::read(&wasm).expect("a component");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&wasm, &bytes).expect("written");
    edge.restart();
    assert_eq!(active(&edge, "keying"), "native:default");
    assert_eq!(edge.get("/a?b").text(), told("/a?b"));
    // Pushing it again repairs it.
    push(&edge, fixtures::rogue());
    use_policy(
        &edge,
        "keying",
        "rogue",
        &json!({ "mode": "path", "variant": "again" }),
    );
    assert_eq!(edge.get("/a?b").text(), told("/a"));
}

#[test]
fn a_damaged_state_file_leaves_the_configuration_in_effect() {
    let origin = telling_origin();
    let (mut edge, _) = keeper(&origin);
    edge.kill();
    let state = edge.data_dir().join("state/activations.json");
    fs::write(&state, b"{\"half\":").expect("written");
    edge.restart();
    assert_eq!(active(&edge, "keying"), "native:default");
    assert_eq!(edge.get("/a?b").text(), told("/a?b"));
}

fn config(origin: &Origin, keying: &str) -> String {
    let url = origin.url();
    let keying = if keying.is_empty() {
        String::new()
    } else {
        format!("keying = {keying}\n")
    };
    format!("[[site]]\nname = \"default\"\norigin = \"{url}\"\n[site.policy]\n{keying}")
}

#[test]
fn an_operators_choice_lasts_until_the_file_changes_its_mind() {
    let origin = telling_origin();
    let file = config(&origin, "\"normalize-query\"");
    let mut edge = Setup::new().config(&file).keeping().start();
    assert_eq!(at_hook(&edge, "keying")["source"], "file");
    push(&edge, fixtures::rogue());
    use_policy(&edge, "keying", "rogue", &json!({ "mode": "path" }));
    let label = active(&edge, "keying");

    // The same file, and one that differs elsewhere, leave it.
    assert!(edge.reload(&file).contains("reloaded"));
    keyed_by_path(&edge, &label);
    edge.reload(&format!("{file}eviction = \"lru\"\n"));
    keyed_by_path(&edge, &label);
    edge.restart();
    keyed_by_path(&edge, &label);

    // Its own value overrides, at a reload or at a start.
    edge.reload(&config(&origin, "\"device-class\""));
    let state = at_hook(&edge, "keying");
    assert!(
        state["active"]
            .as_str()
            .is_some_and(|label| label.starts_with("device-class@")),
        "{state}"
    );
    assert_eq!(state["source"], "file");
    use_policy(&edge, "keying", "rogue", &json!({ "mode": "path" }));
    edge.stop();
    edge.set_config(&config(&origin, ""));
    edge.restart();
    let state = at_hook(&edge, "keying");
    assert_eq!(
        (&state["active"], &state["source"]),
        (&json!("native:default"), &json!("file"))
    );
}

#[test]
fn a_bare_name_in_the_file_is_pinned() {
    let origin = telling_origin();
    let mut edge = Setup::new().config(&config(&origin, "")).keeping().start();
    let first = push(&edge, fixtures::rogue());
    edge.reload(&config(
        &origin,
        "{ name = \"rogue\", params = { mode = \"path\" } }",
    ));
    let pinned = json!(format!("rogue@{first}"));
    assert_eq!(at_hook(&edge, "keying")["active"], pinned);
    let second = push(&edge, &fixtures::rogue_again(1));
    assert_ne!(first, second);
    for end in [Edge::restart, |edge: &mut Edge| {
        edge.kill();
        edge.restart();
    }] {
        end(&mut edge);
        let state = at_hook(&edge, "keying");
        assert_eq!(
            (&state["active"], &state["source"]),
            (&pinned, &json!("file"))
        );
        assert_eq!(state["params"], json!({ "mode": "path" }));
    }
    // A version in the file is that version.
    let wanted = format!("{{ name = \"rogue\", version = \"{second}\" }}");
    edge.reload(&config(&origin, &wanted));
    assert_eq!(active(&edge, "keying"), format!("rogue@{second}"));
}

#[test]
fn a_file_that_names_an_unknown_policy_keeps_the_old() {
    let origin = telling_origin();
    let file = config(&origin, "\"normalize-query\"");
    let mut edge = Setup::new().config(&file).keeping().start();
    let before = at_hook(&edge, "keying");
    let said = edge.reload(&config(&origin, "\"nobody\""));
    assert!(
        said.contains("not reloaded") && said.contains("nobody"),
        "{said}"
    );
    assert_eq!(at_hook(&edge, "keying"), before);
    edge.stop();
    let ended = Setup::new()
        .config(&config(&origin, "\"nobody\""))
        .try_start();
    let ended = ended.expect_err("it does not start");
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    assert!(
        ended.log.contains("larder.toml:") && ended.log.contains("site[0].policy.keying"),
        "{}",
        ended.log
    );
}

#[test]
fn rollback_goes_back_step_by_step() {
    let origin = telling_origin();
    let edge = Setup::before(&origin).keeping().start();
    push(&edge, fixtures::rogue());
    let roll_back = |body: Value| edge.admin_post("/v1/sites/default/rollback", &body);
    let (status, answer) = roll_back(json!({}));
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("nothing_to_roll_back")),
        "{answer}"
    );
    let one = use_policy(&edge, "keying", "rogue", &json!({ "mode": "path" }));
    assert_eq!(
        (&one["previous"], &one["hook"]),
        (&json!("native:default"), &json!("keying"))
    );
    let two = use_policy(&edge, "freshness", "rogue", &json!({ "mode": "forever" }));
    use_policy(&edge, "keying", "rogue", &json!({ "mode": "echo" }));
    assert!(two["generation"].as_u64() > one["generation"].as_u64());

    let (_, answer) = roll_back(json!({}));
    assert_eq!(answer["hook"], "keying", "{answer}");
    assert_eq!(
        at_hook(&edge, "keying")["params"],
        json!({ "mode": "path" })
    );
    let (_, answer) = roll_back(json!({ "hook": "keying" }));
    assert_eq!(answer["active"], "native:default", "{answer}");
    assert!(active(&edge, "freshness").starts_with("rogue@"));
    let (_, answer) = roll_back(json!({}));
    assert_eq!(
        (&answer["hook"], &answer["active"]),
        (&json!("freshness"), &json!("native:rfc9111")),
        "{answer}"
    );
}

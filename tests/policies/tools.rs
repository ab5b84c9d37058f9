//! The life of a policy by the commands of the program, as the README tells it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::fixtures::{building, file, rogue};
use crate::load::{telling_origin, told};
use crate::site::{active, at_hook};
use crate::support::edge::{Edge, LARDER, Setup};

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// A command that succeeds; what it prints.
#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).expect("text")
}

/// A client command for `edge`.
fn larder(edge: &Edge, arguments: &[&str]) -> Command {
    let mut command = Command::new(LARDER);
    command
        .args(arguments)
        .args(["--admin", &edge.admin_address().to_string()]);
    command
        .env("NO_COLOR", "1")
        .env_remove("LARDER_TOKEN_FILE")
        .stdin(Stdio::null());
    command
}

/// A command that fails with `code`; what it says.
#[track_caller]
fn fails(command: &mut Command, code: i32) -> String {
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    assert!(output.stdout.is_empty(), "{}", said(&output));
    String::from_utf8(output.stderr).expect("text")
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The version that `policy push` printed.
fn version(pushed: &str) -> String {
    let line = pushed
        .lines()
        .find_map(|line| line.strip_prefix("version:"));
    line.expect("a version").trim().to_owned()
}

#[test]
fn a_policy_of_each_hook_is_written_built_and_used() {
    let origin = telling_origin();
    let edge = Setup::before(&origin).keeping().start();
    let home = tempfile::tempdir().expect("a directory");
    for hook in ["keying", "freshness", "eviction"] {
        let name = format!("my-{hook}");
        let dir = home.path().join(&name);
        let at = dir.to_str().expect("UTF-8");
        let new = succeeds(building("new").args(["policy", "new", &name, at, "--hook", hook]));
        assert!(new.contains("larder policy build"), "{new}");
        let tested = building("new")
            .args(["policy", "test", at])
            .output()
            .expect("it runs");
        assert!(
            tested.status.success() && said(&tested).contains("test result: ok"),
            "{}",
            said(&tested)
        );
        succeeds(building("new").args(["policy", "build", at]));
        let wasm = dir.join(format!("{name}.wasm"));
        let wasm = wasm.to_str().expect("UTF-8");
        let checked = succeeds(building("new").args(["policy", "check", wasm]));
        let pushed = succeeds(&mut larder(
            &edge,
            &["policy", "push", wasm, "--name", &name],
        ));
        let version = version(&pushed);
        assert!(
            checked.contains(&version) && checked.contains(hook),
            "{checked}"
        );
        let listed = succeeds(&mut larder(&edge, &["policy", "list"]));
        assert!(
            listed
                .lines()
                .any(|line| line.contains(&name) && line.contains(&version)),
            "{listed}"
        );
        let id = format!("{name}@{version}");
        succeeds(&mut larder(
            &edge,
            &["policy", "use", &id, "--site", "default"],
        ));
        assert_eq!(active(&edge, hook), id);
    }
    // The template of keying drops what only tracks visitors.
    assert_eq!(edge.get("/a?utm_source=x").text(), told("/a"));
    let rolled = succeeds(&mut larder(
        &edge,
        &[
            "policy", "rollback", "--site", "default", "--hook", "keying",
        ],
    ));
    assert!(rolled.contains("native:default"), "{rolled}");
    assert_eq!(edge.get("/a?utm_source=x").text(), told("/a?utm_source=x"));
}

#[test]
fn parameters_given_on_the_command_line_show_in_stat() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    let wasm = file("tools-rogue.wasm", rogue());
    let wasm = wasm.to_str().expect("UTF-8");
    succeeds(&mut larder(
        &edge,
        &["policy", "push", wasm, "--name", "rogue"],
    ));
    let site = ["--site", "default", "--hook", "keying"];
    let params = r#"{"mode":"path","variant":"v9"}"#;
    let used = [
        &["policy", "use", "rogue"],
        &site[..],
        &["--params", params],
    ]
    .concat();
    succeeds(&mut larder(&edge, &used));
    assert_eq!(at_hook(&edge, "keying")["params"], json_of(params));
    let stat = succeeds(&mut larder(&edge, &["stat"]));
    assert!(stat.contains("rogue@") && stat.contains("v9"), "{stat}");
    let stat = json_of(&succeeds(&mut larder(&edge, &["stat", "--json"])));
    assert_eq!(
        stat["sites"][0]["policies"]["keying"]["params"],
        json_of(params)
    );
    let explained = succeeds(&mut larder(
        &edge,
        &["explain", "http://edge.test/a?b", "--json"],
    ));
    let explained = json_of(&explained);
    assert_eq!(
        (&explained["asked_of_origin"], &explained["variant"]),
        (&json!("/a"), &json!("v9"))
    );
}

#[test]
fn what_the_server_refuses_the_commands_say() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    let script = file("tools-script.wasm", b"#!/bin/sh\n");
    let script = script.to_str().expect("UTF-8");
    let message = fails(
        &mut larder(&edge, &["policy", "push", script, "--name", "x"]),
        1,
    );
    assert!(
        message.contains("error: the upload is not WebAssembly"),
        "{message}"
    );
    assert!(message.contains("hint: "), "{message}");
    let message = fails(
        &mut larder(&edge, &["policy", "use", "nobody", "--site", "default"]),
        1,
    );
    assert!(
        message.contains("nobody") && message.contains("hint: "),
        "{message}"
    );
    let message = fails(
        &mut larder(&edge, &["policy", "use", "lru", "--site", "nowhere"]),
        1,
    );
    assert!(
        message.contains("nowhere") && message.contains("default"),
        "{message}"
    );
    let params = [
        "policy", "use", "lru", "--site", "default", "--params", "[]",
    ];
    fails(&mut larder(&edge, &params), 2);
    for name in ["../x", "a/b", "A", "", "native:x"] {
        fails(
            &mut larder(&edge, &["policy", "push", script, "--name", name]),
            2,
        );
    }
    fails(
        &mut larder(&edge, &["policy", "push", "/nowhere.wasm", "--name", "x"]),
        1,
    );
    let checked = Command::new(LARDER)
        .args(["policy", "check", script])
        .output()
        .expect("it runs");
    assert_eq!(checked.status.code(), Some(1), "{}", said(&checked));
    let nobody = Command::new(LARDER)
        .args(["stat", "--admin", "127.0.0.1:1"])
        .output()
        .expect("it runs");
    assert_eq!(nobody.status.code(), Some(1), "{}", said(&nobody));
}

#[test]
fn a_new_policy_does_not_overwrite_and_has_a_good_name() {
    let home = tempfile::tempdir().expect("a directory");
    let taken = home.path().join("taken");
    fs::create_dir(&taken).expect("a directory");
    fs::write(taken.join("file"), "mine").expect("a file");
    let new = |name: &str, dir: &Path| {
        let mut command = Command::new(LARDER);
        command
            .args(["policy", "new", name])
            .arg(dir)
            .stdin(Stdio::null());
        command
    };
    fails(&mut new("taken", &taken), 1);
    assert_eq!(
        fs::read_to_string(taken.join("file")).expect("kept"),
        "mine"
    );
    for name in ["../x", "a/b", "A", "lru", "native-x", ""] {
        fails(&mut new(name, &home.path().join("new")), 2);
    }
    assert!(!home.path().join("new").exists());
}

//! What a purge removed below memory is counted in its receipt, once that has settled.

use serde_json::{Value, json};

use crate::below::{ALL, Below, forget, restart};
use crate::support::edge::{Edge, Setup, run};
use crate::support::eventually;
use crate::support::origin::Origin;
use crate::support::reply::Reply;

/// An edge that has fetched `/a` to `/d`, which are tagged `red`, and nothing in memory.
fn edge(below: Below) -> Edge {
    let origin = Origin::always(Reply::cached("content").field("Surrogate-Key", "red"));
    let mut edge = below.setup(&origin).start();
    for path in ["/a", "/b", "/c", "/d"] {
        edge.get(path);
    }
    forget(&mut edge);
    edge
}

#[track_caller]
fn purge(edge: &Edge, what: &Value) -> Value {
    let (status, receipt) = edge.admin_post("/v1/purge", what);
    assert_eq!(status, 200, "{receipt}");
    receipt
}

/// The receipt of `made`, once it has settled.
#[track_caller]
pub(crate) fn settled(edge: &Edge, made: &Value) -> Value {
    let path = format!("/v1/purge/{}", made["id"].as_str().expect("an id"));
    eventually("the purge to settle", || {
        edge.admin_get(&path).1.get("settled") == Some(&Value::Bool(true))
    });
    edge.admin_get(&path).1
}

/// What `larder purge` answers: its code and what it prints.
fn command(edge: &Edge, arguments: &[&str]) -> (Option<i32>, String) {
    let admin = edge.admin_address().to_string();
    let all = [&["purge", "--admin", &admin], arguments].concat();
    let ended = run(&all);
    let text = String::from_utf8(ended.stdout).expect("text");
    (ended.status.code(), text)
}

#[test]
fn what_lies_on_disk_is_counted_once_and_removed_there() {
    let edge = edge(Below::Disk);
    assert!(edge.get("/a").is_hit(), "now memory has it as well");
    let dry = purge(&edge, &json!({"tags": ["red"], "dry_run": true}));
    assert_eq!(
        (&dry["entries"], &dry["settled"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(settled(&edge, &dry)["entries"], 4);
    let one = purge(&edge, &json!({"urls": ["http://edge.test/b"]}));
    assert_eq!(one["entries"], 0);
    let one = settled(&edge, &one);
    assert_eq!((&one["entries"], &one["bytes"]), (&json!(1), &json!(7)));
    let rest = settled(&edge, &purge(&edge, &json!({"tags": ["red"]})));
    assert_eq!(
        rest["entries"], 3,
        "the first purge has counted one of them"
    );
    let again = settled(&edge, &purge(&edge, &json!({"all": true})));
    assert_eq!((&again["entries"], &again["bytes"]), (&json!(0), &json!(0)));
    let stats = edge.stats();
    assert_eq!(stats["tiers"][1]["entries"], 0, "{stats}");
    let metrics = edge.metrics();
    let removed = metrics.count("larder_purged_entries_total", &["effect=\"hard\""]);
    assert_eq!(removed, 4);
    assert_eq!(metrics.count("larder_purges_unsettled", &[]), 0);
}

#[test]
fn a_soft_purge_counts_what_lies_on_disk_and_leaves_it() {
    let edge = edge(Below::Disk);
    let softened = settled(
        &edge,
        &purge(&edge, &json!({"tags": ["red"], "soft": true})),
    );
    assert_eq!(softened["entries"], 4);
    let removed = settled(&edge, &purge(&edge, &json!({"tags": ["red"]})));
    assert_eq!(removed["entries"], 4, "they were there still");
}

/// What is stored after a purge is newer, whenever the walk for its receipt comes by.
#[test]
fn what_is_stored_while_a_purge_settles_stays() {
    let edge = edge(Below::Disk);
    let get_all = || {
        for path in ["/a", "/b", "/c", "/d"] {
            edge.get(path);
        }
    };
    // What memory holds is counted at once. On disk what is new may replace what was purged before
    // the walk comes by, and then nobody counts it.
    get_all();
    for round in 1..=20 {
        let made = purge(&edge, &json!({"all": true}));
        get_all();
        edge.flush();
        assert_eq!(settled(&edge, &made)["entries"], 4, "round {round}");
        let (_, listed) = edge.admin_get("/v1/entries?tier=disk");
        assert_eq!(listed["entries"].as_array().map(Vec::len), Some(4));
    }
}

#[test]
fn an_object_store_is_covered_and_said_not_to_be_counted() {
    for below in [Below::Store, Below::Both] {
        let edge = edge(below);
        let made = purge(&edge, &json!({"tags": ["red"]}));
        assert_eq!(made["settled"], below == Below::Store, "{made}");
        let receipt = settled(&edge, &made);
        assert_eq!(receipt["uncounted"], json!(["object_store"]));
        let on_disk = if below == Below::Both { 4 } else { 0 };
        assert_eq!(receipt["entries"], on_disk);
        assert!(!edge.get("/a").is_hit());
    }
}

#[test]
fn the_command_waits_and_tells_nothing_from_not_known() {
    let edge = edge(Below::Disk);
    let url = ["--url", "http://edge.test/a"];
    let (code, text) = command(&edge, &[&url[..], &["--dry-run"]].concat());
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("entries:  1\n"),
        "of what lies on disk alone: {text}"
    );
    let (code, text) = command(&edge, &[&url[..], &["--wait"]].concat());
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("entries:  1\n") && text.contains("settled:  true"),
        "{text}"
    );
    let (code, text) = command(&edge, &[&url[..], &["--wait"]].concat());
    assert_eq!(code, Some(3), "{text}");
    let origin = Origin::always(Reply::cached("x"));
    let memory = Setup::before(&origin).start();
    assert_eq!(command(&memory, &url).0, Some(3), "all is counted at once");
    let answer = memory.client().request("PURGE", "/a", &[], b"");
    assert_eq!(answer.status(), 404);
    let answer = edge.client().request("PURGE", "/a", &[], b"");
    assert_eq!(answer.status(), 200, "it may lie on disk");
}

#[test]
fn receipts_end_with_the_process_and_their_names_are_not_used_again() {
    for below in ALL {
        let mut edge = edge(below);
        let made = purge(&edge, &json!({"tags": ["red"]}));
        restart(&mut edge);
        let path = format!("/v1/purge/{}", made["id"].as_str().expect("an id"));
        purge(&edge, &json!({"all": true}));
        let (status, answer) = edge.admin_get(&path);
        assert_eq!(status, 404, "{answer}");
        assert_eq!(answer["error"]["code"], "unknown_purge");
        assert!(
            !edge.get("/a").is_hit(),
            "{below:?}: the purge stays in force"
        );
    }
}

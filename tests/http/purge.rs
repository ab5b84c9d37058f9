//! Purges by the command and by the admin API.

use serde_json::json;

use crate::support::client::{HOST, request};
use crate::support::edge::{self, Edge, Setup};
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::{Gate, Reply};

fn url(target: &str) -> String {
    format!("http://{HOST}{target}")
}

/// `larder purge` with these arguments: exit code and standard output.
fn purge(edge: &Edge, arguments: &[&str]) -> (Option<i32>, String) {
    let admin = edge.admin_address().to_string();
    let mut all = vec!["purge", "--admin", &admin];
    all.extend_from_slice(arguments);
    let output = edge::run(&all);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text)
}

#[test]
fn a_url_is_purged_with_all_its_variants() {
    let origin = Origin::answering(|asked| {
        let reply = Reply::cached(asked.target.clone());
        if asked.path() == "/v" {
            reply.field("Vary", "X")
        } else {
            reply
        }
    });
    let edge = Edge::before(&origin);
    let fill = || {
        for x in ["1", "2"] {
            edge.get_with("/v", &[("X", x)]);
        }
        edge.get("/b");
    };
    fill();
    let before = origin.total();
    let (code, text) = purge(&edge, &["--url", &url("/v")]);
    assert_eq!(code, Some(0), "{text}");
    fill();
    assert_eq!(origin.total() - before, 2, "/b stayed");
    let (code, _) = purge(&edge, &["--url", &url("/nothing")]);
    assert_eq!(code, Some(3), "nothing matched");
}

#[test]
fn a_dry_run_only_counts() {
    let origin = Origin::always(Reply::cached("content"));
    let edge = Edge::before(&origin);
    edge.get("/a");
    let (status, counted) = edge.admin_post(
        "/v1/purge",
        &json!({ "urls": [url("/a")], "dry_run": true }),
    );
    assert_eq!((status, &counted["entries"]), (200, &json!(1)), "{counted}");
    assert!(edge.get("/a").is_hit());
    let (status, purged) = edge.admin_post("/v1/purge", &json!({ "urls": [url("/a")] }));
    assert_eq!((status, &purged["entries"]), (200, &json!(1)), "{purged}");
    assert_eq!(purged["bytes"], counted["bytes"]);
    let id = purged["id"].as_str().expect("an id");
    assert_eq!(
        edge.admin_get(&format!("/v1/purge/{id}")),
        (200, purged.clone())
    );
    assert!(!edge.get("/a").is_hit());
}

#[test]
fn all_of_one_site_or_of_every_site_is_purged() {
    let origin = Origin::answering(|asked| Reply::cached(asked.target.clone()));
    let site = |name: &str| {
        format!(
            "[[site]]\nhosts = [\"{name}.test\"]\norigin = \"{}\"\n",
            origin.url()
        )
    };
    let edge = Setup::new().config(&site("a")).config(&site("b")).start();
    let hits = || {
        ["a.test", "b.test"].map(|host| {
            (0..5)
                .filter(|n| edge.get_with(&format!("/{n}"), &[("Host", host)]).is_hit())
                .count()
        })
    };
    assert_eq!(hits(), [0, 0]);
    assert_eq!(hits(), [5, 5]);
    let (code, text) = purge(&edge, &["--all", "--site", "a.test"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(hits(), [0, 5]);
    let (code, _) = purge(&edge, &["--all"]);
    assert_eq!(code, Some(0));
    assert_eq!(edge.metrics().count("larder_tier_entries", &[]), 0);
    assert_eq!(hits(), [0, 0]);
}

#[test]
fn a_fill_under_way_does_not_bring_back_what_was_purged() {
    for all in [false, true] {
        let origin = Origin::start();
        let gate = Gate::default();
        let held = gate.clone();
        origin.route("/a", move |asked| {
            let reply = Reply::pattern(100_000).field("Cache-Control", "max-age=60");
            if asked.turn == 0 {
                reply.pausing(50_000, &held)
            } else {
                Reply::cached("new")
            }
        });
        let edge = Edge::before(&origin);
        let mut before = edge.client();
        before.send(request("GET", "/a", &[], b""));
        let landed = before.head();
        let asked = if all {
            json!({ "all": true })
        } else {
            json!({ "urls": [url("/a")] })
        };
        assert_eq!(edge.admin_post("/v1/purge", &asked).0, 200);
        // Who comes after the purge does not join what began before it.
        assert_eq!(edge.get("/a").text(), "new");
        gate.open();
        let mut body = Vec::new();
        before
            .read_body(&landed, "GET", |piece| body.extend_from_slice(piece))
            .expect("whole");
        assert_eq!(body.len(), 100_000);
        pattern::check(0, &body);
        edge.wait_for_landing();
        let after = edge.get("/a");
        assert_eq!((after.text().as_str(), after.is_hit()), ("new", true));
        assert_eq!(origin.total(), 2);
    }
}

#[test]
fn a_purge_that_names_nothing_or_the_unknown_is_refused() {
    let origin = Origin::always(Reply::cached("content"));
    let edge = Edge::before(&origin);
    edge.get("/a");
    for asked in [
        json!({}),
        json!({ "urls": [], "all": false }),
        json!({ "tags": [""] }),
        json!({ "soft": true, "dry_run": true }),
        json!({ "alll": true }),
        json!({ "urls": ["not a url"] }),
        json!({ "prefixes": ["edge.test/a?b"] }),
        json!({ "hosts": ["http://edge.test/"] }),
        json!({ "keys": ["a"] }),
        json!({ "tags": ["a"], "urls": "http://edge.test/a" }),
        json!([]),
    ] {
        let (status, answer) = edge.admin_post("/v1/purge", &asked);
        assert_eq!(status, 400, "{asked}: {answer}");
        for part in ["code", "message", "hint"] {
            assert!(answer["error"][part].is_string(), "{asked}: {answer}");
        }
    }
    let (status, _) = edge.admin_post("/v1/purge", &json!({ "all": true, "site": "nobody" }));
    assert_eq!(status, 404);
    assert!(edge.get("/a").is_hit());
}

#[test]
fn one_bad_url_in_a_purge_leaves_the_good_ones_alone() {
    let origin = Origin::always(Reply::cached("content"));
    let edge = Edge::before(&origin);
    edge.get("/a");
    let asked = json!({ "urls": [url("/a"), "not a url"] });
    assert_eq!(edge.admin_post("/v1/purge", &asked).0, 400);
    assert!(edge.get("/a").is_hit(), "a refused purge purges nothing");
}

/// An origin whose responses carry the tags that the query asks for, and name themselves.
fn tagging() -> Origin {
    Origin::answering(|asked| {
        let tags = asked.target.split_once('?').map_or("", |(_, tags)| tags);
        Reply::cached(asked.target.clone()).field("Surrogate-Key", tags.replace('+', " "))
    })
}

/// Which of `targets` are stored.
fn hits(edge: &Edge, targets: &[&str]) -> Vec<bool> {
    let hit = |target: &&str| edge.get(target).is_hit();
    targets.iter().map(hit).collect()
}

#[test]
fn tags_prefixes_hosts_and_keys_take_what_they_name_and_no_more() {
    let all = [
        "/a",
        "/a/b",
        "/a/b/c?x+y",
        "/ab",
        "/d/e?y",
        "/d/f?z",
        "/d/",
        "/g",
    ];
    let check = |asked: serde_json::Value, gone: &[&str]| {
        let origin = tagging();
        let edge = Edge::before(&origin);
        hits(&edge, &all);
        let counted = {
            let mut dry = asked.clone();
            dry["dry_run"] = json!(true);
            edge.admin_post("/v1/purge", &dry)
        };
        let (status, purged) = edge.admin_post("/v1/purge", &asked);
        assert_eq!((status, counted.0), (200, 200), "{purged}");
        assert_eq!(purged["entries"], json!(gone.len()), "{asked}");
        assert_eq!(purged["entries"], counted.1["entries"], "{asked}");
        assert_eq!(purged["bytes"], counted.1["bytes"], "{asked}");
        let expected: Vec<bool> = all.iter().map(|target| !gone.contains(target)).collect();
        assert_eq!(hits(&edge, &all), expected, "{asked}");
    };
    check(json!({ "tags": ["y"] }), &["/a/b/c?x+y", "/d/e?y"]);
    check(json!({ "tags": ["x", "y"] }), &["/a/b/c?x+y", "/d/e?y"]);
    let prefix = |path: &str| json!({ "prefixes": [format!("{HOST}{path}")] });
    check(prefix("/a"), &["/a", "/a/b", "/a/b/c?x+y"]);
    check(prefix("/a/"), &["/a/b", "/a/b/c?x+y"]);
    check(prefix("/d/e"), &["/d/e?y"]);
    check(prefix("/d"), &["/d/e?y", "/d/f?z", "/d/"]);
    check(prefix("/g/"), &[]);
    check(json!({ "hosts": ["other.test"] }), &[]);
    check(json!({ "hosts": [HOST] }), &all);
    check(json!({ "keys": [url("/g")] }), &["/g"]);
    check(
        json!({
            "urls": [url("/g"), url("/a")], "tags": ["z"], "prefixes": [format!("{HOST}/d")],
            "keys": [url("/g")], "hosts": ["other.test"],
        }),
        &["/a", "/d/e?y", "/d/f?z", "/d/", "/g"],
    );
}

#[test]
fn the_command_takes_every_form_at_once() {
    let origin = tagging();
    let edge = Edge::before(&origin);
    let all = ["/a?t", "/b/c", "/d", "/e"];
    hits(&edge, &all);
    let prefix = format!("{HOST}/b");
    let key = edge.admin_get(&format!("/v1/explain?url={}", url("/d"))).1;
    let key = key["key"].as_str().expect("a key");
    let forms = [
        "--tag",
        "t",
        "--prefix",
        &prefix,
        "--key",
        key,
        "--soft",
        "--dry-run",
    ];
    let (code, text) = purge(&edge, &forms);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("entries:  3"), "{text}");
    let (code, text) = purge(&edge, &forms[..6]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(hits(&edge, &all), [false, false, false, true]);
    let (code, _) = purge(&edge, &["--tag", "nobody", "--host", "nobody.test"]);
    assert_eq!(code, Some(3));
    let metrics = edge.metrics();
    let made = |kind| metrics.count("larder_purges_total", &[&format!("kind=\"{kind}\"")]);
    assert_eq!(
        ["tag", "prefix", "key", "host", "url"].map(made),
        [2, 1, 1, 1, 0]
    );
    assert_eq!(
        metrics.count("larder_purged_entries_total", &["effect=\"hard\""]),
        3
    );
}

#[test]
fn a_key_goes_with_all_its_variants() {
    let origin = Origin::answering(|asked| Reply::cached(asked.target.clone()).field("Vary", "X"));
    let edge = Edge::before(&origin);
    let get = |x: &str| edge.get_with("/v", &[("X", x)]);
    for x in ["1", "2", "1", "2"] {
        get(x);
    }
    assert_eq!(origin.total(), 2);
    let (status, purged) = edge.admin_post("/v1/purge", &json!({ "keys": [url("/v")] }));
    assert_eq!(status, 200, "{purged}");
    for x in ["1", "2"] {
        assert!(!get(x).is_hit());
    }
    assert_eq!(origin.total(), 4);
}

#[test]
fn tags_belong_to_their_site() {
    let origin = tagging();
    let site = |name: &str| {
        let origin = origin.url();
        format!("[[site]]\nhosts = [\"{name}.test\"]\norigin = \"{origin}\"\n")
    };
    let edge = Setup::new().config(&site("a")).config(&site("b")).start();
    let hits = || ["a.test", "b.test"].map(|host| edge.get_with("/?t", &[("Host", host)]).is_hit());
    assert_eq!((hits(), hits()), ([false; 2], [true; 2]));
    let (_, purged) = edge.admin_post("/v1/purge", &json!({ "tags": ["t"], "site": "b.test" }));
    assert_eq!(purged["entries"], 1, "{purged}");
    assert_eq!(hits(), [true, false]);
    let (_, purged) = edge.admin_post("/v1/purge", &json!({ "tags": ["t"] }));
    assert_eq!(purged["entries"], 2, "{purged}");
    assert_eq!(hits(), [false; 2]);
}

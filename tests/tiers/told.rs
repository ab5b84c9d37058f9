//! What operators are told of the tiers.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::below::{ALL, Below, count, forget};
use crate::support::edge::{Ended, Setup};
use crate::support::eventually;
use crate::support::origin::Origin;
use crate::support::reply::Reply;

#[test]
fn tiers_are_listed_in_chain_order_and_their_counts_add_up() {
    for below in ALL {
        let origin = Origin::always(Reply::cached("x"));
        let mut edge = below.setup(&origin).start();
        edge.get("/a");
        forget(&mut edge);
        edge.get("/a");
        edge.get("/b");
        edge.flush();
        let stats = edge.stats();
        let tiers = stats["tiers"].as_array().expect("a list");
        let names: Vec<_> = tiers
            .iter()
            .filter_map(|tier| tier["name"].as_str())
            .collect();
        assert_eq!(names, [&["memory"], below.names()].concat());
        for name in names {
            let value = |key| count(&edge, name, key);
            assert_eq!(
                value("lookups"),
                value("hits") + value("misses") + value("errors")
            );
            let metrics = edge.metrics();
            for key in [
                "lookups",
                "hits",
                "misses",
                "errors",
                "writes",
                "write_failures",
                "backfills",
            ] {
                let metric = format!("larder_tier_{key}_total");
                let label = format!("tier=\"{name}\"");
                assert_eq!(
                    metrics.count(&metric, &[&label]),
                    value(key),
                    "{name} {key}"
                );
            }
        }
    }
}

#[test]
fn a_ratio_is_told_once_there_is_something_to_tell() {
    let origin = Origin::always(Reply::cached("x"));
    let mut edge = Below::Both.setup(&origin).start();
    let ratios = |edge: &crate::support::edge::Edge| -> Vec<serde_json::Value> {
        let stats = edge.stats();
        let tiers = stats["tiers"].as_array().expect("a list");
        tiers.iter().map(|tier| tier["hit_ratio"].clone()).collect()
    };
    let null = serde_json::Value::Null;
    assert_eq!(ratios(&edge), [null.clone(), null.clone(), null.clone()]);
    edge.get("/a");
    forget(&mut edge);
    edge.get("/a");
    edge.get("/a");
    let half = serde_json::json!(0.5);
    assert_eq!(ratios(&edge), [half, serde_json::json!(1.0), null]);
    let admin = edge.admin_address().to_string();
    let shown = crate::support::edge::run(&["stat", "--admin", &admin]);
    let shown = String::from_utf8(shown.stdout).expect("text");
    let row = shown.lines().find(|line| line.contains("hit_ratio"));
    let row: Vec<&str> = row.expect("a row").split_whitespace().collect();
    assert_eq!(row, ["hit_ratio", "0.5", "1.0", "-"]);
}

#[test]
fn a_tier_that_is_not_configured_or_named_twice_is_refused() {
    let refused = |setup: Setup| -> Ended {
        match setup.try_start() {
            Ok(_) => panic!("it starts"),
            Err(ended) => ended,
        }
    };
    let origin = Origin::always(Reply::cached("x"));
    let site = format!("[[site]]\norigin = \"{}\"\n", origin.url());
    for (config, parts) in [
        (
            "tiers = [\"memory\", \"disk\"]\n",
            &["larder.toml:1", "tiers", "not configured"][..],
        ),
        (
            "tiers = [\"memory\", \"memory\"]\n",
            &["larder.toml:1", "tiers", "twice"],
        ),
        (
            "tiers = [\"redis\"]\n",
            &["larder.toml:1", "tiers", "memory, disk, object_store"],
        ),
        (
            "[object_store]\nurl = \"ftp://x\"\n",
            &["larder.toml:2", "object_store.url"],
        ),
        (
            "[object_store]\nmode = \"wo\"\n",
            &["larder.toml:2", "object_store.mode", "rw, ro"],
        ),
        (
            "[disk]\ncapacity = \"1GiB\"\n",
            &["larder.toml:2", "disk.capacity", "data_dir"],
        ),
    ] {
        let ended = refused(Setup::new().config(&format!("{config}{site}")));
        assert_eq!(ended.code, Some(2), "{config}: {}", ended.log);
        for part in parts {
            assert!(ended.log.contains(part), "{part} is not in: {}", ended.log);
        }
    }
}

#[test]
fn explain_names_the_tiers_that_hold_a_response() {
    let origin = Origin::always(Reply::cached("x"));
    let mut edge = Below::Both.setup(&origin).start();
    edge.get("/a");
    edge.flush();
    let (_, answer) = edge.admin_get("/v1/explain?url=http://edge.test/a");
    assert_eq!(
        answer["tiers"],
        serde_json::json!(["memory", "disk", "object_store"])
    );
    forget(&mut edge);
    let (_, answer) = edge.admin_get("/v1/explain?url=http://edge.test/a");
    assert_eq!(
        answer["tiers"],
        serde_json::json!(["disk", "object_store"]),
        "{answer}"
    );
    assert_eq!(answer["verdict"], "hit");
    let (_, answer) = edge.admin_get("/v1/explain?url=http://edge.test/none");
    assert_eq!(answer["tiers"], serde_json::json!([]));
}

#[test]
fn a_reload_changes_the_size_of_the_disk_tier() {
    let origin = Origin::always(Reply::pattern(500_000).field("Cache-Control", "max-age=600"));
    let config = |capacity: &str| {
        let site = format!("[[site]]\norigin = \"{}\"\n", origin.url());
        format!("data_dir = \"data\"\n[disk]\ncapacity = \"{capacity}\"\n{site}")
    };
    let mut edge = Setup::new().config(&config("64MiB")).start();
    for entry in 0..60 {
        edge.get(&format!("/{entry}"));
    }
    edge.flush();
    let bytes = count(&edge, "disk", "bytes");
    assert!(bytes > 25 << 20, "{bytes} bytes: {}", edge.stats());
    let said = edge.reload(&config("16MiB"));
    assert!(!said.contains("not reloaded"), "{said}");
    edge.flush();
    eventually("the disk tier to shrink", || {
        count(&edge, "disk", "capacity") == 16 << 20 && count(&edge, "disk", "bytes") <= 16 << 20
    });
    let newest = edge.get("/59");
    assert!(newest.is_hit());
}

#[test]
fn readiness_and_the_log_tell_how_each_tier_is() {
    for below in ALL {
        let origin = Origin::always(Reply::cached("x"));
        let edge = below.setup(&origin).start();
        edge.flush();
        let ready = edge.admin_response("GET", "/readyz", &[], b"");
        assert_eq!(ready.status(), 200);
        let text = ready.text();
        let lines: Vec<&str> = text.lines().collect();
        let expected: Vec<String> = below
            .names()
            .iter()
            .map(|name| format!("{name}: online"))
            .collect();
        assert_eq!(lines, [&["ready".to_owned()], &*expected].concat());
        for name in [&["memory"], below.names()].concat() {
            eventually("the log to tell of each tier", || {
                edge.log().contains(&format!("{name} tier"))
            });
        }
    }
}

#[test]
fn the_manual_names_the_metrics_there_are_and_no_others() {
    let origin = Origin::always(Reply::cached("x"));
    let setup = Below::Both.setup(&origin).set("log.access", "json");
    let records = setup.path("records").display().to_string();
    std::fs::create_dir(&records).expect("a directory");
    let edge = setup.set("record.dir", &records).start();
    let exposed = edge.admin_response("GET", "/metrics", &[], b"").text();
    let exposed: BTreeSet<&str> = exposed
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let manual = include_str!("../../README.md");
    let named: BTreeSet<&str> = manual
        .lines()
        .filter(|line| line.starts_with("| `larder_"))
        .flat_map(|line| line.split('|').nth(1).unwrap_or_default().split('`'))
        .filter(|name| name.starts_with("larder_"))
        .collect();
    let wrong: Vec<_> = exposed.symmetric_difference(&named).collect();
    assert!(wrong.is_empty(), "in one of them only: {wrong:?}");
}

#[test]
fn the_manual_names_every_key_outside_the_sites() {
    let shown = crate::support::edge::run(&["check", "--origin", "http://127.0.0.1:1"]);
    assert!(shown.status.success());
    let shown = String::from_utf8(shown.stdout).expect("text");
    let manual = include_str!("../../README.md");
    let keys: Vec<&str> = shown
        .lines()
        .map_while(|line| line.split_whitespace().next())
        .take_while(|key| !key.starts_with("site["))
        .collect();
    assert!(keys.len() > 30, "{shown}");
    for key in keys {
        assert!(manual.contains(&format!("| `{key}` |")), "{key}");
    }
}

#[test]
fn counts_begin_with_the_process_and_it_is_told_how_long_that_is() {
    let origin = Origin::always(Reply::cached("x"));
    let mut edge = Below::Disk.setup(&origin).start();
    edge.get("/a");
    edge.get("/a");
    assert_eq!(count(&edge, "memory", "lookups"), 2);
    let before = Instant::now();
    forget(&mut edge);
    assert_eq!(count(&edge, "memory", "lookups"), 0);
    let uptime = edge.stats()["uptime_s"].as_u64().expect("seconds");
    assert!(uptime <= before.elapsed().as_secs());
}

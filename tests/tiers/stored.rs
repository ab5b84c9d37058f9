//! What is stored, as operators list and verify it.

use serde_json::Value;

use crate::below::{Below, forget};
use crate::support::edge::{Edge, Setup, run};
use crate::support::origin::Origin;
use crate::support::reply::Reply;

/// Everything that the pages of a listing name: tier and key, in order.
#[track_caller]
fn listed(edge: &Edge, filter: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let (status, page) = edge.admin_get(&format!("/v1/entries?{filter}{cursor}"));
        assert_eq!(status, 200, "{page}");
        for entry in page
            .get("entries")
            .and_then(Value::as_array)
            .expect("a list")
        {
            let text = |name: &str| entry[name].as_str().expect("text").to_owned();
            found.push((text("tier"), text("key")));
        }
        let Some(next) = page.get("next").and_then(Value::as_str) else {
            found.sort();
            return found;
        };
        cursor = format!("&cursor={next}");
    }
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(tier, path): &(&str, &str)| ((*tier).to_owned(), format!("http://edge.test{path}"));
    of.iter().map(own).collect()
}

fn tagged(path: &str) -> Reply {
    let tag = path.rsplit('/').next().expect("a name");
    Reply::cached("content").field("Surrogate-Key", tag)
}

fn edge(below: Below) -> Edge {
    let origin = Origin::answering(|asked| tagged(&asked.target));
    let edge = below.setup(&origin).start();
    for path in ["/dir/a", "/dir/b", "/other/a"] {
        edge.get(path);
    }
    edge.flush();
    edge
}

#[test]
fn what_each_tier_holds_is_listed_and_filters_narrow_it() {
    let edge = edge(Below::Both);
    let memory = [
        ("memory", "/dir/a"),
        ("memory", "/dir/b"),
        ("memory", "/other/a"),
    ];
    let disk = [("disk", "/dir/a"), ("disk", "/dir/b"), ("disk", "/other/a")];
    assert_eq!(listed(&edge, ""), pairs(&[disk, memory].concat()));
    assert_eq!(listed(&edge, "tier=memory"), pairs(&memory));
    assert_eq!(listed(&edge, "tier=disk"), pairs(&disk));
    let tagged = [("disk", "/dir/a"), ("disk", "/other/a")];
    assert_eq!(listed(&edge, "tier=disk&tag=a"), pairs(&tagged));
    let below = [("memory", "/dir/a"), ("memory", "/dir/b")];
    let filter = "tier=memory&prefix=edge.test%2Fdir";
    assert_eq!(listed(&edge, filter), pairs(&below));
    let both = "tag=a&prefix=edge.test%2Fdir&site=default";
    let both = listed(&edge, both);
    assert_eq!(both, pairs(&[("disk", "/dir/a"), ("memory", "/dir/a")]));
    assert_eq!(listed(&edge, "tag=none"), []);
}

#[test]
fn what_a_purge_covers_is_not_listed() {
    let edge = edge(Below::Disk);
    let (status, answer) = edge.admin_post("/v1/purge", &serde_json::json!({"tags": ["a"]}));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        listed(&edge, ""),
        pairs(&[("disk", "/dir/b"), ("memory", "/dir/b")])
    );
}

#[test]
fn a_listing_tells_size_age_lifetime_and_tags() {
    let mut edge = edge(Below::Disk);
    forget(&mut edge);
    let (_, page) = edge.admin_get("/v1/entries?tier=disk&tag=b");
    let entry = &page["entries"][0];
    assert_eq!(entry["bytes"], 7, "{page}");
    assert_eq!(entry["status"], 200);
    assert_eq!(entry["site"], "default");
    assert_eq!(entry["tags"], 1);
    let number = |name: &str| entry[name].as_u64().expect("a number");
    assert!(number("remaining_s") > 0 && number("age_s") < 600, "{page}");
}

#[test]
fn many_entries_come_in_many_pages_and_each_once() {
    let origin = Origin::always(Reply::cached("x"));
    let edge = Below::Disk.setup(&origin).start();
    let mut expected: Vec<String> = (0..700).map(|number| format!("/{number}")).collect();
    for path in &expected {
        edge.get(path);
    }
    edge.flush();
    expected.sort();
    let expected: Vec<_> = expected
        .iter()
        .map(|path| format!("http://edge.test{path}"))
        .collect();
    for tier in ["memory", "disk"] {
        let found = listed(&edge, &format!("tier={tier}"));
        let found: Vec<_> = found.into_iter().map(|(_, key)| key).collect();
        assert_eq!(found, expected, "{tier}");
    }
}

#[test]
fn what_cannot_be_listed_is_said() {
    let edge = edge(Below::Both);
    for (query, status, code) in [
        ("tier=tape", 404, "unknown_tier"),
        ("tier=object_store", 400, "unlistable_tier"),
        ("cursor=1.2", 400, "bad_cursor"),
        ("site=nobody", 404, "unknown_site"),
        ("color=red", 400, "bad_query"),
        ("tier=disk&tier=disk", 400, "bad_query"),
    ] {
        let (found, answer) = edge.admin_get(&format!("/v1/entries?{query}"));
        assert_eq!(
            (found, answer["error"]["code"].as_str()),
            (status, Some(code)),
            "{query}"
        );
    }
}

#[test]
fn a_scrub_verifies_all_of_the_disk_that_no_purge_covers() {
    let mut edge = edge(Below::Disk);
    forget(&mut edge);
    let tiers = |edge: &Edge| -> Value {
        let (status, begun) = edge.admin_post("/v1/scrub", &Value::Null);
        assert_eq!(status, 202, "{begun}");
        crate::support::eventually("the scrub to end", || {
            edge.admin_get("/v1/scrub").1["running"] == false
        });
        edge.admin_get("/v1/scrub").1["tiers"][0].clone()
    };
    let found = tiers(&edge);
    assert_eq!(found["name"], "disk");
    assert_eq!(
        [
            &found["checked"],
            &found["corrupt"],
            &found["purged"],
            &found["error"]
        ],
        [
            &Value::from(3),
            &Value::from(0),
            &Value::from(0),
            &Value::Null
        ],
        "{found}"
    );
    let made = edge.admin_post("/v1/purge", &serde_json::json!({"tags": ["a"]}));
    assert_eq!(crate::receipts::settled(&edge, &made.1)["entries"], 2);
    // What a receipt counted on the disk is gone from it.
    let found = tiers(&edge);
    assert_eq!(
        (&found["checked"], &found["purged"]),
        (&Value::from(1), &Value::from(0)),
        "{found}"
    );
}

#[test]
fn without_a_disk_there_is_nothing_to_scrub() {
    let origin = Origin::always(Reply::cached("x"));
    let edge = Setup::before(&origin).start();
    let (status, answer) = edge.admin_post("/v1/scrub", &Value::Null);
    assert_eq!(
        (status, answer["error"]["code"].as_str()),
        (404, Some("nothing_to_scrub"))
    );
}

/// What `larder` with `arguments` prints about `edge`, and its code.
fn command(edge: &Edge, arguments: &[&str]) -> (Option<i32>, String) {
    let admin = edge.admin_address().to_string();
    let ended = run(&[arguments, &["--admin", &admin]].concat());
    let text = String::from_utf8(ended.stdout).expect("text");
    (ended.status.code(), text)
}

/// The keys that `larder ls` prints of the disk.
fn on_disk(edge: &Edge) -> Vec<String> {
    let (code, text) = command(edge, &["ls", "--tier", "disk"]);
    assert_eq!(code, Some(0), "{text}");
    let mut lines = text.lines();
    assert!(lines.next().is_some_and(|head| head.starts_with("tier")));
    let keys = lines.filter_map(|line| line.split_whitespace().last());
    let mut keys: Vec<String> = keys.map(str::to_owned).collect();
    keys.sort();
    keys
}

/// Flips a bit of the content that contains `text`, in every segment of the disk tier that has it.
/// How many have.
fn flip(edge: &Edge, text: &str) -> usize {
    let mut flipped = 0;
    let dir = edge.data_dir().join("cache");
    for entry in std::fs::read_dir(dir).expect("the tier's directory") {
        let path = entry.expect("an entry").path();
        let bytes = std::fs::read(&path).expect("a file");
        let found = bytes
            .windows(text.len())
            .position(|part| part == text.as_bytes());
        let Some(at) = found else { continue };
        let file = std::fs::OpenOptions::new().write(true).open(&path);
        let file = file.expect("a file");
        let at = at + text.len() / 2;
        std::os::unix::fs::FileExt::write_all_at(
            &file,
            &[bytes[at] ^ 4],
            u64::try_from(at).expect("small"),
        )
        .expect("written");
        flipped += 1;
    }
    flipped
}

#[test]
fn flipped_bits_are_found_by_the_command_and_never_served() {
    let body = |path: &str| format!("the content of {path}, and nothing else;").repeat(2_000);
    let origin = Origin::answering(move |asked| Reply::cached(body(&asked.target)));
    let mut edge = Below::Disk.setup(&origin).start();
    let paths: Vec<String> = (10..30).map(|number| format!("/{number}")).collect();
    for path in &paths {
        edge.get(path);
    }
    forget(&mut edge);
    let key = |path: &String| format!("http://edge.test{path}");
    let all: Vec<String> = paths.iter().map(key).collect();
    assert_eq!(on_disk(&edge), all);
    let (damaged, sound) = paths.split_at(4);
    for path in damaged {
        assert_eq!(flip(&edge, &format!("the content of {path},")), 1, "{path}");
    }
    let (code, text) = command(&edge, &["scrub", "--wait"]);
    assert_eq!(code, Some(0), "{text}");
    let value = |name: &str| {
        let row = text
            .lines()
            .find(|line| line.starts_with(&format!("tiers.disk.{name}:")));
        let value = row.and_then(|row| row.split_whitespace().last());
        value.and_then(|value| value.parse::<usize>().ok())
    };
    assert_eq!(value("checked"), Some(sound.len()), "{text}");
    assert_eq!(value("corrupt"), Some(damaged.len()), "{text}");
    assert_eq!(on_disk(&edge), sound.iter().map(key).collect::<Vec<_>>());
    // One that was damaged since is noticed when it is asked for.
    let late = sound.first().expect("some");
    assert_eq!(flip(&edge, &format!("the content of {late},")), 1);
    for path in &paths {
        let answer = edge.get(path);
        let expected = sound.contains(path) && path != late;
        assert_eq!(
            answer.is_hit(),
            expected,
            "{path}: {}",
            answer.cache_status()
        );
        assert_eq!(answer.text(), body(path));
    }
    let corrupt = edge.metrics();
    let corrupt = corrupt.count("larder_tier_corrupt_total", &["tier=\"disk\""]);
    assert_eq!(corrupt, 5);
}

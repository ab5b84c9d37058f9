//! The rules of the source tree that no lint knows: who may import whom, and how files look.
//!
//! Reads the sources next to this file; runs nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The house in floors, the lowest first. A module may name its own tree and lower floors; two
/// modules on one floor know nothing of each other.
const FLOORS: &[&[&str]] = &[
    &[
        "clock",
        "embedded",
        "little_endian",
        "metrics",
        "sync",
        "tasks",
    ],
    &["entry"],
    &["rfc9111"],
    &["config", "tier"],
    &["cache", "client", "policy"],
    &["front", "program", "simulate"],
    &["control"],
    &["admin"],
    &["server"],
    &["demo"],
    &["cli"],
    &["main"],
];

/// Lines of a file, at most.
const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file below `directory`, with its path from the root.
fn sources(directory: &str) -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut open = vec![root.join(directory)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name == "target") {
                continue;
            }
            let entries = fs::read_dir(&path).expect("a directory");
            open.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path
                .strip_prefix(&root)
                .expect("below the root")
                .display()
                .to_string();
            found.push((name, fs::read_to_string(&path).expect("text")));
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no sources in {directory}");
    found
}

fn everything() -> Vec<(String, String)> {
    ["host", "guest", "policies", "tests"]
        .into_iter()
        .flat_map(sources)
        .collect()
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

/// The modules of this crate that `source` names, by the first segment after `crate::`.
fn named(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let code = source
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    for line in code {
        for (at, _) in line.match_indices("crate::") {
            let before = line[..at].chars().next_back();
            // `$crate::` is somebody else's.
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let rest = &line[at + "crate::".len()..];
            // A module; a capital is an item of the root, a brace is checked by its own test.
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let name = &rest[..end];
            if name.starts_with(|c: char| c.is_ascii_lowercase()) {
                names.insert(name.to_owned());
            }
        }
    }
    names
}

#[test]
fn imports_go_down() {
    let mut wrong = Vec::new();
    for (path, source) in sources("host/src") {
        let module = path.strip_prefix("host/src/").expect("below it");
        let module = module.split(['/', '.']).next().unwrap_or_default();
        if module == "lib" {
            continue;
        }
        let Some(own) = floor(module) else {
            wrong.push(format!("{path}: {module} has no floor in tests/tidy.rs"));
            continue;
        };
        for name in named(&source) {
            let below = floor(&name).is_some_and(|floor| floor < own);
            if name != module && !below {
                wrong.push(format!("{path} names {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "not downwards:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_and_is_of_a_size_to_read() {
    let mut wrong = Vec::new();
    for (path, source) in everything() {
        let lines = source.lines().count();
        if !source.starts_with("//! ") {
            wrong.push(format!("{path} does not open with `//!`"));
        }
        if lines > LINES_MAX {
            wrong.push(format!("{path} has {lines} lines, more than {LINES_MAX}"));
        }
        if path.ends_with("/mod.rs") {
            wrong.push(format!("{path}: name the file after its module"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tests_wait_for_events() {
    let sleep = concat!("sleep", "(");
    // Polling with a deadline, in one place each.
    let allowed = ["tests/support.rs", "tests/support/edge.rs"];
    for (path, source) in sources("tests") {
        let sleeps = source.matches(sleep).count();
        let most = usize::from(allowed.contains(&path.as_str()));
        assert!(
            sleeps <= most,
            "{path} sleeps {sleeps} times; wait for an event"
        );
    }
}

#[test]
fn every_channel_has_a_bound() {
    // Of those of the standard library, `sync_channel` has one.
    let without = [
        "unbounded_channel",
        "channel::unbounded",
        "mpsc::channel()",
        "mpsc::channel::<",
        "mpsc::channel;",
    ];
    for (path, source) in sources("host/src") {
        for (number, line) in source.lines().enumerate() {
            let wrong = without.iter().any(|name| line.contains(name));
            assert!(!wrong, "{path}:{}: a queue without a bound", number + 1);
        }
    }
}

#[test]
fn no_source_has_a_second_name_for_the_root() {
    let brace = concat!("crate", "::{");
    for (path, source) in sources("host/src") {
        assert!(
            !source.contains(brace),
            "{path}: one `use` a module, so that floors can be read"
        );
        assert!(!source.contains("crate as "), "{path}");
    }
}

/// Workspaces beside the main one have lock files that nothing in the main one reads. One that lacks a
/// dependency of the host is refused by `--locked`.
#[test]
fn lock_files_know_the_dependencies_of_the_host() {
    let manifest = fs::read_to_string(root().join("host/Cargo.toml")).unwrap();
    let (_, rest) = manifest.split_once("\n[dependencies]\n").unwrap();
    let (own, _) = rest.split_once("\n[").unwrap();
    for lock in [
        "Cargo.lock",
        "tests/fuzz/Cargo.lock",
        "tests/peers/Cargo.lock",
    ] {
        let text = fs::read_to_string(root().join(lock)).unwrap();
        let (_, rest) = text.split_once("\nname = \"larder\"\n").unwrap();
        let (host, _) = rest.split_once("\n]\n").unwrap();
        let known: BTreeSet<&str> = host
            .lines()
            .filter_map(|line| line.strip_prefix(" \"")?.split([' ', '"']).next())
            .collect();
        for dependency in own.lines().filter_map(|line| line.split('.').next()) {
            let is_known = dependency.is_empty() || known.contains(dependency);
            assert!(is_known, "{lock} lacks {dependency}: run cargo there");
        }
    }
}

#[test]
fn names_are_read_off_the_code() {
    let source = "use crate::tier::x; // crate::no\nlet y = crate::entry::Z; $crate::w; crate::Top";
    assert_eq!(
        named(source),
        BTreeSet::from(["entry".to_owned(), "tier".to_owned()])
    );
}

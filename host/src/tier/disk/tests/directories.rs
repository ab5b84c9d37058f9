//! Whose a directory is.

use std::fs;
use std::path::Path;

use super::super::format::Identity;
use super::*;

fn refused(dir: &Path) -> String {
    let opened = DiskTier::open(&settings(dir, 8 * MIB), everything_valid());
    opened.expect_err("refused").to_string()
}

fn names(dir: &Path) -> Vec<String> {
    let files = fs::read_dir(dir).unwrap();
    let name = |file: std::io::Result<fs::DirEntry>| file.unwrap().file_name();
    let mut names: Vec<_> = files
        .map(|file| name(file).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_second_opener_is_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let tier = open(dir.path(), 8 * MIB);
    let error = refused(dir.path());
    let process = format!("in use by process {}", std::process::id());
    assert!(error.contains(&process), "{error}");
    run(async {
        tier.put(&small("k", 1, 10), BORN).await;
        tier.settle().await;
        assert_eq!(tier.which("k").await, Some(1));
    });
    tier.stop();
    let tier = open(dir.path(), 8 * MIB);
    assert_eq!(run(tier.which("k")), Some(1));
    tier.stop();
}

#[test]
fn what_is_not_ours_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "years of work").unwrap();
    let error = refused(dir.path());
    assert!(error.contains("such as `thesis.tex`"), "{error}");
    assert_eq!(names(dir.path()), ["thesis.tex"]);
    let file = dir.path().join("thesis.tex");
    assert!(refused(&file).contains("is no directory"));
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("seg-000000"), "of somebody else").unwrap();
    assert!(refused(dir.path()).contains("such as `seg-000000`"));
    assert_eq!(names(dir.path()), ["seg-000000"]);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("manifest"), "of somebody else").unwrap();
    assert!(refused(dir.path()).contains("such as `manifest`"));
    assert_eq!(names(dir.path()), ["manifest"]);
}

#[test]
fn another_version_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut manifest = Identity::new(MIB).encode();
    manifest[8] = 2;
    let crc = crc32fast::hash(&manifest[..12]).to_le_bytes();
    manifest[12..16].copy_from_slice(&crc);
    fs::write(dir.path().join("manifest"), &manifest).unwrap();
    let error = refused(dir.path());
    assert!(error.contains("a disk tier of version 2"), "{error}");
    assert_eq!(names(dir.path()), ["manifest"]);
    assert_eq!(fs::read(dir.path().join("manifest")).unwrap(), manifest);
}

#[test]
fn a_missing_directory_is_made_and_one_that_was_just_begun_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    open(&path, 8 * MIB).stop();
    assert_eq!(names(&path), ["LOCK", "manifest"]);
    fs::remove_file(path.join("manifest")).unwrap();
    fs::write(path.join("LOCK"), "").unwrap();
    fs::write(path.join("manifest.new"), "half").unwrap();
    open(&path, 8 * MIB).stop();
    assert_eq!(names(&path), ["LOCK", "manifest"]);
}

#[test]
fn links_are_never_followed() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, vec![7; 1 << 20]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), 8 * MIB).stop();
    for name in ["seg-000000", "manifest", "manifest.new"] {
        let link = dir.path().join(name);
        if link.exists() {
            fs::remove_file(&link).unwrap();
        }
        std::os::unix::fs::symlink(&victim, link).unwrap();
        let tier = open(dir.path(), 8 * MIB);
        run(async {
            tier.put(&small("k", 1, 10), BORN).await;
            tier.settle().await;
            assert_eq!(tier.which("k").await, Some(1));
        });
        tier.stop();
    }
    assert_eq!(fs::read(&victim).unwrap(), vec![7; 1 << 20]);
    fs::remove_file(dir.path().join("LOCK")).unwrap();
    std::os::unix::fs::symlink(&victim, dir.path().join("LOCK")).unwrap();
    assert!(refused(dir.path()).contains("opening its lock"));
}

#[test]
fn a_capacity_that_changed_while_nothing_ran_is_kept_to() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let tier = open(dir.path(), 20 * MIB);
        for number in 0..500 {
            let key = format!("key {number}");
            tier.put(&small(&key, number, 40_000), BORN).await;
        }
        tier.settle().await;
        tier.stop();
        assert!(occupied(dir.path()) > 17 * MIB);
        let tier = open(dir.path(), 10 * MIB);
        assert!(occupied(dir.path()) <= 10 * MIB);
        assert_eq!(tier.which("key 0").await, None);
        assert_eq!(
            tier.which("key 499").await,
            Some(499),
            "the oldest goes first"
        );
        tier.stop();
        // Segments of 1 MiB are too many and too small by now.
        let tier = open(dir.path(), 5 * MIB);
        assert!(occupied(dir.path()) <= 5 * MIB);
        assert_eq!(tier.which("key 499").await, Some(499));
        tier.stop();
    });
    let small = DiskTier::open(&settings(dir.path(), MIB), everything_valid());
    let error = small.expect_err("too small").to_string();
    assert!(error.contains("it needs at least"), "{error}");
}

//! Files that were changed behind the back of the tier: what is damaged is a miss.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::format::{RecordHeader, UNIT};
use super::*;

const CAPACITY: u64 = 5 * MIB;
const KEYS: u64 = 40;

fn key(number: u64) -> String {
    format!("key {number}")
}

/// A directory with a tier in it, sealed or as a process that was killed leaves it.
fn filled(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let tier = open(dir, CAPACITY);
    run(async {
        for number in 0..KEYS {
            let length = match number % 8 {
                0 => 200_000,
                1 => 0,
                _ => 3_000,
            };
            tier.put(&large(&key(number), number, length), BORN).await;
        }
        tier.settle().await;
    });
    // As it is now; the open segment has no footer.
    let copy = copied(dir);
    tier.stop();
    copy
}

pub(super) fn copied(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(dir).unwrap();
    let copy = |path: PathBuf| (path.clone(), fs::read(path).unwrap());
    let mut files: Vec<_> = files.map(|file| copy(file.unwrap().path())).collect();
    files.sort();
    files
}

pub(super) fn restore(dir: &Path, files: &[(PathBuf, Vec<u8>)]) {
    for file in fs::read_dir(dir).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    for (path, bytes) in files {
        fs::write(path, bytes).unwrap();
    }
}

/// Everything that is found is right. How much that is.
fn check(dir: &Path) -> u64 {
    let tier = open(dir, CAPACITY);
    let found = run(async {
        let mut found = 0;
        for number in 0..KEYS {
            let read = tier.which(&key(number)).await;
            assert!(read.is_none_or(|read| read == number));
            found += u64::from(read.is_some());
        }
        // And it works.
        tier.put(&small("new", 99, 1_000), BORN).await;
        tier.settle().await;
        assert_eq!(tier.which("new").await, Some(99));
        found
    });
    tier.stop();
    found
}

#[test]
fn a_flipped_bit_is_a_miss_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let killed = filled(dir.path());
    let stopped = copied(dir.path());
    let mut random = Random(1);
    let (mut whole, mut lost) = (0, 0);
    for round in 0..times(100) {
        let files = if round % 2 == 0 { &killed } else { &stopped };
        restore(dir.path(), files);
        let (path, bytes) = &files[short(random.below(long(files.len())))];
        // Mostly where something is.
        let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
        let at = match random.below(4) {
            0 => random.below(long(used.clamp(1, 4_300))),
            1 => long(used.saturating_sub(1)).saturating_sub(random.below(900)),
            _ => random.below(long(used.max(1))),
        };
        let bit = 1 << random.below(8);
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        if let Some(byte) = bytes.get(short(at)) {
            file.write_all_at(&[byte ^ bit], at).unwrap();
        }
        drop(file);
        let found = check(dir.path());
        whole += u64::from(found == KEYS);
        lost += u64::from(found < KEYS);
    }
    assert!(whole > 0 && lost > 0, "{whole} {lost}");
}

/// Where in `bytes` the record with the content `content` begins, and where its content does.
pub(super) fn record_of(bytes: &[u8], content: &[u8]) -> Option<(usize, usize)> {
    let at = bytes.windows(content.len()).position(|it| it == content)?;
    let units = (0..=at / short(UNIT)).rev();
    let mut heads = units.map(|unit| unit * short(UNIT));
    let head = heads.find(|head| RecordHeader::decode(&bytes[*head..]).is_some());
    Some((head?, at))
}

/// What a process that is killed leaves that stored `key` as 1, `between` as 2, and `key` as 3, with
/// a bit flipped in the content of `number`, or in its head.
fn hurt(dir: &Path, number: u64, in_head: bool) {
    let tier = open(dir, CAPACITY);
    let mut files = run(async {
        for (key, number) in [("key", 1), ("between", 2), ("key", 3)] {
            tier.put(&small(key, number, 1_000), BORN).await;
        }
        tier.settle().await;
        copied(dir)
    });
    tier.stop();
    let hurt = files.iter_mut().filter_map(|(_, bytes)| {
        let (head, at) = record_of(bytes, &content(number, 1_000))?;
        bytes[if in_head { head + 20 } else { at }] ^= 1;
        Some(())
    });
    assert_eq!(hurt.count(), 1);
    restore(dir, &files);
}

#[test]
fn what_lies_behind_damage_in_a_segment_that_was_not_sealed_is_found() {
    for in_head in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        hurt(dir.path(), 2, in_head);
        // From the records, and then from the footer.
        for _ in 0..2 {
            let tier = open(dir.path(), CAPACITY);
            run(async {
                assert_eq!(tier.which("key").await, Some(3));
                assert_eq!(tier.which("between").await, None);
            });
            tier.stop();
        }
    }
}

#[test]
fn what_a_damaged_record_superseded_is_not_found_again() {
    let dir = tempfile::tempdir().unwrap();
    hurt(dir.path(), 3, false);
    for _ in 0..2 {
        let tier = open(dir.path(), CAPACITY);
        run(async {
            assert_eq!(tier.which("key").await, None);
            assert_eq!(tier.which("between").await, Some(2));
        });
        tier.stop();
    }
}

#[test]
fn a_file_that_is_cut_short_or_missing_is_a_miss() {
    let dir = tempfile::tempdir().unwrap();
    let killed = filled(dir.path());
    let mut random = Random(2);
    for round in 0..times(24) {
        restore(dir.path(), &killed);
        let (path, bytes) = &killed[short(random.below(long(killed.len())))];
        if round % 4 == 0 {
            fs::remove_file(path).unwrap();
        } else {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(random.below(long(bytes.len()) + 1)).unwrap();
        }
        check(dir.path());
        assert!(occupied(dir.path()) <= CAPACITY);
    }
}

#[test]
fn segments_that_change_places_are_misses() {
    let dir = tempfile::tempdir().unwrap();
    let killed = filled(dir.path());
    let segments: Vec<_> = killed
        .iter()
        .filter(|(path, _)| path.to_string_lossy().contains("seg-"))
        .collect();
    assert!(segments.len() >= 2);
    let (a, b) = (&segments[0], &segments[1]);
    fs::write(&a.0, &b.1).unwrap();
    fs::write(&b.0, &a.1).unwrap();
    assert!(check(dir.path()) < KEYS);
}

#[test]
fn a_lost_manifest_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let killed = filled(dir.path());
    restore(dir.path(), &killed);
    fs::remove_file(dir.path().join("manifest")).unwrap();
    assert_eq!(check(dir.path()), KEYS);
    fs::write(dir.path().join("manifest"), b"rubbish").unwrap();
    assert_eq!(check(dir.path()), KEYS);
}

#[test]
fn damage_while_it_runs_is_a_miss_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let tier = open(dir.path(), CAPACITY);
        for number in 0..3 {
            tier.put(&large(&key(number), number, 200_000), BORN).await;
        }
        tier.put(&small("small", 9, 1_000), BORN).await;
        tier.settle().await;
        for file in fs::read_dir(dir.path()).unwrap() {
            let path = file.unwrap().path();
            if path.to_string_lossy().contains("seg-") {
                let file = fs::OpenOptions::new().write(true).open(path).unwrap();
                for at in (5_000..1_000_000).step_by(500) {
                    file.write_all_at(&[0x55; 3], at).unwrap();
                }
            }
        }
        for key in ["key 0", "key 1", "key 2", "small"] {
            assert_eq!(tier.which(key).await, None, "{key}");
        }
        assert!(tier.stats().corrupt.get() >= 4);
        assert!(tier.usage().entries <= 3, "what is damaged is forgotten");
        tier.stop();
    });
}

#[test]
fn a_fresh_head_does_not_save_content_that_is_damaged() {
    for refreshed_first in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let tier = open(dir.path(), CAPACITY);
        run(async {
            tier.put(&large("k", 1, 900_000), BORN).await;
            tier.settle().await;
            let found = tier.get(view("k")).await.unwrap().unwrap();
            let FoundBody::Kept(kept) = found.body else {
                panic!("it is large")
            };
            // Every segment is hurt in the middle of what it holds.
            for (path, bytes) in copied(dir.path()) {
                if bytes.len() > short(format::SUPERBLOCK) && !path.ends_with("manifest") {
                    let file = fs::File::options().write(true).open(&path).unwrap();
                    for at in (long(200_000)..long(bytes.len()) / 2).step_by(50_000) {
                        let at_byte = bytes[short(at)] ^ 1;
                        file.write_all_at(&[at_byte], at).unwrap();
                    }
                }
            }
            let fresh = entry("k", 1, StoredBody::kept(Arc::clone(&kept)));
            let read_all = async {
                let mut at = 0;
                while at < kept.len() {
                    at += long(kept.read(at).await?.len());
                }
                Ok::<_, crate::entry::Unreadable>(at)
            };
            if refreshed_first {
                tier.put(&fresh, BORN).await;
                assert!(read_all.await.is_err());
            } else {
                assert!(read_all.await.is_err());
                tier.put(&fresh, BORN).await;
            }
            tier.settle().await;
            assert!(tier.get(view("k")).await.unwrap().is_none());
        });
        tier.stop();
    }
}

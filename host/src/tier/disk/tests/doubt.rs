//! What may have been replaced by something that is lost is validated before it is used.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::damage::{copied, record_of, restore};
use super::*;
use crate::tier::envelope::Kind;

const CAPACITY: u64 = 9 * MIB;

/// What is under `key`, and whether it may be used without validation.
async fn found(tier: &DiskTier, key: &str) -> Option<(u64, Reuse)> {
    let number = tier.which(key).await?;
    let found = tier.get(view(key)).await.unwrap()?;
    let Kind::Response(head) = found.envelope.kind else {
        panic!("a response")
    };
    Some((number, head.lifetime.reuse))
}

/// The files of segments with something in them, the oldest first.
fn segments(dir: &Path, tier: &DiskTier) -> Vec<PathBuf> {
    let segments = tier.shared.segments.all();
    let path = |segment: &Arc<Segment>| dir.join(format!("seg-{:06}", segment.number));
    segments.iter().map(path).collect()
}

/// Fills a segment, and a tenth of the next, with entries of their own.
async fn fill(tier: &DiskTier, name: &str) {
    for number in 0..11 {
        let key = format!("{name} {number}");
        tier.put(&small(&key, 50 + number, 100_000), BORN).await;
    }
    tier.settle().await;
}

/// A tier of four segments: `key` is in the first, replaced in the `later` of the others, and
/// `other` beside what it replaces. The files of the four.
fn replaced(dir: &Path, later: usize) -> Vec<PathBuf> {
    let tier = open(dir, CAPACITY);
    let files = run(async {
        tier.put(&small("key", 1, 1_000), BORN).await;
        tier.put(&small("other", 2, 1_000), BORN).await;
        for at in 1..4 {
            fill(&tier, &format!("in {at}")).await;
            if at == later {
                tier.put(&small("key", 3, 1_000), BORN).await;
            }
        }
        tier.put(&small("last", 4, 1_000), BORN).await;
        tier.settle().await;
        segments(dir, &tier)
    });
    tier.stop();
    assert_eq!(files.len(), 4);
    files
}

fn damage(path: &Path) {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 40).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 40).unwrap();
}

#[test]
fn what_is_older_than_a_lost_segment_is_validated_and_stays_so() {
    for (later, removed) in [(1, false), (2, false), (3, false), (2, true)] {
        let dir = tempfile::tempdir().unwrap();
        let files = replaced(dir.path(), later);
        match removed {
            true => fs::remove_file(&files[later]).unwrap(),
            false => damage(&files[later]),
        }
        for round in 0..3 {
            let tier = open(dir.path(), CAPACITY);
            run(async {
                let doubted = Reuse::AfterValidation;
                assert_eq!(
                    found(&tier, "key").await,
                    Some((1, doubted)),
                    "{later} {round}"
                );
                assert_eq!(found(&tier, "other").await, Some((2, doubted)));
                // What was stored since is not doubted.
                if round > 0 {
                    assert_eq!(found(&tier, "new").await, Some((9, Reuse::Normal)));
                }
                tier.put(&small("new", 9, 1_000), BORN).await;
                tier.settle().await;
            });
            tier.stop();
        }
        let tier = open(dir.path(), CAPACITY);
        run(async {
            tier.put(&small("key", 7, 1_000), BORN).await;
            tier.settle().await;
            assert_eq!(found(&tier, "key").await, Some((7, Reuse::Normal)));
            // Nothing of it is written again under another name for certain.
            for at in 0..12 {
                fill(&tier, &format!("more {at}")).await;
                let kept = found(&tier, "other").await;
                assert!(kept.is_none_or(|(_, reuse)| reuse == Reuse::AfterValidation));
            }
        });
        tier.stop();
    }
}

/// What a process that is killed leaves that stored `key` as 1, and as 3 in a later segment that it
/// did not seal, between entries of its own.
fn killed(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let tier = open(dir, CAPACITY);
    let files = run(async {
        tier.put(&small("key", 1, 1_000), BORN).await;
        tier.put(&small("other", 2, 1_000), BORN).await;
        fill(&tier, "before").await;
        for (key, number) in [("beside", 5), ("key", 3), ("next", 6), ("behind", 4)] {
            tier.put(&small(key, number, 1_000), BORN).await;
        }
        tier.settle().await;
        assert_eq!(segments(dir, &tier).len(), 2);
        copied(dir)
    });
    tier.stop();
    files
}

#[test]
fn what_is_older_than_a_lost_head_is_validated_and_stays_so() {
    // A bit, what hides one record; or two heads and what lies between them.
    for sector in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut files = killed(dir.path());
        let hurt = files.iter_mut().filter_map(|(_, bytes)| {
            let (head, _) = record_of(bytes, &content(3, 1_000))?;
            let (next, _) = record_of(bytes, &content(6, 1_000))?;
            match sector {
                true => bytes[head..next + 60].fill(0),
                false => bytes[head + 20] ^= 1,
            }
            Some(())
        });
        assert_eq!(hurt.count(), 1);
        restore(dir.path(), &files);
        for round in 0..3 {
            let tier = open(dir.path(), CAPACITY);
            run(async {
                let doubted = Reuse::AfterValidation;
                assert_eq!(found(&tier, "key").await, Some((1, doubted)), "{round}");
                assert_eq!(found(&tier, "other").await, Some((2, doubted)));
                assert_eq!(found(&tier, "beside").await, Some((5, doubted)));
                assert_eq!(tier.which("next").await, (!sector).then_some(6));
                assert_eq!(tier.which("behind").await, Some(4));
                // What was stored since is not doubted.
                if round > 0 {
                    assert_eq!(found(&tier, "new").await, Some((9, Reuse::Normal)));
                }
                tier.put(&small("new", 9, 1_000), BORN).await;
                tier.settle().await;
            });
            tier.stop();
        }
    }
}

#[test]
fn what_is_older_than_the_lost_end_of_a_sealed_segment_is_validated_and_stays_so() {
    let dir = tempfile::tempdir().unwrap();
    let files = replaced(dir.path(), 2);
    // All of it but the trailer, from a record before the one that replaced `key` on.
    let mut bytes = fs::read(&files[2]).unwrap();
    let (head, _) = record_of(&bytes, &content(59, 100_000)).unwrap();
    let trailer = bytes.len() - usize::try_from(format::TRAILER).unwrap();
    bytes[head..trailer].fill(0);
    fs::write(&files[2], bytes).unwrap();
    for _ in 0..3 {
        let tier = open(dir.path(), CAPACITY);
        run(async {
            let doubted = Reuse::AfterValidation;
            assert_eq!(found(&tier, "key").await, Some((1, doubted)));
            assert_eq!(found(&tier, "other").await, Some((2, doubted)));
            assert_eq!(found(&tier, "last").await, Some((4, Reuse::Normal)));
        });
        tier.stop();
    }
}

#[test]
fn a_kill_casts_no_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let files = killed(dir.path());
    restore(dir.path(), &files);
    let tier = open(dir.path(), CAPACITY);
    run(async {
        assert_eq!(found(&tier, "key").await, Some((3, Reuse::Normal)));
        assert_eq!(found(&tier, "other").await, Some((2, Reuse::Normal)));
    });
    tier.stop();
}

#[test]
fn where_nothing_is_lost_nothing_is_doubted() {
    let dir = tempfile::tempdir().unwrap();
    replaced(dir.path(), 2);
    for _ in 0..3 {
        let tier = open(dir.path(), CAPACITY);
        run(async {
            assert_eq!(found(&tier, "key").await, Some((3, Reuse::Normal)));
            assert_eq!(found(&tier, "other").await, Some((2, Reuse::Normal)));
        });
        tier.stop();
    }
}

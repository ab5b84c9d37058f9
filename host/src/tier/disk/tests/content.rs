//! Large content: streamed, shared, held while its segment is reclaimed; and going through it all.

use super::*;
use tokio::sync::Semaphore;

use crate::entry::kept::{READ_MAX, Reading};
use crate::entry::{Kept, Unreadable};
use crate::tier::slow::Cursor;

fn of(key: &str, number: u64) -> Envelope {
    Envelope::of(&small(key, number, 0), BORN, [0; 32]).expect("a response")
}

async fn push(writer: &mut Writer, number: u64, length: usize) -> Result<(), Written> {
    for piece in content(number, length).chunks(10_000) {
        writer.push(Bytes::copy_from_slice(piece)).await?;
    }
    Ok(())
}

#[test]
fn content_that_is_streamed_is_stored_once_it_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let tier = open(dir.path(), 40 * MIB);
        for (number, length) in [(1, 0), (2, 5_000), (3, 250_000), (4, 3_000_000)] {
            let key = format!("{number}");
            let mut writer = tier.writer(view(&key), None).unwrap();
            push(&mut writer, number, length).await.unwrap();
            assert_eq!(tier.which(&key).await, None);
            assert_eq!(writer.commit(of(&key, number)).await, Written::Accepted);
            tier.settle().await;
            let (found, bytes) = tier.read(&key).await.unwrap().unwrap();
            assert_eq!((found, bytes.len()), (number, length));
            let mut writer = tier.writer(view(&key), None).unwrap();
            push(&mut writer, number + 100, length).await.unwrap();
            drop(writer);
            tier.settle().await;
            assert_eq!(tier.which(&key).await, Some(number), "not committed");
        }
        assert_eq!(tier.usage().entries, 4);
        // What was put after it was begun and before it was committed gives way.
        let mut writer = tier.writer(view("4"), None).unwrap();
        push(&mut writer, 9, 400_000).await.unwrap();
        tier.put(&small("4", 8, 10), BORN).await;
        writer.commit(of("4", 9)).await;
        tier.settle().await;
        assert_eq!(tier.which("4").await, Some(9));
        tier.stop();
        assert_eq!(open(dir.path(), 40 * MIB).which("4").await, Some(9));
    });
}

#[test]
fn what_is_too_large_is_refused_and_what_it_replaces_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let tier = open(dir.path(), 8 * MIB);
        for key in ["put", "streamed"] {
            tier.put(&small(key, 1, 1_000), BORN).await;
        }
        tier.settle().await;
        let written = tier.put(&large("put", 2, 3_000_000), BORN).await;
        assert_eq!(written, Written::TooLarge);
        let streamed = view("streamed");
        assert!(tier.writer(streamed, Some(3_000_000)).is_none());
        let mut writer = tier.writer(streamed, None).unwrap();
        let pushed = push(&mut writer, 2, 3_000_000).await;
        assert_eq!(pushed, Err(Written::TooLarge));
        assert_eq!(writer.commit(of("streamed", 2)).await, Written::TooLarge);
        tier.settle().await;
        tier.stop();
        let tier = open(dir.path(), 8 * MIB);
        for key in ["put", "streamed"] {
            assert_eq!(tier.which(key).await, None, "{key}");
        }
        tier.stop();
    });
}

#[test]
fn a_fresh_head_shares_the_content() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let tier = open(dir.path(), 40 * MIB);
        tier.put(&large("k", 5, 4_000_000), BORN).await;
        tier.settle().await;
        let before = tier.stats().bytes_written.get();
        for _ in 0..3 {
            let found = tier.get(view("k")).await.unwrap().unwrap();
            let FoundBody::Kept(kept) = found.body else {
                panic!("it is large")
            };
            let again = entry("k", 5, StoredBody::kept(kept));
            assert_eq!(tier.put(&again, BORN).await, Written::Accepted);
            tier.settle().await;
            assert_eq!(tier.which("k").await, Some(5));
        }
        assert!(tier.stats().bytes_written.get() - before < 20_000);
        // Content of another tier is copied.
        let other = tempfile::tempdir().unwrap();
        let second = open(other.path(), 40 * MIB);
        let found = tier.get(view("k")).await.unwrap().unwrap();
        let FoundBody::Kept(kept) = found.body else {
            panic!("it is large")
        };
        let entry = entry("k", 5, StoredBody::kept(kept));
        assert_eq!(second.put(&entry, BORN).await, Written::Accepted);
        second.settle().await;
        tier.stop();
        assert_eq!(second.which("k").await, Some(5));
        second.stop();
    });
}

/// Content in another tier, which can be read once that is `open`.
#[derive(Debug)]
struct Elsewhere {
    content: Bytes,
    open: Arc<Semaphore>,
}

impl Kept for Elsewhere {
    fn len(&self) -> u64 {
        long(self.content.len())
    }

    fn read(&self, at: u64) -> Reading {
        let open = Arc::clone(&self.open);
        let rest = self.content.slice(short(at)..);
        Box::pin(async move {
            drop(open.acquire().await);
            Ok(rest.slice(..rest.len().min(READ_MAX)))
        })
    }
}

#[test]
fn what_is_copied_gives_way_to_what_is_put_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let tier = open(dir.path(), 40 * MIB);
        for (key, length) in [("a", 600_000), ("b", 1_000)] {
            let gate = Arc::new(Semaphore::new(0));
            let kept = Elsewhere {
                content: content(1, length),
                open: Arc::clone(&gate),
            };
            let older = entry(key, 1, StoredBody::kept(Arc::new(kept)));
            let meanwhile = async {
                let newer = tier.put(&small(key, 2, 10), BORN).await;
                assert_eq!(newer, Written::Accepted);
                gate.add_permits(1);
            };
            // In this order.
            tokio::join!(tier.put(&older, BORN), meanwhile);
            tier.settle().await;
            assert_eq!(tier.which(key).await, Some(2), "{key}");
        }
        // Who is not patient enough leaves nothing behind.
        let kept = Elsewhere {
            content: content(3, 600_000),
            open: Arc::new(Semaphore::new(0)),
        };
        let never = entry("a", 3, StoredBody::kept(Arc::new(kept)));
        let patience = Duration::from_millis(10);
        let given_up = tokio::time::timeout(patience, tier.put(&never, BORN)).await;
        assert!(given_up.is_err());
        tier.settle().await;
        assert_eq!(tier.which("a").await, None, "it was to be replaced");
        tier.put(&small("a", 4, 10), BORN).await;
        tier.settle().await;
        tier.stop();
        assert_eq!(open(dir.path(), 40 * MIB).which("a").await, Some(4));
    });
}

#[test]
fn what_is_held_stays_readable_or_is_gone_but_never_wrong() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let tier = open(dir.path(), 16 * MIB);
        let (mut held, mut read, mut gone) = (Vec::new(), 0, 0);
        for number in 0..40 {
            let key = format!("{number}");
            tier.put(&large(&key, number, 1_000_000), BORN).await;
            tier.settle().await;
            let Some(found) = tier.get(view(&key)).await.unwrap() else {
                panic!("it was just put")
            };
            let FoundBody::Kept(kept) = found.body else {
                panic!("it is large")
            };
            held.push((number, kept));
            if held.len() > 20 {
                held.remove(0);
            }
            for (number, kept) in &held {
                match kept.read(500_000).await {
                    Ok(bytes) => {
                        let expected = content(*number, 1_000_000);
                        assert!(bytes == expected[500_000..500_000 + bytes.len()]);
                        read += 1;
                    }
                    Err(error) => {
                        assert_eq!(error, Unreadable::Gone);
                        gone += 1;
                    }
                }
            }
            assert!(occupied(dir.path()) <= 16 * MIB);
        }
        // More is held than the tier has room for.
        assert!(read > 300 && gone > 10, "{read} {gone}");
        let (number, kept) = &held[19];
        assert!(kept.read(0).await.unwrap() == content(*number, 64 << 10));
        drop(held);
        tier.put(&large("last", 99, 1_000_000), BORN).await;
        tier.settle().await;
        assert_eq!(tier.which("last").await, Some(99));
        tier.stop();
    });
}

#[test]
fn a_range_is_read_without_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let tier = open(dir.path(), 40 * MIB);
        tier.put(&large("k", 5, 8_000_000), BORN).await;
        tier.settle().await;
        let found = tier.get(view("k")).await.unwrap().unwrap();
        let FoundBody::Kept(kept) = found.body else {
            panic!("it is large")
        };
        let before = tier.stats().bytes_read.get();
        let bytes = kept.read(5_000_001).await.unwrap();
        let expected = content(5, 8_000_000);
        assert!(bytes == expected[5_000_001..5_000_001 + bytes.len()]);
        assert!(tier.stats().bytes_read.get() - before <= 64 << 10);
        tier.stop();
    });
}

#[test]
fn everything_is_listed_and_what_is_damaged_or_purged_is_scrubbed() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let valid: Valid = Arc::new(|envelope| !envelope.tags.contains(&Tag(3)));
        let settings = settings(dir.path(), 16 * MIB);
        let tier = DiskTier::open(&settings, valid).unwrap();
        tier.shared.loaded();
        for number in 0..50 {
            let length = if number == 7 { 700_000 } else { 60_000 };
            let entry = large(&format!("key {number}"), number, length);
            tier.put(&entry, BORN).await;
        }
        tier.remove(view("key 4"));
        tier.put(&small("key 5", 5, 10), BORN).await;
        tier.settle().await;
        let (mut keys, mut cursor) = (Vec::new(), Some(Cursor::default()));
        while let Some(from) = cursor {
            let page = tier.list(from, 7).await.unwrap();
            assert!(page.entries.len() <= 7);
            keys.extend(page.entries.into_iter().map(|envelope| envelope.key));
            cursor = page.next;
        }
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 49);
        let first = tier.scrub(u64::MAX).await.unwrap();
        assert_eq!((first.entries, first.purged, first.damaged), (48, 1, 0));
        assert_eq!(first.bytes, 46 * 60_000 + 700_000 + 10);
        // Damage in the middle of the content of one entry.
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(dir.path().join("seg-000000"))
            .unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 8], 40_000).unwrap();
        let second = tier.scrub(u64::MAX).await.unwrap();
        assert_eq!((second.entries, second.purged, second.damaged), (47, 0, 1));
        assert_eq!(tier.usage().entries, 47);
        tier.stop();
    });
}

#[test]
fn purges_that_nothing_stored_is_older_than_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let born = |node, purge| Born { node, purge, at: 1 };
    run(async {
        let tier = open(dir.path(), 8 * MIB);
        assert_eq!(tier.oldest_purge(1), None);
        tier.put(&small("a", 1, 10), born(1, 12)).await;
        // Also what waits.
        assert_eq!(tier.oldest_purge(1), Some(12));
        tier.put(&small("b", 1, 10), born(1, 9)).await;
        tier.put(&small("c", 1, 10), born(2, 30)).await;
        tier.settle().await;
        tier.stop();
        let tier = open(dir.path(), 8 * MIB);
        assert_eq!(tier.oldest_purge(1), Some(9));
        assert_eq!(tier.oldest_purge(2), Some(30));
        assert_eq!(tier.oldest_purge(3), None);
        // Once the segment is gone, so are they.
        for number in 0..300 {
            let entry = small(&format!("{number}"), number, 40_000);
            tier.put(&entry, born(1, 50)).await;
            tier.settle().await;
        }
        assert_eq!(tier.oldest_purge(1), Some(50));
        assert_eq!(tier.oldest_purge(2), None);
        tier.stop();
    });
}

#[test]
fn the_capacity_can_be_changed_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let tier = open(dir.path(), 20 * MIB);
        let fill = async |from: u64| {
            for number in from..from + 500 {
                let entry = small(&format!("{number}"), number, 40_000);
                tier.put(&entry, BORN).await;
            }
            tier.settle().await;
        };
        fill(0).await;
        assert!(occupied(dir.path()) > 17 * MIB);
        tier.set_capacity(10 * MIB).unwrap();
        fill(500).await;
        assert!(occupied(dir.path()) <= 10 * MIB);
        assert_eq!(tier.usage().capacity, 10 * MIB);
        assert!(tier.usage().bytes <= 10 * MIB);
        assert_eq!(tier.which("999").await, Some(999));
        tier.set_capacity(20 * MIB).unwrap();
        fill(1_000).await;
        assert!(occupied(dir.path()) > 17 * MIB);
        assert_eq!(tier.which("1499").await, Some(1_499));
        assert!(tier.set_capacity(MIB).is_err());
        tier.stop();
    });
}

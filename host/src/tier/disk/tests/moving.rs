//! Large content in segments that are reclaimed: moved if it is worth it, else gone.

use std::sync::Mutex;

use super::*;
use crate::entry::Kept;
use crate::tier::eviction::Stored;

const CAPACITY: u64 = 8 * MIB;
/// More than one record takes, and less than a quarter of a segment.
const LARGE: usize = 200_000;

/// Puts `count` entries that nobody asks for, from number `from` on, and calls `between` after each.
async fn pass(tier: &DiskTier, from: u64, count: u64, mut between: impl AsyncFnMut()) {
    for number in from..from + count {
        let key = format!("passing {number}");
        tier.put(&small(&key, number, 50_000), BORN).await;
        tier.settle().await;
        between().await;
    }
}

/// What is held of the content under `key`.
async fn held(tier: &DiskTier, key: &str) -> Arc<dyn Kept> {
    let found = tier.get(view(key)).await.unwrap().unwrap();
    let FoundBody::Kept(kept) = found.body else {
        panic!("it is large")
    };
    kept
}

#[test]
fn large_content_that_is_hit_stays_and_what_is_not_goes() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let tier = open(dir.path(), CAPACITY);
        tier.put(&large("idle", 1, LARGE), BORN).await;
        // So that the next lies at the end of a segment, and at the start of another.
        pass(&tier, 100, 14, async || {}).await;
        tier.put(&large("hot", 2, LARGE), BORN).await;
        tier.settle().await;
        let mut from = 1_000;
        for round in 0..4 {
            // One hit is enough for both parts.
            assert_eq!(tier.which("hot").await, Some(2), "round {round}");
            let before = tier.stats().reinserted.get();
            while tier.stats().reinserted.get() < before + 2 {
                pass(&tier, from, 1, async || {}).await;
                from += 1;
            }
            assert!(occupied(dir.path()) <= CAPACITY);
        }
        assert_eq!(tier.which("idle").await, None);
        let written = tier.stats().bytes_written.get();
        let admitted = tier.stats().bytes_admitted.get();
        assert!(written * 100 <= admitted * 135, "{written} for {admitted}");
        let entries = tier.usage().entries;
        tier.stop();
        drop(tier);
        let tier = open(dir.path(), CAPACITY);
        assert_eq!(tier.usage().entries, entries);
        assert_eq!(tier.which("hot").await, Some(2));
        assert_eq!(tier.which("idle").await, None);
        assert_eq!(tier.scrub(u64::MAX).await.unwrap().damaged, 0);
        // Not asked for any more, it goes.
        pass(&tier, from, 600, async || {}).await;
        assert_eq!(tier.which("hot").await, None);
        tier.stop();
    });
}

#[test]
fn who_holds_content_is_led_to_where_it_was_moved() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let tier = open(dir.path(), CAPACITY);
        tier.put(&large("k", 1, LARGE), BORN).await;
        tier.settle().await;
        let reader = held(&tier, "k").await;
        let expected = content(1, LARGE);
        for round in 0..300_u64 {
            // Each reading from the start counts as a hit, so it is moved each time.
            let mut read = Vec::new();
            while read.len() < LARGE {
                let bytes = reader.read(long(read.len())).await;
                read.extend_from_slice(&bytes.unwrap_or_else(|error| panic!("{round}: {error}")));
            }
            assert!(read == expected);
            pass(&tier, round, 1, async || {}).await;
        }
        assert!(tier.stats().reinserted.get() >= 2);
        // A fresh head shares it, although it was found where it is not any more.
        let before = tier.stats().bytes_written.get();
        let again = entry("k", 1, StoredBody::kept(reader));
        assert_eq!(tier.put(&again, BORN).await, Written::Accepted);
        tier.settle().await;
        assert!(tier.stats().bytes_written.get() - before < 20_000);
        assert_eq!(tier.which("k").await, Some(1));
        tier.stop();
    });
}

#[test]
fn what_is_read_while_it_is_moved_is_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let tier = open(dir.path(), CAPACITY);
        tier.put(&large("k", 1, LARGE), BORN).await;
        tier.settle().await;
        let expected = content(1, LARGE);
        let mut from = 0;
        for _ in 0..4 {
            // Begun before the segment is reclaimed, and ended after it.
            let reader = held(&tier, "k").await;
            let first = reader.read(0).await.unwrap();
            let before = tier.stats().reinserted.get();
            while tier.stats().reinserted.get() == before {
                pass(&tier, from, 1, async || {}).await;
                from += 1;
            }
            let mut read = first.to_vec();
            while read.len() < LARGE {
                read.extend_from_slice(&reader.read(long(read.len())).await.unwrap());
            }
            assert!(read == expected);
            assert_eq!(tier.which("k").await, Some(1));
        }
        tier.stop();
    });
}

/// Keeps what takes more than so many bytes, and notes what it is asked.
#[derive(Default)]
struct LargerThan(u64, Mutex<Vec<Stored>>);

impl Reinsertion for LargerThan {
    fn keep(&self, entries: &[Stored]) -> Vec<bool> {
        self.1.lock().unwrap().extend(entries);
        entries.iter().map(|entry| entry.size > self.0).collect()
    }
}

#[test]
fn the_rule_is_asked_about_content_of_any_size() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let tier = open(dir.path(), CAPACITY);
        let rule = Arc::new(LargerThan(100_000, Mutex::default()));
        tier.set_reinsertion(Arc::<LargerThan>::clone(&rule));
        tier.put(&small("small", 1, 1_000), BORN).await;
        tier.put(&large("large", 2, LARGE), BORN).await;
        tier.put(&large("too large", 3, 2 * LARGE), BORN).await;
        pass(&tier, 10, 400, async || {
            tier.which("small").await;
        })
        .await;
        assert_eq!(tier.which("small").await, None, "although it was hit");
        assert_eq!(tier.which("large").await, Some(2), "although it was not");
        // More than may be written again of one segment.
        assert_eq!(tier.which("too large").await, None);
        let asked = rule.1.lock().unwrap().clone();
        let of = |key: &str| {
            let hash = tier.shared.hash(key.as_bytes()).0;
            asked.iter().find(|stored| stored.hash == hash).unwrap()
        };
        // With head, checksums and the table that leads to it.
        assert!((200_000..202_000).contains(&of("large").size));
        assert!((400_000..402_000).contains(&of("too large").size));
        assert!(of("small").hits == 3 && of("large").hits == 0);
        assert_eq!(
            tier.stats().evicted.incomplete.get(),
            0,
            "it was forgotten in time"
        );
        tier.stop();
    });
}

#[test]
fn content_that_is_damaged_or_purged_is_not_moved() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let valid: Valid = Arc::new(|envelope| !envelope.tags.contains(&Tag(3)));
        let settings = settings(dir.path(), CAPACITY);
        let tier = DiskTier::open(&settings, valid).unwrap();
        tier.shared.loaded();
        for (key, number) in [("damaged", 2), ("purged", 3), ("sound", 4)] {
            tier.put(&large(key, number, LARGE), BORN).await;
            // Each in a segment of its own.
            pass(&tier, number * 100, 20, async || {}).await;
            assert_eq!(tier.which(key).await, Some(number));
        }
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(dir.path().join("seg-000000"))
            .unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 8], 150_000).unwrap();
        pass(&tier, 1_000, 200, async || {}).await;
        assert_eq!(tier.which("damaged").await, None);
        assert_eq!(tier.which("purged").await, None);
        assert_eq!(tier.which("sound").await, Some(4));
        assert_eq!(tier.stats().evicted.purged.get(), 1);
        tier.stop();
    });
}

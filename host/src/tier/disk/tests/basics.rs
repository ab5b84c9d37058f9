//! What the tier does when nothing fails.

use super::*;

#[test]
fn what_is_put_is_found_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let lengths = [0, 1, 100, 70_000, 200_000, 300_000, 1_500_000, 3_000_000];
    run(async {
        let mut tier = open(dir.path(), 40 * MIB);
        for (number, length) in (0..).zip(lengths) {
            let entry = large(&format!("key {number}"), number, length);
            assert_eq!(tier.put(&entry, BORN).await, Written::Accepted);
        }
        tier.settle().await;
        for _ in 0..3 {
            for (number, length) in (0..).zip(lengths) {
                let key = format!("key {number}");
                assert!(tier.may_hold(view(&key)));
                let (found, bytes) = tier.read(&key).await.unwrap().expect("what was put");
                assert_eq!((found, bytes.len()), (number, length));
            }
            assert!(!tier.may_hold(view("another")));
            assert_eq!(tier.which("another").await, None);
            let usage = tier.usage();
            assert_eq!(usage.entries, 8);
            assert!((5_000_000..40 * MIB).contains(&usage.bytes), "{usage:?}");
            tier.stop();
            tier = open(dir.path(), 40 * MIB);
        }
        tier.stop();
    });
}

#[test]
fn the_newest_put_counts_and_what_was_removed_stays_removed() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let tier = open(dir.path(), 8 * MIB);
        for number in 0..20 {
            tier.put(&small("k", number, 1_000), BORN).await;
            tier.put(&small("removed", number, 1_000), BORN).await;
            if number % 5 == 0 {
                tier.settle().await;
                assert_eq!(tier.which("k").await, Some(number));
            }
        }
        // Also what is on its way.
        tier.remove(view("removed"));
        tier.settle().await;
        assert_eq!(tier.which("removed").await, None);
        tier.stop();
        drop(tier);
        let tier = open(dir.path(), 8 * MIB);
        assert_eq!(tier.which("k").await, Some(19));
        assert_eq!(tier.which("removed").await, None);
        assert_eq!(tier.usage().entries, 1);
        tier.stop();
    });
}

#[test]
fn room_is_made_by_the_age_of_segments_and_what_is_hit_stays() {
    let dir = tempfile::tempdir().unwrap();
    let capacity = 8 * MIB;
    run(async {
        let tier = open(dir.path(), capacity);
        for number in 0..600 {
            let key = format!("key {number}");
            let entry = small(&key, number, 50_000);
            assert_eq!(tier.put(&entry, BORN).await, Written::Accepted);
            tier.settle().await;
            assert_eq!(tier.which("key 3").await, (number >= 3).then_some(3));
            assert!(occupied(dir.path()) <= capacity);
        }
        assert_eq!(tier.which("key 599").await, Some(599));
        assert_eq!(tier.which("key 4").await, None);
        assert!(tier.stats().reinserted.get() > 0);
        let written = tier.stats().bytes_written.get();
        let admitted = tier.stats().bytes_admitted.get();
        assert!(written * 100 <= admitted * 135, "{written} for {admitted}");
        let entries = tier.usage().entries;
        assert!((80..160).contains(&entries), "{entries}");
        tier.stop();
        drop(tier);
        let tier = open(dir.path(), capacity);
        assert_eq!(tier.usage().entries, entries);
        assert_eq!(tier.which("key 3").await, Some(3));
        assert_eq!(tier.which("key 4").await, None);
        tier.stop();
    });
}

#[test]
fn a_record_under_the_same_hash_is_not_taken_for_another_key() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let tier = open(dir.path(), 8 * MIB);
        tier.put(&small("a", 1, 1_000), BORN).await;
        tier.settle().await;
        // As if the hashes of the two keys were the same.
        let (a, b) = (tier.shared.hash(b"a"), tier.shared.hash(b"b"));
        let there = tier.shared.index.get(a).unwrap();
        tier.shared.index.insert(b, there.place, there.expires);
        assert_eq!(tier.which("b").await, None);
        assert_eq!(tier.which("a").await, Some(1));
        assert_eq!(tier.stats().corrupt.get(), 0, "it is no damage");
        tier.stop();
    });
}

#[test]
fn what_is_of_no_use_any_more_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let tier = open(dir.path(), 8 * MIB);
        let entry = small("k", 1, 1_000);
        let mut head = entry.response().unwrap().clone();
        // Nothing to validate it by, and stale for longer than an hour.
        head.headers.remove("etag");
        head.lifetime.initial_age = Duration::from_hours(20);
        head.lifetime.fresh_for = Duration::from_hours(1);
        let content = Content::Response(head);
        let stale = Entry::new(entry.key.clone(), SiteId(1), Vec::new(), content);
        tier.put(&Arc::new(stale), BORN).await;
        tier.settle().await;
        let later = clock::unix_millis(clock::wall()) + 3_700_000;
        let found = tier.shared.index.get(tier.shared.hash(b"k")).unwrap();
        assert!(found.expires.is_over(later));
        tier.stop();
    });
}

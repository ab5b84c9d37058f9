//! The bytes of the memory tier: never more than its capacity, whatever is stored.

use crate::support::edge::{Edge, Setup};
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::Reply;

const CAPACITY: u64 = 8 << 20;

fn check(edge: &Edge) {
    let metrics = edge.metrics();
    let bytes = metrics.count("larder_tier_bytes", &[]);
    assert_eq!(metrics.count("larder_tier_capacity_bytes", &[]), CAPACITY);
    assert!(bytes <= CAPACITY, "{bytes} of {CAPACITY}");
}

/// Stores three times the capacity in objects of `size` bytes.
fn overflow(policy: &str, size: u64) {
    let origin = Origin::start();
    let reply = Reply::pattern(size).field("Cache-Control", "max-age=600");
    origin.on("/a", reply);
    let chosen = format!("[site.policy]\neviction = \"{policy}\"\n");
    let edge = Setup::site(&origin, &chosen)
        .flag("--memory", "8MiB")
        .start();
    let count = usize::try_from(3 * CAPACITY / size).expect("few");
    let mut client = edge.client();
    for number in 0..count {
        let response = client.get(&format!("/a?{number}"));
        pattern::check(0, &response.body);
        if number % (count / 64).max(1) == 0 {
            check(&edge);
        }
    }
    edge.flush();
    check(&edge);
    let metrics = edge.metrics();
    let entries = metrics.count("larder_tier_entries", &[]);
    let evicted = metrics.count("larder_evictions_total", &[]);
    assert_eq!(
        metrics.count("larder_tier_writes_total", &[]),
        pattern::to_u64(count)
    );
    assert_eq!(
        entries + evicted,
        pattern::to_u64(count),
        "what was stored is here or was evicted"
    );
    assert!(
        entries * size >= CAPACITY / 2,
        "{entries} entries are too few"
    );
    // The newest are there, and hit.
    let mut hits = 0;
    for number in 0..count {
        hits += u64::from(
            client
                .get_with(
                    &format!("/a?{number}"),
                    &[("Cache-Control", "only-if-cached")],
                )
                .status()
                == 200,
        );
    }
    assert_eq!(hits, entries);
}

#[test]
fn small_objects_stay_within_the_capacity_by_the_shipped_policy() {
    overflow("s3-fifo", 8 << 10);
}

#[test]
fn small_objects_stay_within_the_capacity_by_the_native_order() {
    overflow("native:lru", 8 << 10);
}

#[test]
fn large_objects_stay_within_the_capacity() {
    overflow("s3-fifo", 1 << 20);
}

#[test]
fn an_object_over_a_quarter_of_the_capacity_is_passed_through() {
    let origin = Origin::start();
    let large = Reply::pattern(3 << 20).field("Cache-Control", "max-age=600");
    let small = Reply::pattern(1_000)
        .field("Cache-Control", "max-age=0")
        .field("ETag", "\"1\"");
    origin.sequence("/a", vec![small, large]);
    let edge = Setup::before(&origin).flag("--memory", "8MiB").start();
    assert_eq!(edge.get("/a").body.len(), 1_000);
    for _ in 0..2 {
        let response = edge.get("/a");
        assert_eq!(response.body.len(), 3 << 20);
        pattern::check(0, &response.body);
        assert!(
            !response.is_hit(),
            "the older one is gone, the new one too large"
        );
    }
    assert_eq!(edge.metrics().count("larder_tier_entries", &[]), 0);
}

#[test]
fn without_memory_everything_is_passed_through() {
    let origin = Origin::always(Reply::cached("content"));
    let edge = Setup::before(&origin).flag("--memory", "0").start();
    for _ in 0..3 {
        assert_eq!(edge.get("/a").text(), "content");
    }
    assert_eq!(origin.total(), 3);
}

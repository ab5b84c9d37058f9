//! Which tiers are asked, and which are given what a slower one held.

use crate::below::{Below, count, forget, restart};
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::Reply;

fn lasting(length: u64) -> Reply {
    Reply::pattern(length).field("Cache-Control", "max-age=600")
}

/// S6: memory is lost, then memory and disk, and each time the next tier fills those above it.
#[test]
fn each_lost_tier_is_filled_from_the_next() {
    for size in [3_000, 2_000_000_u64] {
        let origin = Origin::always(lasting(size));
        let mut edge = Below::Both.setup(&origin).start();
        edge.get("/a");
        forget(&mut edge);
        assert!(edge.get("/a").is_hit());
        let hits = |edge: &_| ["disk", "object_store"].map(|tier| count(edge, tier, "hits"));
        assert_eq!(
            hits(&edge),
            [1, 0],
            "the disk answers, and the store is not asked"
        );
        edge.flush();
        edge.stop();
        std::fs::remove_dir_all(edge.data_dir().join("cache")).expect("the tier's directory");
        restart(&mut edge);
        let answer = edge.get("/a");
        assert!(answer.is_hit(), "{}", answer.cache_status());
        pattern::check(0, &answer.body);
        assert_eq!(hits(&edge), [0, 1]);
        forget(&mut edge);
        assert!(edge.get("/a").is_hit());
        assert_eq!(hits(&edge), [1, 0], "{size}: the store has filled the disk");
        assert_eq!(origin.total(), 1);
    }
}

#[test]
fn a_filled_tier_keeps_the_remaining_lifetime() {
    let origin = Origin::always(
        Reply::ok("x")
            .field("Cache-Control", "max-age=600")
            .field("Age", "590"),
    );
    let mut edge = Below::Both.setup(&origin).start();
    edge.get("/a");
    edge.flush();
    edge.stop();
    std::fs::remove_dir_all(edge.data_dir().join("cache")).expect("the tier's directory");
    restart(&mut edge);
    for _ in 0..2 {
        let answer = edge.get("/a");
        assert!(answer.is_hit());
        let age = answer.age().expect("an age");
        assert!((590..600).contains(&age), "{age}");
        forget(&mut edge);
    }
}

#[test]
fn many_requests_for_one_key_cost_one_lookup_below() {
    let origin = Origin::always(lasting(200_000));
    let mut edge = Below::Store.setup(&origin).start();
    edge.get("/a");
    forget(&mut edge);
    let threads: Vec<_> = (0..100)
        .map(|_| {
            let mut client = edge.client();
            std::thread::spawn(move || client.get("/a"))
        })
        .collect();
    for thread in threads {
        let answer = thread.join().expect("no panic");
        assert!(answer.is_hit(), "{}", answer.cache_status());
        pattern::check(0, &answer.body);
    }
    assert!(
        count(&edge, "object_store", "lookups") < 20,
        "they share lookups"
    );
    assert_eq!(origin.total(), 1);
}

#[test]
fn a_read_only_store_is_read_and_never_written() {
    let origin = Origin::always(lasting(1_000));
    let mut edge = Below::Both.setup(&origin).start();
    edge.get("/a");
    forget(&mut edge);
    let store = format!("file://{}", edge.dir().join("store").display());
    let reader = Below::Disk
        .setup(&origin)
        .flag("--object-store", &store)
        .set("object_store.mode", "ro")
        .start();
    let answer = reader.get("/a");
    assert!(answer.is_hit(), "{}", answer.cache_status());
    reader.get("/b");
    reader.flush();
    assert_eq!(count(&reader, "object_store", "writes"), 0);
    assert_eq!(count(&reader, "object_store", "write_failures"), 0);
    assert_eq!(
        count(&reader, "disk", "writes"),
        2,
        "the rest of the chain is written"
    );
}

#[test]
fn two_nodes_share_what_one_has_fetched() {
    let origin = Origin::always(lasting(500_000));
    let dir = tempfile::tempdir().expect("a directory");
    let store = format!("file://{}", dir.path().display());
    let node = || {
        crate::support::edge::Setup::before(&origin)
            .flag("--object-store", &store)
            .start()
    };
    let (first, second) = (node(), node());
    first.get("/a");
    first.flush();
    let answer = second.get("/a");
    assert!(answer.is_hit(), "{}", answer.cache_status());
    pattern::check(0, &answer.body);
    assert_eq!(origin.total(), 1);
}

#[test]
fn what_is_not_for_sharing_is_not_looked_for() {
    let origin = Origin::always(Reply::ok("x").field("Cache-Control", "private"));
    let edge = Below::Store.setup(&origin).start();
    for _ in 0..5 {
        assert_eq!(edge.get("/a").text(), "x");
    }
    assert_eq!(origin.total(), 5);
    assert_eq!(count(&edge, "object_store", "lookups"), 1);
}

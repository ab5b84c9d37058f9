//! Content that memory has no room for goes to the first tier below it that takes it, while it
//! arrives; without a disk that is the object store.

use crate::below::{ALL, Below, count, forget};
use crate::inject;
use crate::support::client::request;
use crate::support::edge::{Edge, Setup};
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::{Gate, Reply};

/// More than a part of an upload, no whole number of anything, and what the disk just takes.
const SIZE: u64 = 16_700_003;

fn lasting(length: u64) -> Reply {
    Reply::pattern(length)
        .field("Cache-Control", "max-age=600")
        .field("ETag", "\"one\"")
}

/// An edge with memory for responses of 2 MiB.
fn small(below: Below, origin: &Origin) -> Setup {
    below.setup(origin).flag("--memory", "8MiB")
}

/// `/a` as a hit, whole and in parts.
#[track_caller]
fn check(edge: &Edge, size: u64) {
    let answer = edge.get("/a");
    assert!(answer.is_hit(), "{size}: {}", answer.cache_status());
    assert_eq!(answer.body.len(), usize::try_from(size).expect("small"));
    pattern::check(0, &answer.body);
    for (from, length) in [(0, 100), (9_999, 4_000), (size - 10, 10)] {
        let range = format!("bytes={from}-{}", from + length - 1);
        let answer = edge.get_with("/a", &[("Range", &range)]);
        assert_eq!(answer.status(), 206, "{size} {range}");
        assert_eq!(answer.body.len(), usize::try_from(length).expect("small"));
        pattern::check(from, &answer.body);
    }
}

#[test]
fn what_memory_has_no_room_for_outlasts_a_restart_in_every_tier_below() {
    for below in ALL {
        for told in [true, false] {
            let first = if told { 8 << 20 } else { 3_000_000 };
            for size in [first, SIZE] {
                let reply = if told {
                    lasting(size)
                } else {
                    lasting(size).chunked()
                };
                let origin = Origin::always(reply);
                let mut edge = small(below, &origin).start();
                let answer = edge.get("/a");
                pattern::check(0, &answer.body);
                edge.wait_for_landing();
                check(&edge, size);
                forget(&mut edge);
                check(&edge, size);
                assert_eq!(origin.total(), 1, "{below:?} {told} {size}");
            }
        }
    }
}

#[test]
fn a_cold_range_reads_little_of_the_store() {
    let origin = Origin::always(lasting(SIZE));
    let mut edge = small(Below::Store, &origin).start();
    edge.get("/a");
    forget(&mut edge);
    let answer = edge.get_with("/a", &[("Range", "bytes=10000000-10000999")]);
    assert_eq!(answer.status(), 206, "{}", answer.cache_status());
    pattern::check(10_000_000, &answer.body);
    assert_eq!(origin.total(), 1);
    let read = count(&edge, "object_store", "read_bytes");
    assert!(read < 3 << 20, "{read} bytes for a thousand");
}

#[test]
fn what_is_streamed_to_the_store_takes_little_memory() {
    let origin = Origin::always(lasting(100_000_000));
    let edge = small(Below::Store, &origin).start();
    edge.get("/warm-up");
    edge.flush();
    let before = edge.resident_bytes();
    let answer = edge.get("/a");
    assert_eq!(answer.body.len(), 100_000_000);
    let after = edge.resident_bytes();
    assert!(
        after < before + (64 << 20),
        "{before} bytes were resident, now {after}"
    );
    edge.wait_for_landing();
    assert!(edge.get_with("/a", &[("Range", "bytes=0-9")]).status() == 206);
    assert_eq!(origin.total(), 2);
}

#[test]
fn what_breaks_off_is_stored_nowhere_and_leaves_nothing_older() {
    for below in ALL {
        let origin = Origin::start();
        let broken = lasting(SIZE).cut_after(12_000_000);
        origin.sequence("/a", vec![lasting(SIZE), broken, Reply::cached("new")]);
        let mut edge = small(below, &origin).start();
        edge.get("/a");
        edge.flush();
        let reload = [("Cache-Control", "no-cache")];
        let mut client = edge.client();
        client.send(request("GET", "/a", &reload, b""));
        let head = client.head();
        assert!(client.read_body(&head, "GET", |_| {}).is_err(), "{below:?}");
        edge.wait_for_landing();
        forget(&mut edge);
        let answer = edge.get("/a");
        match answer.is_hit() {
            // What a fetch that failed would have replaced is as good as before.
            true => pattern::check(0, &answer.body),
            false => assert_eq!(answer.text(), "new", "{below:?}"),
        }
    }
}

/// What was replaced is not found again, and its content goes.
#[test]
fn a_newer_response_takes_the_place_of_a_streamed_one() {
    for below in ALL {
        let origin = Origin::start();
        let second = Reply::pattern(SIZE + 1).field("Cache-Control", "max-age=600");
        origin.sequence("/a", vec![lasting(SIZE), second, Reply::cached("third")]);
        let mut edge = small(below, &origin).start();
        let reload = [("Cache-Control", "no-cache")];
        edge.get("/a");
        edge.flush();
        edge.get_with("/a", &reload);
        edge.wait_for_landing();
        check(&edge, SIZE + 1);
        forget(&mut edge);
        check(&edge, SIZE + 1);
        edge.get_with("/a", &reload);
        forget(&mut edge);
        assert_eq!(edge.get("/a").text(), "third", "{below:?}");
        assert_eq!(origin.total(), 3);
    }
}

#[test]
fn what_was_asked_for_earlier_does_not_take_the_place_of_what_was_asked_for_later() {
    for below in ALL {
        let origin = Origin::start();
        let gate = Gate::default();
        let old = lasting(SIZE).pausing(14_000_000, &gate);
        origin.sequence("/a", vec![old, Reply::cached("new")]);
        let edge = small(below, &origin).start();
        let mut first = edge.client();
        first.send(request("GET", "/a", &[], b""));
        first.head();
        // More than is kept for who comes late.
        let mut had = pattern::to_u64(first.take(13_900_000).len());
        assert_eq!(edge.get("/a").text(), "new", "{below:?}");
        gate.open();
        while had < SIZE {
            let piece = first.some();
            assert!(!piece.is_empty(), "{below:?}: broke off after {had} bytes");
            pattern::check(had, &piece);
            had += pattern::to_u64(piece.len());
        }
        edge.wait_for_landing();
        let answer = edge.get("/a");
        assert_eq!((answer.body.len(), origin.total()), (3, 2), "{below:?}");
        assert!(answer.is_hit(), "{below:?}: {}", answer.cache_status());
    }
}

/// What must be validated before it is used is not used for a request that comes once all of it was
/// delivered, although its fetch goes on until the disk has it.
#[test]
fn who_comes_while_it_is_written_does_not_share_what_is_past() {
    if !inject::possible() {
        return;
    }
    let reply = Reply::pattern(3 << 20).field("Cache-Control", "no-cache");
    let origin = Origin::always(reply.field("ETag", "\"one\""));
    let mut edge = small(Below::Disk, &origin).start();
    edge.stop();
    edge.set_under(&inject::failing("pwritev", "delay_exit=500000"));
    edge.restart();
    for asked in 1..=2 {
        assert_eq!(edge.get("/a").status(), 200);
        assert_eq!(origin.total(), asked);
    }
}

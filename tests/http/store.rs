//! Hits and misses, and every byte of their bodies; answers to HEAD; ranges of what is stored.

use crate::support::edge::Edge;
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::{Frame, Reply};

const KIB: usize = 1 << 10;
const SIZES: [usize; 8] = [
    0,
    1,
    1_000,
    64 * KIB - 1,
    64 * KIB,
    64 * KIB + 1,
    1_024 * KIB,
    5 * 1_024 * KIB,
];

fn cached(length: usize, frame: Frame) -> Reply {
    Reply::pattern(pattern::to_u64(length))
        .framed(frame)
        .field("Cache-Control", "max-age=60")
}

/// First from the origin, then from store, whole and without a second call.
fn every_size_arrives_and_stays(frame: Frame) {
    let origin = Origin::start();
    for size in SIZES {
        origin.on(&format!("/{size}"), cached(size, frame));
    }
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    for size in SIZES {
        let target = format!("/{size}");
        for pass in 0..2 {
            let response = client.get(&target);
            assert_eq!(response.status(), 200, "{target}");
            assert_eq!(response.body.len(), size, "{target} {pass}");
            pattern::check(0, &response.body);
            assert_eq!(
                response.is_hit(),
                pass == 1,
                "{target}: {}",
                response.cache_status()
            );
            if pass == 1 {
                // What is stored has a known length, however it came.
                let length = response.field("content-length");
                assert_eq!(length, Some(size.to_string()), "{target}");
            }
        }
        assert_eq!(origin.count(&target), 1, "{target}");
    }
}

#[test]
fn bodies_of_any_size_with_a_length_are_stored_as_they_came() {
    every_size_arrives_and_stays(Frame::Length);
}

#[test]
fn chunked_bodies_of_any_size_are_stored_as_they_came() {
    every_size_arrives_and_stays(Frame::Chunked);
}

#[test]
fn bodies_that_end_with_the_connection_are_stored_as_they_came() {
    every_size_arrives_and_stays(Frame::Close);
}

#[test]
fn chunks_of_odd_sizes_are_put_together() {
    let origin = Origin::start();
    for piece in [1, 7, 4_093] {
        origin.on(
            &format!("/{piece}"),
            cached(20_011, Frame::Chunked).in_pieces(piece),
        );
    }
    let edge = Edge::before(&origin);
    for piece in [1, 7, 4_093] {
        for _ in 0..2 {
            let response = edge.get(&format!("/{piece}"));
            assert_eq!(response.body.len(), 20_011);
            pattern::check(0, &response.body);
        }
    }
    assert_eq!(origin.total(), 3);
}

#[test]
fn whoever_has_the_last_byte_finds_it_stored() {
    let origin = Origin::answering(|_| cached(3_000, Frame::Length));
    let edge = Edge::before(&origin);
    let (mut one, mut other) = (edge.client(), edge.client());
    for turn in 0..200 {
        let target = format!("/{turn}");
        assert!(!one.get(&target).is_hit());
        assert!(other.get(&target).is_hit(), "{target}");
    }
    assert_eq!(origin.total(), 200);
}

#[test]
fn different_targets_and_hosts_have_entries_of_their_own() {
    let origin = Origin::answering(|asked| {
        let host = asked.field("host").unwrap_or_default();
        Reply::cached(format!("{host}{}", asked.target))
    });
    let edge = Edge::before(&origin);
    for _ in 0..2 {
        for host in ["a.test", "b.test", "b.test:81"] {
            for target in [
                "/", "/x", "/x?", "/x?a=1", "/x?a=2", "/X", "//x", "/x%2F", "/x/../",
            ] {
                let response = edge.get_with(target, &[("Host", host)]);
                assert_eq!(response.text(), format!("{host}{target}"));
            }
        }
    }
    assert_eq!(origin.total(), 27);
    // One authority has one key, however it is written.
    assert!(edge.get_with("/x", &[("Host", "A.TEST:80")]).is_hit());
}

#[test]
fn head_is_answered_from_store_without_content() {
    let origin = Origin::always(cached(1_000, Frame::Chunked));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    client.get("/a");
    let head = client.request("HEAD", "/a", &[], b"");
    assert_eq!(
        (head.status(), head.field("content-length")),
        (200, Some("1000".to_owned()))
    );
    assert!(head.is_hit() && head.body.is_empty());
    // On the same connection: no stray bytes followed.
    assert_eq!(client.get("/a").body.len(), 1_000);
    assert_eq!(origin.total(), 1);
}

#[test]
fn head_on_a_miss_is_answered_without_content_and_fills() {
    let origin = Origin::always(cached(5_000, Frame::Length));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    let head = client.request("HEAD", "/a", &[], b"");
    assert_eq!(
        (head.status(), head.field("content-length")),
        (200, Some("5000".to_owned()))
    );
    assert!(!head.is_hit());
    let response = client.get("/a");
    assert_eq!(response.body.len(), 5_000);
    assert_eq!(origin.total(), 1);
}

#[test]
fn head_of_what_is_not_stored_is_answered_without_content() {
    let origin = Origin::always(Reply::ok("secret").field("Cache-Control", "no-store"));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    for _ in 0..3 {
        let head = client.request("HEAD", "/a", &[], b"");
        assert_eq!((head.status(), head.body.len()), (200, 0));
        assert_eq!(head.field("content-length").as_deref(), Some("6"));
    }
    assert_eq!(client.get("/a").text(), "secret");
}

#[test]
fn single_ranges_are_cut_from_store() {
    let origin = Origin::always(cached(300_000, Frame::Length).field("ETag", "\"v\""));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    client.get("/a");
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, 300_000),
        ("bytes=1-65536", 1, 65_537),
        ("bytes=65535-131072", 65_535, 131_073),
        ("bytes=299999-", 299_999, 300_000),
        ("bytes=-1", 299_999, 300_000),
        ("bytes=-400000", 0, 300_000),
        ("bytes=200000-400000", 200_000, 300_000),
    ] {
        let response = client.get_with("/a", &[("Range", range)]);
        assert_eq!(response.status(), 206, "{range}");
        let content_range = format!("bytes {start}-{}/300000", end - 1);
        assert_eq!(response.field("content-range"), Some(content_range));
        assert_eq!(pattern::to_u64(response.body.len()), end - start, "{range}");
        pattern::check(start, &response.body);
    }
    let outside = client.get_with("/a", &[("Range", "bytes=300000-")]);
    assert_eq!(outside.status(), 416);
    assert_eq!(
        outside.field("content-range").as_deref(),
        Some("bytes */300000")
    );
    for fields in [
        [("Range", "bytes=2-1"), ("X", "y")],
        [("Range", "lines=0-1"), ("X", "y")],
        [("Range", "bytes=0-1"), ("If-Range", "\"other\"")],
    ] {
        assert_eq!(client.get_with("/a", &fields).status(), 200, "{fields:?}");
    }
    let held = client.get_with("/a", &[("Range", "bytes=0-1"), ("If-Range", "\"v\"")]);
    assert_eq!(held.status(), 206);
    assert_eq!(origin.total(), 1);
}

#[test]
fn a_range_on_a_miss_fills_with_the_whole() {
    let origin = Origin::always(cached(5_000, Frame::Length));
    let edge = Edge::before(&origin);
    let response = edge.get_with("/a", &[("Range", "bytes=10-19")]);
    match response.status() {
        206 => pattern::check(10, &response.body),
        200 => assert_eq!(response.body.len(), 5_000),
        other => panic!("{other}"),
    }
    assert_eq!(
        origin.asked()[0].field("range"),
        None,
        "a part cannot be stored"
    );
    assert_eq!(edge.get("/a").body.len(), 5_000);
    assert_eq!(origin.total(), 1);
}

#[test]
fn only_if_cached_is_never_fetched_for() {
    let origin = Origin::always(Reply::cached("a"));
    let edge = Edge::before(&origin);
    let only = [("Cache-Control", "only-if-cached")];
    assert_eq!(edge.get_with("/a", &only).status(), 504);
    assert_eq!(origin.total(), 0);
    edge.get("/a");
    assert_eq!(edge.get_with("/a", &only).text(), "a");
    assert_eq!(origin.total(), 1);
}

#[test]
fn head_of_a_stored_204_has_no_length() {
    let origin = Origin::always(Reply::status(204).field("Cache-Control", "max-age=60"));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    assert_eq!(client.get("/a").status(), 204);
    for method in ["HEAD", "GET"] {
        let response = client.request(method, "/a", &[], b"");
        assert!(response.is_hit(), "{method}");
        assert_eq!(response.status(), 204, "{method}");
        assert_eq!(response.field("content-length"), None, "{method}");
    }
    assert_eq!(origin.total(), 1);
}

//! Ranges of whole responses: stored ones, and ones that are still arriving.

use crate::support::client::{Response, request};
use crate::support::edge::{Edge, Setup};
use crate::support::origin::{Asked, Origin};
use crate::support::pattern;
use crate::support::reply::{Gate, Reply};

const MIB: u64 = 1 << 20;

/// The first and the last byte that `asked` asks for, if it does.
pub(crate) fn range_of(asked: &Asked) -> Option<(u64, Option<u64>)> {
    let range = asked.field("range")?;
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()))
}

/// Answers as an origin does that serves ranges of `length` bytes of the pattern with `tag`.
pub(crate) fn serve(asked: &Asked, length: u64, tag: &str) -> Reply {
    let same = asked.field("if-range").is_none_or(|named| named == tag);
    let reply = match range_of(asked).filter(|_| same) {
        Some((first, _)) if first >= length => {
            Reply::status(416).field("Content-Range", format!("bytes */{length}"))
        }
        Some((first, last)) => {
            let end = last.map_or(length, |last| (last + 1).min(length));
            Reply::pattern_part(first, end, length)
        }
        None => Reply::pattern(length),
    };
    reply
        .field("Cache-Control", "max-age=60")
        .field("ETag", tag)
        .in_pieces(256 << 10)
}

#[track_caller]
pub(crate) fn check_part(response: &Response, range: std::ops::Range<u64>, length: u64) {
    assert_eq!(response.status(), 206, "{:?}", response.head);
    let told = format!("bytes {}-{}/{length}", range.start, range.end - 1);
    assert_eq!(response.field("content-range"), Some(told));
    assert_eq!(
        pattern::to_u64(response.body.len()),
        range.end - range.start
    );
    pattern::check(range.start, &response.body);
}

#[test]
fn ranges_of_a_stored_response_are_answered_from_it() {
    let reply = Reply::cached("0123456789")
        .field("ETag", "\"one\"")
        .field("Accept-Ranges", "bytes");
    let origin = Origin::always(reply);
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    client.get("/a");
    for (range, status, told, body) in [
        ("bytes=0-0", 206, Some("bytes 0-0/10"), "0"),
        ("bytes=2-5", 206, Some("bytes 2-5/10"), "2345"),
        ("bytes=8-99", 206, Some("bytes 8-9/10"), "89"),
        ("bytes=7-", 206, Some("bytes 7-9/10"), "789"),
        ("bytes=-2", 206, Some("bytes 8-9/10"), "89"),
        ("bytes=-99", 206, Some("bytes 0-9/10"), "0123456789"),
        ("bytes=0-3, 2-5", 206, Some("bytes 0-5/10"), "012345"),
        ("bytes=0-1, 70-", 206, Some("bytes 0-1/10"), "01"),
        ("bytes=10-", 416, Some("bytes */10"), ""),
        ("bytes=-0", 416, Some("bytes */10"), ""),
        ("bytes=5-2", 200, None, "0123456789"),
        ("bytes=x", 200, None, "0123456789"),
        ("lines=1-2", 200, None, "0123456789"),
    ] {
        let response = client.get_with("/a", &[("Range", range)]);
        assert_eq!(
            (response.status(), response.text().as_str()),
            (status, body),
            "{range}"
        );
        assert_eq!(response.field("content-range").as_deref(), told, "{range}");
        assert_eq!(response.field("accept-ranges").as_deref(), Some("bytes"));
        assert!(response.is_hit(), "{range}");
        let head = client.request("HEAD", "/a", &[("Range", range)], b"");
        assert_eq!(head.status(), 200, "HEAD {range}");
        assert_eq!(head.field("content-range"), None, "HEAD {range}");
    }
    assert_eq!(origin.total(), 1);
}

#[test]
fn several_ranges_come_as_multipart_in_the_order_asked_for() {
    let origin = Origin::always(Reply::cached("0123456789").field("Content-Type", "text/x"));
    let edge = Edge::before(&origin);
    edge.get("/a");
    let response = edge.get_with("/a", &[("Range", "bytes=7-8, 0-1, 4-4")]);
    assert_eq!(
        (response.status(), response.field("content-range")),
        (206, None)
    );
    let kind = response.field("content-type").expect("a type");
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .expect("a boundary");
    let part = |range: &str, text: &str| {
        format!(
            "--{boundary}\r\nContent-Type: text/x\r\nContent-Range: bytes {range}/10\r\n\r\n{text}\r\n"
        )
    };
    let expected = [part("7-8", "78"), part("0-1", "01"), part("4-4", "4")].concat();
    assert_eq!(response.text(), format!("{expected}--{boundary}--\r\n"));
    let length = response.body.len().to_string();
    assert_eq!(response.field("content-length"), Some(length));
    let many: Vec<_> = (0..40).map(|i| format!("{i}-{i}")).collect();
    let refused = edge.get_with("/a", &[("Range", &format!("bytes={}", many.join(",")))]);
    assert_eq!(
        (refused.status(), refused.text().as_str()),
        (200, "0123456789")
    );
}

#[test]
fn if_range_must_name_the_stored_response_exactly() {
    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    let origin = Origin::always(
        Reply::cached("0123456789")
            .field("ETag", "\"one\"")
            .field("Last-Modified", MODIFIED),
    );
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    client.get("/a");
    for (fields, status) in [
        (&[("If-Range", "\"one\"")][..], 206),
        (&[("If-Range", "W/\"one\"")], 200),
        (&[("If-Range", "\"two\"")], 200),
        (&[("If-Range", MODIFIED)], 206),
        (&[("If-Range", LATER)], 200),
        (&[("If-Range", "x")], 200),
        // Other preconditions go first.
        (
            &[("If-Range", "\"two\""), ("If-None-Match", "\"one\"")],
            304,
        ),
        (
            &[("If-Range", "\"one\""), ("If-None-Match", "\"two\"")],
            206,
        ),
    ] {
        let mut all = vec![("Range", "bytes=0-1")];
        all.extend_from_slice(fields);
        let response = client.get_with("/a", &all);
        assert_eq!(response.status(), status, "{fields:?}");
    }
    assert_eq!(origin.total(), 1);
}

#[test]
fn a_miss_with_a_range_fetches_the_whole_and_answers_the_range() {
    let origin = Origin::answering(|asked| serve(asked, 1_000, "\"one\""));
    let edge = Edge::before(&origin);
    let first = edge.get_with("/a", &[("Range", "bytes=10-19")]);
    check_part(&first, 10..20, 1_000);
    let status = first.cache_status();
    assert!(status.contains("fwd=uri-miss; fwd-status=200"), "{status}");
    let several = edge.get_with("/b", &[("Range", "bytes=10-19, 30-39")]);
    assert_eq!(several.status(), 206);
    let kind = several.field("content-type").unwrap_or_default();
    assert!(kind.starts_with("multipart/byteranges"), "{kind}");
    let beyond = edge.get_with("/c", &[("Range", "bytes=1000-")]);
    assert_eq!(beyond.status(), 416);
    assert_eq!(
        beyond.field("content-range").as_deref(),
        Some("bytes */1000")
    );
    for path in ["/a", "/b", "/c"] {
        // A hit, or what still arrives.
        let whole = edge.get(path);
        assert_eq!((whole.status(), whole.body.len()), (200, 1_000), "{path}");
        pattern::check(0, &whole.body);
        let asked = origin.asked_for(path);
        assert_eq!((asked.len(), asked[0].field("range")), (1, None), "{path}");
    }
}

#[test]
fn a_range_of_a_response_that_arrives_is_sent_as_it_arrives() {
    let origin = Origin::start();
    let gate = Gate::default();
    let shut = gate.clone();
    origin.route("/a", move |asked| {
        serve(asked, 100_000, "\"one\"").pausing(50_000, &shut)
    });
    let edge = Edge::before(&origin);
    let mut whole = edge.client();
    whole.send(request("GET", "/a", &[], b""));
    let head = whole.head();
    // Both lie before the pause: they are whole while the rest has not even been sent.
    let early = edge.get_with("/a", &[("Range", "bytes=100-40099")]);
    check_part(&early, 100..40_100, 100_000);
    let mut late = edge.client();
    late.send(request("GET", "/a", &[("Range", "bytes=40000-59999")], b""));
    let late_head = late.head();
    assert_eq!(late_head.status, 206);
    pattern::check(40_000, &late.take(10_000));
    gate.open();
    pattern::check(50_000, &late.take(10_000));
    let mut body = Vec::new();
    whole
        .read_body(&head, "GET", |piece| body.extend_from_slice(piece))
        .expect("whole");
    pattern::check(0, &body);
    assert_eq!((body.len(), origin.count("/a")), (100_000, 1));
}

#[test]
fn a_range_of_a_response_that_breaks_off_breaks_off() {
    let origin = Origin::always(Reply::pattern(100_000).cut_after(50_000));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    client.send(request("GET", "/a", &[("Range", "bytes=40000-59999")], b""));
    let broken = client.try_response("GET").expect_err("it broke off");
    pattern::check(40_000, &broken.body);
    assert!(broken.body.len() <= 10_000);
}

#[test]
fn a_range_far_ahead_of_what_arrives_is_asked_for_by_itself() {
    const LENGTH: u64 = 12 * MIB;
    let origin = Origin::start();
    let gate = Gate::default();
    let shut = gate.clone();
    origin.route("/a", move |asked| {
        let reply = serve(asked, LENGTH, "\"one\"");
        match range_of(asked) {
            Some(_) => reply,
            None => reply.pausing(MIB, &shut),
        }
    });
    let edge = Edge::before(&origin);
    let mut whole = edge.client();
    whole.send(request("GET", "/a", &[], b""));
    let head = whole.head();
    // The flight for the whole stands still, and would have it only 10 MiB later.
    let ahead = edge.get_with("/a", &[("Range", "bytes=11000000-11000999")]);
    check_part(&ahead, 11_000_000..11_001_000, LENGTH);
    gate.open();
    whole
        .read_body(&head, "GET", |_| {})
        .expect("the whole came too");
    assert!(
        edge.get("/a").is_hit(),
        "a part does not displace the whole"
    );
    assert_eq!(origin.count("/a"), 2);
}

#[test]
fn a_range_of_what_is_too_large_to_store_is_asked_for_by_itself_and_stored() {
    const LENGTH: u64 = 24 * MIB;
    let origin = Origin::answering(|asked| serve(asked, LENGTH, "\"large\""));
    let edge = Setup::before(&origin).flag("--memory", "64MiB").start();
    let range = [("Range", "bytes=1000-1999")];
    let first = edge.get_with("/a", &range);
    check_part(&first, 1_000..2_000, LENGTH);
    let asked: Vec<_> = origin.asked().iter().map(range_of).collect();
    assert_eq!(asked, [None, Some((1_000, Some(1_999)))]);
    let second = edge.get_with("/a", &range);
    check_part(&second, 1_000..2_000, LENGTH);
    assert!(second.is_hit());
    // From now on it is known that only parts are stored.
    let tail = edge.get_with("/a", &[("Range", "bytes=-100")]);
    check_part(&tail, LENGTH - 100..LENGTH, LENGTH);
    assert!(tail.cache_status().contains("fwd=partial; fwd-status=206"));
    let last = origin.asked().pop().expect("asked");
    assert_eq!(range_of(&last), Some((LENGTH - 100, Some(LENGTH - 1))));
    assert_eq!(origin.total(), 3);
}

#[test]
fn an_origin_without_ranges_answers_ranges_all_the_same() {
    const LENGTH: u64 = 24 * MIB;
    let origin = Origin::always(
        Reply::pattern(LENGTH)
            .field("Cache-Control", "max-age=60")
            .in_pieces(256 << 10),
    );
    let edge = Setup::before(&origin).flag("--memory", "64MiB").start();
    let near = edge.get_with("/a", &[("Range", "bytes=1000-1999")]);
    check_part(&near, 1_000..2_000, LENGTH);
    // Nothing comes of waiting: the client gets the bytes as they come.
    let far = edge.get_with("/a", &[("Range", "bytes=20000000-20000999")]);
    assert_eq!((far.status(), far.body.len()), (200, 24 << 20));
    pattern::check(0, &far.body);
}

#[test]
fn a_range_far_into_what_is_not_for_sharing_goes_to_the_origin() {
    let origin = Origin::answering(|asked| {
        serve(asked, 12 * MIB, "\"one\"").field("Cache-Control", "no-store")
    });
    let edge = Edge::before(&origin);
    for _ in 0..2 {
        let range = [("Range", "bytes=11000000-11000009")];
        check_part(
            &edge.get_with("/a", &range),
            11_000_000..11_000_010,
            12 * MIB,
        );
    }
    assert!(origin.asked().iter().all(|asked| range_of(asked).is_some()));
    assert_eq!(origin.total(), 2);
}

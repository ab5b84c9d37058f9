//! Compression on the fly: for sites that ask for it, once a coding, and never of what must stay.

use std::io::Read;

use crate::support::edge::{Edge, Setup};
use crate::support::origin::Origin;
use crate::support::reply::Reply;

fn text() -> String {
    "The same line, again and again.\n".repeat(2_000)
}

fn decode(coding: &str, body: &[u8]) -> String {
    let mut text = String::new();
    match coding {
        "br" => brotli::Decompressor::new(body, 4_096).read_to_string(&mut text),
        _ => flate2::read::GzDecoder::new(body).read_to_string(&mut text),
    }
    .expect("valid");
    text
}

fn page() -> Reply {
    Reply::cached(text())
        .field("Content-Type", "text/html")
        .field("ETag", "\"1\"")
}

fn compressing(origin: &Origin) -> Edge {
    Setup::site(origin, "compress = [\"br\", \"gzip\"]").start()
}

#[test]
fn each_coding_is_made_once_and_stored() {
    let origin = Origin::always(page());
    let edge = compressing(&origin);
    for (pass, accepts) in [
        ["gzip, deflate, br", "gzip", ""],
        ["br;q=1", "gzip;q=0.3", "zstd"],
    ]
    .into_iter()
    .enumerate()
    {
        for (accept, coding) in accepts.into_iter().zip(["br", "gzip", ""]) {
            let answer = edge.get_with("/a", &[("Accept-Encoding", accept)]);
            let got = answer.field("content-encoding").unwrap_or_default();
            assert_eq!(
                (got.as_str(), answer.is_hit()),
                (coding, pass == 1),
                "{accept:?}"
            );
            assert_eq!(answer.field("vary").as_deref(), Some("accept-encoding"));
            if coding.is_empty() {
                assert_eq!(answer.text(), text());
                assert_eq!(answer.field("etag").as_deref(), Some("\"1\""));
            } else {
                assert_eq!(decode(coding, &answer.body), text());
                assert!(answer.body.len() < 2_000, "{}", answer.body.len());
                assert_eq!(answer.field("etag").as_deref(), Some("W/\"1\""));
            }
        }
    }
    assert_eq!(origin.total(), 3, "one fetch a coding");
    let asked: Vec<_> = origin
        .asked()
        .iter()
        .map(|asked| asked.field("accept-encoding").unwrap_or_default())
        .collect();
    assert_eq!(asked, ["br", "gzip", ""]);
}

#[test]
fn what_must_stay_as_it_came_stays() {
    let origin = Origin::start();
    let encoded = "x".repeat(3_000);
    origin.on(
        "/image",
        Reply::cached(text()).field("Content-Type", "image/png"),
    );
    origin.on(
        "/fixed",
        Reply::cached(text())
            .field("Content-Type", "text/css")
            .field("Cache-Control", "max-age=60, no-transform"),
    );
    origin.on(
        "/encoded",
        Reply::cached(&encoded)
            .field("Content-Type", "text/html")
            .field("Content-Encoding", "zstd"),
    );
    origin.on(
        "/small",
        Reply::cached("short").field("Content-Type", "text/html"),
    );
    let edge = compressing(&origin);
    let gzip = [("Accept-Encoding", "gzip")];
    for (target, coding) in [
        ("/image", None),
        ("/fixed", None),
        ("/encoded", Some("zstd")),
        ("/small", None),
    ] {
        let answer = edge.get_with(target, &gzip);
        assert_eq!(
            answer.field("content-encoding").as_deref(),
            coding,
            "{target}"
        );
    }
    // By default nothing is touched.
    let plain = Edge::before(&Origin::always(page()));
    assert!(
        plain
            .get_with("/", &gzip)
            .field("content-encoding")
            .is_none()
    );
    let origin = Origin::always(page());
    let plain = Edge::before(&origin);
    assert!(
        plain
            .get_with("/", &gzip)
            .field("content-encoding")
            .is_none()
    );
    assert_eq!(
        origin.asked()[0].field("accept-encoding").as_deref(),
        Some("gzip")
    );
}

#[test]
fn what_was_encoded_here_is_validated_and_answers_conditions() {
    let origin = Origin::answering(|asked| match asked.field("if-none-match").as_deref() {
        Some("W/\"1\"" | "\"1\"") => Reply::status(304)
            .field("ETag", "\"1\"")
            .field("Cache-Control", "no-cache"),
        _ => page().field("Cache-Control", "no-cache"),
    });
    let edge = compressing(&origin);
    let gzip = ("Accept-Encoding", "gzip");
    for _ in 0..3 {
        let answer = edge.get_with("/a", &[gzip]);
        assert_eq!(decode("gzip", &answer.body), text());
        assert_eq!(answer.field("vary").as_deref(), Some("accept-encoding"));
    }
    let wholes = origin
        .asked()
        .iter()
        .filter(|asked| asked.field("if-none-match").is_none())
        .count();
    assert_eq!((origin.total(), wholes), (3, 1));
    let same = edge.get_with("/a", &[gzip, ("If-None-Match", "W/\"1\"")]);
    assert_eq!(same.status(), 304);
}

#[test]
fn ranges_are_those_of_the_encoded_content() {
    let origin = Origin::always(page());
    let edge = compressing(&origin);
    let gzip = ("Accept-Encoding", "gzip");
    let whole = edge.get_with("/a", &[gzip]).body;
    let part = edge.get_with("/a", &[gzip, ("Range", "bytes=10-49")]);
    assert_eq!((part.status(), part.body.as_slice()), (206, &whole[10..50]));
    // A weak validator cannot tell whether parts fit together (RFC 9110 13.1.5).
    let fields = [gzip, ("Range", "bytes=10-49"), ("If-Range", "W/\"1\"")];
    assert_eq!(edge.get_with("/a", &fields).status(), 200);
}

#[test]
fn what_is_not_stored_is_encoded_as_it_passes() {
    let origin = Origin::always(page().field("Cache-Control", "no-store"));
    let edge = compressing(&origin);
    for _ in 0..2 {
        let answer = edge.get_with("/a", &[("Accept-Encoding", "br")]);
        assert_eq!(decode("br", &answer.body), text());
        assert!(!answer.is_hit());
    }
    let head = edge
        .client()
        .request("HEAD", "/a", &[("Accept-Encoding", "br")], b"");
    assert_eq!(head.field("content-encoding").as_deref(), Some("br"));
    assert_eq!(head.field("content-length"), None);
}

//! What is stored below memory outlasts the process, to the byte, with its age and its validators.

use crate::below::{ALL, Below, count, forget, restart};
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::Reply;

const SIZES: [u64; 8] = [0, 1, 1_000, 65_535, 65_536, 65_537, 1_000_000, 9_000_000];

fn lasting(length: u64) -> Reply {
    Reply::pattern(length)
        .field("Cache-Control", "max-age=600")
        .field("ETag", "\"one\"")
        .field("X-Own", "kept")
}

#[test]
fn responses_of_every_size_are_hits_after_a_restart() {
    for below in ALL {
        let origin = Origin::start();
        for size in SIZES {
            origin.on(&format!("/{size}"), lasting(size));
        }
        let mut edge = below.setup(&origin).start();
        for size in SIZES {
            edge.get(&format!("/{size}"));
        }
        for round in 0..2 {
            forget(&mut edge);
            for size in SIZES {
                let answer = edge.get(&format!("/{size}"));
                assert!(
                    answer.is_hit(),
                    "{below:?} {size} {round}: {}",
                    answer.cache_status()
                );
                assert_eq!(answer.field("x-own").as_deref(), Some("kept"));
                assert_eq!(answer.field("content-length"), Some(size.to_string()));
                assert!(answer.age().is_some());
                assert_eq!(answer.body.len(), usize::try_from(size).expect("small"));
                pattern::check(0, &answer.body);
            }
        }
        assert_eq!(origin.total(), SIZES.len(), "{below:?}");
    }
}

#[test]
fn what_was_written_before_a_kill_is_there_after_it() {
    for below in ALL {
        let origin = Origin::start();
        origin.on("/a", lasting(100_000));
        let mut edge = below.setup(&origin).start();
        edge.get("/a");
        edge.flush();
        edge.kill();
        restart(&mut edge);
        let answer = edge.get("/a");
        assert!(answer.is_hit(), "{below:?}: {}", answer.cache_status());
        pattern::check(0, &answer.body);
    }
}

#[test]
fn ranges_conditions_and_heads_are_answered_from_below() {
    for below in ALL {
        for size in [5_000, 9_000_000_u64] {
            let origin = Origin::always(lasting(size));
            let mut edge = below.setup(&origin).start();
            edge.get("/a");
            forget(&mut edge);
            let end = size - 1;
            for (range, from, length) in [
                ("bytes=0-99".to_owned(), 0, 100),
                (format!("bytes={}-", end - 9), end - 9, 10),
                ("bytes=1000-2000".to_owned(), 1_000, 1_001),
                ("bytes=-1".to_owned(), end, 1),
            ] {
                let answer = edge.get_with("/a", &[("Range", &range)]);
                assert_eq!(answer.status(), 206, "{below:?} {size} {range}");
                assert_eq!(answer.body.len(), length);
                pattern::check(from, &answer.body);
            }
            let several = edge.get_with("/a", &[("Range", "bytes=0-9, 3000-3009")]);
            assert_eq!(several.status(), 206);
            let current = edge.get_with("/a", &[("If-None-Match", "\"one\"")]);
            assert_eq!((current.status(), current.body.len()), (304, 0));
            let mut client = edge.client();
            let head = client.request("HEAD", "/a", &[], b"");
            assert_eq!(head.field("content-length"), Some(size.to_string()));
            assert_eq!(origin.total(), 1, "{below:?} {size}");
        }
    }
}

#[test]
fn variants_are_found_again() {
    for below in ALL {
        let origin = Origin::answering(|asked| {
            let language = asked.field("accept-language").unwrap_or_default();
            Reply::cached(language).field("Vary", "Accept-Language")
        });
        let mut edge = below.setup(&origin).start();
        let get = |edge: &crate::support::edge::Edge, language: &str| {
            edge.get_with("/a", &[("Accept-Language", language)])
        };
        for language in ["de", "en"] {
            get(&edge, language);
        }
        forget(&mut edge);
        for language in ["en", "de"] {
            let answer = get(&edge, language);
            assert!(answer.is_hit(), "{below:?}: {}", answer.cache_status());
            assert_eq!(answer.text(), language);
        }
        assert!(!get(&edge, "fr").is_hit());
        assert_eq!(origin.total(), 3);
    }
}

#[test]
fn what_is_stale_below_is_validated_and_freshened_there() {
    for below in ALL {
        for size in [2_000, 3_000_000_u64] {
            let origin = Origin::answering(move |asked| match asked.field("if-none-match") {
                Some(_) => Reply::status(304)
                    .field("Cache-Control", "max-age=600")
                    .field("ETag", "\"one\""),
                None => Reply::pattern(size)
                    .field("Cache-Control", "no-cache")
                    .field("ETag", "\"one\""),
            });
            let mut edge = below.setup(&origin).start();
            edge.get("/a");
            forget(&mut edge);
            let answer = edge.get("/a");
            assert!(!answer.is_hit(), "{}", answer.cache_status());
            pattern::check(0, &answer.body);
            assert_eq!(answer.body.len(), usize::try_from(size).expect("small"));
            assert_eq!(
                origin.asked()[1].field("if-none-match").as_deref(),
                Some("\"one\"")
            );
            forget(&mut edge);
            let answer = edge.get("/a");
            assert!(
                answer.is_hit(),
                "{below:?} {size}: {}",
                answer.cache_status()
            );
            pattern::check(0, &answer.body);
            assert_eq!(origin.total(), 2, "{below:?} {size}");
        }
    }
}

#[test]
fn what_was_replaced_does_not_come_back() {
    for below in ALL {
        let origin = Origin::start();
        origin.sequence("/a", vec![Reply::cached("old"), Reply::cached("new")]);
        let mut edge = below.setup(&origin).start();
        assert_eq!(edge.get("/a").text(), "old");
        forget(&mut edge);
        let reloaded = edge.get_with("/a", &[("Cache-Control", "no-cache")]);
        assert_eq!(reloaded.text(), "new");
        for _ in 0..2 {
            assert_eq!(edge.get("/a").text(), "new", "{below:?}");
            forget(&mut edge);
        }
        edge.kill();
        restart(&mut edge);
        assert_eq!(edge.get("/a").text(), "new", "{below:?}");
    }
}

#[test]
fn only_if_cached_looks_below_memory() {
    for below in ALL {
        let origin = Origin::always(lasting(10));
        let mut edge = below.setup(&origin).start();
        edge.get("/a");
        forget(&mut edge);
        let only = [("Cache-Control", "only-if-cached")];
        assert_eq!(edge.get_with("/a", &only).status(), 200, "{below:?}");
        assert_eq!(edge.get_with("/b", &only).status(), 504);
    }
}

#[test]
fn an_expired_response_below_serves_while_the_origin_is_down() {
    for below in ALL {
        let origin = Origin::start();
        let stale = Reply::ok("kept")
            .field("Cache-Control", "max-age=0, stale-if-error=600")
            .field("ETag", "\"one\"");
        origin.on("/a", stale);
        let mut edge = below.setup(&origin).start();
        edge.get("/a");
        forget(&mut edge);
        origin.on("/a", Reply::status(503));
        let answer = edge.get("/a");
        assert_eq!(
            (answer.status(), answer.text().as_str()),
            (200, "kept"),
            "{below:?}"
        );
    }
}

#[test]
fn without_memory_everything_is_answered_from_below() {
    for below in [Below::Disk, Below::Both] {
        let origin = Origin::start();
        for size in SIZES {
            origin.on(&format!("/{size}"), lasting(size));
        }
        let edge = below.setup(&origin).flag("--memory", "0").start();
        for round in 0..3 {
            for size in SIZES {
                let answer = edge.get(&format!("/{size}"));
                pattern::check(0, &answer.body);
                assert_eq!(answer.body.len(), usize::try_from(size).expect("small"));
                assert_eq!(answer.is_hit(), round > 0, "{below:?} {size} {round}");
            }
            edge.flush();
        }
        assert_eq!(origin.total(), SIZES.len(), "{below:?}");
        assert!(count(&edge, "disk", "hits") >= 16);
    }
}

/// Damage in the middle of large content breaks off what is on its way, once.
#[test]
fn damaged_content_is_fetched_anew_by_the_next_request() {
    let origin = Origin::always(lasting(5_000_000));
    let mut edge = Below::Disk.setup(&origin).flag("--memory", "0").start();
    edge.get("/a");
    edge.flush();
    edge.stop();
    let cache = edge.data_dir().join("cache");
    for file in std::fs::read_dir(cache).expect("a directory") {
        let path = file.expect("a file").path();
        let mut bytes = std::fs::read(&path).expect("its bytes");
        let middle = bytes.len() / 2;
        if path.to_string_lossy().contains("seg") && bytes.get(middle).is_some_and(|it| *it != 0) {
            bytes[middle] ^= 1;
            std::fs::write(&path, bytes).expect("written");
        }
    }
    restart(&mut edge);
    for _ in 0..4 {
        let mut client = edge.client();
        client.send(crate::support::client::request("GET", "/a", &[], b""));
        let head = client.head();
        let mut body = Vec::new();
        let whole = client.read_body(&head, "GET", |piece| body.extend_from_slice(piece));
        pattern::check(0, &body);
        if whole.is_ok() {
            assert_eq!(body.len(), 5_000_000);
        }
        edge.flush();
    }
    let answer = edge.get("/a");
    assert!(answer.is_hit(), "{}", answer.cache_status());
    assert_eq!(
        origin.total(),
        2,
        "once before the damage and once after it"
    );
}

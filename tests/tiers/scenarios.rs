//! Ten scenarios that every change of the tiers has to stand.
//!
//! | | what happens | test |
//! |---|---|---|
//! | S1 | a purge in the middle of a fill | `purge::a_fill_under_way_brings_nothing_back` |
//! | S2 | a stampede whose first fetch fails | `http`: `collapse::a_crowd_elects_one_of_it_after_a_failure` |
//! | S3 | a storm of large responses into a small tier | `s3_a_storm_stays_within_the_budget` |
//! | S4 | killed in the middle of fills | `s4_killed_in_the_middle_of_fills_it_keeps_no_part_of_them`, `crash` |
//! | S5 | origin and store are black holes | `s5_black_holes_cost_nobody_more_than_their_deadlines` |
//! | S6 | tiers are lost, the fastest first | `fill::each_lost_tier_is_filled_from_the_next`, `fill::a_filled_tier_keeps_the_remaining_lifetime` |
//! | S7 | every kind of tier that takes writes or does not | `write_policy`, `fill::a_read_only_store_is_read_and_never_written`, `s7_a_chain_is_as_writable_as_its_writable_tiers` |
//! | S8 | damage, links, a full device | `damage`, `device` |
//! | S9 | a backlog, and fetches that hang | `cache::hydration`: `a_backlog_keeps_every_place_busy`, `s9_fetches_that_hang_hold_up_nobody_else` |
//! | S10 | a newer version that is too large for a tier | `s10_what_is_too_large_leaves_nothing_older_behind` |

use std::fs;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::below::{ALL, Below, count, forget, restart};
use crate::device::occupied;
use crate::support::client::request;
use crate::support::edge::{Edge, Setup};
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::{Gate, Reply};

fn lasting(length: u64) -> Reply {
    Reply::pattern(length).field("Cache-Control", "max-age=600")
}

#[test]
fn s3_a_storm_stays_within_the_budget() {
    const BUDGET: u64 = 10 << 20;
    let origin = Origin::always(lasting(1 << 20));
    let edge = Setup::before(&origin)
        .keeping()
        .flag("--memory", "2MiB")
        .flag("--disk", &BUDGET.to_string())
        .start();
    let cache = edge.data_dir().join("cache");
    let most = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..16)
            .map(|asker| {
                let mut client = edge.client();
                scope.spawn(move || {
                    for number in 0..16 {
                        let answer = client.get(&format!("/{asker}/{number}"));
                        assert_eq!(answer.body.len(), 1 << 20);
                        pattern::check(0, &answer.body);
                    }
                })
            })
            .collect();
        let mut most = 0;
        while !askers
            .iter()
            .all(std::thread::ScopedJoinHandle::is_finished)
        {
            most = most.max(occupied(&cache));
            std::thread::park_timeout(Duration::from_millis(1));
        }
        most
    });
    edge.flush();
    assert!(most.max(occupied(&cache)) <= BUDGET, "{most} bytes");
    assert!(count(&edge, "disk", "bytes") <= BUDGET);
    assert_eq!(count(&edge, "disk", "capacity"), BUDGET);
    // What is there is whole, and some of it is.
    let held = |asker: u64| {
        let answer = edge.get_with(
            &format!("/{asker}/15"),
            &[("Cache-Control", "only-if-cached")],
        );
        if answer.status() == 200 {
            pattern::check(0, &answer.body);
        }
        answer.status() == 200
    };
    assert!((0..16).any(held));
}

#[test]
fn s4_killed_in_the_middle_of_fills_it_keeps_no_part_of_them() {
    const LENGTH: u64 = 3_000_000;
    let rounds = crate::truth::knob("LARDER_ROUNDS", 30) / 3;
    let origin = Origin::start();
    let setup = Setup::before(&origin).keeping();
    let mut edge = setup
        .flag("--memory", "64MiB")
        .flag("--disk", "64MiB")
        .start();
    for round in 0..rounds {
        let gate = Gate::default();
        // The first half of each is there, and some of it written: it is too large for memory.
        let paths: Vec<String> = (0..8).map(|number| format!("/{round}/{number}")).collect();
        for (number, path) in (0..).zip(&paths) {
            let length = if number % 2 == 0 { LENGTH } else { LENGTH * 7 };
            origin.on(path, lasting(length).pausing(length / 2, &gate));
        }
        let filling: Vec<_> = paths
            .iter()
            .map(|path| {
                let mut client = edge.client();
                client.send(request("GET", path, &[], b""));
                assert_eq!(client.head().status, 200);
                pattern::check(0, &client.take(100_000));
                client
            })
            .collect();
        edge.kill();
        gate.open();
        drop(filling);
        restart(&mut edge);
        for entry in fs::read_dir(edge.data_dir().join("cache")).expect("a directory") {
            let name = entry.expect("a file").file_name();
            let name = name.to_string_lossy();
            let known = name == "LOCK" || name == "manifest" || name.starts_with("seg-");
            assert!(known, "{name} was left behind");
        }
        assert_eq!(count(&edge, "disk", "entries"), 0, "nothing was whole");
        for path in &paths {
            let answer = edge.get(path);
            assert!(!answer.is_hit(), "{}", answer.cache_status());
            pattern::check(0, &answer.body);
        }
        edge.flush();
        let (status, answer) = edge.admin_post("/v1/purge", &serde_json::json!({"all": true}));
        assert_eq!(status, 200, "{answer}");
        fs::remove_dir_all(edge.data_dir().join("cache")).expect("the tier's directory");
        restart(&mut edge);
    }
}

#[test]
fn s5_black_holes_cost_nobody_more_than_their_deadlines() {
    // A store that takes connections and never says anything.
    let hole = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = hole.local_addr().expect("an address");
    let swallowed = Arc::new(Mutex::new(Vec::new()));
    let swallowing = Arc::clone(&swallowed);
    std::thread::spawn(move || {
        for stream in hole.incoming().flatten() {
            swallowing.lock().expect("sound").push(stream);
        }
    });
    let origin = Origin::answering(|asked| {
        Reply::ok(&asked.target)
            .field("Cache-Control", "max-age=1, stale-while-revalidate=10000")
            .field("Age", "10")
    });
    let edge = Setup::before(&origin)
        .flag("--object-store", "s3://bucket/edge")
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ENDPOINT_URL", &format!("http://{address}"))
        .env("AWS_ALLOW_HTTP", "true")
        .set("object_store.timeout", "500ms")
        .set("limits.first_byte", "1s")
        .start();
    for number in 0..10 {
        assert_eq!(edge.get(&format!("/{number}")).status(), 200);
    }
    origin.answer(|_| Reply::silence());
    // Stale, and validated by nobody.
    let mut client = edge.client();
    let mut took = Vec::new();
    for round in 0..200 {
        let target = format!("/{}", round % 10);
        let began = Instant::now();
        let answer = client.get(&target);
        took.push(began.elapsed());
        assert_eq!(answer.text(), target);
        assert!(answer.is_hit(), "{}", answer.cache_status());
    }
    took.sort_unstable();
    let half = took[took.len() / 2];
    assert!(half < Duration::from_millis(50), "{half:?}");
    let longest = took[took.len() - 1];
    assert!(
        longest < Duration::from_millis(450),
        "none waited for either: {longest:?}"
    );
    // Cold: as long as both may take, and then an answer.
    for number in 0..5 {
        let began = Instant::now();
        let answer = edge.get(&format!("/cold/{number}"));
        assert!(matches!(answer.status(), 503 | 504), "{}", answer.status());
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "{:?}",
            began.elapsed()
        );
    }
    let stats = edge.stats();
    let store = &stats["tiers"][1];
    assert_ne!(store["state"], "online", "{store}");
    assert_eq!(
        count(&edge, "object_store", "misses"),
        0,
        "an error is no miss: {store}"
    );
    assert!(!swallowed.lock().expect("sound").is_empty());
}

#[test]
fn s7_a_chain_is_as_writable_as_its_writable_tiers() {
    // A store that only reads, or that cannot be written, or that is there: the disk is written all
    // the same, and a client is told nothing of it.
    let origin = Origin::always(lasting(1_000));
    for (mode, broken) in [("rw", false), ("ro", false), ("rw", true), ("ro", true)] {
        let setup = Below::Disk.setup(&origin);
        let store = setup.path("store");
        fs::create_dir_all(&store).expect("a directory");
        if broken {
            // Where its objects would be, there is a file.
            fs::write(store.join("v1"), "in the way").expect("a file");
        }
        let mut edge = setup
            .flag("--object-store", &format!("file://{}", store.display()))
            .set("object_store.mode", mode)
            .start();
        for number in 0..5 {
            let answer = edge.get(&format!("/{number}"));
            assert_eq!(answer.status(), 200, "{mode} {broken}");
        }
        edge.flush();
        assert_eq!(count(&edge, "disk", "writes"), 5, "{mode} {broken}");
        let stored = count(&edge, "object_store", "writes");
        if mode == "ro" {
            assert_eq!(stored, 0, "{broken}");
        }
        if !broken && mode == "rw" {
            assert_eq!(stored, 5);
        }
        restart(&mut edge);
        for number in 0..5 {
            let answer = edge.get(&format!("/{number}"));
            assert!(
                answer.is_hit(),
                "{mode} {broken}: {}",
                answer.cache_status()
            );
        }
    }
}

#[test]
fn s9_fetches_that_hang_hold_up_nobody_else() {
    let hangs = Origin::always(Reply::silence());
    let works = Origin::always(Reply::cached("content"));
    let site = |name: &str, origin: &Origin| {
        format!(
            "[[site]]\nname = \"{name}\"\nhosts = [\"{name}.test\"]\norigin = \"{}\"\n",
            origin.url()
        )
    };
    let edge = Setup::new()
        .config(&site("hangs", &hangs))
        .config(&site("works", &works))
        .start();
    // As many as may be, and more.
    let waiting: Vec<_> = (0..500)
        .map(|number| {
            let mut client = edge.client();
            let host = [("Host", "hangs.test")];
            client.send(request("GET", &format!("/{number}"), &host, b""));
            client
        })
        .collect();
    let began = Instant::now();
    for number in 0..40 {
        let answer = edge.get_with(&format!("/{number}"), &[("Host", "works.test")]);
        assert_eq!(answer.text(), "content");
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    drop(waiting);
}

#[test]
fn s10_what_is_too_large_leaves_nothing_older_behind() {
    for below in ALL {
        // Beyond a quarter of what memory has, and beyond what a tier of this size takes at all.
        for length in [700_000, 80_000_000_u64] {
            let origin = Origin::start();
            origin.sequence(
                "/a",
                vec![Reply::cached("old"), lasting(length), lasting(length)],
            );
            let mut edge = below.setup(&origin).flag("--memory", "2MiB").start();
            assert_eq!(edge.get("/a").text(), "old");
            edge.flush();
            assert!(edge.get("/a").is_hit());
            let reload = [("Cache-Control", "no-cache")];
            let check = |edge: &Edge, fields: &[(&str, &str)]| {
                let mut client = edge.client();
                client.send(request("GET", "/a", fields, b""));
                let head = client.head();
                let mut at = 0;
                let whole = client.read_body(&head, "GET", |piece| {
                    pattern::check(at, piece);
                    at += pattern::to_u64(piece.len());
                });
                whole.expect("all of it");
                assert_eq!(at, length, "{below:?}");
            };
            check(&edge, &reload);
            check(&edge, &[]);
            forget(&mut edge);
            check(&edge, &[]);
            edge.kill();
            restart(&mut edge);
            check(&edge, &[]);
        }
    }
}

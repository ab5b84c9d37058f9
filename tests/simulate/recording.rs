//! What the edge records of its own traffic, and what a simulation makes of it.

use std::fs;

use crate::rig::{count, file, path, ratio, rows, simulated};
use crate::support::edge::Setup;
use crate::support::origin::Origin;
use crate::support::reply::{Frame, Reply};

const SIZE: u64 = 1_000;

fn reply(frame: Frame) -> Reply {
    Reply::pattern(SIZE)
        .framed(frame)
        .field("Cache-Control", "max-age=600")
}

#[test]
fn recorded_traffic_can_be_simulated() {
    let origin = Origin::start();
    for page in 0..4 {
        origin.on(&format!("/{page}"), reply(Frame::Length));
    }
    origin.on("/chunked", reply(Frame::Chunked));
    origin.on(
        "/private",
        reply(Frame::Length).field("Cache-Control", "private"),
    );
    let setup = Setup::before(&origin);
    let dir = setup.path("recorded");
    let mut edge = setup.set("record.dir", path(&dir)).start();
    let mut client = edge.client();
    for _ in 0..3 {
        for page in 0..4 {
            assert_eq!(client.get(&format!("/{page}")).status(), 200);
        }
    }
    assert_eq!(
        client.get_with("/1", &[("Range", "bytes=5-9")]).status(),
        206
    );
    // Nothing that a cache could answer, and something whose size is known at the second request.
    for target in ["/private", "/chunked", "/chunked"] {
        assert_eq!(client.get(target).status(), 200);
    }
    let dropped = |reason| {
        edge.metrics()
            .count("larder_record_dropped_total", &[reason])
    };
    assert_eq!((dropped("full"), dropped("unsized")), (0, 1));
    assert_eq!(edge.stop().code(), Some(0));

    let trace = dir.join("trace.csv");
    let text = fs::read_to_string(&trace).expect("recorded");
    assert!(
        !text.contains("chunked") && !text.contains("127.0.0.1"),
        "{text}"
    );
    let lifetimes = text
        .lines()
        .skip(1)
        .filter_map(|line| line.rsplit(',').next());
    for lifetime in lifetimes {
        assert!(
            (590..=600).contains(&lifetime.parse().expect("seconds")),
            "{text}"
        );
    }
    // Five objects, each asked for once and then found again: 12 + 1 requests for the first four,
    // 1 for the last.
    let all = simulated(&trace, "--policy native:lru --policy lru --capacity 100%");
    for row in rows(&all) {
        assert_eq!(count(row, "requests"), 14, "{text}");
        let misses = ratio(row, "request_miss_ratio") * 14.0;
        assert!((misses - 5.0).abs() < 1e-9, "{row}");
    }
    assert_eq!(count(&all["trace"], "footprint_bytes"), 5 * SIZE);
    // Asked for in turns, LRU has nothing left of four objects where three have room.
    let three = simulated(&trace, "--policy lru --capacity 3000");
    assert!(
        ratio(&rows(&three)[0], "request_miss_ratio") > 0.9,
        "{three}"
    );

    // Another start begins anew, and keeps what was.
    edge.restart();
    assert_eq!(edge.get("/0").status(), 200);
    assert_eq!(edge.stop().code(), Some(0));
    let before = fs::read_to_string(dir.join("trace.1.csv")).expect("kept");
    assert_eq!(before, text);
    let anew = fs::read_to_string(&trace).expect("recorded");
    assert_eq!(anew.lines().count(), 2, "{anew}");
    let both = file(before + &anew);
    let joined = simulated(both.path(), "--policy native:lru --capacity 1MiB");
    assert_eq!(count(&rows(&joined)[0], "requests"), 15, "{joined}");
}

#[test]
fn a_directory_that_cannot_be_written_is_told_at_the_start() {
    let origin = Origin::start();
    let setup = Setup::before(&origin);
    let dir = setup.path("taken");
    fs::write(&dir, "a file").expect("writes");
    let ended = setup.set("record.dir", path(&dir)).try_start();
    let ended = ended.expect_err("it must not start");
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    assert!(ended.log.contains("record.dir"), "{}", ended.log);
}

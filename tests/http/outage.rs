//! Origins that are down: nobody waits for what somebody else has waited for, and who comes first
//! after they are back ends it.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use crate::collapse::without_retries;
use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::support::long;
use crate::support::origin::{Asked, Origin};
use crate::support::pattern::to_u64;
use crate::support::reply::Reply;

/// Stale on arrival, and to be used while the origin fails.
fn stale(body: &str) -> Reply {
    Reply::ok(body)
        .field("Cache-Control", "max-age=60, stale-if-error=10000")
        .field("Age", "100")
}

fn standing(edge: &Edge) -> String {
    let stats = edge.stats();
    let standing = stats
        .pointer("/sites/0/origin_standing")
        .and_then(serde_json::Value::as_str);
    standing.expect("a word").to_owned()
}

fn spared(edge: &Edge, by: &str) -> u64 {
    let label = format!("by=\"{by}\"");
    edge.metrics()
        .count("larder_spared_requests_total", &[&label])
}

fn silence(_: &Asked) -> Reply {
    Reply::silence()
}

/// An edge that waits for its origin for so long.
fn patient_for(origin: &Origin, time: &str) -> Edge {
    Setup::before(origin).set("limits.first_byte", time).start()
}

#[test]
fn stale_responses_answer_at_once_while_the_origin_does_not() {
    let paths = if long() { 50 } else { 10 };
    let rounds = if long() { 100 } else { 30 };
    let origin = Origin::answering(|asked| stale(&asked.target));
    let edge = patient_for(&origin, "1s");
    let targets: Vec<String> = (0..paths).map(|path| format!("/{path}")).collect();
    for target in &targets {
        edge.get(target);
    }
    origin.answer(silence);
    let start = Instant::now();
    assert_eq!(edge.get("/0").text(), "/0");
    assert!(
        start.elapsed() >= Duration::from_secs(1),
        "the first finds out"
    );
    assert_eq!(standing(&edge), "doubtful");
    let before = origin.total();
    let start = Instant::now();
    let mut client = edge.client();
    let mut took = Vec::new();
    for _ in 0..rounds {
        for target in &targets {
            let asked = Instant::now();
            let response = client.get(target);
            took.push(asked.elapsed());
            assert_eq!(&response.text(), target);
            assert!(response.is_hit(), "{}", response.cache_status());
        }
    }
    took.sort_unstable();
    let p99 = took[took.len() * 99 / 100];
    if long() {
        assert!(p99 < Duration::from_millis(10), "{p99:?}");
    }
    let longest = took[took.len() - 1];
    assert!(
        longest < Duration::from_millis(700),
        "none waited: {longest:?}"
    );
    // One probe at a time, after pauses of three quarters of a second or more.
    let probes = origin.total() - before;
    let most = 1 + usize::try_from(start.elapsed().as_secs()).expect("few") * 4 / 3;
    assert!(probes <= most, "{probes} probes");
    assert_eq!(spared(&edge, "stale"), to_u64(took.len()));
    // The first answer ends it.
    origin.answer(|_| Reply::cached("new"));
    eventually("a probe to be answered", || {
        edge.get("/0");
        standing(&edge) == "up"
    });
    eventually("each key to be asked for again", || {
        targets
            .iter()
            .all(|target| edge.get(target).text() == "new")
    });
}

#[test]
fn what_is_not_stored_is_refused_at_once_while_the_origin_is_down() {
    let origin = Origin::answering(silence);
    let setup = Setup::before(&origin).set("limits.first_byte", "1s");
    let edge = setup.set("trusted", "127.0.0.1").start();
    std::thread::scope(|scope| {
        for path in ["/1", "/2", "/3"] {
            let edge = &edge;
            scope.spawn(move || assert_eq!(edge.get(path).status(), 504));
        }
    });
    assert_eq!(standing(&edge), "down");
    let start = Instant::now();
    for (method, status) in [("GET", 504), ("POST", 504), ("HEAD", 504)] {
        let refused = edge.client().request(method, "/4", &[], b"");
        assert_eq!(refused.status(), status, "{method}");
        let seconds = refused.field("retry-after").expect("it says when");
        assert!(
            (1..=2).contains(&seconds.parse().expect("seconds")),
            "{seconds}"
        );
        assert_eq!(refused.field("cache-control").as_deref(), Some("no-store"));
    }
    assert!(
        start.elapsed() < Duration::from_millis(700),
        "without a wait"
    );
    let status = edge.get("/4").cache_status();
    assert!(status.starts_with("larder; fwd=uri-miss"), "{status}");
    assert!(status.ends_with("origin failing\""), "{status}");
    assert_eq!((origin.total(), spared(&edge, "refusal")), (3, 4));
    let metrics = edge.metrics();
    assert_eq!(metrics.count("larder_origin_down", &[]), 1);
    assert_eq!(metrics.count("larder_origin_outages_total", &[]), 1);
    // After the pause the next request tries, and whoever comes meanwhile is refused.
    origin.answer(|_| Reply::cached("content"));
    eventually("a request to be let through", || {
        edge.get("/4").status() == 200
    });
    assert_eq!(standing(&edge), "up");
    assert_eq!(edge.get("/5").status(), 200);
    assert_eq!(edge.metrics().count("larder_origin_down", &[]), 0);
}

#[test]
fn one_request_at_a_time_tries_an_origin_that_is_down() {
    let origin = Origin::answering(silence);
    let edge = patient_for(&origin, "2s");
    std::thread::scope(|scope| {
        for path in ["/1", "/2", "/3"] {
            let edge = &edge;
            scope.spawn(move || edge.get(path));
        }
    });
    let mut client = edge.client();
    let mut asked = 0;
    // The pause is over once a request is not refused but tried; its time-out takes longer than
    // any of the others.
    let edge_of_wait = Duration::from_millis(900);
    let tries = std::thread::scope(|scope| {
        let prober = scope.spawn(|| {
            let mut client = edge.client();
            loop {
                let start = Instant::now();
                client.get("/probe");
                if start.elapsed() > edge_of_wait {
                    return;
                }
            }
        });
        while !prober.is_finished() {
            let path = format!("/{asked}");
            client.get(&path);
            asked += 1;
        }
        prober.join().expect("sound");
        origin.total() - 3
    });
    assert!(asked > 10, "{asked}");
    // Whichever of the two was let through, and perhaps the other one at the next pause.
    assert!((1..=2).contains(&tries), "{tries} of {asked}");
}

#[test]
fn an_origin_that_refuses_connections_is_down_until_it_accepts_one() {
    let address: SocketAddr = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port");
    let url = format!("http://{address}");
    let edge = Setup::new().flag("--origin", &url).start();
    for turn in 0..5 {
        assert_eq!(edge.get(&format!("/{turn}")).status(), 502);
    }
    assert_eq!(standing(&edge), "down");
    let failures = || edge.metrics().count("larder_origin_failures_total", &[]);
    assert_eq!((failures(), spared(&edge, "refusal")), (3, 2));
    let origin = Origin::on_port(address.port());
    origin.answer(|_| Reply::ok("back"));
    eventually("the origin to be asked again", || {
        edge.get("/9").status() == 200
    });
    assert_eq!(standing(&edge), "up");
    edge.wait_for_log(0, "the origin is down");
    edge.wait_for_log(0, "the origin answers again");
}

#[test]
fn connections_that_break_off_say_nothing_of_other_pages() {
    let origin = Origin::answering(|asked| match asked.path() {
        "/fine" => Reply::ok("fine"),
        _ => Reply::nothing(),
    });
    let edge = without_retries(&origin).start();
    for turn in 0..6 {
        assert_eq!(edge.get(&format!("/{turn}")).status(), 502);
    }
    assert_eq!(standing(&edge), "up");
    assert_eq!(edge.get("/fine").text(), "fine");
}

#[test]
fn a_page_that_takes_too_long_does_not_make_its_origin_down() {
    let origin = Origin::answering(|asked| match asked.path() {
        "/slow" => Reply::silence(),
        _ => Reply::ok("fine"),
    });
    let edge = patient_for(&origin, "500ms");
    for turn in 0..4 {
        std::thread::scope(|scope| {
            let slow = scope.spawn(|| edge.get("/slow").status());
            origin.wait_for("/slow", (turn + 1).min(3));
            assert_eq!(edge.get("/fine").text(), "fine");
            assert_eq!(slow.join().expect("sound"), 504);
        });
        assert_eq!(standing(&edge), "up");
    }
    // The page itself is left alone for a while.
    assert_eq!(origin.count("/slow"), 3);
}

#[test]
fn a_page_that_fails_again_and_again_is_left_alone_for_a_while() {
    let origin = Origin::start();
    let failing = vec![Reply::nothing(), Reply::nothing(), Reply::nothing()];
    let replies = failing.into_iter().chain([Reply::cached("content")]);
    origin.sequence("/a", replies.collect());
    origin.on("/b", Reply::ok("other"));
    let edge = without_retries(&origin).start();
    for turn in 1..=3 {
        let response = edge.get("/a");
        assert_eq!(response.status(), 502, "{turn}");
        assert_eq!(response.field("retry-after"), None, "it was asked for");
    }
    let refused = edge.get("/a");
    assert_eq!(refused.status(), 502);
    assert!(refused.field("retry-after").is_some());
    assert_eq!(origin.count("/a"), 3);
    assert_eq!(edge.get("/b").text(), "other");
    eventually("it to be asked for again", || {
        edge.get("/a").status() == 200
    });
    assert_eq!(origin.count("/a"), 4);
}

#[test]
fn a_purge_has_a_failing_page_asked_for_again() {
    let origin = Origin::start();
    let failing = vec![Reply::nothing(), Reply::nothing(), Reply::nothing()];
    let replies = failing.into_iter().chain([Reply::cached("content")]);
    origin.sequence("/a", replies.collect());
    let edge = without_retries(&origin).start();
    for _ in 0..4 {
        assert_eq!(edge.get("/a").status(), 502);
    }
    let purge = serde_json::json!({"urls": ["http://edge.test/a"]});
    assert_eq!(edge.admin_post("/v1/purge", &purge).0, 200);
    assert_eq!(edge.get("/a").text(), "content");
}

#[test]
fn errors_of_an_origin_are_covered_up_at_once_and_asked_about_in_the_background() {
    let origin = Origin::start();
    origin.sequence("/a", vec![stale("old"), Reply::status(503).body("down")]);
    let edge = Edge::before(&origin);
    edge.get("/a");
    let start = Instant::now();
    let mut client = edge.client();
    for _ in 0..100 {
        assert_eq!(client.get("/a").text(), "old");
    }
    let most = 2 + usize::try_from(start.elapsed().as_secs()).expect("few") * 4 / 3;
    assert!(origin.count("/a") <= 1 + most, "{}", origin.count("/a"));
    assert_eq!(standing(&edge), "up", "it answers");
    origin.on("/a", Reply::cached("new"));
    eventually("the new response", || edge.get("/a").text() == "new");
}

#[test]
fn an_outage_is_logged_once_and_every_failure_is_counted() {
    let address: SocketAddr = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port");
    let url = format!("http://{address}");
    let edge = Setup::new().flag("--origin", &url).start();
    let requests = 50;
    for turn in 0..requests {
        assert_eq!(edge.get(&format!("/{turn}")).status(), 502);
    }
    let failures = edge.metrics().count("larder_origin_failures_total", &[]);
    assert_eq!(failures + spared(&edge, "refusal"), requests);
    let origin = Origin::on_port(address.port());
    origin.answer(|_| Reply::cached("back"));
    eventually("the origin to be tried again", || {
        edge.get("/").status() == 200
    });
    edge.wait_for_log(0, "the origin answers again");
    let log = edge.log();
    let told: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(": the origin is down"))
        .collect();
    let [told] = told[..] else {
        panic!("told {} times:\n{log}", told.len())
    };
    for part in [" WARN ", "site=\"default\"", "reason="] {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
}

//! Concurrent requests for one key share one fetch.

use std::thread::JoinHandle;

use crate::support::client::{Broken, Response};
use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::support::long;
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::{Gate, Reply};

pub(crate) type Answered = JoinHandle<Result<Response, Broken>>;

/// Clients that ask for `target`, each on a thread and a connection of its own.
pub(crate) fn clients(edge: &Edge, count: usize, target: &'static str) -> Vec<Answered> {
    let ask = |_| {
        let mut client = edge.client();
        std::thread::spawn(move || {
            client.send(crate::support::client::request("GET", target, &[], b""));
            client.try_response("GET")
        })
    };
    (0..count).map(ask).collect()
}

pub(crate) fn whole(answered: Answered) -> Response {
    answered
        .join()
        .expect("the client is sound")
        .expect("a whole response")
}

pub(crate) fn wait_for_collapsed(edge: &Edge, count: u64) {
    eventually("requests to join the fetch", || {
        edge.metrics().count("larder_collapsed_total", &[]) == count
    });
}

#[test]
fn fifty_clients_share_one_fetch() {
    const LENGTH: usize = 300_000;
    let origin = Origin::start();
    let gate = Gate::default();
    let reply = Reply::pattern(300_000)
        .field("Cache-Control", "max-age=60")
        .behind(&gate);
    origin.on("/a", reply);
    let edge = Edge::before(&origin);
    let clients = clients(&edge, 50, "/a");
    wait_for_collapsed(&edge, 49);
    gate.open();
    let mut collapsed = 0;
    for client in clients {
        let response = whole(client);
        assert_eq!((response.status(), response.body.len()), (200, LENGTH));
        pattern::check(0, &response.body);
        let status = response.cache_status();
        assert!(
            status.starts_with("larder; fwd=uri-miss; fwd-status=200"),
            "{status}"
        );
        collapsed += usize::from(status.ends_with("; collapsed"));
    }
    assert_eq!((collapsed, origin.total()), (49, 1));
    assert!(edge.get("/a").is_hit());
}

/// Lets this process have as many open files as it may. The edge does that by itself.
fn allow_open_files(count: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    assert!(allowed >= count, "only {allowed} open files are allowed");
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("the maximum is allowed");
}

#[test]
fn a_crowd_shares_one_fetch_and_sees_it_arrive() {
    let count = if long() { 10_000 } else { 1_000 };
    let head = 4_000;
    allow_open_files(pattern::to_u64(count) + 500);
    let origin = Origin::start();
    let (before, within) = (Gate::default(), Gate::default());
    let reply = Reply::pattern(pattern::to_u64(2 * head)).field("Cache-Control", "max-age=60");
    let reply = reply
        .behind(&before)
        .pausing(pattern::to_u64(head), &within);
    origin.on("/a", reply);
    let edge = Edge::before(&origin);
    let ask = |_| {
        let mut client = edge.client();
        client.send(crate::support::client::request("GET", "/a", &[], b""));
        client
    };
    let mut crowd: Vec<_> = (0..count).map(ask).collect();
    let others = pattern::to_u64(count - 1);
    wait_for_collapsed(&edge, others);
    let metrics = edge.metrics();
    assert_eq!(metrics.count("larder_waiting_requests", &[]), others);
    assert_eq!(metrics.count("larder_flights", &[]), 1);
    before.open();
    // Half of it reaches everyone while the other half is still at the origin.
    for client in &mut crowd {
        assert_eq!(client.head().status, 200);
        pattern::check(0, &client.take(head));
    }
    assert_eq!(edge.metrics().count("larder_waiting_requests", &[]), 0);
    within.open();
    for client in &mut crowd {
        pattern::check(pattern::to_u64(head), &client.take(head));
    }
    assert_eq!(origin.total(), 1);
}

#[test]
fn a_crowd_elects_one_of_it_after_a_failure() {
    let count = if long() { 1_000 } else { 200 };
    let origin = Origin::start();
    let (first, second) = (Gate::default(), Gate::default());
    let works = Reply::cached("content").behind(&second);
    origin.sequence("/a", vec![Reply::nothing().behind(&first), works]);
    let edge = without_retries(&origin).start();
    let crowd = clients(&edge, count, "/a");
    wait_for_collapsed(&edge, pattern::to_u64(count - 1));
    first.open();
    origin.wait_for("/a", 2);
    second.open();
    let mut statuses: Vec<u16> = crowd
        .into_iter()
        .map(|client| whole(client).status())
        .collect();
    statuses.sort_unstable();
    // The one whose own request failed is told so.
    assert_eq!(statuses.pop(), Some(502));
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(origin.total(), 2);
}

#[test]
fn as_many_wait_for_a_fetch_as_may() {
    let origin = Origin::start();
    let gate = Gate::default();
    origin.on("/a", Reply::cached("content").behind(&gate));
    origin.on("/b", Reply::cached("other"));
    let edge = Setup::before(&origin).set("limits.waiters", "3").start();
    let owner = clients(&edge, 1, "/a").remove(0);
    origin.wait_for("/a", 1);
    let waiting = clients(&edge, 3, "/a");
    eventually("three to wait", || {
        edge.metrics().count("larder_waiting_requests", &[]) == 3
    });
    let refused = edge.get("/a");
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.field("retry-after").as_deref(), Some("1"));
    assert_eq!(refused.field("cache-control").as_deref(), Some("no-store"));
    assert_eq!(edge.get("/b").text(), "other", "it is about one fetch");
    gate.open();
    for client in waiting.into_iter().chain([owner]) {
        assert_eq!(whole(client).text(), "content");
    }
    assert!(edge.get("/a").is_hit());
    let refused = edge.metrics().count("larder_waiters_refused_total", &[]);
    assert_eq!((refused, origin.count("/a")), (1, 1));
}

/// An edge that sends a request that the origin did not answer no second time by itself.
pub(crate) fn without_retries(origin: &Origin) -> Setup {
    Setup::site(origin, "retries = 0")
}

#[test]
fn clients_that_come_while_the_body_arrives_get_all_of_it() {
    let origin = Origin::start();
    let gate = Gate::default();
    let reply = Reply::pattern(500_000).field("Cache-Control", "max-age=60");
    origin.on("/a", reply.chunked().pausing(250_000, &gate));
    let edge = Edge::before(&origin);
    let mut first = edge.client();
    first.send(crate::support::client::request("GET", "/a", &[], b""));
    let head = first.head();
    let late = clients(&edge, 10, "/a");
    wait_for_collapsed(&edge, 10);
    gate.open();
    let mut body = Vec::new();
    first
        .read_body(&head, "GET", |piece| body.extend_from_slice(piece))
        .expect("whole");
    for body in late
        .into_iter()
        .map(|client| whole(client).body)
        .chain([body])
    {
        assert_eq!(body.len(), 500_000);
        pattern::check(0, &body);
    }
    assert_eq!(origin.total(), 1);
}

#[test]
fn the_fetch_outlives_the_client_that_caused_it() {
    let origin = Origin::start();
    let gate = Gate::default();
    origin.on("/a", Reply::cached("content").behind(&gate));
    let edge = Edge::before(&origin);
    let mut first = edge.client();
    first.send(crate::support::client::request("GET", "/a", &[], b""));
    origin.wait_for("/a", 1);
    let second = clients(&edge, 1, "/a").remove(0);
    wait_for_collapsed(&edge, 1);
    first.reset();
    eventually("the first client to be gone", || {
        edge.open_connections() == 1
    });
    gate.open();
    assert_eq!(whole(second).text(), "content");
    assert!(edge.get("/a").is_hit());
    assert_eq!(origin.total(), 1);
}

#[test]
fn a_fetch_that_every_client_left_is_still_stored() {
    let origin = Origin::start();
    let gate = Gate::default();
    let reply = Reply::pattern(200_000).field("Cache-Control", "max-age=60");
    origin.on("/a", reply.pausing(100_000, &gate));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    client.send(crate::support::client::request("GET", "/a", &[], b""));
    client.head();
    client.reset();
    eventually("the client to be gone", || edge.open_connections() == 0);
    gate.open();
    edge.wait_for_landing();
    let response = edge.get("/a");
    assert!(response.is_hit());
    assert_eq!(response.body.len(), 200_000);
    pattern::check(0, &response.body);
}

#[test]
fn those_who_waited_for_a_failed_fetch_share_one_more() {
    let origin = Origin::start();
    let (first, second) = (Gate::default(), Gate::default());
    let failure = Reply::nothing().behind(&first);
    origin.sequence(
        "/a",
        vec![failure, Reply::cached("content").behind(&second)],
    );
    let edge = Edge::before(&origin);
    let owner = clients(&edge, 1, "/a").remove(0);
    origin.wait_for("/a", 1);
    let waiting = clients(&edge, 3, "/a");
    wait_for_collapsed(&edge, 3);
    first.open();
    assert_eq!(whole(owner).status(), 502);
    // Whoever comes back only now joins the second fetch, or finds what it stored.
    origin.wait_for("/a", 2);
    second.open();
    for client in waiting {
        assert_eq!(whole(client).text(), "content");
    }
    assert_eq!(origin.total(), 2);
}

#[test]
fn a_second_failure_is_final() {
    let origin = Origin::start();
    let gate = Gate::default();
    origin.sequence("/a", vec![Reply::nothing().behind(&gate), Reply::nothing()]);
    let edge = Edge::before(&origin);
    let owner = clients(&edge, 1, "/a").remove(0);
    origin.wait_for("/a", 1);
    let waiting = clients(&edge, 3, "/a");
    wait_for_collapsed(&edge, 3);
    gate.open();
    for client in waiting.into_iter().chain([owner]) {
        assert_eq!(whole(client).status(), 502);
    }
    // How many of the three found the second fetch still under way is a matter of timing.
    assert!((2..=4).contains(&origin.total()), "{}", origin.total());
}

#[test]
fn what_is_not_for_sharing_is_fetched_by_all_at_the_same_time() {
    let origin = Origin::start();
    let (first, others) = (Gate::default(), Gate::default());
    let (for_first, for_others) = (first.clone(), others.clone());
    origin.route("/a", move |asked| {
        let reply = Reply::ok(format!("for {}", asked.turn)).field("Cache-Control", "private");
        reply.behind(if asked.turn == 0 {
            &for_first
        } else {
            &for_others
        })
    });
    let edge = Edge::before(&origin);
    let owner = clients(&edge, 1, "/a").remove(0);
    origin.wait_for("/a", 1);
    let waiting = clients(&edge, 8, "/a");
    wait_for_collapsed(&edge, 8);
    first.open();
    assert_eq!(whole(owner).text(), "for 0");
    // All eight are at the origin before any of them is answered.
    origin.wait_for("/a", 9);
    others.open();
    let mut texts: Vec<_> = waiting
        .into_iter()
        .map(|client| whole(client).text())
        .collect();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 8, "each has its own: {texts:?}");
}

#[test]
fn a_cold_key_is_fetched_once_however_its_requests_race() {
    let rounds = if long() { 10_000 } else { 150 };
    let origin = Origin::answering(|asked| Reply::cached(asked.target.clone()));
    let edge = Edge::before(&origin);
    let barrier = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = edge.client();
                for round in 0..rounds {
                    barrier.wait();
                    let target = format!("/{round}");
                    assert_eq!(client.get(&target).text(), target);
                }
            });
        }
    });
    assert_eq!(origin.total(), rounds);
}

#[test]
fn the_first_byte_is_there_before_the_last_has_left_the_origin() {
    let origin = Origin::start();
    let gate = Gate::default();
    for (path, control) in [("/stored", "max-age=60"), ("/passed", "no-store")] {
        let reply = Reply::pattern(3_000_000).field("Cache-Control", control);
        origin.on(path, reply.pausing(1_000, &gate));
    }
    let edge = Edge::before(&origin);
    let mut started = Vec::new();
    for path in ["/stored", "/passed"] {
        let mut client = edge.client();
        client.send(crate::support::client::request("GET", path, &[], b""));
        let head = client.head();
        let mut body = client.take(1_000);
        pattern::check(0, &body);
        started.push((client, head, std::mem::take(&mut body)));
    }
    gate.open();
    for (mut client, _, mut body) in started {
        while body.len() < 3_000_000 {
            let more = client.some();
            assert!(!more.is_empty(), "it broke off");
            body.extend(more);
        }
        pattern::check(0, &body);
    }
}

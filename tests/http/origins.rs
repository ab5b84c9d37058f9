//! Several origins of one site: taking turns, falling over, coming back, and what is sent twice.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::support::origin::Origin;
use crate::support::pattern::to_u64;
use crate::support::reply::{Frame, Reply};

/// An address of this machine that refuses connections.
fn refusing() -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    free.expect("a free port")
}

/// An address that connections vanish at: its queue is full and nobody accepts.
struct BlackHole {
    socket: Socket,
    queued: Vec<TcpStream>,
}

impl BlackHole {
    fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        socket.bind(&any.into()).expect("a free port");
        socket.listen(0).expect("a queue");
        let mut hole = Self {
            socket,
            queued: Vec::new(),
        };
        let wait = Duration::from_millis(300);
        while let Ok(stream) = TcpStream::connect_timeout(&hole.address(), wait) {
            hole.queued.push(stream);
            assert!(hole.queued.len() < 100, "the queue is endless");
        }
        hole
    }

    fn address(&self) -> SocketAddr {
        let address = self.socket.local_addr().expect("bound");
        address.as_socket().expect("an IP address")
    }
}

/// The configuration of a site with these origins and further lines.
fn site(origins: &[SocketAddr], lines: &str) -> Setup {
    let list: Vec<String> = origins
        .iter()
        .map(|address| format!("\"http://{address}\""))
        .collect();
    let list = list.join(", ");
    Setup::new().config(&format!("[[site]]\norigins = [{list}]\n{lines}"))
}

fn echo() -> Origin {
    Origin::answering(|asked| Reply::ok(asked.target.clone()))
}

fn counter(edge: &Edge, name: &str) -> u64 {
    edge.metrics().count(name, &[])
}

#[test]
fn origins_take_turns() {
    let origins = [echo(), echo(), echo()];
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let edge = site(&addresses, "").start();
    let mut client = edge.client();
    for turn in 0..30 {
        let target = format!("/{turn}");
        assert_eq!(client.get(&target).text(), target);
    }
    let totals: Vec<_> = origins.iter().map(Origin::total).collect();
    assert_eq!(totals, [10, 10, 10]);
    let connections: usize = origins.iter().map(Origin::connections).sum();
    assert!(
        connections <= 6,
        "{connections} connections for 30 requests"
    );
    assert_eq!(
        counter(&edge, "larder_origin_connections_total"),
        to_u64(connections)
    );
}

#[test]
fn an_origin_that_refuses_is_passed_over() {
    let origin = echo();
    let dead = refusing();
    let edge = site(&[dead, origin.address()], "").start();
    let mut client = edge.client();
    for turn in 0..20 {
        let method = ["GET", "POST"][turn % 2];
        let target = format!("/{turn}");
        let response = client.request(method, &target, &[], b"");
        assert_eq!((response.status(), response.text()), (200, target));
    }
    assert_eq!(origin.total(), 20);
    let failed = counter(&edge, "larder_origin_connect_failures_total");
    assert!((1..10).contains(&failed), "{failed} attempts at a dead one");
    assert_eq!(counter(&edge, "larder_origin_failures_total"), 0);
    let up = |address: SocketAddr| {
        let label = format!("address=\"{address}\"");
        edge.metrics().count("larder_origin_address_up", &[&label])
    };
    assert_eq!((up(dead), up(origin.address())), (0, 1));
    let shown = edge.stats()["sites"][0]["origin_addresses"].clone();
    let (down, up) = (format!("{dead} down"), format!("{} up", origin.address()));
    assert_eq!(shown, serde_json::json!([down, up]));
    edge.wait_for_log(0, "an address of the origin is down");
}

#[test]
fn an_origin_that_connections_vanish_at_is_passed_over_within_the_deadline() {
    let (origin, hole) = (echo(), BlackHole::new());
    let edge = site(
        &[hole.address(), origin.address()],
        "[limits]\nconnect = \"1s\"",
    )
    .start();
    let start = Instant::now();
    for (turn, method) in ["GET", "POST", "GET", "POST"].into_iter().enumerate() {
        let target = format!("/{turn}");
        let response = edge.client().request(method, &target, &[], b"");
        assert_eq!(response.text(), target, "{method}");
    }
    assert_eq!(origin.total(), 4);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn one_origin_that_connections_vanish_at_gives_504() {
    let hole = BlackHole::new();
    let edge = site(&[hole.address()], "[limits]\nconnect = \"300ms\"").start();
    for method in ["GET", "POST"] {
        let start = Instant::now();
        let response = edge.client().request(method, "/a", &[], b"");
        assert_eq!(response.status(), 504, "{method}");
        assert!(start.elapsed() < Duration::from_secs(5), "{method}");
    }
    let timeouts = edge
        .metrics()
        .count("larder_origin_failures_total", &[r#"kind="timeout""#]);
    assert_eq!(timeouts, 2);
}

#[test]
fn an_origin_that_comes_back_is_found_again() {
    let (origin, absent) = (echo(), refusing());
    let edge = site(&[absent, origin.address()], "").start();
    let mut client = edge.client();
    for turn in 0..4 {
        assert_eq!(client.get(&format!("/{turn}")).status(), 200);
    }
    let back = Origin::on_port(absent.port());
    back.answer(|asked| Reply::ok(asked.target.clone()));
    let mut turn = 4;
    eventually("the one that came back to be asked", || {
        turn += 1;
        assert_eq!(client.get(&format!("/{turn}")).status(), 200);
        back.total() > 2
    });
    edge.wait_for_log(0, "an address of the origin is back");
}

#[test]
fn the_only_origin_is_tried_again_and_again() {
    let absent = refusing();
    let edge = site(&[absent], "").start();
    let mut client = edge.client();
    for _ in 0..5 {
        assert_eq!(client.get("/a").status(), 502);
    }
    // After a few failures it is left alone for a moment (`outage`).
    let tried = counter(&edge, "larder_origin_connect_failures_total");
    assert!((2..=5).contains(&tried), "{tried}");
    let back = Origin::on_port(absent.port());
    back.on("/a", Reply::ok("back"));
    eventually("it to be asked again", || client.get("/a").status() == 200);
}

#[test]
fn all_addresses_of_a_name_are_used() {
    // The name has an IPv6 address on many machines, and nobody listens there.
    let origin = echo();
    let port = origin.address().port();
    let edge = Setup::new()
        .config(&format!(
            "[[site]]\norigin = \"http://localhost:{port}\"\nretries = 0"
        ))
        .start();
    let mut client = edge.client();
    for turn in 0..10 {
        let target = format!("/{turn}");
        assert_eq!(client.get(&target).text(), target);
    }
    let asked = origin.asked();
    assert_eq!(asked.len(), 10);
}

/// An origin that ends each connection when it has read a request.
fn speechless() -> Origin {
    Origin::always(Reply::nothing())
}

#[test]
fn what_may_be_sent_again_goes_to_another_origin_and_nothing_else_does() {
    let (bad, good) = (speechless(), echo());
    let edge = site(&[bad.address(), good.address()], "").start();
    let send = |method: &str, body: &[u8]| {
        let before = bad.total() + good.total();
        let response = edge.client().request(method, "/a", &[], body);
        (response.status(), bad.total() + good.total() - before)
    };
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "PUT"] {
        // Whichever is asked first, the answer is the good one's.
        for _ in 0..2 {
            let (status, times) = send(method, b"");
            assert_eq!(status, 200, "{method}");
            assert!((1..=2).contains(&times), "{method} was sent {times} times");
        }
    }
    for (method, body) in [("POST", ""), ("PATCH", ""), ("PUT", "content")] {
        for _ in 0..2 {
            let (_, times) = send(method, body.as_bytes());
            assert_eq!(times, 1, "{method}");
        }
    }
}

#[test]
fn a_post_is_never_sent_twice() {
    let origins = [speechless(), speechless()];
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let edge = site(&addresses, "retries = 10").start();
    for turn in 1..=6 {
        for body in ["", "content"] {
            let response = edge.client().request("POST", "/a", &[], body.as_bytes());
            assert_eq!(response.status(), 502);
        }
        let sent: usize = origins.iter().map(Origin::total).sum();
        assert_eq!(sent, 2 * turn);
    }
    assert_eq!(counter(&edge, "larder_origin_retries_total"), 0);
}

#[test]
fn retries_end_at_their_number_and_at_their_budget() {
    let origins = [speechless(), speechless(), speechless(), speechless()];
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let total = || origins.iter().map(Origin::total).sum::<usize>();
    let none = site(&addresses, "retries = 0").start();
    assert_eq!(none.get("/a").status(), 502);
    assert_eq!(total(), 1);
    let one = site(&addresses, "retries = 1").start();
    assert_eq!(one.get("/a").status(), 502);
    assert_eq!(total(), 3);
    drop((none, one));

    let before = total();
    let edge = site(&addresses, "retries = 3").start();
    let requests = 100;
    for turn in 0..requests {
        assert_eq!(edge.get(&format!("/{turn}")).status(), 502);
    }
    let again = total() - before - requests;
    assert!(again > 0, "some were sent again");
    assert!(again <= 10 + requests / 5, "{again} were sent again");
    assert_eq!(counter(&edge, "larder_origin_retries_total"), to_u64(again));
    assert_eq!(
        edge.metrics()
            .count("larder_origin_failures_total", &[r#"kind="closed""#]),
        to_u64(requests)
    );
}

#[test]
fn a_deadline_is_not_followed_by_another_try() {
    let origins = [
        Origin::always(Reply::silence()),
        Origin::always(Reply::silence()),
    ];
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let edge = site(&addresses, "[limits]\nfirst_byte = \"300ms\"").start();
    for turn in 1..=2 {
        assert_eq!(edge.get("/a").status(), 504);
        let sent: usize = origins.iter().map(Origin::total).sum();
        assert_eq!(sent, turn);
    }
}

#[test]
fn a_body_that_breaks_off_is_not_begun_again() {
    let broken = || Origin::always(Reply::pattern(1_000).framed(Frame::Length).cut_after(10));
    let origins = [broken(), broken()];
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let edge = site(&addresses, "").start();
    let mut client = edge.client();
    client.send(crate::support::client::request("GET", "/a", &[], b""));
    assert!(client.try_response("GET").is_err());
    let sent: usize = origins.iter().map(Origin::total).sum();
    assert_eq!(sent, 1);
}

#[test]
fn a_reload_replaces_origins_and_keeps_the_connections_of_others() {
    let (first, second, other) = (echo(), echo(), echo());
    let config = |a: &Origin| {
        format!(
            "[[site]]\nname = \"a\"\norigin = \"{}\"\n\
             [[site]]\nname = \"b\"\nhosts = [\"b.test\"]\norigin = \"{}\"\n",
            a.url(),
            other.url()
        )
    };
    let mut edge = Setup::new().config(&config(&first)).start();
    let ask = |edge: &Edge, host: &str| {
        let request = format!("GET /{host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let mut client = edge.client();
        client.send(request);
        assert_eq!(client.response("GET").status(), 200);
    };
    ask(&edge, "a.test");
    assert_eq!((first.total(), second.total()), (1, 0));
    let said = edge.reload(&config(&second));
    assert!(!said.contains("not reloaded"), "{said}");
    ask(&edge, "a.test");
    assert_eq!((first.total(), second.total()), (1, 1));
    ask(&edge, "b.test");
    assert_eq!(other.total(), 1);
}

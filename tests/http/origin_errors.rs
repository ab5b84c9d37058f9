//! Origins that cannot be reached, do not answer, or answer with something else than HTTP.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::client::request;
use crate::support::edge::Setup;
use crate::support::origin::Origin;
use crate::support::reply::{Gate, Reply};

#[test]
fn an_origin_that_refuses_connections_gives_502() {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let url = format!("http://{}", address.expect("a free port"));
    let edge = Setup::new().flag("--origin", &url).start();
    let start = Instant::now();
    let mut client = edge.client();
    for _ in 0..3 {
        let response = client.get("/a");
        assert_eq!(response.status(), 502);
        assert_eq!(response.field("cache-control").as_deref(), Some("no-store"));
        assert!(!response.body.is_empty(), "it says why");
    }
    assert!(start.elapsed() < Duration::from_secs(5), "without delay");
    let metrics = edge.metrics();
    assert_eq!(metrics.count("larder_origin_failures_total", &[]), 3);
    assert_eq!(
        metrics.count("larder_requests_total", &[r#"status_class="5xx""#]),
        3
    );
}

#[test]
fn an_origin_that_does_not_answer_gives_504_at_the_deadline() {
    let origin = Origin::start();
    origin.on("/a", Reply::silence());
    let edge = Setup::before(&origin)
        .set("limits.first_byte", "300ms")
        .start();
    for method in ["GET", "HEAD", "POST"] {
        let start = Instant::now();
        let response = edge.client().request(method, "/a", &[], b"");
        assert_eq!(response.status(), 504, "{method}");
        let took = start.elapsed();
        let expected = Duration::from_millis(300)..Duration::from_secs(5);
        assert!(expected.contains(&took), "{method} took {took:?}");
    }
    assert_eq!(origin.total(), 3, "one attempt each");
}

#[test]
fn an_origin_that_speaks_something_else_gives_502() {
    let origin = Origin::start();
    for (number, bytes) in [
        "SSH-2.0-OpenSSH_9.9\r\n",
        "\0\0\0\0\0\0",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nNo colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "",
    ]
    .into_iter()
    .enumerate()
    {
        origin.on(&format!("/{number}"), Reply::raw(bytes));
    }
    let edge = Setup::before(&origin).start();
    for number in 0..9 {
        let path = format!("/{number}");
        for method in ["GET", "POST"] {
            let response = edge.client().request(method, &path, &[], b"");
            assert_eq!(response.status(), 502, "{method} {path}");
        }
    }
    assert_eq!(edge.metrics().count("larder_tier_entries", &[]), 0);
}

#[test]
fn an_endless_response_head_is_given_up() {
    let origin = Origin::start();
    let field = format!("X: {}\r\n", "y".repeat(1_000));
    let head = format!("HTTP/1.1 200 OK\r\n{}", field.repeat(1_000));
    origin.on("/a", Reply::raw(head));
    let edge = Setup::before(&origin).start();
    assert_eq!(edge.get("/a").status(), 502);
}

#[test]
fn interim_responses_are_passed_on_and_not_stored() {
    let origin = Origin::start();
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nCache-Control: max-age=60\r\n\r\na";
    origin.on(
        "/a",
        Reply::raw(format!("{hints}HTTP/1.1 102 Processing\r\n\r\n{answer}")),
    );
    let edge = Setup::before(&origin).start();
    let mut client = edge.client();
    client.send(request("GET", "/a", &[], b""));
    let early = client.head();
    assert_eq!(
        (early.status, early.field("link").as_deref()),
        (103, Some("</x>"))
    );
    assert_eq!(
        (early.field("x-hop"), early.field("content-length")),
        (None, None)
    );
    assert_eq!(client.head().status, 102);
    assert_eq!(client.response("GET").text(), "a");
    // They were for that client.
    assert_eq!(client.get("/a").text(), "a");
    assert_eq!(origin.total(), 1);
    // An old client does not know them.
    let mut old = edge.client();
    old.send("POST /a HTTP/1.0\r\nHost: edge.test\r\n\r\n");
    assert_eq!(old.response("POST").text(), "a");
}

#[test]
fn hints_arrive_before_the_answer() {
    let origin = Origin::start();
    let gate = Gate::default();
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na";
    let reply = Reply::raw(format!("{hints}{answer}"));
    origin.on(
        "/a",
        reply.pausing(hints.len().try_into().expect("small"), &gate),
    );
    let edge = Setup::before(&origin).start();
    let mut client = edge.client();
    client.send(request("GET", "/a", &[], b""));
    assert_eq!(client.head().status, 103);
    gate.open();
    assert_eq!(client.response("GET").text(), "a");
}

#[test]
fn an_origin_that_closes_idle_connections_costs_no_request() {
    let origin = Origin::answering(|asked| Reply::ok(asked.target.clone()).closing());
    let edge = Setup::before(&origin).start();
    let mut client = edge.client();
    for turn in 0..50 {
        let target = format!("/{turn}");
        assert_eq!(client.get(&target).text(), target);
    }
    assert_eq!((origin.total(), origin.connections()), (50, 50));
}

#[test]
fn the_first_byte_deadline_begins_when_the_request_is_sent() {
    let origin = Origin::always(Reply::ok("thanks"));
    let edge = Setup::before(&origin)
        .set("limits.first_byte", "400ms")
        .start();
    let mut client = edge.client();
    client.send("POST /a HTTP/1.1\r\nHost: edge.test\r\nContent-Length: 10\r\n\r\n01234");
    // A client that takes longer over its body than the origin may take over its answer.
    let silent = client.is_silent_for(Duration::from_millis(900));
    assert!(silent, "{:?}", client.try_response("POST"));
    client.send("56789");
    assert_eq!(client.response("POST").text(), "thanks");
}

#[test]
fn a_request_that_comes_back_to_this_edge_is_refused_at_once() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("bound").to_string();
    drop(free);
    let edge = Setup::new()
        .config(&format!(
            "[listen]\nhttp = \"{address}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [[site]]\norigin = \"http://{address}\"\n"
        ))
        .with_own_addresses()
        .start();
    for (turn, method) in ["GET", "HEAD", "POST"].into_iter().enumerate() {
        let start = Instant::now();
        let response = edge.client().request(method, "/a", &[], b"");
        assert_eq!(response.status(), 508, "{method}");
        let took = start.elapsed();
        assert!(took < Duration::from_secs(5), "{method}: {took:?}");
        // It went round once and no more.
        let sent = edge.metrics().count("larder_origin_requests_total", &[]);
        assert_eq!(sent, crate::support::pattern::to_u64(turn + 1), "{method}");
    }
}

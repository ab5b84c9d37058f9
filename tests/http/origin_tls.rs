//! Origins over TLS, and over HTTP/2 with and without it.

use std::sync::Arc;

use crate::support::edge::{Edge, Setup};
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::Reply;
use crate::support::secure::{Authority, Http2Origin, tls_before};

/// An edge before `url` that trusts `authority`, with further lines for its site.
fn trusting(authority: &Authority, url: &str, lines: &str) -> Edge {
    let setup = Setup::new();
    std::fs::write(setup.path("ca.pem"), authority.pem()).expect("a file");
    setup
        .config(&format!(
            "[[site]]\norigin = \"{url}\"\norigin_ca = \"ca.pem\"\n{lines}"
        ))
        .start()
}

#[test]
fn an_origin_that_proves_its_name_is_asked_over_tls() {
    let authority = Authority::new();
    let origin = Origin::answering(|asked| Reply::ok(asked.target.clone()));
    origin.on("/large", Reply::pattern(1_000_000).chunked());
    for (name, host) in [("localhost", "localhost"), ("127.0.0.1", "127.0.0.1")] {
        for protocols in [vec![], vec!["http/1.1"]] {
            let address = tls_before(&origin, authority.server(name, &protocols));
            let url = format!("https://{host}:{}", address.port());
            let edge = trusting(&authority, &url, "");
            let before = origin.connections();
            let mut client = edge.client();
            for turn in 0..5 {
                let target = format!("/{turn}");
                assert_eq!(client.get(&target).text(), target);
            }
            let response = client.request("POST", "/post", &[], b"content");
            assert_eq!(response.status(), 200);
            let last = origin.asked().pop().expect("a request");
            assert_eq!(last.body, b"content");
            pattern::check(0, &client.get("/large").body);
            assert_eq!(origin.connections() - before, 1, "one connection for all");
        }
    }
}

#[test]
fn an_origin_that_proves_nothing_is_not_asked() {
    let authority = Authority::new();
    let origin = Origin::always(Reply::ok("secret"));
    let stranger = tls_before(&origin, Authority::new().server("localhost", &[]));
    let other = tls_before(&origin, authority.server("other.test", &[]));
    let clear = origin.address();
    for (address, reason) in [
        (stranger, "UnknownIssuer"),
        (other, "not valid for name"),
        (clear, "no agreement over TLS"),
    ] {
        let url = format!("https://localhost:{}", address.port());
        let edge = trusting(&authority, &url, "");
        for method in ["GET", "POST"] {
            let response = edge.client().request(method, "/a", &[], b"");
            assert_eq!(response.status(), 502, "{reason}");
        }
        edge.wait_for_log(0, reason);
        let failures = edge
            .metrics()
            .count("larder_origin_failures_total", &[r#"kind="tls""#]);
        assert_eq!(failures, 2, "{reason}");
    }
    assert_eq!(origin.total(), 0);
}

#[test]
fn a_server_behind_an_address_proves_the_name_that_the_site_gives() {
    let authority = Authority::new();
    let origin = Origin::always(Reply::ok("a"));
    let address = tls_before(&origin, authority.server("example.test", &[]));
    let url = format!("https://{address}");
    let edge = trusting(&authority, &url, "host = \"example.test:8443\"");
    assert_eq!(edge.get("/a").text(), "a");
    let asked = origin.asked();
    assert_eq!(asked[0].field("host").as_deref(), Some("example.test:8443"));
}

#[test]
fn http2_is_spoken_where_it_is_agreed_on_or_known() {
    let authority = Authority::new();
    let tls = || Some(authority.server("localhost", &["h2", "http/1.1"]));
    for (tls, protocol) in [(tls(), "auto"), (tls(), "h2"), (None, "h2")] {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let origin = Arc::new(Http2Origin::start(tls));
        let url = format!("{scheme}://localhost:{}", origin.address.port());
        let lines = format!("origin_protocol = \"{protocol}\"");
        let edge = match scheme {
            "https" => trusting(&authority, &url, &lines),
            _ => Setup::new()
                .config(&format!("[[site]]\norigin = \"{url}\"\n{lines}"))
                .start(),
        };
        let mut client = edge.client();
        let response = client.get("/get?q=1");
        assert_eq!(response.text(), "/get ", "{scheme} {protocol}");
        assert_eq!(response.field("x-protocol").as_deref(), Some("h2"));
        let response = client.request("POST", "/post", &[("X-Own", "1")], b"content");
        assert_eq!(response.text(), "/post content");
        assert_eq!(client.request("DELETE", "/d", &[], b"").status(), 200);
        assert_eq!(client.request("OPTIONS", "/o", &[], b"").status(), 200);

        let asked = origin.asked();
        assert_eq!(asked.len(), 4);
        let whole = format!("{scheme}://edge.test/get?q=1");
        assert_eq!(asked[0].uri.to_string(), whole);
        assert!(!asked[0].headers.contains_key("host"), "{:?}", asked[0]);
        assert_eq!(asked[1].body, "content");
        assert_eq!(asked[1].headers["x-own"], "1");
        assert_eq!(asked[3].method, "OPTIONS");
    }
}

#[test]
fn many_requests_share_a_connection_over_http2() {
    let origin = Http2Origin::start(None);
    let url = format!("http://{}", origin.address);
    let edge = Setup::new()
        .config(&format!(
            "[[site]]\norigin = \"{url}\"\norigin_protocol = \"h2\""
        ))
        .start();
    let clients: Vec<_> = (0..40)
        .map(|number| {
            let mut client = edge.client();
            client.send(format!("GET /{number} HTTP/1.1\r\nHost: edge.test\r\n\r\n"));
            client
        })
        .collect();
    for (number, mut client) in clients.into_iter().enumerate() {
        assert_eq!(client.response("GET").text(), format!("/{number} "));
    }
    // One for each worker.
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let connections = origin.connections();
    assert!(
        connections <= workers,
        "{connections} for {workers} workers"
    );
}

#[test]
fn an_origin_that_must_speak_http2_and_does_not_gives_502() {
    let authority = Authority::new();
    let origin = Origin::always(Reply::ok("a"));
    let address = tls_before(&origin, authority.server("localhost", &[]));
    let url = format!("https://localhost:{}", address.port());
    let edge = trusting(&authority, &url, "origin_protocol = \"h2\"");
    assert_eq!(edge.get("/a").status(), 502);
    assert_eq!(origin.total(), 0);
    let edge = trusting(&authority, &url, "origin_protocol = \"http1\"");
    assert_eq!(edge.get("/a").text(), "a");
}

#[test]
fn certificates_that_cannot_be_used_are_told_with_their_file() {
    let origin = "[[site]]\norigin = \"https://localhost:1\"\norigin_ca = \"ca.pem\"";
    for (content, clause) in [
        (None, "cannot be read"),
        (Some("hello"), "holds no certificate"),
        (
            Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "holds a damaged certificate",
        ),
    ] {
        let setup = Setup::new().config(origin);
        if let Some(content) = content {
            std::fs::write(setup.path("ca.pem"), content).expect("a file");
        }
        let ended = setup.try_start().expect_err(clause);
        assert_eq!(ended.code, Some(2), "{}", ended.log);
        let line = "larder.toml:3: site[0].origin_ca: \"ca.pem\" ";
        assert!(ended.log.contains(line), "{}", ended.log);
        assert!(ended.log.contains(clause), "{}", ended.log);
    }
}

#[test]
fn a_reload_with_certificates_that_cannot_be_used_changes_nothing() {
    let authority = Authority::new();
    let origin = Origin::always(Reply::ok("a"));
    let address = tls_before(&origin, authority.server("localhost", &[]));
    let config = |ca: &str| {
        let url = format!("https://localhost:{}", address.port());
        format!("[[site]]\norigin = \"{url}\"\norigin_ca = \"{ca}\"\n")
    };
    let setup = Setup::new().config(&config("ca.pem"));
    std::fs::write(setup.path("ca.pem"), authority.pem()).expect("a file");
    let mut edge = setup.start();
    let said = edge.reload(&config("no-such.pem"));
    assert!(
        said.contains("not reloaded") && said.contains("no-such.pem"),
        "{said}"
    );
    assert_eq!(edge.get("/a").text(), "a");
}

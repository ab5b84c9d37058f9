//! TLS towards clients: certificates, protocols, deadlines, and what https means behind them.

use rustls::ProtocolVersion;
use serde_json::json;

use crate::support::client::{Client, HOST};
use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::support::http2::Http2;
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::Reply;
use crate::support::tls::{Certificate, Offer, section};

/// An edge before `origin` with the certificate of [`HOST`], and a client that trusts it.
fn edge(origin: &Origin) -> (Edge, Offer) {
    let certificate = Certificate::new(&[HOST]);
    let setup = Setup::before(origin).config(&section(&["own"]));
    certificate.write(&setup.path(""), "own");
    (setup.start(), Offer::new(HOST, &[&certificate]))
}

#[test]
fn requests_over_tls_are_answered_and_stored_as_https() {
    let origin = Origin::answering(|asked| {
        Reply::cached(asked.field("x-forwarded-proto").unwrap_or_default())
    });
    let (edge, offer) = edge(&origin);
    let mut client = offer.connect(edge.https_address()).expect("a handshake");
    for hit in [false, true] {
        let (head, body) = client.get(HOST, "/a");
        assert_eq!(body, b"https");
        assert_eq!(head.contains("larder; hit"), hit, "{head}");
    }
    // The same target over http is another resource.
    let plain = edge.get("/a");
    assert_eq!((plain.text().as_str(), plain.is_hit()), ("http", false));
    // HTTP/2 shares what HTTP/1.1 stored.
    let mut http2 = Http2::connect_tls(edge.https_address(), &offer);
    let shared = http2.get("/a");
    assert_eq!((shared.text().as_str(), shared.is_hit()), ("https", true));
    // Each is purged by its own URL.
    let url = format!("https://{HOST}/a");
    let (_, purged) = edge.admin_post("/v1/purge", &json!({ "urls": [url] }));
    assert_eq!(purged["entries"], 1, "{purged}");
    assert!(edge.get("/a").is_hit());
    assert!(!http2.get("/a").is_hit());
    let (_, explained) = edge.admin_get(&format!("/v1/explain?url={url}"));
    assert!(explained.to_string().contains("https://"), "{explained}");
}

#[test]
fn both_versions_of_tls_are_spoken() {
    let origin = Origin::always(Reply::cached("x"));
    let certificate = Certificate::new(&[HOST]);
    let setup = Setup::before(&origin).config(&section(&["own"]));
    certificate.write(&setup.path(""), "own");
    let edge = setup.start();
    for (offered, expected) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let offer = Offer::with_versions(HOST, &[&certificate], &[offered]);
        let mut client = offer.connect(edge.https_address()).expect("a handshake");
        assert_eq!(client.version(), expected);
        assert_eq!(client.get(HOST, "/").1, b"x");
    }
}

#[test]
fn the_protocol_is_negotiated() {
    let origin = Origin::always(Reply::cached("x"));
    let (edge, offer) = edge(&origin);
    for (offered, expected) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let offer = offer.clone().alpn(offered);
        let client = offer.connect(edge.https_address()).expect("a handshake");
        assert_eq!(client.alpn().as_deref(), expected, "{offered:?}");
    }
    let refused = offer.alpn(&["spdy/3"]).connect(edge.https_address());
    assert!(refused.is_err(), "there is nothing to agree on");
    eventually("the failure to be counted", || {
        edge.metrics()
            .count("larder_tls_handshake_failures_total", &[])
            == 1
    });
}

#[test]
fn the_certificate_follows_the_name_and_the_site_follows_the_host() {
    let (one, two) = (
        Origin::always(Reply::cached("one")),
        Origin::always(Reply::cached("two")),
    );
    let all = [
        Certificate::new(&["one.test"]),
        Certificate::new(&["two.test", "*.two.test"]),
    ];
    let mut setup = Setup::new().config(&section(&["one", "two"]));
    for (name, certificate) in ["one", "two"].iter().zip(&all) {
        certificate.write(&setup.path(""), name);
    }
    for (host, origin) in [("one.test", &one), ("two.test", &two)] {
        let origin = origin.url();
        setup = setup.config(&format!(
            "[[site]]\nhosts = [\"{host}\"]\norigin = \"{origin}\""
        ));
    }
    let edge = setup.start();
    for (name, shown) in [("one.test", 0), ("two.test", 1), ("a.two.test", 1)] {
        let offer = Offer::new(name, &[&all[0], &all[1]]);
        let mut client = offer.connect(edge.https_address()).expect("a handshake");
        assert_eq!(client.shown(), all[shown].der, "{name}");
        // Whatever the name was, the site is that of the host.
        assert_eq!(client.get("one.test", "/").1, b"one");
        assert_eq!(client.get("two.test", "/").1, b"two");
        assert!(client.get("other.test", "/").0.starts_with("HTTP/1.1 421 "));
    }
    let stranger = Offer::new("stranger.test", &[&all[0], &all[1]]);
    assert!(
        stranger.connect(edge.https_address()).is_err(),
        "the first certificate is not for that name"
    );
}

#[test]
fn certificates_are_reloaded_under_connections_that_go_on() {
    let origin = Origin::always(Reply::cached("x"));
    let (old, new) = (Certificate::new(&[HOST]), Certificate::new(&[HOST]));
    let config = format!(
        "{}[[site]]\nname = \"default\"\norigin = \"{}\"\n",
        section(&["own"]),
        origin.url()
    );
    let setup = Setup::new().config(&config);
    old.write(&setup.path(""), "own");
    let mut edge = setup.start();
    let offer = Offer::new(HOST, &[&old, &new]);
    let mut before = offer.connect(edge.https_address()).expect("a handshake");
    assert_eq!(before.shown(), old.der);
    // A key that does not belong to it, and a file that is none.
    new.write(edge.dir(), "other");
    let wrong = config.replace("own.key", "other.key");
    let said = edge.reload(&wrong);
    assert!(
        said.contains("larder.toml:5: listen.tls.certificate[0].key: \"other.key\" is not the key")
            && said.contains("the old configuration stays"),
        "{said}"
    );
    assert!(
        edge.reload(&config.replace("own.pem", "none.pem"))
            .contains("none.pem")
    );
    let still = offer.connect(edge.https_address()).expect("a handshake");
    assert_eq!(still.shown(), old.der);
    new.write(edge.dir(), "own");
    let said = edge.reload(&config);
    assert!(!said.contains("not reloaded"), "{said}");
    let after = offer.connect(edge.https_address()).expect("a handshake");
    assert_eq!(after.shown(), new.der);
    assert_eq!(before.get(HOST, "/").1, b"x", "it goes on");
}

#[test]
fn a_certificate_that_cannot_be_used_ends_the_start() {
    let origin = Origin::start();
    let setup = Setup::before(&origin).config(&section(&["own"]));
    let ended = setup.try_start().expect_err("there is no certificate");
    assert_eq!(ended.code, Some(2));
    let expected = "larder.toml:4: listen.tls.certificate[0].chain: \"own.pem\" cannot be read";
    assert!(ended.log.contains(expected), "{}", ended.log);
}

#[test]
fn a_handshake_that_does_not_end_is_given_up() {
    let origin = Origin::always(Reply::cached("x"));
    let certificate = Certificate::new(&[HOST]);
    let setup = Setup::before(&origin)
        .config(&section(&["own"]))
        .set("limits.head", "300ms");
    certificate.write(&setup.path(""), "own");
    let edge = setup.start();
    let mut silent = Client::connect(edge.https_address());
    let mut slow = Client::connect(edge.https_address());
    // The start of a record of a handshake.
    slow.send([22, 3, 1, 2, 0, 1]);
    silent.assert_closed();
    slow.assert_closed();
    eventually("both to be counted", || {
        let metrics = edge.metrics();
        metrics.count("larder_connections_timed_out_total", &[]) == 2
    });
    let mut stranger = Client::connect(edge.https_address());
    stranger.send("GET / HTTP/1.1\r\nHost: edge.test\r\n\r\n");
    stranger.rest();
    eventually("the failure to be counted", || {
        edge.metrics()
            .count("larder_tls_handshake_failures_total", &[])
            == 1
    });
    assert_eq!(edge.open_connections(), 0);
}

#[test]
fn large_content_arrives_whole_and_a_broken_one_does_not_look_so() {
    let origin = Origin::start();
    origin.on(
        "/large",
        Reply::pattern(5_000_000).field("Cache-Control", "max-age=60"),
    );
    origin.on(
        "/broken",
        Reply::pattern(100_000).chunked().cut_after(50_000),
    );
    let (edge, offer) = edge(&origin);
    for _ in 0..2 {
        let mut client = offer.connect(edge.https_address()).expect("a handshake");
        let (_, body) = client.get(HOST, "/large");
        assert_eq!(body.len(), 5_000_000);
        pattern::check(0, &body);
    }
    let mut client = offer.connect(edge.https_address()).expect("a handshake");
    let request = format!("GET /broken HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    client.send(request.as_bytes());
    let rest = client.rest();
    assert!(
        rest.is_err(),
        "no orderly end: {} bytes",
        rest.unwrap().len()
    );
}

#[test]
fn an_idle_session_is_ended() {
    let origin = Origin::always(Reply::cached("x"));
    let certificate = Certificate::new(&[HOST]);
    let setup = Setup::before(&origin)
        .config(&section(&["own"]))
        .set("limits.client_idle", "300ms");
    certificate.write(&setup.path(""), "own");
    let edge = setup.start();
    let offer = Offer::new(HOST, &[&certificate]);
    let mut client = offer.connect(edge.https_address()).expect("a handshake");
    client.get(HOST, "/");
    drop(client.rest());
    eventually("it to be closed", || edge.open_connections() == 0);
    let mut http2 = Http2::connect_tls(edge.https_address(), &offer);
    http2.get("/");
    assert!(http2.ended().is_ok(), "told so, and closed");
    eventually("both to be counted", || {
        let metrics = edge.metrics();
        metrics.count("larder_connections_timed_out_total", &[]) == 2
    });
}

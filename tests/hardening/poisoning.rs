//! Cache poisoning: nothing that one client sends may change what another one gets under the same
//! key.
//!
//! The origin here is the worst there is: it repeats every field it is sent, and lets everyone
//! store that. With `forward = "declared"` it is not sent any that the key does not show. With
//! `"all"` it gets end-to-end fields, as an intermediary should pass them on, and what it builds
//! from those without saying so in `Vary` is left (the README names this and the remedy); what only
//! proxies may say is not.

use crate::support::client::request;
use crate::support::edge::{Edge, Setup};
use crate::support::origin::{Asked, Origin};
use crate::support::reply::Reply;

/// What applications take for the client's address, or for another host, path or method.
const FROM_PROXIES: [&str; 48] = [
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Scheme",
    "X-Forwarded-Server",
    "X-Forwarded-Path",
    "X-Forwarded-SSL",
    "X-Forwarded-By",
    "X-Forwarded-Uri",
    "X-Forwarded",
    "Forwarded",
    "X-Forwarded-Method",
    "X-Forwarded-Client-Cert",
    "Forwarded-For",
    "Forwarded-Proto",
    "X-Host",
    "X-HTTP-Host-Override",
    "X-Original-URL",
    "X-Original-Host",
    "X-Original-Path",
    "X-Original-Method",
    "X-Original-Forwarded-For",
    "X-Rewrite-URL",
    "X-HTTP-Method-Override",
    "X-HTTP-Method",
    "X-Method-Override",
    "X-Real-IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "Cluster-Client-IP",
    "True-Client-IP",
    "Client-IP",
    "CF-Connecting-IP",
    "CF-Connecting-IPv6",
    "CF-Visitor",
    "Fastly-Client-IP",
    "Front-End-Https",
    "X-Arr-SSL",
    "X-Url-Scheme",
    "X-Proxy-Url",
    "Proxy",
    "Proxy-Host",
    "Http-Host",
    "Base-Url",
    "Proxy-Authorization",
    "Proxy-Connection",
];

/// End-to-end fields that an origin may build its answer from.
const END_TO_END: [&str; 24] = [
    "User-Agent",
    "Accept",
    "Accept-Language",
    "Accept-Charset",
    "Origin",
    "Referer",
    "Cookie",
    "X-Requested-With",
    "X-Custom",
    "X-Api-Version",
    "X-Debug",
    "X-Locale",
    "X-Wap-Profile",
    "X-Timer",
    "DNT",
    "Save-Data",
    "Sec-CH-UA",
    "Sec-Fetch-Dest",
    "Priority",
    "Upgrade-Insecure-Requests",
    "X-Requested-By",
    "X-Correlation-ID",
    "X-Request-ID",
    "Content-Type",
];

/// An origin that puts every byte of the request into an answer for everyone.
fn repeating() -> Origin {
    Origin::answering(|asked: &Asked| {
        let body = format!(
            "{} {} {:?} {:?}",
            asked.method, asked.target, asked.fields, asked.body
        );
        Reply::cached(body)
    })
}

fn edge(origin: &Origin, lines: &str) -> Edge {
    Setup::site(origin, lines).start()
}

/// Whether `attack` has changed what the next plain request for `target` gets.
fn poisons(edge: &Edge, target: &str, attack: impl AsRef<[u8]>) -> bool {
    let mut attacker = edge.client();
    attacker.offer(attack);
    // Refused or answered, the attacker gets something.
    drop(attacker.try_head());
    let victim = edge.get(target);
    victim.text().contains("evil")
        || victim
            .field("location")
            .is_some_and(|to| to.contains("evil"))
}

#[test]
fn what_only_proxies_may_say_poisons_nothing() {
    let origin = repeating();
    for lines in ["", "forward = \"declared\""] {
        let edge = edge(&origin, lines);
        for (index, name) in FROM_PROXIES.iter().enumerate() {
            let target = format!("/p{index}");
            let attack = request("GET", &target, &[(name, "evil.test")], b"");
            assert!(!poisons(&edge, &target, attack), "{name} with {lines:?}");
        }
    }
}

#[test]
fn undeclared_fields_poison_nothing_where_only_declared_ones_are_forwarded() {
    let origin = repeating();
    let edge = edge(&origin, "forward = \"declared\"");
    for (index, name) in END_TO_END.iter().enumerate() {
        let target = format!("/e{index}");
        let attack = request("GET", &target, &[(name, "evil")], b"");
        assert!(!poisons(&edge, &target, attack), "{name}");
    }
}

#[test]
fn end_to_end_fields_reach_a_careless_origin_where_all_are_forwarded() {
    // The README says so, and what to do about it. Should this fail, the README is to be changed.
    let origin = repeating();
    let edge = edge(&origin, "");
    let left = END_TO_END.iter().enumerate().filter(|(index, name)| {
        let target = format!("/e{index}");
        poisons(
            &edge,
            &target,
            request("GET", &target, &[(name, "evil")], b""),
        )
    });
    assert!(left.count() > 0);
    let readme = include_str!("../../README.md");
    assert!(readme.contains("forward = \"declared\""));
}

/// Attacks by the form of the request; `@@` is the target that the victim asks for.
const FORMS: [&str; 50] = [
    // Content that GET has no meaning for.
    "GET @@ HTTP/1.1\r\nHost: edge.test\r\nContent-Length: 4\r\n\r\nevil",
    "GET @@ HTTP/1.1\r\nHost: edge.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
    "HEAD @@ HTTP/1.1\r\nHost: edge.test\r\nContent-Length: 4\r\n\r\nevil",
    // Another host.
    "GET @@ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "GET @@ HTTP/1.1\r\nHost: edge.test:evil\r\n\r\n",
    "GET @@ HTTP/1.1\r\nHost: edge.test:8080\r\nX: evil\r\n\r\n",
    "GET @@ HTTP/1.1\r\nHost: edge.test\r\nHost: evil.test\r\n\r\n",
    "GET @@ HTTP/1.1\r\nHost: evil.test\r\nHost: edge.test\r\n\r\n",
    "GET @@ HTTP/1.1\r\nHost: edge.test, evil.test\r\n\r\n",
    "GET @@ HTTP/1.1\r\nHost: evil@edge.test\r\n\r\n",
    "GET @@ HTTP/1.1\r\nHost: edge.test/evil\r\n\r\n",
    "GET @@ HTTP/1.1\r\nHost: edge.test#evil\r\n\r\n",
    "GET @@ HTTP/1.1\r\nHost: edge.test\\evil\r\n\r\n",
    "GET @@ HTTP/1.1\r\n Host: evil.test\r\nHost: edge.test\r\n\r\n",
    "GET @@ HTTP/1.1\r\nHost: edge.test\r\n Host: evil.test\r\n\r\n",
    "GET @@ HTTP/1.1\r\nHost : evil.test\r\nHost: edge.test\r\n\r\n",
    "GET http://evil.test@@ HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "GET http://edge.test@@ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "GET http://evil@edge.test@@ HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "GET evil://edge.test@@ HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "GET //evil.test@@ HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    // Another target that some parser may take for the same.
    "GET @@?evil HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "GET @@?utm_source=evil HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "GET @@;evil HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "GET @@#evil HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "GET @@%23evil HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "GET @@%3Fevil HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "GET @@%00evil HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "GET @@%0d%0aevil HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "GET @@/../evil HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "GET /evil/..@@ HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "GET @@\\evil HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "GET @@?a=b&a=evil HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "GET @@?a=b;a=evil HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "GET @@\tevil HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "GET @@ evil HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    // Another method.
    "POST @@ HTTP/1.1\r\nHost: edge.test\r\nContent-Length: 4\r\n\r\nevil",
    "PUT @@ HTTP/1.1\r\nHost: edge.test\r\nContent-Length: 4\r\n\r\nevil",
    "EVIL @@ HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "OPTIONS @@ HTTP/1.1\r\nHost: edge.test\r\nX: evil\r\n\r\n",
    "TRACE @@ HTTP/1.1\r\nHost: edge.test\r\nX: evil\r\n\r\n",
    "PURGE @@ HTTP/1.1\r\nHost: edge.test\r\nX: evil\r\n\r\n",
    // Fields that could take others away, or be taken for the end of the head.
    "GET @@ HTTP/1.1\r\nHost: edge.test\r\nConnection: host\r\nX-Forwarded-Host: evil.test\r\n\r\n",
    "GET @@ HTTP/1.1\r\nHost: edge.test\r\nConnection: cookie, evil\r\n\r\n",
    "GET @@ HTTP/1.1\r\nHost: edge.test\r\nX: a\nX-Forwarded-Host: evil.test\r\n\r\n",
    "GET @@ HTTP/1.1\r\nHost: edge.test\r\nX: a\rX-Forwarded-Host: evil.test\r\n\r\n",
    "GET @@ HTTP/1.1\r\nHost: edge.test\r\nX: a\0evil\r\n\r\n",
    "GET @@ HTTP/1.1\r\nHost: edge.test\r\nX:\r\n evil\r\n\r\n",
    "GET @@ HTTP/1.1\r\nHost: edge.test\r\nTE: evil\r\nTrailer: evil\r\nUpgrade: evil\r\n\r\n",
    "GET @@ HTTP/1.0\r\nHost: edge.test\r\nVia: 1.0 evil\r\n\r\n",
];

#[test]
fn no_form_of_a_request_poisons_another() {
    let origin = repeating();
    let policies = [
        "",
        "keying = \"normalize-query\"",
        "keying = \"device-class\"",
    ];
    for policy in policies {
        let lines = format!("forward = \"declared\"\n[site.policy]\n{policy}");
        let edge = edge(&origin, &lines);
        for (index, form) in FORMS.iter().enumerate() {
            let target = format!("/f{index}");
            let attack = form.replace("@@", &target);
            assert!(!poisons(&edge, &target, &attack), "{policy}: {attack:?}");
        }
    }
}

#[test]
fn an_error_that_one_client_caused_is_not_for_others() {
    // What a size, a sign or a field has made of the answer depends on the request alone.
    let origin = Origin::answering(|asked: &Asked| {
        let odd = asked
            .fields
            .iter()
            .any(|(_, value)| value.contains("evil") || value.len() > 8_000);
        match odd {
            true => Reply::status(400).body("evil"),
            false => Reply::cached("fine"),
        }
    });
    let edge = edge(&origin, "");
    let long = "evil".repeat(4_000);
    for (index, fields) in [
        vec![("X-Oversized", long.as_str())],
        vec![("X-Meta", "evil\u{7f}")],
        vec![("X-Meta", "\u{1}evil")],
        vec![("Range", "bytes=evil")],
        vec![("Range", "bytes=9999999-")],
        vec![("If-Range", "evil"), ("Range", "bytes=0-0")],
        vec![("Expect", "evil")],
        vec![("If-Match", "\"evil\"")],
        vec![("If-None-Match", "\"evil\"")],
        vec![("If-Modified-Since", "evil")],
        vec![("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")],
        vec![("Accept-Encoding", "evil")],
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("/c{index}");
        let mut attacker = edge.client();
        attacker.offer(request("GET", &target, &fields, b""));
        drop(attacker.try_head());
        let victim = edge.get(&target);
        assert_eq!(
            (victim.status(), victim.text().as_str()),
            (200, "fine"),
            "{fields:?}"
        );
    }
}

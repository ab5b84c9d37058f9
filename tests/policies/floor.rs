//! What no policy can do, whatever it answers.

use serde_json::{Value, json};

use crate::fixtures;
use crate::load::told;
use crate::site::{active, at_hook, faults, push, use_policy};
use crate::support::edge::{Edge, Setup};
use crate::support::origin::Origin;
use crate::support::reply::Reply;

/// An edge whose freshness policy stores everything for ever, as far as it can.
fn hoarder(origin: &Origin, lines: &str) -> Edge {
    let edge = Setup::site(origin, lines).start();
    push(&edge, fixtures::rogue());
    use_policy(&edge, "freshness", "rogue", &json!({ "mode": "forever" }));
    edge
}

#[track_caller]
fn twice(edge: &Edge, path: &str, fields: &[(&str, &str)]) -> bool {
    edge.get_with(path, fields);
    edge.flush();
    edge.get_with(path, fields).is_hit()
}

#[test]
fn what_must_not_be_stored_is_not() {
    let origin = Origin::start();
    let edge = hoarder(&origin, "");
    for (path, control) in [
        ("/no-store", "no-store, max-age=60"),
        ("/private", "private, max-age=60"),
    ] {
        origin.on(path, Reply::ok("secret").field("Cache-Control", control));
        assert!(!twice(&edge, path, &[]), "{path}");
        assert_eq!(origin.count(path), 2);
    }
    origin.on("/auth", Reply::cached("for one user"));
    assert!(!twice(&edge, "/auth", &[("Authorization", "Basic eDp5")]));
    origin.on("/asked", Reply::cached("not to be kept"));
    assert!(!twice(&edge, "/asked", &[("Cache-Control", "no-store")]));
    // The policy is at work: without its word this would not be stored.
    origin.on("/plain", Reply::ok("no word about storing"));
    assert!(twice(&edge, "/plain", &[]));
    assert!(active(&edge, "freshness").starts_with("rogue@"));
}

#[test]
fn must_revalidate_outweighs_a_policy() {
    let origin = Origin::start();
    let edge = hoarder(&origin, "");
    let aged = |control: &str| {
        Reply::ok("x")
            .field("Cache-Control", control)
            .field("Age", "5")
            .field("ETag", "\"1\"")
    };
    for (path, control) in [
        ("/must", "max-age=1, must-revalidate"),
        ("/proxy", "max-age=1, proxy-revalidate"),
        ("/shared", "s-maxage=1"),
        ("/no-cache", "no-cache"),
    ] {
        origin.on(path, aged(control));
        assert!(!twice(&edge, path, &[]), "{control}");
        assert_eq!(origin.count(path), 2, "{control}");
    }
    origin.on("/may", aged("max-age=1"));
    assert!(
        twice(&edge, "/may", &[]),
        "without it the policy's word counts"
    );
}

#[test]
fn lifetimes_of_nothing_and_without_end_are_what_they_say() {
    let origin = Origin::always(Reply::cached("x"));
    let edge = Edge::before(&origin);
    push(&edge, fixtures::rogue());
    use_policy(
        &edge,
        "freshness",
        "rogue",
        &json!({ "mode": "store", "lifetime_ms": 0 }),
    );
    assert!(!twice(&edge, "/zero", &[]));
    assert_eq!(origin.count("/zero"), 2);

    use_policy(&edge, "freshness", "rogue", &json!({ "mode": "forever" }));
    assert!(twice(&edge, "/forever", &[]));
    let ttl = edge.get("/forever").cache_status();
    let (status, report) = edge.admin_get("/v1/explain?url=http://edge.test/forever");
    assert_eq!(
        (status, &report["verdict"]),
        (200, &json!("hit")),
        "{report}"
    );
    let lifetime = report["lifetime_s"].as_u64().expect("a lifetime");
    assert!(lifetime > 100 * 365 * 86_400, "{lifetime} s; {ttl}");

    use_policy(
        &edge,
        "freshness",
        "rogue",
        &json!({ "mode": "do-not-store" }),
    );
    assert!(!twice(&edge, "/never", &[]));
    use_policy(
        &edge,
        "freshness",
        "rogue",
        &json!({ "mode": "nowhere", "lifetime_ms": 60_000 }),
    );
    assert!(!twice(&edge, "/nowhere", &[]));
    let rogue = active(&edge, "freshness");
    assert_eq!(
        faults(&edge, &rogue, "freshness", None),
        0,
        "none of this is a fault"
    );
}

#[test]
fn a_site_bounds_the_lifetimes_of_its_policy() {
    let lifetime = |edge: &Edge, path: &str| {
        edge.get(path);
        edge.flush();
        edge.admin_get(&format!("/v1/explain?url=http://edge.test{path}"))
            .1["lifetime_s"]
            .clone()
    };
    let origin = Origin::always(Reply::cached("x"));
    let edge = hoarder(&origin, "ttl_min = \"5s\"\nttl_max = \"2h\"");
    assert_eq!(lifetime(&edge, "/long"), json!(7_200));
    use_policy(
        &edge,
        "freshness",
        "rogue",
        &json!({ "mode": "store", "lifetime_ms": 0 }),
    );
    assert_eq!(lifetime(&edge, "/short"), json!(5));
}

#[test]
fn a_policy_cannot_reach_the_entries_of_another_site() {
    let origins = [
        Origin::always(Reply::cached("of a")),
        Origin::always(Reply::cached("of b")),
    ];
    let mut setup = Setup::new();
    for (name, origin) in ["a", "b"].iter().zip(&origins) {
        let url = origin.url();
        setup = setup.config(&format!(
            "[[site]]\nname = \"{name}\"\nhosts = [\"{name}.test\"]\norigin = \"{url}\"\n"
        ));
    }
    let edge = setup.start();
    push(&edge, fixtures::rogue());
    let params = json!({ "mode": "answer", "target": "/same", "variant": "same" });
    for site in ["a", "b"] {
        let body = json!({ "hook": "keying", "policy": "rogue", "params": params });
        let (status, answer) = edge.admin_post(&format!("/v1/sites/{site}/policy"), &body);
        assert_eq!(status, 200, "{answer}");
    }
    for _ in 0..2 {
        for site in ["a", "b"] {
            let host = format!("{site}.test");
            let answer = edge.get_with("/whatever", &[("Host", &host)]);
            assert_eq!(answer.text(), format!("of {site}"));
            edge.flush();
        }
    }
    assert_eq!([origins[0].total(), origins[1].total()], [1, 1]);
}

#[test]
fn a_policy_cannot_mix_hosts_of_its_site() {
    let origin = Origin::answering(|asked| Reply::cached(asked.field("host").unwrap_or_default()));
    let edge = Edge::before(&origin);
    push(&edge, fixtures::rogue());
    use_policy(
        &edge,
        "keying",
        "rogue",
        &json!({ "mode": "answer", "target": "/same" }),
    );
    for host in ["one.test", "two.test", "one.test", "two.test"] {
        assert_eq!(edge.get_with("/x", &[("Host", host)]).text(), host);
        edge.flush();
    }
    assert_eq!(origin.total(), 2);
}

#[test]
fn a_policy_cannot_mix_the_variants_of_vary() {
    let origin = Origin::answering(|asked| {
        let language = asked.field("accept-language").unwrap_or_default();
        Reply::cached(format!("in {language}")).field("Vary", "Accept-Language")
    });
    let edge = Edge::before(&origin);
    push(&edge, fixtures::rogue());
    use_policy(
        &edge,
        "keying",
        "rogue",
        &json!({ "mode": "path", "variant": "one" }),
    );
    for round in 0..3 {
        for language in ["de", "en", "fr"] {
            let answer = edge.get_with(&format!("/page?{round}"), &[("Accept-Language", language)]);
            assert_eq!(answer.text(), format!("in {language}"));
            assert_eq!(answer.is_hit(), round > 0, "{language}");
            edge.flush();
        }
    }
}

#[test]
fn the_origin_is_asked_for_exactly_the_answered_target() {
    let origin = Origin::answering(|asked| Reply::cached(told(&asked.target)));
    let edge = Edge::before(&origin);
    push(&edge, fixtures::rogue());
    let targets = [
        "/new?x=1&&y=%2f&z",
        "//double/../dots/./",
        "/%00%ff?%20",
        "/?a=b:c@d!$&'()*+,;=-._~",
        "/?",
        "/*",
    ];
    for (number, target) in targets.iter().enumerate() {
        use_policy(
            &edge,
            "keying",
            "rogue",
            &json!({ "mode": "answer", "target": target }),
        );
        let answer = edge.get(&format!("/old/{number}?secret"));
        assert_eq!(answer.text(), told(target));
        assert_eq!(
            origin.asked().last().map(|asked| asked.target.as_str()),
            Some(*target)
        );
    }
    // What passes is asked for as it came.
    use_policy(&edge, "keying", "rogue", &json!({ "mode": "pass" }));
    assert_eq!(edge.get("/old?x").text(), told("/old?x"));
    let rogue = active(&edge, "keying");
    assert_eq!(faults(&edge, &rogue, "keying", None), 0);
}

#[test]
fn other_methods_are_passed_and_the_policy_is_asked_even_so() {
    let origin = Origin::answering(|asked| Reply::cached(told(&asked.target)));
    let edge = Edge::before(&origin);
    push(&edge, fixtures::rogue());
    use_policy(&edge, "keying", "rogue", &json!({ "mode": "path" }));
    let before = crate::site::calls(&edge, "keying");
    for _ in 0..2 {
        let answer = edge.client().request("POST", "/form?x", &[], b"body");
        assert_eq!(answer.text(), told("/form?x"));
    }
    assert_eq!(origin.total(), 2);
    assert_eq!(crate::site::calls(&edge, "keying") - before, 2);
}

#[test]
fn undeclared_fields_are_withheld_where_the_site_says_so() {
    let origin = Origin::always(Reply::cached("x"));
    let edge = Setup::site(&origin, "forward = \"declared\"").start();
    push(&edge, fixtures::rogue());
    let fields = json!(["x-declared", "cookie"]);
    let all = [
        ("X-Declared", "1"),
        ("X-Secret", "2"),
        ("Cookie", "a=b"),
        ("Accept", "*/*"),
    ];
    let seen = |path: &str| -> Value {
        edge.get_with(path, &all);
        let asked = origin.asked_for(path).pop().expect("it was asked");
        json!([
            asked.field("x-declared"),
            asked.field("x-secret"),
            asked.field("cookie"),
            asked.field("accept")
        ])
    };
    use_policy(
        &edge,
        "keying",
        "rogue",
        &json!({ "mode": "fields", "fields": fields }),
    );
    assert_eq!(seen("/declared"), json!(["1", null, "a=b", null]));
    // A policy that fails has declared nothing that its answer was made from.
    use_policy(
        &edge,
        "keying",
        "rogue",
        &json!({ "mode": "trap", "fields": fields }),
    );
    assert_eq!(seen("/failed"), json!([null, null, null, null]));
    use_policy(&edge, "keying", "native:default", &json!({}));
    assert_eq!(seen("/native"), json!([null, null, null, null]));
}

#[test]
fn declared_fields_reach_the_policy_as_promised() {
    let origin = Origin::always(Reply::cached("x"));
    let edge = Edge::before(&origin);
    push(&edge, fixtures::rogue());
    let fields = json!(["x-one", "x-two", "cookie"]);
    use_policy(
        &edge,
        "keying",
        "rogue",
        &json!({ "mode": "fields", "fields": fields }),
    );
    let variant = |fields: &[(&str, &str)]| {
        let header = |(name, value): &(&str, &str)| {
            format!(
                "&header={}",
                format!("{name}:{value}")
                    .replace(' ', "%20")
                    .replace(';', "%3B")
            )
        };
        let query: String = fields.iter().map(header).collect();
        let (_, report) = edge.admin_get(&format!("/v1/explain?url=http://edge.test/{query}"));
        report["variant"]
            .as_str()
            .unwrap_or_else(|| panic!("{report}"))
            .to_owned()
    };
    assert_eq!(variant(&[]), "-|-|-");
    assert_eq!(variant(&[("x-two", "2"), ("x-one", "")]), "|2|-");
    assert_eq!(variant(&[("x-one", "a"), ("X-One", "b, c")]), "a, b, c|-|-");
    assert_eq!(
        variant(&[("cookie", "a=1"), ("cookie", "b=2")]),
        "-|-|a=1; b=2"
    );
    let state = at_hook(&edge, "keying");
    assert_eq!(
        state["params"],
        json!({ "mode": "fields", "fields": fields })
    );
}

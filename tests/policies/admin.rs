//! Who may call the admin API, and what it says to those who may not or do not know how.

use serde_json::{Value, json};

use crate::load::telling_origin;
use crate::support::edge::{Edge, Setup};

#[track_caller]
fn refused(answer: (u16, Value), status: u16, code: &str) {
    let (found, body) = answer;
    assert_eq!(
        (found, &body["error"]["code"]),
        (status, &json!(code)),
        "{body}"
    );
    for part in ["message", "hint"] {
        assert!(
            body["error"][part]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{body}"
        );
    }
}

#[test]
fn web_pages_and_foreign_names_are_refused() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    for path in ["/v1/stats", "/healthz", "/metrics"] {
        let from = |field: (&str, &str)| edge.admin("GET", path, &[field], b"");
        refused(from(("Origin", "http://evil.test")), 403, "web_origin");
        refused(from(("Origin", "null")), 403, "web_origin");
        for host in [
            "evil.test",
            "evil.test:9080",
            "127.0.0.1.evil.test",
            "10.1.2.3",
        ] {
            refused(from(("Host", host)), 403, "foreign_host");
        }
        for host in ["localhost", "LOCALHOST:9080", "127.0.0.1", "[::1]:1"] {
            assert_eq!(
                edge.admin_response("GET", path, &[("Host", host)], b"")
                    .status(),
                200,
                "{host}"
            );
        }
    }
    // Refused before anything is done.
    let fields = [
        ("Origin", "http://evil.test"),
        ("Content-Type", "application/json"),
    ];
    refused(
        edge.admin("POST", "/v1/purge", &fields, br#"{"all":true}"#),
        403,
        "web_origin",
    );
}

#[test]
fn a_token_is_asked_for_where_one_is_set() {
    let origin = telling_origin();
    let setup = Setup::before(&origin);
    let file = setup.path("token");
    std::fs::write(&file, "correct-horse\n").expect("a file");
    let edge = setup
        .flag("--token-file", file.to_str().expect("UTF-8"))
        .start();
    for path in ["/v1/stats", "/metrics", "/healthz", "/nowhere"] {
        refused(edge.admin_get(path), 401, "unauthorized");
    }
    for wrong in [
        "Bearer wrong",
        "Bearer correct-hors",
        "Bearer correct-horse ",
        "Basic correct-horse",
        "correct-horse",
        "Bearer",
    ] {
        // Space around a value is no part of it (RFC 9110 5.5).
        let answer = edge.admin("GET", "/v1/stats", &[("Authorization", wrong)], b"");
        if wrong.trim_end() == "Bearer correct-horse" {
            assert_eq!(answer.0, 200);
        } else {
            refused(answer, 401, "unauthorized");
        }
    }
    let answer = edge.admin_response("GET", "/v1/stats", &[], b"");
    assert_eq!(answer.field("www-authenticate").as_deref(), Some("Bearer"));
    let right = ("Authorization", "Bearer correct-horse");
    assert_eq!(edge.admin("GET", "/v1/stats", &[right], b"").0, 200);
    // With a token the name of the host proves nothing more; a web page still does.
    assert_eq!(
        edge.admin("GET", "/v1/stats", &[right, ("Host", "edge.example")], b"")
            .0,
        200
    );
    refused(
        edge.admin("GET", "/v1/stats", &[right, ("Origin", "http://x")], b""),
        403,
        "web_origin",
    );
}

#[test]
fn bodies_must_be_json_and_say_so() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    let purge = |kind: Option<&str>, body: &[u8]| {
        let field = kind.map(|kind| ("Content-Type", kind));
        let fields: Vec<_> = field.into_iter().collect();
        edge.admin("POST", "/v1/purge", &fields, body)
    };
    let all = br#"{"all":true}"#;
    for kind in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("application/jsonp"),
    ] {
        refused(purge(kind, all), 415, "not_json");
    }
    for kind in ["application/json", "Application/JSON; charset=utf-8"] {
        assert_eq!(purge(Some(kind), all).0, 200, "{kind}");
    }
    let json = Some("application/json");
    let bad: [&[u8]; 6] = [
        b"{",
        b"[[],true]",
        b"{\"all\":1}",
        b"{\"all\":true,\"al\":true}",
        b"\xff",
        b"{\"all\":true} x",
    ];
    for body in bad {
        refused(purge(json, body), 400, "bad_json");
    }
    refused(purge(json, &vec![b' '; (1 << 20) + 1]), 413, "too_large");
}

#[test]
fn what_is_not_known_or_not_supported_is_never_ignored() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    let json = [("Content-Type", "application/json")];
    refused(
        edge.admin("POST", "/v1/purge", &json, b""),
        400,
        "nothing_named",
    );
    refused(
        edge.admin("POST", "/v1/purge", &json, b"{}"),
        400,
        "nothing_named",
    );
    for (asked, code) in [
        (json!({"tags":[""]}), "bad_tag"),
        (json!({"keys":["a"]}), "bad_key"),
        (json!({"prefixes":["edge.test/a?b"]}), "bad_prefix"),
        (json!({"prefixes":["/a"]}), "bad_prefix"),
        (json!({"hosts":["http://edge.test"]}), "bad_host"),
        (json!({"soft":true}), "nothing_named"),
        (json!({"all":true,"tags":[""]}), "bad_tag"),
    ] {
        refused(edge.admin_post("/v1/purge", &asked), 400, code);
    }
    refused(
        edge.admin_post("/v1/purge", &json!({"urls":["/a"]})),
        400,
        "bad_url",
    );
    refused(
        edge.admin_post("/v1/purge", &json!({"urls":["ftp://edge.test/"]})),
        400,
        "bad_url",
    );
    refused(
        edge.admin_post("/v1/purge", &json!({"all":true,"site":"x"})),
        404,
        "unknown_site",
    );
    let unknown = json!({ "hook": "keying", "policy": "lru", "parms": {} });
    refused(
        edge.admin_post("/v1/sites/default/policy", &unknown),
        400,
        "bad_json",
    );
    refused(
        edge.admin_post("/v1/sites/default/policy", &json!({})),
        400,
        "bad_json",
    );
    refused(
        edge.admin_post("/v1/sites/default/rollback", &json!({ "hok": 1 })),
        400,
        "bad_json",
    );
}

#[test]
fn wrong_methods_and_unknown_calls_are_told() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    for (path, allowed) in [
        ("/healthz", "GET"),
        ("/readyz", "GET"),
        ("/metrics", "GET"),
        ("/v1/stats", "GET"),
        ("/v1/explain", "GET"),
        ("/v1/policies", "GET"),
        ("/v1/policies/a", "PUT"),
        ("/v1/policies/a/0123456789ab", "DELETE"),
        ("/v1/sites/default/policy", "POST"),
        ("/v1/sites/default/rollback", "POST"),
        ("/v1/purge", "POST"),
        ("/v1/purge/p1", "GET"),
        ("/client/v4/zones/default/purge_cache", "POST"),
        ("/service/default/purge", "POST"),
        ("/service/default/purge/a", "POST"),
        ("/service/default/purge_all", "POST"),
        ("/v1/flush", "POST"),
    ] {
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH", "TRACE"] {
            // What is sent to a version is an upload under a bad name.
            if method == allowed || (method == "PUT" && path.ends_with("ab")) {
                continue;
            }
            let answer = edge.admin_response(method, path, &[], b"");
            assert_eq!(answer.status(), 405, "{method} {path}");
            assert_eq!(
                answer.field("allow").as_deref(),
                Some(allowed),
                "{method} {path}"
            );
        }
    }
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v2/stats",
        "/v1/stats/",
        "/v1/sites/default",
        "/v1/sites/default/purge",
        "/v1/policies/a/b/c",
        "/V1/STATS",
    ] {
        refused(edge.admin_get(path), 404, "no_such_call");
    }
    refused(edge.admin_get("/v1/explain"), 400, "bad_query");
    refused(edge.admin_get("/v1/explain?url=%zz"), 400, "bad_query");
    refused(edge.admin_get("/v1/explain?url=nonsense"), 400, "bad_url");
    refused(
        edge.admin_get("/v1/explain?url=http://edge.test/&x=1"),
        400,
        "bad_query",
    );
    refused(edge.admin_get("/v1/purge/p999"), 404, "unknown_purge");
}

#[test]
fn answers_of_the_admin_api_are_not_to_be_stored() {
    let origin = telling_origin();
    let edge = Edge::before(&origin);
    for path in ["/v1/stats", "/metrics", "/healthz", "/readyz", "/nowhere"] {
        let answer = edge.admin_response("GET", path, &[], b"");
        assert_eq!(
            answer.field("cache-control").as_deref(),
            Some("no-store"),
            "{path}"
        );
    }
}

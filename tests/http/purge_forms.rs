//! Purges in other services' request forms, and by the method `PURGE`.

use serde_json::{Value, json};

use crate::support::client::{HOST, Response};
use crate::support::edge::{Edge, Setup};
use crate::support::origin::Origin;
use crate::support::reply::Reply;

/// Stored are `/a`, `/d/b` and `/c`, with the tags `a`, `b` and `c`.
fn filled() -> (Origin, Edge) {
    let origin = Origin::answering(|asked| {
        let tag = asked
            .target
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        let lifetime = "max-age=60, stale-while-revalidate=60";
        Reply::ok(tag.clone())
            .field("Cache-Control", lifetime)
            .field("Surrogate-Key", tag)
    });
    let edge = Edge::before(&origin);
    stored(&edge);
    (origin, edge)
}

/// What is stored, by the first letters; fills the rest.
fn stored(edge: &Edge) -> String {
    let mut stored = String::new();
    for target in ["/a", "/d/b", "/c"] {
        if edge.get(target).is_hit() {
            stored.extend(target.chars().last());
        }
    }
    stored
}

#[test]
fn cloudflares_form_is_understood() {
    let check = |asked: Value, left: &str| {
        let (_origin, edge) = filled();
        let (status, told) = edge.admin_post("/client/v4/zones/default/purge_cache", &asked);
        assert_eq!(status, 200, "{told}");
        assert_eq!(told["success"], true, "{told}");
        assert_eq!(
            (&told["errors"], &told["messages"]),
            (&json!([]), &json!([]))
        );
        let id = told["result"]["id"].as_str().expect("an id");
        assert_eq!(edge.admin_get(&format!("/v1/purge/{id}")).0, 200);
        assert_eq!(stored(&edge), left, "{asked}");
    };
    check(json!({ "purge_everything": true }), "");
    check(json!({ "files": [format!("http://{HOST}/a")] }), "bc");
    check(json!({ "tags": ["a", "c"] }), "b");
    check(json!({ "hosts": [HOST] }), "");
    check(json!({ "prefixes": [format!("{HOST}/d")] }), "ac");
    let (_origin, edge) = filled();
    for (site, asked, status) in [
        ("default", json!({}), 400),
        ("default", json!({ "files": ["/a"] }), 400),
        ("nobody", json!({ "purge_everything": true }), 404),
    ] {
        let path = format!("/client/v4/zones/{site}/purge_cache");
        let told = edge.admin_post(&path, &asked);
        assert_eq!(
            (told.0, &told.1["success"]),
            (status, &json!(false)),
            "{told:?}"
        );
        assert!(told.1["errors"][0]["message"].is_string(), "{told:?}");
    }
    assert_eq!(stored(&edge), "abc");
}

#[test]
fn what_is_refused_is_told_as_cloudflare_tells_it() {
    let (_origin, edge) = filled();
    let json = ("Content-Type", "application/json");
    let path = "/client/v4/zones/default/purge_cache";
    for (method, fields, body, status) in [
        ("POST", &[json][..], r#"{"file":[]}"#, 400),
        ("POST", &[json], "{", 400),
        ("POST", &[json], "[]", 400),
        ("POST", &[], "{}", 415),
        ("GET", &[], "", 405),
        ("POST", &[json, ("Origin", "http://a")], "{}", 403),
    ] {
        let (answered, told) = edge.admin(method, path, fields, body.as_bytes());
        assert_eq!(answered, status, "{method} {body}: {told}");
        assert_eq!(told["success"], false, "{told}");
        assert_eq!(told["errors"][0]["code"], status, "{told}");
        let message = told["errors"][0]["message"].as_str().expect("a message");
        assert!(message.len() > 10, "{told}");
        assert_eq!(
            (&told["messages"], &told["result"]),
            (&json!([]), &Value::Null)
        );
    }
    assert_eq!(stored(&edge), "abc");
}

#[test]
fn the_method_purges_for_whom_the_configuration_names() {
    let origin = Origin::always(Reply::cached("x"));
    for (allow, status) in [("127.0.0.1", 200), ("10.0.0.0/8", 405), ("", 405)] {
        let networks = if allow.is_empty() {
            String::new()
        } else {
            format!("\"{allow}\"")
        };
        let config = format!(
            "purge.allow = [{networks}]\n[[site]]\norigin = \"{}\"\n",
            origin.url()
        );
        let edge = Setup::new().config(&config).start();
        edge.get("/a");
        let answer = edge.client().request("PURGE", "/a", &[], b"");
        assert_eq!(answer.status(), status, "{allow}");
        assert_eq!(edge.get("/a").is_hit(), status != 200, "{allow}");
    }
}

#[test]
fn fastlys_form_is_understood() {
    let check = |path: &str, fields: &[(&str, &str)], body: &str, left: &str| {
        let (origin, edge) = filled();
        let (status, told) = edge.admin("POST", path, fields, body.as_bytes());
        assert_eq!(status, 200, "{told}");
        let left_now = stored(&edge);
        assert_eq!(left_now, left, "{path} {fields:?}");
        drop(origin);
    };
    let json = ("Content-Type", "application/json");
    check("/service/default/purge/a", &[], "", "bc");
    check("/service/default/purge/%61", &[], "", "bc");
    check(
        "/service/default/purge",
        &[("Surrogate-Key", "a  c")],
        "",
        "b",
    );
    check(
        "/service/default/purge",
        &[json],
        r#"{"surrogate_keys":["b"]}"#,
        "ac",
    );
    check("/service/default/purge_all", &[], "", "");
    let (origin, edge) = filled();
    let soft = [("Fastly-Soft-Purge", "1")];
    let (status, told) = edge.admin("POST", "/service/default/purge/a", &soft, b"");
    assert_eq!((status, &told["status"]), (200, &json!("ok")), "{told}");
    assert!(edge.get("/a").is_hit(), "stale, while it is validated");
    origin.wait_for("/a", 2);
    let (status, _) = edge.admin("POST", "/service/default/purge", &[], b"");
    assert_eq!(status, 400, "no key is named");
    let (status, _) = edge.admin("POST", "/service/nobody/purge/a", &[], b"");
    assert_eq!(status, 404);
}

fn receipt(response: &Response) -> Value {
    let text = response.text();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("no receipt: {text}"))
}

#[test]
fn the_method_purges_for_clients_on_this_machine() {
    let (origin, edge) = filled();
    let purge =
        |target: &str, fields: &[(&str, &str)]| edge.client().request("PURGE", target, fields, b"");
    let before = origin.total();
    let done = purge("/a", &[]);
    assert_eq!(done.status(), 200);
    let told = receipt(&done);
    assert_eq!(
        (&told["entries"], &told["settled"]),
        (&json!(1), &json!(true))
    );
    let id = told["id"].as_str().expect("an id");
    assert_eq!(
        edge.admin_get(&format!("/v1/purge/{id}")),
        (200, told.clone())
    );
    assert_eq!(stored(&edge), "bc");
    assert_eq!(purge("/nothing", &[]).status(), 404);
    assert_eq!(
        receipt(&purge("/ignored", &[("Surrogate-Key", "a b")]))["entries"],
        2
    );
    assert_eq!(stored(&edge), "c");
    assert_eq!(purge("/c", &[("Fastly-Soft-Purge", "1")]).status(), 200);
    assert!(edge.get("/c").is_hit(), "stale, while it is validated");
    origin.wait_for("/c", 2);
    let through_a_proxy = purge("/c", &[("Via", "1.1 proxy")]);
    assert_eq!(through_a_proxy.status(), 405);
    assert!(
        through_a_proxy
            .field("allow")
            .is_some_and(|allow| !allow.contains("PURGE"))
    );
    assert!(edge.get("/c").is_hit());
    let methods: Vec<String> = origin
        .asked()
        .into_iter()
        .map(|asked| asked.method)
        .collect();
    assert!(methods.iter().all(|method| method == "GET"), "{methods:?}");
    assert_eq!(origin.total(), before + 4);
}

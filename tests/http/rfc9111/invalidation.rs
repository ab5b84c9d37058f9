//! Section 4.4: what an unsafe request makes of stored responses.

use super::{Fields, Rig};
use crate::support::reply::Reply;

/// Whether a response stored for `stored` is still there after `method` on `target` was answered
/// with `status` and `given`.
#[track_caller]
fn survives(
    rig: &Rig,
    method: &str,
    stored: &str,
    target: &str,
    status: u16,
    given: Fields<'_>,
) -> bool {
    let before = rig.origin.count(stored);
    let (own, fields): (Vec<_>, _) = (given.to_vec(), given);
    assert_eq!(own.len(), fields.len());
    let unsafe_reply = super::reply(status, given);
    let answered = method.to_owned();
    for path in [stored, target] {
        let (reply, method) = (unsafe_reply.clone(), answered.clone());
        rig.origin
            .route(path, move |asked| match asked.method == method {
                true => reply.clone(),
                false => Reply::cached("stored"),
            });
    }
    let mut client = rig.edge.client();
    client.get(stored);
    assert!(client.get(stored).is_hit(), "{stored}");
    assert_eq!(client.request(method, target, &[], b"").status(), status);
    let hit = client.get(stored).is_hit();
    // Leave nothing behind for the next row.
    let everything = serde_json::json!({"all": true});
    assert_eq!(rig.edge.admin_post("/v1/purge", &everything).0, 200);
    assert!(rig.origin.count(stored) > before);
    hit
}

#[test]
fn unsafe_methods_that_succeed_invalidate() {
    let rig = Rig::new();
    for method in ["POST", "PUT", "DELETE", "PATCH", "M-UNKNOWN"] {
        for status in [200, 201, 204, 299, 301, 302, 303] {
            assert!(
                !survives(&rig, method, "/a", "/a", status, &[]),
                "{method} {status}"
            );
        }
        for status in [400, 404, 409, 499, 500, 503, 599] {
            assert!(
                survives(&rig, method, "/a", "/a", status, &[]),
                "{method} {status}"
            );
        }
    }
    for method in ["OPTIONS", "TRACE", "PROPFIND", "QUERY", "REPORT", "SEARCH"] {
        assert!(survives(&rig, method, "/a", "/a", 200, &[]), "{method}");
    }
}

#[test]
fn what_the_answer_points_to_goes_on_the_same_origin_only() {
    let rig = Rig::new();
    for name in ["Location", "Content-Location"] {
        for (value, survives_it) in [
            ("/b", false),
            ("b", false),
            ("../b", false),
            ("http://edge.test/b", false),
            ("HTTP://EDGE.TEST:80/b#c", false),
            ("//edge.test/b", false),
            ("/c", true),
            ("http://other.test/b", true),
            ("http://edge.test:81/b", true),
            ("https://edge.test/b", true),
        ] {
            let given = [(name, value)];
            let found = survives(&rig, "POST", "/b", "/a", 201, &given);
            assert_eq!(found, survives_it, "{name}: {value}");
        }
        assert!(
            survives(&rig, "POST", "/b", "/a", 500, &[(name, "/b")]),
            "{name} of an error"
        );
        assert!(
            survives(&rig, "OPTIONS", "/b", "/a", 200, &[(name, "/b")]),
            "{name} of a safe one"
        );
    }
}

//! A site that is told to leave its origin alone: what is stored answers, everything else is a 504.

use crate::support::edge::Setup;
use crate::support::origin::Origin;
use crate::support::reply::Reply;

/// A site before `origin`, as a configuration file has it.
fn site(origin: &Origin, offline: bool) -> String {
    format!(
        "[[site]]\nname = \"default\"\norigin = \"{}\"\noffline = {offline}\n",
        origin.url()
    )
}

#[test]
fn a_site_that_is_offline_answers_what_is_stored_and_asks_for_nothing() {
    let origin = Origin::start();
    let stored = |fields: &str| Reply::ok("stored").field("Cache-Control", fields);
    origin.on("/fresh", stored("max-age=600"));
    let aged = |reply: Reply| reply.field("Age", "600").field("ETag", "\"a\"");
    origin.on(
        "/stale",
        aged(stored(
            "max-age=60, stale-while-revalidate=10000, stale-if-error=10000",
        )),
    );
    origin.on("/must", aged(stored("max-age=60, must-revalidate")));
    origin.on("/other", stored("max-age=600"));
    let mut edge = Setup::new().config(&site(&origin, false)).start();
    for target in ["/fresh", "/stale", "/must"] {
        assert_eq!(edge.get(target).text(), "stored");
    }
    edge.wait_for_landing();
    let said = edge.reload(&site(&origin, true));
    assert!(!said.contains("not reloaded"), "{said}");
    let asked = origin.total();
    for _ in 0..3 {
        for target in ["/fresh", "/stale"] {
            let answer = edge.get(target);
            assert_eq!(
                (answer.status(), answer.text().as_str()),
                (200, "stored"),
                "{target}"
            );
        }
        for target in ["/must", "/other"] {
            let answer = edge.get(target);
            assert_eq!(answer.status(), 504, "{target}");
            assert!(answer.text().contains("offline"), "{}", answer.text());
            assert_eq!(answer.field("Retry-After").as_deref(), Some("60"));
        }
        let posted = edge.client().request("POST", "/other", &[], b"x");
        assert_eq!(posted.status(), 504, "what is passed on as well");
    }
    edge.wait_for_landing();
    assert_eq!(origin.total(), asked, "also not in the background");
    let stats = edge.stats();
    assert_eq!(stats["sites"][0]["origin_standing"], "offline");
    let said = edge.reload(&site(&origin, false));
    assert!(!said.contains("not reloaded"), "{said}");
    for target in ["/must", "/other"] {
        assert_eq!(edge.get(target).text(), "stored", "at once, {target}");
    }
    assert_eq!(edge.stats()["sites"][0]["origin_standing"], "up");
}

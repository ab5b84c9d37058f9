//! Lifetimes by status, and stale windows of the site.

use crate::support::edge::Setup;
use crate::support::origin::Origin;
use crate::support::reply::Reply;

#[test]
fn a_site_says_how_long_errors_live_that_do_not_say_so_themselves() {
    let origin = Origin::answering(|asked| {
        let status = asked.path().trim_matches('/').parse().expect("a status");
        let reply = Reply::status(status).body(format!("{}", asked.turn));
        match asked.target.split('?').nth(1) {
            Some(control) => reply.field("Cache-Control", control),
            None => reply,
        }
    });
    let lines = "status_ttl = { 404 = \"60s\", 4xx = \"60s\", 503 = \"60s\", 302 = \"60s\" }";
    let edge = Setup::site(&origin, lines).start();
    let is_hit = |target: &str| {
        edge.get(target);
        edge.get(target).is_hit()
    };
    for target in ["/404", "/403", "/429", "/503", "/302", "/200?max-age=60"] {
        assert!(is_hit(target), "{target}");
    }
    for target in [
        "/404?no-store",
        "/404?private",
        "/404?max-age=0",
        "/404?no-cache",
        "/503?private",
        "/500",
        "/301",
        "/200",
    ] {
        assert!(!is_hit(target), "{target}");
    }
    let authorised = [("Authorization", "Basic YTpi")];
    edge.get_with("/410", &authorised);
    assert!(!edge.get("/410").is_hit(), "whose it was");
}

#[test]
fn an_error_takes_the_place_of_nothing_that_stands_in_for_it() {
    let origin = Origin::start();
    let old = Reply::ok("old")
        .field("Cache-Control", "max-age=60")
        .field("Age", "100");
    origin.sequence("/a", vec![old, Reply::status(503).body("down")]);
    origin.on("/b", Reply::status(503).body("down"));
    let lines = "stale_if_error = \"1h\"\nstatus_ttl = { 5xx = \"60s\" }";
    let edge = Setup::site(&origin, lines).start();
    for _ in 0..3 {
        assert_eq!(edge.get("/a").text(), "old");
        edge.wait_for_landing();
    }
    assert_eq!(edge.get("/b").status(), 503);
    assert!(edge.get("/b").is_hit(), "where nothing does, it is stored");
}

#[test]
fn a_site_may_open_stale_windows() {
    let aged = |control: &str| {
        Reply::ok("old")
            .field("Cache-Control", control)
            .field("Age", "100")
            .field("ETag", "\"one\"")
    };
    for (control, on_error) in [
        ("max-age=60", true),
        ("max-age=60, stale-if-error=10", false),
        ("max-age=60, must-revalidate", false),
        ("max-age=60, proxy-revalidate", false),
        ("s-maxage=60", false),
        ("max-age=60, no-cache", false),
    ] {
        let origin = Origin::start();
        origin.sequence("/a", vec![aged(control), Reply::status(503)]);
        let edge = Setup::site(&origin, "stale_if_error = \"1h\"").start();
        edge.get("/a");
        let text = edge.get("/a").text();
        assert_eq!(text == "old", on_error, "{control}");
    }
    let origin = Origin::start();
    origin.sequence("/a", vec![aged("max-age=60"), Reply::cached("new")]);
    let edge = Setup::site(&origin, "stale_while_revalidate = \"1h\"").start();
    edge.get("/a");
    assert_eq!(edge.get("/a").text(), "old");
    edge.wait_for_landing();
    assert_eq!(edge.get("/a").text(), "new");
}

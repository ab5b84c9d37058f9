//! Sections 5.2.1 and 5.4: what a request says of the response it wants.

use super::{Exchange, Fields, Rig, Then};
use super::{Forward, Reuse, Validate};
use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::support::origin::Origin;
use crate::support::reply::{Gate, Reply};

const TAG: (&str, &str) = ("ETag", "\"a\"");

/// The first demand on a stored response is met, with the defaults too.
#[track_caller]
fn check(rows: &[(&str, &str, &str, Then)]) {
    let rig = Rig::new();
    for (control, age, asked, then) in rows {
        let given = [TAG, ("Cache-Control", *control), ("Age", *age)];
        let then_sent: Fields<'_> = &[("Cache-Control", *asked)];
        let exchange = Exchange {
            sent: &[],
            status: 200,
            given: &given,
            then_sent,
        };
        let (found, response) = rig.second(&exchange);
        assert_eq!(found, *then, "{exchange:?}");
        if found == Validate && age.parse::<u32>().is_ok_and(|age| age < 1000) {
            let status = response.cache_status();
            assert!(
                status.starts_with("larder; fwd=request; fwd-status=304"),
                "{status}"
            );
        }
    }
}

#[test]
fn what_a_request_demands_of_a_fresh_response_is_met() {
    check(&[
        ("max-age=1000", "100", "no-cache", Validate),
        ("max-age=1000", "100", "No-Cache", Validate),
        ("max-age=1000", "100", "x, no-cache=\"y\"", Validate),
        ("max-age=1000", "100", "max-age=0", Validate),
        ("max-age=1000", "100", "max-age=50", Validate),
        ("max-age=1000", "100", "max-age=x", Validate),
        ("max-age=1000", "100", "max-age=500", Reuse),
        ("max-age=1000", "100", "max-age=99999999999999999999", Reuse),
        ("max-age=1000", "100", "min-fresh=950", Validate),
        ("max-age=1000", "100", "min-fresh=800", Reuse),
        ("max-age=1000", "100", "min-fresh=x", Reuse),
        ("max-age=1000", "100", "max-age=50, max-stale=999", Validate),
        ("max-age=1000", "100", "max-stale", Reuse),
        ("max-age=1000", "100", "only-if-cached", Reuse),
        ("max-age=1000", "100", "no-store", Reuse),
        ("max-age=1000", "100", "x=\"no-cache\"", Reuse),
        ("max-age=1000", "100", "foo", Reuse),
        ("max-age=1000", "1001", "foo", Validate),
        ("max-age=1000", "1001", "min-fresh=1", Validate),
        (
            "max-age=1000, must-revalidate",
            "1001",
            "max-stale",
            Validate,
        ),
        (
            "max-age=1000, proxy-revalidate",
            "1001",
            "max-stale=900",
            Validate,
        ),
        ("s-maxage=1000", "1001", "max-stale", Validate),
        ("no-cache, max-age=1000", "1001", "max-stale", Validate),
        ("max-age=1000", "1100", "max-stale=50", Validate),
        ("max-age=1000", "1100", "max-stale=x", Validate),
    ]);
}

#[test]
fn a_stale_response_answers_whoever_accepts_it() {
    for accepts in ["max-stale", "max-stale=500", "x, MAX-STALE=\"500\""] {
        let origin = Origin::start();
        let gate = Gate::default();
        let old = Reply::cached("old")
            .field("Age", "100")
            .field("ETag", "\"a\"");
        origin.sequence("/a", vec![old, Reply::cached("new").behind(&gate)]);
        let edge = Edge::before(&origin);
        edge.get("/a");
        let response = edge.get_with("/a", &[("Cache-Control", accepts)]);
        assert_eq!(response.text(), "old", "{accepts}");
        let status = response.cache_status();
        assert!(status.starts_with("larder; hit; ttl=-"), "{status}");
        // It is validated meanwhile, and not on the client's terms.
        origin.wait_for("/a", 2);
        assert_eq!(origin.asked()[1].field("cache-control"), None);
        gate.open();
        eventually("the new response", || edge.get("/a").text() == "new");
        assert_eq!(origin.total(), 2);
    }
}

#[test]
fn pragma_counts_where_there_is_no_cache_control() {
    let rig = Rig::new();
    let given = [TAG, ("Cache-Control", "max-age=1000")];
    for (then_sent, then) in [
        (&[("Pragma", "no-cache")][..], Validate),
        (&[("Pragma", "foo, No-Cache")], Validate),
        (&[("Pragma", "foo")], Reuse),
        (
            &[("Pragma", "no-cache"), ("Cache-Control", "max-age=500")],
            Reuse,
        ),
        (&[("Pragma", "no-cache"), ("Cache-Control", "foo")], Reuse),
    ] {
        let exchange = Exchange {
            sent: &[],
            status: 200,
            given: &given,
            then_sent,
        };
        assert_eq!(rig.second(&exchange).0, then, "{then_sent:?}");
    }
}

#[test]
fn what_cannot_be_validated_is_fetched_anew_on_demand() {
    let rig = Rig::new();
    let given = [("Cache-Control", "max-age=1000")];
    let exchange = Exchange {
        sent: &[],
        status: 200,
        given: &given,
        then_sent: &[("Cache-Control", "no-cache")],
    };
    let (then, response) = rig.second(&exchange);
    assert_eq!(then, Forward);
    let status = response.cache_status();
    assert!(
        status.starts_with("larder; fwd=request; fwd-status=200"),
        "{status}"
    );
}

#[test]
fn only_if_cached_never_goes_to_the_origin() {
    let origin = Origin::always(Reply::cached("a").field("ETag", "\"a\""));
    let edge = Edge::before(&origin);
    for sent in ["only-if-cached", "only-if-cached, max-age=5"] {
        let refused = edge.get_with("/a", &[("Cache-Control", sent)]);
        assert_eq!(refused.status(), 504, "{sent}");
        assert_eq!(refused.cache_status(), "larder");
    }
    edge.get("/a");
    for (sent, status) in [
        ("only-if-cached", 200),
        ("only-if-cached, max-age=50", 200),
        ("only-if-cached, no-cache", 504),
        ("only-if-cached, max-age=0, min-fresh=90", 504),
    ] {
        let response = edge.get_with("/a", &[("Cache-Control", sent)]);
        assert_eq!(response.status(), status, "{sent}");
    }
    assert_eq!(origin.total(), 1);
}

#[test]
fn clients_cannot_send_every_request_to_the_origin() {
    let origin = Origin::always(Reply::cached("a").field("ETag", "\"a\""));
    let edge = Edge::before(&origin);
    let mut client = edge.client();
    client.get("/a");
    let start = std::time::Instant::now();
    let demands = [
        ("Cache-Control", "no-cache"),
        ("Cache-Control", "max-age=0"),
        ("Pragma", "no-cache"),
    ];
    for demand in demands.iter().cycle().take(300) {
        let response = client.get_with("/a", &[*demand]);
        assert_eq!(response.text(), "a");
    }
    let seconds = usize::try_from(start.elapsed().as_secs()).expect("a short test");
    let most = 1 + 1 + seconds + 1;
    assert!(
        (2..=most).contains(&origin.total()),
        "{} in {seconds} s",
        origin.total()
    );
}

#[test]
fn a_demand_joins_a_validation_under_way() {
    let origin = Origin::start();
    let gate = Gate::default();
    let first = Reply::cached("a").field("ETag", "\"a\"");
    let confirmed = Reply::status(304).field("ETag", "\"a\"");
    origin.sequence("/a", vec![first, confirmed.behind(&gate)]);
    let edge = Edge::before(&origin);
    edge.get("/a");
    let ask = || {
        let mut client = edge.client();
        client.send(crate::support::client::request(
            "GET",
            "/a",
            &[("Cache-Control", "no-cache")],
            b"",
        ));
        client
    };
    let mut clients = vec![ask()];
    origin.wait_for("/a", 2);
    clients.extend((0..4).map(|_| ask()));
    eventually("the others to join", || {
        edge.metrics().count("larder_collapsed_total", &[]) == 4
    });
    // Who demands nothing is not kept waiting.
    assert!(edge.get("/a").is_hit());
    gate.open();
    for mut client in clients {
        let response = client.response("GET");
        assert_eq!(response.text(), "a");
        let status = response.cache_status();
        assert!(
            status.starts_with("larder; fwd=request; fwd-status=304"),
            "{status}"
        );
    }
    assert_eq!(origin.total(), 2);
}

#[test]
fn a_site_may_honour_every_demand() {
    let origin = Origin::always(Reply::cached("a").field("ETag", "\"a\""));
    let edge = Setup::site(&origin, "honour = \"all\"").start();
    let mut client = edge.client();
    client.get("/a");
    for turn in 2..12 {
        client.get_with("/a", &[("Cache-Control", "no-cache")]);
        assert_eq!(origin.total(), turn);
    }
    assert!(client.get("/a").is_hit());
}

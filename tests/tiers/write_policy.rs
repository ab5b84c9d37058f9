//! Whose failure to write makes a store a failed one, for those who watch. No client notices.

use crate::below::{Below, count};
use crate::support::edge::{Edge, Setup};
use crate::support::eventually;
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::{Gate, Reply};

fn lasting(length: u64) -> Reply {
    Reply::pattern(length).field("Cache-Control", "max-age=600")
}

fn site(edge: &Edge) -> serde_json::Value {
    edge.stats()["sites"][0].clone()
}

/// Stores `/a`, then `/b` while all of memory is set aside for responses that are arriving; and
/// `/c` when it is free again.
fn crowded(below: Option<Below>, policy: &str, check: impl Fn(&Edge)) {
    let origin = Origin::start();
    let gate = Gate::default();
    for slow in ["/1", "/2", "/3", "/4"] {
        origin.on(slow, lasting(2_000_000).pausing(1_000_000, &gate));
    }
    for path in ["/a", "/b", "/c"] {
        origin.on(path, lasting(1_000_000));
    }
    let config = format!(
        "[memory]\ncapacity = \"8MiB\"\n[[site]]\norigin = \"{}\"\nwrite_policy = \"{policy}\"\n",
        origin.url()
    );
    let setup = Setup::new().config(&config);
    let edge = match below {
        Some(below) => below.of(setup).start(),
        None => setup.start(),
    };
    edge.get("/a");
    let arriving = ["/1", "/2", "/3", "/4"].map(|path| {
        let mut client = edge.client();
        client.send(crate::support::client::request("GET", path, &[], b""));
        let head = client.head();
        (client, head)
    });
    let answer = edge.get("/b");
    assert_eq!(answer.status(), 200);
    pattern::check(0, &answer.body);
    edge.flush();
    check(&edge);
    gate.open();
    for (mut client, head) in arriving {
        client.read_body(&head, "GET", |_| {}).expect("whole");
    }
    edge.wait_for_landing();
    edge.get("/c");
    edge.flush();
    let site = site(&edge);
    assert_eq!(site["stores_failing"], serde_json::json!([]), "{site}");
}

#[test]
fn whose_failure_counts_is_configured() {
    for below in [None, Some(Below::Disk)] {
        for (policy, failures) in [("ignore", 0), ("l0", 1), ("all", 1)] {
            crowded(below, policy, |edge| {
                // A store is counted when all tiers have answered, and that may be later than what
                // is written to one.
                eventually("both stores to be counted", || site(edge)["stores"] == 2);
                let site = site(edge);
                assert_eq!(site["write_policy"], policy);
                assert_eq!(
                    site["store_failures"], failures,
                    "{below:?} {policy}: {site}"
                );
                let failing = if failures == 0 {
                    ""
                } else {
                    "site default: the latest store failed: memory\n"
                };
                let ready = edge.admin_response("GET", "/readyz", &[], b"");
                assert_eq!(ready.status(), 200);
                assert!(ready.text().ends_with(failing), "{}", ready.text());
                assert_eq!(ready.text().contains("store failed"), failures > 0);
                let metrics = edge.metrics();
                assert_eq!(metrics.count("larder_stores_total", &[]), 2);
                let counted = metrics.count("larder_store_failures_total", &[]);
                assert_eq!(counted, failures);
                if below.is_some() {
                    assert_eq!(count(edge, "disk", "writes"), 2, "the next tier has it");
                }
            });
        }
    }
}

/// Too large for memory is no failure of memory: the disk comes first for it.
#[test]
fn what_is_too_large_for_a_tier_does_not_fail_there() {
    let origin = Origin::always(lasting(3_000_000));
    for below in [None, Some(Below::Disk)] {
        let setup = Setup::before(&origin)
            .flag("--memory", "8MiB")
            .set("memory.capacity", "8MiB");
        let edge = match below {
            Some(below) => below.of(setup).start(),
            None => setup.start(),
        };
        edge.get("/a");
        // The answer may have come before what became of its body is known.
        let stores = u64::from(below.is_some());
        eventually("the store to be counted", || {
            site(&edge)["stores"] == stores
        });
        edge.flush();
        assert_eq!(site(&edge)["stores"], stores);
        assert_eq!(site(&edge)["store_failures"], 0);
    }
}

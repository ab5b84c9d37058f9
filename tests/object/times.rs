//! How long a store was waited for, as operators are told.

use std::time::Duration;

use crate::moto;
use crate::proxy::{Fault, Proxy};
use crate::support::edge::Edge;
use crate::support::origin::Origin;
use crate::support::reply::Reply;

const SLOW: Duration = Duration::from_millis(50);

/// How often, and how long altogether, a lookup was waited for that ended so.
fn waited(edge: &Edge, outcome: &str) -> (u64, Duration) {
    let metrics = edge.metrics();
    let labels = ["tier=\"object_store\"", &format!("outcome=\"{outcome}\"")];
    let name = "larder_tier_lookup_duration_seconds";
    let sum = metrics.sum(&format!("{name}_sum"), &labels);
    (
        metrics.count(&format!("{name}_count"), &labels),
        Duration::from_secs_f64(sum),
    )
}

#[test]
fn a_store_is_as_slow_as_its_histograms_tell() {
    let Some(moto) = moto::start() else { return };
    moto::bucket(moto, "timed");
    let proxy = Proxy::before(moto.address);
    proxy.set(Fault::Slow(SLOW));
    let origin = Origin::always(Reply::cached("x"));
    let (url, credentials) = ("s3://timed/edge", ("key", "secret"));
    let mut edge = moto::edge(&origin, url, proxy.address, credentials).start();
    for outcome in ["hit", "miss", "error"] {
        assert_eq!(waited(&edge, outcome), (0, Duration::ZERO), "{outcome}");
    }
    edge.get("/a");
    let (count, sum) = waited(&edge, "miss");
    assert!(count == 1 && sum >= SLOW, "{count} {sum:?}");
    // What memory has is not waited for.
    edge.get("/a");
    assert_eq!(waited(&edge, "miss"), (count, sum));
    edge.flush();
    let metrics = edge.metrics();
    let written = |part: &str| {
        let name = format!("larder_tier_write_duration_seconds_{part}");
        metrics.sum(&name, &["tier=\"object_store\""])
    };
    assert_eq!(format!("{}", written("count")), "1");
    assert!(written("sum") >= SLOW.as_secs_f64(), "{}", written("sum"));

    edge.restart();
    assert!(edge.get("/a").is_hit());
    let (count, sum) = waited(&edge, "hit");
    assert!(count == 1 && sum >= SLOW, "{count} {sum:?}");
    // One that takes longer than it may is as long as that.
    proxy.set(Fault::Silence);
    let deadline = Duration::from_secs(2);
    edge.get("/b");
    let (count, sum) = waited(&edge, "error");
    assert!(count == 1 && sum >= deadline, "{count} {sum:?}");
    let metrics = edge.metrics();
    let asked = metrics.sum("larder_request_duration_seconds_sum", &[]);
    assert!(asked >= (SLOW + deadline).as_secs_f64(), "{asked}");
    assert_eq!(waited(&edge, "miss").0, 0);
}

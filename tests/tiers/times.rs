//! How long a device was waited for, as operators are told.

use std::time::Duration;

use crate::below::{Below, count, forget};
use crate::inject;
use crate::support::edge::Edge;
use crate::support::origin::Origin;
use crate::support::reply::Reply;

const SLOW: Duration = Duration::from_millis(50);

/// The samples of a histogram of the disk tier: how many, and their sum.
fn told(edge: &Edge, name: &str, labels: &[&str]) -> (u64, Duration) {
    let metrics = edge.metrics();
    let labels = [labels, &["tier=\"disk\""]].concat();
    let name = format!("larder_tier_{name}_duration_seconds");
    let sum = metrics.sum(&format!("{name}_sum"), &labels);
    (
        metrics.count(&format!("{name}_count"), &labels),
        Duration::from_secs_f64(sum),
    )
}

#[test]
fn a_device_is_as_slow_as_its_histograms_tell() {
    if !inject::possible() {
        return;
    }
    let origin = Origin::always(Reply::cached("x"));
    let mut edge = Below::Disk.setup(&origin).start();
    edge.stop();
    let calls = "pread64,preadv2,pwritev";
    let delay = format!("delay_exit={}", SLOW.as_micros());
    edge.set_under(&inject::failing(calls, &delay));
    edge.restart();
    let lookups = |edge: &Edge, outcome: &str| {
        let label = format!("outcome=\"{outcome}\"");
        told(edge, "lookup", &[&label])
    };
    let nothing = (0, Duration::ZERO);
    for outcome in ["hit", "miss", "error"] {
        assert_eq!(lookups(&edge, outcome), nothing, "{outcome}");
    }
    edge.get("/a");
    edge.get("/b");
    // The index knows what is not there, and the device is not asked.
    assert_eq!(lookups(&edge, "miss"), (2, Duration::ZERO));
    edge.flush();
    let (writes, sum) = told(&edge, "write", &[]);
    let expected = SLOW * u32::try_from(writes).expect("few");
    assert!((1..=2).contains(&writes) && sum >= expected, "{sum:?}");
    assert_eq!(count(&edge, "disk", "writes"), 2);

    forget(&mut edge);
    assert!(edge.get("/a").is_hit());
    assert!(edge.get("/b").is_hit());
    // Memory has it by now, and nothing is waited for.
    assert!(edge.get("/a").is_hit());
    let (hits, sum) = lookups(&edge, "hit");
    assert!(hits == 2 && sum >= SLOW * 2, "{hits} {sum:?}");
    assert_eq!(lookups(&edge, "miss"), nothing);
    assert_eq!(lookups(&edge, "error"), nothing);
    let asked = edge.metrics();
    let asked = asked.sum("larder_request_duration_seconds_sum", &[]);
    assert!(asked >= sum.as_secs_f64(), "{asked} and {sum:?}");
}

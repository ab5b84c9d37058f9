//! An edge whose store fails: clients get right answers, hits in memory do not wait for it, what
//! waits to be written is bounded, and all is well again soon after.

use std::time::{Duration, Instant};

use crate::moto::{self, Moto};
use crate::proxy::{Fault, Proxy};
use crate::support::edge::Edge;
use crate::support::eventually;
use crate::truth::knob;
use crate::world::World;

/// How soon after a fault is over all must be well.
const RECOVERY: Duration = Duration::from_secs(5);
/// Bytes that may wait to be written.
const QUEUE: u64 = 64 << 20;

/// An edge before `world` with a bucket of its own behind a proxy.
fn edge(moto: &Moto, world: &World) -> (Edge, Proxy) {
    moto::bucket(moto, "served");
    let proxy = Proxy::before(moto.address);
    let (url, credentials) = ("s3://served/edge", ("key", "secret"));
    let setup = moto::edge(world.origin(), url, proxy.address, credentials)
        .flag("--memory", "6MiB")
        .set("object_store.timeout", "500ms");
    (setup.start(), proxy)
}

/// One count of the store.
fn count(edge: &Edge, name: &str) -> u64 {
    let metrics = edge.metrics();
    metrics.count(&format!("larder_tier_{name}"), &["tier=\"object_store\""])
}

#[test]
#[expect(clippy::print_stderr, reason = "what was measured")]
fn a_store_that_fails_costs_no_answer_and_no_hit() {
    let Some(moto) = moto::start() else { return };
    let world = World::with_quiet(60, 1, 1 << 20);
    let (mut edge, proxy) = edge(moto, &world);
    world.sweep(&edge);
    edge.flush();
    let before = world.load(&edge, 1, 2, |edge| world.latency(edge));
    let outage = Duration::from_secs(knob("LARDER_OUTAGE", 1));
    let second = Duration::from_secs(1);
    let faults = [
        (Fault::Outage, outage),
        (Fault::Slow(Duration::from_millis(500)), second),
        (Fault::TenthFails, second),
        (Fault::Throttled(1), second),
        (Fault::Silence, second),
        (Fault::Broken, second),
        (Fault::Cut, second),
        (Fault::Flipped, second),
        (Fault::ReadOnly, second),
    ];
    for (round, (fault, length)) in (2..).zip(faults) {
        proxy.set(fault);
        let until = Instant::now() + length;
        let mut queued = 0;
        let during = world.load(&edge, round, 2, |edge| {
            let during = world.latency(edge);
            while Instant::now() < until {
                queued = queued.max(count(edge, "queue_bytes"));
                std::thread::park_timeout(Duration::from_millis(10));
            }
            during
        });
        world.sweep(&edge);
        assert!(queued <= QUEUE, "{fault:?}: {queued} bytes wait");
        proxy.set(Fault::None);
        let (began, written) = (Instant::now(), count(&edge, "uploads_total"));
        let mut number = 0;
        eventually("the store to be written again", || {
            // What is denied stays denied for a while, to leave the store alone.
            world.change(number % 8);
            let mut visitor = world.visitor(edge.address());
            visitor.get(number % 8, &[("Cache-Control", "no-cache")]);
            number += 1;
            count(&edge, "uploads_total") > written
        });
        let took = began.elapsed();
        eprintln!(
            "{fault:?}: {}; at most {queued} bytes waited; written {took:?} afterwards; hits in \
             memory {before:?} before, {during:?} meanwhile",
            world.told()
        );
        during.assert_no_slower_than(before);
        // The pause after a refusal is as long as all of it.
        let allowed = RECOVERY * if fault == Fault::ReadOnly { 2 } else { 1 };
        assert!(took <= allowed, "{fault:?}: {took:?}");
    }
    // What memory loses now, the store has.
    edge.flush();
    edge.stop();
    world.forget();
    edge.restart();
    world.sweep(&edge);
    assert!(count(&edge, "hits_total") > 0, "it was never of use");
}

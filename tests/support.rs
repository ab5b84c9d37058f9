//! What the black-box tests share: the program under test, a scripted origin, and a client that
//! reads strictly.
//!
//! Everything runs on real sockets of this machine. Nothing here sleeps to synchronise: whoever
//! waits, waits for an event, and gives up after [`PATIENCE`] with a message that says for what.

#![expect(
    clippy::indexing_slicing,
    reason = "a test that is wrong about its own data is to fail"
)]
#![allow(dead_code, reason = "each test program uses the parts it needs")]

#[path = "support/client.rs"]
pub(crate) mod client;
#[path = "support/edge.rs"]
pub(crate) mod edge;
#[path = "support/http2.rs"]
pub(crate) mod http2;
#[path = "support/http2_origin.rs"]
pub(crate) mod http2_origin;
#[path = "support/log.rs"]
pub(crate) mod log;
#[path = "support/metrics.rs"]
pub(crate) mod metrics;
#[path = "support/origin.rs"]
pub(crate) mod origin;
#[path = "support/pattern.rs"]
pub(crate) mod pattern;
#[path = "support/reply.rs"]
pub(crate) mod reply;
#[path = "support/secure.rs"]
pub(crate) mod secure;
#[path = "support/tls.rs"]
pub(crate) mod tls;

use std::time::{Duration, Instant, SystemTime};

/// How long anything may take that is expected to happen. Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Asks `done` again and again until it is true. For what only a counter shows; everything else
/// has an event to wait for.
#[track_caller]
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the long forms of the tests were asked for.
pub(crate) fn long() -> bool {
    std::env::var("LARDER_TEST_LONG").is_ok_and(|value| value == "1")
}

/// What time it is, for `Date` and its like.
#[expect(clippy::disallowed_methods, reason = "the one clock of the tests")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

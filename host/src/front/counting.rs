//! What is counted and logged of each answered request.

use std::net::IpAddr;
use std::time::Duration;

use http::{Method, StatusCode};

use super::access_log::{AccessLog, Line};
use super::site::{CacheOutcome, Site};
use super::worker::Worker;
use crate::clock;

/// An answered request.
#[derive(Debug)]
pub struct Done<'a> {
    /// Request method.
    pub method: &'a Method,
    /// Normalised authority.
    pub authority: &'a str,
    /// Target as it came.
    pub target: &'a str,
    /// The client's address.
    pub client: IpAddr,
    /// How long it took, and how many requests that stands for.
    pub took: Option<(Duration, u64)>,
    /// Status of the answer.
    pub status: StatusCode,
    /// Bytes of content, if that is known.
    pub bytes: Option<u64>,
}

/// Counts and logs an answered request.
#[inline]
pub fn finish(worker: &Worker, site: &Site, done: &Done<'_>, outcome: CacheOutcome) {
    site.metrics.count(outcome, done.status);
    if let Some((took, times)) = done.took {
        worker.edge.metrics.request_seconds.observe_for(took, times);
    }
    if let Some(access) = &worker.edge.access_log {
        log(access, site, done, outcome);
    }
}

#[cold]
fn log(log: &AccessLog, site: &Site, done: &Done<'_>, outcome: CacheOutcome) {
    let micros = |took: Duration| u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    log.write(&Line {
        unix_ms: clock::unix_millis(clock::wall()),
        client: done.client,
        site: &site.name,
        method: done.method.as_str(),
        host: done.authority,
        path: done.target,
        status: done.status.as_u16(),
        bytes: done.bytes,
        took_us: done.took.map(|(took, _)| micros(took)),
        cache_status: outcome.as_str(),
    });
}

//! What one request tries, in order, and when it gives up.
//!
//! Connecting falls over to every address of the route: nothing was sent, so nothing can happen
//! twice. The same holds for what an origin says that it has not acted on. What was sent is sent once
//! more only if the connection ended without a byte of an answer and the method allows it (RFC 9110
//! 9.2.2): over a new connection if an idle one had closed
//! meanwhile, and otherwise to another address, as often as the site allows and within its budget.

use std::vec::IntoIter;

use http::Request;
use http::request::Parts;

use super::fault::Fault;
use super::health::Sign;
use super::metrics::OriginMetrics;
use super::outgoing::Outgoing;
use super::upstream::{Attempt, Upstream};

/// What is left to try for one request.
pub(super) struct Course<'a> {
    upstream: &'a Upstream,
    metrics: &'a OriginMetrics,
    route: IntoIter<Attempt>,
    /// The head of the request, if it may be sent more than once.
    again: Option<Parts>,
    sent_again: u32,
    refused: bool,
    /// Whether only a new connection will do.
    pub(super) fresh: bool,
}

impl<'a> Course<'a> {
    /// Along `route`, for a request of which `again` can be sent once more.
    pub(super) fn new(
        upstream: &'a Upstream,
        metrics: &'a OriginMetrics,
        route: Vec<Attempt>,
        again: Option<Parts>,
    ) -> Self {
        Self {
            upstream,
            metrics,
            route: route.into_iter(),
            again,
            sent_again: 0,
            refused: false,
            fresh: false,
        }
    }

    /// Addresses that were not tried yet.
    pub(super) fn untried(&self) -> u32 {
        u32::try_from(self.route.len()).unwrap_or(u32::MAX)
    }

    /// The next address; if there is none, `fault` is how the request ends.
    pub(super) fn next_address(&mut self, fault: Fault) -> Result<Attempt, Fault> {
        self.fresh = false;
        self.route.next().ok_or(fault)
    }

    /// There was no connection for `attempt`.
    pub(super) fn unconnected(
        &mut self,
        mut attempt: Attempt,
        fault: Fault,
    ) -> Result<Attempt, Fault> {
        self.metrics.connect_failures.increment();
        attempt.failed(Sign::Unconnected, &fault);
        self.next_address(fault)
    }

    /// The connection, which was `used` before, had ended before the request was sent.
    pub(super) fn unsent(&mut self, attempt: Attempt, used: bool) -> Result<Attempt, Fault> {
        if used && !self.fresh {
            self.fresh = true;
            return Ok(attempt);
        }
        // A new connection that ends at once is none.
        let ended = std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
        self.unconnected(attempt, Fault::Connect(ended))
    }

    /// The request was sent and not answered, over a connection that was `used` before. Where it
    /// goes next, if it may be sent once more.
    pub(super) fn unanswered(
        &mut self,
        mut attempt: Attempt,
        used: bool,
        fault: Fault,
    ) -> Result<(Attempt, Request<Outgoing>), Fault> {
        let closed = matches!(fault, Fault::Closed(_));
        let Some(parts) = self.again.clone().filter(|_| closed) else {
            if fault.kind().is_some() {
                attempt.failed(Sign::Unanswered, &fault);
            }
            return Err(fault);
        };
        let next = if used && !self.fresh {
            // An origin may close a connection that it finds idle at any time (RFC 9112 9.3.1);
            // that says nothing of its health.
            self.fresh = true;
            attempt
        } else {
            attempt.failed(Sign::Unanswered, &fault);
            self.other(fault)?
        };
        self.metrics.retries.increment();
        Ok((next, Request::from_parts(parts, Outgoing::Empty)))
    }

    /// The origin has not acted on the request and says so, by `fault` (RFC 9113 8.7).
    pub(super) fn refused(&mut self, mut attempt: Attempt, fault: Fault) -> Result<Attempt, Fault> {
        // It may have had no time to say how much it takes at once.
        let next = if std::mem::replace(&mut self.refused, true) {
            attempt.failed(Sign::Unanswered, &fault);
            self.other(fault)?
        } else {
            attempt
        };
        self.metrics.retries.increment();
        Ok(next)
    }

    /// Another address that the request may be sent to once more.
    fn other(&mut self, fault: Fault) -> Result<Attempt, Fault> {
        if self.sent_again == self.upstream.retries() || self.untried() == 0 {
            return Err(fault);
        }
        if !self.upstream.budget.withdraw() {
            self.metrics.retries_denied.increment();
            return Err(fault);
        }
        self.sent_again += 1;
        self.next_address(fault)
    }
}

//! What a stored response may do for one request: answer it, answer it while it is validated, or
//! go to the origin first.

use std::time::Duration;

use http::HeaderMap;

use super::answer::Asks;
use super::cache_status::ForwardReason;
use super::site::Site;
use super::worker::Worker;
use crate::cache::Lookup;
use crate::clock::{self, Moment};
use crate::config::Honour;
use crate::entry::{Entry, Lifetime, Usable};
use crate::rfc9111::cache_control::{RequestDirectives, RequestFlag};
use crate::rfc9111::reuse;

/// Where a site honours demands safely, the origin sees one a stored response in this time.
const DEMANDS_REST: Duration = Duration::from_secs(1);

/// What a stored response may do for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it answers.
    pub usable: Usable,
    reason: ForwardReason,
}

impl Verdict {
    /// Judges what `lookup` found for a request with the fields `request`. A request without
    /// directives pays for the response's own word and nothing else.
    #[inline]
    pub fn of(
        lookup: &Lookup,
        (worker, site): (&Worker, &Site),
        (request, asks): (&HeaderMap, Asks),
    ) -> Option<Self> {
        let Lookup::Found(entry) = lookup else {
            return None;
        };
        let lifetime = entry.lifetime()?;
        let now = clock::coarse();
        if asks.directives {
            return Some(directed((worker, site), (entry, lifetime), request, now));
        }
        Some(Self {
            usable: lifetime.judge(now),
            reason: ForwardReason::Stale,
        })
    }

    /// Why the request goes to the origin, if it does.
    pub const fn reason(self) -> ForwardReason {
        match self.usable {
            // What is fresh and does not answer holds only parts.
            Usable::Fresh { .. } => ForwardReason::Partial,
            Usable::StaleWhileRevalidate { .. } | Usable::Stale { .. } => self.reason,
        }
    }
}

/// Judges for a request with directives. One that demands more than the response's own word is
/// obeyed if the site honours all, if the origin is being asked anyway, or if the last such demand
/// was some time ago: clients must not be able to send every request through to the origin.
#[inline(never)]
fn directed(
    (worker, site): (&Worker, &Site),
    (entry, lifetime): (&Entry, &Lifetime),
    request: &HeaderMap,
    now: Moment,
) -> Verdict {
    let directives = RequestDirectives::parse(request);
    let judged = reuse::judge(lifetime, now, &directives);
    let granted = || {
        site.honour == Honour::All
            // Never forwarded, so it costs the origin nothing.
            || directives.has(RequestFlag::OnlyIfCached)
            || entry.grant_demand(now, DEMANDS_REST)
            || worker.edge.cache.flights.has(&entry.key)
    };
    match judged.demanded {
        Some(usable) if granted() => Verdict {
            usable,
            reason: ForwardReason::Request,
        },
        _ => Verdict {
            usable: judged.usable,
            reason: ForwardReason::Stale,
        },
    }
}

//! Stored responses that stand in, stale, for an origin that fails (RFC 5861 4) or that cannot be
//! reached (RFC 9111 4.2.4).

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::exchange::Exchange;
use super::fetch::answers;
use super::miss::Miss;
use crate::cache::flight::Failure;
use crate::clock;
use crate::entry::{Entry, Usable};
use crate::policy::hook::Hook;
use crate::rfc9111::cache_control::RequestDirectives;
use crate::rfc9111::facts::ResponseFacts;
use crate::rfc9111::reuse;

/// How long a stale response stands in for an origin that cannot be reached, where neither the
/// response nor the site says.
const UNREACHABLE_MAX: Duration = Duration::from_hours(24);

/// The statuses for which a stale response may stand in (RFC 5861 4).
pub fn is_server_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// What `miss` found, if `stale-if-error` lets it answer `exchange`.
pub fn on_error<'a>(exchange: &Exchange, miss: &'a Miss) -> Option<&'a Arc<Entry>> {
    match &miss.stale {
        Some((entry, Usable::Stale { on_error: true, .. })) if answers(exchange, entry) => {
            Some(entry)
        }
        _ => None,
    }
}

/// What `miss` found, if it may answer `exchange` because the origin has not, by `failure`. Where a
/// policy or the response itself has said how long it may be used stale, that holds; and a stored
/// error is no better than the one of now.
pub fn on_failure<'a>(
    exchange: &Exchange,
    miss: &'a Miss,
    failure: Failure,
) -> Option<&'a Arc<Entry>> {
    let Some((entry, Usable::Stale { by, .. })) = &miss.stale else {
        return None;
    };
    let longest = exchange.site.bounds.stale_if_error;
    let native = Hook::Freshness.native();
    let stands_in = matches!(failure, Failure::Unreachable | Failure::TimedOut)
        && *by < longest.unwrap_or(UNREACHABLE_MAX)
        && entry.decided_by() == native
        && bridges(entry, &RequestDirectives::parse(&exchange.head.headers))
        && answers(exchange, entry);
    stands_in.then_some(entry)
}

fn bridges(entry: &Entry, request: &RequestDirectives) -> bool {
    let (Some(lifetime), Some(headers)) = (entry.lifetime(), entry.headers()) else {
        return false;
    };
    let status = entry
        .response()
        .map_or(StatusCode::OK, |stored| stored.status);
    let mut fields = headers.clone();
    fields.extend(entry.targeted().cloned().unwrap_or_default());
    let said = ResponseFacts::new(status, &fields, clock::wall()).directives;
    !status.is_server_error() && reuse::may_bridge(lifetime.reuse, &said, request)
}

//! Answers to requests that are refused although they are in order: because the origin is down, or
//! because too many wait for the same fetch. All of them say when to come back.

use std::time::Duration;

use http::header::{CACHE_CONTROL, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::answer;
use super::body::ResponseBody;
use super::cache_status::{CACHE_STATUS, Forward, ForwardReason, Outcome};
use super::exchange::Exchange;
use super::miss::Miss;
use super::origin::outage::Down;
use super::shown::Shown;
use super::site::CacheOutcome;
use crate::cache::flight::Failure;

/// When to come back to a fetch that too many wait for.
const CROWDED: Duration = Duration::from_secs(1);

/// The origin is `down`, or the key of `miss`, and it is too early to ask again.
pub fn unavailable(exchange: &Exchange, miss: &Miss, down: Down) -> Response<ResponseBody> {
    let (client, label) = (exchange.client.address, &miss.freshness.label);
    let shown = Shown::of_key(&exchange.worker, client, &miss.key, label).noting(miss.note);
    answer_down(exchange, miss.reason, down, &shown)
}

/// The origin is `down`, which a request that is passed on for `reason` cannot do without.
pub fn unpassed(exchange: &Exchange, reason: ForwardReason, down: Down) -> Response<ResponseBody> {
    answer_down(exchange, reason, down, &Shown::nothing())
}

fn answer_down(
    exchange: &Exchange,
    reason: ForwardReason,
    down: Down,
    shown: &Shown,
) -> Response<ResponseBody> {
    exchange.site.metrics.refused.increment();
    let status = match down.failure {
        Failure::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    let message = match exchange.site.upstream.outage.is_ordered() {
        true => "this site is offline: what is not stored is not fetched\n",
        false => "the origin has failed and was not asked again; try again later\n",
    };
    let response = answer::own(status, message);
    come_back(exchange, response, (reason, shown), down.retry_in)
}

/// As many as may wait for the same fetch do.
pub fn crowded(exchange: &Exchange, reason: ForwardReason) -> Response<ResponseBody> {
    exchange.worker.edge.metrics.waiters_refused.increment();
    let message = "too many requests wait for this; try again later\n";
    let response = answer::own(StatusCode::SERVICE_UNAVAILABLE, message);
    come_back(exchange, response, (reason, &Shown::nothing()), CROWDED)
}

/// `response`, for this request alone and with the time after which to come back, in whole seconds
/// (RFC 9110 10.2.3).
fn come_back(
    exchange: &Exchange,
    mut response: Response<ResponseBody>,
    (reason, shown): (ForwardReason, &Shown),
    retry_in: Duration,
) -> Response<ResponseBody> {
    let seconds = retry_in.as_millis().div_ceil(1_000);
    let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
    let headers = response.headers_mut();
    headers.remove(CACHE_STATUS);
    let outcome = Outcome::Forward(Forward::new(reason));
    shown.status(outcome).append_to(headers);
    headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    exchange.finish(CacheOutcome::Error, response)
}

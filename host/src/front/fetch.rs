//! A request that no fresh stored response answers: it joins the one flight for its key, or starts
//! it, and is answered from what the flight brings.

use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::answer::{self, Asks};
use super::ask::{self, Ask, Plan};
use super::below;
use super::body::ResponseBody;
use super::cache_status::{CACHE_STATUS, CacheStatus, Forward, ForwardReason, Outcome, seconds};
use super::catch_up;
use super::conditional;
use super::exchange::Exchange;
use super::fill;
use super::miss::{Miss, Share};
use super::outlook::Outlook;
use super::pass;
use super::ranged::{self, Ranged};
use super::refused;
use super::shown::Shown;
use super::site::CacheOutcome;
use super::slices::Cut;
use super::stand_in;
use crate::cache::Lookup;
use crate::cache::flight::{Failure, Flight, Head, Landing, Pilot, Reader, Validation};
use crate::cache::flights::Turn;
use crate::clock;
use crate::config;
use crate::entry::{CacheKey, Entry, KeyView, Usable};
use crate::rfc9111::cache_control::{RequestDirectives, RequestFlag};

/// Flights that one request joins before it gives up or goes alone.
const FLIGHTS_MAX: usize = 3;

/// Answers `exchange`, whose lookup ended in `miss`.
pub async fn fetch(exchange: Exchange, mut miss: Miss) -> Response<ResponseBody> {
    if exchange.is_looped() {
        return exchange.looped();
    }
    if let Some(response) = below::recall(&exchange, &mut miss).await {
        return response;
    }
    let directives = RequestDirectives::parse(&exchange.head.headers);
    let outlook = Outlook::of(&exchange, &miss);
    miss.note = outlook.note();
    if let Some(entry) = usable_at_once(&exchange, &miss, outlook) {
        // RFC 5861 3: answer now, validate in the background, once for all requests. What came of
        // a request with `no-store` could not be kept.
        if outlook.is_worth_trying()
            && !directives.has(RequestFlag::NoStore)
            && let Turn::Fly(pilot) = take(&exchange, miss.key.view())
        {
            fly(&exchange, &miss, Ask::Whole, pilot);
        }
        if outlook.trouble.is_some() {
            exchange.site.metrics.spared.increment();
        }
        return stale(&exchange, &miss, entry);
    }
    if directives.has(RequestFlag::OnlyIfCached) {
        let message = "nothing usable is stored and the request forbids to fetch\n";
        return exchange.finish(
            CacheOutcome::Error,
            answer::own(StatusCode::GATEWAY_TIMEOUT, message),
        );
    }
    if let Some(down) = outlook.refused() {
        let Some(entry) = stand_in::on_failure(&exchange, &miss, down.failure) else {
            return refused::unavailable(&exchange, &miss, down);
        };
        exchange.site.metrics.spared.increment();
        return stale(&exchange, &miss, entry);
    }
    let ask = Ask::of(&exchange, &miss);
    let turn = if outlook.not_shared {
        exchange.site.metrics.beside.increment();
        beside(&exchange, &miss, ask)
    } else if directives.has(RequestFlag::NoStore) {
        // What it brings is for nobody else: it joins, and nobody joins it.
        let flights = &exchange.worker.edge.cache.flights;
        let found = flights.find(
            ask.flight_key(&exchange.worker.edge.cache, &miss.key)
                .view(),
        );
        found
            .map(Turn::Join)
            .or_else(|| beside(&exchange, &miss, ask))
    } else {
        Some(take_asking(&exchange, &miss.key, ask))
    };
    match turn {
        Some(turn) => follow(exchange, miss, ask, turn).await,
        None => go_alone(exchange, miss).await,
    }
}

/// The stored response that answers at once although it is stale.
fn usable_at_once<'a>(
    exchange: &Exchange,
    miss: &'a Miss,
    outlook: Outlook,
) -> Option<&'a Arc<Entry>> {
    match &miss.stale {
        Some((entry, Usable::StaleWhileRevalidate { .. })) if answers(exchange, entry) => {
            Some(entry)
        }
        // RFC 5861 4: the origin has failed, and nobody need wait for it to fail again.
        _ => stand_in::on_error(exchange, miss).filter(|_| outlook.trouble.is_some()),
    }
}

/// Joins or starts flights until one answers.
async fn follow(
    exchange: Exchange,
    mut miss: Miss,
    mut ask: Ask,
    mut turn: Turn,
) -> Response<ResponseBody> {
    let mut failures = 0;
    for flights in 0..FLIGHTS_MAX {
        let (flight, mine) = embark(&exchange, &miss, ask, turn);
        let collapsed = mine.is_none();
        let is_past = collapsed && flight.is_over();
        let joins = collapsed.then_some(exchange.worker.edge.limits.waiters);
        let Some(_interest) = flight.interest(joins) else {
            return refused::crowded(&exchange, miss.reason);
        };
        if collapsed && flights == 0 {
            exchange.worker.edge.metrics.collapsed.increment();
        }
        turn = match flight.landing().await {
            Landing::Stored(entry) => {
                // Who joined may want another variant than the one that was found.
                let mine = match collapsed {
                    true => stored_since(&exchange, &miss),
                    false => Some(entry),
                };
                if let Some(entry) = mine {
                    let hit = |ttl| Outcome::Hit { ttl };
                    return from_entry(&exchange, &entry, CacheOutcome::Hit, hit, (None, None));
                }
                take_asking(&exchange, &miss.key, ask)
            }
            Landing::Validated(validation) => {
                let share = match collapsed {
                    true => miss.share(&exchange, &validation.shared),
                    false => Share::Yes,
                };
                match share {
                    Share::No => match unshared(&exchange, &miss, ask, &flight) {
                        Some(turn) => turn,
                        None => break,
                    },
                    Share::Other(key) => take_asking(&exchange, &key, ask),
                    Share::Yes if !answers(&exchange, &validation.entry) => {
                        ask = ask_more(&exchange, &mut miss, &validation.entry);
                        take_asking(&exchange, &miss.key, ask)
                    }
                    Share::Yes => return validated(&exchange, &miss, &validation, collapsed),
                }
            }
            Landing::Failed(failure) => {
                failures += 1;
                let last = !collapsed || failures > 1;
                let whose = (collapsed, last);
                match after_failure(&exchange, &mut miss, &flight, failure, whose) {
                    Ok(turn) => turn,
                    Err(answer) => return *answer,
                }
            }
            Landing::Response(head) => {
                let boarding = board(&exchange, &miss, &mut ask, (&flight, &head, is_past), mine);
                match boarding {
                    Boarding::Answer(answer) => return *answer,
                    Boarding::Again(turn) => turn,
                    Boarding::Alone => break,
                }
            }
        };
    }
    go_alone(exchange, miss).await
}

/// What a request does whose flight has failed: another turn, or its answer, which it has in any
/// case if this was its `last` flight.
fn after_failure(
    exchange: &Exchange,
    miss: &mut Miss,
    flight: &Arc<Flight>,
    failure: Failure,
    (collapsed, last): (bool, bool),
) -> Result<Turn, Box<Response<ResponseBody>>> {
    let forward = Forward {
        collapsed,
        ..Forward::new(miss.reason)
    };
    let stand_in = stand_in::on_error(exchange, miss);
    if let Some(entry) = stand_in.or_else(|| stand_in::on_failure(exchange, miss, failure)) {
        return Err(Box::new(stale_on_error(exchange, miss, entry, forward)));
    }
    if last {
        return Err(Box::new(failed(exchange, failure, forward)));
    }
    let outlook = Outlook::of(exchange, miss);
    if let Some(down) = outlook.refused() {
        miss.note = outlook.note();
        return Err(Box::new(refused::unavailable(exchange, miss, down)));
    }
    // Those who joined a failed flight elect one of them to try once more.
    Ok(exchange.worker.edge.cache.flights.retry(flight))
}

/// What a request does whose flight has brought the head of a response.
enum Boarding {
    /// It is answered.
    Answer(Box<Response<ResponseBody>>),
    /// It takes another flight.
    Again(Turn),
    /// It asks for itself.
    Alone,
}

/// Boards `flight`, which has brought `head`, unless what it carries is of no use to the request;
/// `mine` if the request began it. Of what `is_past`, since all of it had come before the request, only
/// what need not be validated is of use.
fn board(
    exchange: &Exchange,
    miss: &Miss,
    ask: &mut Ask,
    (flight, head, is_past): (&Arc<Flight>, &Arc<Head>, bool),
    mine: Option<Reader>,
) -> Boarding {
    let collapsed = mine.is_none();
    if stand_in::is_server_failure(head.status)
        && let Some(entry) = stand_in::on_error(exchange, miss)
    {
        let forward = Forward {
            status: Some(head.answered),
            collapsed,
            ..Forward::new(miss.reason)
        };
        return Boarding::Answer(Box::new(stale_on_error(exchange, miss, entry, forward)));
    }
    let seat = match mine {
        Some(reader) => Aboard::Yes(reader),
        None if is_past && head.ttl == 0 => Aboard::Late,
        None => aboard(exchange, miss, flight, head),
    };
    let plan = ask::plan(exchange, *ask, flight, head);
    match (seat, plan) {
        (Aboard::NotShared, _) => {
            unshared(exchange, miss, *ask, flight).map_or(Boarding::Alone, Boarding::Again)
        }
        (Aboard::Other(key), _) => Boarding::Again(take_asking(exchange, &key, *ask)),
        (Aboard::Yes(_) | Aboard::Late | Aboard::Alone, Plan::Ask(next)) => {
            *ask = next;
            Boarding::Again(take_asking(exchange, &miss.key, *ask))
        }
        (Aboard::Yes(_), Plan::Alone) | (Aboard::Alone, _) => Boarding::Alone,
        (Aboard::Late, _) => Boarding::Again(exchange.worker.edge.cache.flights.replace(flight)),
        (Aboard::Yes(reader), plan) => {
            let seat = (reader, collapsed);
            let answer = from_flight(exchange, miss, (flight, head), &plan, seat);
            Boarding::Answer(Box::new(answer))
        }
    }
}

/// What comes next for a request that joined `flight` and may not share what that brings.
fn unshared(exchange: &Exchange, miss: &Miss, ask: Ask, flight: &Arc<Flight>) -> Option<Turn> {
    if exchange.site.hit_for_miss.is_zero() || Outlook::of(exchange, miss).not_shared {
        return beside(exchange, miss, ask);
    }
    // It was the other request's doing, by its credentials for example.
    Some(exchange.worker.edge.cache.flights.replace(flight))
}

/// A flight for this request alone, beside whatever is under way. What it brings is stored if that
/// may be, so it asks for the whole; none for a request that wants something else, which the
/// origin had better hear of.
fn beside(exchange: &Exchange, miss: &Miss, ask: Ask) -> Option<Turn> {
    let head = &exchange.head;
    let whole = ask == Ask::Whole && head.method == Method::GET && !Asks::of(&head.headers).part;
    let flights = &exchange.worker.edge.cache.flights;
    let pilot = || flights.alone(&miss.key, exchange.site.id, exchange.tags());
    whole.then(|| Turn::Fly(pilot()))
}

/// Has the origin answer this request for itself. Nothing of that is stored.
async fn go_alone(exchange: Exchange, miss: Miss) -> Response<ResponseBody> {
    let _probe = miss.probe.take();
    let reason = miss.reason;
    let declared = (exchange.site.forward == config::Forward::Declared).then_some(miss.declared);
    pass::forward(exchange, reason, declared).await
}

/// Joins or starts the one flight for `key`.
fn take(exchange: &Exchange, key: KeyView<'_>) -> Turn {
    let flights = &exchange.worker.edge.cache.flights;
    flights.take(key, exchange.site.id, || exchange.tags())
}

/// What to ask for when parts were validated and this request wants others.
fn ask_more(exchange: &Exchange, miss: &mut Miss, parts: &Arc<Entry>) -> Ask {
    let usable = parts.lifetime().map(|life| life.judge(clock::now()));
    miss.stale = usable.map(|usable| (Arc::clone(parts), usable));
    Ask::of(exchange, miss)
}

/// Joins or starts the one flight that asks for `ask`, whose response is expected under `key`.
fn take_asking(exchange: &Exchange, key: &CacheKey, ask: Ask) -> Turn {
    let cache = &exchange.worker.edge.cache;
    take(exchange, ask.flight_key(cache, key).view())
}

/// Whether `entry` holds all that `exchange` asks for.
pub(super) fn answers(exchange: &Exchange, entry: &Entry) -> bool {
    let head = &exchange.head;
    let covers = |partial| ranged::covers(&head.method, &head.headers, partial);
    entry.partial().is_none_or(covers)
}

/// The flight of `turn`, and a reader of it if this request has started it.
fn embark(exchange: &Exchange, miss: &Miss, ask: Ask, turn: Turn) -> (Arc<Flight>, Option<Reader>) {
    match turn {
        Turn::Join(flight) => {
            // Another request tries.
            drop(miss.probe.take());
            (flight, None)
        }
        Turn::Fly(pilot) => {
            let flight = Arc::clone(pilot.flight());
            // Aboard before anything moves: a flight that nobody reads may end itself.
            let reader = flight.board();
            fly(exchange, miss, ask, pilot);
            (flight, reader)
        }
    }
}

/// Starts the fill of `pilot`'s flight, unless a flight that ended after this request had looked
/// has stored what it would fetch.
fn fly(exchange: &Exchange, miss: &Miss, ask: Ask, pilot: Pilot) {
    match stored_since(exchange, miss) {
        Some(entry) => {
            let flight = Arc::clone(pilot.flight());
            exchange
                .worker
                .edge
                .cache
                .flights
                .remove(&flight, &flight.key);
            pilot.land(Landing::Stored(entry));
        }
        None => fill::start(exchange, miss, ask, pilot),
    }
}

/// The fresh response that was stored for this request after it had looked, if one was. What it
/// found when it looked is not: the request may have turned that away.
fn stored_since(exchange: &Exchange, miss: &Miss) -> Option<Arc<Entry>> {
    let cache = &exchange.worker.edge.cache;
    let domain = &exchange.site.domain;
    let Lookup::Found(entry) = cache.peek(domain, miss.primary.view(), &exchange.head.headers)
    else {
        return None;
    };
    let known = matches!(&miss.stale, Some((known, _)) if Arc::ptr_eq(known, &entry));
    let usable = entry.lifetime()?.judge(clock::now());
    let answers = matches!(usable, Usable::Fresh { .. }) && answers(exchange, &entry);
    (answers && !known).then_some(entry)
}

/// Whether a request that did not start a flight may be answered by it.
enum Aboard {
    Yes(Reader),
    /// Its first bytes are gone, or all of it is past.
    Late,
    /// Another could not wait for it.
    Alone,
    /// It brings another variant; this one's is under `key`.
    Other(CacheKey),
    NotShared,
}

fn aboard(exchange: &Exchange, miss: &Miss, flight: &Arc<Flight>, head: &Head) -> Aboard {
    match miss.share(exchange, &head.shared) {
        Share::No => Aboard::NotShared,
        Share::Other(key) => Aboard::Other(key),
        // It would be left behind by faster ones, and have no way to get the rest.
        Share::Yes if !head.kept && catch_up::validator(exchange, head).is_none() => Aboard::Alone,
        Share::Yes => flight.board().map_or(Aboard::Late, Aboard::Yes),
    }
}

/// Answers from a stale stored response.
fn stale(exchange: &Exchange, miss: &Miss, entry: &Entry) -> Response<ResponseBody> {
    let hit = |ttl| Outcome::Hit { ttl };
    let told = (None, miss.note);
    from_entry(exchange, entry, CacheOutcome::Stale, hit, told)
}

/// Answers from a stale stored response after `forward` has failed. It was forwarded, so it is no
/// hit (RFC 9211 2.1).
fn stale_on_error(
    exchange: &Exchange,
    miss: &Miss,
    entry: &Entry,
    forward: Forward,
) -> Response<ResponseBody> {
    let forward = |ttl| {
        Outcome::Forward(Forward {
            ttl: Some(ttl),
            ..forward
        })
    };
    let told = (None, miss.note);
    from_entry(exchange, entry, CacheOutcome::Stale, forward, told)
}

/// Answers from a stored response that the origin has just confirmed.
fn validated(
    exchange: &Exchange,
    miss: &Miss,
    validation: &Validation,
    collapsed: bool,
) -> Response<ResponseBody> {
    let forward = |ttl| {
        Outcome::Forward(Forward {
            status: Some(validation.answered),
            ttl: validation.stored.then_some(ttl),
            stored: validation.stored,
            collapsed,
            ..Forward::new(miss.reason)
        })
    };
    let own = (!collapsed).then_some(&validation.withheld);
    from_entry(
        exchange,
        &validation.entry,
        CacheOutcome::Validated,
        forward,
        (own, miss.note),
    )
}

/// Answers from `entry`, with the fields in `own` for this client alone, and a `note` for it if it
/// is trusted.
pub(super) fn from_entry(
    exchange: &Exchange,
    entry: &Entry,
    outcome: CacheOutcome,
    status: impl FnOnce(i64) -> Outcome,
    (own, note): (Option<&HeaderMap>, Option<&str>),
) -> Response<ResponseBody> {
    let (Some(lifetime), Some(fields)) = (entry.lifetime(), entry.headers()) else {
        let forward = Forward::new(ForwardReason::Miss);
        return failed(exchange, Failure::Abandoned, forward);
    };
    let now = clock::now();
    let age = lifetime.age(now);
    let left = seconds(lifetime.fresh_for) - seconds(age);
    if let Some(recorder) = &exchange.worker.edge.recorder {
        recorder.answered(entry, now);
    }
    let shown = Shown::new(&exchange.worker, exchange.client.address, entry).noting(note);
    let status = shown.status(status(left));
    let head = &exchange.head;
    let filled = || {
        let mut headers = fields.clone();
        for (name, value) in own.into_iter().flatten() {
            headers.append(name, value.clone());
        }
        answer::fill_places(&mut headers, Some(age.as_secs()), &status);
        headers
    };
    let Some(response) = answer::from_entry(&head.method, &head.headers, entry, filled) else {
        let forward = Forward::new(ForwardReason::Partial);
        return failed(exchange, Failure::Abandoned, forward);
    };
    exchange.finish(outcome, response)
}

/// Answers with what `flight` brings, as it arrives.
fn from_flight(
    exchange: &Exchange,
    miss: &Miss,
    (flight, head): (&Arc<Flight>, &Arc<Head>),
    plan: &Plan,
    (reader, collapsed): (Reader, bool),
) -> Response<ResponseBody> {
    let request = &exchange.head;
    let stored = head.stored && !flight.is_purged();
    let forward = Forward {
        status: Some(head.answered),
        ttl: stored.then(|| i64::try_from(head.ttl).unwrap_or(i64::MAX)),
        stored,
        collapsed,
        ..Forward::new(miss.reason)
    };
    if let Some(recorder) = exchange.worker.edge.recorder.as_ref().filter(|_| stored) {
        let complete = head.part.as_ref().map_or(head.length, |part| part.complete);
        recorder.asked(miss.key.view().hash, complete, head.ttl, clock::now());
    }
    let not_modified = matches!(plan, Plan::NotModified);
    let mut headers = if not_modified {
        conditional::not_modified_fields(&head.headers)
    } else {
        head.headers.clone()
    };
    if !collapsed {
        for (name, value) in &head.withheld {
            headers.append(name, value.clone());
        }
    }
    let shown = Shown::of_key(
        &exchange.worker,
        exchange.client.address,
        &miss.key,
        &miss.freshness.label,
    )
    .noting(miss.note);
    let status = shown.status(Outcome::Forward(forward));
    let age = (head.age > 0 || collapsed).then_some(head.age);
    answer::fill_places(&mut headers, age, &status);
    let outcome = if collapsed {
        CacheOutcome::Collapsed
    } else {
        CacheOutcome::Miss
    };
    if not_modified {
        let response = answer::respond(StatusCode::NOT_MODIFIED, headers, ResponseBody::Empty);
        return exchange.finish(outcome, response);
    }
    if request.method == Method::HEAD {
        tell_length(head, &mut headers);
        let response = answer::respond(head.status, headers, ResponseBody::Empty);
        return exchange.finish(outcome, response);
    }
    let catch_up = catch_up::catch_up(exchange, miss, head);
    let (complete, start) = match &head.part {
        Some(part) => (part.complete, part.range.start),
        None => (head.length, 0),
    };
    if let Plan::Ranges(ranges) = plan
        && let Some(ranged) = Ranged::new(ranges, &mut headers, complete)
    {
        let body = match ranged.segments.is_empty() {
            true => ResponseBody::Empty,
            false => ResponseBody::cut(reader, Cut::new(ranged.segments, start), catch_up),
        };
        return exchange.finish(outcome, answer::respond(ranged.status, headers, body));
    }
    let body = ResponseBody::flight(reader, head.length, catch_up);
    exchange.finish(outcome, answer::respond(head.status, headers, body))
}

/// Tells the length of the content that is on its way to who will not get it. RFC 9110 8.6: a 204
/// has none.
fn tell_length(head: &Head, headers: &mut HeaderMap) {
    let length = head
        .length
        .filter(|_| head.status != StatusCode::NO_CONTENT);
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// The origin, which `forward` went to, failed and nothing stored may stand in.
pub fn failed(exchange: &Exchange, failure: Failure, forward: Forward) -> Response<ResponseBody> {
    let (status, message) = match failure {
        Failure::Unreachable => (StatusCode::BAD_GATEWAY, "the origin cannot be reached\n"),
        Failure::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "the origin took too long\n"),
        Failure::Crowded => (
            StatusCode::SERVICE_UNAVAILABLE,
            "too many requests wait for the origin; try again later\n",
        ),
        Failure::Abandoned => (StatusCode::BAD_GATEWAY, "the fetch was given up\n"),
        Failure::BodyTooLarge => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "the request body is too large\n",
        ),
        Failure::BodyBrokeOff => (StatusCode::BAD_REQUEST, "the request body broke off\n"),
    };
    let mut response = answer::own(status, message);
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if failure == Failure::Crowded {
        let second = HeaderValue::from_static("1");
        response.headers_mut().insert(RETRY_AFTER, second);
    }
    let status = CacheStatus::new(Outcome::Forward(forward));
    response.headers_mut().remove(CACHE_STATUS);
    status.append_to(response.headers_mut());
    exchange.finish(CacheOutcome::Error, response)
}

//! RFC 9111 and its companions as tables of exchanges, one file a section: what the origin gave
//! first, what is asked then, and what becomes of that. The configuration is the default one.
//!
//! Time does not pass in here: what is to be old arrives with an `Age` or a `Date` that makes it
//! so. A value `@-60` stands for the date 60 seconds ago.

mod freshness;
mod invalidation;
mod requests;
mod storing;
mod targeted;
mod validation;
mod vary;

use std::time::Duration;

use crate::support::client::Response;
use crate::support::edge::Edge;
use crate::support::now;
use crate::support::origin::{Asked, Origin};
use crate::support::reply::Reply;

/// Fields, each a name and a value.
type Fields<'a> = &'a [(&'a str, &'a str)];

/// What becomes of the second request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The stored response answers, and the origin is not asked.
    Reuse,
    /// The stored response answers after the origin has confirmed it.
    Validate,
    /// The origin is asked for a new response, without preconditions.
    Forward,
}
use Then::{Forward, Reuse, Validate};

/// One exchange and what follows from it.
#[derive(Clone, Copy, Debug)]
struct Exchange<'a> {
    /// What is sent first.
    sent: Fields<'a>,
    /// The status that the origin answers it with.
    status: u16,
    /// The fields that the origin answers it with.
    given: Fields<'a>,
    /// What is sent second.
    then_sent: Fields<'a>,
}

/// An edge with nothing but defaults, and the origin behind it.
struct Rig {
    origin: Origin,
    edge: Edge,
}

impl Rig {
    fn new() -> Self {
        let origin = Origin::start();
        let edge = Edge::before(&origin);
        Self { origin, edge }
    }

    /// Makes the exchange and the second request, under a URI of its own.
    #[track_caller]
    fn second(&self, exchange: &Exchange<'_>) -> (Then, Response) {
        let target = format!("/{}", self.origin.total());
        let first = reply(exchange.status, exchange.given).body("first");
        let again = exchange
            .given
            .iter()
            .map(|(name, value)| ((*name).to_owned(), moment(value)));
        let again: Vec<_> = again.collect();
        self.origin
            .route(&target, move |asked| answer(asked, &first, &again));
        let response = self.edge.get_with(&target, exchange.sent);
        assert_eq!(response.status(), exchange.status, "{exchange:?}");
        self.edge.wait_for_landing();
        let response = self.edge.get_with(&target, exchange.then_sent);
        let asked = self.origin.asked_for(&target);
        let conditional = asked.get(1).is_some_and(is_conditional);
        let then = match (asked.len(), response.text().as_str()) {
            (1, "first") => Reuse,
            (2, "first") if conditional => Validate,
            (2, "second") if !conditional => Forward,
            other => panic!("{other:?} of {exchange:?}"),
        };
        assert_eq!(
            response.is_hit(),
            then == Reuse,
            "{exchange:?}: {}",
            response.cache_status()
        );
        (then, response)
    }

    /// What becomes of a plain GET after the origin has answered one with `status` and `given`.
    #[track_caller]
    fn after(&self, status: u16, given: Fields<'_>) -> Then {
        self.second(&Exchange {
            sent: &[],
            status,
            given,
            then_sent: &[],
        })
        .0
    }
}

/// The first answer is `first`; a later one confirms it if it is asked to, and is another one if
/// it is not.
fn answer(asked: &Asked, first: &Reply, again: &[(String, String)]) -> Reply {
    if asked.turn == 0 {
        return first.clone();
    }
    if !is_conditional(asked) {
        return Reply::ok("second").field("Cache-Control", "no-store");
    }
    let validators = ["etag", "last-modified"];
    let mut confirmed = Reply::status(304);
    for (name, value) in again {
        if validators.contains(&name.to_ascii_lowercase().as_str()) {
            confirmed = confirmed.field(name, value.as_str());
        }
    }
    confirmed
}

fn is_conditional(asked: &Asked) -> bool {
    let has = |name| asked.field(name).is_some();
    has("if-none-match") || has("if-modified-since")
}

fn reply(status: u16, fields: Fields<'_>) -> Reply {
    let named = |reply: Reply, (name, value): &(&str, &str)| reply.field(name, moment(value));
    fields.iter().fold(Reply::status(status), named)
}

/// `value`, or the date that it stands for.
fn moment(value: &str) -> String {
    let offset = value.strip_prefix('@').map(str::parse::<i64>);
    let Some(offset) = offset else {
        return value.to_owned();
    };
    let offset = offset.expect("a number of seconds");
    let by = Duration::from_secs(offset.unsigned_abs());
    httpdate::fmt_http_date(if offset < 0 { now() - by } else { now() + by })
}

//! The rest of a response for a reader that its flight has left behind: a request of its own, for
//! the same representation or none at all.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONTENT_ENCODING, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use http::{HeaderValue, Method, StatusCode};

use super::body::{CatchUp, Rest};
use super::exchange::Exchange;
use super::fill::{outgoing_fields, request};
use super::interim::Interim;
use super::miss::Miss;
use super::origin::Outgoing;
use crate::cache::flight::{Failure, Head};
use crate::rfc9111::content_range::{ContentRange, strong_validator};

/// What tells that content is that of `head`, byte for byte. None if nothing does: who is left behind
/// gets no more of it.
pub fn validator<'a>(exchange: &Exchange, head: &'a Head) -> Option<&'a HeaderValue> {
    let encoded_here =
        !exchange.site.compress.is_empty() && head.headers.contains_key(CONTENT_ENCODING);
    strong_validator(&head.headers).filter(|_| !encoded_here)
}

/// How a reader that the flight left behind gets the rest: by a request of its own for the same
/// representation. None if there is no way to tell that it is the same, byte for byte.
pub fn catch_up(exchange: &Exchange, miss: &Miss, head: &Arc<Head>) -> Option<CatchUp> {
    // Where the flight's content begins and ends in the whole.
    let (start, last, complete) = match &head.part {
        Some(part) => (
            part.range.start,
            (part.range.end - 1).to_string(),
            part.complete,
        ),
        None if head.status == StatusCode::OK => (0, String::new(), head.length),
        None => return None,
    };
    let validator = validator(exchange, head)?.clone();
    let worker = Rc::clone(&exchange.worker);
    let site = Arc::clone(&exchange.site);
    let target = exchange.asked_target().to_owned();
    let mut headers = outgoing_fields(exchange, miss);
    let head = Arc::clone(head);
    Some(Box::new(move |position| {
        let position = start.saturating_add(position);
        Box::pin(async move {
            if let Ok(range) = HeaderValue::from_str(&format!("bytes={position}-{last}")) {
                headers.insert(RANGE, range);
                headers.insert(IF_RANGE, validator);
            }
            let request = request(&Method::GET, &target, headers, Outgoing::Empty)?;
            let interim = Interim::default();
            let response = worker.client.send(&site, request, interim).await?;
            let same = [ETAG, LAST_MODIFIED]
                .iter()
                .all(|name| response.headers().get(name) == head.headers.get(name));
            let length = response.body().length();
            // An origin may send less than it was asked for (RFC 9110 15.3.7).
            let continues = ContentRange::of(response.headers(), length).is_some_and(|rest| {
                let ends = match (&head.part, head.length) {
                    (Some(part), _) => rest.range.end == part.range.end,
                    (None, Some(length)) => rest.range.end == length,
                    (None, None) => length.is_some() && rest.complete == Some(rest.range.end),
                };
                rest.range.start == position && ends
            });
            match response.status() {
                StatusCode::PARTIAL_CONTENT if same && continues => Ok(Rest {
                    body: response.into_body(),
                    skip: 0,
                }),
                StatusCode::OK if same && length == complete => Ok(Rest {
                    body: response.into_body(),
                    skip: position,
                }),
                _ => Err(Failure::Unreachable),
            }
        })
    }))
}

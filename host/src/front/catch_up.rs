//! The rest of a response for a reader that its flight has left behind: a request of its own, for
//! the same representation or none at all.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONTENT_ENCODING, CONTENT_RANGE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::body::{CatchUp, Rest};
use super::exchange::Exchange;
use super::fill::{has_validator, outgoing_fields, request};
use super::interim::Interim;
use super::miss::Miss;
use super::origin::Outgoing;
use crate::cache::flight::{Failure, Head};

/// How a reader that the flight left behind gets the rest: by a request of its own for the same
/// representation. None if there is no way to tell that it is the same.
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
    let encoded_here =
        !exchange.site.compress.is_empty() && head.headers.contains_key(CONTENT_ENCODING);
    if !has_validator(&head.headers) || encoded_here {
        return None;
    }
    let worker = Rc::clone(&exchange.worker);
    let site = Arc::clone(&exchange.site);
    let target = exchange.asked_target().to_owned();
    let mut headers = outgoing_fields(exchange, miss);
    let head = Arc::clone(head);
    Some(Box::new(move |position| {
        let position = start.saturating_add(position);
        Box::pin(async move {
            if let Ok(range) = HeaderValue::from_str(&format!("bytes={position}-{last}"))
                && let Some(tag) = strong_tag(&head.headers)
            {
                headers.insert(RANGE, range);
                headers.insert(IF_RANGE, tag);
            }
            let request = request(&Method::GET, &target, headers, Outgoing::Empty)?;
            let interim = Interim::default();
            let response = worker.client.send(&site, request, interim).await?;
            let same = [ETAG, LAST_MODIFIED]
                .iter()
                .all(|name| response.headers().get(name) == head.headers.get(name));
            let starts = format!("bytes {position}-");
            let continues = response
                .headers()
                .get(CONTENT_RANGE)
                .is_some_and(|range| range.as_bytes().starts_with(starts.as_bytes()));
            match response.status() {
                StatusCode::PARTIAL_CONTENT if same && continues => Ok(Rest {
                    body: response.into_body(),
                    skip: 0,
                }),
                StatusCode::OK if same && response.body().length() == complete => Ok(Rest {
                    body: response.into_body(),
                    skip: position,
                }),
                _ => Err(Failure::Unreachable),
            }
        })
    }))
}

fn strong_tag(headers: &HeaderMap) -> Option<HeaderValue> {
    headers
        .get(ETAG)
        .filter(|tag| !tag.as_bytes().starts_with(b"W/"))
        .cloned()
}

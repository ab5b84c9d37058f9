//! Calls about what is stored: listing it, and verifying it.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::json;

use super::message::{Answer, json_answer, malformed, not_allowed, ok, result, unescaped};
use super::{Admin, blocking};
use crate::control::ListRequest;

impl Admin {
    /// A page of what is stored.
    pub(super) async fn entries(&self, method: &Method, query: Option<&str>) -> Answer {
        if *method != Method::GET {
            return not_allowed("GET");
        }
        let mut asked = ListRequest::default();
        let pairs = query.unwrap_or_default().split('&');
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(value) = unescaped(value) else {
                let message = format!("{pair:?} is not percent-encoded UTF-8");
                return malformed("bad_query", &message);
            };
            let part = match name {
                "site" => &mut asked.site,
                "tag" => &mut asked.tag,
                "tier" => &mut asked.tier,
                "prefix" => &mut asked.prefix,
                "cursor" => &mut asked.cursor,
                _ => {
                    let message = format!(
                        "{name:?} is not a parameter of entries, which are site, tag, tier, prefix \
                         and cursor"
                    );
                    return malformed("bad_query", &message);
                }
            };
            if part.replace(value).is_some() {
                return malformed("bad_query", &format!("{name} is given twice"));
            }
        }
        let control = Arc::clone(&self.control);
        let listed = blocking(move || control.entries(&asked)).await;
        result(listed, |page| ok(&page))
    }

    /// Begins a scrub, or tells how the latest is.
    pub(super) async fn scrub(&self, method: &Method) -> Answer {
        match *method {
            Method::GET => ok(&json!(self.control.scrubbed())),
            Method::POST => {
                let control = Arc::clone(&self.control);
                let begun = blocking(move || control.scrub()).await;
                result(begun, |report| {
                    json_answer(StatusCode::ACCEPTED, &json!(report))
                })
            }
            _ => not_allowed("GET, POST"),
        }
    }
}

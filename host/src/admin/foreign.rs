//! Purges in the request forms of other services, so that what calls those can call this one: the
//! forms of Cloudflare (a zone is a site) and of Fastly (a service is one).
//!
//! They do what `/v1/purge` does, for the same callers. What is not understood is refused as there.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::message::{Answer, json_body, malformed, not_allowed, ok, refusal, result, unescaped};
use super::{Admin, blocking};
use crate::cache::Effect;
use crate::cache::receipts::Receipt;
use crate::control::PurgeRequest;
use crate::front::{purging, tagging};
use crate::policy::refusal::Refusal;

/// The body of Cloudflare's purge.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OfZone {
    purge_everything: bool,
    files: Vec<String>,
    tags: Vec<String>,
    hosts: Vec<String>,
    prefixes: Vec<String>,
}

/// The body of Fastly's purge of several keys.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OfService {
    surrogate_keys: Vec<String>,
}

/// What of a service is purged.
pub(super) enum Batch {
    /// One key, from the path.
    One(String),
    /// Those listed in the body or in `Surrogate-Key`.
    Listed,
    /// Everything.
    All,
}

impl Admin {
    /// `POST /client/v4/zones/{site}/purge_cache`.
    pub(super) async fn purge_as_cloudflare(
        &self,
        method: &Method,
        site: String,
        request: Request<Incoming>,
    ) -> Answer {
        if *method != Method::POST {
            return in_envelope(not_allowed("POST")).await;
        }
        let asked: OfZone = match json_body(request).await {
            Ok(asked) => asked,
            Err(answer) => return in_envelope(*answer).await,
        };
        let purge = PurgeRequest {
            urls: asked.files,
            tags: asked.tags,
            hosts: asked.hosts,
            prefixes: asked.prefixes,
            all: asked.purge_everything,
            site: Some(site),
            ..PurgeRequest::default()
        };
        match self.make(purge).await {
            Ok(receipt) => ok(&json!({
                "success": true,
                "errors": [],
                "messages": [],
                "result": { "id": receipt.id },
            })),
            Err(refused) => in_envelope(refusal(&refused)).await,
        }
    }

    /// `POST /service/{site}/purge/{key}`, `/service/{site}/purge` and `/service/{site}/purge_all`.
    pub(super) async fn purge_as_fastly(
        &self,
        method: &Method,
        site: String,
        batch: Batch,
        request: Request<Incoming>,
    ) -> Answer {
        if *method != Method::POST {
            return not_allowed("POST");
        }
        let soft = purging::effect(request.headers()) == Effect::Soft;
        let (tags, all) = match &batch {
            Batch::One(key) => match unescaped_path(key) {
                Some(key) => (vec![key], false),
                None => return malformed("bad_key", "the key is not percent-encoded UTF-8"),
            },
            Batch::Listed => match listed(request).await {
                Ok(keys) => (keys, false),
                Err(answer) => return *answer,
            },
            Batch::All => (Vec::new(), true),
        };
        let purge = PurgeRequest {
            tags: tags.clone(),
            all,
            soft,
            site: Some(site),
            ..PurgeRequest::default()
        };
        result(self.make(purge).await, |receipt| match batch {
            Batch::One(_) => ok(&json!({ "status": "ok", "id": receipt.id })),
            Batch::All => ok(&json!({ "status": "ok" })),
            Batch::Listed => {
                let id = |tag| (tag, Value::String(receipt.id.clone()));
                ok(&Value::Object(
                    tags.into_iter().map(id).collect::<Map<_, _>>(),
                ))
            }
        })
    }

    async fn make(&self, purge: PurgeRequest) -> Result<Receipt, Refusal> {
        let control = Arc::clone(&self.control);
        blocking(move || control.purge(&purge)).await
    }
}

/// A refusal in the words of the service whose form a call to `path` has.
pub(super) async fn in_words_of(path: &str, refusal: Answer) -> Answer {
    let is_cloudflares = path.starts_with("/client/v4/zones/") && path.ends_with("/purge_cache");
    match is_cloudflares {
        true => in_envelope(refusal).await,
        false => refusal,
    }
}

/// A refusal in Cloudflare's words.
async fn in_envelope(refusal: Answer) -> Answer {
    let (mut head, body) = refusal.into_parts();
    let body = body.collect().await.unwrap_or_default().to_bytes();
    let told: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name| {
        let text = told
            .get("error")
            .and_then(|error| error.get(name)?.as_str());
        text.unwrap_or_default()
    };
    let envelope = json!({
        "success": false,
        "errors": [{
            "code": head.status.as_u16(),
            "message": format!("{}; {}", text("message"), text("hint")),
        }],
        "messages": [],
        "result": null,
    });
    head.headers.remove(CONTENT_LENGTH);
    Answer::from_parts(head, Full::new(Bytes::from(format!("{envelope}\n"))))
}

/// The keys of a batch: of the field, and of the body.
async fn listed(request: Request<Incoming>) -> Result<Vec<String>, Box<Answer>> {
    let mut keys = in_field(request.headers())?;
    let asked: OfService = json_body(request).await?;
    keys.extend(asked.surrogate_keys);
    Ok(keys)
}

fn in_field(headers: &HeaderMap) -> Result<Vec<String>, Box<Answer>> {
    let text = |key: &[u8]| String::from_utf8(key.to_vec());
    let keys: Result<Vec<String>, _> = tagging::keys(headers).map(text).collect();
    keys.map_err(|_| Box::new(malformed("bad_key", "Surrogate-Key is not UTF-8")))
}

/// Decodes a segment of a path, in which `+` is itself.
fn unescaped_path(text: &str) -> Option<String> {
    unescaped(&text.replace('+', "%2B"))
}

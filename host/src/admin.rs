//! The admin API over HTTP: who may call, what each call means, and how errors look.
//!
//! Every error is `{"error": {"code", "message", "hint"}}`. The API does what `control` can do and
//! nothing more; calls that may take long run on a blocking thread, so that health and metrics
//! answer while a policy compiles.

mod entries;
mod foreign;
mod message;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use foreign::Batch;
use message::{
    Answer, Unread, body, error, json_answer, json_body, malformed, not_allowed, ok, only, refusal,
    result, text, unescaped,
};

use crate::control::{Control, PurgeRequest};
use crate::policy::hook::Hook;
use crate::policy::refusal::{Refusal, RefusalKind};
use crate::policy::registry::{Arrival, PolicyId};
use crate::tasks::Tasks;

/// Time for a request head.
const HEAD_TIME: std::time::Duration = std::time::Duration::from_secs(10);

/// What the admin API is started with.
#[derive(Debug)]
pub struct Admin {
    /// What it controls.
    pub control: Arc<Control>,
    /// What callers must present; none: any caller on this machine may call.
    pub token: Option<String>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Bytes of an uploaded policy.
    pub upload_bytes: usize,
    /// Whether the edge takes traffic: false before it listens, and while it drains.
    pub ready: Arc<AtomicBool>,
}

/// The body of a `use`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Use {
    hook: Option<Hook>,
    policy: String,
    #[serde(default)]
    params: Option<Map<String, Value>>,
}

/// The body of a `rollback`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RollBack {
    hook: Option<Hook>,
}

impl Admin {
    /// Serves until dropped.
    pub async fn serve(self, listener: TcpListener, tasks: Tasks) {
        let admin = Rc::new(self);
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "an admin connection could not be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            };
            let admin = Rc::clone(&admin);
            tasks.spawn(async move {
                let service = service_fn(move |request| {
                    let admin = Rc::clone(&admin);
                    async move { Ok::<_, Infallible>(admin.answer(request).await) }
                });
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIME)
                    .max_buf_size(64 << 10)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(error) = served {
                    tracing::debug!(%error, "an admin connection ended");
                }
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if let Err(refused) = self.admit(request.headers()) {
            return foreign::in_words_of(request.uri().path(), *refused).await;
        }
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match segments[..] {
            ["healthz"] => only(&method, &Method::GET, || {
                text(StatusCode::OK, "ok\n".to_owned())
            }),
            ["readyz"] => only(&method, &Method::GET, || self.ready()),
            ["metrics"] => only(&method, &Method::GET, || self.metrics()),
            ["v1", "stats"] => self.stats(&method).await,
            ["v1", "explain"] => self.explain(&method, request.uri().query()).await,
            ["v1", "policies"] => only(&method, &Method::GET, || self.list()),
            ["v1", "policies", name] => self.upload(&method, name.to_owned(), request).await,
            ["v1", "policies", ..] if method == Method::PUT => bad_name(segments.get(2..)),
            ["v1", "policies", name, version] => self.delete(&method, name, version).await,
            ["v1", "sites", site, "policy"] => {
                self.activate(&method, site.to_owned(), request).await
            }
            ["v1", "sites", site, "rollback"] => {
                self.roll_back(&method, site.to_owned(), request).await
            }
            ["v1", "purge"] => self.purge(&method, request).await,
            ["v1", "purge", id] => only(&method, &Method::GET, || self.receipt(id)),
            ["v1", "entries"] => self.entries(&method, request.uri().query()).await,
            ["v1", "scrub"] => self.scrub(&method).await,
            ["v1", "flush"] => self.flush(&method).await,
            ["client", "v4", "zones", site, "purge_cache"] => {
                self.purge_as_cloudflare(&method, site.to_owned(), request)
                    .await
            }
            ["service", site, "purge"] => {
                self.purge_as_fastly(&method, site.to_owned(), Batch::Listed, request)
                    .await
            }
            ["service", site, "purge", key] => {
                let batch = Batch::One(key.to_owned());
                self.purge_as_fastly(&method, site.to_owned(), batch, request)
                    .await
            }
            ["service", site, "purge_all"] => {
                self.purge_as_fastly(&method, site.to_owned(), Batch::All, request)
                    .await
            }
            _ => refusal(&Refusal::new(
                RefusalKind::NotFound,
                "no_such_call",
                format!("there is no call {path}"),
                "the calls are /v1/policies, /v1/sites/SITE/policy, /v1/sites/SITE/rollback, \
                 /v1/purge, /v1/entries, /v1/scrub, /v1/stats, /v1/explain, /v1/flush, /healthz, /readyz and /metrics",
            )),
        }
    }

    /// Who may call. A browser that was talked into calling sends `Origin`, or a `Host` that is
    /// not this one (DNS rebinding).
    fn admit(&self, headers: &HeaderMap) -> Result<(), Box<Answer>> {
        if headers.contains_key(ORIGIN) {
            let message = "requests from web pages are refused";
            let hint = "call without an Origin field";
            return Err(Box::new(error(
                StatusCode::FORBIDDEN,
                "web_origin",
                message,
                hint,
            )));
        }
        let text = |name| {
            headers
                .get(name)
                .map(HeaderValue::as_bytes)
                .unwrap_or_default()
        };
        if let Some(token) = &self.token {
            if bears(text(AUTHORIZATION), token) {
                return Ok(());
            }
            let message = "the token is missing or wrong";
            let hint = "send Authorization: Bearer TOKEN; the commands take --token-file";
            let mut answer = error(StatusCode::UNAUTHORIZED, "unauthorized", message, hint);
            let bearer = HeaderValue::from_static("Bearer");
            answer.headers_mut().insert(WWW_AUTHENTICATE, bearer);
            return Err(Box::new(answer));
        }
        let host = String::from_utf8_lossy(text(HOST));
        if names_this_machine(&host, self.address) {
            return Ok(());
        }
        let message = format!("the Host field names {host:?}, not this machine");
        let hint = "call the admin address itself, such as http://127.0.0.1:9080";
        Err(Box::new(error(
            StatusCode::FORBIDDEN,
            "foreign_host",
            &message,
            hint,
        )))
    }

    fn ready(&self) -> Answer {
        if self.ready.load(Ordering::Acquire) {
            // An optional tier that is not well makes requests slower, not impossible.
            let mut body = "ready\n".to_owned();
            for tier in self.control.tier_states().iter().skip(1) {
                body.extend([tier.name, ": ", tier.state]);
                let reason = tier.reason.iter();
                body.extend(reason.flat_map(|reason| [": ", reason.as_str()]));
                body.push('\n');
            }
            for (site, tiers) in self.control.failing_stores() {
                body.extend([
                    "site ",
                    &site,
                    ": the latest store failed: ",
                    &tiers.join(", "),
                ]);
                body.push('\n');
            }
            text(StatusCode::OK, body)
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned())
        }
    }

    fn metrics(&self) -> Answer {
        let mut answer = text(StatusCode::OK, self.control.metrics());
        let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        answer
    }

    async fn stats(&self, method: &Method) -> Answer {
        if *method != Method::GET {
            return not_allowed("GET");
        }
        // Waits for a change that is being made, which may be compiling.
        let control = Arc::clone(&self.control);
        result(blocking(move || Ok(control.stats())).await, |stats| {
            ok(&stats)
        })
    }

    async fn explain(&self, method: &Method, query: Option<&str>) -> Answer {
        if *method != Method::GET {
            return not_allowed("GET");
        }
        let (mut url, mut fields) = (None, Vec::new());
        for pair in query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(value) = unescaped(value) else {
                return malformed(
                    "bad_query",
                    &format!("{pair:?} is not percent-encoded UTF-8"),
                );
            };
            match name {
                "url" => url = Some(value),
                "header" => fields.push(value),
                _ => {
                    return malformed(
                        "bad_query",
                        &format!("{name:?} is not a parameter of explain"),
                    );
                }
            }
        }
        let Some(url) = url else {
            return malformed("bad_query", "the parameter url is missing");
        };
        let control = Arc::clone(&self.control);
        let report = blocking(move || control.explain(&url, &fields));
        result(report.await, |report| ok(&report))
    }

    fn list(&self) -> Answer {
        let policies: Vec<Value> = self
            .control
            .policies()
            .iter()
            .map(|policy| {
                json!({
                    "name": policy.id.name(),
                    "version": policy.id.version().to_string(),
                    "bytes": policy.bytes,
                    "hooks": policy.hooks,
                    "source": policy.source,
                })
            })
            .collect();
        ok(&json!({ "policies": policies }))
    }

    async fn upload(&self, method: &Method, name: String, request: Request<Incoming>) -> Answer {
        if *method != Method::PUT {
            return not_allowed("PUT");
        }
        if let Err(refused) = crate::policy::registry::check_name(&name) {
            return refusal(&refused);
        }
        let wasm = match body(request, self.upload_bytes).await {
            Ok(wasm) => wasm,
            Err(Unread::TooLarge) => {
                return refusal(&Refusal::new(
                    RefusalKind::TooLarge,
                    "too_large",
                    format!("the component is larger than {} bytes", self.upload_bytes),
                    "build it with opt-level 3, lto and strip, or raise limits.policy_upload",
                ));
            }
            Err(Unread::Broken) => {
                return malformed("broken_body", "the upload broke off");
            }
        };
        let control = Arc::clone(&self.control);
        let pushed = blocking(move || control.push(&name, &wasm)).await;
        result(pushed, |report| {
            let pushed = report.pushed;
            let mut answer = json!({
                "name": pushed.id.name(),
                "version": pushed.id.version().to_string(),
                "bytes": pushed.bytes,
                "hooks": pushed.hooks,
            });
            if !report.warnings.is_empty()
                && let Value::Object(answer) = &mut answer
            {
                answer.insert("warnings".to_owned(), json!(report.warnings));
            }
            let status = match pushed.arrival {
                Arrival::New => StatusCode::CREATED,
                Arrival::Known => StatusCode::OK,
            };
            json_answer(status, &answer)
        })
    }

    async fn delete(&self, method: &Method, name: &str, version: &str) -> Answer {
        if *method != Method::DELETE {
            return not_allowed("DELETE");
        }
        let id: Result<PolicyId, _> = format!("{name}@{version}").parse();
        let control = Arc::clone(&self.control);
        let deleted = blocking(move || id.and_then(|id| control.delete(&id))).await;
        result(deleted, |()| {
            ok(&json!({ "name": name, "version": version, "deleted": true }))
        })
    }

    async fn activate(&self, method: &Method, site: String, request: Request<Incoming>) -> Answer {
        if *method != Method::POST {
            return not_allowed("POST");
        }
        let asked: Use = match json_body(request).await {
            Ok(asked) => asked,
            Err(answer) => return *answer,
        };
        let control = Arc::clone(&self.control);
        let changed = blocking(move || {
            control.activate(
                &site,
                asked.hook,
                &asked.policy,
                asked.params.unwrap_or_default(),
            )
        });
        result(changed.await, |changed| ok(&json!(changed)))
    }

    async fn roll_back(&self, method: &Method, site: String, request: Request<Incoming>) -> Answer {
        if *method != Method::POST {
            return not_allowed("POST");
        }
        let asked: RollBack = match json_body(request).await {
            Ok(asked) => asked,
            Err(answer) => return *answer,
        };
        let control = Arc::clone(&self.control);
        let changed = blocking(move || control.roll_back(&site, asked.hook)).await;
        result(changed, |changed| ok(&json!(changed)))
    }

    async fn purge(&self, method: &Method, request: Request<Incoming>) -> Answer {
        if *method != Method::POST {
            return not_allowed("POST");
        }
        let asked: PurgeRequest = match json_body(request).await {
            Ok(asked) => asked,
            Err(answer) => return *answer,
        };
        let control = Arc::clone(&self.control);
        let receipt = blocking(move || control.purge(&asked)).await;
        result(receipt, |receipt| ok(&json!(receipt)))
    }

    fn receipt(&self, id: &str) -> Answer {
        let receipt = self.control.receipt(id).ok_or_else(|| {
            let message = format!("no receipt {id:?} is kept");
            Refusal::new(
                RefusalKind::NotFound,
                "unknown_purge",
                message,
                "the last 1,024 of this process are; the purge itself stays in force",
            )
        });
        result(receipt, |receipt| ok(&json!(receipt)))
    }

    async fn flush(&self, method: &Method) -> Answer {
        if *method != Method::POST {
            return not_allowed("POST");
        }
        let control = Arc::clone(&self.control);
        let flushed = blocking(move || {
            control.flush();
            Ok(())
        });
        result(flushed.await, |()| ok(&json!({ "flushed": true })))
    }
}

/// A name with a slash in it reaches the router as several segments.
fn bad_name(segments: Option<&[&str]>) -> Answer {
    let name = segments.unwrap_or_default().join("/");
    result(crate::policy::registry::check_name(&name), |()| {
        malformed("bad_name", "the name is malformed")
    })
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        let hint = "see the log; nothing was changed by this call";
        Err(Refusal::new(
            RefusalKind::Host,
            "internal",
            "the call failed within the host",
            hint,
        ))
    })
}

/// Whether `presented` is `Bearer` and the token. Takes the same time wherever the two differ.
fn bears(presented: &[u8], token: &str) -> bool {
    let presented = presented.strip_prefix(b"Bearer ").unwrap_or_default();
    // Equal hashes of both, compared in constant time by blake3, hide the length as well.
    blake3::hash(presented) == blake3::hash(token.as_bytes()) && !token.is_empty()
}

/// Whether `host` is a name that only callers on this machine use, or the address itself.
fn names_this_machine(host: &str, address: SocketAddr) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let literal = name.trim_start_matches('[').trim_end_matches(']');
    let ip: Option<std::net::IpAddr> = literal.parse().ok();
    name.eq_ignore_ascii_case("localhost")
        || ip.is_some_and(|ip| ip.is_loopback() || ip == address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_this_machine() {
        let address: SocketAddr = "127.0.0.1:9080".parse().expect("an address");
        for own in [
            "127.0.0.1:9080",
            "localhost:9080",
            "LOCALHOST",
            "[::1]:9080",
            "127.0.0.1",
        ] {
            assert!(names_this_machine(own, address), "{own}");
        }
        for foreign in [
            "",
            "example.com",
            "example.com:9080",
            "127.0.0.1.example.com",
            "10.0.0.1",
        ] {
            assert!(!names_this_machine(foreign, address), "{foreign}");
        }
    }

    #[test]
    fn tokens_are_compared_whole() {
        assert!(bears(b"Bearer secret", "secret"));
        for wrong in [
            &b"Bearer secre"[..],
            b"Bearer secret ",
            b"secret",
            b"",
            b"bearer secret",
        ] {
            assert!(!bears(wrong, "secret"));
        }
        assert!(!bears(b"Bearer ", ""));
    }
}

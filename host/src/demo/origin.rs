//! The demo's origin: a small site made up at start, served over real sockets.
//!
//! Every resource has validators and a lifetime, as a well-kept site has, and articles take a
//! moment to be made. The query changes nothing, so the cache alone decides what it costs. Every
//! request that arrives is counted here, apart from anything that the edge says about itself.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::clock;
use crate::metrics::Counter;
use crate::tasks::Tasks;

/// Articles on the site.
pub(super) const ARTICLES: u64 = 40;
/// Its other resources.
pub(super) const ASSETS: [&str; 2] = ["/assets/site.css", "/assets/site.js"];
/// Its large one.
pub(super) const ARCHIVE: &str = "/files/archive.bin";
/// Bytes of the large one.
const ARCHIVE_BYTES: usize = 1 << 20;
/// What an article costs to make.
const THINKING: Duration = Duration::from_millis(2);
/// How old everything claims to be.
const UNCHANGED_FOR: Duration = Duration::from_hours(24);

/// One resource.
#[derive(Debug)]
struct Resource {
    kind: &'static str,
    body: Bytes,
    tag: String,
    cost: Duration,
}

/// The site's content, by path.
#[derive(Debug)]
pub(super) struct Content(BTreeMap<String, Resource>);

impl Content {
    /// Makes it up.
    pub(super) fn generate() -> Self {
        let mut content = BTreeMap::new();
        let mut add = |path: String, kind, body: Vec<u8>, cost| {
            let tag = format!("\"{}\"", blake3::hash(&body).to_hex().split_at(16).0);
            content.insert(
                path,
                Resource {
                    kind,
                    body: body.into(),
                    tag,
                    cost,
                },
            );
        };
        for number in 1..=ARTICLES {
            let text = format!("<p>Paragraph of article {number}.</p>\n").repeat(80);
            let page = format!("<!doctype html>\n<title>Article {number}</title>\n{text}");
            add(article(number), "text/html", page.into_bytes(), THINKING);
        }
        for path in ASSETS {
            let kind = if path.ends_with("css") {
                "text/css"
            } else {
                "text/javascript"
            };
            let text = format!("/* {path} */\n").repeat(600);
            add(path.to_owned(), kind, text.into_bytes(), Duration::ZERO);
        }
        let archive = (0..=u8::MAX).cycle().take(ARCHIVE_BYTES).collect();
        add(
            ARCHIVE.to_owned(),
            "application/octet-stream",
            archive,
            Duration::ZERO,
        );
        Self(content)
    }

    /// The body at the path of `target`.
    pub(super) fn body(&self, target: &str) -> Option<&Bytes> {
        self.resource(target).map(|resource| &resource.body)
    }

    /// How many resources there are, and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (
            self.0.len(),
            self.0.values().map(|resource| resource.body.len()).sum(),
        )
    }

    fn resource(&self, target: &str) -> Option<&Resource> {
        self.0.get(target.split('?').next().unwrap_or_default())
    }
}

/// The path of an article.
pub(super) fn article(number: u64) -> String {
    format!("/articles/{number}")
}

/// The running origin.
#[derive(Debug)]
pub(super) struct Origin {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Requests that arrived.
    pub(super) requests: Arc<Counter>,
}

impl Origin {
    /// Serves `content` on a free port, by tasks of the runtime of the caller.
    pub(super) async fn start(content: Arc<Content>, tasks: &Tasks) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let requests = Arc::new(Counter::default());
        tasks.spawn(accept(
            listener,
            content,
            Arc::clone(&requests),
            tasks.clone(),
        ));
        Ok(Self { address, requests })
    }
}

async fn accept(
    listener: TcpListener,
    content: Arc<Content>,
    requests: Arc<Counter>,
    tasks: Tasks,
) {
    let modified = httpdate::fmt_http_date(clock::wall() - UNCHANGED_FOR);
    // A failed accept ends the origin; the clients' requests then tell so.
    while let Ok((stream, _)) = listener.accept().await {
        // Small answers must not wait for an acknowledgement; without this it is only slower.
        drop(stream.set_nodelay(true));
        let (content, requests) = (Arc::clone(&content), Arc::clone(&requests));
        let modified = modified.clone();
        tasks.spawn(async move {
            let service = service_fn(|request| {
                requests.increment();
                answer(request, &content, &modified)
            });
            // How a connection ends matters to nobody.
            drop(
                http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    content: &Content,
    modified: &str,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    let Some(resource) = content.resource(request.uri().path()) else {
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    };
    tokio::time::sleep(resource.cost).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, resource.kind),
        (CACHE_CONTROL, "max-age=60"),
        (ETAG, &resource.tag),
        (LAST_MODIFIED, modified),
    ] {
        headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
    }
    let known = request.headers().get(IF_NONE_MATCH);
    if known.is_some_and(|tag| tag.as_bytes() == resource.tag.as_bytes()) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = Full::new(resource.body.clone());
    }
    Ok(response)
}

//! HTTP towards the service: HTTP/1.1 over TCP and TLS by hyper and rustls, as everything else
//! here, in place of the client that the store's library would bring along.
//!
//! Certificates are verified against those of the system, or of `SSL_CERT_FILE` and
//! `SSL_CERT_DIR`. Proxies are not used. Connections are kept for 20 s, 32 a host at most.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector as Tcp};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use super::location::OpenError;
use super::settings::Environment;
use crate::clock;

/// Bytes of a response that are read: more than anything that is ever asked for.
const RESPONSE_MAX: usize = 64 << 20;
/// Connections to one host that wait for the next request.
const IDLE_MAX: usize = 32;
/// How long they do.
const IDLE: Duration = Duration::from_secs(20);

/// The store wants fewer requests: 429, or 503.
#[derive(Debug, thiserror::Error)]
#[error("the store wants fewer requests ({status})")]
pub(super) struct Throttled {
    status: StatusCode,
    /// For how long it wants none, if it said so (RFC 9110 10.2.3).
    pub(super) pause: Option<Duration>,
}

/// Makes the clients that the store's library asks for.
#[derive(Clone)]
pub(super) struct Connector {
    connect: Duration,
    tls: Arc<ClientConfig>,
}

impl Connector {
    /// One whose connections must be made within `connect`, to services whose certificates the
    /// system knows, or `environment` instead.
    ///
    /// # Errors
    /// The cryptography cannot be set up.
    pub(super) fn new(connect: Duration, environment: &Environment) -> Result<Self, OpenError> {
        let [file, directory] = ["SSL_CERT_FILE", "SSL_CERT_DIR"]
            .map(|name| environment.get(name).map(std::path::Path::new));
        let found = match file.or(directory) {
            Some(_) => rustls_native_certs::load_certs_from_paths(file, directory),
            None => rustls_native_certs::load_native_certs(),
        };
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        let provider = Arc::new(ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(OpenError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            connect,
            tls: Arc::new(tls),
        })
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp);
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.connect));
        let secure = Secure {
            tcp,
            tls: TlsConnector::from(Arc::clone(&self.tls)),
            allow_http: allow_http.is_some_and(|allow| allow.eq_ignore_ascii_case("true")),
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(secure);
        Ok(HttpClient::new(Requests(client)))
    }
}

struct Requests(Client<Secure, HttpRequestBody>);

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Requests {
    fn call<'a, 'b>(&'a self, request: HttpRequest) -> Answer<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let response = self.0.request(request).await.map_err(failed)?;
            let (head, body) = response.into_parts();
            if let Some(throttled) = throttled(head.status, &head.headers) {
                return Err(HttpError::new(HttpErrorKind::Unknown, throttled));
            }
            let body = Limited::new(body, RESPONSE_MAX);
            let interrupted = |error| HttpError::new_boxed(HttpErrorKind::Interrupted, error);
            let body = HttpResponseBody::new(body.map_err(interrupted));
            Ok(HttpResponse::from_parts(head, body))
        })
    }
}

fn failed(error: Error) -> HttpError {
    let kind = match error.is_connect() {
        true => HttpErrorKind::Connect,
        false => HttpErrorKind::Interrupted,
    };
    HttpError::new(kind, error)
}

/// Seconds, or a date (RFC 9110 10.2.3).
fn throttled(status: StatusCode, headers: &HeaderMap) -> Option<Throttled> {
    if ![
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE,
    ]
    .contains(&status)
    {
        return None;
    }
    let after = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    let pause = after.and_then(|after| {
        let seconds = after.parse().map(Duration::from_secs).ok();
        seconds.or_else(|| {
            let date = httpdate::parse_http_date(after).ok()?;
            Some(date.duration_since(clock::wall()).unwrap_or_default())
        })
    });
    Some(Throttled { status, pause })
}

/// Connects, and encrypts unless the URL says otherwise and that is allowed.
#[derive(Clone)]
struct Secure {
    tcp: Tcp,
    tls: TlsConnector,
    allow_http: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("an unencrypted endpoint is not used unless it is allowed (AWS_ALLOW_HTTP=true)")]
    Unencrypted,
    #[error("the endpoint has no name that a certificate could bear")]
    Name,
    #[error("no connection to the endpoint")]
    Tcp(#[source] <Tcp as Service<Uri>>::Error),
    #[error("no encrypted connection to the endpoint")]
    Tls(#[source] std::io::Error),
}

impl Service<Uri> for Secure {
    type Response = Stream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, ConnectError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.tcp.poll_ready(cx).map_err(ConnectError::Tcp)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let encrypted = uri.scheme_str() != Some("http");
        if !encrypted && !self.allow_http {
            return Box::pin(std::future::ready(Err(ConnectError::Unencrypted)));
        }
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned());
        let (tcp, tls) = (self.tcp.call(uri), self.tls.clone());
        Box::pin(async move {
            let tcp = tcp.await.map_err(ConnectError::Tcp)?;
            if !encrypted {
                return Ok(Stream::Plain(tcp));
            }
            let name = name.map_err(|_| ConnectError::Name)?;
            let stream = tls.connect(name, tcp.into_inner()).await;
            let stream = stream.map_err(ConnectError::Tls)?;
            Ok(Stream::Tls(Box::new(TokioIo::new(stream))))
        })
    }
}

/// The byte stream of a connection.
enum Stream {
    Plain(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, room),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, room),
        }
    }
}

impl Write for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_store_that_wants_fewer_requests_is_understood() {
        let check = |status: u16, after: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(after) = after {
                headers.insert(RETRY_AFTER, HeaderValue::from_static(after));
            }
            throttled(StatusCode::from_u16(status).unwrap(), &headers).map(|it| it.pause)
        };
        let seconds = |seconds| Some(Some(Duration::from_secs(seconds)));
        assert_eq!(check(429, Some("7")), seconds(7));
        assert_eq!(check(503, Some("0")), seconds(0));
        assert_eq!(check(503, None), Some(None));
        assert_eq!(check(429, Some("soon")), Some(None));
        assert_eq!(
            check(429, Some("Sun, 06 Nov 1994 08:49:37 GMT")),
            seconds(0)
        );
        let ahead = check(429, Some("Fri, 31 Dec 9999 23:59:59 GMT"));
        assert!(ahead.unwrap().unwrap() > Duration::from_hours(24));
        assert_eq!(check(500, Some("7")), None);
        assert_eq!(check(200, None), None);
    }
}

//! Origins that speak TLS and HTTP/2, and the authority that signs their certificates.
//!
//! One thread a connection, each with a runtime of its own, so that they are as blunt as the
//! scripted origin.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use larder::tasks::LocalExecutor;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, LocalOptions};
use tokio_rustls::TlsAcceptor;

use super::origin::Origin;
use super::pattern;

/// Signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        // Two authorities of one name would be taken for each other until a signature is checked.
        let name = format!("authority {:?}", &key.public_key_raw()[..16]);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Its certificate, as `origin_ca` takes it.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server with a certificate for `name` that offers `protocols`.
    pub(crate) fn server(&self, name: &str, protocols: &[&str]) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a pair");
        config.alpn_protocols = protocols.iter().map(|name| (*name).into()).collect();
        Arc::new(config)
    }
}

/// Accepts connections on a free port and serves each by `serve` on a thread of its own.
pub(crate) fn accept(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

fn block_on(work: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    runtime.expect("a runtime").block_on(work);
}

fn to_tokio(stream: TcpStream) -> tokio::net::TcpStream {
    stream.set_nonblocking(true).expect("a socket option");
    stream.set_nodelay(true).expect("a socket option");
    tokio::net::TcpStream::from_std(stream).expect("a socket")
}

/// Takes TLS off in front of `origin`; where it listens. Connections whose client does not agree
/// end there.
pub(crate) fn tls_before(origin: &Origin, config: Arc<ServerConfig>) -> SocketAddr {
    let behind = origin.address();
    accept(move |stream| {
        let acceptor = TlsAcceptor::from(Arc::clone(&config));
        block_on(async move {
            let Ok(mut front) = acceptor.accept(to_tokio(stream)).await else {
                return;
            };
            let back = tokio::net::TcpStream::connect(behind).await;
            let mut back = back.expect("the origin listens");
            // How either side ends is the business of the test.
            drop(tokio::io::copy_bidirectional(&mut front, &mut back).await);
        });
    })
}

/// A request as an origin over HTTP/2 received it.
#[derive(Clone, Debug)]
pub(crate) struct AskedHttp2 {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An origin over HTTP/2 that answers every request with its own path and body, and one for
/// `/large/N` with `N` bytes of the pattern.
pub(crate) struct Http2Origin {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<AskedHttp2>>>,
    connections: Arc<AtomicUsize>,
}

impl Http2Origin {
    /// With prior knowledge, or over TLS.
    pub(crate) fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (remembers, counts) = (Arc::clone(&asked), Arc::clone(&connections));
        let address = accept(move |stream| {
            let (tls, asked) = (tls.clone(), Arc::clone(&remembers));
            counts.fetch_add(1, Ordering::SeqCst);
            block_on(async move {
                let stream = to_tokio(stream);
                match tls {
                    None => serve_http2(stream, asked).await,
                    Some(config) => {
                        if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                            serve_http2(stream, asked).await;
                        }
                    }
                }
            });
        });
        Self {
            address,
            asked,
            connections,
        }
    }

    /// Every request so far.
    pub(crate) fn asked(&self) -> Vec<AskedHttp2> {
        self.asked.lock().expect("sound").clone()
    }

    /// Number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve_http2<S>(stream: S, asked: Arc<Mutex<Vec<AskedHttp2>>>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let answer = service_fn(move |request: Request<Incoming>| {
        let asked = Arc::clone(&asked);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.expect("a whole body").to_bytes();
            let path = head.uri.path();
            let content = match path.strip_prefix("/large/") {
                Some(length) => pattern::bytes(length.parse().expect("a length")).into(),
                None => format!("{path} {}", String::from_utf8_lossy(&body)).into(),
            };
            asked.lock().expect("sound").push(AskedHttp2 {
                method: head.method,
                uri: head.uri,
                headers: head.headers,
                body,
            });
            let response = Response::builder().header("x-protocol", "h2");
            Ok::<_, Infallible>(
                response
                    .body(Full::<Bytes>::new(content))
                    .expect("a response"),
            )
        }
    });
    let connection =
        http2::Builder::new(LocalExecutor).serve_connection(TokioIo::new(stream), answer);
    // How the other side ends is its business.
    drop(connection.await);
}

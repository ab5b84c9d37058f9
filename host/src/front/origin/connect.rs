//! Makes a connection to one address: TCP, TLS, HTTP.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::http1;
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::fault::{Chain, Fault};
use super::h2::{self, Channel};
use super::metrics::OriginMetrics;
use super::outgoing::Outgoing;
use super::pool::Alone;
use super::tls;
use super::upstream::{Endpoint, Upstream};
use crate::config::OriginProtocol;
use crate::tasks::LocalExecutor;

/// Bytes buffered for each HTTP/1 connection, at most; a response head must fit.
const BUFFER_BYTES: usize = 256 << 10;
/// Fields of a response over HTTP/1, at most.
const FIELDS_MAX: usize = 512;
/// How often the kernel asks whether a quiet connection is alive.
const KEEP_ALIVE: Duration = Duration::from_mins(1);

/// A connection over the protocol that was agreed on.
pub(super) enum Dialled {
    Http1(Alone),
    Http2(Channel),
}

/// Connects to `endpoint` of `upstream` within `limit`.
pub(super) async fn dial(
    upstream: &Upstream,
    endpoint: &Endpoint,
    limit: Duration,
    metrics: &Arc<OriginMetrics>,
) -> Result<Dialled, Fault> {
    match tokio::time::timeout(limit, connect(upstream, endpoint, metrics)).await {
        Ok(dialled) => dialled,
        Err(_) => Err(Fault::ConnectTimedOut),
    }
}

async fn connect(
    upstream: &Upstream,
    endpoint: &Endpoint,
    metrics: &Arc<OriginMetrics>,
) -> Result<Dialled, Fault> {
    let socket = TcpStream::connect(endpoint.address)
        .await
        .map_err(Fault::Connect)?;
    let open = Open::new(metrics);
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE);
    socket
        .set_nodelay(true)
        .and_then(|()| SockRef::from(&socket).set_tcp_keepalive(&keep_alive))
        .map_err(Fault::Connect)?;
    let (stream, agreed) = match &upstream.tls {
        None => (Stream::Plain(socket), None),
        Some(config) => {
            let stream = begin_tls(config, endpoint, socket)
                .await
                .map_err(Fault::Tls)?;
            let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            (Stream::Tls(Box::new(stream)), agreed)
        }
    };
    let over_http2 = match upstream.protocol() {
        OriginProtocol::Auto => agreed.as_deref() == Some(tls::H2),
        OriginProtocol::Http1 => false,
        OriginProtocol::H2 if upstream.tls.is_some() && agreed.as_deref() != Some(tls::H2) => {
            return Err(Fault::Unsound("the origin does not offer HTTP/2"));
        }
        OriginProtocol::H2 => true,
    };
    let heard = Rc::new(Cell::new(false));
    let wire = Wire {
        stream,
        heard: Rc::clone(&heard),
    };
    endpoint.chose(over_http2);
    if over_http2 {
        h2::begin(wire, heard, open).await.map(Dialled::Http2)
    } else {
        let sender = speak_http1(wire, open).await?;
        Ok(Dialled::Http1(Alone { sender, heard }))
    }
}

async fn begin_tls(
    config: &Arc<ClientConfig>,
    endpoint: &Endpoint,
    socket: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let Some(name) = endpoint.name.clone() else {
        return Err(io::Error::other("no certificate can be for its name"));
    };
    let connector = TlsConnector::from(Arc::clone(config));
    connector.connect(name, socket).await
}

async fn speak_http1(wire: Wire, open: Open) -> Result<http1::SendRequest<Outgoing>, Fault> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER_BYTES)
        .max_headers(FIELDS_MAX)
        .handshake(TokioIo::new(wire))
        .await
        .map_err(|error| Fault::Broken(Box::new(error)))?;
    LocalExecutor.execute(until_closed(connection, open));
    Ok(sender)
}

async fn until_closed(connection: impl Future<Output = hyper::Result<()>>, open: Open) {
    if let Err(error) = connection.await {
        tracing::debug!(error = %Chain(&error), "a connection to an origin broke");
    }
    drop(open);
}

/// Counts as an open connection until it drops.
struct Open(Arc<OriginMetrics>);

impl Open {
    fn new(metrics: &Arc<OriginMetrics>) -> Self {
        metrics.connections.increment();
        Self(Arc::clone(metrics))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections_closed.increment();
    }
}

/// A connection that remembers whether it brought anything.
struct Wire {
    stream: Stream,
    heard: Rc<Cell<bool>>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        let before = buffer.filled().len();
        let read = match &mut wire.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        if buffer.filled().len() > before {
            wire.heard.set(true);
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

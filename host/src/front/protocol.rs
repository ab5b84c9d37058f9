//! Which protocol a connection speaks: TLS first where that is listened for, then what was
//! negotiated with it; on a plain connection HTTP/2 if it begins with that protocol's preface
//! (RFC 9113 3.3), else HTTP/1.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Poll;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::authority::Scheme;
use super::connections::{ConnectionLimits, Connections, Order, Watched};
use super::exchange::Client;
use super::h1;
use super::h2;
use super::tls;
use super::transport::Transport;
use super::worker::Worker;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// A connection that was accepted.
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// The client's address.
    pub address: IpAddr,
    /// The server's side of TLS, where the connection is to begin with it.
    pub tls: Option<TlsAcceptor>,
}

impl std::fmt::Debug for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accepted")
            .field("stream", &self.stream)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

/// Serves `accepted` until it ends.
pub async fn serve(
    worker: Rc<Worker>,
    connections: Rc<Connections>,
    limits: ConnectionLimits,
    accepted: Accepted,
) {
    let watched = connections.open();
    let client = |scheme| Client {
        address: accepted.address,
        scheme,
    };
    let begun = match accepted.tls {
        None => {
            let transport = Transport::Plain(accepted.stream);
            let begun = first_bytes(transport, &watched).await;
            begun.map(|(transport, received)| {
                let protocol = match received.starts_with(h2::frames::PREFACE) {
                    true => Protocol::Http2,
                    false => Protocol::Http1,
                };
                (transport, client(Scheme::Http), received, protocol)
            })
        }
        Some(tls) => {
            let begun = handshake(&tls, accepted.stream, &watched).await;
            if let Some(Err(error)) = &begun {
                worker.edge.metrics.tls_failures.increment();
                tracing::debug!(%error, client = %accepted.address, "a TLS handshake failed");
            }
            begun.and_then(Result::ok).map(|(transport, protocol)| {
                (transport, client(Scheme::Https), Vec::new(), protocol)
            })
        }
    };
    let Some((transport, client, received, protocol)) = begun else {
        return;
    };
    match protocol {
        Protocol::Http1 => {
            drop(watched);
            let wire = (transport, client);
            h1::Connection::new(&worker, &connections, &limits, wire, received).await;
        }
        Protocol::Http2 => {
            let wire = (transport, client);
            Box::pin(h2::serve(&worker, watched, &limits, wire, received)).await;
        }
    }
}

/// Waits for `what`, unless the connection is to end first.
async fn unless_over<T>(watched: &Watched, what: impl Future<Output = T>) -> Option<T> {
    let mut what = std::pin::pin!(what);
    poll_fn(|cx| match watched.order(cx.waker()) {
        Order::GoOn => what.as_mut().poll(cx).map(Some),
        Order::Drain | Order::Close => Poll::Ready(None),
    })
    .await
}

/// Begins TLS. It has the time for a request head.
async fn handshake(
    tls: &TlsAcceptor,
    stream: TcpStream,
    watched: &Watched,
) -> Option<io::Result<(Transport, Protocol)>> {
    watched.head_arrives(true);
    let begun = unless_over(watched, Box::pin(tls.accept(stream))).await?;
    watched.head_arrives(false);
    watched.moved();
    Some(begun.map(|stream| {
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(tls::HTTP2) => Protocol::Http2,
            _ => Protocol::Http1,
        };
        (Transport::tls(stream), protocol)
    }))
}

/// Receives until it is clear whether the preface of HTTP/2 is coming.
async fn first_bytes(mut transport: Transport, watched: &Watched) -> Option<(Transport, Vec<u8>)> {
    let mut received = Vec::new();
    let arriving = poll_fn(|cx| {
        loop {
            let mut room = watched.all().received();
            match std::task::ready!(transport.poll_receive(cx, &mut room)) {
                Ok(0) | Err(_) => return Poll::Ready(false),
                Ok(count) => received.extend_from_slice(room.get(..count).unwrap_or_default()),
            }
            let undecided = h2::frames::PREFACE.starts_with(&received)
                && received.len() < h2::frames::PREFACE.len();
            if !undecided {
                return Poll::Ready(true);
            }
            watched.head_arrives(true);
        }
    });
    let decided = unless_over(watched, arriving).await?;
    watched.head_arrives(false);
    // Less than a preface was no request of any kind.
    decided.then_some((transport, received))
}

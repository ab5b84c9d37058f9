//! Clients of HTTP/2: one that keeps to the protocol, and the bytes for one that does not.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, StatusCode, response};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::PATIENCE;
use super::client::HOST;
use super::tls::Offer;

/// A connection that keeps to the protocol.
pub(crate) struct Http2 {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
    connection: Pin<Box<dyn Future<Output = Result<(), h2::Error>>>>,
    ended: Option<Result<(), h2::Error>>,
    scheme: &'static str,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: response::Parts,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    pub(crate) fn field(&self, name: &str) -> &str {
        let value = self.head.headers.get(name);
        value.map_or("", |value| value.to_str().expect("ASCII"))
    }

    pub(crate) fn is_hit(&self) -> bool {
        self.field("cache-status").starts_with("larder; hit")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request for `target` of [`HOST`].
pub(crate) fn request(
    method: &str,
    scheme: &str,
    target: &str,
    fields: &[(&str, &str)],
) -> Request<()> {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{scheme}://{HOST}{target}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

impl Http2 {
    /// Connects in the clear.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &Builder::new())
    }

    pub(crate) fn connect_with(address: SocketAddr, builder: &Builder) -> Self {
        let runtime = runtime();
        let (sender, connection) = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.expect("the edge listens");
            let begun = builder.handshake::<_, Bytes>(stream).await;
            let (sender, connection) = begun.expect("HTTP/2");
            let connection: Pin<Box<dyn Future<Output = _>>> = Box::pin(connection);
            (sender, connection)
        });
        Self {
            runtime,
            sender,
            connection,
            ended: None,
            scheme: "http",
        }
    }

    /// Connects with TLS.
    pub(crate) fn connect_tls(address: SocketAddr, offer: &Offer) -> Self {
        let runtime = runtime();
        let connector = tokio_rustls::TlsConnector::from(offer.clone().alpn(&["h2"]).config());
        let (sender, connection) = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.expect("the edge listens");
            let stream = connector.connect(offer.server_name(), stream).await;
            let stream = stream.expect("a handshake");
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let begun = h2::client::handshake(stream).await;
            let (sender, connection) = begun.expect("HTTP/2");
            let connection: Pin<Box<dyn Future<Output = _>>> = Box::pin(connection);
            (sender, connection)
        });
        Self {
            runtime,
            sender,
            connection,
            ended: None,
            scheme: "https",
        }
    }

    /// Runs `work` while the connection goes on.
    pub(crate) fn run<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = Box::pin(work);
        let (connection, ended) = (&mut self.connection, &mut self.ended);
        let both = poll_fn(|cx| {
            if ended.is_none()
                && let Poll::Ready(end) = connection.as_mut().poll(cx)
            {
                *ended = Some(end);
            }
            let done = work.as_mut().poll(cx);
            // What it has sent goes out before anybody waits for what comes of it.
            if done.is_ready()
                && ended.is_none()
                && let Poll::Ready(end) = connection.as_mut().poll(cx)
            {
                *ended = Some(end);
            }
            done
        });
        let limited = async { tokio::time::timeout(PATIENCE, both).await };
        self.runtime.block_on(limited).expect("patience ended")
    }

    /// Waits until the edge ends the connection, and how.
    pub(crate) fn ended(&mut self) -> Result<(), h2::Error> {
        if self.ended.is_none() {
            let connection = &mut self.connection;
            let limited = async { tokio::time::timeout(PATIENCE, connection).await };
            let end = self.runtime.block_on(limited).expect("it does not end");
            self.ended = Some(end);
        }
        self.ended.take().expect("ended")
    }

    /// Sends a request without content; its answer to come.
    pub(crate) fn send(&mut self, request: Request<()>) -> h2::client::ResponseFuture {
        let (answer, _) = self.begin(request, true);
        answer
    }

    /// Sends the head of a request.
    pub(crate) fn begin(
        &mut self,
        request: Request<()>,
        ends: bool,
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let mut sender = self.sender.clone();
        self.run(async move {
            poll_fn(|cx| sender.poll_ready(cx)).await.expect("open");
            sender.send_request(request, ends).expect("sent")
        })
    }

    /// The whole of an answer.
    pub(crate) fn answer(
        &mut self,
        answer: h2::client::ResponseFuture,
    ) -> Result<Answer, h2::Error> {
        self.run(whole(answer))
    }

    /// The answers to all of `requests`, sent at once.
    pub(crate) fn all(&mut self, requests: Vec<Request<()>>) -> Vec<Answer> {
        let mut waited: Vec<_> = requests
            .into_iter()
            .map(|one| (Box::pin(whole(self.send(one))), None))
            .collect();
        self.run(poll_fn(|cx| {
            for (answer, done) in &mut waited {
                if done.is_none()
                    && let Poll::Ready(answer) = answer.as_mut().poll(cx)
                {
                    *done = Some(answer.expect("an answer"));
                }
            }
            match waited.iter().all(|(_, done)| done.is_some()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }));
        waited.into_iter().filter_map(|(_, done)| done).collect()
    }

    pub(crate) fn request(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, h2::Error> {
        let request = request(method, self.scheme, target, fields);
        let (answer, mut stream) = self.begin(request, body.is_empty());
        let body = Bytes::copy_from_slice(body);
        self.run(async move {
            if !body.is_empty() {
                stream.send_data(body, true)?;
            }
            whole(answer).await
        })
    }

    pub(crate) fn get(&mut self, target: &str) -> Answer {
        self.get_with(target, &[])
    }

    pub(crate) fn get_with(&mut self, target: &str, fields: &[(&str, &str)]) -> Answer {
        self.request("GET", target, fields, b"").expect("an answer")
    }
}

async fn whole(answer: h2::client::ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut stream) = answer.await?.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece?;
        stream.flow_control().release_capacity(piece.len())?;
        body.extend_from_slice(&piece);
    }
    Ok(Answer { head, body })
}

/// Reads nothing of an answer but its head.
pub(crate) async fn head_only(
    answer: h2::client::ResponseFuture,
) -> Result<(StatusCode, HeaderMap, RecvStream), h2::Error> {
    let (head, stream) = answer.await?.into_parts();
    Ok((head.status, head.headers, stream))
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [.., high, middle, low] = payload.len().to_be_bytes();
    let mut frame = vec![high, middle, low, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The bytes with which a client begins.
pub(crate) fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, b""));
    bytes
}

/// A header block, field by field and not compressed (RFC 7541 6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            match text.len() {
                length @ 0..127 => block.push(u8::try_from(length).expect("short")),
                // RFC 7541 5.1: more than fits into seven bits, in groups of seven.
                mut length => {
                    block.push(127);
                    length -= 127;
                    while length >= 128 {
                        block.push(u8::try_from(length % 128 + 128).expect("a byte"));
                        length /= 128;
                    }
                    block.push(u8::try_from(length).expect("a byte"));
                }
            }
            block.extend(text.as_bytes());
        }
    }
    block
}

/// The pseudo-fields of a GET for `/a`.
pub(crate) const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", HOST),
    (":path", "/a"),
];

/// A frame that came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The code of a reset or of a farewell (RFC 9113 7).
    pub(crate) fn reason(&self) -> Reason {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let code = self.payload[at..at + 4].try_into().expect("four bytes");
        Reason::from(u32::from_be_bytes(code))
    }
}

/// The frames in `bytes`; the last one may be cut off.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(9) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            break;
        };
        let stream = head[5..9].try_into().expect("four bytes");
        frames.push(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes(stream),
            payload: payload.to_vec(),
        });
        bytes = rest;
    }
    frames
}

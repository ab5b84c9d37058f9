//! A small blocking client of the admin API, for the commands that talk to a running Larder.
//!
//! One request a connection, JSON in and out. Every call ends within 10 s for the connection plus
//! two minutes. What the server says about a failure reaches the caller as message and hint, never
//! as status codes alone.

mod address;
#[cfg(test)]
pub(crate) mod stub;

pub use address::AdminAddress;

use std::fmt;
use std::future::{Future, pending};
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Longest wait for an answer. Compiling a policy and settling a purge take seconds.
const TOTAL: Duration = Duration::from_mins(2);

/// Bytes of an answer that are read. Statistics of a thousand sites stay under a tenth of it.
const ANSWER_MAX: usize = 64 << 20;

/// Why a call brought no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at the address.
    #[error("no admin API at {address}: {source}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The time allowed has passed.
    #[error("no answer from {address} within {} s", allowed.as_secs())]
    TimedOut {
        /// Who was asked.
        address: String,
        /// How long.
        allowed: Duration,
    },
    /// The connection broke, or what came was no HTTP.
    #[error("the exchange with {address} broke off: {reason}")]
    Broken {
        /// Who was asked.
        address: String,
        /// What happened.
        reason: String,
    },
    /// An answer that no admin API gives.
    #[error("{address} answers {status} without JSON, so it is no admin API")]
    Foreign {
        /// Who was asked.
        address: String,
        /// What it answered.
        status: StatusCode,
    },
    /// The server turned the request down.
    #[error("{message}")]
    Refused {
        /// The status of its answer.
        status: StatusCode,
        /// A stable word for programs.
        code: String,
        /// What it found.
        message: String,
        /// What to do next; may be empty.
        hint: String,
    },
}

impl ClientError {
    /// What to do next, empty if there is nothing to say.
    pub fn hint(&self) -> &str {
        match self {
            Self::Unreachable { .. } => {
                "start one with `larder serve`, or say where it is with --admin ADDR or LARDER_ADMIN"
            }
            Self::Foreign { .. } => {
                "--admin takes the address of the admin API (127.0.0.1:9080 unless configured), \
                 not the one that clients use"
            }
            Self::Refused {
                status: StatusCode::UNAUTHORIZED,
                hint,
                ..
            } if hint.is_empty() => "give the token with --token-file FILE or LARDER_TOKEN_FILE",
            Self::Refused { hint, .. } => hint,
            Self::TimedOut { .. } | Self::Broken { .. } => "",
        }
    }
}

/// What is sent with a call.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Nothing.
    Empty,
    /// A JSON document.
    Json(Value),
    /// Bytes as they are.
    Bytes(Bytes),
}

/// A client of one admin API.
#[derive(Clone, Debug)]
pub struct Client {
    address: AdminAddress,
    token: Option<String>,
}

impl Client {
    /// A client of the API at `address`, with the token it asks for.
    pub const fn new(address: AdminAddress, token: Option<String>) -> Self {
        Self { address, token }
    }

    /// Reads `path`.
    ///
    /// # Errors
    ///
    /// There is no answer, or it is a refusal.
    pub fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.call(Method::GET, path, Payload::Empty)
    }

    /// Sends `body` to `path`.
    ///
    /// # Errors
    ///
    /// There is no answer, or it is a refusal.
    pub fn post(&self, path: &str, body: Value) -> Result<Value, ClientError> {
        self.call(Method::POST, path, Payload::Json(body))
    }

    /// Makes one call and returns the JSON it answers; an empty answer is `null`.
    ///
    /// # Errors
    ///
    /// There is no answer, or it is a refusal.
    pub fn call(&self, method: Method, path: &str, body: Payload) -> Result<Value, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| self.broken(&error))?;
        let request = self.request(method, path, body)?;
        let (status, body) = runtime.block_on(self.exchange(request))?;
        self.answer(status, &body)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Payload,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.authority());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = match body {
            Payload::Empty => Bytes::new(),
            Payload::Json(value) => {
                request = request.header(CONTENT_TYPE, "application/json");
                value.to_string().into()
            }
            Payload::Bytes(bytes) => {
                request = request.header(CONTENT_TYPE, "application/wasm");
                bytes
            }
        };
        request
            .body(Full::new(body))
            .map_err(|error| self.broken(&error))
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let authority = self.address.authority();
        let socket = self
            .within(CONNECT, TcpStream::connect(&authority))
            .await?
            .map_err(|source| ClientError::Unreachable {
                address: authority,
                source,
            })?;
        self.within(TOTAL, self.exchange_on(socket, request))
            .await?
    }

    async fn exchange_on(
        &self,
        socket: TcpStream,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
            .await
            .map_err(|error| self.broken(&error))?;
        let exchange = async {
            let response = sender
                .send_request(request)
                .await
                .map_err(|error| self.broken(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_MAX)
                .collect()
                .await;
            let body = body.map_err(|error| self.broken(&error))?;
            Ok((status, body.to_bytes()))
        };
        // The connection has to be driven beside the exchange. Its own end says nothing that the
        // exchange does not learn, and the answer may still be in flight between the two.
        let drive = async {
            drop(connection.await);
            pending::<()>().await;
        };
        tokio::select! {
            result = exchange => result,
            () = drive => Err(self.broken(&"the connection closed")),
        }
    }

    async fn within<T>(
        &self,
        allowed: Duration,
        step: impl Future<Output = T>,
    ) -> Result<T, ClientError> {
        tokio::time::timeout(allowed, step)
            .await
            .map_err(|_| ClientError::TimedOut {
                address: self.address.authority(),
                allowed,
            })
    }

    fn answer(&self, status: StatusCode, body: &[u8]) -> Result<Value, ClientError> {
        let value = if body.is_empty() {
            Ok(Value::Null)
        } else {
            serde_json::from_slice(body)
        };
        if status.is_success()
            && let Ok(value) = value
        {
            return Ok(value);
        }
        let error = value.as_ref().ok().and_then(|value| value.get("error"));
        let text = |name: &str| {
            error
                .and_then(|error| error.get(name))
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        if text("message").is_empty() {
            return Err(ClientError::Foreign {
                address: self.address.authority(),
                status,
            });
        }
        Err(ClientError::Refused {
            status,
            code: text("code").to_owned(),
            message: text("message").to_owned(),
            hint: text("hint").to_owned(),
        })
    }

    fn broken(&self, reason: &dyn fmt::Display) -> ClientError {
        ClientError::Broken {
            address: self.address.authority(),
            reason: reason.to_string(),
        }
    }
}

/// `text` as it stands in a path segment or a query value: everything but the unreserved
/// characters of RFC 3986 2.3 is escaped.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            for digit in [byte >> 4, byte & 15] {
                escaped.extend(char::from_digit(digit.into(), 16).map(|d| d.to_ascii_uppercase()));
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::net::TcpListener;

    type Outcome = Result<Value, ClientError>;

    /// Makes `call` against a server that answers `answer`; returns its outcome and the request.
    fn exchange(answer: &'static str, call: impl Fn(&Client) -> Outcome) -> (Outcome, String) {
        let (address, server) = stub::answering(&[answer]);
        let outcome = call(&Client::new(address, Some("s3cret".to_owned())));
        (outcome, server.join().unwrap().remove(0))
    }

    #[test]
    fn a_call_carries_token_host_and_type() {
        let ok = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\n{\"a\":1}";
        let (outcome, seen) = exchange(ok, |client| client.get("/v1/stats"));
        assert_eq!(outcome.unwrap(), json!({ "a": 1 }));
        assert!(seen.starts_with("get /v1/stats http/1.1\r\n"), "{seen}");
        assert!(
            seen.contains("\r\nauthorization: bearer s3cret\r\n"),
            "{seen}"
        );
        assert!(seen.contains("\r\nhost: 127.0.0.1:"), "{seen}");

        let (outcome, seen) = exchange(ok, |client| {
            client.post("/v1/purge", json!({ "all": true }))
        });
        assert!(outcome.is_ok());
        assert!(
            seen.contains("\r\ncontent-type: application/json\r\n"),
            "{seen}"
        );
        assert!(seen.ends_with("\r\n\r\n{\"all\":true}"), "{seen}");

        let upload = |client: &Client| {
            client.call(
                Method::PUT,
                "/v1/policies/a",
                Payload::Bytes(Bytes::from_static(b"wasm")),
            )
        };
        let (outcome, seen) = exchange("HTTP/1.1 204 No Content\r\n\r\n", upload);
        assert_eq!(outcome.unwrap(), Value::Null);
        assert!(seen.ends_with("\r\n\r\nwasm"), "{seen}");
    }

    fn refusal(answer: &'static str) -> (String, String) {
        let (outcome, _) = exchange(answer, |client| client.get("/"));
        let error = outcome.unwrap_err();
        let text = error.to_string();
        let text = text
            .split_once("127.0.0.1:")
            .map_or(text.clone(), |(before, rest)| {
                format!(
                    "{before}ADDR{}",
                    rest.trim_start_matches(|c: char| c.is_ascii_digit())
                )
            });
        (text, error.hint().to_owned())
    }

    #[test]
    fn refusals_are_told_in_the_servers_words() {
        let (text, hint) = refusal(
            "HTTP/1.1 422 Unprocessable Content\r\nconnection: close\r\n\r\n\
             {\"error\":{\"code\":\"imports\",\"message\":\"it imports x\",\"hint\":\"do not\"}}",
        );
        assert_eq!((text.as_str(), hint.as_str()), ("it imports x", "do not"));
        let (_, hint) = refusal(
            "HTTP/1.1 401 Unauthorized\r\nconnection: close\r\n\r\n\
             {\"error\":{\"code\":\"token\",\"message\":\"no token\"}}",
        );
        assert!(hint.contains("--token-file"), "{hint}");
    }

    #[test]
    fn strangers_are_recognised() {
        for answer in [
            "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n<h1>nginx</h1>",
            "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n{\"error\":\"x\"}",
        ] {
            let (text, _) = refusal(answer);
            assert_eq!(
                text,
                "ADDR answers 404 Not Found without JSON, so it is no admin API"
            );
        }
        let (text, _) = refusal("SSH-2.0-OpenSSH_9.9\r\n");
        assert!(
            text.starts_with("the exchange with ADDR broke off: "),
            "{text}"
        );
        // Cut short.
        let (text, _) = refusal("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}");
        assert!(
            text.starts_with("the exchange with ADDR broke off: "),
            "{text}"
        );
    }

    #[test]
    fn nobody_at_home_is_told_with_the_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = Client::new(address.into(), None).get("/").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("no admin API at {address}: ")),
            "{error}"
        );
        assert!(error.hint().contains("larder serve"));
    }

    #[test]
    fn escapes() {
        assert_eq!(escaped("az-._~09"), "az-._~09");
        assert_eq!(escaped("a b/ü?&=%"), "a%20b%2F%C3%BC%3F%26%3D%25");
    }
}

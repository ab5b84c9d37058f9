//! One request over HTTP/2, until the head of its response is there (RFC 9113 8.1).
//!
//! Interim responses are handed on as they come. What the origin says that it has not acted on, it
//! can be asked once more, whatever the method (RFC 9113 8.7), as long as nothing was taken of the
//! content of the request.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;

use super::Channel;
use super::content::Content;
use super::upload::{Stopped, Upload};
use crate::config::OriginScheme;
use crate::front::interim::Interim;
use crate::front::origin::fault::{Fault, Lost};
use crate::front::origin::outgoing::Outgoing;

/// What comes of a request.
struct Answering<'a> {
    answer: ResponseFuture,
    upload: Option<Upload>,
    interim: &'a Interim,
    /// Whether an interim response came.
    hinted: bool,
}

/// Why no head of a response came.
enum Missing {
    Fault(Fault),
    Error(h2::Error),
}

/// Sends `request` over the connection of `channel` to an origin of `scheme`, and waits for the
/// head of the response. Interim responses go to `interim`.
pub(in crate::front::origin) async fn send(
    channel: &mut Channel,
    scheme: OriginScheme,
    request: Request<Outgoing>,
    interim: &Interim,
) -> Result<Response<Content>, Lost> {
    let (head, body) = request.into_parts();
    let ends = body.is_end_stream();
    let message = message(&head, scheme, &body).map_err(Lost::Sent)?;
    let (answer, stream) = match channel.sender.clone().send_request(message, ends) {
        Ok(sent) => sent,
        Err(_) if !channel.is_open() => return Err(unsent(head, body)),
        Err(error) => {
            tracing::debug!(%error, "a request cannot be sent over HTTP/2");
            return Err(Lost::Sent(UNSENDABLE));
        }
    };
    let (kept, upload) = match ends {
        true => (Some(body), None),
        false => (None, Some(Upload::new(stream, body))),
    };
    let mut answering = Answering {
        answer,
        upload,
        interim,
        hinted: false,
    };
    match poll_fn(|cx| answering.poll(cx)).await {
        Ok(response) => {
            let (head, stream) = response.into_parts();
            let upload = answering.upload.map(Upload::go_on);
            let content = Content::new(stream, &head.headers, upload);
            Ok(Response::from_parts(head, content))
        }
        Err(Missing::Fault(fault)) => Err(Lost::Sent(fault)),
        Err(Missing::Error(error)) => {
            let hinted = answering.hinted;
            let body = kept.or_else(|| answering.upload.and_then(Upload::untouched));
            Err(lost(error, hinted, head, body))
        }
    }
}

const UNSENDABLE: Fault = Fault::Unsound("its host or target cannot be sent over HTTP/2");

/// The head of a request as HTTP/2 has it: its target is a whole URI, and `Host` a part of that
/// (RFC 9113 8.3.1). The length of `body` is told where it is known, as HTTP/1.1 does (RFC 9110
/// 8.6).
fn message(head: &Parts, scheme: OriginScheme, body: &Outgoing) -> Result<Request<()>, Fault> {
    let mut headers = head.headers.clone();
    let host = headers.remove(HOST);
    let target = head.uri.path_and_query().cloned();
    let uri = Uri::builder()
        .scheme(scheme.as_str())
        .authority(host.as_ref().map_or(&b""[..], HeaderValue::as_bytes))
        .path_and_query(target.unwrap_or_else(|| PathAndQuery::from_static("/")));
    let has_meaning = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
    let length = body.size_hint().exact();
    if let Some(length) = length.filter(|length| *length > 0 || has_meaning) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let mut message = Request::new(());
    *message.method_mut() = head.method.clone();
    *message.uri_mut() = uri.build().map_err(|_| UNSENDABLE)?;
    *message.headers_mut() = headers;
    Ok(message)
}

fn unsent(head: Parts, body: Outgoing) -> Lost {
    Lost::Unsent(Box::new(Request::from_parts(head, body)))
}

/// What `error` in place of an answer says of the request with `head`, of which `body` is there to
/// be sent once more. `hinted`: whether an interim response came.
fn lost(error: h2::Error, hinted: bool, head: Parts, body: Option<Outgoing>) -> Lost {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    let left_out = error.is_go_away();
    let untouched = error.is_remote() && !hinted && (refused || left_out);
    match body.filter(|_| untouched) {
        // It leaves, and tells up to which request it has come (RFC 9113 6.8).
        Some(body) if left_out => unsent(head, body),
        Some(body) => Lost::Refused(
            Box::new(Request::from_parts(head, body)),
            Fault::Closed(Box::new(error)),
        ),
        None if hinted || error.is_library() => Lost::Sent(Fault::Broken(Box::new(error))),
        None => Lost::Sent(Fault::Closed(Box::new(error))),
    }
}

impl Answering<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<RecvStream>, Missing>> {
        if let Some(upload) = &mut self.upload
            && let Poll::Ready(sent) = upload.poll(cx)
        {
            match sent {
                Ok(()) => self.upload = None,
                Err(Stopped::Client(error)) => {
                    return Poll::Ready(Err(Missing::Fault(Fault::Client(error))));
                }
                // The answer says why.
                Err(Stopped::Origin) => {}
            }
        }
        while let Poll::Ready(Some(interim)) = self.answer.poll_informational(cx) {
            let interim = interim.map_err(Missing::Error)?;
            if interim.status() == StatusCode::SWITCHING_PROTOCOLS {
                // RFC 9113 8.6
                let why = "it switches to a protocol that nobody asked for";
                return Poll::Ready(Err(Missing::Fault(Fault::Unsound(why))));
            }
            self.hinted = true;
            self.interim
                .send(interim.status(), interim.headers(), Version::HTTP_2);
        }
        Pin::new(&mut self.answer).poll(cx).map_err(Missing::Error)
    }
}

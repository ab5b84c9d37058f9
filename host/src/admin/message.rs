//! Messages of the admin API: reading bodies and queries, and making answers.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::policy::refusal::Refusal;

/// Bytes of a JSON body.
const JSON_BYTES: usize = 1 << 20;

/// An answer of the admin API.
pub(super) type Answer = Response<Full<Bytes>>;

/// Why a body could not be read.
pub(super) enum Unread {
    TooLarge,
    Broken,
}

pub(super) async fn body(request: Request<Incoming>, limit: usize) -> Result<Bytes, Unread> {
    match Limited::new(request.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Unread::TooLarge),
        Err(_) => Err(Unread::Broken),
    }
}

/// Reads a JSON body; an empty one stands for `{}`.
pub(super) async fn json_body<T: DeserializeOwned>(
    request: Request<Incoming>,
) -> Result<T, Box<Answer>> {
    let kind = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let is_json = kind.is_some_and(|kind| {
        kind.split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .eq_ignore_ascii_case("application/json")
    });
    let bytes = match body(request, JSON_BYTES).await {
        Ok(bytes) => bytes,
        Err(Unread::TooLarge) => {
            let message = "the body is larger than 1 MiB".to_owned();
            return Err(Box::new(error(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                &message,
                "send less",
            )));
        }
        Err(Unread::Broken) => {
            return Err(Box::new(malformed("broken_body", "the body broke off")));
        }
    };
    if !bytes.is_empty() && !is_json {
        let hint = "send Content-Type: application/json";
        let message = "the body is not declared to be JSON";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Box::new(error(status, "not_json", message, hint)));
    }
    // As an object first: a list would be taken for the fields in their order.
    let object: Result<Map<String, Value>, _> = match bytes.is_empty() {
        true => Ok(Map::new()),
        false => serde_json::from_slice(&bytes),
    };
    object
        .and_then(|object| serde_json::from_value(Value::Object(object)))
        .map_err(|error| {
            let message = format!("the body is not understood: {error}");
            Box::new(malformed("bad_json", &message))
        })
}

/// Decodes a value of a query: percent-encoding, and `+` for a space.
pub(super) fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
            }
            byte => *byte,
        });
    }
    String::from_utf8(bytes).ok()
}

pub(super) fn only(method: &Method, allowed: &Method, answer: impl FnOnce() -> Answer) -> Answer {
    if method == allowed {
        answer()
    } else {
        not_allowed(allowed.as_str())
    }
}

pub(super) fn result<T>(outcome: Result<T, Refusal>, answer: impl FnOnce(T) -> Answer) -> Answer {
    match outcome {
        Ok(value) => answer(value),
        Err(refused) => refusal(&refused),
    }
}

pub(super) fn ok(value: &Value) -> Answer {
    json_answer(StatusCode::OK, value)
}

pub(super) fn json_answer(status: StatusCode, value: &Value) -> Answer {
    let mut answer = text(status, format!("{value}\n"));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

pub(super) fn text(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

pub(super) fn refusal(refused: &Refusal) -> Answer {
    let status =
        StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    error(status, refused.code, &refused.message, &refused.hint)
}

pub(super) fn malformed(code: &str, message: &str) -> Answer {
    error(
        StatusCode::BAD_REQUEST,
        code,
        message,
        "see `larder --help` and the README",
    )
}

pub(super) fn not_allowed(allowed: &str) -> Answer {
    let message = format!("this call takes {allowed}");
    let mut answer = error(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong_method",
        &message,
        "see the Allow field",
    );
    if let Ok(allowed) = HeaderValue::from_str(allowed) {
        answer.headers_mut().insert(ALLOW, allowed);
    }
    answer
}

pub(super) fn error(status: StatusCode, code: &str, message: &str, hint: &str) -> Answer {
    json_answer(
        status,
        &json!({ "error": { "code": code, "message": message, "hint": hint } }),
    )
}

#[cfg(test)]
mod tests {
    use super::unescaped;

    #[test]
    fn queries_are_decoded() {
        assert_eq!(unescaped("a%20b+c%2f").as_deref(), Some("a b c/"));
        for bad in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(unescaped(bad), None, "{bad}");
        }
    }
}

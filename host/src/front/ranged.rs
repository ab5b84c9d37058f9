//! A 206 or 416 made from what is at hand: a stored response, stored parts, or a flight.

use std::ops::Range;

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, EXPIRES};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::answer::{self, respond};
use super::body::{ResponseBody, Stored};
use super::cache_status::{Outcome, seconds};
use super::conditional::{self, Precondition};
use super::range::set::Spec;
use super::range::{self, RangeAnswer, multipart};
use super::shown::Shown;
use super::slices::{Segment, StoredSlices};
use crate::clock::Moment;
use crate::entry::{Entry, PartialResponse, StoredBody};
use crate::rfc9111::targeted;

/// The status and the content of an answer to ranges; its fields are filled in.
#[derive(Debug)]
pub struct Ranged {
    /// 206 or 416.
    pub status: StatusCode,
    /// The content: none for 416.
    pub segments: Vec<Segment>,
}

impl Ranged {
    /// Makes `headers` those of `answer`, of content that is `complete` bytes long. None if it is
    /// answered with the whole.
    pub fn new(
        answer: &RangeAnswer,
        headers: &mut HeaderMap,
        complete: Option<u64>,
    ) -> Option<Self> {
        let (status, segments) = match answer {
            RangeAnswer::Whole => return None,
            RangeAnswer::One(range) => {
                headers.insert(CONTENT_RANGE, range::part_field(range, complete)?);
                let segments = vec![Segment::Content(range.clone())];
                (StatusCode::PARTIAL_CONTENT, segments)
            }
            RangeAnswer::Several(ranges) => {
                let around = multipart::around(ranges, complete?, headers.get(CONTENT_TYPE));
                // RFC 9110 15.3.7.2: the place of each part is told in it, and only there.
                headers.insert(CONTENT_TYPE, around.content_type);
                let parts = around.heads.into_iter().zip(ranges);
                let parts = parts.flat_map(|(head, range)| {
                    [Segment::Text(head), Segment::Content(range.clone())]
                });
                let segments = parts.chain([Segment::Text(around.end)]).collect();
                (StatusCode::PARTIAL_CONTENT, segments)
            }
            RangeAnswer::Unsatisfiable => {
                headers.insert(CONTENT_RANGE, range::unsatisfied_field(complete?)?);
                // A lifetime is that of the content. With one, a cache downstream may store this
                // answer, and answer those with it who ask for the whole (RFC 9111 3).
                let lifetimes = targeted::FIELDS.into_iter().chain([CACHE_CONTROL, EXPIRES]);
                for name in lifetimes.chain([CONTENT_TYPE]) {
                    headers.remove(name);
                }
                (StatusCode::RANGE_NOT_SATISFIABLE, Vec::new())
            }
        };
        Some(Self { status, segments })
    }

    /// The answer from stored content: `find` says which body holds a range, and where. None if
    /// one is not held.
    pub fn stored<'a>(
        self,
        find: impl Fn(&Range<u64>) -> Option<(&'a StoredBody, Range<u64>)>,
    ) -> Option<(StatusCode, ResponseBody)> {
        let body = match self.segments.as_slice() {
            [] => ResponseBody::Empty,
            [Segment::Content(range)] => {
                let (body, within) = find(range)?;
                ResponseBody::range(body, within)
            }
            _ => {
                let stored = |range: &Range<u64>| {
                    let (body, within) = find(range)?;
                    Some(Stored::new(body, within))
                };
                let slices = StoredSlices::new(self.segments, stored)?;
                ResponseBody::Slices(Box::new(slices))
            }
        };
        Some((self.status, body))
    }
}

/// How stored parts answer a request.
#[derive(Debug)]
enum FromParts {
    NotModified,
    /// HEAD: the length of the whole.
    Length(u64),
    Ranges(RangeAnswer),
}

/// Whether `partial` answers a request with the fields `request` without asking for more.
pub fn covers(method: &Method, request: &HeaderMap, partial: &PartialResponse) -> bool {
    decide(method, request, partial).is_some()
}

fn decide(method: &Method, request: &HeaderMap, partial: &PartialResponse) -> Option<FromParts> {
    let PartialResponse { headers, parts, .. } = partial;
    let condition = conditional::evaluate(method, request, StatusCode::OK, headers);
    if condition == Precondition::NotModified {
        return Some(FromParts::NotModified);
    }
    if *method == Method::HEAD {
        return parts.complete().map(FromParts::Length);
    }
    let answer = match parts.complete() {
        Some(complete) => range::resolve(request, method, complete, headers),
        // Without the length only a range with both its ends can be placed.
        None => match range::asked(request, method)?.as_slice() {
            [Spec::From(first, Some(last))] if range::if_range_holds(request, headers) => {
                RangeAnswer::One(*first..last.checked_add(1)?)
            }
            _ => RangeAnswer::Whole,
        },
    };
    let held = match &answer {
        RangeAnswer::Whole => false,
        RangeAnswer::One(range) => parts.find(range).is_some(),
        RangeAnswer::Several(ranges) => ranges.iter().all(|range| parts.find(range).is_some()),
        RangeAnswer::Unsatisfiable => true,
    };
    held.then_some(FromParts::Ranges(answer))
}

/// Answers `method` with the fields `request` from stored parts, whose fields as they go out `head`
/// makes. None if they do not cover what is asked for.
pub fn from_parts(
    method: &Method,
    request: &HeaderMap,
    partial: &PartialResponse,
    head: impl FnOnce() -> HeaderMap,
) -> Option<Response<ResponseBody>> {
    let answer = match decide(method, request, partial)? {
        FromParts::NotModified => {
            let headers = conditional::not_modified_fields(&head());
            return Some(respond(
                StatusCode::NOT_MODIFIED,
                headers,
                ResponseBody::Empty,
            ));
        }
        FromParts::Length(length) => {
            let mut headers = head();
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            return Some(respond(StatusCode::OK, headers, ResponseBody::Empty));
        }
        FromParts::Ranges(answer) => answer,
    };
    let mut headers = head();
    let ranged = Ranged::new(&answer, &mut headers, partial.parts.complete())?;
    let (status, body) = ranged.stored(|range| partial.parts.find(range))?;
    Some(respond(status, headers, body))
}

/// Answers `request` from the fresh parts in `entry`. None if they do not cover what it asks for.
pub fn hit(
    request: &Parts,
    entry: &Entry,
    now: Moment,
    shown: &Shown,
) -> Option<Response<ResponseBody>> {
    let partial = entry.partial()?;
    let age = partial.lifetime.age(now);
    let ttl = seconds(partial.lifetime.fresh_for) - seconds(age);
    from_parts(&request.method, &request.headers, partial, || {
        let mut headers = partial.headers.clone();
        let status = shown.status(Outcome::Hit { ttl });
        answer::fill_places(&mut headers, Some(age.as_secs()), &status);
        headers
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Lifetime, Parts as Held, Reuse};
    use bytes::Bytes;
    use http::header::{ETAG, IF_NONE_MATCH, IF_RANGE, RANGE};
    use std::time::Duration;

    /// Bytes 2 to 5 and 7 to 8 of ten.
    fn partial(complete: Option<u64>) -> PartialResponse {
        let part = |start, text: &'static str| {
            let body = StoredBody::new(vec![Bytes::from_static(text.as_bytes())]);
            Held::new(start, body, complete).unwrap()
        };
        let mut headers = HeaderMap::new();
        headers.insert(ETAG, HeaderValue::from_static("\"a\""));
        PartialResponse {
            headers,
            parts: part(2, "2345").with(&part(7, "78")).unwrap(),
            lifetime: Lifetime {
                stored_at: Moment::from_millis(0),
                initial_age: Duration::ZERO,
                fresh_for: Duration::ZERO,
                stale_while_revalidate: Duration::ZERO,
                stale_if_error: Duration::ZERO,
                reuse: Reuse::Normal,
            },
            decided_by: "test".into(),
        }
    }

    /// Status, `Content-Range` and length of the answer.
    type Answered = Option<(u16, Option<&'static str>, Option<u64>)>;

    fn check(
        complete: Option<u64>,
        fields: &[(http::HeaderName, &'static str)],
        expected: Answered,
    ) {
        let partial = partial(complete);
        let mut request = HeaderMap::new();
        for (name, value) in fields {
            request.append(name, HeaderValue::from_static(value));
        }
        let answer = from_parts(&Method::GET, &request, &partial, || partial.headers.clone());
        assert_eq!(answer.is_some(), covers(&Method::GET, &request, &partial));
        let found = answer.as_ref().map(|answer| {
            let range = answer.headers().get(CONTENT_RANGE);
            (
                answer.status().as_u16(),
                range.map(|range| range.to_str().unwrap()),
                http_body::Body::size_hint(answer.body()).exact(),
            )
        });
        assert_eq!(found, expected, "{complete:?} {fields:?}");
    }

    #[test]
    fn parts_answer_for_what_they_hold_and_nothing_else() {
        let ten = Some(10);
        check(
            ten,
            &[(RANGE, "bytes=2-5")],
            Some((206, Some("bytes 2-5/10"), Some(4))),
        );
        check(
            ten,
            &[(RANGE, "bytes=3-3")],
            Some((206, Some("bytes 3-3/10"), Some(1))),
        );
        check(ten, &[(RANGE, "bytes=2-6")], None);
        check(ten, &[(RANGE, "bytes=1-2")], None);
        check(ten, &[(RANGE, "bytes=7-")], None);
        check(ten, &[(RANGE, "bytes=-2")], None);
        check(
            ten,
            &[(RANGE, "bytes=10-")],
            Some((416, Some("bytes */10"), Some(0))),
        );
        check(ten, &[(RANGE, "bytes=2-3, 9-9")], None);
        check(ten, &[], None);
        check(ten, &[(RANGE, "items=2-3")], None);
        let tag = |tag| [(RANGE, "bytes=2-5"), (IF_RANGE, tag)];
        check(
            ten,
            &tag("\"a\""),
            Some((206, Some("bytes 2-5/10"), Some(4))),
        );
        check(ten, &tag("\"b\""), None);
        check(ten, &[(IF_NONE_MATCH, "\"a\"")], Some((304, None, Some(0))));
        check(
            None,
            &[(RANGE, "bytes=2-5")],
            Some((206, Some("bytes 2-5/*"), Some(4))),
        );
        check(None, &tag("\"b\""), None);
        for unplaced in [
            "bytes=2-",
            "bytes=-2",
            "bytes=99-",
            "bytes=2-6",
            "bytes=2-2, 4-4",
        ] {
            check(None, &[(RANGE, unplaced)], None);
        }
    }

    #[test]
    fn several_held_parts_are_one_answer() {
        let partial = partial(Some(9));
        let mut request = HeaderMap::new();
        request.insert(RANGE, HeaderValue::from_static("bytes=7-, 2-3"));
        let answer = from_parts(&Method::GET, &request, &partial, HeaderMap::new).unwrap();
        let kind = answer
            .headers()
            .get(CONTENT_TYPE)
            .unwrap()
            .to_str()
            .unwrap();
        assert!(kind.starts_with("multipart/byteranges; boundary="));
        assert!(!answer.headers().contains_key(CONTENT_RANGE));
    }

    #[test]
    fn head_is_answered_if_the_length_is_known() {
        let length = |complete| {
            let partial = partial(complete);
            let answer = from_parts(&Method::HEAD, &HeaderMap::new(), &partial, HeaderMap::new)?;
            assert_eq!(answer.status(), StatusCode::OK);
            answer.headers().get(CONTENT_LENGTH).cloned()
        };
        assert_eq!(length(Some(10)), Some(HeaderValue::from_static("10")));
        assert_eq!(length(None), None);
    }
}

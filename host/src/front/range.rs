//! Byte ranges of a response (RFC 9110 14, 13.1.5): which bytes answer a request.
//!
//! Pure. The whole is always a correct answer, except to a range that is well-formed and lies
//! outside the content; so whatever is malformed or out of bounds is answered with the whole.

pub mod multipart;
pub mod set;

use std::ops::Range;

use bytes::{BufMut, BytesMut};
use http::header::{HeaderValue, IF_RANGE};
use http::{HeaderMap, Method};

use crate::rfc9111::content_range::if_range_names;
use set::Spec;

/// Parts of one answer, at most; where more were needed the whole is sent.
pub const PARTS_MAX: usize = 16;

/// What of the content answers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeAnswer {
    /// All of it, with the stored status.
    Whole,
    /// These bytes, with status 206; never none.
    One(Range<u64>),
    /// These stretches, in the order asked for, with status 206 as `multipart/byteranges`: two at
    /// least, of which no two overlap or touch.
    Several(Vec<Range<u64>>),
    /// Nothing, with status 416.
    Unsatisfiable,
}

/// Writes the value of a `Content-Range` (RFC 9110 14.4); `*` stands for an unknown length.
pub fn content_range(range: &Range<u64>, complete: Option<u64>, out: &mut impl BufMut) {
    let mut number = itoa::Buffer::new();
    out.put_slice(b"bytes ");
    out.put_slice(number.format(range.start).as_bytes());
    out.put_slice(b"-");
    out.put_slice(number.format(range.end.saturating_sub(1)).as_bytes());
    out.put_slice(b"/");
    match complete {
        Some(complete) => out.put_slice(number.format(complete).as_bytes()),
        None => out.put_slice(b"*"),
    }
}

/// The `Content-Range` of one part of content that is `complete` bytes long.
pub fn part_field(range: &Range<u64>, complete: Option<u64>) -> Option<HeaderValue> {
    let mut text = BytesMut::with_capacity(72);
    content_range(range, complete, &mut text);
    HeaderValue::from_maybe_shared(text.freeze()).ok()
}

/// The `Content-Range` of a 416 about content that is `complete` bytes long.
pub fn unsatisfied_field(complete: u64) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("bytes */{complete}")).ok()
}

/// Decides which bytes of a 200 response with the fields `stored` and `len` bytes of content
/// answer a request. To be asked after the other preconditions (RFC 9110 13.2.2).
pub fn resolve(request: &HeaderMap, method: &Method, len: u64, stored: &HeaderMap) -> RangeAnswer {
    match asked(request, method) {
        Some(specs) if if_range_holds(request, stored) => satisfy(&specs, len),
        _ => RangeAnswer::Whole,
    }
}

/// The ranges that a request asks for, unless it asks for none or they are to be ignored.
pub fn asked(request: &HeaderMap, method: &Method) -> Option<Vec<Spec>> {
    // RFC 9110 14.2: ranges are defined for GET.
    (*method == Method::GET).then(|| set::parse(request))?
}

/// Whether `If-Range` is absent or names exactly the response with the fields `stored`
/// (RFC 9110 13.1.5).
pub fn if_range_holds(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let mut lines = request.get_all(IF_RANGE).iter();
    match (lines.next(), lines.next()) {
        (None, _) => true,
        (Some(condition), None) => if_range_names(condition, stored),
        (Some(_), Some(_)) => false,
    }
}

/// Fits ranges to content of `len` bytes (RFC 9110 14.1.2).
fn satisfy(specs: &[Spec], len: u64) -> RangeAnswer {
    let mut ranges = Vec::new();
    for spec in specs {
        // A suffix of empty content is satisfiable, but there is no way to say so in
        // `Content-Range`.
        if matches!(spec, Spec::Suffix(wanted) if *wanted > 0) && len == 0 {
            return RangeAnswer::Whole;
        }
        ranges.extend(place(*spec, len));
    }
    let mut ranges = coalesce(ranges);
    match (ranges.pop(), ranges.len()) {
        (None, _) => RangeAnswer::Unsatisfiable,
        (Some(range), 0) => RangeAnswer::One(range),
        (Some(last), others) if others < PARTS_MAX => {
            ranges.push(last);
            RangeAnswer::Several(ranges)
        }
        _ => RangeAnswer::Whole,
    }
}

/// The bytes of content of `len` bytes that a range asks for, if there are any.
fn place(spec: Spec, len: u64) -> Option<Range<u64>> {
    let range = match spec {
        Spec::From(first, None) => first..len,
        Spec::From(first, Some(last)) => first..last.saturating_add(1).min(len),
        Spec::Suffix(wanted) => len.saturating_sub(wanted)..len,
    };
    (!range.is_empty()).then_some(range)
}

/// Joins ranges that overlap or touch (RFC 9110 15.3.7.2), so that no byte is sent twice however
/// often it is asked for. What is joined stands where the first of it was asked for.
fn coalesce(asked: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::with_capacity(asked.len());
    for mut range in asked {
        let mut place = None;
        let mut index = 0;
        ranges.retain(|other| {
            let touches = range.start <= other.end && other.start <= range.end;
            if touches {
                place.get_or_insert(index);
                range = range.start.min(other.start)..range.end.max(other.end);
            } else {
                index += 1;
            }
            !touches
        });
        ranges.insert(place.unwrap_or(ranges.len()), range);
    }
    ranges
}

#[cfg(test)]
mod tests;

//! What a request that goes to the origin asks it for, and what becomes of the request once an
//! answer arrives.
//!
//! As a rule the whole is asked for, because that feeds the cache, and a range is cut out of it as
//! it arrives. A range is asked for by itself where the whole would keep its client waiting or
//! bring nothing that can be kept: it begins more than [`WINDOW`] beyond what has arrived, the
//! content is too large to store, or parts of it are stored and this one is not.

use http::header::{IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::conditional::{self, Precondition};
use super::exchange::Exchange;
use super::miss::Miss;
use super::range::set::Spec;
use super::range::{self, RangeAnswer};
use super::ranged;
use super::slices;
use crate::cache::Cache;
use crate::cache::flight::{Flight, Head, Shared, WINDOW};
use crate::entry::{CacheKey, Entry, Stretch};
use crate::rfc9111::content_range::{ContentRange, strong_validator};

/// The first byte of the key of a flight that asks for a part. Keys of responses begin with the
/// high byte of a site's number, `0xfe` or `0xff`.
const PART: u8 = 0xfd;
/// The same for a flight that asks for fields only.
const FIELDS: u8 = 0xfc;

/// What the origin is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// All of it.
    Whole,
    /// What a client wants.
    Part(Stretch),
    /// What is missing between the parts that are stored, so that they become whole.
    Rest(Stretch),
    /// By HEAD for the fields, of which some content is stored.
    Fields,
}

impl Ask {
    /// What to ask for in answer to `exchange`, which what is stored does not answer.
    pub fn of(exchange: &Exchange, miss: &Miss) -> Self {
        let stale = miss.stale.as_ref().map(|(entry, _)| &**entry);
        let ask = first(&exchange.head.method, &exchange.head.headers, stale);
        match ask {
            // What is compressed here is not what the origin speaks of.
            Self::Fields if !exchange.site.compress.is_empty() => Self::Whole,
            ask => ask,
        }
    }

    /// The key of the flight that asks for it, where the response is expected under `key`. Equal
    /// ranges share a flight.
    pub fn flight_key(self, cache: &Cache, key: &CacheKey) -> CacheKey {
        let stretch = match self {
            Self::Part(stretch) => stretch,
            Self::Fields => {
                let bytes = [&[FIELDS], key.view().bytes].concat();
                return cache.hasher.key(&bytes).to_key();
            }
            Self::Whole | Self::Rest(_) => return key.clone(),
        };
        let end = stretch.end.unwrap_or(u64::MAX).to_be_bytes();
        let bytes = [
            &[PART],
            &stretch.start.to_be_bytes()[..],
            &end,
            key.view().bytes,
        ]
        .concat();
        cache.hasher.key(&bytes).to_key()
    }

    /// Adds the fields that ask for it. `stored` are the fields of the parts that are stored: the
    /// rest is to be of the same content, and all of another one otherwise (RFC 9110 13.1.5).
    pub fn write(self, headers: &mut HeaderMap, stored: Option<&HeaderMap>) {
        let (Self::Part(stretch) | Self::Rest(stretch)) = self else {
            return;
        };
        let last = stretch.end.map(|end| end.saturating_sub(1).to_string());
        let range = format!("bytes={}-{}", stretch.start, last.unwrap_or_default());
        if let Ok(range) = HeaderValue::try_from(range) {
            headers.insert(RANGE, range);
        }
        let rest = stored.filter(|_| matches!(self, Self::Rest(_)));
        if let Some(validator) = rest.and_then(strong_validator) {
            headers.insert(IF_RANGE, validator.clone());
        }
    }
}

/// What to ask for first.
fn first(method: &Method, request: &HeaderMap, stored: Option<&Entry>) -> Ask {
    let asked = range::asked(request, method);
    let single = match asked.as_deref() {
        Some([Spec::From(first, last)]) => Some(Stretch {
            start: *first,
            end: last.and_then(|last| last.checked_add(1)),
        }),
        _ => None,
    };
    let Some(stored) = stored else {
        return match single {
            Some(stretch) if stretch.start > WINDOW => Ask::Part(stretch),
            _ => Ask::Whole,
        };
    };
    let Some(partial) = stored.partial() else {
        return match *method {
            Method::HEAD => Ask::Fields,
            _ => Ask::Whole,
        };
    };
    if ranged::covers(method, request, partial) {
        // To be validated.
        return Ask::Whole;
    }
    let wanted = match partial.parts.complete() {
        Some(complete) => match range::resolve(request, method, complete, &partial.headers) {
            RangeAnswer::One(range) => Some(bounds(&range)),
            _ => None,
        },
        None => single.filter(|_| range::if_range_holds(request, &partial.headers)),
    };
    let rest = || {
        strong_validator(&partial.headers)?;
        // Of several ranges none is the rest.
        let whole = asked.is_none() || !range::if_range_holds(request, &partial.headers);
        partial.parts.gap().filter(|_| whole)
    };
    wanted
        .map(Ask::Part)
        .or_else(|| rest().map(Ask::Rest))
        .unwrap_or(Ask::Whole)
}

fn bounds(range: &std::ops::Range<u64>) -> Stretch {
    Stretch {
        start: range.start,
        end: Some(range.end),
    }
}

/// What becomes of a request when the flight that it waited for has landed.
#[derive(Debug)]
pub enum Plan {
    /// 304: its client has what arrives.
    NotModified,
    /// It is answered with all that arrives.
    All,
    /// It is answered with ranges of what arrives, or with 416.
    Ranges(RangeAnswer),
    /// What arrives does not answer it, or only after a long wait: it asks for this.
    Ask(Ask),
    /// Nothing that others asked for answers it: it goes to the origin as it came.
    Alone,
}

/// Decides for `exchange`, which waited for `flight`, which was to ask for `ask` and brings `head`.
pub fn plan(exchange: &Exchange, ask: Ask, flight: &Flight, head: &Head) -> Plan {
    let (method, request) = (&exchange.head.method, &exchange.head.headers);
    // A part is judged as the response it is a part of.
    let status = match head.part {
        Some(_) => StatusCode::OK,
        None => head.status,
    };
    if conditional::evaluate(method, request, status, &head.headers) == Precondition::NotModified {
        return Plan::NotModified;
    }
    let is_part = matches!(ask, Ask::Part(_));
    let arrival = Arrival {
        head,
        arrived: flight.arrived(),
        is_part,
    };
    match (&head.part, head.status) {
        (Some(part), _) => arrival.of_part(method, request, part),
        (None, StatusCode::OK) => arrival.of_whole(method, request),
        // Nobody can tell which bytes came.
        (None, StatusCode::PARTIAL_CONTENT) => Plan::Alone,
        // Whether its `If-Range` holds, which would make it ask for the whole, is not known.
        (None, StatusCode::RANGE_NOT_SATISFIABLE) if is_part && request.contains_key(IF_RANGE) => {
            Plan::Ask(Ask::Whole)
        }
        _ => Plan::All,
    }
}

/// What arrives.
struct Arrival<'a> {
    head: &'a Head,
    /// Bytes that have arrived so far.
    arrived: u64,
    /// Whether a part was asked for.
    is_part: bool,
}

impl Arrival<'_> {
    /// All of the content arrives.
    fn of_whole(&self, method: &Method, request: &HeaderMap) -> Plan {
        let Some(length) = self.head.length else {
            // Without a length no range can be placed, and none can be told in `Content-Range`
            // for certain.
            return Plan::All;
        };
        let answer = range::resolve(request, method, length, &self.head.headers);
        let (start, end) = match &answer {
            RangeAnswer::Whole => return Plan::All,
            RangeAnswer::Unsatisfiable => return Plan::Ranges(answer),
            RangeAnswer::One(range) => (range.start, range.end),
            RangeAnswer::Several(ranges) if !slices::is_ascending(ranges) => return Plan::All,
            // Of ascending ranges the last tells how long it takes.
            RangeAnswer::Several(ranges) => (ranges.last().map_or(0, |last| last.start), length),
        };
        let shared = matches!(self.head.shared, Shared::With { .. });
        let near = start <= self.arrived.saturating_add(WINDOW);
        // What is shared and yet not stored is too large for it; a range of it may be not.
        let better_alone = shared && !self.head.stored && end < length;
        match answer {
            answer if near && (!better_alone || self.is_part) => Plan::Ranges(answer),
            // The origin was asked for a part, and sends the whole all the same.
            _ if self.is_part => Plan::All,
            RangeAnswer::One(range) if shared => Plan::Ask(Ask::Part(bounds(&range))),
            _ => Plan::Alone,
        }
    }

    /// A part of the content arrives.
    fn of_part(&self, method: &Method, request: &HeaderMap, part: &ContentRange) -> Plan {
        let Some(specs) = range::asked(request, method) else {
            return Plan::Alone;
        };
        if !range::if_range_holds(request, &self.head.headers) {
            return match self.is_part {
                true => Plan::Ask(Ask::Whole),
                false => Plan::Alone,
            };
        }
        let answer = match (part.complete, specs.as_slice()) {
            (Some(complete), _) => range::resolve(request, method, complete, &self.head.headers),
            (None, [Spec::From(first, last)]) => {
                let end = last.and_then(|last| last.checked_add(1));
                RangeAnswer::One(*first..end.unwrap_or(part.range.end))
            }
            (None, _) => RangeAnswer::Whole,
        };
        match answer {
            RangeAnswer::Unsatisfiable => Plan::Ranges(answer),
            // RFC 9110 15.3.7: an origin may send less than it was asked for.
            RangeAnswer::One(range) if part.range.contains(&range.start) => {
                let end = range.end.min(part.range.end);
                Plan::Ranges(RangeAnswer::One(range.start..end))
            }
            RangeAnswer::One(range) if !self.is_part => Plan::Ask(Ask::Part(bounds(&range))),
            _ => Plan::Alone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use crate::entry::{
        Content, KeyHasher, Lifetime, PartialResponse, Parts, Reuse, SiteId, StoredBody,
    };
    use bytes::Bytes;
    use http::header::ETAG;
    use std::time::Duration;

    const NEVER: Lifetime = Lifetime {
        stored_at: Moment::from_millis(0),
        initial_age: Duration::ZERO,
        fresh_for: Duration::ZERO,
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        reuse: Reuse::Normal,
    };

    fn fields(lines: &[(http::HeaderName, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, line)| (name.clone(), HeaderValue::from_static(line)))
            .collect()
    }

    /// An entry of the first four of ten bytes.
    fn parts(tag: &'static str) -> Entry {
        let body = StoredBody::new(vec![Bytes::from_static(b"0123")]);
        let content = Content::Partial(PartialResponse {
            headers: fields(&[(ETAG, tag)]),
            parts: Parts::new(0, body, Some(10)).unwrap(),
            lifetime: NEVER,
            decided_by: "test".into(),
        });
        let key = KeyHasher::default().key(b"k").to_key();
        Entry::new(key, SiteId(0), Vec::new(), content)
    }

    fn part(start: u64, end: Option<u64>) -> Ask {
        Ask::Part(Stretch { start, end })
    }

    #[test]
    fn the_whole_is_asked_for_unless_a_range_is_far_or_parts_are_stored() {
        let check = |range: &'static str, stored: Option<&Entry>, expected| {
            let request = match range {
                "" => HeaderMap::new(),
                _ => fields(&[(RANGE, range)]),
            };
            let found = first(&Method::GET, &request, stored);
            assert_eq!(found, expected, "{range}");
            let head = first(&Method::HEAD, &request, stored);
            assert!(!matches!(head, Ask::Part(_)), "HEAD {range}");
        };
        check("", None, Ask::Whole);
        check("bytes=0-9", None, Ask::Whole);
        check("bytes=8388608-", None, Ask::Whole);
        check("bytes=8388609-", None, part(8_388_609, None));
        check(
            "bytes=9000000-9000001",
            None,
            part(9_000_000, Some(9_000_002)),
        );
        check("bytes=-9000000", None, Ask::Whole);
        check("bytes=9000000-, 1-2", None, Ask::Whole);
        let strong = parts("\"a\"");
        let rest = Stretch {
            start: 4,
            end: Some(10),
        };
        check("", Some(&strong), Ask::Rest(rest));
        check("bytes=1-2", Some(&strong), Ask::Whole);
        check("bytes=3-5", Some(&strong), part(3, Some(6)));
        check("bytes=5-", Some(&strong), part(5, Some(10)));
        check("bytes=-1", Some(&strong), part(9, Some(10)));
        check("bytes=0-1, 8-9", Some(&strong), Ask::Whole);
        let weak = parts("W/\"a\"");
        check("", Some(&weak), Ask::Whole);
        check("bytes=3-5", Some(&weak), part(3, Some(6)));
    }

    #[test]
    fn only_the_rest_is_bound_to_what_is_stored() {
        let stored = fields(&[(ETAG, "\"a\"")]);
        let stretch = Stretch {
            start: 4,
            end: Some(10),
        };
        for (ask, range, condition) in [
            (Ask::Whole, None, None),
            (Ask::Part(stretch), Some("bytes=4-9"), None),
            (Ask::Rest(stretch), Some("bytes=4-9"), Some("\"a\"")),
            (part(4, None), Some("bytes=4-"), None),
        ] {
            let mut headers = HeaderMap::new();
            ask.write(&mut headers, Some(&stored));
            let text = |name| headers.get(name).map(|value| value.to_str().unwrap());
            assert_eq!((text(RANGE), text(IF_RANGE)), (range, condition), "{ask:?}");
        }
    }

    #[test]
    fn equal_ranges_share_a_flight_and_others_do_not() {
        let cache = Cache::default();
        let key = cache.hasher.key(b"key").to_key();
        let of = |ask: Ask| ask.flight_key(&cache, &key);
        assert_eq!(of(Ask::Whole), key);
        assert_eq!(
            of(Ask::Rest(Stretch {
                start: 1,
                end: None
            })),
            key
        );
        assert_eq!(of(part(1, Some(2))), of(part(1, Some(2))));
        let different = [
            of(Ask::Whole),
            of(part(1, Some(2))),
            of(part(1, None)),
            of(part(2, None)),
        ];
        for (i, one) in different.iter().enumerate() {
            assert!(different.iter().skip(i + 1).all(|other| other != one));
        }
    }

    /// What becomes of a request for `range` of `length` bytes, of which `arrived` have.
    fn whole(
        range: &'static str,
        length: Option<u64>,
        arrived: u64,
        stored: bool,
        is_part: bool,
    ) -> Plan {
        let key = KeyHasher::default().key(b"k").to_key();
        let head = Head {
            status: StatusCode::OK,
            answered: StatusCode::OK,
            part: None,
            headers: HeaderMap::new(),
            withheld: HeaderMap::new(),
            length,
            age: 0,
            ttl: 0,
            shared: Shared::With {
                nominated: Vec::new(),
                key,
            },
            stored,
            kept: stored,
        };
        let arrival = Arrival {
            head: &head,
            arrived,
            is_part,
        };
        arrival.of_whole(&Method::GET, &fields(&[(RANGE, range)]))
    }

    #[test]
    fn ranges_are_cut_out_of_the_whole_where_that_is_soon_done() {
        const MIB: u64 = 1 << 20;
        let all = |plan| matches!(plan, Plan::All);
        let cut = |plan| matches!(plan, Plan::Ranges(_));
        let alone = |plan| matches!(plan, Plan::Alone);
        let asks = |plan| matches!(plan, Plan::Ask(Ask::Part(_)));
        let far = "bytes=10485760-10485761";
        let length = Some(100 * MIB);
        assert!(cut(whole("bytes=0-1", length, 0, true, false)));
        assert!(asks(whole(far, length, 0, true, false)));
        assert!(
            cut(whole(far, length, 2 * MIB, true, false)),
            "it has come closer"
        );
        assert!(
            all(whole(far, length, 0, true, true)),
            "asking did not help"
        );
        assert!(cut(whole("bytes=0-1, 5-6", length, 0, true, false)));
        assert!(
            all(whole("bytes=5-6, 0-1", length, 0, true, false)),
            "it comes once"
        );
        assert!(alone(whole("bytes=0-1, 10485760-", length, 0, true, false)));
        // Too large to store.
        assert!(asks(whole("bytes=0-1", length, 0, false, false)));
        assert!(cut(whole("bytes=0-1", length, 0, false, true)));
        assert!(cut(whole("bytes=0-", length, 0, false, false)));
        assert!(asks(whole("bytes=-1", length, 0, false, false)));
        // No range can be placed.
        assert!(all(whole("bytes=0-1", None, 0, true, false)));
        assert!(
            cut(whole("bytes=104857600-", length, 0, true, false)),
            "416"
        );
    }
}

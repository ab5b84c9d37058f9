//! A trace of requests, asked of the origin itself and of an edge before it: content and status are
//! the same to the byte, whichever tier answers.

use std::time::{Duration, SystemTime};

use crate::below::{ALL, forget};
use crate::support::client::{Client, Response};
use crate::support::edge::Edge;
use crate::support::origin::{Asked, Origin};
use crate::support::pattern;
use crate::support::reply::Reply;
use crate::truth::{Dice, mix};

const FILES: u64 = 120;
const REQUESTS: usize = 400;

/// Fields that an answer by way of a cache may have otherwise, more or less of, and why.
const MAY_DIFFER: [(&str, &str); 6] = [
    ("age", "RFC 9111 5.1: only a cache sends it"),
    ("cache-status", "RFC 9211: only a cache sends it"),
    ("via", "RFC 9110 7.6.3: only a proxy sends it"),
    (
        "date",
        "RFC 9110 6.6.1: of a stored response, when the origin sent it",
    ),
    ("connection", "RFC 9110 7.6.1: of one connection"),
    ("transfer-encoding", "RFC 9112 6.1: of one connection"),
];

/// What a 304 need not repeat, and a cache leaves out (RFC 9110 15.4.5).
const NOT_IN_304: [&str; 2] = ["content-type", "last-modified"];

/// What a 416 must say alike, and what it must say nothing of (RFC 9110 15.5.17, RFC 9111 3): of the
/// content it may tell more than the origin does.
const IN_416: [&str; 4] = [
    "cache-control",
    "content-length",
    "content-range",
    "expires",
];

/// What the origin has at `/f/NUMBER`. All of it follows from the number.
#[derive(Clone, Copy, Debug)]
struct File(u64);

impl File {
    fn length(self) -> u64 {
        const SPECIAL: [u64; 10] = [
            0,
            1,
            2,
            65_535,
            65_536,
            65_537,
            262_144,
            1 << 20,
            (1 << 20) + 1,
            4 << 20,
        ];
        let special = usize::try_from(self.0).ok();
        let special = special.and_then(|number| SPECIAL.get(number).copied());
        // As many between 1 and 2 bytes as between half a MiB and one.
        special.unwrap_or_else(|| mix(self.0) % (1 << (1 + self.0 % 20)) + 1)
    }

    /// Whether its length is not told before its content.
    fn is_in_pieces(self) -> bool {
        self.0 % 5 == 2
    }

    fn tag(self) -> String {
        format!("\"file-{}\"", self.0)
    }

    fn modified(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + self.0)
    }

    /// The file as it is asked for: some come in two languages.
    fn start(self, language: Option<&str>) -> u64 {
        let german = self.0 % 9 == 4 && language == Some("de");
        (self.0 * 2 + u64::from(german)) << 24
    }

    /// The answer to a request without conditions and ranges.
    fn whole(self, asked: &Asked) -> Reply {
        let start = self.start(asked.field("accept-language").as_deref());
        self.told(Reply::pattern_at(start, self.length()))
    }

    fn told(self, reply: Reply) -> Reply {
        let reply = reply
            .field("ETag", self.tag())
            .field("Last-Modified", httpdate::fmt_http_date(self.modified()))
            .field("Content-Type", "application/x-file")
            .field("X-Number", self.0.to_string())
            .field(
                "Cache-Control",
                match self.0 % 11 {
                    3 => "no-store",
                    5 => "no-cache",
                    7 => "private, max-age=60",
                    _ => "max-age=600",
                },
            );
        if self.0 % 9 == 4 {
            reply.field("Vary", "Accept-Language")
        } else {
            reply
        }
    }

    /// Whether the client has it already (RFC 9110 13.1.2, 13.1.3).
    fn is_known(self, asked: &Asked) -> bool {
        if let Some(tags) = asked.field("if-none-match") {
            return tags == "*" || tags.split(", ").any(|tag| tag == self.tag());
        }
        let since = asked.field("if-modified-since");
        let since = since.and_then(|since| httpdate::parse_http_date(&since).ok());
        since.is_some_and(|since| self.modified() <= since)
    }

    /// The first byte and the one after the last of what is asked for; none if it is the whole
    /// (RFC 9110 13.1.5, 14.2), an error if there is nothing of it.
    fn range(self, asked: &Asked) -> Result<Option<(u64, u64)>, ()> {
        if asked.field("if-range").is_some_and(|tag| tag != self.tag()) {
            return Ok(None);
        }
        let range = asked.field("range");
        let Some(range) = range.as_deref().and_then(|it| it.strip_prefix("bytes=")) else {
            return Ok(None);
        };
        let (first, last) = range.split_once('-').expect("one range");
        let length = self.length();
        let (first, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(first), Ok(last)) => (first, length.min(last + 1)),
            (Ok(first), Err(_)) => (first, length),
            (Err(_), Ok(count)) => (length - length.min(count), length),
            (Err(_), Err(_)) => panic!("{range}"),
        };
        (first < end).then_some(Some((first, end))).ok_or(())
    }
}

/// An origin that knows conditions and ranges.
fn answer(asked: &Asked) -> Reply {
    let number = asked.path().strip_prefix("/f/");
    let file = number.and_then(|number| number.parse().ok()).map(File);
    let Some(file) = file.filter(|file| file.0 < FILES) else {
        let status = if asked.path() == "/gone" { 410 } else { 404 };
        return Reply::status(status)
            .body(format!("nothing at {}", asked.target))
            .field("Cache-Control", "max-age=600");
    };
    if file.is_known(asked) {
        return file.told(Reply::status(304));
    }
    match file.range(asked) {
        Ok(Some((first, end))) if asked.method == "GET" => {
            let start = file.start(asked.field("accept-language").as_deref());
            let length = file.length();
            let content = format!("bytes {first}-{}/{length}", end - 1);
            let mut part = vec![0; usize::try_from(end - first).expect("some MiB")];
            pattern::fill(start + first, &mut part);
            let part = Reply::status(206).body(part);
            file.told(part).field("Content-Range", content)
        }
        Err(()) if asked.method == "GET" => {
            let content = format!("bytes */{}", file.length());
            Reply::status(416).field("Content-Range", content)
        }
        _ if file.is_in_pieces() => file.whole(asked).chunked(),
        _ => file.whole(asked),
    }
}

/// A request of the trace.
#[derive(Clone, Debug)]
struct Request {
    method: &'static str,
    target: String,
    fields: Vec<(&'static str, String)>,
}

/// Some files often and some seldom, whole, in part, and under conditions.
fn trace(seed: u64) -> Vec<Request> {
    let mut dice = Dice::new(seed);
    let mut request = || {
        let among = dice.below(FILES) + 1;
        let file = File(dice.below(among));
        let target = match dice.below(40) {
            0 => "/gone".to_owned(),
            1 => format!("/missing/{}", dice.below(3)),
            _ => format!("/f/{}", file.0),
        };
        let mut fields = Vec::new();
        if dice.below(3) == 0 {
            let language = ["de", "en"][dice.index(2)];
            fields.push(("Accept-Language", language.to_owned()));
        }
        let (kind, length) = (dice.below(100), file.length());
        if (40..75).contains(&kind) {
            let first = dice.below(length + length / 8 + 2);
            let last = first + dice.below(length + 2);
            let range = match dice.below(4) {
                0 => format!("bytes={first}-"),
                1 if length > 0 => format!("bytes=-{}", last + 1),
                _ => format!("bytes={first}-{last}"),
            };
            fields.push(("Range", range));
        }
        let condition = match kind {
            30..35 | 70..75 => Some(("If-None-Match", file.tag())),
            35..40 => Some(("If-None-Match", "\"another\"".to_owned())),
            60..65 => Some(("If-Range", file.tag())),
            65..70 => Some(("If-Range", "\"another\"".to_owned())),
            75..90 => {
                let later = file.modified() + Duration::from_secs(dice.below(3));
                let since = later - Duration::from_secs(1);
                Some(("If-Modified-Since", httpdate::fmt_http_date(since)))
            }
            _ => None,
        };
        fields.extend(condition);
        let method = if kind >= 90 { "HEAD" } else { "GET" };
        Request {
            method,
            target,
            fields,
        }
    };
    (0..REQUESTS).map(|_| request()).collect()
}

impl Request {
    /// Whether it is for a range that nobody can place before all has come. Then the whole may be
    /// the answer (RFC 9110 14.2).
    fn may_be_answered_whole(&self) -> bool {
        let number = self.target.strip_prefix("/f/");
        let file = number.and_then(|number| number.parse().ok()).map(File);
        let ranged = self.fields.iter().any(|(name, _)| *name == "Range");
        ranged && file.is_some_and(File::is_in_pieces)
    }

    fn without_range(&self) -> Self {
        let mut request = self.clone();
        let ranged = |name| matches!(name, "Range" | "If-Range");
        request.fields.retain(|(name, _)| !ranged(*name));
        request
    }

    fn send(&self, client: &mut Client) -> Response {
        let fields: Vec<(&str, &str)> = self
            .fields
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        client.request(self.method, &self.target, &fields, b"")
    }
}

/// Fields by name, but those that may differ from what `other` says.
fn fields(response: &Response, other: &Response) -> Vec<(String, String)> {
    let lines = response.head.fields.iter();
    let comparable = |name: &str| {
        let by_status = match response.status() {
            304 => !NOT_IN_304.contains(&name),
            416 => IN_416.contains(&name),
            _ => true,
        };
        by_status
            && MAY_DIFFER.iter().all(|(may, _)| *may != name)
            // Who sends content in pieces may not know its length.
            && (name != "content-length" || other.field(name).is_some())
    };
    let mut fields: Vec<_> = lines
        .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
        .filter(|(name, _)| comparable(name))
        .collect();
    fields.sort();
    fields
}

/// Replays `trace` of the origin and of `edge`, request by request. The hits.
#[track_caller]
fn replay(trace: &[Request], origin: &Origin, edge: &Edge) -> usize {
    let mut direct = Client::connect(origin.address());
    let mut through = edge.client();
    let mut hits = 0;
    for (number, request) in trace.iter().enumerate() {
        let got = request.send(&mut through);
        let mut expected = request.send(&mut direct);
        if got.status() == 200 && request.may_be_answered_whole() {
            expected = request.without_range().send(&mut direct);
        }
        let said = || {
            format!(
                "{number}: {request:?}: {:?}, direct {:?}",
                got.head, expected.head
            )
        };
        assert_eq!(got.status(), expected.status(), "{}", said());
        let wrong = got
            .body
            .iter()
            .zip(&expected.body)
            .position(|(a, b)| a != b);
        assert!(
            got.body.len() == expected.body.len() && wrong.is_none(),
            "{} bytes, direct {}, differ at {wrong:?}: {}",
            got.body.len(),
            expected.body.len(),
            said()
        );
        let (mine, theirs) = (fields(&got, &expected), fields(&expected, &got));
        assert_eq!(mine, theirs, "{}", said());
        hits += usize::from(got.is_hit());
    }
    hits
}

#[test]
fn a_trace_brings_the_same_bytes_by_way_of_every_tier() {
    let origin = Origin::answering(answer);
    let total: u64 = (0..FILES).map(|number| File(number).length()).sum();
    assert!((10 << 20..60 << 20).contains(&total), "{total}");
    for (seed, below) in (1..).zip(ALL) {
        let trace = trace(seed);
        // Memory has room for some.
        let setup = below.setup(&origin).flag("--memory", "8MiB");
        let mut edge = setup.start();
        let cold = replay(&trace, &origin, &edge);
        let warm = replay(&trace, &origin, &edge);
        forget(&mut edge);
        let recalled = replay(&trace, &origin, &edge);
        assert!(
            cold > 0 && warm > REQUESTS / 2 && recalled > REQUESTS / 2,
            "{below:?}: {cold}, {warm}, {recalled} hits"
        );
    }
}

//! Request smuggling: whatever bytes a client sends, the requests that the origin sees are exactly
//! those that were answered, in the same order (RFC 9112 6.3, 11.2).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::real_origin::RealOrigin;
use crate::support::edge::{Edge, Setup};
use crate::support::origin::{Asked, Origin};
use crate::support::reply::Reply;

const CODINGS: [&str; 44] = [
    "",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding:chunked\r\n",
    "Transfer-Encoding: Chunked\r\n",
    "Transfer-Encoding:\tchunked\r\n",
    "Transfer-Encoding: chunked \r\n",
    "Transfer-Encoding: chunked\t\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding\t: chunked\r\n",
    " Transfer-Encoding: chunked\r\n",
    "\tTransfer-Encoding: chunked\r\n",
    "X: y\r\n Transfer-Encoding: chunked\r\n",
    "X: y\nTransfer-Encoding: chunked\r\n",
    "X: y\rTransfer-Encoding: chunked\r\n",
    "X: y\r\r\nTransfer-Encoding: chunked\r\n",
    "X: y\0Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
    "Transfer-Encoding:\n chunked\r\n",
    "Transfer-Encoding: chunked\n",
    "Transfer-Encoding: \u{b}chunked\r\n",
    "Transfer-Encoding: \u{c}chunked\r\n",
    "Transfer-Encoding: chunked\u{b}\r\n",
    "Transfer-Encoding: \u{a0}chunked\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: chunkedx\r\n",
    "Transfer-Encoding: chunked;q=1\r\n",
    "Transfer-Encoding: chunked;\r\n",
    "Transfer-Encoding: \"chunked\"\r\n",
    "Transfer-Encoding: 'chunked'\r\n",
    "Transfer-Encoding: chunked,\r\n",
    "Transfer-Encoding: ,chunked\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: identity, chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
    "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n",
    "Transfer_Encoding: chunked\r\n",
    "Transfer-Encoding\u{0}: chunked\r\n",
    "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
    "TE: chunked\r\nTransfer-Encoding: chunked\r\n",
];

/// `{}` stands for the length of what follows the head.
const LENGTHS: [&str; 24] = [
    "",
    "Content-Length: {}\r\n",
    "content-length:{}\r\n",
    "Content-Length: 0{}\r\n",
    "Content-Length: +{}\r\n",
    "Content-Length: -{}\r\n",
    "Content-Length: {} \r\n",
    "Content-Length: {}, {}\r\n",
    "Content-Length: {},\r\n",
    "Content-Length: {}.0\r\n",
    "Content-Length: {}e0\r\n",
    "Content-Length: 0x{}\r\n",
    "Content-Length: {}\r\nContent-Length: {}\r\n",
    "Content-Length: 0\r\nContent-Length: {}\r\n",
    "Content-Length: {}\r\nContent-Length: 0\r\n",
    "Content-Length : {}\r\n",
    " Content-Length: {}\r\n",
    "Content-Length:\r\n {}\r\n",
    "Content-Length: \u{b}{}\r\n",
    "Content-Length: {}\0\r\n",
    "Content-Length: 1844674407370955161{}\r\n",
    "Content_Length: {}\r\n",
    "X: y\nContent-Length: {}\r\n",
    "Connection: content-length\r\nContent-Length: {}\r\n",
];

/// What follows a head: one content for who reads chunks, another for who counts bytes.
const CONTENTS: [&str; 6] = [
    "0\r\n\r\nGET /HIDDEN HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\nGET /HIDDEN HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "5\nhello\n0\n\nGET /HIDDEN HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "5;x=\"\r\n\r\nhello\r\n0\r\n\r\nGET /HIDDEN HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "0\r\nX: y\nGET /HIDDEN HTTP/1.1\r\nHost: edge.test\r\n\r\n",
    "00000000000000000000005\r\nhello\r\n0\r\n\r\nGET /HIDDEN HTTP/1.1\r\nHost: edge.test\r\n\r\n",
];

const START_LINES: [&str; 10] = [
    "GET /V HTTP/1.1\r\n",
    "POST /V HTTP/1.0\r\n",
    "POST /V HTTP/1.1\n",
    "POST /V HTTP/1.2\r\n",
    "POST  /V HTTP/1.1\r\n",
    "POST /V\tHTTP/1.1\r\n",
    "POST /V HTTP/1.1 \r\n",
    "\r\nPOST /V HTTP/1.1\r\n",
    "POST http://edge.test/V HTTP/1.1\r\n",
    "POST /V HTTP/1.1\r\nX:\r\n",
];

/// Every vector; `/V`, `/HIDDEN` and `/LAST` become paths of its own.
fn vectors() -> Vec<String> {
    let mut all = Vec::new();
    let mut add = |start: &str, fields: &[&str], content: &str| {
        let fields = fields.concat().replace("{}", &content.len().to_string());
        all.push(format!("{start}Host: edge.test\r\n{fields}\r\n{content}"));
    };
    let post = "POST /V HTTP/1.1\r\n";
    for coding in CODINGS {
        for (length, content) in [
            ("", CONTENTS[0]),
            (LENGTHS[1], CONTENTS[0]),
            (LENGTHS[1], CONTENTS[1]),
            ("Content-Length: 3\r\n", CONTENTS[1]),
        ] {
            add(post, &[coding, length], content);
            add(post, &[length, coding], content);
        }
    }
    for length in LENGTHS {
        add(post, &[length], CONTENTS[0]);
        add(post, &[length, CODINGS[1]], CONTENTS[0]);
    }
    for start in START_LINES {
        for fields in [CODINGS[1], LENGTHS[1], CODINGS[5]] {
            add(start, &[fields], CONTENTS[0]);
        }
    }
    for content in CONTENTS {
        add(post, &[CODINGS[1]], content);
        add(post, &[CODINGS[3]], content);
    }
    all
}

/// The requests that were answered, in order, told by the answers themselves.
pub(crate) fn answered(stream: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(stream);
    let starts = text.match_indices('[');
    starts
        .filter_map(|(at, _)| Some(text[at..=at + text[at..].find(']')?].to_owned()))
        .collect()
}

/// What was answered of each vector, sent over a connection of its own with one more request
/// behind it.
fn send_all(edge: &Edge, prefix: &str) -> Vec<(String, Vec<String>)> {
    let vectors = Arc::new(vectors());
    let next = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..16)
        .map(|_| {
            let (vectors, next) = (Arc::clone(&vectors), Arc::clone(&next));
            let (address, prefix) = (edge.address(), prefix.to_owned());
            std::thread::spawn(move || {
                let mut results = Vec::new();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(vector) = vectors.get(index) else {
                        return results;
                    };
                    let named = |text: &str| {
                        text.replace("/V", &format!("/{prefix}-{index}-v"))
                            .replace("/HIDDEN", &format!("/{prefix}-{index}-h"))
                    };
                    let last = format!("/{prefix}-{index}-l");
                    let last = format!(
                        "GET {last} HTTP/1.1\r\nHost: edge.test\r\nConnection: close\r\n\r\n"
                    );
                    let mut client = crate::support::client::Client::connect(address);
                    client.offer(format!("{}{last}", named(vector)));
                    let answers = answered(&client.rest());
                    results.push((format!("{index}-"), answers));
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .flat_map(|thread| thread.join().expect("sound"))
        .collect()
}

pub(crate) fn edge_before(origin: &str) -> Edge {
    Setup::new()
        .config(&format!(
            "[[site]]\nname = \"default\"\norigin = \"{origin}\"\n"
        ))
        .set("limits.client_idle", "500ms")
        .set("limits.head", "500ms")
        .start()
}

fn check(what: &str, results: Vec<(String, Vec<String>)>, asked: impl Fn(&str) -> Vec<String>) {
    assert!(results.len() >= 300, "{} vectors", results.len());
    let vectors = vectors();
    for (id, answers) in results {
        let index: usize = id.trim_end_matches('-').parse().expect("a number");
        let mut asked = asked(&id);
        if answers.is_empty() {
            // A request whose content turned out to be malformed broke off on its way; the origin
            // may have begun with it.
            asked.retain(|said| !said.contains("-v"));
        }
        assert_eq!(
            answers,
            asked,
            "{what}: vector {index}: {:?}: answered | asked of the origin",
            vectors.get(index)
        );
    }
}

#[test]
fn the_origin_sees_exactly_what_was_answered() {
    let said = |asked: &Asked| format!("[{} {}]", asked.method, asked.target);
    let origin =
        Origin::answering(move |asked| Reply::ok(said(asked)).field("Cache-Control", "no-store"));
    let edge = edge_before(&origin.url());
    let results = send_all(&edge, "own");
    let asked = origin.asked();
    check("scripted", results, |id| {
        let mine = asked.iter().map(said);
        mine.filter(|said| said.contains(&format!("/own-{id}")))
            .collect()
    });
}

#[test]
#[expect(clippy::print_stderr, reason = "says what was not tested")]
fn real_origins_see_exactly_what_was_answered() {
    let origins = RealOrigin::all();
    if origins.len() < 2 {
        eprintln!("skipped: nginx or python3 is not installed");
    }
    for origin in origins {
        let edge = edge_before(&format!("http://127.0.0.1:{}", origin.port));
        let results = send_all(&edge, "real");
        origin.settle();
        check(origin.name, results, |id| {
            origin.asked(&format!("/real-{id}"))
        });
    }
}

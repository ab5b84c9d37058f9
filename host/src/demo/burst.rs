//! The demo's clients: a few keep-alive connections that ask for the site's resources as fast as
//! they are answered, and check every byte of every answer.
//!
//! Which requests a connection sends depends on the round and on nothing else, so that two rounds
//! of the same number are the very same requests.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::origin::{ARCHIVE, ARTICLES, ASSETS, Content, article};
use crate::clock;

/// Connections at once.
pub(super) const CONNECTIONS: u64 = 8;
/// The longest wait for a piece of an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the clients saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Requests answered with the right status and the right bytes.
    pub(super) answered: u64,
    /// Those among them that `Cache-Status` calls hits.
    pub(super) hits: u64,
    /// What was wrong with the others. A connection ends with its first.
    pub(super) failures: Vec<String>,
    /// How long it took.
    pub(super) took: Duration,
}

/// Sends the requests of `round`; each connection goes on while `more` says so of the number of
/// requests that it has made.
pub(super) fn burst(
    edge: SocketAddr,
    content: &Content,
    round: u64,
    more: &(impl Fn(u64) -> bool + Sync),
) -> Seen {
    let start = clock::instant();
    let mut seen = Seen::default();
    std::thread::scope(|scope| {
        let connect = |number| move || connection(edge, content, [round, number], more);
        let running: Vec<_> = (0..CONNECTIONS).map(|n| scope.spawn(connect(n))).collect();
        for thread in running {
            match thread.join() {
                Ok(one) => {
                    seen.answered += one.answered;
                    seen.hits += one.hits;
                    seen.failures.extend(one.failures);
                }
                Err(_) => seen.failures.push("a client panicked".to_owned()),
            }
        }
    });
    seen.took = start.elapsed();
    seen
}

fn connection(
    edge: SocketAddr,
    content: &Content,
    [round, number]: [u64; 2],
    more: &impl Fn(u64) -> bool,
) -> Seen {
    let mut seen = Seen::default();
    let mut stream = match connect(edge) {
        Ok(stream) => stream,
        Err(error) => {
            seen.failures
                .push(format!("no connection to {edge}: {error}"));
            return seen;
        }
    };
    while more(seen.answered) {
        let target = target([round, number, seen.answered]);
        match ask(&mut stream, edge, &target) {
            Ok(answer)
                if content
                    .body(&target)
                    .is_some_and(|body| *body == answer.body) =>
            {
                seen.answered += 1;
                seen.hits += u64::from(answer.is_hit);
            }
            Ok(_) => seen
                .failures
                .push(format!("{target}: the answer has the wrong bytes")),
            Err(error) => seen.failures.push(format!("{target}: {error}")),
        }
        if !seen.failures.is_empty() {
            break;
        }
    }
    seen
}

fn connect(edge: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(edge)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(stream))
}

/// What is asked for. A third of the links to articles are bare; the others came by mail and by
/// advertisements, which add parameters that no two visitors share, in the place they like.
fn target(seed: [u64; 3]) -> String {
    let text = seed.map(u64::to_le_bytes);
    let mut random = blake3::Hasher::new()
        .update(text.as_flattened())
        .finalize_xof();
    let mut draw = |below: u64| {
        let mut bytes = [0; 8];
        random.fill(&mut bytes);
        u64::from_le_bytes(bytes) % below
    };
    match draw(200) {
        0 => return ARCHIVE.to_owned(),
        1..=30 => {
            let [styles, script] = ASSETS;
            return if draw(2) == 0 { styles } else { script }.to_owned();
        }
        _ => {}
    }
    // The lower of two draws: some articles are read more than others.
    let path = article(1 + draw(ARTICLES).min(draw(ARTICLES)));
    let (part, visitor) = (1 + draw(2), draw(u64::MAX));
    match draw(3) {
        0 => path,
        1 => format!("{path}?utm_source=mail&utm_campaign=spring&part={part}&mc_eid={visitor:x}"),
        _ => format!("{path}?part={part}&fbclid={visitor:x}"),
    }
}

struct Answer {
    is_hit: bool,
    body: Vec<u8>,
}

/// One exchange on a connection that stays open.
fn ask(stream: &mut BufReader<TcpStream>, host: SocketAddr, target: &str) -> io::Result<Answer> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes())?;
    let mut line = String::new();
    stream.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200 ") {
        return Err(io::Error::other(format!("answered {:?}", line.trim_end())));
    }
    let (mut length, mut is_hit) = (None, false);
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().ok(),
            Some(("cache-status", value)) => is_hit = value.starts_with("larder; hit"),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length.ok_or_else(|| io::Error::other("an answer without length"))?];
    stream.read_exact(&mut body)?;
    Ok(Answer { is_hit, body })
}

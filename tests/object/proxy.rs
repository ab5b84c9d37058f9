//! A proxy before the service that can misbehave: what a network, a balancer or a bad store does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Connections are closed without an answer.
    Outage,
    /// Requests are never answered.
    Silence,
    /// Answers come later.
    Slow(Duration),
    /// Each tenth answer comes so much later.
    TenthSlow(Duration),
    /// Each tenth answer is a 500.
    TenthFails,
    /// 429, to try again after so many seconds.
    Throttled(u64),
    /// The answer to a GET ends in the middle, and so does the connection.
    Broken,
    /// The answer to a GET is shorter than what is stored, and says so.
    Cut,
    /// A bit in the answer to a GET is wrong.
    Flipped,
    /// Conditions of a write are ignored.
    Unconditional,
    /// Writes are denied.
    ReadOnly,
    /// What is not below this place, or a list of it, is denied.
    Outside(&'static str),
}

#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    fault: Mutex<Fault>,
    requests: AtomicU64,
    asked: Mutex<Vec<String>>,
    denied: AtomicU64,
}

/// A request or an answer: its first line, its fields, its content.
struct Message {
    first: String,
    fields: Vec<String>,
    content: Vec<u8>,
}

impl Proxy {
    pub(crate) fn before(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            upstream,
            fault: Mutex::new(Fault::None),
            requests: AtomicU64::new(0),
            asked: Mutex::default(),
            denied: AtomicU64::new(0),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, shared) = (stream.expect("a connection"), Arc::clone(&serving));
                thread::spawn(move || shared.serve(&stream));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
    }

    /// Requests that came so far.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Their request lines, without the version.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Those of them that were denied, here or behind it.
    pub(crate) fn denied(&self) -> u64 {
        self.shared.denied.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn serve(&self, client: &TcpStream) {
        let mut reader = BufReader::new(client);
        while let Some(request) = Message::read(&mut reader, false) {
            let number = self.requests.fetch_add(1, Ordering::Relaxed);
            self.asked.lock().unwrap().push(request.line());
            if self.answer(request, client, number).is_none() {
                break;
            }
        }
        client.shutdown(Shutdown::Both).ok();
    }

    /// Answers a request; none if the connection ends.
    fn answer(&self, mut request: Message, mut client: &TcpStream, number: u64) -> Option<()> {
        let fault = *self.fault.lock().unwrap();
        let reads = request.first.starts_with("GET ");
        let tenth = number % 10 == 9;
        match fault {
            Fault::Outage => return None,
            Fault::Silence => {
                // Until the client has had enough.
                let mut nothing = [0; 1];
                client.read_exact(&mut nothing).ok();
                return None;
            }
            Fault::Slow(time) => thread::park_timeout(time),
            Fault::TenthSlow(time) if tenth => thread::park_timeout(time),
            Fault::TenthFails if tenth => return Message::plain(500, "").write(client),
            Fault::Throttled(seconds) => {
                let field = format!("Retry-After: {seconds}\r\n");
                return Message::plain(429, &field).write(client);
            }
            Fault::ReadOnly if !reads => return Message::plain(403, "").write(client),
            Fault::Outside(place) if !is_below(place, &request.line()) => {
                self.denied.fetch_add(1, Ordering::Relaxed);
                return Message::plain(403, "").write(client);
            }
            Fault::Unconditional => {
                let conditional = |field: &String| field.to_lowercase().starts_with("if-");
                request.fields.retain(|field| !conditional(field));
            }
            _ => {}
        }
        let mut answer = self.forward(request)?;
        let denied = answer.first.split(' ').nth(1) == Some("403");
        self.denied.fetch_add(u64::from(denied), Ordering::Relaxed);
        let (length, listing) = (answer.content.len(), answer.content.starts_with(b"<?xml"));
        if reads && length > 0 && !listing {
            match fault {
                Fault::Broken => {
                    let mut half = answer.head();
                    half.extend_from_slice(&answer.content[..length / 2]);
                    client.write_all(&half).ok()?;
                    return None;
                }
                Fault::Cut => answer.cut(length / 2),
                Fault::Flipped => {
                    // Anywhere in it, so that every part has its turn.
                    let bit = usize::try_from(number * 7_919).expect("small") % (length * 8);
                    answer.content[bit / 8] ^= 1 << (bit % 8);
                }
                _ => {}
            }
        }
        answer.write(client)
    }

    fn forward(&self, mut request: Message) -> Option<Message> {
        let mut upstream = TcpStream::connect(self.upstream).ok()?;
        request.fields.push("Connection: close\r\n".to_owned());
        let head = request.head();
        upstream.write_all(&[head, request.content].concat()).ok()?;
        Message::read(&mut BufReader::new(upstream), true)
    }
}

/// Whether the request with this line names an object below `place`, a bucket and a prefix, or lists
/// such objects.
fn is_below(place: &str, line: &str) -> bool {
    let target = line.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let below = |name: &str| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    let object = path.strip_prefix(&format!("/{bucket}")).unwrap_or_default();
    match object.trim_start_matches('/') {
        "" => {
            let mut parameters = query.split('&');
            let listed = parameters.find_map(|parameter| parameter.strip_prefix("prefix="));
            listed.is_some_and(|listed| below(&listed.replace("%2F", "/")))
        }
        object => below(object),
    }
}

impl Message {
    /// The method and the target.
    fn line(&self) -> String {
        let line = self.first.rsplit_once(' ');
        line.map_or_else(String::new, |(line, _)| line.to_owned())
    }

    /// Reads one; content without a length goes `to_the_end`, or is none.
    fn read(reader: &mut impl BufRead, to_the_end: bool) -> Option<Self> {
        let mut line = || {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            Some(line)
        };
        let first = line()?;
        let (mut fields, mut length) = (Vec::new(), None);
        loop {
            let field = line()?;
            if field == "\r\n" {
                break;
            }
            let (name, value) = field.split_once(':')?;
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse::<u64>().ok(),
                "connection" => continue,
                _ => {}
            }
            fields.push(field);
        }
        let mut content = Vec::new();
        match (length, to_the_end) {
            (Some(length), _) => {
                // The answer to a HEAD has a length and no content; nothing here asks for one.
                reader.take(length).read_to_end(&mut content).ok()?;
            }
            (None, true) => drop(reader.read_to_end(&mut content).ok()?),
            (None, false) => {}
        }
        Some(Self {
            first,
            fields,
            content,
        })
    }

    fn plain(status: u16, fields: &str) -> Self {
        Self {
            first: format!("HTTP/1.1 {status} Said\r\n"),
            fields: vec![format!("Content-Length: 0\r\n{fields}")],
            content: Vec::new(),
        }
    }

    /// The first half only, as if that were all.
    fn cut(&mut self, length: usize) {
        self.content.truncate(length);
        let is_length = |field: &String| field.to_ascii_lowercase().starts_with("content-length");
        self.fields.retain(|field| !is_length(field));
        self.fields.push(format!("Content-Length: {length}\r\n"));
    }

    fn head(&self) -> Vec<u8> {
        let first = self.first.replacen("HTTP/1.0", "HTTP/1.1", 1);
        format!("{first}{}\r\n", self.fields.concat()).into_bytes()
    }

    fn write(&self, mut client: &TcpStream) -> Option<()> {
        client.write_all(&self.head()).ok()?;
        client.write_all(&self.content).ok()
    }
}

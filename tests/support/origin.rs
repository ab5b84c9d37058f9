//! An origin that answers as scripted and remembers what it was asked.
//!
//! One thread a connection, keep-alive. A route is a function of the request and of how many came
//! before it; without a route the answer is 404.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use super::PATIENCE;
use super::reply::{Gate, Reply};

/// A request as the origin received it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// As in the request line.
    pub(crate) target: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Number of the connection, in the order of their arrival.
    pub(crate) connection: usize,
    /// How many requests for this path came before.
    pub(crate) turn: usize,
}

impl Asked {
    /// The value of the field, lines joined by a comma.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let lines: Vec<&str> = self
            .fields
            .iter()
            .filter(|(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    /// The target without its query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

type Route = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

#[derive(Default)]
struct State {
    routes: HashMap<String, Route>,
    anything: Option<Route>,
    /// Number of requests for each path so far.
    turns: HashMap<String, usize>,
    asked: Vec<Asked>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    connections: AtomicUsize,
    over: Gate,
}

/// A running origin. Dropping it ends answers that hang; connections end with their peers.
pub(crate) struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Origin {
    /// Starts one without routes.
    pub(crate) fn start() -> Self {
        Self::on_port(0)
    }

    /// Starts one without routes on `port`, which is free.
    pub(crate) fn on_port(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let number = accepting.connections.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&accepting);
                // A peer that goes away in the middle is part of the tests.
                std::thread::spawn(move || shared.serve(stream, number));
            }
        });
        Self { address, shared }
    }

    /// Starts one that answers every request alike.
    pub(crate) fn always(reply: Reply) -> Self {
        Self::answering(move |_| reply.clone())
    }

    /// Starts one that answers every request by `answer`.
    pub(crate) fn answering(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let origin = Self::start();
        origin.answer(answer);
        origin
    }

    /// Answers requests without a route by `answer` from now on.
    pub(crate) fn answer(&self, answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) {
        self.shared.state.lock().expect("sound").anything = Some(Arc::new(answer));
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// As a value of `origin` in the configuration.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers requests for `path`, whatever their query and method, with `reply` from now on.
    pub(crate) fn on(&self, path: &str, reply: Reply) {
        self.route(path, move |_| reply.clone());
    }

    /// Answers requests for `path`, whatever their query and method, by `answer` from now on.
    pub(crate) fn route(
        &self,
        path: &str,
        answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) {
        let mut state = self.shared.state.lock().expect("sound");
        state.routes.insert(path.to_owned(), Arc::new(answer));
    }

    /// Answers the first request for `path` by the first of `replies` and so on; the last one
    /// answers all that follow.
    pub(crate) fn sequence(&self, path: &str, replies: Vec<Reply>) {
        let before = self.count(path);
        self.route(path, move |asked| {
            let turn = (asked.turn - before).min(replies.len() - 1);
            replies[turn].clone()
        });
    }

    /// Every request so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.state.lock().expect("sound").asked.clone()
    }

    /// Every request for `path` so far.
    pub(crate) fn asked_for(&self, path: &str) -> Vec<Asked> {
        self.asked()
            .into_iter()
            .filter(|asked| asked.path() == path)
            .collect()
    }

    /// Number of requests for `path` so far.
    pub(crate) fn count(&self, path: &str) -> usize {
        let state = self.shared.state.lock().expect("sound");
        state
            .asked
            .iter()
            .filter(|asked| asked.path() == path)
            .count()
    }

    /// Number of all requests so far.
    pub(crate) fn total(&self) -> usize {
        self.shared.state.lock().expect("sound").asked.len()
    }

    /// Number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Waits until `count` requests for `path` have arrived.
    #[track_caller]
    pub(crate) fn wait_for(&self, path: &str, count: usize) {
        let arrived = |state: &State| {
            state
                .asked
                .iter()
                .filter(|asked| asked.path() == path)
                .count()
        };
        let state = self.shared.state.lock().expect("sound");
        let waited = self
            .shared
            .changed
            .wait_timeout_while(state, PATIENCE, |state| arrived(state) < count);
        let (state, _) = waited.expect("sound");
        assert!(
            arrived(&state) >= count,
            "{} of {count} requests for {path}",
            arrived(&state)
        );
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.over.open();
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream, connection: usize) {
        let Ok(reading) = stream.try_clone() else {
            return;
        };
        let mut reader = BufReader::new(reading);
        drop(stream.set_nodelay(true));
        while let Some(mut asked) = read_request(&mut reader, connection) {
            let route = {
                let mut state = self.state.lock().expect("sound");
                let turns = state.turns.entry(asked.path().to_owned()).or_default();
                asked.turn = *turns;
                *turns += 1;
                let route = state
                    .routes
                    .get(asked.path())
                    .or(state.anything.as_ref())
                    .cloned();
                state.asked.push(asked.clone());
                route
            };
            self.changed.notify_all();
            let reply = route.map_or_else(|| Reply::status(404), |route| route(&asked));
            if !matches!(reply.send(&mut stream, &asked.method, &self.over), Ok(true)) {
                return;
            }
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>, connection: usize) -> Option<Asked> {
    let line = read_line(reader)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut fields = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut asked = Asked {
        method,
        target,
        fields,
        body: Vec::new(),
        connection,
        turn: 0,
    };
    if asked.field("transfer-encoding").is_some() {
        loop {
            let size = usize::from_str_radix(read_line(reader)?.trim(), 16).ok()?;
            let start = asked.body.len();
            asked.body.resize(start + size, 0);
            reader.read_exact(&mut asked.body[start..]).ok()?;
            read_line(reader)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = asked.field("content-length") {
        asked.body.resize(length.parse().ok()?, 0);
        reader.read_exact(&mut asked.body).ok()?;
    }
    Some(asked)
}

fn read_line(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).ok()?;
    let line = line.strip_suffix(b"\r\n")?;
    Some(String::from_utf8_lossy(line).into_owned())
}

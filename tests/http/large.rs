//! Objects far larger than what the tier takes: streamed through with bounded memory, whatever
//! their readers do.

use crate::support::client::{Client, Head, request};
use crate::support::edge::{Edge, Setup};
use crate::support::long;
use crate::support::origin::{Asked, Origin};
use crate::support::pattern;
use crate::support::reply::{Gate, Reply};

const MIB: u64 = 1 << 20;
/// How much resident memory may grow by.
const GROWTH: u64 = 32 * MIB;

fn length() -> u64 {
    if long() { 1_024 * MIB } else { 256 * MIB }
}

/// The object; a part of it to who asks for one.
fn object(asked: &Asked) -> Reply {
    let range = asked.field("range");
    let start = range
        .as_deref()
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    let reply = match start {
        Some(start) => Reply::pattern_from(start.parse().expect("a number"), length()),
        None => Reply::pattern(length()),
    };
    reply
        .field("Cache-Control", "max-age=600")
        .field("ETag", "\"large\"")
        .in_pieces(256 << 10)
}

/// Watches the resident memory of an edge.
struct Memory<'a> {
    edge: &'a Edge,
    before: u64,
    most: u64,
}

impl<'a> Memory<'a> {
    /// From now on, after an edge has served something and so has what it always needs.
    fn of(edge: &'a Edge) -> Self {
        for n in 0..10 {
            edge.get(&format!("/small/{n}"));
        }
        let before = edge.resident_bytes();
        Self {
            edge,
            before,
            most: before,
        }
    }

    fn sample(&mut self) {
        self.most = self.most.max(self.edge.resident_bytes());
    }

    #[track_caller]
    fn check(&self) {
        let grown = self.most - self.before;
        assert!(grown <= GROWTH, "grew by {} KiB", grown / 1_024);
    }
}

/// Reads what is left of a body that began with `had` bytes, up to `until` of them.
fn read(client: &mut Client, had: &mut u64, until: u64, memory: &mut Memory<'_>) {
    let mut sampled = *had;
    while *had < until {
        let piece = client.some();
        assert!(!piece.is_empty(), "broke off after {had} bytes");
        pattern::check(*had, &piece);
        *had += pattern::to_u64(piece.len());
        if *had - sampled >= 4 * MIB {
            sampled = *had;
            memory.sample();
        }
    }
}

fn begin(edge: &Edge) -> (Client, Head) {
    let mut client = edge.client();
    client.send(request("GET", "/large", &[], b""));
    let head = client.head();
    assert_eq!(
        (head.status, head.field("content-length")),
        (200, Some(length().to_string()))
    );
    (client, head)
}

fn start(origin: &Origin) -> Edge {
    origin.on("/small", Reply::cached("small"));
    Setup::before(origin).flag("--memory", "64MiB").start()
}

#[test]
fn a_large_object_streams_through_in_little_memory() {
    let origin = Origin::start();
    let gate = Gate::default();
    let held = gate.clone();
    origin.route("/large", move |asked| object(asked).pausing(MIB, &held));
    let edge = start(&origin);
    let mut memory = Memory::of(&edge);
    let (mut client, _) = begin(&edge);
    let mut had = 0;
    read(&mut client, &mut had, MIB, &mut memory);
    // That was before the origin has sent the rest.
    gate.open();
    read(&mut client, &mut had, length(), &mut memory);
    assert_eq!((had, origin.count("/large")), (length(), 1));
    memory.check();
    assert_eq!(edge.get("/small").text(), "small", "nothing else suffered");
}

#[test]
fn a_slow_and_a_late_reader_get_all_of_it_and_hold_nobody_up() {
    let origin = Origin::start();
    origin.route("/large", object);
    let edge = start(&origin);
    let mut memory = Memory::of(&edge);
    let (mut fast, _) = begin(&edge);
    let mut slow = edge.client();
    slow.read_slowly();
    slow.send(request("GET", "/large", &[], b""));
    slow.head();
    let (mut had_fast, mut had_slow, mut had_late) = (0, 0, 0);
    read(&mut fast, &mut had_fast, length() / 2, &mut memory);
    let (mut late, _) = begin(&edge);
    read(&mut late, &mut had_late, length() / 4, &mut memory);
    read(&mut fast, &mut had_fast, length(), &mut memory);
    drop(fast);
    read(&mut slow, &mut had_slow, length(), &mut memory);
    read(&mut late, &mut had_late, length(), &mut memory);
    assert_eq!([had_fast, had_slow, had_late], [length(); 3]);
    memory.check();
    let asked = origin.count("/large");
    assert!((2..=4).contains(&asked), "{asked} fetches");
}

/// Without a validator nobody can ask for the rest of the same content.
#[test]
fn who_could_not_catch_up_has_a_fetch_of_its_own() {
    let origin = Origin::start();
    let all = 64 * MIB;
    let reply = Reply::pattern(all).in_pieces(256 << 10);
    origin.on("/large", reply.field("Cache-Control", "max-age=600"));
    let edge = start(&origin);
    let mut memory = Memory::of(&edge);
    let [mut fast, mut slow] = [(); 2].map(|()| {
        let mut client = edge.client();
        client.read_slowly();
        client.send(request("GET", "/large", &[], b""));
        assert_eq!(client.head().status, 200);
        client
    });
    let (mut had_fast, mut had_slow) = (0, 0);
    read(&mut fast, &mut had_fast, all, &mut memory);
    read(&mut slow, &mut had_slow, all, &mut memory);
    assert_eq!(origin.count("/large"), 2);
    memory.check();
}

#[test]
fn an_object_of_unknown_length_streams_through_in_little_memory() {
    let origin = Origin::start();
    let reply = Reply::pattern(128 * MIB).chunked().in_pieces(256 << 10);
    origin.on("/large", reply.field("Cache-Control", "max-age=600"));
    let edge = start(&origin);
    let mut memory = Memory::of(&edge);
    let mut client = edge.client();
    client.send(request("GET", "/large", &[], b""));
    let head = client.head();
    let (mut taken, mut sampled) = (0, 0);
    let read = client.read_body(&head, "GET", |piece| {
        pattern::check(taken, piece);
        taken += pattern::to_u64(piece.len());
        if taken - sampled > 4 * MIB {
            sampled = taken;
            memory.sample();
        }
    });
    assert_eq!((read, taken), (Ok(()), 128 * MIB));
    // Until it proved too long it was set aside for the tier, which may take as much.
    assert!(memory.most - memory.before <= GROWTH + 16 * MIB);
    assert_eq!(edge.metrics().count("larder_tier_reserved_bytes", &[]), 0);
}

//! A world that changes while an edge serves it, and that knows which answers are right.
//!
//! Every resource has versions, and what a version contains follows from the number of the resource
//! and of the version, to the byte. So every byte of every answer is checked, and an answer tells
//! how old it is. An answer may be older than what the origin has. It may not be older than a purge
//! that was acknowledged before it was asked for, nor, while the process lives, than what an earlier
//! answer brought.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::json;

use crate::support::client::{Client, Head, request};
use crate::support::edge::Edge;
use crate::support::origin::{Asked, Origin};
use crate::support::pattern;
use crate::support::reply::Reply;

/// Tags that resources are spread over.
const TAGS: usize = 5;
/// One resource in this many may only be answered with once the origin has agreed: that with this
/// remainder.
const CHECKED: usize = 8;
const CHECKED_AT: usize = 7;

/// A number given by the environment, for the long forms of tests.
pub(crate) fn knob(name: &str, by_default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(by_default, |given| {
        given
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number"))
    })
}

/// Numbers that follow from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `limit`, or 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub(crate) fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(pattern::to_u64(limit))).expect("below a length")
    }
}

fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// What a resource is at the origin, and what answers may be.
#[derive(Clone, Copy, Debug, Default)]
struct Resource {
    /// At the origin, now.
    version: u64,
    /// Older is purged.
    purged: u64,
    /// Older was superseded in an answer of this process.
    seen: u64,
    /// Older was superseded in an answer, and that outlasts the process.
    kept: u64,
}

/// A version of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Edition {
    resource: u64,
    version: u64,
}

impl Edition {
    fn hash(self) -> u64 {
        mix(self
            .resource
            .wrapping_mul(0x1_0000_0001)
            .wrapping_add(mix(self.version)))
    }

    /// Where its content begins in the pattern: no two begin within a few MiB, and few begin with
    /// the same byte.
    fn start(self) -> u64 {
        let hash = self.hash();
        ((hash % (1 << 36)) << 24) + 8 + (hash >> 40) % 1_000
    }

    /// Bytes of its content: a few, some KiB, about a chunk, some extents.
    fn length(self, largest: u64) -> u64 {
        let hash = mix(self.hash());
        let within = |low: u64, high: u64| low + (hash >> 8) % (high - low);
        let length = match hash % 16 {
            0 => 1,
            1..4 => within(2, 100),
            4..8 => within(100, 8_000),
            8..11 => within(8_000, 70_000),
            11 => within(65_530, 65_542),
            12..14 => within(70_000, 300_000),
            14 => within(262_140, 262_150),
            _ => within(300_000, 3_000_000),
        };
        length.min(largest)
    }

    fn tag(self) -> String {
        format!("\"{}-{}\"", self.resource, self.version)
    }
}

/// What came of a load.
#[derive(Debug, Default)]
struct Counts {
    answers: AtomicU64,
    hits: AtomicU64,
    bytes: AtomicU64,
    purges: AtomicU64,
    broken: AtomicU64,
}

/// The resources, their origin's side.
#[derive(Debug)]
struct Truth {
    resources: Mutex<Vec<Resource>>,
    largest: u64,
    /// Those from this one on are left alone by loads.
    quiet: usize,
}

/// Resources behind an origin, and what was answered.
pub(crate) struct World {
    origin: Origin,
    truth: Arc<Truth>,
    counts: Counts,
    /// Whether content may break off, because a tier fails while it is read.
    may_break: AtomicBool,
}

/// An answer, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) hit: bool,
}

impl Truth {
    fn lock(&self) -> MutexGuard<'_, Vec<Resource>> {
        self.resources.lock().expect("nobody panics in here")
    }

    fn of(&self, resource: usize) -> Resource {
        self.lock().get(resource).copied().expect("one of them")
    }

    fn answer(&self, asked: &Asked) -> Reply {
        let number = asked
            .path()
            .rsplit('/')
            .next()
            .and_then(|it| it.parse().ok());
        let Some(number) = number.filter(|number| *number < self.lock().len()) else {
            return Reply::status(404);
        };
        let edition = Edition {
            resource: pattern::to_u64(number),
            version: self.of(number).version,
        };
        let quiet = number >= self.quiet;
        let (lifetime, tag) = match (quiet, number % CHECKED) {
            (true, _) => ("max-age=600", "quiet".to_owned()),
            (false, CHECKED_AT) => ("no-cache", tag_of(number)),
            (false, _) => ("max-age=600", tag_of(number)),
        };
        let told = |reply: Reply| {
            reply
                .field("Cache-Control", lifetime)
                .field("ETag", edition.tag())
                .field("Surrogate-Key", tag.clone())
        };
        if asked.field("if-none-match") == Some(edition.tag()) {
            return told(Reply::status(304));
        }
        let length = edition.length(self.largest);
        told(Reply::pattern_at(edition.start(), length))
    }
}

/// The tag of a resource that is not quiet.
fn tag_of(resource: usize) -> String {
    format!("t{}", resource % TAGS)
}

impl World {
    /// One of `resources` of up to `largest` bytes.
    pub(crate) fn of(resources: usize, largest: u64) -> Self {
        Self::with_quiet(resources, 0, largest)
    }

    /// The same, and `quiet` that only [`Self::renew_quiet`] changes.
    pub(crate) fn with_quiet(resources: usize, quiet: usize, largest: u64) -> Self {
        let truth = Arc::new(Truth {
            resources: Mutex::new(vec![Resource::default(); resources + quiet]),
            largest,
            quiet: resources,
        });
        let answering = Arc::clone(&truth);
        Self {
            origin: Origin::answering(move |asked| answering.answer(asked)),
            truth,
            counts: Counts::default(),
            may_break: AtomicBool::new(false),
        }
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) fn len(&self) -> usize {
        self.truth.lock().len()
    }

    /// Content may break off from now on: what a tier cannot read on cannot be served on.
    pub(crate) fn expect_breaks(&self) {
        self.may_break.store(true, SeqCst);
    }

    /// The origin has a new version of `resource` from now on.
    pub(crate) fn change(&self, resource: usize) {
        if let Some(resource) = self.truth.lock().get_mut(resource) {
            resource.version += 1;
        }
    }

    /// What was answered outlasts the process: everything was written down.
    pub(crate) fn keep(&self) {
        let mut resources = self.truth.lock();
        resources
            .iter_mut()
            .for_each(|resource| resource.kept = resource.seen);
    }

    /// The process has ended, and with it what it had not written down.
    pub(crate) fn forget(&self) {
        let mut resources = self.truth.lock();
        resources
            .iter_mut()
            .for_each(|resource| resource.seen = resource.kept);
    }

    /// What was counted, for people.
    pub(crate) fn told(&self) -> String {
        let Counts {
            answers,
            hits,
            bytes,
            purges,
            broken,
        } = &self.counts;
        let count = |counter: &AtomicU64| counter.load(SeqCst);
        format!(
            "{} answers with {} MiB checked, {} of them hits, {} purges, {} broken off",
            count(answers),
            count(bytes) >> 20,
            count(hits),
            count(purges),
            count(broken)
        )
    }

    pub(crate) fn hits(&self) -> u64 {
        self.counts.hits.load(SeqCst)
    }

    /// Lets `threads` ask, change, reload and purge while `meanwhile` lasts, or until the edge is
    /// gone.
    pub(crate) fn load<T>(
        &self,
        edge: &Edge,
        seed: u64,
        threads: u64,
        meanwhile: impl FnOnce(&Edge) -> T,
    ) -> T {
        /// Ends the load also if what is awaited panics.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, SeqCst);
            }
        }
        let stop = AtomicBool::new(false);
        let (front, admin) = (edge.address(), edge.admin_address());
        std::thread::scope(|scope| {
            let _stop = Stop(&stop);
            for thread in 0..threads {
                let mut actor = Actor {
                    visitor: self.visitor(front),
                    admin,
                    dice: Dice::new(mix(seed) ^ thread),
                };
                let stop = &stop;
                scope.spawn(move || while !stop.load(SeqCst) && actor.act().is_some() {});
            }
            meanwhile(edge)
        })
    }

    /// Somebody who asks the edge at `address`.
    pub(crate) fn visitor(&self, address: SocketAddr) -> Visitor<'_> {
        Visitor {
            world: self,
            address,
            client: None,
        }
    }

    /// Asks for everything once, with nothing else going on. The hits.
    #[track_caller]
    pub(crate) fn sweep(&self, edge: &Edge) -> usize {
        let mut visitor = self.visitor(edge.address());
        let mut hits = 0;
        for resource in 0..self.len() {
            let answer = visitor.get(resource, &[]);
            let may_break = self.may_break.load(SeqCst);
            assert!(answer.is_some() || may_break, "no answer for {resource}");
            hits += usize::from(answer.is_some_and(|answer| answer.hit));
        }
        hits
    }

    /// Has the edge store a new version of everything quiet, and write down all it has. How many
    /// that are.
    #[track_caller]
    pub(crate) fn renew_quiet(&self, edge: &Edge) -> usize {
        let mut visitor = self.visitor(edge.address());
        for resource in self.truth.quiet..self.len() {
            self.change(resource);
            let stored = visitor.get(resource, &[("Cache-Control", "no-cache")]);
            assert!(stored.is_some_and(|answer| answer.status == 200));
        }
        edge.flush();
        self.keep();
        self.len() - self.truth.quiet
    }

    /// How many quiet ones are there, of that version or a later one.
    #[track_caller]
    pub(crate) fn find_quiet(&self, edge: &Edge) -> usize {
        let mut visitor = self.visitor(edge.address());
        let only = [("Cache-Control", "only-if-cached")];
        let mut found = |resource: &usize| {
            let answer = visitor.get(*resource, &only).expect("an answer");
            answer.hit
        };
        (self.truth.quiet..self.len())
            .filter(|it| found(it))
            .count()
    }

    /// Purges `what`, as the admin API takes it, which covers `covered`. Whether that was
    /// acknowledged.
    pub(crate) fn purge(
        &self,
        admin: SocketAddr,
        what: &serde_json::Value,
        covered: impl Fn(usize) -> bool,
    ) -> Option<bool> {
        let mut versions = Vec::new();
        for (number, resource) in self.truth.lock().iter_mut().enumerate() {
            if covered(number) {
                resource.version += 1;
                versions.push((number, resource.version));
            }
        }
        let host = admin.to_string();
        let fields = [
            ("Host", &*host),
            ("Content-Type", "application/json"),
            ("Connection", "close"),
        ];
        let mut client = Client::try_connect(admin)?;
        let body = what.to_string();
        client.offer(request("POST", "/v1/purge", &fields, body.as_bytes()));
        let answer = client.try_response("POST").ok()?;
        if answer.status() != 200 {
            return Some(false);
        }
        self.counts.purges.fetch_add(1, SeqCst);
        let mut resources = self.truth.lock();
        for (number, version) in versions {
            if let Some(resource) = resources.get_mut(number) {
                resource.purged = resource.purged.max(version);
            }
        }
        Some(true)
    }

    /// Checks an answer with `head` and `body`, which may not be `whole`.
    #[track_caller]
    fn check(&self, number: usize, asked: Question, head: &Head, body: &[u8], whole: bool) {
        let Question { before, only } = asked;
        if head.status == 504 && only {
            return;
        }
        if !matches!(head.status, 200 | 206 | 304 | 416) {
            let fields = &head.fields;
            panic!("{} for {number}: {fields:?}", head.status);
        }
        let tag = head.field("etag").unwrap_or_default();
        let version = tag
            .strip_prefix(&format!("\"{number}-"))
            .and_then(|rest| rest.strip_suffix('"')?.parse().ok());
        // A range that cannot be had may come without a tag.
        let Some(version) = version else {
            assert_eq!(head.status, 416, "{number} got {tag}");
            return;
        };
        let edition = Edition {
            resource: pattern::to_u64(number),
            version,
        };
        let now = self.truth.of(number).version;
        let status = head.field("cache-status").unwrap_or_default();
        assert!(
            version >= before.purged && version <= now,
            "{number}: version {version}, where {} is the oldest that is not purged: {status}",
            before.purged
        );
        assert!(
            version >= before.seen,
            "{number}: version {version} after {}: {status}",
            before.seen
        );
        let length = edition.length(self.truth.largest);
        let (at, expected) = match head.status {
            200 => (0, length),
            206 => {
                let range = head.field("content-range").unwrap_or_default();
                let (first, last) = range_of(&range, length);
                (first, last + 1 - first)
            }
            _ => (0, 0),
        };
        pattern::check(edition.start() + at, body);
        let got = pattern::to_u64(body.len());
        self.counts.bytes.fetch_add(got, SeqCst);
        if whole {
            if body.len() != usize::try_from(expected).expect("small") {
                panic!("{number}: {got} of {expected} bytes of version {version}: {status}");
            }
            if head.status != 304
                && let Some(resource) = self.truth.lock().get_mut(number)
            {
                resource.seen = resource.seen.max(version);
            }
        }
    }
}

/// What is to be known of a request when its answer is checked.
#[derive(Clone, Copy, Debug)]
struct Question {
    /// What the resource was before it was sent.
    before: Resource,
    /// Whether only what is stored was asked for.
    only: bool,
}

/// The first and the last byte of a range in content of `length`.
#[track_caller]
fn range_of(text: &str, length: u64) -> (u64, u64) {
    let rest = text
        .strip_prefix("bytes ")
        .and_then(|rest| rest.split_once('/'));
    let (range, of) = rest.unwrap_or_else(|| panic!("no range: {text:?}"));
    assert_eq!(of, length.to_string());
    let (first, last) = range.split_once('-').expect("two numbers");
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let (first, last) = (number(first), number(last));
    assert!(first <= last && last < length, "{text}");
    (first, last)
}

/// Somebody who asks, on one connection as long as it lasts.
pub(crate) struct Visitor<'a> {
    world: &'a World,
    address: SocketAddr,
    client: Option<Client>,
}

impl Visitor<'_> {
    /// Asks for `resource` and checks what comes. None if the edge is gone, or the answer broke
    /// off.
    #[track_caller]
    pub(crate) fn get(&mut self, resource: usize, fields: &[(&str, &str)]) -> Option<Answer> {
        if self.client.is_none() {
            self.client = Client::try_connect(self.address);
        }
        let client = self.client.as_mut()?;
        let asked = Question {
            before: self.world.truth.of(resource),
            only: fields.iter().any(|(_, value)| *value == "only-if-cached"),
        };
        client.offer(request("GET", &target(resource), fields, b""));
        let Ok(head) = client.try_head() else {
            self.client = None;
            return None;
        };
        let mut body = Vec::new();
        let whole = client.read_body(&head, "GET", |piece| body.extend_from_slice(piece));
        self.world
            .check(resource, asked, &head, &body, whole.is_ok());
        if whole.is_err() {
            self.world.counts.broken.fetch_add(1, SeqCst);
            self.client = None;
            return None;
        }
        let status = head.field("cache-status").unwrap_or_default();
        let answer = Answer {
            status: head.status,
            hit: status.starts_with("larder; hit"),
        };
        self.world.counts.answers.fetch_add(1, SeqCst);
        self.world
            .counts
            .hits
            .fetch_add(u64::from(answer.hit), SeqCst);
        Some(answer)
    }
}

/// The path of `resource`.
fn target(resource: usize) -> String {
    format!("/k/{resource}")
}

/// Somebody who does everything.
struct Actor<'a> {
    visitor: Visitor<'a>,
    admin: SocketAddr,
    dice: Dice,
}

impl Actor<'_> {
    /// One thing; none if the edge is gone.
    fn act(&mut self) -> Option<()> {
        let world = self.visitor.world;
        let resource = self.dice.index(world.truth.quiet);
        let done = match self.dice.below(100) {
            0..55 => self.visitor.get(resource, &[]),
            55..70 => {
                let first = self.dice.below(100_000);
                let last = first + self.dice.below(200_000);
                let range = match self.dice.below(3) {
                    0 => format!("bytes={first}-{last}"),
                    1 => format!("bytes={first}-"),
                    _ => format!("bytes=-{}", last - first + 1),
                };
                self.visitor.get(resource, &[("Range", &range)])
            }
            70..80 => {
                let edition = Edition {
                    resource: pattern::to_u64(resource),
                    version: world.truth.of(resource).version,
                };
                let tag = edition.tag();
                self.visitor.get(resource, &[("If-None-Match", &tag)])
            }
            80..92 => {
                world.change(resource);
                let reload = [("Cache-Control", "no-cache")];
                self.visitor.get(resource, &reload)
            }
            92..98 => {
                let url = format!("http://edge.test{}", target(resource));
                world.purge(self.admin, &json!({"urls": [url]}), |it| it == resource)?;
                return Some(());
            }
            _ => {
                let tag = self.dice.index(TAGS);
                let what = json!({"tags": [tag_of(tag)]});
                let quiet = world.truth.quiet;
                world.purge(self.admin, &what, |it| it < quiet && it % TAGS == tag)?;
                return Some(());
            }
        };
        // What broke off is told from an edge that is gone by asking again.
        done.map(drop)
            .or_else(|| Client::try_connect(self.visitor.address).map(drop))
    }
}

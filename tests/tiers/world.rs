//! A world that changes while an edge serves it, and that knows which answers are right.
//!
//! Every resource has versions, and what a version contains follows from the number of the resource
//! and of the version, to the byte. So every byte of every answer is checked, and an answer tells
//! how old it is. An answer may be older than what the origin has. It may not be older than a purge
//! that was acknowledged before it was asked for, nor, while the process lives, than what an earlier
//! answer brought.

#![allow(dead_code, reason = "each test program uses the parts it needs")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::client::{Client, Head, request};
use crate::support::edge::Edge;
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::truth::{
    CHECKED, CHECKED_AT, Dice, Edition, Resource, SHORT, SHORT_AT, Superseded, TAGS, Truth, mix,
    tag_of, target,
};

/// What came of a load.
#[derive(Debug, Default)]
struct Counts {
    answers: AtomicU64,
    hits: AtomicU64,
    bytes: AtomicU64,
    purges: AtomicU64,
    broken: AtomicU64,
}

/// Resources behind an origin, and what was answered.
pub(crate) struct World {
    origin: Origin,
    truth: Arc<Truth>,
    counts: Counts,
}

/// An answer, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) hit: bool,
}

/// How long hits in memory took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    /// Half of them, in a lot that was faster than most: a busy machine slows some lots down, an
    /// edge that waits all of them.
    pub(crate) half: Duration,
    /// 99 of 100.
    pub(crate) most: Duration,
}

impl Latency {
    /// As far as that can be told on a busy machine.
    #[track_caller]
    pub(crate) fn assert_no_slower_than(self, before: Self) {
        let allowed = before.half * 3 + Duration::from_millis(2);
        assert!(self.half <= allowed, "{self:?}, and before {before:?}");
    }
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
            superseded: Mutex::new(vec![Superseded::new(); resources + quiet]),
            largest,
            quiet: resources,
        });
        let answering = Arc::clone(&truth);
        Self {
            origin: Origin::answering(move |asked| answering.answer(asked)),
            truth,
            counts: Counts::default(),
        }
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) fn len(&self) -> usize {
        self.truth.lock().len()
    }

    /// The origin has a new version of `resource` from now on.
    pub(crate) fn change(&self, resource: usize) {
        self.truth.change(resource);
    }

    /// What was answered outlasts the process: everything was written down.
    pub(crate) fn keep(&self) {
        let mut resources = self.truth.lock();
        resources
            .iter_mut()
            .for_each(|resource| resource.kept = resource.seen);
    }

    /// What was stored may be lost, so that what was superseded may be found again.
    pub(crate) fn lose(&self) {
        let mut resources = self.truth.lock();
        for resource in resources.iter_mut() {
            (resource.seen, resource.kept) = (0, 0);
        }
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
            alone: false,
        }
    }

    /// Asks for everything once, with nothing else going on. The hits.
    ///
    /// Content breaks off if a tier cannot read on, or not in time. Then it is asked for again, and
    /// that is to be answered.
    #[track_caller]
    pub(crate) fn sweep(&self, edge: &Edge) -> usize {
        let mut visitor = self.visitor(edge.address());
        visitor.alone = true;
        let hit = |resource: &usize| {
            let answer = visitor.get(*resource, &[]);
            let answer = answer.or_else(|| visitor.get(*resource, &[]));
            answer.expect("an answer").hit
        };
        (0..self.len()).filter(hit).count()
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

    /// How long it takes to ask again and again for a quiet resource, which memory has.
    pub(crate) fn latency(&self, edge: &Edge) -> Latency {
        let mut visitor = self.visitor(edge.address());
        let hot = self.len() - 1;
        visitor.get(hot, &[]);
        let ask = |_| {
            let began = Instant::now();
            let answer = visitor.get(hot, &[]).expect("an answer");
            answer.hit.then(|| began.elapsed())
        };
        let mut took: Vec<Duration> = (0..500).filter_map(ask).collect();
        let halves = took.chunks_mut(50).map(|lot| {
            lot.sort();
            lot[lot.len() / 2]
        });
        let mut halves: Vec<Duration> = halves.collect();
        halves.sort();
        took.sort();
        Latency {
            half: halves[halves.len() / 3],
            most: took[took.len() * 99 / 100],
        }
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
        for number in (0..self.len()).filter(|number| covered(*number)) {
            versions.push((number, self.truth.change(number)));
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

    /// Checks that `version`, which answered a request that was `sent` then, was not too old for
    /// it: `latest`, if nothing changed meanwhile, where answers are to be validated.
    #[track_caller]
    fn check_age(
        &self,
        number: usize,
        version: u64,
        status: &str,
        latest: Option<u64>,
        sent: Instant,
    ) {
        if number >= self.truth.quiet {
            return;
        }
        if let Some(latest) = latest
            && number % CHECKED == CHECKED_AT
        {
            assert_eq!(version, latest, "{number} is to be validated: {status}");
        }
        if number % CHECKED == SHORT_AT {
            let since = self.truth.superseded(number, version);
            let late = since.map(|since| sent.saturating_duration_since(since));
            let late = late.filter(|late| *late > SHORT);
            assert!(late.is_none(), "{number}: stale for {late:?}: {status}");
        }
    }

    /// Checks an answer with `head` and `body`, which may not be `whole`.
    #[track_caller]
    fn check(&self, number: usize, asked: Question, head: &Head, body: &[u8], whole: bool) {
        let Question {
            before,
            only,
            alone,
            at: sent,
        } = asked;
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
        self.check_age(number, version, &status, alone.then_some(now), sent);
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
            let status = head.status;
            assert_eq!(
                got, expected,
                "{number}: version {version}, status {status}"
            );
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
    /// Whether nobody else does anything meanwhile.
    alone: bool,
    /// When it was sent.
    at: Instant,
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
    /// Nobody else does anything meanwhile.
    pub(crate) alone: bool,
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
            alone: self.alone,
            at: Instant::now(),
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

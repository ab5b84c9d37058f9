//! What the index of tags costs a store, and how long purges of a full memory tier take.
//!
//! A million small entries, each with the tags that a URL of three segments gives. While something
//! is purged another thread looks up: the longest lookup is what a purge makes a hit wait. Run with
//! `cargo bench -p larder --bench purge`.

#![expect(clippy::print_stdout, reason = "it reports")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use larder::clock::{self, Moment};
use larder::entry::{
    Content, Entry, KeyHasher, Lifetime, Reuse, SiteId, StoredBody, StoredResponse, Tag,
};
use larder::tier::memory::put::Put;
use larder::tier::memory::{Domain, DomainSettings, Shards};
use larder::tier::{Purged, Selection};
use rustix::time::{ClockId, clock_gettime};

const ENTRIES: u64 = 1_000_000;
const SITE: SiteId = SiteId(0);
const AUTHORITY: &str = "www.example.com";

/// `/s/NNN/NNNNN/N`: ten entries a directory.
fn target(number: u64) -> String {
    format!("/s/{}/{}/{}", number / 10_000, number / 10, number)
}

/// Which tags an entry carries.
#[derive(Clone, Copy)]
enum Carries {
    Uri,
    UriAndPlaces,
}

fn entry(hasher: &KeyHasher, number: u64, carries: Carries) -> Arc<Entry> {
    let target = target(number);
    let uri = format!("http://{AUTHORITY}{target}");
    let mut tags = vec![hasher.uri_tag(SITE, uri.as_bytes())];
    if let Carries::UriAndPlaces = carries {
        hasher.place_tags(SITE, AUTHORITY, &target, &mut tags);
        tags.push(hasher.tag(SITE, format!("ten-{}", number / 10).as_bytes()));
    }
    let content = Content::Response(StoredResponse {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: StoredBody::default(),
        lifetime: Lifetime {
            stored_at: Moment::from_millis(0),
            initial_age: Duration::ZERO,
            fresh_for: Duration::from_hours(1),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            reuse: Reuse::Normal,
        },
        decided_by: "bench".into(),
    });
    Arc::new(Entry::new(
        hasher.key(uri.as_bytes()).to_key(),
        SITE,
        tags,
        content,
    ))
}

fn domain() -> Domain {
    Domain::new(DomainSettings {
        name: "bench".to_owned(),
        capacity: 4 << 30,
        max_entries: 2_000_000,
        shards: Shards::Auto,
    })
}

/// Time that this thread has run: other work on the machine does not count.
fn running() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Nanoseconds for one put, in an empty tier that fills up, and over what is there.
fn puts(hasher: &KeyHasher, carries: Carries) -> (Domain, [u128; 2]) {
    let domain = domain();
    let round = || {
        let mut spent = Duration::ZERO;
        for lot in 0..ENTRIES / 1_000 {
            let entries: Vec<_> = (lot * 1_000..(lot + 1) * 1_000)
                .map(|number| entry(hasher, number, carries))
                .collect();
            let start = running();
            for entry in &entries {
                assert_eq!(domain.put(entry, None, &|| true), Put::Stored);
            }
            spent += running().saturating_sub(start);
        }
        spent.as_nanos() / u128::from(ENTRIES)
    };
    let spent = [round(), round()];
    (domain, spent)
}

/// Runs `purge` while another thread looks up, and prints both.
fn report(name: &str, hasher: &KeyHasher, domain: &Domain, purge: impl FnOnce() -> Purged) {
    let done = AtomicBool::new(false);
    let keys: Vec<_> = (0..4_096)
        .map(|number| {
            let uri = format!("http://{AUTHORITY}{}", target(number * 240));
            hasher.key(uri.as_bytes()).to_key()
        })
        .collect();
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            for key in keys.iter().cycle() {
                let start = Instant::now();
                std::hint::black_box(domain.get(key.view()));
                longest = longest.max(start.elapsed());
                if done.load(SeqCst) {
                    return longest;
                }
            }
            longest
        });
        let (start, ran) = (Instant::now(), running());
        let purged = purge();
        let (took, ran) = (start.elapsed(), running().saturating_sub(ran));
        done.store(true, SeqCst);
        let longest = looking.join().expect("it only looks up");
        println!(
            "{name:<28} {:>8} entries {:>9.3} ms running {:>9.3} ms in all, longest lookup {:>7.3} ms",
            purged.entries,
            ran.as_secs_f64() * 1e3,
            took.as_secs_f64() * 1e3,
            longest.as_secs_f64() * 1e3,
        );
    });
}

fn main() {
    let hasher = KeyHasher::default();
    let (_, [fresh, over]) = puts(&hasher, Carries::Uri);
    println!("put, URI only                {fresh:>8} ns new {over:>8} ns over another");
    let (domain, [fresh, over]) = puts(&hasher, Carries::UriAndPlaces);
    println!("put, with places and a tag   {fresh:>8} ns new {over:>8} ns over another");
    let prefix = |path: &str| {
        let tags = hasher.prefix_tags(SITE, AUTHORITY, path);
        Selection::of_tags(tags.expect("not too deep"))
    };
    let tag = |name: &str| Selection::of_tags([hasher.tag(SITE, name.as_bytes())]);
    let all: Vec<Tag> = vec![hasher.host_tag(SITE, AUTHORITY)];
    let host = Selection::of_tags(all);
    let run = |name: &str, purge: &dyn Fn() -> Purged| report(name, &hasher, &domain, purge);
    run("nothing", &|| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        Purged::default()
    });
    run("soft, tag", &|| {
        domain.soften(&tag("ten-7"), clock::coarse())
    });
    run("soft, prefix", &|| {
        domain.soften(&prefix("/s/5/5000"), clock::coarse())
    });
    run("hard, tag", &|| domain.purge(&tag("ten-7")));
    run("hard, prefix", &|| domain.purge(&prefix("/s/5/5000")));
    run("hard, prefix of many", &|| domain.purge(&prefix("/s/9")));
    run("count, host", &|| domain.count(&host));
    run("soft, host", &|| domain.soften(&host, clock::coarse()));
    run("hard, all", &|| domain.purge(&Selection::everything()));
    let (domain, _) = puts(&hasher, Carries::UriAndPlaces);
    report("hard, host", &hasher, &domain, || domain.purge(&host));
}

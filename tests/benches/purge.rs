//! What the index of tags costs a store, and how long purges of a full memory tier take.
//!
//! A million small entries, each with the tags that a URL of three segments gives. While something
//! is purged, and until that has been carried out on every entry, another thread looks up: how long
//! that takes is what a purge makes a hit wait. Run with `cargo bench -p larder --bench purge`.

#![expect(clippy::print_stdout, reason = "it reports")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use larder::clock::{self, Moment};
use larder::entry::{
    Content, Entry, KeyHasher, Lifetime, Reuse, SiteId, StoredBody, StoredResponse,
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

/// An entry of another site.
fn other(hasher: &KeyHasher, number: u64) -> Arc<Entry> {
    let key = hasher.key(&number.to_le_bytes()).to_key();
    let content = entry(hasher, number, Carries::Uri).content.clone();
    Arc::new(Entry::new(key, SiteId(1), Vec::new(), content))
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

/// Nanoseconds below which 99 % of `times` are, and 99.9 %, and the most.
fn tail(mut times: Vec<u32>) -> [u32; 3] {
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 1_000).copied();
    let last = times.last().copied();
    [at(990), at(999), last].map(Option::unwrap_or_default)
}

/// Looks up until `done`, and how long each lookup took in nanoseconds.
fn look_up(hasher: &KeyHasher, domain: &Domain, done: &AtomicBool) -> Vec<u32> {
    const MOST: usize = 1 << 24;
    let keys: Vec<_> = (0..4_096)
        .map(|number| {
            let uri = format!("http://{AUTHORITY}{}", target(number * 240));
            hasher.key(uri.as_bytes()).to_key()
        })
        .collect();
    let mut times = Vec::with_capacity(MOST);
    for key in keys.iter().cycle().take(MOST) {
        let start = Instant::now();
        std::hint::black_box(domain.get(key.view()));
        times.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
        if done.load(SeqCst) {
            break;
        }
    }
    times
}

/// Runs `purges` one right after the other while another thread looks up, and prints how long each
/// took to be in force.
fn one_after_the_other(
    hasher: &KeyHasher,
    domain: &Domain,
    purges: &[(&str, &dyn Fn() -> Purged)],
) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| look_up(hasher, domain, &done));
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let begin = Instant::now();
        for (name, purge) in purges {
            let (start, ran) = (Instant::now(), running());
            let covered = purge();
            let (took, ran) = (start.elapsed(), running().saturating_sub(ran));
            println!(
                "  then {name:<15} {:>8} entries {:>9.3} ms running {:>9.3} ms until in force, {} \
                 under way",
                covered.entries,
                ms(ran),
                ms(took),
                domain.purges_under_way().purges,
            );
        }
        domain.finish_purges();
        let carried_out = begin.elapsed();
        done.store(true, SeqCst);
        let [p99, p999, longest] = tail(looking.join().expect("it only looks up"));
        println!(
            "  all carried out after {:.3} ms; lookups p99 {p99} ns, p99.9 {p999} ns, longest {:.3} ms",
            ms(carried_out),
            f64::from(longest) / 1e6,
        );
    });
}

/// Runs `purge` while another thread looks up, and prints both.
fn report(name: &str, hasher: &KeyHasher, domain: &Domain, purge: impl FnOnce() -> Purged) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| look_up(hasher, domain, &done));
        let (start, ran) = (Instant::now(), running());
        let purged = purge();
        let (took, ran) = (start.elapsed(), running().saturating_sub(ran));
        domain.finish_purges();
        let carried_out = start.elapsed();
        done.store(true, SeqCst);
        let [p99, p999, longest] = tail(looking.join().expect("it only looks up"));
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "{name:<22} {:>8} entries {:>9.3} ms running {:>9.3} ms until in force {:>9.3} ms until \
             carried out; lookups p99 {p99:>6} ns, p99.9 {p999:>7} ns, longest {:>7.3} ms",
            purged.entries,
            ms(ran),
            ms(took),
            ms(carried_out),
            f64::from(longest) / 1e6,
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
    let host = Selection::of_tags([hasher.host_tag(SITE, AUTHORITY)]);
    let run = |name: &str, purge: &dyn Fn() -> Purged| report(name, &hasher, &domain, purge);
    let all = Selection::everything();
    let site = Selection::of_site(SITE);
    run("nothing", &|| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(500) {
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
    run("count, host", &|| domain.count(&host));
    run("hard, prefix of many", &|| domain.purge(&prefix("/s/9")));
    run("soft, host", &|| domain.soften(&host, clock::coarse()));
    let rest: Vec<_> = (0..1_000).map(|number| other(&hasher, number)).collect();
    let fill = |domain: &Domain| {
        for number in 0..ENTRIES {
            let entry = entry(&hasher, number, Carries::UriAndPlaces);
            assert_eq!(domain.put(&entry, None, &|| true), Put::Stored);
        }
        for other in &rest {
            assert_eq!(domain.put(other, None, &|| true), Put::Stored);
        }
    };
    for (name, selection) in [("soft, all", &all), ("soft, site", &site)] {
        fill(&domain);
        run(name, &|| domain.soften(selection, clock::coarse()));
    }
    for (name, selection) in [
        ("hard, site of two", &site),
        ("hard, host of two", &host),
        ("hard, all", &all),
    ] {
        fill(&domain);
        run(name, &|| domain.purge(selection));
    }
    println!("one right after the other:");
    fill(&domain);
    one_after_the_other(
        &hasher,
        &domain,
        &[
            ("soft, host", &|| domain.soften(&host, clock::coarse())),
            ("soft, all", &|| domain.soften(&all, clock::coarse())),
            ("hard, prefix", &|| domain.purge(&prefix("/s/9"))),
            ("hard, ten", &|| domain.purge(&tag("ten-7"))),
            ("hard, host", &|| domain.purge(&host)),
            ("hard, site", &|| domain.purge(&site)),
            ("soft, all", &|| domain.soften(&all, clock::coarse())),
            ("hard, all", &|| domain.purge(&all)),
        ],
    );
}

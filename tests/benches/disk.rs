//! What the disk tier costs: filling it, hitting it, starting with it, and the memory it takes.
//!
//! Run with `cargo bench -p larder --bench disk`. `LARDER_OBJECTS` says how many small objects are
//! stored (1,000,000), `LARDER_DIR` where (a temporary directory). Where `fio` is installed, it does
//! beside each part what the device and the system do without a cache: with the same bytes in the
//! same directory, by as many threads as the tier reads with, in turns, of which the medians are
//! told. A fill ends when the device has all of it, for both. *Cold* is what the system has not in
//! memory, each object read once; *warm* what it has. What is written for what is put is counted in a
//! tier that holds a fourth of what is asked for, some of it often, so that what is hit is written
//! again when its segment is reclaimed. The restart is that of a process of its own, whose resident
//! memory is compared before and after.

#![expect(clippy::print_stdout, reason = "it reports")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue, StatusCode};
use larder::clock;
use larder::entry::{
    Content, Entry, KeyHasher, KeyView, Lifetime, Reuse, SiteId, StoredBody, StoredResponse, Tag,
};
use larder::tier::disk::{DiskTier, Settings};
use larder::tier::envelope::Born;
use larder::tier::found::FoundBody;
use larder::tier::slow::{Health, SlowTier};

/// That of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MIB: u64 = 1 << 20;
const BORN: Born = Born {
    node: 1,
    purge: 0,
    at: 0,
};

fn entry(hasher: &KeyHasher, key: &str, content: &Bytes) -> Arc<Entry> {
    let mut headers = HeaderMap::new();
    headers.insert("etag", HeaderValue::from_static("\"5f3e-60a1\""));
    headers.insert("content-type", HeaderValue::from_static("image/webp"));
    let response = StoredResponse {
        status: StatusCode::OK,
        headers,
        body: StoredBody::new(vec![content.clone()]),
        lifetime: Lifetime {
            stored_at: clock::now(),
            initial_age: Duration::ZERO,
            fresh_for: Duration::from_hours(1),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            reuse: Reuse::Normal,
        },
        decided_by: "native:rfc9111".into(),
    };
    let key = hasher.key(key.as_bytes()).to_key();
    let content = Content::Response(response);
    Arc::new(Entry::new(key, SiteId(1), vec![Tag(1)], content))
}

fn open(dir: &Path, capacity: u64) -> (Arc<DiskTier>, Duration) {
    let began = Instant::now();
    let settings = Settings {
        // What is measured is how fast it is, also where others use the same device.
        read_deadline: Duration::from_secs(10),
        ..Settings::new(dir, capacity)
    };
    let tier = DiskTier::open(&settings, Arc::new(|_| true)).expect("a tier");
    while tier.health() == Health::Loading {
        std::thread::yield_now();
    }
    (tier, began.elapsed())
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0_u64) * 4_096
}

fn figure(tier: &DiskTier, name: &str) -> u64 {
    let figures = tier.figures();
    let figure = figures.iter().find(|figure| figure.name == name);
    figure.map_or(0, |figure| figure.value)
}

fn per(count: u64, time: Duration) -> u64 {
    let rate = u128::from(count) * 1_000_000 / time.as_micros().max(1);
    u64::try_from(rate).expect("as many are not done in a second")
}

/// Time that this process has had a processor for.
fn processor() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("it does not run backwards")
}

fn view(key: &str) -> KeyView<'_> {
    KeyView {
        hash: 0,
        bytes: key.as_bytes(),
    }
}

/// Puts `count` entries of `length` bytes.
async fn fill(tier: &DiskTier, count: u64, length: u32) {
    let hasher = KeyHasher::default();
    let content = Bytes::from(vec![7; usize::try_from(length).expect("it fits memory")]);
    let began = Instant::now();
    for number in 0..count {
        let entry = entry(&hasher, &format!("https/example.com/{number}"), &content);
        tier.put(&entry, BORN).await;
        if number.is_multiple_of(10_000) {
            // The queue drops what it has no room for; nothing is to be dropped here.
            tier.settle().await;
        }
    }
    tier.settle().await;
    let time = began.elapsed();
    let written = tier.stats().bytes_written.get();
    println!(
        "put {length} B: {} a second, {} MiB/s to the device, {} of {count} dropped",
        per(count, time),
        per(written, time) / MIB,
        tier.stats().dropped.get(),
    );
}

/// Reads `count` objects once each, out of order, and again until `time` has passed, `depth` at
/// once, from as many threads as the machine has processors. How many a second, and the nanoseconds
/// of a processor that each takes.
fn hit(tier: &DiskTier, count: u64, depth: u64, time: Duration) -> (u64, u64) {
    // A prime that divides no count in use: a walk through all of them out of order.
    let number = |turn| (turn * 7_368_787) % count;
    let key = |turn| format!("https/example.com/{}", number(turn));
    let keys: Vec<String> = (0..count).map(key).collect();
    let began = Instant::now();
    let one = async |lane: u64| {
        let (mut read, mut missed) = (0, 0);
        while read == 0 || began.elapsed() < time {
            for turn in 0..count / depth {
                let turn = usize::try_from(lane * (count / depth) + turn).expect("it is there");
                let key = keys.get(turn).expect("as many as are read");
                let found = tier.get(view(key)).await;
                let found = found.expect("a tier that answers");
                let whole = found.is_some_and(|found| matches!(found.body, FoundBody::Whole(_)));
                missed += u64::from(!whole);
            }
            read += count / depth;
        }
        (read, missed)
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = depth.min(u64::try_from(cores).expect("few"));
    let processor_before = processor();
    let (read, missed) = std::thread::scope(|scope| {
        let lanes = |thread| (thread..depth).step_by(cores);
        let work = |thread| move || runtime().block_on(join_all(lanes(thread).map(one)));
        let threads: Vec<_> = (0..threads).map(|n| scope.spawn(work(n))).collect();
        let each = threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("a thread"));
        each.fold((0, 0), |(read, missed), one| (read + one.0, missed + one.1))
    });
    let time = began.elapsed();
    assert!(missed * 1_000 <= read, "{missed} of {read} were not found");
    let nanos = processor().saturating_sub(processor_before).as_nanos() / u128::from(read);
    let nanos = u64::try_from(nanos).expect("as long nothing takes");
    (per(read, time), nanos)
}

/// As each of the threads that serve has one.
fn runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().build().expect("a runtime")
}

/// What `fio` does a second with `arguments` in `dir`: 16 KiB reads or MiB written. None without it.
fn fio(dir: &Path, arguments: &[&str], field: usize) -> Option<u64> {
    let file = format!("--filename={}", dir.join("fio").display());
    let ran = Command::new("fio")
        .args([
            "--name=fio",
            "--ioengine=psync",
            "--output-format=terse",
            "--group_reporting",
        ])
        .arg(file)
        .args(arguments)
        .output();
    let told = String::from_utf8(ran.ok()?.stdout).ok()?;
    told.lines().last()?.split(';').nth(field)?.parse().ok()
}

/// Says what `ours` is beside what `fio` did.
fn beside(what: &str, ours: u64, fio: Option<u64>) {
    match fio.filter(|fio| *fio > 0) {
        Some(fio) => println!(
            "{what}: {ours}, fio {fio}: {}.{:02}",
            ours / fio,
            ours * 100 / fio % 100
        ),
        None => println!("{what}: {ours} (no fio to compare with)"),
    }
}

/// Times that reads are measured, in turns.
const ROUNDS: usize = 3;

/// What was measured in turns.
#[derive(Default)]
struct Rounds {
    ours: Vec<u64>,
    fio: Vec<u64>,
    nanos: Vec<u64>,
}

impl Rounds {
    fn add(&mut self, (ours, nanos): (u64, u64), fio: Option<u64>) {
        self.ours.push(ours);
        self.fio.extend(fio);
        self.nanos.push(nanos);
    }

    /// The medians.
    fn tell(mut self, what: &str) {
        let median = |all: &mut Vec<u64>| {
            all.sort_unstable();
            all.get(all.len() / 2).copied()
        };
        let ours = median(&mut self.ours).unwrap_or_default();
        let nanos = median(&mut self.nanos).unwrap_or_default();
        beside(what, ours, median(&mut self.fio));
        println!("  {nanos} ns of a processor each");
    }
}

/// Has the system forget what it has in memory of the files in `dir`.
fn forget(dir: &Path) {
    for file in std::fs::read_dir(dir).expect("a directory").flatten() {
        let file = std::fs::File::open(file.path()).expect("a file");
        file.sync_all().expect("a device");
        let forgotten = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        forgotten.expect("a file in the memory of the system");
    }
}

/// MiB a second that entries with content of `length` bytes are put at, until the device has all.
fn fill_and_sync(dir: &Path, count: u64, length: u32) -> u64 {
    let (tier, _) = open(dir, 2_048 * MIB);
    let began = Instant::now();
    runtime().block_on(fill(&tier, count, length));
    tier.stop();
    per(count * u64::from(length) / MIB, began.elapsed())
}

/// Content of 16 KiB against `fio`.
fn large(dir: &Path) {
    let (count, length) = (30_000, 16 << 10);
    let content = u64::from(length);
    let total = format!("--size={}", count * content);
    let mut filled = Rounds::default();
    for _ in 0..ROUNDS {
        std::fs::remove_dir_all(dir).ok();
        let before = processor();
        let ours = fill_and_sync(dir, count, length);
        let nanos = processor().saturating_sub(before).as_nanos() / u128::from(count);
        let written = fio(dir, &["--rw=write", "--bs=1m", "--end_fsync=1", &total], 47);
        let nanos = u64::try_from(nanos).expect("as long nothing takes");
        filled.add((ours, nanos), written.map(|kib| kib / 1_024));
    }
    filled.tell("sequential fill, MiB a second until the device has all of it");
    let (tier, _) = open(dir, 2_048 * MIB);
    for depth in [1, 2, 16] {
        // Each job has a part of the file, and reads all of it: once, or what is in memory for a
        // second. Its jobs start one after another and it adds up what each did while it ran, so
        // what takes them a few milliseconds it tells wrong.
        let reads = |block: u64, how: &[&str]| {
            let part = count * content / depth / block * block;
            let (block, jobs) = (format!("--bs={block}"), format!("--numjobs={depth}"));
            let size = format!("--size={part}");
            let offset = format!("--offset_increment={part}");
            let mut arguments = vec!["--rw=randread", &block, &size, &offset, &jobs];
            arguments.extend(how);
            fio(dir, &arguments, 7)
        };
        let once = &["--invalidate=1"];
        let again = &["--invalidate=0", "--time_based", "--runtime=1"];
        let (mut cold, mut warm) = (Rounds::default(), Rounds::default());
        let mut pages = Rounds::default();
        for _ in 0..ROUNDS {
            forget(dir);
            let ours = hit(&tier, count, depth, Duration::ZERO);
            cold.add(ours, reads(16 << 10, once));
            // The head stands before the content, so a record touches a page more than that.
            pages.add(ours, reads(20 << 10, once));
            let ours = hit(&tier, count, depth, Duration::from_secs(1));
            warm.add(ours, reads(16 << 10, again));
        }
        let what = |what| format!("16 KiB hits a second, {what}, {depth} at once");
        cold.tell(&what("cold"));
        pages.tell(&what("cold, beside reads of five pages"));
        warm.tell(&what("warm"));
    }
    tier.stop();
}

/// A generator of numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }

    /// One of 2^`octaves`, each about as often as one through its number: Zipf's law.
    fn popular(&mut self, octaves: u64) -> u64 {
        let octave = self.below(octaves);
        (1 << octave) + self.below(1 << octave)
    }
}

/// Bytes of object `number`: most are of a few KiB, most bytes are in few.
fn mixed_length(number: u64) -> u64 {
    let mut random = Random(number);
    let (from, to) = match random.below(100) {
        0..30 => (1, 4),
        30..60 => (4, 16),
        60..85 => (16, 64),
        85..97 => (64, 256),
        _ => (256, 4_096),
    };
    (from << 10) + random.below((to - from) << 10)
}

/// Bytes that this process has had written to devices, as the system counts them: whole pages.
fn written_to_devices() -> Option<u64> {
    let told = std::fs::read_to_string("/proc/self/io").ok()?;
    let line = told.lines().find_map(|it| it.strip_prefix("write_bytes: "));
    line?.parse().ok()
}

/// Asks for a mix of objects, puts what is not found, until four times the capacity was put. What
/// was written for it.
fn amplification(dir: &Path) {
    let (capacity, octaves) = (512 * MIB, 14);
    let (tier, _) = open(dir, capacity);
    let hasher = KeyHasher::default();
    let content = Bytes::from(vec![7; 4 << 20]);
    let before = written_to_devices();
    let mut random = Random(1);
    let (mut asked, mut found, mut waiting) = (0_u64, 0_u64, 0);
    runtime().block_on(async {
        while tier.stats().bytes_admitted.get() < 4 * capacity {
            let number = random.popular(octaves);
            let key = format!("https/example.com/{number}");
            asked += 1;
            if tier.get(view(&key)).await.is_ok_and(|it| it.is_some()) {
                found += 1;
                continue;
            }
            let length = usize::try_from(mixed_length(number)).expect("a few MiB");
            let entry = entry(&hasher, &key, &content.slice(..length));
            tier.put(&entry, BORN).await;
            waiting += length;
            if waiting > 16 << 20 {
                tier.settle().await;
                waiting = 0;
            }
        }
        tier.settle().await;
    });
    tier.stop();
    let admitted = tier.stats().bytes_admitted.get();
    let hundredths = |written: u64| written * 100 / admitted.max(1);
    let told = |written: u64| {
        let hundredths = hundredths(written);
        format!("{}.{:02}", hundredths / 100, hundredths % 100)
    };
    let device = written_to_devices().zip(before);
    println!(
        "{} of {asked} found, {} MiB of content put in {} MiB, {} entries written again: {} bytes \
         written for one, {} by the count of the system",
        found,
        admitted / MIB,
        capacity / MIB,
        figure(&tier, "reinsertions"),
        told(tier.stats().bytes_written.get()),
        device.map_or("unknown".to_owned(), |(after, before)| told(after - before)),
    );
}

/// Starts with what lies in `dir`, and says how long that takes and what memory.
fn restart(dir: &Path, capacity: u64) {
    let before = resident();
    let (tier, time) = open(dir, capacity);
    let entries = tier.usage().entries;
    println!(
        "restart with {entries} entries: {} ms, {} bytes of resident memory each",
        time.as_millis(),
        resident().saturating_sub(before) / entries.max(1),
    );
    tier.stop();
}

fn main() {
    let objects = std::env::var("LARDER_OBJECTS").ok();
    let objects: u64 = objects.and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let capacity = (objects * 700).max(64 * MIB);
    let mut arguments = std::env::args_os().skip(1);
    if arguments
        .next()
        .is_some_and(|argument| argument == "restart")
    {
        let dir = arguments.next().expect("a directory");
        return restart(Path::new(&dir), capacity);
    }
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = std::env::var_os("LARDER_DIR").map_or(temporary.path().to_owned(), Into::into);
    large(&dir.join("large"));
    amplification(&dir.join("mixed"));

    let small = dir.join("small");
    let (tier, _) = open(&small, capacity);
    runtime().block_on(fill(&tier, objects, 200));
    let written = tier.stats().bytes_written.get();
    println!(
        "{} entries: {} bytes of disk each, {} bytes of index each",
        tier.usage().entries,
        written / objects,
        figure(&tier, "index_bytes") / tier.usage().entries.max(1),
    );
    println!(
        "200 B hits a second, 16 at once: {}",
        hit(&tier, objects.min(1_000_000), 16, Duration::ZERO).0
    );
    tier.stop();
    drop(tier);
    let program = std::env::current_exe().expect("this program");
    let ended = Command::new(program).arg("restart").arg(&small).status();
    assert!(
        ended.is_ok_and(|status| status.success()),
        "it starts again"
    );
}

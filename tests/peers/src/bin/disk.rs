//! The disk tier beside `foyer` 0.22: putting, hitting, starting again, and what that takes of
//! memory and disk.
//!
//! `LARDER_OBJECTS` says how many small objects are stored (1,000,000), `LARDER_DIR` where (a
//! temporary directory). Both write all that is put, verify what they read, and are asked by two
//! threads for 16 objects at once; what they read lies in the memory of the system. A restart is that
//! of a process of its own, whose resident memory is compared before and after.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    HybridCachePolicy, PsyncIoEngineConfig,
};
use futures_util::future::join_all;
use http::{HeaderMap, StatusCode};
use larder::clock;
use larder::entry::{
    Content, Entry, KeyHasher, KeyView, Lifetime, Reuse, SiteId, StoredBody, StoredResponse, Tag,
};
use larder::tier::disk::{DiskTier, Settings};
use larder::tier::envelope::Born;
use larder::tier::slow::{Health, SlowTier};

const MIB: u64 = 1 << 20;
/// Objects that are put before what waits is waited for, so that nothing is dropped.
const LOT: u64 = 1_000;
const LARGE: (u64, usize) = (30_000, 16 << 10);
const SMALL: usize = 200;

/// A cache on disk.
trait Disk: Sync {
    async fn put(&self, number: u64, content: &Bytes);
    async fn has(&self, number: u64) -> bool;
    async fn settle(&self);
    async fn close(self);
}

struct Larder {
    tier: Arc<DiskTier>,
    hasher: KeyHasher,
}

fn key(number: u64) -> String {
    format!("https/example.com/{number}")
}

impl Larder {
    fn open(dir: &Path, capacity: u64) -> Self {
        let settings = Settings::new(dir, capacity);
        let tier = DiskTier::open(&settings, Arc::new(|_| true)).expect("a tier");
        while tier.health() == Health::Loading {
            std::thread::yield_now();
        }
        Self {
            tier,
            hasher: KeyHasher::default(),
        }
    }
}

impl Disk for Larder {
    async fn put(&self, number: u64, content: &Bytes) {
        let response = StoredResponse {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
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
        let key = self.hasher.key(key(number).as_bytes()).to_key();
        let content = Content::Response(response);
        let entry = Arc::new(Entry::new(key, SiteId(1), vec![Tag(1)], content));
        let born = Born {
            node: 1,
            purge: 0,
            at: 0,
        };
        self.tier.put(&entry, born).await;
    }

    async fn has(&self, number: u64) -> bool {
        let key = key(number);
        let view = KeyView {
            hash: 0,
            bytes: key.as_bytes(),
        };
        self.tier.get(view).await.is_ok_and(|found| found.is_some())
    }

    async fn settle(&self) {
        self.tier.settle().await;
    }

    async fn close(self) {
        self.tier.stop();
    }
}

struct Foyer(HybridCache<u64, Vec<u8>>);

impl Foyer {
    async fn open(dir: &Path, capacity: u64) -> Self {
        let size = |bytes: u64| usize::try_from(bytes).expect("64 bits");
        let device = FsDeviceBuilder::new(dir).with_capacity(size(capacity));
        let device = device.build().expect("a device");
        let engine = BlockEngineConfig::new(device)
            .with_block_size(size(16 * MIB))
            .with_buffer_pool_size(size(64 * MIB))
            .with_submit_queue_size_threshold(size(64 * MIB));
        let cache = HybridCacheBuilder::new()
            .with_name("peers")
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            // Hardly anything, so that the disk is asked.
            .memory(64)
            .storage()
            .with_io_engine_config(PsyncIoEngineConfig::new())
            .with_engine_config(engine)
            .build();
        Self(cache.await.expect("a cache"))
    }
}

impl Disk for Foyer {
    async fn put(&self, number: u64, content: &Bytes) {
        self.0.insert(number, content.to_vec());
    }

    async fn has(&self, number: u64) -> bool {
        self.0.get(&number).await.is_ok_and(|found| found.is_some())
    }

    async fn settle(&self) {
        self.0.storage().wait().await;
    }

    async fn close(self) {
        self.0.close().await.expect("it closes");
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0_u64) * 4_096
}

/// Bytes that the files in `dir` occupy.
fn occupied(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let files = std::fs::read_dir(dir).expect("a directory").flatten();
    files
        .filter_map(|file| file.metadata().ok())
        .map(|metadata| metadata.blocks() * 512)
        .sum()
}

fn per(count: u64, time: Duration) -> u64 {
    let rate = u128::from(count) * 1_000_000 / time.as_micros().max(1);
    u64::try_from(rate).expect("as many are not done in a second")
}

/// Puts `count` objects; how many a second.
async fn fill(disk: &impl Disk, count: u64, length: usize) -> u64 {
    let content = Bytes::from(vec![7; length]);
    let began = Instant::now();
    for number in 0..count {
        disk.put(number, &content).await;
        if number % LOT == LOT - 1 {
            disk.settle().await;
        }
    }
    disk.settle().await;
    per(count, began.elapsed())
}

/// Asks for `count` objects out of order, 16 at once; how many a second were there.
async fn hit<D: Disk + Send + 'static>(disk: &Arc<D>, count: u64) -> u64
where
    for<'a> &'a D: Send,
{
    let began = Instant::now();
    let found: u64 = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let thread = |thread: u64| {
                move || {
                    let lanes = (0..8).map(|lane| lane * 2 + thread).map(|lane| async move {
                        let mut found = 0;
                        for turn in 0..count / 16 {
                            let number = ((lane * (count / 16) + turn) * 7_368_787) % count;
                            found += u64::from(disk.has(number).await);
                        }
                        found
                    });
                    let runtime = tokio::runtime::Handle::current();
                    let found: Vec<u64> = runtime.block_on(join_all(lanes));
                    found.iter().sum::<u64>()
                }
            };
            let handle = tokio::runtime::Handle::current();
            let threads: Vec<_> = (0..2)
                .map(|number| {
                    let work = thread(number);
                    let handle = handle.clone();
                    scope.spawn(move || {
                        let _inside = handle.enter();
                        work()
                    })
                })
                .collect();
            let found = threads.into_iter().map(|it| it.join().expect("a thread"));
            found.sum()
        })
    });
    let rate = per(found, began.elapsed());
    if found < count {
        println!("    {} of {count} were not there", count - found);
    }
    rate
}

/// Fills and asks `disk`, which lies in `dir`.
async fn measure<D: Disk + Send + 'static>(
    name: &str,
    disk: D,
    dir: &Path,
    count: u64,
    length: usize,
) where
    for<'a> &'a D: Send,
{
    let puts = fill(&disk, count, length).await;
    let disk = Arc::new(disk);
    let hits = hit(&disk, count).await;
    println!("  {name:6} {length:>6} B: {puts:>8} puts a second, {hits:>8} hits a second");
    let disk = Arc::into_inner(disk).expect("nobody asks any more");
    disk.close().await;
    println!(
        "  {name:6} {length:>6} B: {} bytes of disk each",
        occupied(dir) / count
    );
}

/// What a start with `objects` small ones takes, in a process of its own.
async fn restart(name: &str, dir: &Path, objects: u64) {
    let before = resident();
    let began = Instant::now();
    if name == "larder" {
        let disk = Larder::open(dir, room(name, objects));
        told(name, before, began, objects);
        disk.close().await;
    } else {
        let disk = Foyer::open(dir, room(name, objects)).await;
        told(name, before, began, objects);
        disk.close().await;
    }
}

fn told(name: &str, before: u64, began: Instant, objects: u64) {
    let each = resident().saturating_sub(before) / objects;
    let millis = began.elapsed().as_millis();
    println!("  {name:6} restart: {millis} ms, {each} bytes of resident memory each");
}

/// What `objects` small ones take: one of `foyer` takes a page.
fn room(name: &str, objects: u64) -> u64 {
    let each = if name == "larder" { 700 } else { 4_500 };
    (objects * each).max(512 * MIB)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let objects = std::env::var("LARDER_OBJECTS").ok();
    let objects: u64 = objects.and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let mut arguments = std::env::args().skip(1);
    if let (Some(name), Some(dir)) = (arguments.next(), arguments.next()) {
        return restart(&name, Path::new(&dir), objects).await;
    }
    let temporary = std::env::temp_dir().join(format!("larder-peers-{}", std::process::id()));
    let dir = std::env::var_os("LARDER_DIR").map_or(temporary, PathBuf::from);
    let program = std::env::current_exe().expect("this program");
    for name in ["larder", "foyer"] {
        let at = |what: &str| {
            let dir = dir.join(format!("{name}-{what}"));
            std::fs::create_dir_all(&dir).expect("a directory");
            dir
        };
        let (large, small) = (at("large"), at("small"));
        let (count, length) = LARGE;
        if name == "larder" {
            measure(
                name,
                Larder::open(&large, 2_048 * MIB),
                &large,
                count,
                length,
            )
            .await;
            measure(
                name,
                Larder::open(&small, room(name, objects)),
                &small,
                objects,
                SMALL,
            )
            .await;
        } else {
            let disk = Foyer::open(&large, 2_048 * MIB).await;
            measure(name, disk, &large, count, length).await;
            let disk = Foyer::open(&small, room(name, objects)).await;
            measure(name, disk, &small, objects, SMALL).await;
        }
        let ended = Command::new(&program).arg(name).arg(&small).status();
        assert!(
            ended.is_ok_and(|status| status.success()),
            "it starts again"
        );
        std::fs::remove_dir_all(&large).expect("a directory");
        std::fs::remove_dir_all(&small).expect("a directory");
    }
}

//! What the disk tier costs: filling it, hitting it, starting with it, and the memory it takes.
//!
//! Run with `cargo bench -p larder --bench disk`. `LARDER_OBJECTS` says how many small objects are
//! stored (1,000,000), `LARDER_DIR` where (a temporary directory). What was written lies in the
//! memory of the system to a large part: compare with a run of something else on the same machine,
//! not with the data sheet of a device.

#![expect(clippy::print_stdout, reason = "it reports")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use larder::clock;
use larder::entry::{
    Content, Entry, KeyHasher, KeyView, Lifetime, Reuse, SiteId, StoredBody, StoredResponse, Tag,
};
use larder::tier::disk::{DiskTier, Settings};
use larder::tier::envelope::Born;
use larder::tier::found::FoundBody;
use larder::tier::slow::{Health, SlowTier};

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
    let settings = Settings::new(dir, capacity);
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

fn per(count: u64, time: Duration) -> u128 {
    u128::from(count) * 1_000_000 / time.as_micros().max(1)
}

fn view(key: &str) -> KeyView<'_> {
    KeyView {
        hash: 0,
        bytes: key.as_bytes(),
    }
}

/// Puts `count` entries of `length` bytes.
async fn fill(tier: &DiskTier, count: u64, length: usize) {
    let hasher = KeyHasher::default();
    let content = Bytes::from(vec![7; length]);
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
        per(written, time) / u128::from(MIB),
        tier.stats().dropped.get(),
    );
}

/// Reads at random, `depth` at once.
async fn hit(tier: &DiskTier, count: u64, reads: u64, depth: u64) {
    let began = Instant::now();
    let one = async |lane: u64| {
        let mut state = lane + 1;
        let mut bytes = 0;
        for _ in 0..reads / depth {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let key = format!("https/example.com/{}", (state >> 20) % count);
            if let Ok(Some(found)) = tier.get(view(&key)).await
                && let FoundBody::Whole(content) = found.body
            {
                bytes += content.len();
            }
        }
        bytes
    };
    let lanes = (0..depth).map(one);
    let mut lanes: Vec<_> = lanes.map(Box::pin).collect();
    let mut bytes = 0;
    std::future::poll_fn(|context| {
        lanes.retain_mut(|lane| match lane.as_mut().poll(context) {
            std::task::Poll::Ready(read) => {
                bytes += read;
                false
            }
            std::task::Poll::Pending => true,
        });
        match lanes.is_empty() {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    let time = began.elapsed();
    println!(
        "hit, {depth} at once: {} a second, {} MiB of content",
        per(reads, time),
        bytes >> 20
    );
}

fn main() {
    let objects = std::env::var("LARDER_OBJECTS").ok();
    let objects: u64 = objects.and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = std::env::var_os("LARDER_DIR").map_or(temporary.path().to_owned(), Into::into);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");

    let (large, small) = (dir.join("large"), dir.join("small"));
    let (tier, _) = open(&large, 2_048 * MIB);
    runtime.block_on(async {
        fill(&tier, 30_000, 16 << 10).await;
        for depth in [1, 16] {
            hit(&tier, 30_000, 30_000, depth).await;
        }
    });
    tier.stop();
    drop(tier);

    let (tier, _) = open(&small, (objects * 700).max(64 * MIB));
    runtime.block_on(fill(&tier, objects, 200));
    let written = tier.stats().bytes_written.get();
    println!(
        "{} entries: {} bytes of disk each, {} bytes of index each",
        tier.usage().entries,
        written / objects,
        figure(&tier, "index_bytes") / tier.usage().entries.max(1),
    );
    tier.stop();
    drop(tier);
    let before = resident();
    let (tier, time) = open(&small, (objects * 700).max(64 * MIB));
    println!(
        "restart with {} entries: {} ms, {} bytes of memory each",
        tier.usage().entries,
        time.as_millis(),
        resident().saturating_sub(before) / tier.usage().entries.max(1),
    );
    runtime.block_on(hit(&tier, objects, 50_000, 16));
    tier.stop();
}

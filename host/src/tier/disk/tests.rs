//! The tier as a whole, in directories of its own.

mod basics;
mod content;
mod crashes;
mod damage;
mod device;
mod directories;
mod doubt;
mod faults;
mod moving;
mod storms;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::format::short;

use super::*;
use crate::entry::{
    Content, Entry, KeyHasher, KeyView, Lifetime, Reuse, SiteId, StoredBody, StoredResponse, Tag,
};
use crate::tier::envelope::Born;
use crate::tier::found::FoundBody;
use crate::tier::slow::{Unavailable, Written};

const MIB: u64 = 1 << 20;
const BORN: Born = Born {
    node: 7,
    purge: 3,
    at: 1,
};

/// Runs `work` on a runtime of one thread.
fn run<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().build().expect("a runtime");
    runtime.block_on(work)
}

/// Content that says which it is at every byte.
fn content(number: u64, length: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut at = 0_u64;
    while bytes.len() < length {
        let word = (number << 32 ^ at).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bytes.extend_from_slice(&word.to_le_bytes());
        at += 1;
    }
    bytes.truncate(length);
    bytes.into()
}

fn hasher() -> KeyHasher {
    KeyHasher::default()
}

/// An entry under the key `key` with this content, and a field that says which it is.
fn entry(key: &str, number: u64, body: StoredBody) -> Arc<Entry> {
    let mut headers = HeaderMap::new();
    headers.insert("etag", HeaderValue::from_static("\"a\""));
    headers.insert("x-number", HeaderValue::from(number));
    let content = Content::Response(StoredResponse {
        status: StatusCode::OK,
        headers,
        body,
        lifetime: Lifetime {
            stored_at: clock::now(),
            initial_age: Duration::ZERO,
            fresh_for: Duration::from_mins(10),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            reuse: Reuse::Normal,
        },
        decided_by: "native:rfc9111".into(),
    });
    let key = hasher().key(key.as_bytes()).to_key();
    Arc::new(Entry::new(key, SiteId(1), vec![Tag(number)], content))
}

fn small(key: &str, number: u64, length: usize) -> Arc<Entry> {
    entry(key, number, StoredBody::new(vec![content(number, length)]))
}

/// The same in pieces of 16 KiB.
fn large(key: &str, number: u64, length: usize) -> Arc<Entry> {
    let content = content(number, length);
    let pieces = (0..length).step_by(16 << 10);
    let pieces = pieces.map(|at| content.slice(at..length.min(at + (16 << 10))));
    entry(key, number, StoredBody::new(pieces.collect()))
}

fn everything_valid() -> Valid {
    Arc::new(|_| true)
}

fn settings(dir: &std::path::Path, capacity: u64) -> Settings {
    Settings {
        readers: 2,
        // Long, because machines that test are slow.
        read_deadline: Duration::from_secs(20),
        ..Settings::new(dir, capacity)
    }
}

/// A generator of numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// How often a test that can go on for long does what it does: `usually`, or as often as the
/// environment says in `LARDER_LONG`.
fn times(usually: u64) -> u64 {
    let long = std::env::var("LARDER_LONG").ok();
    long.and_then(|times| times.parse().ok()).unwrap_or(usually)
}

/// A tier on `device` that has loaded what it held.
fn open_on(
    dir: &std::path::Path,
    capacity: u64,
    device: &Arc<device::Device>,
) -> Result<Arc<DiskTier>, OpenError> {
    let io: Arc<dyn Io> = Arc::<device::Device>::clone(device);
    let tier = DiskTier::open_with(&settings(dir, capacity), everything_valid(), io)?;
    tier.shared.loaded();
    Ok(tier)
}

/// A tier that has loaded what it held.
fn open(dir: &std::path::Path, capacity: u64) -> Arc<DiskTier> {
    let tier = DiskTier::open(&settings(dir, capacity), everything_valid()).expect("a tier");
    tier.shared.loaded();
    tier
}

fn view(key: &str) -> KeyView<'_> {
    KeyView {
        hash: 0,
        bytes: key.as_bytes(),
    }
}

impl DiskTier {
    /// What is under `key`: which it is, and its content.
    async fn read(&self, key: &str) -> Result<Option<(u64, Bytes)>, Unavailable> {
        let Some(found) = self.get(view(key)).await? else {
            return Ok(None);
        };
        assert_eq!(found.envelope.key.as_ref(), key.as_bytes());
        let crate::tier::envelope::Kind::Response(head) = &found.envelope.kind else {
            panic!("a response")
        };
        let number = head.headers["x-number"].to_str().unwrap().parse().unwrap();
        let bytes = match found.body {
            FoundBody::Whole(bytes) => bytes,
            FoundBody::Kept(kept) => {
                let mut all = Vec::new();
                while long(all.len()) < kept.len() {
                    let Ok(bytes) = kept.read(long(all.len())).await else {
                        return Ok(None);
                    };
                    assert!((1..=READ_MAX).contains(&bytes.len()));
                    all.extend_from_slice(&bytes);
                }
                assert!(kept.read(kept.len()).await.unwrap().is_empty());
                all.into()
            }
        };
        assert_eq!(long(bytes.len()), found.envelope.length);
        assert_eq!(blake3::hash(&bytes).as_bytes(), &found.envelope.digest);
        assert!(
            content(number, bytes.len()) == bytes,
            "the content of {number}"
        );
        Ok(Some((number, bytes)))
    }

    /// Which is under `key`.
    async fn which(&self, key: &str) -> Option<u64> {
        self.read(key).await.unwrap().map(|(number, _)| number)
    }
}

/// Bytes that a directory and all in it occupy.
fn occupied(dir: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let of = |path: &std::path::Path| path.symlink_metadata().map_or(0, |m| m.blocks() * 512);
    let files = std::fs::read_dir(dir).unwrap();
    of(dir) + files.map(|file| of(&file.unwrap().path())).sum::<u64>()
}

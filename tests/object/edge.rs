//! What the tests of this program share: a tier, entries whose content shows every misplaced byte,
//! and a thread to await on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use larder::clock;
use larder::entry::{
    CacheKey, Content, Entry, KeyHasher, Lifetime, Reuse, SiteId, StoredBody, StoredResponse, Tag,
};
use larder::tier::envelope::{Born, Kind};
use larder::tier::found::{Found, FoundBody};
use larder::tier::object::{Health, ObjectTier, Settings, Unavailable};

use crate::support::{eventually, pattern};

pub(crate) const BORN: Born = Born {
    node: 11,
    purge: 22,
    at: 1_700_000_000_000,
};

/// Runs `work` as a worker of the edge would: on a runtime that knows nothing of the tier's.
pub(crate) fn wait<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(work)
}

pub(crate) fn open(settings: Settings) -> Arc<ObjectTier> {
    ObjectTier::open(settings).expect("a tier")
}

pub(crate) fn key(name: &str) -> CacheKey {
    KeyHasher::default().key(name.as_bytes()).to_key()
}

/// Where in the pattern the content of `name` begins, so that no two contents are alike.
fn start(name: &str) -> u64 {
    let hash = name.bytes().fold(7_u64, |hash, byte| {
        hash.wrapping_mul(31).wrapping_add(byte.into())
    });
    hash % (1 << 40) * 1024
}

/// The entry `name` with `length` bytes of content, in pieces as they come from a network.
pub(crate) fn entry(name: &str, length: usize) -> Arc<Entry> {
    let mut content = vec![0; length];
    pattern::fill(start(name), &mut content);
    let content = Bytes::from(content);
    let pieces = (0..length)
        .step_by(100_000)
        .map(|at| content.slice(at..length.min(at + 100_000)));
    let mut headers = HeaderMap::new();
    headers.insert(
        "etag",
        HeaderValue::from_str(&format!("\"{length}\"")).unwrap(),
    );
    let response = StoredResponse {
        status: StatusCode::OK,
        headers,
        body: StoredBody::new(pieces.collect()),
        lifetime: Lifetime {
            stored_at: clock::now(),
            initial_age: Duration::ZERO,
            fresh_for: Duration::from_mins(1),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            reuse: Reuse::Normal,
        },
        decided_by: "native:rfc9111".into(),
    };
    let content = Content::Response(response);
    Arc::new(Entry::new(key(name), SiteId(5), vec![Tag(9)], content))
}

pub(crate) fn get(tier: &ObjectTier, name: &str) -> Result<Option<Found>, Unavailable> {
    wait(tier.get(key(name).view()))
}

/// Uploads `entries` and waits until they are.
pub(crate) fn upload(tier: &ObjectTier, entries: &[(&str, usize)]) {
    for (name, length) in entries {
        tier.put(&entry(name, *length), BORN).expect("room");
    }
    assert_eq!(wait(tier.settle()).items, 0, "{:?}", tier.health());
}

/// Checks that what was found is the entry `name`, to the last byte, as far as it can be read. The
/// bytes of it.
#[track_caller]
pub(crate) fn check(name: &str, found: Found) -> u64 {
    let envelope = found.envelope;
    assert_eq!(*envelope.key, *name.as_bytes());
    assert_eq!((envelope.site, envelope.born), (SiteId(5), BORN));
    let Kind::Response(head) = &envelope.kind else {
        panic!("a response")
    };
    let tag = format!("\"{}\"", envelope.length);
    assert_eq!(head.headers["etag"], tag.as_str());
    match found.body {
        FoundBody::Whole(content) => {
            assert_eq!(pattern::to_u64(content.len()), envelope.length);
            pattern::check(start(name), &content);
        }
        FoundBody::Kept(kept) => {
            assert_eq!(kept.len(), envelope.length);
            let mut at = 0;
            while at < kept.len() {
                let bytes = wait(kept.read(at)).expect("content");
                assert!(!bytes.is_empty());
                pattern::check(start(name) + at, &bytes);
                at += pattern::to_u64(bytes.len());
            }
            assert_eq!(at, kept.len());
        }
    }
    envelope.length
}

/// Reads all that is there of `name`, checks it, and says whether it was whole.
pub(crate) fn read_checked(tier: &ObjectTier, name: &str) -> bool {
    let Ok(Some(found)) = get(tier, name) else {
        return false;
    };
    let FoundBody::Kept(kept) = &found.body else {
        check(name, found);
        return true;
    };
    let mut at = 0;
    while at < kept.len() {
        let Ok(bytes) = wait(kept.read(at)) else {
            return false;
        };
        check_bytes(name, at, &bytes);
        at += pattern::to_u64(bytes.len());
    }
    true
}

/// Checks that `bytes` stand at `at` of the content of `name`.
#[track_caller]
pub(crate) fn check_bytes(name: &str, at: u64, bytes: &[u8]) {
    pattern::check(start(name) + at, bytes);
}

#[track_caller]
pub(crate) fn online(tier: &ObjectTier) {
    eventually("the store answers", || tier.health() == Health::Online);
}

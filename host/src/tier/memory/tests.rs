//! Tests of a whole domain: fixtures, and a list of what each file beside this one shows.
//!
//! `model`: random operations against a map, with orders that misbehave in every way. `native`:
//! LRU to the letter, skew, collisions, rejection, purges. `guided`: what a guest order hears and
//! what its answers do. `threads`: the same with real threads.

mod fakes;
mod guided;
mod model;
mod native;
mod sweeps;
mod threads;

use std::num::NonZeroU32;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};

use super::put::Put;
use super::{Domain, DomainSettings, Shards};
use crate::clock::Moment;
use crate::entry::{
    Content, Entry, KeyView, Lifetime, Reuse, SiteId, StoredBody, StoredResponse, Tag,
};

/// What an entry without tags and body is charged with a key of eight bytes.
fn bare_charge() -> u64 {
    entry(1, 0).charge()
}

/// A domain of so many shards, and of so many stripes in each.
fn domain(capacity: u64, max_entries: u32, (shards, stripes): (u32, u32)) -> Domain {
    let [shards, stripes] = [shards, stripes].map(|it| NonZeroU32::new(it).unwrap());
    let shards = Shards::Exactly(shards, stripes);
    Domain::new(DomainSettings {
        name: "test".to_owned(),
        capacity,
        max_entries,
        shards,
    })
}

/// Spreads small numbers over stripes and tables, as a keyed hash would.
fn spread(key: u64) -> u64 {
    let mixed = (key ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ mixed >> 29).wrapping_mul(0x94d0_49bb_1331_11eb)
}

/// The bytes of a key, kept by the caller, and a view of them.
fn view(key: &[u8; 8]) -> KeyView<'_> {
    KeyView {
        hash: spread(u64::from_le_bytes(*key)),
        bytes: key,
    }
}

fn response(body: usize, fresh_for_s: u64) -> Content {
    Content::Response(StoredResponse {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: StoredBody::new(vec![vec![0; body].into()]),
        lifetime: Lifetime {
            stored_at: Moment::from_millis(0),
            initial_age: std::time::Duration::ZERO,
            fresh_for: std::time::Duration::from_secs(fresh_for_s),
            stale_while_revalidate: std::time::Duration::ZERO,
            stale_if_error: std::time::Duration::ZERO,
            reuse: Reuse::Normal,
        },
        decided_by: "test".into(),
    })
}

/// An entry of `key` with a body of this many bytes.
fn entry(key: u64, body: usize) -> Arc<Entry> {
    tagged(key, body, 0, &[])
}

/// The same, of a site and with tags.
fn tagged(key: u64, body: usize, site: u64, tags: &[u64]) -> Arc<Entry> {
    let tags = tags.iter().map(|tag| Tag(spread(*tag))).collect();
    let key = view(&key.to_le_bytes()).to_key();
    Arc::new(Entry::new(key, SiteId(site), tags, response(body, 1 << 20)))
}

/// Puts without a reservation and without anybody overtaking.
fn put(domain: &Domain, entry: &Arc<Entry>) -> Put {
    domain.put(entry, None, &|| true)
}

fn get(domain: &Domain, key: u64) -> Option<Arc<Entry>> {
    domain.get(view(&key.to_le_bytes()))
}

fn peek(domain: &Domain, key: u64) -> Option<Arc<Entry>> {
    domain.peek(view(&key.to_le_bytes()))
}

fn key_of(entry: &Entry) -> u64 {
    u64::from_le_bytes(entry.key.view().bytes.try_into().unwrap())
}

/// Audits every stripe and the budget. Answers the keys stripe by stripe, least recently used first,
/// without those that a sweep has purged.
fn audit(domain: &Domain) -> Vec<u64> {
    let inner = &domain.inner;
    let entries: Vec<_> = (0..inner.stripes.len())
        .flat_map(|i| inner.lock(i).audit())
        .collect();
    let usage = domain.usage();
    let bytes: u64 = entries.iter().map(|entry| entry.charge()).sum();
    assert_eq!(
        usage.bytes,
        bytes + usage.reserved,
        "bytes are charges and reservations"
    );
    assert_eq!(usage.entries, u64::try_from(entries.len()).unwrap());
    assert!(usage.bytes <= usage.capacity, "{usage:?}");
    assert!(usage.entries <= usage.max_entries, "{usage:?}");
    let stats = domain.stats();
    assert_eq!(stats.lookups(), stats.hits + stats.misses);
    let swept = |entry: &Entry| {
        let hash = entry.key.view().hash;
        inner.lock(inner.index(hash)).is_swept(hash)
    };
    let left = entries.iter().filter(|entry| !swept(entry));
    left.map(|entry| key_of(entry)).collect()
}

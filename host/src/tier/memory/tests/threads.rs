//! Real threads: traffic, purges and changes of the order at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use super::fakes::{Fakes, Manner};
use super::{audit, bare_charge, domain, entry, get, key_of, put, tagged};
use crate::clock::Moment;
use crate::entry::{SiteId, Tag};
use crate::tier::eviction::OrderSource;
use crate::tier::memory::put::Put;
use crate::tier::memory::stats::EvictionReason;
use crate::tier::memory::{Domain, MemoryTier};
use crate::tier::{Purged, Selection};

fn order(manner: Manner) -> Arc<dyn OrderSource> {
    Fakes::new(manner)
}

#[test]
fn settling_waits_for_the_order_and_for_the_headroom() {
    let domain = domain(bare_charge() * 2048, 1 << 20, (2, 2));
    domain.settle();
    let fakes = Fakes::new(Manner::Honest);
    domain.set_order(Some(fakes.source()));
    for key in 0..2048 {
        assert_eq!(put(&domain, &entry(key, 0)), Put::Stored);
    }
    for key in 0..100 {
        get(&domain, key);
    }
    domain.settle();
    assert!(domain.usage().entries <= 2048 - 32, "{:?}", domain.usage());
    let heard = fakes.seen.hits.load(SeqCst);
    for key in 2000..2048 {
        assert!(get(&domain, key).is_some(), "the most recent stay");
    }
    domain.settle();
    assert_eq!(fakes.seen.hits.load(SeqCst), heard + 48);
    domain.stop();
    domain.settle();
    assert_eq!(domain.usage().guest_memory, 0);
    audit(&domain);
}

#[test]
fn settling_ends_whatever_the_order_does() {
    for manner in [
        Manner::FaultsOnEvents,
        Manner::FaultsOnVictims,
        Manner::Panics,
        Manner::Silent,
    ] {
        let domain = domain(bare_charge() * 512, 1 << 20, (1, 2));
        domain.set_order(Some(order(manner)));
        for key in 0..2000 {
            assert_eq!(put(&domain, &entry(key, 0)), Put::Stored);
        }
        domain.settle();
        audit(&domain);
        domain.set_order(None);
        domain.settle();
        domain.set_order(Some(order(Manner::Honest)));
        domain.settle();
        assert!(domain.usage().entries <= 512 - 32, "{manner:?}");
    }
}

/// Puts rising versions (as site numbers) of the keys that are `part` modulo 2.
fn write(domain: &Domain, part: u64, committed: &[AtomicU64], rounds: u32) {
    let mut random = part + 1;
    for version in 1..=rounds {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let key = (random >> 40) % 200 * 2 + part;
        let reservation = domain.reserve(random >> 52);
        let body = usize::try_from(random >> 54).unwrap();
        let put = domain.put(
            &tagged(key, body, version.into(), &[key % 7]),
            reservation,
            &|| true,
        );
        assert_eq!(put, Put::Stored);
        committed[usize::try_from(key).unwrap()].store(u64::from(version), SeqCst);
    }
}

#[test]
fn traffic_purges_and_changes_of_order_at_once_keep_every_promise() {
    let capacity = bare_charge() * 200;
    let domain = domain(capacity, 150, (2, 2));
    let committed: Vec<AtomicU64> = (0..400).map(|_| AtomicU64::new(0)).collect();
    let writing = AtomicBool::new(true);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|part| {
                scope.spawn({
                    let (domain, committed) = (&domain, &committed);
                    move || write(domain, part, committed, 20_000)
                })
            })
            .collect();
        scope.spawn(|| {
            let mut random = 9_u64;
            while writing.load(SeqCst) {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let key = (random >> 40) % 400;
                let at_least = committed[usize::try_from(key).unwrap()].load(SeqCst);
                if let Some(found) = get(&domain, key) {
                    assert_eq!(key_of(&found), key);
                    assert!(found.site.0 >= at_least, "an older value was found");
                }
                let usage = domain.usage();
                assert!(usage.bytes <= capacity && usage.entries <= 150, "{usage:?}");
            }
        });
        scope.spawn(|| {
            let manners = [
                Manner::Honest,
                Manner::Guesses,
                Manner::FaultsOnVictims,
                Manner::Endless,
            ];
            for change in 0.. {
                if !writing.load(SeqCst) {
                    break;
                }
                domain.set_order(manners.get(change % 5).copied().map(order));
                domain.purge_tag(Tag(super::spread(3)));
                domain.purge_site(SiteId(7));
                if change % 10 == 0 {
                    domain.purge_all();
                }
                domain.settle();
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        writing.store(false, SeqCst);
    });
    domain.set_order(Some(order(Manner::Honest)));
    domain.settle();
    audit(&domain);
    let stats = domain.stats();
    assert_eq!(stats.puts, 40_000);
    assert!(
        stats.evicted(EvictionReason::Policy).entries > 0,
        "{stats:?}"
    );
    assert_eq!(stats.shard_resets, 0);
}

#[test]
fn a_purged_fill_never_becomes_resident() {
    let domain = domain(1 << 20, 1000, (1, 1));
    for round in 0..500 {
        let purged = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let put = domain.put(&tagged(1, 0, 0, &[1]), None, &|| !purged.load(SeqCst));
                assert_ne!(
                    put,
                    Put::Rejected(crate::tier::memory::put::Rejected::NoRoom)
                );
            });
            purged.store(true, SeqCst);
            domain.purge_tag(Tag(super::spread(1)));
            assert!(get(&domain, 1).is_none(), "round {round}");
        });
        assert!(get(&domain, 1).is_none(), "round {round}");
    }
}

#[test]
fn a_large_purge_is_counted_at_once_and_dropped_domains_end_their_threads() {
    let domains: Vec<_> = (0..2)
        .map(|_| Arc::new(domain(1 << 26, 1 << 20, (2, 2))))
        .collect();
    let tier = MemoryTier::new(domains);
    for (site, domain) in tier.domains().iter().enumerate() {
        domain.set_order(Some(order(Manner::Honest)));
        for key in 0..12_000 {
            let site = u64::try_from(site).unwrap();
            assert_eq!(put(domain, &tagged(key, 0, site, &[key % 10])), Put::Stored);
        }
    }
    assert_eq!(tier.usage().entries, 24_000);
    assert_eq!(tier.count_tag(Tag(super::spread(4))).entries, 2_400);
    assert_eq!(tier.purge_tag(Tag(super::spread(4))).entries, 2_400);
    assert_eq!(tier.purge_site(SiteId(1)).entries, 10_800);
    assert_eq!(tier.purge_all().entries, 10_800);
    assert_eq!((tier.usage().bytes, tier.usage().entries), (0, 0));
    tier.settle();
    tier.stop();
    assert_eq!(tier.stats().evicted(EvictionReason::Purged).entries, 24_000);
}

#[test]
fn a_large_purge_is_in_force_when_it_returns_and_counts_once() {
    const EACH: u64 = 9_000;
    let domain = domain(1 << 26, 1 << 20, (2, 2));
    let fill = || {
        for key in 0..2 * EACH {
            assert_eq!(put(&domain, &tagged(key, 0, key % 2, &[1])), Put::Stored);
        }
        domain.usage().bytes / 2
    };
    let all = |bytes| Purged {
        entries: EACH,
        bytes,
    };
    let now = Moment::from_millis(1);
    let odd = Selection::of_site(SiteId(1));
    let half = fill();
    assert_eq!(domain.soften(&odd, now), all(half));
    for key in 0..2 * EACH {
        let found = get(&domain, key).expect("it stays");
        assert_eq!(found.is_fresh_at(now), key % 2 == 0, "key {key}");
    }
    assert_eq!(domain.purge(&odd), all(half));
    // What comes after it stays, and what it covers counts for no other one.
    assert_eq!(put(&domain, &tagged(1, 0, 1, &[1])), Put::Stored);
    for key in 0..2 * EACH {
        let stays = key % 2 == 0 || key == 1;
        assert_eq!(get(&domain, key).is_some(), stays, "key {key}");
    }
    let tagged = Selection::of_tags([Tag(super::spread(1))]);
    assert_eq!(domain.count(&tagged).entries, EACH + 1);
    assert_eq!(domain.purge(&Selection::everything()).entries, EACH + 1);
    domain.finish_purges();
    assert_eq!((domain.usage().entries, domain.usage().bytes), (0, 0));
    let purged = domain.stats().evicted(EvictionReason::Purged).entries;
    assert_eq!(purged, 2 * EACH + 1);
    audit(&domain);
}

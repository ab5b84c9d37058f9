//! The native order and the rules that hold under any order.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::{audit, bare_charge, domain, entry, get, peek, put, spread, tagged, view};
use crate::clock::Moment;
use crate::entry::{CacheKey, Content, Entry, KeyView, Nominations, SiteId, Tag, Usable};
use crate::tier::memory::put::{Put, Rejected};
use crate::tier::memory::stats::{Evicted, EvictionReason};
use crate::tier::{Purged, Selection};

#[test]
fn victims_leave_in_exact_lru_order() {
    const ROOM: usize = 40;
    let capacity = bare_charge() * u64::try_from(ROOM).unwrap();
    let domain = domain(capacity, 1000, (1, 1));
    let mut oracle: VecDeque<u64> = VecDeque::new();
    let mut random = 1_u64;
    for _ in 0..20_000 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let key = (random >> 33) % 100;
        let position = oracle.iter().position(|each| *each == key);
        if random >> 60 < 8 {
            assert_eq!(get(&domain, key).is_some(), position.is_some());
        } else {
            assert_eq!(put(&domain, &entry(key, 0)), Put::Stored);
            if position.is_none() && oracle.len() == ROOM {
                oracle.pop_front();
            }
        }
        if let Some(position) = oracle.iter().position(|each| *each == key) {
            oracle.remove(position);
            oracle.push_back(key);
        } else if peek(&domain, key).is_some() {
            oracle.push_back(key);
        }
        assert_eq!(audit(&domain), *oracle.make_contiguous());
    }
}

#[test]
fn replacing_frees_first_and_is_no_eviction() {
    let domain = domain(bare_charge() * 4, 10, (1, 1));
    for key in 0..4 {
        assert_eq!(put(&domain, &entry(key, 0)), Put::Stored);
    }
    let newer = entry(2, 0);
    assert_eq!(put(&domain, &newer), Put::Stored);
    assert!(Arc::ptr_eq(&get(&domain, 2).unwrap(), &newer));
    assert_eq!(
        audit(&domain),
        [0, 1, 3, 2],
        "a full tier takes a replacement of equal size"
    );
    assert!(
        domain
            .stats()
            .evictions()
            .all(|(_, evicted)| evicted == Evicted::default())
    );
}

#[test]
fn an_entry_above_a_quarter_is_rejected_and_drops_the_older_value() {
    let domain = domain(10_000, 100, (1, 1));
    assert_eq!(put(&domain, &entry(1, 0)), Put::Stored);
    assert_eq!(put(&domain, &entry(2, 0)), Put::Stored);
    let large = entry(1, 2600);
    assert_eq!(domain.put(&large, None, &|| false), Put::Superseded);
    assert!(
        peek(&domain, 1).is_some(),
        "an overtaken fill drops nothing"
    );
    assert_eq!(put(&domain, &large), Put::Rejected(Rejected::TooLarge));
    assert_eq!(audit(&domain), [2], "and others are untouched");
    let stats = domain.stats();
    assert_eq!(
        (stats.puts, stats.rejected_too_large, stats.superseded),
        (2, 1, 1)
    );
    assert_eq!(stats.evicted(EvictionReason::RejectedPut).entries, 1);
}

#[test]
fn zero_capacity_accepts_puts_and_keeps_nothing() {
    for (bytes, entries) in [(0, 10), (10_000, 0)] {
        let domain = domain(bytes, entries, (1, 2));
        assert_eq!(
            put(&domain, &entry(1, 0)),
            Put::Rejected(Rejected::Disabled)
        );
        assert!(get(&domain, 1).is_none());
        assert_eq!(domain.stats().rejected_disabled, 1);
        audit(&domain);
    }
}

/// Keys whose entries all belong to stripe `wanted` of 16.
fn keys_of_stripe(wanted: u64) -> impl Iterator<Item = u64> {
    (0..).filter(move |key| spread(*key) >> 32 & 15 == wanted)
}

#[test]
fn no_stripe_loses_capacity_to_skew() {
    let capacity = bare_charge() * 1000;
    let domain = domain(capacity, 100_000, (2, 8));
    for key in keys_of_stripe(3).take(1000) {
        assert_eq!(put(&domain, &entry(key, 0)), Put::Stored);
    }
    let usage = domain.usage();
    assert_eq!(
        (usage.entries, usage.bytes),
        (1000, capacity),
        "one stripe may use all of it"
    );
    for key in keys_of_stripe(9).take(2000) {
        assert_eq!(put(&domain, &entry(key, 0)), Put::Stored);
        assert_eq!(domain.usage().bytes, capacity);
    }
    let resident = audit(&domain);
    let of_nine = resident
        .iter()
        .filter(|key| spread(**key) >> 32 & 15 == 9)
        .count();
    assert!(
        (460..=510).contains(&of_nine),
        "the fuller stripe gave: {of_nine}"
    );
}

#[test]
fn a_large_entry_is_not_the_first_that_its_stripe_has_to_give() {
    const SMALL: u64 = 16 << 10;
    let charged = |key: u64, charge| {
        let key = view(&key.to_le_bytes()).to_key();
        let content = Content::Nominations(Nominations::default());
        Arc::new(Entry::weighing(key, SiteId(0), content, charge))
    };
    for layout in [(1, 1), (1, 8), (16, 1), (2, 16)] {
        let capacity = 16 << 20;
        let domain = domain(capacity, 1 << 20, layout);
        for key in 0..2 * capacity / SMALL {
            assert_eq!(put(&domain, &charged(key, SMALL)), Put::Stored);
        }
        let large = u64::MAX;
        assert_eq!(put(&domain, &charged(large, capacity / 5)), Put::Stored);
        let after = (1 << 32..).take_while(|key| {
            assert_eq!(put(&domain, &charged(*key, SMALL)), Put::Stored);
            peek(&domain, large).is_some()
        });
        let bytes = SMALL * u64::try_from(after.count()).unwrap();
        // In one list: until all that came before it has left.
        assert!(
            (capacity / 2..=capacity).contains(&bytes),
            "{layout:?}: {bytes} bytes"
        );
    }
}

#[test]
fn the_entry_limit_holds_and_is_used_up() {
    let domain = domain(1 << 30, 100, (4, 4));
    for key in 0..1000 {
        assert_eq!(put(&domain, &entry(key, 0)), Put::Stored);
        assert!(
            get(&domain, key).is_some(),
            "the entry just put is not its own victim"
        );
    }
    assert_eq!(audit(&domain).len(), 100);
}

#[test]
fn a_hash_of_another_key_is_a_miss_and_an_insert_replaces_it() {
    let domain = domain(1 << 20, 100, (1, 1));
    let colliding = |bytes: &[u8]| {
        let key: CacheKey = KeyView { hash: 7, bytes }.to_key();
        let content = Content::Nominations(Nominations::default());
        Arc::new(Entry::new(key, SiteId(0), Vec::new(), content))
    };
    let look = |bytes: &[u8]| domain.get(KeyView { hash: 7, bytes });
    assert_eq!(put(&domain, &colliding(b"first key")), Put::Stored);
    assert!(look(b"other key").is_none());
    assert!(
        domain
            .remove(KeyView {
                hash: 7,
                bytes: b"other key"
            })
            .is_none()
    );
    assert!(look(b"first key").is_some());
    assert_eq!(put(&domain, &colliding(b"other key")), Put::Stored);
    assert!(look(b"first key").is_none() && look(b"other key").is_some());
    assert_eq!((domain.usage().entries, domain.stats().lookups()), (1, 4));
}

#[test]
fn a_reservation_is_counted_grows_and_becomes_the_charge() {
    let domain = domain(bare_charge() * 20, 100, (2, 2));
    for key in 0..20 {
        assert_eq!(put(&domain, &entry(key, 0)), Put::Stored);
    }
    let mut reservation = domain.reserve(bare_charge()).expect("evicts for it");
    assert_eq!(
        (domain.usage().reserved, domain.usage().entries),
        (bare_charge(), 19)
    );
    assert!(reservation.grow(bare_charge() * 4));
    assert!(
        !reservation.grow(1),
        "a quarter of the capacity is the most an entry may have"
    );
    assert_eq!(reservation.bytes(), bare_charge() * 5);
    audit(&domain);
    let large = entry(99, usize::try_from(bare_charge()).unwrap() * 4);
    assert_eq!(domain.put(&large, Some(reservation), &|| true), Put::Stored);
    assert_eq!((domain.usage().reserved, domain.usage().entries), (0, 16));
    let held: Vec<_> = (0..4).map(|_| domain.reserve(bare_charge() * 5)).collect();
    assert!(held.iter().all(Option::is_some) && domain.usage().entries == 0);
    assert!(domain.reserve(1).is_none());
    assert_eq!(put(&domain, &entry(1, 0)), Put::Rejected(Rejected::NoRoom));
    drop(held);
    assert_eq!(domain.usage().bytes, 0);
}

#[test]
fn a_purge_by_tag_takes_all_that_carry_it_and_no_other() {
    let domain = domain(1 << 24, 10_000, (2, 2));
    for key in 0..3000 {
        assert_eq!(
            put(&domain, &tagged(key, 0, 0, &[key % 3, 100 + key])),
            Put::Stored
        );
    }
    assert_eq!(
        domain.count_tag(Tag(spread(1))),
        domain.purge_tag(Tag(spread(1)))
    );
    assert_eq!(domain.purge_tag(Tag(spread(1))), Purged::default());
    assert_eq!(domain.purge_tag(Tag(spread(105))).entries, 1);
    let left = audit(&domain);
    assert_eq!(left.len(), 1999);
    assert!(left.iter().all(|key| key % 3 != 1 && *key != 5));
    assert_eq!(domain.stats().evicted(EvictionReason::Purged).entries, 1001);
}

#[test]
fn a_tag_that_all_carry_takes_all_at_once() {
    let domain = domain(1 << 24, 10_000, (2, 2));
    for key in 0..3000 {
        let tags = [1, 100 + key];
        assert_eq!(put(&domain, &tagged(key, 0, 0, &tags)), Put::Stored);
    }
    let all = domain.usage();
    let purged = domain.purge_tag(Tag(spread(1)));
    assert_eq!((purged.entries, purged.bytes), (3000, all.bytes));
    assert!(audit(&domain).is_empty());
    assert_eq!(domain.stats().evicted(EvictionReason::Purged).entries, 3000);
    assert_eq!(put(&domain, &tagged(1, 0, 0, &[1])), Put::Stored);
    assert_eq!(domain.purge_tag(Tag(spread(1))).entries, 1);
}

#[test]
fn a_purge_by_site_takes_the_site() {
    let domain = domain(1 << 24, 10_000, (2, 2));
    for key in 0..3000 {
        let site = u64::from(key % 2 == 0);
        assert_eq!(put(&domain, &tagged(key, 0, site, &[key])), Put::Stored);
    }
    let counted = domain.count(&Selection::of_site(SiteId(1)));
    assert_eq!(counted.entries, 1500);
    assert_eq!(counted.bytes, domain.usage().bytes / 2);
    assert_eq!(domain.purge_site(SiteId(1)).entries, 1500);
    assert!(audit(&domain).iter().all(|key| key % 2 == 1));
    assert_eq!(
        domain.purge_site(SiteId(0)).entries,
        1500,
        "a site alone is taken at once"
    );
    assert_eq!(domain.purge_site(SiteId(2)), Purged::default());
    assert_eq!(domain.usage().bytes, 0);
    audit(&domain);
}

#[test]
fn what_is_named_twice_counts_once() {
    let domain = domain(1 << 24, 10_000, (2, 2));
    for key in 0..3000 {
        let tags = [key % 3, 100 + key];
        assert_eq!(put(&domain, &tagged(key, 0, 0, &tags)), Put::Stored);
    }
    // 1, 4, 7 ... by the first tag; 7 again and 9 by the others; 10 again and 11 by key.
    let mut selection = Selection::of_tags([1, 107, 109].map(|tag| Tag(spread(tag))));
    selection.keys = [10_u64, 11]
        .map(|key| view(&key.to_le_bytes()).to_key())
        .into();
    let counted = domain.count(&selection);
    assert_eq!(counted.entries, 1002);
    assert_eq!(domain.soften(&selection, Moment::from_millis(5)), counted);
    assert_eq!(domain.purge(&selection), counted);
    assert_eq!(domain.count(&selection), Purged::default());
    audit(&domain);
}

#[test]
fn a_soft_purge_makes_stale_and_keeps_everything_else() {
    let domain = domain(1 << 24, 10_000, (1, 2));
    for key in 0..100 {
        assert_eq!(put(&domain, &tagged(key, 9, 0, &[key % 2])), Put::Stored);
    }
    let before = peek(&domain, 3).expect("stored");
    let order = audit(&domain);
    let selection = Selection::of_tags([Tag(spread(1))]);
    let now = Moment::from_millis(7_000);
    assert_eq!(domain.soften(&selection, now).entries, 50);
    assert_eq!(audit(&domain), order, "the order stays");
    let judged = |key| {
        let entry = peek(&domain, key).expect("it stays");
        entry.response().expect("a response").lifetime.judge(now)
    };
    let stale = Usable::Stale {
        by: Duration::ZERO,
        on_error: false,
    };
    for key in 0..100 {
        assert_eq!(judged(key) == stale, key % 2 == 1, "key {key}");
    }
    let after = peek(&domain, 3).expect("stored");
    assert_ne!(before.serial(), after.serial());
    assert_eq!(before.charge(), after.charge());
    assert_eq!(before.tags, after.tags);
    // Once more: nothing changes, and what is named still counts.
    let later = Moment::from_millis(9_000);
    assert_eq!(domain.soften(&selection, later).entries, 50);
    assert!(Arc::ptr_eq(&after, &peek(&domain, 3).expect("stored")));
}

#[test]
fn a_conditional_remove_spares_a_newer_entry() {
    let domain = domain(1 << 20, 10, (1, 1));
    let [older, newer] = [entry(1, 0), entry(1, 0)];
    assert_eq!(
        (put(&domain, &older), put(&domain, &newer)),
        (Put::Stored, Put::Stored)
    );
    let key = 1_u64.to_le_bytes();
    assert!(
        domain
            .remove_if(view(&key), &|entry| Arc::ptr_eq(entry, &older))
            .is_none()
    );
    let removed = domain
        .remove_if(view(&key), &|entry| Arc::ptr_eq(entry, &newer))
        .unwrap();
    assert!(Arc::ptr_eq(&removed, &newer));
    assert_eq!(domain.usage().entries, 0);
}

#[test]
fn a_stripe_that_a_panic_left_half_changed_is_emptied_and_the_others_go_on() {
    let domain = domain(1 << 20, 1000, (2, 2));
    for key in 0..100 {
        assert_eq!(put(&domain, &entry(key, 0)), Put::Stored);
    }
    let stripe = |key: u64| spread(key) >> 32 & 3;
    let panics = || domain.put(&entry(7, 0), None, &|| panic!("injected by the test"));
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    assert_eq!(domain.usage().entries, 100, "usage takes no lock");
    for key in 0..100 {
        assert_eq!(
            get(&domain, key).is_some(),
            stripe(key) != stripe(7),
            "key {key}"
        );
    }
    assert_eq!(domain.stats().shard_resets, 1);
    assert_eq!(put(&domain, &entry(7, 0)), Put::Stored);
    audit(&domain);
}

#[test]
fn a_smaller_capacity_holds_at_once() {
    let domain = domain(bare_charge() * 100, 1000, (2, 2));
    for key in 0..100 {
        assert_eq!(put(&domain, &entry(key, 0)), Put::Stored);
    }
    domain.set_capacity(bare_charge() * 10);
    assert_eq!(
        (domain.usage().entries, domain.usage().capacity),
        (10, bare_charge() * 10)
    );
    audit(&domain);
    domain.set_capacity(0);
    assert_eq!(domain.usage().bytes, 0);
    assert_eq!(
        put(&domain, &entry(1, 0)),
        Put::Rejected(Rejected::Disabled)
    );
}

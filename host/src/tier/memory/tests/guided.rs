//! What guest orders hear, and what their answers do. The worker is stepped by hand.

use std::collections::HashMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, Weak};

use super::fakes::{Fakes, Manner};
use super::{audit, bare_charge, domain, entry, get, peek, put, spread, tagged, view};
use crate::entry::{SiteId, Tag};
use crate::tier::eviction::{EvictionOrder, OrderFault, OrderSource, ShardLimits};
use crate::tier::memory::Domain;
use crate::tier::memory::drain::Worker;
use crate::tier::memory::events::{BATCH_WORDS, Event, split_first};
use crate::tier::memory::put::Put;
use crate::tier::memory::stats::EvictionReason;

const ROOM: u64 = 2048;

/// A domain of one stripe with room for [`ROOM`] bare entries, holding `filled` of them, under
/// orders of one manner.
fn guided(manner: Manner, filled: u64) -> (Domain, Worker, Arc<Fakes>) {
    guided_in((1, 1), manner, filled)
}

/// The same of so many shards, and so many stripes in each.
fn guided_in(layout: (u32, u32), manner: Manner, filled: u64) -> (Domain, Worker, Arc<Fakes>) {
    let domain = domain(bare_charge() * ROOM, 1 << 20, layout);
    let mut worker = Worker::new(Arc::clone(&domain.inner));
    let fakes = Fakes::new(manner);
    domain.inner.signals.desire(Some(fakes.source()));
    worker.round();
    fill(&domain, 0, filled);
    (domain, worker, fakes)
}

fn fill(domain: &Domain, from: u64, until: u64) {
    for key in from..until {
        assert_eq!(put(domain, &entry(key, 0)), Put::Stored);
    }
}

fn evicted(domain: &Domain, reason: EvictionReason) -> u64 {
    domain.stats().evicted(reason).entries
}

/// Use after a round that evicted: the low mark is 64 entries under the capacity.
const LOW: u64 = ROOM - 64;

#[test]
fn a_late_order_is_told_of_the_residents_by_age_and_then_of_what_followed() {
    let domain = domain(bare_charge() * ROOM, 1 << 20, (1, 1));
    fill(&domain, 0, 1000);
    for key in [500, 3, 999] {
        assert!(get(&domain, key).is_some());
    }
    let expected: Vec<u64> = audit(&domain).into_iter().map(spread).collect();
    assert_eq!(expected.len(), 1000);
    let mut worker = Worker::new(Arc::clone(&domain.inner));
    let fakes = Fakes::new(Manner::Honest);
    domain.inner.signals.desire(Some(fakes.source()));
    worker.round();
    fill(&domain, 1000, 1001);
    worker.round();
    let told: Vec<u64> = fakes
        .seen
        .inserts
        .lock()
        .unwrap()
        .iter()
        .map(|(_, hash)| *hash)
        .collect();
    assert_eq!(told[..1000], expected);
    assert_eq!(told[1000..], [spread(1000)]);
    let largest = fakes.seen.largest_batch.load(SeqCst);
    assert!(largest <= BATCH_WORDS && largest > BATCH_WORDS - 3);
    assert_eq!(domain.usage().guest_memory, 1000);
}

#[test]
fn a_late_order_is_told_of_all_stripes_of_its_shard_about_by_age() {
    const OLD: u64 = 800;
    const KEYS: u64 = 1000;
    let domain = domain(bare_charge() * ROOM, 1 << 20, (1, 8));
    fill(&domain, 0, OLD);
    // One stripe has counted far more accesses than the others.
    let inner = &domain.inner;
    let is_of = |stripe, key: &u64| inner.index(spread(*key)) == stripe;
    for _ in 0..50 {
        for key in (0..OLD).filter(|key| is_of(3, key)) {
            assert!(get(&domain, key).is_some());
        }
    }
    fill(&domain, OLD, KEYS);
    let mut worker = Worker::new(Arc::clone(&domain.inner));
    let fakes = Fakes::new(Manner::Honest);
    domain.inner.signals.desire(Some(fakes.source()));
    worker.round();
    assert_eq!(fakes.seen.orders.load(SeqCst), 1);
    let keys: HashMap<u64, u64> = (0..KEYS).map(|key| (spread(key), key)).collect();
    let told = fakes.seen.inserts.lock().unwrap().clone();
    let told: Vec<u64> = told.iter().map(|(_, hash)| keys[hash]).collect();
    assert_eq!(told.len(), keys.len());
    for stripe in 0..inner.stripes.len() {
        let of_it = told.iter().filter(|key| is_of(stripe, key));
        assert!(of_it.is_sorted(), "stripe {stripe}");
    }
    // But for some, as chance gave stripes more newcomers or fewer.
    let (_, last) = told.split_at(usize::try_from(OLD).unwrap());
    let old = last.iter().filter(|key| **key < OLD).count();
    assert!(old < last.len() / 8, "{old} of {}", last.len());
}

#[test]
fn an_order_evicts_from_all_stripes_of_its_shard() {
    for layout in [(1, 8), (2, 4), (4, 4)] {
        let (domain, mut worker, fakes) = guided_in(layout, Manner::Honest, ROOM / 2);
        for lot in 0..100 {
            let from = ROOM / 2 + lot * 30;
            fill(&domain, from, from + 30);
            assert!(get(&domain, from).is_some());
            worker.round();
        }
        audit(&domain);
        let stats = domain.stats();
        assert_eq!(u32::try_from(fakes.seen.orders.load(SeqCst)), Ok(layout.0));
        assert_eq!(fakes.seen.hits.load(SeqCst), 100);
        let lost = evicted(&domain, EvictionReason::NativeFallback);
        assert_eq!((stats.wrong_answers, stats.order_faults, lost), (0, 0, 0));
        assert_eq!(evicted(&domain, EvictionReason::NativeOverrun), 0);
        assert!(evicted(&domain, EvictionReason::Policy) > 1900);
        let held: Vec<u64> = domain
            .inner
            .stripes
            .iter()
            .map(|it| it.gauges.entries.load(SeqCst))
            .collect();
        let share = ROOM / u64::from(layout.0 * layout.1);
        assert!(
            held.iter().all(|it| *it > share / 2 && *it < share * 2),
            "{held:?}"
        );
    }
}

#[test]
fn an_honest_order_evicts_in_its_order_and_keeps_the_headroom() {
    let (domain, mut worker, _) = guided(Manner::Honest, ROOM / 2);
    worker.round();
    fill(&domain, ROOM / 2, ROOM - 10);
    assert!(get(&domain, 0).is_some());
    worker.round();
    assert_eq!(domain.usage().entries, LOW);
    assert_eq!(evicted(&domain, EvictionReason::Policy), 54);
    let resident = audit(&domain);
    assert!(
        resident.contains(&0) && !resident.contains(&1),
        "it heard of the hit"
    );
    for lot in 0..50 {
        let from = ROOM + lot * 60;
        fill(&domain, from, from + 60);
        worker.round();
        assert!(domain.usage().entries <= ROOM - 32);
    }
    assert_eq!(evicted(&domain, EvictionReason::NativeOverrun), 0);
    assert_eq!(domain.stats().wrong_answers, 0);
    audit(&domain);
}

#[test]
fn one_large_entry_among_those_named_is_no_mistake() {
    let (domain, mut worker, fakes) = guided_in((1, 8), Manner::Honest, 0);
    let large = usize::try_from(bare_charge() * ROOM / 8).unwrap();
    for key in 0..20_000 {
        let body = if key % 1_000 == 0 { large } else { 0 };
        assert_eq!(put(&domain, &entry(key, body)), Put::Stored);
        if key % 8 == 0 {
            worker.round();
        }
    }
    let stats = domain.stats();
    assert!(evicted(&domain, EvictionReason::Policy) > 10_000);
    assert_eq!((stats.wrong_answers, stats.resyncs), (0, 0));
    assert_eq!(fakes.seen.orders.load(SeqCst), 1, "it was never made anew");
    audit(&domain);
}

#[test]
fn a_put_without_room_does_not_wait_for_the_order() {
    let (domain, mut worker, fakes) = guided(Manner::Honest, ROOM + 7);
    assert_eq!(evicted(&domain, EvictionReason::NativeOverrun), 7);
    worker.round();
    assert_eq!(fakes.seen.removes.load(SeqCst), 7, "the order hears of it");
    assert_eq!(domain.usage().entries, LOW);
}

#[test]
fn a_named_newcomer_is_counted_as_refused() {
    let (domain, mut worker, _) = guided(Manner::Refuses, ROOM);
    worker.round();
    assert_eq!(
        evicted(&domain, EvictionReason::Refused),
        0,
        "it was never asked before"
    );
    assert_eq!(evicted(&domain, EvictionReason::Policy), 64);
    fill(&domain, ROOM, ROOM + 64);
    worker.round();
    assert_eq!(evicted(&domain, EvictionReason::Refused), 64);
    assert_eq!(audit(&domain).into_iter().max(), Some(LOW - 1));
}

#[test]
fn whatever_an_order_does_the_round_ends_at_the_low_mark() {
    use EvictionReason::{NativeFallback, Policy};
    let check = |manner, reason: EvictionReason, wrong: bool, faults: bool| {
        let (domain, mut worker, fakes) = guided(manner, ROOM);
        worker.round();
        let stats = domain.stats();
        assert!(domain.usage().entries <= LOW, "{manner:?}");
        assert!(
            domain.usage().entries >= LOW - 6 * 64,
            "{manner:?} cost too many"
        );
        assert!(evicted(&domain, reason) > 0, "{manner:?}: {stats:?}");
        assert_eq!(stats.wrong_answers > 0, wrong, "{manner:?}");
        assert_eq!(
            fakes.seen.wrong_answers.load(SeqCst) > 0,
            wrong,
            "{manner:?}"
        );
        assert_eq!(stats.order_faults > 0, faults, "{manner:?}");
        audit(&domain);
        let before = fakes.seen.orders.load(SeqCst);
        worker.round();
        let again = fakes.seen.orders.load(SeqCst) - before;
        let dropped = faults || manner == Manner::Everything;
        assert_eq!(
            again,
            usize::from(dropped),
            "{manner:?}: an order that was dropped is made anew"
        );
        fill(&domain, ROOM, 2 * ROOM);
        worker.round();
        assert!(domain.usage().entries <= LOW, "{manner:?}");
        audit(&domain);
    };
    check(Manner::Repeats, Policy, true, false);
    check(Manner::Guesses, NativeFallback, false, false);
    check(Manner::Endless, Policy, true, false);
    check(Manner::Everything, Policy, true, false);
    check(Manner::Silent, NativeFallback, false, false);
    check(Manner::FaultsOnVictims, NativeFallback, false, true);
    check(Manner::FaultsOnEvents, NativeFallback, false, true);
}

#[test]
fn a_source_without_orders_leaves_the_native_order_until_another_is_set() {
    let (domain, mut worker, _) = guided(Manner::Unavailable, ROOM + 5);
    assert_eq!(evicted(&domain, EvictionReason::Capacity), 5);
    worker.round();
    assert_eq!(
        domain.usage().entries,
        ROOM,
        "the native order needs no headroom"
    );
    let fakes = Fakes::new(Manner::Honest);
    domain.inner.signals.desire(Some(fakes.source()));
    worker.round();
    assert_eq!(domain.usage().entries, LOW);
    domain.inner.signals.desire(None);
    worker.round();
    fill(&domain, 5000, 5100);
    assert_eq!(evicted(&domain, EvictionReason::Capacity), 5 + 36);
    assert_eq!(domain.usage().guest_memory, 0);
}

#[test]
fn a_panicking_order_leaves_the_native_order() {
    let (domain, mut worker, _) = guided(Manner::Panics, ROOM);
    worker.guarded_round();
    assert_eq!(domain.stats().order_faults, 1);
    fill(&domain, ROOM, ROOM + 3);
    assert_eq!(evicted(&domain, EvictionReason::Capacity), 3);
    worker.guarded_round();
    audit(&domain);
}

#[test]
fn dropped_hits_are_counted_and_dropped_inserts_are_told_anew() {
    let (domain, mut worker, fakes) = guided(Manner::Honest, 10);
    for _ in 0..10_000 {
        assert!(get(&domain, 3).is_some());
    }
    worker.round();
    let heard = fakes.seen.hits.load(SeqCst);
    assert!(heard > BATCH_WORDS && heard < 10_000);
    assert_eq!(
        domain.stats().lost_events,
        u64::try_from(10_000 - heard).unwrap()
    );
    for round in 0..10 {
        fill(&domain, round * 1000, round * 1000 + 1000);
    }
    fakes.seen.inserts.lock().unwrap().clear();
    worker.round();
    assert_eq!(domain.stats().resyncs, 1);
    assert_eq!(fakes.seen.orders.load(SeqCst), 2);
    let told = fakes
        .seen
        .inserts
        .lock()
        .unwrap()
        .iter()
        .filter(|(order, _)| *order == 1)
        .count();
    assert_eq!(u64::try_from(told).unwrap(), ROOM, "every resident, once");
    assert_eq!(domain.usage().entries, LOW);
}

#[test]
fn purges_reach_the_order() {
    let (domain, mut worker, fakes) = guided(Manner::Honest, 100);
    assert_eq!(put(&domain, &tagged(200, 0, 1, &[5])), Put::Stored);
    assert_eq!(put(&domain, &tagged(201, 0, 1, &[5, 6])), Put::Stored);
    worker.round();
    assert_eq!(domain.purge_tag(Tag(spread(6))).entries, 1);
    assert_eq!(domain.purge_site(SiteId(1)).entries, 1);
    assert!(domain.remove(view(&7_u64.to_le_bytes())).is_some());
    worker.round();
    assert_eq!(
        (fakes.seen.removes.load(SeqCst), domain.stats().resyncs),
        (3, 0)
    );
    assert_eq!(domain.purge_all().entries, 99);
    fill(&domain, 0, ROOM);
    worker.round();
    assert_eq!((domain.usage().entries, domain.stats().resyncs), (LOW, 1));
}

/// Names the oldest slot it knows, and has `meddle` run before the tier sees the answer.
struct Meddles {
    known: Vec<u32>,
    meddle: Meddling,
}

type Meddling = Arc<Mutex<Box<dyn FnMut() + Send>>>;

impl EvictionOrder for Meddles {
    fn observe(&mut self, _: u64, events: &[u64]) -> Result<(), OrderFault> {
        let mut rest = events;
        while let Some((event, after)) = split_first(rest) {
            rest = after;
            match event {
                Event::Insert(slot, _) => self.known.push(slot),
                Event::Hit(slot, _) => assert!(self.known.contains(&slot), "it named {slot}"),
                Event::Remove(slot, _) => panic!("it named {slot}"),
            }
        }
        Ok(())
    }

    fn victims(&mut self, _: u64) -> Result<Vec<u32>, OrderFault> {
        self.meddle.lock().unwrap()();
        Ok(self.known.drain(..64.min(self.known.len())).collect())
    }

    fn wrong_answer(&mut self) {
        panic!("the order named what it had been told of");
    }

    fn memory(&self) -> u64 {
        0
    }
}

struct MeddlesSource(Meddling);

impl OrderSource for MeddlesSource {
    fn order(&self, _: ShardLimits) -> Result<Box<dyn EvictionOrder>, OrderFault> {
        Ok(Box::new(Meddles {
            known: Vec::new(),
            meddle: Arc::clone(&self.0),
        }))
    }

    fn name(&self) -> String {
        "meddles".to_owned()
    }
}

#[test]
fn an_answer_that_the_stripe_overtook_is_no_mistake_and_evicts_nothing_new() {
    let domain = Arc::new(domain(bare_charge() * ROOM, 1 << 20, (1, 1)));
    let mut worker = Worker::new(Arc::clone(&domain.inner));
    let weak: Weak<Domain> = Arc::downgrade(&domain);
    let newer = entry(0, 0);
    let replacement = Arc::clone(&newer);
    // Between the order's look and the eviction: key 0 is replaced in its slot, key 1 leaves, and
    // a new key takes its slot; key 2 is hit, and leaves all the same.
    let meddle = move || {
        let Some(domain) = weak.upgrade() else { return };
        assert_eq!(put(&domain, &replacement), Put::Stored);
        domain.remove(view(&1_u64.to_le_bytes()));
        assert_eq!(put(&domain, &entry(9_999, 0)), Put::Stored);
        drop(get(&domain, 2));
    };
    let meddle: Meddling = Arc::new(Mutex::new(Box::new(meddle)));
    domain
        .inner
        .signals
        .desire(Some(Arc::new(MeddlesSource(meddle))));
    worker.round();
    fill(&domain, 0, ROOM - 1);
    worker.round();
    assert!(Arc::ptr_eq(
        &peek(&domain, 0).expect("newer than the answer"),
        &newer
    ));
    assert!(peek(&domain, 9_999).is_some() && peek(&domain, 2).is_none());
    // What the order hears now must not speak of the slots it named, but for the new inserts.
    worker.round();
    assert_eq!(domain.stats().wrong_answers, 0);
    assert_eq!(evicted(&domain, EvictionReason::NativeFallback), 0);
    audit(&domain);
}

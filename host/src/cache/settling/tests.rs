//! What purges count below memory, over a tier of a map.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};

use super::super::fakes::{FakeTier, Manner};
use super::super::lower::Lower;
use super::super::purges::Purges;
use super::super::receipts::{Kind, Receipt};
use super::super::{Cache, Effect};
use super::*;
use crate::clock;
use crate::entry::{Content, Entry, Lifetime, Reuse, SiteId, StoredBody, StoredResponse, Tag};
use crate::tier::Selection;
use crate::tier::memory::{Domain, DomainSettings, Shards};
use crate::tier::slow::SlowTier;

const SITE: SiteId = SiteId(1);
const BODY: u64 = 7;

struct Rig {
    cache: Cache,
    tier: Arc<FakeTier>,
    domains: Vec<Arc<Domain>>,
}

impl Rig {
    fn new(manner: Manner) -> Self {
        let purges: Arc<Purges> = Arc::default();
        let tier = FakeTier::new("disk", manner);
        let member: Arc<dyn SlowTier> = Arc::<FakeTier>::clone(&tier);
        let lower = Lower::new([(member, Duration::from_millis(20))], Arc::clone(&purges));
        let settings = DomainSettings {
            name: "test".to_owned(),
            capacity: 1 << 20,
            max_entries: 100,
            shards: Shards::Auto,
        };
        Self {
            cache: Cache::new(lower, purges),
            tier,
            domains: vec![Arc::new(Domain::new(settings))],
        }
    }

    fn entry(&self, key: &str, tag: u64) -> Arc<Entry> {
        let key = self.cache.hasher.key(key.as_bytes()).to_key();
        let content = Content::Response(StoredResponse {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: StoredBody::new(vec!["content".into()]),
            lifetime: Lifetime {
                stored_at: clock::now(),
                initial_age: Duration::ZERO,
                fresh_for: Duration::from_hours(1),
                stale_while_revalidate: Duration::ZERO,
                stale_if_error: Duration::ZERO,
                reuse: Reuse::Normal,
            },
            decided_by: "test".into(),
        });
        Arc::new(Entry::new(key, SITE, vec![Tag(tag)], content))
    }

    /// Stores an entry below memory, as if it had been fetched now.
    fn below(&self, key: &str, tag: u64) {
        let purges = &self.cache.flights.purges;
        let now = clock::unix_millis(clock::wall());
        let born = purges.born(purges.latest(), now);
        self.tier.place(&self.entry(key, tag), born);
    }

    /// Stores an entry in memory.
    fn above(&self, key: &str, tag: u64) {
        let put = self.domains[0].put(&self.entry(key, tag), None, &|| true);
        assert_eq!(put, crate::tier::memory::put::Put::Stored);
    }

    /// Purges `tag`; the receipt, once it has settled.
    fn purge(&self, tag: u64, effect: Effect) -> Receipt {
        let made = self.make(tag, effect);
        self.settled(&made)
    }

    fn make(&self, tag: u64, effect: Effect) -> Receipt {
        let selection = Selection::of_tags([Tag(tag)]);
        let made = self
            .cache
            .purge_for(&[Kind::Tag], &self.domains, selection, effect);
        made.unwrap()
    }

    fn settled(&self, made: &Receipt) -> Receipt {
        for _ in 0..5_000 {
            let receipt = self.cache.receipts.find(&made.id).unwrap();
            if receipt.settled {
                return receipt;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("it does not settle");
    }
}

#[test]
fn what_memory_held_counts_once_and_what_lies_below_alone_is_added() {
    let rig = Rig::new(Manner::Honest);
    for key in ["a", "b", "c", "d"] {
        rig.below(key, 1);
    }
    rig.below("other", 2);
    rig.above("a", 1);
    rig.above("memory alone", 1);
    for effect in [Effect::None, Effect::Soft, Effect::Hard] {
        let made = rig.make(1, effect);
        assert_eq!((made.entries, made.settled), (2, false), "{effect:?}");
        let settled = rig.settled(&made);
        assert_eq!(settled.entries, 5, "{effect:?}");
        assert_eq!(settled.bytes - made.bytes, 3 * BODY);
        let gone = effect == Effect::Hard;
        assert_eq!(rig.tier.usage().entries, if gone { 1 } else { 5 });
    }
    let again = rig.purge(1, Effect::Hard);
    assert!(again.is_of_nothing(), "{again:?}");
    assert_eq!(rig.cache.receipts.entries(), (5, 5));
}

#[test]
fn purges_that_wait_together_share_a_walk_and_each_entry_counts_for_the_first_that_removes_it() {
    let rig = Rig::new(Manner::Loading);
    rig.below("a", 1);
    rig.below("b", 1);
    let made = [
        Effect::None,
        Effect::Soft,
        Effect::Hard,
        Effect::Hard,
        Effect::Soft,
    ]
    .map(|effect| rig.make(1, effect));
    rig.below("later", 1);
    assert_eq!(rig.cache.receipts.unsettled(), made.len());
    *rig.tier.manner.lock().unwrap() = Manner::Honest;
    let counts = made.map(|made| rig.settled(&made).entries);
    assert_eq!(counts, [2, 2, 2, 0, 0]);
    assert!(rig.tier.holds(rig.entry("later", 1).key.view()));
    assert_eq!(rig.cache.receipts.unsettled(), 0);
}

#[test]
fn what_was_purged_before_without_a_receipt_does_not_count() {
    let rig = Rig::new(Manner::Honest);
    rig.below("a", 1);
    rig.cache
        .purge(&rig.domains, &Selection::of_site(SITE), Effect::Hard);
    rig.below("b", 1);
    assert_eq!(rig.purge(1, Effect::None).entries, 1);
    assert_eq!(rig.purge(1, Effect::Hard).entries, 1);
    assert!(!rig.tier.holds(rig.entry("b", 1).key.view()));
}

#[test]
fn a_tier_that_fails_is_said_not_to_be_counted() {
    let rig = Rig::new(Manner::Broken);
    rig.below("a", 1);
    rig.above("a", 1);
    let settled = rig.purge(1, Effect::Hard);
    assert_eq!((settled.entries, settled.uncounted), (1, vec!["disk"]));
    let rig = Rig::new(Manner::ReadOnly);
    let made = rig.make(1, Effect::Hard);
    assert!(made.settled, "nothing there can be counted");
    assert_eq!(made.uncounted, ["disk"]);
    assert!(!made.is_of_nothing());
}

#[test]
fn stopping_ends_a_walk_and_leaves_what_waits() {
    let rig = Rig::new(Manner::Loading);
    let made = rig.make(1, Effect::Hard);
    rig.cache.receipts.stop();
    let second = rig.make(2, Effect::Hard);
    *rig.tier.manner.lock().unwrap() = Manner::Honest;
    for made in [made, second] {
        assert!(!rig.cache.receipts.find(&made.id).unwrap().settled);
    }
}

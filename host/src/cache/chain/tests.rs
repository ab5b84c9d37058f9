//! The chain of a site over memory and tiers that behave as they are told.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::super::fakes::{FakeTier, Manner};
use super::super::lower::Lower;
use super::*;
use crate::cache::flights::Turn;
use crate::entry::{CacheKey, Content, Nominations};
use crate::tier::memory::put::Rejected;
use crate::tier::memory::{DomainSettings, Shards};
use crate::tier::slow::SlowTier;

const SITE: SiteId = SiteId(1);

fn domain(capacity: u64) -> Arc<Domain> {
    Arc::new(Domain::new(DomainSettings {
        name: "test".to_owned(),
        capacity,
        max_entries: 100,
        shards: Shards::Auto,
    }))
}

fn chain(memory: Option<&Arc<Domain>>, lower: &[&Arc<FakeTier>]) -> Chain {
    let tier = |tier: &&Arc<FakeTier>| {
        let tier: Arc<dyn SlowTier> = Arc::<FakeTier>::clone(tier);
        (tier, Duration::from_millis(50))
    };
    let purges = Arc::default();
    let cache = Cache::new(
        Lower::new(lower.iter().map(tier), Arc::clone(&purges)),
        purges,
    );
    Chain::new(Arc::new(cache), SITE, memory.cloned()).unwrap()
}

fn entry(chain: &Chain, key: &CacheKey, mut tags: Vec<Tag>) -> Arc<Entry> {
    tags.push(chain.key_tag(key.view()));
    let content = Content::Nominations(Nominations::default());
    Arc::new(Entry::new(key.clone(), SITE, tags, content))
}

fn everywhere(_: &str) -> bool {
    true
}

#[test]
fn the_first_tier_that_holds_the_key_answers_and_faster_ones_are_filled() {
    let memory = domain(1 << 20);
    let tiers = ["disk", "object_store"].map(|name| FakeTier::new(name, Manner::Honest));
    let [disk, store] = &tiers;
    let chain = chain(Some(&memory), &[disk, store]);
    let key = chain.key(b"key").to_key();
    let found = |look| chain.lookup(key.view(), look).map(|found| found.tier);
    assert_eq!(found(Look::Use), None);
    let only = |wanted: &'static str| move |tier: &str| tier == wanted;
    let put = |wanted| chain.put(&entry(&chain, &key, Vec::new()), only(wanted));
    assert_eq!(put("object_store"), Put::Stored);
    assert_eq!(found(Look::Use), Some("object_store"));
    assert!(disk.holds(key.view()) && memory.peek(key.view()).is_some());
    assert_eq!(found(Look::Peek), Some("memory"));
    assert_eq!(put("disk"), Put::Stored);
    assert!(!store.holds(key.view()), "it would be older");
    assert_eq!(found(Look::Use), Some("disk"));
    assert_eq!(found(Look::Use), Some("memory"));
    assert!(!store.holds(key.view()), "slower ones are not filled");
}

#[test]
fn every_tier_takes_a_put_a_removal_and_a_purge() {
    let (memory, disk) = (domain(1 << 20), FakeTier::new("disk", Manner::Honest));
    let chain = chain(Some(&memory), &[&disk]);
    let (key, tag) = (chain.key(b"key").to_key(), chain.tag("tag"));
    let used = || {
        let usage = chain.usage().map(|tier| tier.usage.entries);
        usage.collect::<Vec<_>>()
    };
    let held = || chain.lookup(key.view(), Look::Peek).is_some();
    assert_eq!(
        chain.put(&entry(&chain, &key, vec![tag]), everywhere),
        Put::Stored
    );
    assert_eq!(used(), [1, 1]);
    assert!(chain.remove(key.view()).unwrap());
    assert_eq!(used(), [0, 0]);
    assert!(!chain.remove(key.view()).unwrap());
    assert_eq!(
        chain.put(&entry(&chain, &key, vec![tag]), everywhere),
        Put::Stored
    );
    assert_eq!(chain.purge_tag(chain.tag("other")).unwrap().entries, 0);
    assert!(held());
    assert_eq!(chain.purge_tag(tag).unwrap().entries, 1);
    assert!(
        disk.holds(key.view()),
        "it is out of use at once, and gone later"
    );
    assert!(!held());
    assert!(chain.names().eq(["memory", "disk"]));
}

#[test]
fn of_two_puts_beside_each_other_every_tier_keeps_the_same() {
    let (memory, disk) = (domain(1 << 20), FakeTier::new("disk", Manner::Honest));
    let one = chain(Some(&memory), &[&disk]);
    let other = Chain::new(Arc::clone(&one.cache), SITE, Some(Arc::clone(&memory))).unwrap();
    let key = one.key(b"key").to_key();
    let [first, second] = ["first", "second"].map(|tag| one.tag(tag));
    let (came, has_come) = mpsc::sync_channel(1);
    let (go_on, goes_on) = mpsc::sync_channel(1);
    *disk.gate.lock().unwrap() = Some((came, goes_on));
    let late = entry(&one, &key, vec![first]);
    let putting = thread::spawn(move || one.put(&late, everywhere));
    has_come.recv().unwrap();
    // Memory has the first one, and disk is about to.
    assert_eq!(
        other.put(&entry(&other, &key, vec![second]), everywhere),
        Put::Stored
    );
    drop(go_on);
    assert_eq!(putting.join().unwrap(), Put::Stored);
    let held = memory.remove(key.view()).expect("memory has one of them");
    let below = other.lookup(key.view(), Look::Peek).expect("so has disk");
    assert_eq!(below.tier, "disk");
    assert_eq!(held.tags, below.entry.tags);
    assert!(held.tags.contains(&second), "the one that came later");
}

#[test]
fn the_write_policy_decides_what_a_put_answers() {
    let (keeps, refuses) = (domain(1 << 20), domain(0));
    let (stored, failed) = (Put::Stored, Put::Rejected(Rejected::NoRoom));
    let disabled = Put::Rejected(Rejected::Disabled);
    for (memory, below, expected) in [
        (Some(&keeps), Some(Manner::Honest), [stored; 3]),
        (Some(&keeps), Some(Manner::Broken), [stored, stored, failed]),
        (Some(&keeps), Some(Manner::ReadOnly), [stored; 3]),
        (Some(&refuses), Some(Manner::Honest), [stored; 3]),
        (None, Some(Manner::Honest), [stored; 3]),
        (None, Some(Manner::Broken), [stored, failed, failed]),
        (None, Some(Manner::ReadOnly), [disabled; 3]),
        (None, None, [disabled; 3]),
    ] {
        let below = below.map(|manner| FakeTier::new("disk", manner));
        let below: Vec<&Arc<FakeTier>> = below.iter().collect();
        let policies = [WritePolicy::Ignore, WritePolicy::L0, WritePolicy::All];
        for (policy, expected) in policies.into_iter().zip(expected) {
            let chain = chain(memory, &below).with_policy(policy);
            let key = chain.key(b"key").to_key();
            let put = chain.put(&entry(&chain, &key, Vec::new()), everywhere);
            assert_eq!(put, expected, "{policy} {below:?}");
        }
    }
}

#[test]
fn a_purge_by_tag_reaches_what_is_on_its_way() {
    let chain = chain(Some(&domain(1 << 20)), &[]);
    let (key, tag) = (chain.key(b"key").to_key(), chain.tag("tag"));
    let Turn::Fly(pilot) = chain.cache.flights.take(key.view(), SITE, || vec![tag]) else {
        panic!("nobody else flies");
    };
    chain.purge_tag(chain.tag("other")).unwrap();
    assert!(!pilot.flight().is_purged());
    chain.purge_tag(tag).unwrap();
    assert!(pilot.flight().is_purged());
}

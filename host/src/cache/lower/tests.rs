//! The tiers below memory, of which each behaves as it is told.

use std::sync::atomic::Ordering;

use http::{HeaderMap, StatusCode};
use tokio::runtime::Builder;
use tokio::task::coop::unconstrained;

use super::super::fakes::{FakeTier, Manner};
use super::*;
use crate::cache::Effect;
use crate::clock::Moment;
use crate::entry::{
    CacheKey, Content, Lifetime, Reuse, SiteId, StoredBody, StoredResponse, Tag, Usable,
};
use crate::tier::Selection;

const SITE: SiteId = SiteId(1);

struct Rig {
    hasher: KeyHasher,
    purges: Arc<Purges>,
    tiers: Vec<Arc<FakeTier>>,
    lower: Lower,
}

impl Rig {
    fn new(manners: &[Manner]) -> Self {
        let purges: Arc<Purges> = Arc::default();
        let named = manners.iter().zip(["first", "second", "third"]);
        let tiers: Vec<_> = named
            .map(|(manner, name)| FakeTier::new(name, *manner))
            .collect();
        let members = tiers.iter().map(|tier| {
            let tier: Arc<dyn SlowTier> = Arc::<FakeTier>::clone(tier);
            (tier, Duration::from_millis(20))
        });
        let lower = Lower::new(members, Arc::clone(&purges));
        Self {
            hasher: KeyHasher::default(),
            purges,
            tiers,
            lower,
        }
    }

    fn key(&self) -> CacheKey {
        self.hasher.key(b"key").to_key()
    }

    fn entry(&self, fresh_for: Duration) -> Arc<Entry> {
        let content = Content::Response(StoredResponse {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: StoredBody::new(vec!["content".into()]),
            lifetime: Lifetime {
                stored_at: clock::now(),
                initial_age: Duration::ZERO,
                fresh_for,
                stale_while_revalidate: Duration::ZERO,
                stale_if_error: Duration::ZERO,
                reuse: Reuse::Normal,
            },
            decided_by: "test".into(),
        });
        Arc::new(Entry::new(self.key(), SITE, vec![Tag(1)], content))
    }

    fn born(&self) -> Born {
        let now = clock::unix_millis(clock::wall());
        self.purges.born(self.purges.latest(), now)
    }

    async fn store(&self, entry: &Arc<Entry>, born: Born, outcome: &mut StoreOutcome) {
        if let Some(succeeding) = self.lower.announce(entry.key.view()) {
            self.lower.store(entry, born, outcome, succeeding).await;
        }
    }

    fn recall(&self) -> Option<Recalled> {
        run(self.lower.recall(&self.hasher, self.key().view()))
    }

    /// Hits, misses and errors of each tier.
    fn counts(&self) -> Vec<[u64; 3]> {
        let counts = self.lower.members().iter().map(|member| &member.counts);
        let counts = counts.map(|each| [&each.hits, &each.misses, &each.errors].map(Counter::get));
        counts.collect()
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(future)
}

const LONG: Duration = Duration::from_hours(1);

#[test]
fn the_first_that_has_it_answers_and_no_later_one_is_asked() {
    let rig = Rig::new(&[Manner::Honest; 3]);
    assert!(rig.recall().is_none());
    rig.tiers[1].place(&rig.entry(LONG), rig.born());
    rig.tiers[2].place(&rig.entry(LONG), rig.born());
    let found = rig.recall().expect("the second has it");
    assert_eq!(found.tier, "second");
    assert_eq!(found.entry.key, rig.key());
    assert_eq!(rig.tiers[2].lookups.load(Ordering::SeqCst), 0);
    assert_eq!(rig.counts(), [[0, 2, 0], [1, 1, 0], [0, 1, 0]]);
    assert!(rig.lower.wants(&found));
    run(rig.lower.fill(&found));
    assert!(rig.tiers[0].holds(rig.key().view()));
    assert_eq!(rig.lower.members()[0].counts.backfills.get(), 1);
    assert_eq!(rig.recall().map(|found| found.tier), Some("first"));
}

/// Tells what is newer from what it takes the place of.
const NEWER: Duration = Duration::from_hours(2);

fn is_newer(found: &Recalled) -> bool {
    found
        .entry
        .lifetime()
        .is_some_and(|it| it.fresh_for == NEWER)
}

#[test]
fn what_was_found_before_something_newer_was_stored_fills_nothing() {
    let rig = Rig::new(&[Manner::Honest; 3]);
    rig.tiers[2].place(&rig.entry(LONG), rig.born());
    let found = rig.recall().expect("the third has it");
    let mut outcome = StoreOutcome::default();
    run(rig.store(&rig.entry(NEWER), rig.born(), &mut outcome));
    run(rig.lower.fill(&found));
    assert_eq!(rig.lower.members()[0].counts.backfills.get(), 0);
    for tier in &rig.tiers {
        let found = rig.recall();
        assert!(found.as_ref().is_none_or(is_newer), "{found:?}");
        tier.remove(rig.key().view());
    }
}

#[test]
fn what_is_found_while_something_newer_is_stored_is_not_used() {
    let rig = Rig::new(&[Manner::Honest]);
    rig.tiers[0].place(&rig.entry(LONG), rig.born());
    let (newer, key) = (rig.entry(NEWER), rig.key());
    let found = run(async {
        let recall = rig.lower.recall(&rig.hasher, key.view());
        let mut outcome = StoreOutcome::default();
        let store = rig.store(&newer, rig.born(), &mut outcome);
        tokio::join!(recall, store).0
    });
    assert!(found.as_ref().is_none_or(is_newer), "{found:?}");
    assert!(rig.recall().as_ref().is_some_and(is_newer));
}

#[test]
fn what_is_still_to_be_written_is_not_looked_for_where_something_older_may_be() {
    let rig = Rig::new(&[Manner::Stuck, Manner::Honest]);
    rig.tiers[1].place(&rig.entry(LONG), rig.born());
    let newer = rig.entry(NEWER);
    run(async {
        let mut outcome = StoreOutcome::default();
        let mut storing = Box::pin(rig.store(&newer, rig.born(), &mut outcome));
        tokio::select! {
            biased;
            () = &mut storing => panic!("the first tier never answers"),
            () = tokio::task::yield_now() => {}
        }
        let found = rig.lower.recall(&rig.hasher, rig.key().view()).await;
        assert!(found.as_ref().is_none_or(is_newer), "{found:?}");
    });
    assert_eq!(rig.counts()[1][0], 0);
}

#[test]
fn what_waits_for_one_tier_does_not_overtake_something_newer_at_another() {
    let rig = Rig::new(&[Manner::Slow, Manner::Honest]);
    let (older, newer) = (rig.entry(LONG), rig.entry(NEWER));
    let mut outcomes = [StoreOutcome::default(), StoreOutcome::default()];
    let [of_older, of_newer] = &mut outcomes;
    run(async {
        let mut storing = Box::pin(rig.store(&older, rig.born(), of_older));
        tokio::select! {
            biased;
            () = &mut storing => panic!("the first tier takes a while"),
            () = std::future::ready(()) => {}
        }
        *rig.tiers[0].manner.lock().unwrap() = Manner::Honest;
        rig.store(&newer, rig.born(), of_newer).await;
        storing.await;
    });
    for tier in &rig.tiers {
        let found = rig.recall();
        assert!(found.as_ref().is_none_or(is_newer), "{found:?}");
        tier.remove(rig.key().view());
    }
}

#[test]
fn a_failure_is_no_miss_and_the_next_tier_is_asked() {
    for manner in [Manner::Broken, Manner::Hung] {
        let rig = Rig::new(&[manner, Manner::ReadOnly]);
        rig.tiers[1].place(&rig.entry(LONG), rig.born());
        let found = rig.recall().expect("the second has it");
        assert_eq!(found.tier, "second");
        assert_eq!(rig.counts(), [[0, 0, 1], [1, 0, 0]], "{manner:?}");
        run(rig.lower.fill(&found));
        let broken = &rig.lower.members()[0].counts;
        assert_eq!(
            (broken.backfills.get(), broken.write_failures.get()),
            (0, 1)
        );
    }
}

#[test]
fn what_a_purge_covers_is_a_miss_wherever_it_lies() {
    let rig = Rig::new(&[Manner::Honest]);
    let old = rig.born();
    rig.tiers[0].place(&rig.entry(LONG), old);
    assert!(rig.recall().is_some());
    rig.purges
        .record(&Selection::of_tags([Tag(1)]), Effect::Hard);
    assert!(rig.recall().is_none());
    rig.tiers[0].place(&rig.entry(LONG), rig.born());
    assert!(rig.recall().is_some(), "it was fetched after the purge");
    rig.purges
        .record(&Selection::of_site(SiteId(2)), Effect::Hard);
    assert!(rig.recall().is_some());
    rig.purges.record(&Selection::everything(), Effect::Hard);
    assert!(rig.recall().is_none());
}

#[test]
fn what_a_soft_purge_covers_is_stale() {
    let rig = Rig::new(&[Manner::Honest]);
    rig.tiers[0].place(&rig.entry(LONG), rig.born());
    rig.purges
        .record(&Selection::of_tags([Tag(1)]), Effect::Soft);
    let found = rig.recall().expect("it may be validated");
    let later = Moment::from_millis(clock::now().as_millis() + 10);
    let usable = found.entry.lifetime().expect("a response").judge(later);
    assert!(matches!(usable, Usable::Stale { .. }), "{usable:?}");
}

#[test]
fn many_who_ask_for_one_key_cost_one_lookup() {
    let rig = Rig::new(&[Manner::Honest]);
    rig.tiers[0].place(&rig.entry(LONG), rig.born());
    let (hasher, key) = (&rig.hasher, rig.key());
    let found = run(async {
        let mut asking: Vec<_> = (0..1_000)
            .map(|_| Box::pin(unconstrained(rig.lower.recall(hasher, key.view()))))
            .collect();
        // The first one leaves before it has an answer.
        let mut first = asking.remove(0);
        std::future::poll_fn(|cx| {
            assert!(first.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        let mut left = Some(first);
        let mut found = 0;
        std::future::poll_fn(|cx| {
            asking.retain_mut(|each| match each.as_mut().poll(cx) {
                std::task::Poll::Ready(answer) => {
                    found += usize::from(answer.is_some());
                    false
                }
                std::task::Poll::Pending => true,
            });
            drop(left.take());
            match asking.is_empty() {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        })
        .await;
        found
    });
    assert_eq!(found, 999);
    assert_eq!(rig.tiers[0].lookups.load(Ordering::SeqCst), 2);
    assert_eq!(rig.lower.looking(), 0);
}

#[test]
fn read_only_tiers_are_never_written_and_never_fail_a_store() {
    for (manners, stored) in [
        (&[Manner::Honest, Manner::ReadOnly][..], true),
        (&[Manner::ReadOnly, Manner::Honest], true),
        (&[Manner::ReadOnly, Manner::ReadOnly], true),
        (&[Manner::Broken, Manner::Honest], false),
        (&[Manner::ReadOnly, Manner::Broken], false),
        (&[], true),
    ] {
        let rig = Rig::new(manners);
        let mut outcome = StoreOutcome::default();
        let (entry, born) = (rig.entry(LONG), rig.born());
        run(rig.store(&entry, born, &mut outcome));
        let sound = outcome.failed().is_empty();
        assert_eq!(sound, stored, "{manners:?}");
        for (tier, manner) in rig.tiers.iter().zip(manners) {
            assert_eq!(tier.holds(rig.key().view()), *manner == Manner::Honest);
        }
    }
}

#[test]
fn settling_waits_for_what_is_under_way() {
    let rig = Rig::new(&[Manner::Honest]);
    let pending = rig.lower.pending();
    run(async {
        let mut settling = Box::pin(rig.lower.settle());
        let waits = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(settling.as_mut().poll(cx).is_pending())
        });
        assert!(waits.await);
        drop(pending);
        settling.await;
    });
}

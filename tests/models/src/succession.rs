//! Memory and the tiers below it: what has a successor is not brought back from below.

use std::time::Duration;

use http::HeaderMap;

use crate::cache::Cache;
use crate::cache::flight::{Flight, Pilot};
use crate::cache::flights::Turn;
use crate::cache::lower::Lower;
use crate::cache::stores::StoreOutcome;
use crate::cache::{Effect, Lookup};
use crate::check::many;
use crate::entry::{CacheKey, Entry, Tag};
use crate::scene::{Map, SITE, domain, join, spawn, tagged, wait};
use crate::sync::Arc;
use crate::tier::Selection;
use crate::tier::memory::Domain;
use crate::tier::slow::SlowTier;

/// Longer than any model.
const DEADLINE: Duration = Duration::from_hours(1);

struct Scene {
    cache: Cache,
    domain: Arc<Domain>,
    tiers: Vec<Arc<Map>>,
    key: CacheKey,
}

impl Scene {
    /// Tiers below memory, of which the last one holds the answer.
    fn new(names: &[&'static str]) -> (Arc<Self>, Arc<Entry>) {
        let tiers: Vec<Arc<Map>> = names.iter().map(|name| Map::new(name)).collect();
        let slow = tiers
            .iter()
            .map(|tier| -> (Arc<dyn SlowTier>, Duration) { (Arc::<Map>::clone(tier), DEADLINE) });
        let purges = Arc::default();
        let cache = Cache::new(Lower::new(slow, Arc::clone(&purges)), purges);
        let key = cache.hasher.key(b"key").to_key();
        let domain = domain(1_000, (1, 1));
        let scene = Arc::new(Self {
            cache,
            domain,
            tiers,
            key,
        });
        let old = scene.entry();
        let born = scene.cache.flights.purges.born(0, 0);
        scene.tiers.last().expect("a tier").place(&old, born);
        (scene, old)
    }

    fn entry(&self) -> Arc<Entry> {
        tagged(&self.cache.hasher, &self.key, &[Tag(1)])
    }

    /// Looks through all tiers, and fills the faster ones, as a request does.
    fn look(&self) -> Option<Vec<u64>> {
        let (key, request) = (self.key.view(), HeaderMap::new());
        wait(async {
            let recalled = self.cache.recall(&self.domain, key, &request).await?;
            for one in &recalled.to_fill {
                self.cache.lower.fill(one).await;
            }
            assert!(!matches!(recalled.lookup, Lookup::UriMiss));
            Some(
                recalled
                    .to_fill
                    .iter()
                    .map(|one| one.entry.serial())
                    .collect(),
            )
        })
    }

    fn fly(&self) -> Pilot {
        match self
            .cache
            .flights
            .take(self.key.view(), SITE, || vec![Tag(1)])
        {
            Turn::Fly(pilot) => pilot,
            Turn::Join(_) => panic!("there is no other"),
        }
    }

    /// Stores what `flight` has brought, first in memory, then below, as a fill does.
    fn store(&self, flight: &Flight, entry: &Arc<Entry>) {
        let lower = &self.cache.lower;
        let announced = lower.announce(self.key.view());
        self.cache.store(&self.domain, flight, entry, None);
        let succeeding = lower.announce(self.key.view()).expect("there are tiers");
        drop(announced);
        let resident = self.domain.peek(self.key.view());
        let newer = resident.is_some_and(|resident| resident.serial() > entry.serial());
        if !newer && !self.cache.flights.is_outdated(flight) {
            let born = self.cache.flights.purges.born(flight.began, flight.at);
            let mut outcome = StoreOutcome::default();
            wait(lower.store(entry, born, &mut outcome, succeeding));
        }
    }

    /// What is found from now on: after memory has lost what it held, too.
    fn found(&self) -> Vec<Option<u64>> {
        let held = |entry: Option<Arc<Entry>>| entry.map(|entry| entry.serial());
        let mut found = vec![held(self.domain.remove(self.key.view()))];
        found.extend(self.tiers.iter().map(|tier| held(tier.holds(&self.key))));
        found
    }
}

/// A lookup beside a store, with memory losing what it holds in between: in the end no tier holds
/// what was there before, and as soon as the store has returned nobody finds it.
pub fn what_is_stored_is_not_followed_by_what_was_there_before() {
    for names in [&["disk"][..], &["disk", "store"]] {
        many(30_000, move || {
            let (scene, old) = Scene::new(names);
            let new = scene.entry();
            let looking = {
                let scene = Arc::clone(&scene);
                spawn(move || {
                    scene.look();
                })
            };
            let storing = {
                let (scene, new, old) = (Arc::clone(&scene), Arc::clone(&new), old.serial());
                spawn(move || {
                    let pilot = scene.fly();
                    scene.store(pilot.flight(), &new);
                    let held = scene.domain.peek(scene.key.view());
                    assert!(
                        held.is_none_or(|held| held.serial() > old),
                        "the older is back"
                    );
                })
            };
            let losing = {
                let scene = Arc::clone(&scene);
                spawn(move || {
                    scene.domain.remove(scene.key.view());
                })
            };
            join([looking, storing, losing]);
            for found in scene.found() {
                assert_ne!(found, Some(old.serial()), "the older is still there");
            }
        });
    }
}

/// Two stores beside each other: what the tiers hold is what memory holds, or nothing.
pub fn of_two_stores_one_is_everywhere() {
    many(30_000, || {
        let (scene, old) = Scene::new(&["disk", "store"]);
        let store = || {
            let (scene, entry) = (Arc::clone(&scene), scene.entry());
            let pilot = scene.cache.flights.alone(&scene.key, SITE, Vec::new());
            spawn(move || {
                scene.cache.flights.supersede(pilot.flight());
                scene.store(pilot.flight(), &entry);
            })
        };
        let stores = [store(), store()];
        join(stores);
        let found = scene.found();
        let memory = found.first().copied().flatten().expect("one of them");
        assert_ne!(memory, old.serial());
        for below in found.into_iter().flatten() {
            assert_eq!(below, memory, "another one is below");
        }
    });
}

/// A purge beside a lookup: once it has returned, nothing comes from below that it covers.
pub fn a_purge_leaves_nothing_below_that_is_found() {
    many(30_000, || {
        let (scene, _) = Scene::new(&["disk", "store"]);
        let look = || {
            let scene = Arc::clone(&scene);
            spawn(move || {
                scene.look();
            })
        };
        let lookups = [look(), look()];
        let purging = {
            let scene = Arc::clone(&scene);
            spawn(move || {
                let selection = Selection::of_tags([Tag(1)]);
                scene.cache.purge([&scene.domain], &selection, Effect::Hard);
                assert!(scene.domain.peek(scene.key.view()).is_none());
                assert_eq!(scene.look(), None);
            })
        };
        join(lookups);
        join([purging]);
        assert!(scene.domain.peek(scene.key.view()).is_none());
        assert_eq!(scene.look(), None);
        assert_eq!(scene.cache.lower.looking(), 0);
    });
}

//! Purges beside fills, and fills beside each other: what is older never stays.

use crate::cache::flight::{Failure, Landing, Pilot};
use crate::cache::flights::Turn;
use crate::cache::{Cache, Effect};
use crate::check::many;
use crate::entry::{CacheKey, Entry, Tag};
use crate::scene::{SITE, domain, join, spawn, tagged};
use crate::sync::Arc;
use crate::tier::Selection;
use crate::tier::memory::Domain;
use crate::tier::memory::put::Put;

struct Scene {
    cache: Cache,
    domain: Arc<Domain>,
    key: CacheKey,
}

impl Scene {
    fn new() -> Arc<Self> {
        let cache = Cache::default();
        let key = cache.hasher.key(b"key").to_key();
        // Large enough for entries as they are.
        let domain = domain(1_000, (1, 1));
        Arc::new(Self { cache, domain, key })
    }

    fn fly(&self, tags: Vec<Tag>) -> Pilot {
        match self.cache.flights.take(self.key.view(), SITE, || tags) {
            Turn::Fly(pilot) => pilot,
            Turn::Join(_) => panic!("what it joined may be outdated"),
        }
    }

    /// Ends the flight of `pilot`, which has brought `entry`.
    fn bring(&self, pilot: &Pilot, entry: &Arc<Entry>, decided: Vec<Tag>) -> Option<Put> {
        let (flights, flight) = (&self.cache.flights, Arc::clone(pilot.flight()));
        flights.decide(pilot, decided);
        flights.supersede(&flight);
        let put = self.cache.store(&self.domain, &flight, entry, None);
        flights.remove(&flight, &self.key);
        pilot.land(Landing::Failed(Failure::Abandoned));
        put
    }

    fn held(&self) -> Option<u64> {
        let held = self.domain.peek(self.key.view());
        held.map(|entry| entry.serial())
    }
}

/// What a fetch brings that began before a purge is not there when the purge has returned, nor later,
/// and whoever comes then fetches anew: whether the purge is by a tag that is known from the request,
/// or by one that comes with the response.
pub fn a_purge_leaves_nothing_of_a_fetch_that_began_before() {
    let (of_request, of_response) = (Tag(1), Tag(1 << 40 | 2));
    assert!(of_response.is_of_response() && !of_request.is_of_response());
    let selections = [
        Selection::of_tags([of_request]),
        Selection::of_tags([of_response]),
        Selection::of_site(SITE),
        Selection::everything(),
    ];
    for selection in selections {
        many(15_000, move || {
            let scene = Scene::new();
            let pilot = scene.fly(vec![of_request]);
            let old = tagged(&scene.cache.hasher, &scene.key, &[of_request, of_response]);
            let filling = {
                let (scene, old) = (Arc::clone(&scene), Arc::clone(&old));
                spawn(move || {
                    scene.bring(&pilot, &old, vec![of_response]);
                })
            };
            let purging = {
                let (scene, selection) = (Arc::clone(&scene), selection.clone());
                spawn(move || {
                    scene.cache.purge([&scene.domain], &selection, Effect::Hard);
                    assert_eq!(scene.held(), None, "the purge has returned");
                    let pilot = scene.fly(vec![of_request]);
                    let new = tagged(&scene.cache.hasher, &scene.key, &[of_request]);
                    let put = scene.bring(&pilot, &new, Vec::new());
                    assert_eq!(put, Some(Put::Stored));
                })
            };
            join([filling, purging]);
            let new = scene.held().expect("what came after the purge stays");
            assert!(new > old.serial());
            assert!(scene.cache.flights.is_empty());
        });
    }
}

/// Of two fetches for a key the one that began later stays, whichever ends first.
pub fn of_two_fetches_the_later_one_stays() {
    for beside in [false, true] {
        many(15_000, move || {
            let scene = Scene::new();
            let first = scene.fly(Vec::new());
            let flights = &scene.cache.flights;
            let second = match beside {
                true => flights.alone(&scene.key, SITE, Vec::new()),
                false => match flights.replace(first.flight()) {
                    Turn::Fly(pilot) => pilot,
                    Turn::Join(_) => panic!("there is no other"),
                },
            };
            let bring = |pilot: Pilot| {
                let scene = Arc::clone(&scene);
                let entry = tagged(&scene.cache.hasher, &scene.key, &[]);
                let serial = entry.serial();
                let filling = spawn(move || {
                    scene.bring(&pilot, &entry, Vec::new());
                });
                (serial, filling)
            };
            // Which of the entries was made first says nothing.
            let ((later, one), (_, other)) = (bring(second), bring(first));
            join([one, other]);
            assert_eq!(scene.held(), Some(later));
            assert!(scene.cache.flights.is_empty());
        });
    }
}

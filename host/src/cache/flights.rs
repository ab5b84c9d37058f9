//! The flights under way, by key: at most one that can be joined for each key, and those alone; and
//! the purges that they must not undo.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::hash::{BuildHasherDefault, Hasher};

use super::Effect;
use super::flight::{Flight, Pilot};
use super::purges::{Mark, Purges};
use crate::entry::{CacheKey, KeyView, SiteId, Tag};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use crate::tier::Selection;

/// The table of flights. Its size is bounded by the requests being served.
#[derive(Debug, Default)]
pub struct Flights {
    shards: [Mutex<Shard>; 16],
    /// The purges that flights under way may have missed.
    pub purges: Arc<Purges>,
    /// Flights that nobody finds, by the key under which they were started: those alone, and those
    /// whose place another one has taken.
    alone: Mutex<HashMap<CacheKey, Vec<Arc<Flight>>>>,
}

type Shard = HashMap<CacheKey, Arc<Flight>, BuildHasherDefault<KeyedAlready>>;

/// Keys carry a keyed hash of their own; hashing its eight bytes again would add nothing.
#[derive(Debug, Default)]
struct KeyedAlready(u64);

impl Hasher for KeyedAlready {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What a request that found nothing usable does next.
#[derive(Debug)]
pub enum Turn {
    /// It fetches.
    Fly(Pilot),
    /// Another request fetches already.
    Join(Arc<Flight>),
}

impl Flights {
    /// No flights, and the purges of the node.
    pub fn new(purges: Arc<Purges>) -> Self {
        Self {
            purges,
            ..Self::default()
        }
    }

    /// Joins the flight for `key`, or starts one with `tags`.
    pub fn take(&self, key: KeyView<'_>, site: SiteId, tags: impl FnOnce() -> Vec<Tag>) -> Turn {
        let began = self.purges.latest();
        match self.shard(key.hash).entry(key.to_key()) {
            Place::Occupied(place) if !self.may_be_outdated(place.get()) => {
                Turn::Join(Arc::clone(place.get()))
            }
            place => {
                let (flight, pilot) = Flight::new(key.to_key(), site, tags(), began);
                self.insert(place, flight);
                Turn::Fly(pilot)
            }
        }
    }

    /// Whether a flight for `key` is under way.
    pub fn has(&self, key: &CacheKey) -> bool {
        self.shard(key.view().hash).contains_key(key)
    }

    /// Starts a flight for the key of `late`, which can no longer be joined, in its place.
    pub fn replace(&self, late: &Arc<Flight>) -> Turn {
        let began = self.purges.latest();
        match self.shard(late.key.view().hash).entry(late.key.clone()) {
            Place::Occupied(place) if !Arc::ptr_eq(place.get(), late) => {
                Turn::Join(Arc::clone(place.get()))
            }
            place => {
                let tags = late.tags.clone();
                let (flight, pilot) = Flight::new(late.key.clone(), late.site, tags, began);
                self.insert(place, flight);
                Turn::Fly(pilot)
            }
        }
    }

    /// The flight for `key`, if one can be joined.
    pub fn find(&self, key: KeyView<'_>) -> Option<Arc<Flight>> {
        let found = self.shard(key.hash).get(&key.to_key()).map(Arc::clone);
        found.filter(|flight| !self.may_be_outdated(flight))
    }

    /// Starts a flight for `key` that nobody else joins, beside whatever is under way.
    pub fn alone(&self, key: &CacheKey, site: SiteId, tags: Vec<Tag>) -> Pilot {
        let began = self.purges.latest();
        let (flight, pilot) = Flight::new(key.clone(), site, tags, began);
        self.set_aside(flight);
        pilot
    }

    /// Lists `flight` in `place`. One whose place that was goes on beside it.
    fn insert(&self, place: Place<'_, CacheKey, Arc<Flight>>, flight: Arc<Flight>) {
        match place {
            Place::Occupied(mut place) => self.set_aside(place.insert(flight)),
            Place::Vacant(place) => drop(place.insert(flight)),
        }
    }

    fn set_aside(&self, flight: Arc<Flight>) {
        let key = flight.key.clone();
        self.lock_alone().entry(key).or_default().push(flight);
    }

    /// The one flight that tries again after `failed`, for all who waited for that: who comes
    /// first starts it, unless there is another one by then.
    pub fn retry(&self, failed: &Arc<Flight>) -> Turn {
        let began = self.purges.latest();
        let mut shard = self.shard(failed.key.view().hash);
        if let Some(next) = failed.successor.get() {
            return Turn::Join(Arc::clone(next));
        }
        let (next, turn) = match shard.entry(failed.key.clone()) {
            Place::Occupied(place)
                if !Arc::ptr_eq(place.get(), failed) && !self.may_be_outdated(place.get()) =>
            {
                let next = Arc::clone(place.get());
                (Arc::clone(&next), Turn::Join(next))
            }
            place => {
                let tags = failed.tags.clone();
                let (flight, pilot) = Flight::new(failed.key.clone(), failed.site, tags, began);
                self.insert(place, Arc::clone(&flight));
                (flight, Turn::Fly(pilot))
            }
        };
        failed.successor.get_or_init(|| next);
        turn
    }

    /// Lets `flight` be found under `key` too, unless another one is.
    pub fn alias(&self, flight: &Arc<Flight>, key: &CacheKey) {
        self.shard(key.view().hash)
            .entry(key.clone())
            .or_insert_with(|| Arc::clone(flight));
    }

    /// Forgets `flight` under `key`.
    pub fn remove(&self, flight: &Arc<Flight>, key: &CacheKey) {
        let mut shard = self.shard(key.view().hash);
        if shard
            .get(key)
            .is_some_and(|found| Arc::ptr_eq(found, flight))
        {
            shard.remove(key);
        } else {
            drop(shard);
            self.retain_alone(&flight.key, |other| !Arc::ptr_eq(other, flight));
        }
    }

    /// Forgets those flights under `key` that nobody finds and that are not to be kept.
    fn retain_alone(&self, key: &CacheKey, keep: impl FnMut(&Arc<Flight>) -> bool) {
        if let Place::Occupied(mut place) = self.lock_alone().entry(key.clone()) {
            place.get_mut().retain(keep);
            if place.get().is_empty() {
                place.remove();
            }
        }
    }

    /// Says that what `flight` brings is about to be stored. What other flights bring that were
    /// started under its key before it is older, so that it is delivered and stored by no tier.
    pub fn supersede(&self, flight: &Arc<Flight>) {
        let is_older = |other: &Arc<Flight>| other.number < flight.number;
        if let Some(alone) = self.lock_alone().get(&flight.key) {
            let older = alone.iter().filter(|other| is_older(other));
            older.for_each(|other| other.purge());
        }
        let mut shard = self.shard(flight.key.view().hash);
        if let Place::Occupied(place) = shard.entry(flight.key.clone())
            && is_older(place.get())
        {
            place.get().purge();
            self.set_aside(place.remove());
        }
    }

    /// Marks every flight that `selection` covers as purged, so that nothing it brings is stored,
    /// and lets nobody join it any more. What is not known yet of a flight is looked at when it is
    /// decided, and when it is stored.
    pub fn purge(&self, selection: &Selection, effect: Effect) -> Mark {
        let mark = self.purges.record(selection, effect);
        self.outdate(selection);
        mark
    }

    /// The same for the flights that are known to be covered now, without a memory of it.
    pub fn outdate(&self, selection: &Selection) {
        for shard in &self.shards {
            lock(shard).retain(|_, flight| {
                let covered = selection.covers(flight.site, flight.tags());
                if covered {
                    flight.purge();
                }
                !covered
            });
        }
        for flight in self.lock_alone().values().flatten() {
            if selection.covers(flight.site, flight.tags()) {
                flight.purge();
            }
        }
    }

    /// Adds the tags of what `pilot`'s flight brings, at most once a flight. If a purge that came
    /// after it began covers any of them, it is purged.
    pub fn decide(&self, pilot: &Pilot, tags: Vec<Tag>) {
        let flight = pilot.flight();
        // The tags first: a purge that is recorded after this look finds them.
        pilot.decide_tags(tags);
        if self.is_outdated(flight) {
            flight.purge();
            self.remove(flight, &flight.key);
        }
    }

    /// Whether a purge covered `flight` since it began, as far as its tags are known.
    pub fn is_outdated(&self, flight: &Flight) -> bool {
        let purges = &self.purges;
        flight.is_purged() || purges.cover_since(flight.began, flight.site, flight.tags())
    }

    /// Whether a purge covered `flight` since it began, or one came of which that cannot be said yet.
    /// Who comes after such a purge must not join: not even where the flight is still listed, because
    /// it was decided a moment ago.
    fn may_be_outdated(&self, flight: &Flight) -> bool {
        match flight.is_decided() {
            true => self.is_outdated(flight),
            false => self.purges.latest_of_responses() > flight.began,
        }
    }

    /// Requests that wait for a flight which another one has started.
    pub fn waiting(&self) -> usize {
        let waiting = |shard: &Mutex<Shard>| -> usize {
            lock(shard).values().map(|flight| flight.waiting()).sum()
        };
        self.shards.iter().map(waiting).sum()
    }

    /// Flights under way.
    pub fn len(&self) -> usize {
        let joinable: usize = self.shards.iter().map(|shard| lock(shard).len()).sum();
        let alone: usize = self.lock_alone().values().map(Vec::len).sum();
        joinable + alone
    }

    /// Whether no flight is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock_alone(&self) -> MutexGuard<'_, HashMap<CacheKey, Vec<Arc<Flight>>>> {
        self.alone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The table below uses the low bits.
        let index = usize::try_from(hash >> 60).unwrap_or_default();
        lock(self.shards.get(index).unwrap_or(&self.shards[0]))
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::KeyHasher;

    const SITE: SiteId = SiteId(1);

    #[test]
    fn what_is_stored_outdates_what_was_started_before_it_and_nothing_else() {
        let flights = Flights::default();
        let hasher = KeyHasher::default();
        let (key, other) = (hasher.key(b"key"), hasher.key(b"other"));
        let fly = |key| match flights.take(key, SITE, Vec::new) {
            Turn::Fly(pilot) => pilot,
            Turn::Join(_) => panic!("nobody else flies"),
        };
        let (late, apart) = (fly(key), fly(other));
        let beside = flights.alone(&key.to_key(), SITE, Vec::new());
        let Turn::Fly(next) = flights.replace(late.flight()) else {
            panic!("nobody else replaces it");
        };
        assert_eq!(flights.len(), 4, "what was replaced goes on");
        flights.supersede(next.flight());
        let outdated = [&late, &beside, &next, &apart].map(|pilot| pilot.flight().is_purged());
        assert_eq!(outdated, [true, true, false, false]);
        for pilot in [&late, &beside, &next, &apart] {
            flights.remove(pilot.flight(), &pilot.flight().key);
        }
        assert!(flights.is_empty());
        let (listed, beside) = (fly(key), flights.alone(&key.to_key(), SITE, Vec::new()));
        flights.supersede(beside.flight());
        assert!(listed.flight().is_purged() && flights.find(key).is_none());
        assert_eq!(flights.len(), 2);
        for pilot in [&listed, &beside] {
            flights.remove(pilot.flight(), &pilot.flight().key);
        }
        assert!(flights.is_empty());
    }
}

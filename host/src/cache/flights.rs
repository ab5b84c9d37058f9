//! The flights under way, by key: at most one for each key.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::flight::{Flight, Pilot};
use crate::entry::{CacheKey, KeyView, SiteId, Tag};

/// The table of flights. Its size is bounded by the requests being served.
#[derive(Debug, Default)]
pub struct Flights {
    shards: [Mutex<Shard>; 16],
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
    /// Joins the flight for `key`, or starts one with `tags`.
    pub fn take(&self, key: KeyView<'_>, site: SiteId, tags: impl FnOnce() -> Vec<Tag>) -> Turn {
        match self.shard(key.hash).entry(key.to_key()) {
            Place::Occupied(place) => Turn::Join(Arc::clone(place.get())),
            Place::Vacant(place) => {
                let (flight, pilot) = Flight::new(key.to_key(), site, tags());
                place.insert(flight);
                Turn::Fly(pilot)
            }
        }
    }

    /// Starts a flight for the key of `late`, which can no longer be joined, in its place.
    pub fn replace(&self, late: &Arc<Flight>) -> Turn {
        match self.shard(late.key.view().hash).entry(late.key.clone()) {
            Place::Occupied(place) if !Arc::ptr_eq(place.get(), late) => {
                Turn::Join(Arc::clone(place.get()))
            }
            place => {
                let (flight, pilot) = Flight::new(late.key.clone(), late.site, late.tags.clone());
                place.insert_entry(flight);
                Turn::Fly(pilot)
            }
        }
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
        }
    }

    /// Marks every flight that `covers` as purged, so that nothing it brings is stored, and lets
    /// nobody join it any more. How many there were.
    pub fn purge(&self, covers: impl Fn(&Flight) -> bool) -> u64 {
        let mut purged = 0;
        for shard in &self.shards {
            lock(shard).retain(|_, flight| {
                let covered = covers(flight);
                if covered {
                    flight.purge();
                    purged += 1;
                }
                !covered
            });
        }
        purged
    }

    /// Flights under way.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether no flight is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

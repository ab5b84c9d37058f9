//! What became of the last fetches of a key that left nothing to store, remembered for a while.
//!
//! Two things are worth remembering. That an answer was not for sharing: the next requests need
//! not wait for one another. And that a key failed: it is left alone for a pause that grows with
//! each failure. Both are hints, so the memory is bounded and may forget: the least recently used
//! go first, and a request that finds nothing fetches as if nothing had been.

use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;

use super::backoff;
use super::flight::Failure;
use crate::clock::Moment;
use crate::entry::{CacheKey, SiteId, Tag};
use crate::metrics::Counter;
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Keys that are remembered, at most: with their tags about 12 MiB.
pub const KEYS_MAX: usize = SHARDS * SHARD_MAX;
const SHARDS: usize = 16;
const SHARD_MAX: usize = 4_096;

/// A failure is forgotten when nobody has tried again for this long after its pause.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// Failures in a row of one key after which a request that nothing stored answers is refused. A
/// request that makes its origin break off must not deny a page to everybody at the first try.
const REFUSED_FROM: u32 = 3;

/// The memory of all sites.
#[derive(Debug)]
pub struct Outcomes {
    shards: [Mutex<LruCache<Place, Record>>; SHARDS],
    /// Keys that were forgotten before their time, for want of room.
    pub displaced: Counter,
}

/// What is remembered of: a key, as requests with credentials find it or as all others do. An
/// answer may be withheld from sharing for the credentials alone (RFC 9111 3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The keyed hash of the key. Keys that collide share their memory, which costs a wait.
    hash: u64,
    authorised: bool,
}

impl Place {
    /// Of `key`, for requests that have `Authorization` or have not.
    pub fn new(key: &CacheKey, authorised: bool) -> Self {
        Self {
            hash: key.view().hash,
            authorised,
        }
    }
}

#[derive(Debug)]
struct Record {
    site: SiteId,
    tags: Box<[Tag]>,
    not_shared_until: Moment,
    failing: Option<Run>,
}

/// Failures in a row.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// How many requests failed without an answer.
    unanswered: u32,
    last: Option<Failure>,
    /// How many tries failed that began after the pause of the one before.
    rounds: u32,
    retry_at: Moment,
}

/// What is remembered of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recalled {
    /// What it brought was not for sharing.
    pub not_shared: bool,
    /// It failed.
    pub failing: Option<Failing>,
}

/// A key that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// For how much longer it is to be left alone; zero once it may be tried again.
    pub retry_in: Duration,
    /// How it failed, if it did so often enough for requests to be refused meanwhile.
    pub refused: Option<Failure>,
}

impl Default for Outcomes {
    fn default() -> Self {
        let room = NonZeroUsize::new(SHARD_MAX).unwrap_or(NonZeroUsize::MIN);
        Self {
            shards: std::array::from_fn(|_| Mutex::new(LruCache::new(room))),
            displaced: Counter::default(),
        }
    }
}

impl Outcomes {
    /// What is remembered of `place` at `now`.
    pub fn recall(&self, place: Place, now: Moment) -> Recalled {
        let mut shard = self.shard(place);
        let Some(record) = shard.get(&place) else {
            return Recalled::default();
        };
        let recalled = record.recall(now);
        if recalled == Recalled::default() {
            shard.pop(&place);
        }
        recalled
    }

    /// Remembers until `until` that what `place` brings is not for sharing. A purge of one of
    /// `tags` of `site` ends the memory.
    pub fn not_shared(&self, place: Place, site: SiteId, tags: &[Tag], until: Moment) {
        self.change(place, site, tags, |record| record.not_shared_until = until);
    }

    /// Remembers that a fetch of `place` failed at `now`: without an answer by `failure`, or else
    /// with an answer that says so. `random` spreads the retries.
    pub fn failed(
        &self,
        place: Place,
        (site, tags): (SiteId, &[Tag]),
        failure: Option<Failure>,
        now: Moment,
        random: u64,
    ) {
        self.change(place, site, tags, |record| {
            let before = record.failing.filter(|run| run.is_remembered(now));
            let mut run = before.unwrap_or(Run {
                unanswered: 0,
                last: None,
                rounds: 0,
                retry_at: now,
            });
            run.last = failure;
            run.unanswered = match failure {
                Some(_) => run.unanswered.saturating_add(1),
                None => 0,
            };
            // Those who tried at the same time failed once.
            if run.retry_at <= now {
                run.rounds = run.rounds.saturating_add(1);
                run.retry_at = now.after(backoff::pause(run.rounds, random));
            }
            record.failing = Some(run);
        });
    }

    /// `place` does not fail any more.
    pub fn answered(&self, place: Place) {
        let mut shard = self.shard(place);
        if let Some(record) = shard.peek_mut(&place) {
            record.failing = None;
        }
    }

    /// `key` has brought what can be stored: nothing else of it is remembered.
    pub fn forget(&self, key: &CacheKey) {
        for authorised in [false, true] {
            let place = Place::new(key, authorised);
            self.shard(place).pop(&place);
        }
    }

    /// Forgets what a purge `covers`.
    pub fn purge(&self, covers: impl Fn(SiteId, &[Tag]) -> bool) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let covered: Vec<Place> = shard
                .iter()
                .filter(|(_, record)| covers(record.site, &record.tags))
                .map(|(place, _)| *place)
                .collect();
            for place in covered {
                shard.pop(&place);
            }
        }
    }

    /// Keys that are remembered, those included whose time is over and that nobody has asked for.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn change(&self, place: Place, site: SiteId, tags: &[Tag], change: impl FnOnce(&mut Record)) {
        let mut shard = self.shard(place);
        if let Some(record) = shard.get_mut(&place) {
            return change(record);
        }
        let mut record = Record {
            site,
            tags: tags.into(),
            not_shared_until: Moment::default(),
            failing: None,
        };
        change(&mut record);
        if shard.push(place, record).is_some() {
            self.displaced.increment();
        }
    }

    fn shard(&self, place: Place) -> MutexGuard<'_, LruCache<Place, Record>> {
        let index = usize::try_from(place.hash >> 60).unwrap_or_default();
        lock(self.shards.get(index).unwrap_or(&self.shards[0]))
    }
}

fn lock(shard: &Mutex<LruCache<Place, Record>>) -> MutexGuard<'_, LruCache<Place, Record>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Record {
    fn recall(&self, now: Moment) -> Recalled {
        let failing = self.failing.filter(|run| run.is_remembered(now));
        Recalled {
            not_shared: now < self.not_shared_until,
            failing: failing.map(|run| Failing {
                retry_in: run.retry_at.since(now),
                refused: run.last.filter(|_| run.unanswered >= REFUSED_FROM),
            }),
        }
    }
}

impl Run {
    fn is_remembered(&self, now: Moment) -> bool {
        now.since(self.retry_at) < FORGOTTEN_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::KeyHasher;

    const SITE: SiteId = SiteId(1);
    const NOTHING: Recalled = Recalled {
        not_shared: false,
        failing: None,
    };
    /// Without jitter.
    const MIDDLE: u64 = u64::MAX / 2;

    fn at(secs: u64) -> Moment {
        Moment::from_millis(secs * 1_000)
    }

    fn place(name: &str) -> (CacheKey, Place) {
        let key = KeyHasher::default().key(name.as_bytes()).to_key();
        let place = Place::new(&key, false);
        (key, place)
    }

    fn fail(outcomes: &Outcomes, place: Place, failure: Option<Failure>, now: Moment) {
        outcomes.failed(place, (SITE, &[]), failure, now, MIDDLE);
    }

    #[test]
    fn what_is_not_for_sharing_is_remembered_until_its_time_or_until_something_can_be_stored() {
        let outcomes = Outcomes::default();
        let (key, place) = place("a");
        assert_eq!(outcomes.recall(place, at(0)), NOTHING);
        outcomes.not_shared(place, SITE, &[], at(10));
        assert!(outcomes.recall(place, at(9)).not_shared);
        let authorised = Place::new(&key, true);
        assert_eq!(
            outcomes.recall(authorised, at(9)),
            NOTHING,
            "of others nothing is known"
        );
        assert_eq!(outcomes.recall(place, at(10)), NOTHING);
        assert!(outcomes.is_empty(), "what is over takes no room once found");
        outcomes.not_shared(place, SITE, &[], at(20));
        outcomes.not_shared(authorised, SITE, &[], at(20));
        outcomes.forget(&key);
        assert!(outcomes.is_empty());
    }

    #[test]
    fn pauses_grow_with_each_round_and_an_answer_ends_them() {
        let outcomes = Outcomes::default();
        let (_, place) = place("a");
        let failing = |now| outcomes.recall(place, now).failing.expect("it fails");
        fail(&outcomes, place, None, at(0));
        // Whoever asked at the same time.
        fail(&outcomes, place, None, at(0));
        let left = failing(at(0)).retry_in;
        assert!(left <= Duration::from_secs(1) && !left.is_zero());
        assert_eq!(failing(at(1)).retry_in, Duration::ZERO);
        fail(&outcomes, place, None, at(1));
        assert!(failing(at(2)).retry_in > Duration::from_millis(900));
        outcomes.answered(place);
        assert_eq!(outcomes.recall(place, at(2)).failing, None);
        fail(&outcomes, place, None, at(2));
        assert_eq!(outcomes.recall(place, at(60)).failing, None, "long ago");
        fail(&outcomes, place, None, at(60));
        assert_eq!(failing(at(61)).retry_in, Duration::ZERO, "the first again");
    }

    #[test]
    fn requests_are_refused_only_after_several_without_an_answer() {
        let outcomes = Outcomes::default();
        let (_, place) = place("a");
        let refused = |now| outcomes.recall(place, now).failing.and_then(|f| f.refused);
        for turn in 1..=3 {
            assert_eq!(refused(at(0)), None, "{turn}");
            fail(&outcomes, place, Some(Failure::TimedOut), at(0));
        }
        assert_eq!(refused(at(0)), Some(Failure::TimedOut));
        // An answer that tells of a failure is an answer.
        fail(&outcomes, place, None, at(1));
        assert_eq!(refused(at(1)), None);
    }

    #[test]
    fn a_purge_ends_the_memory_of_what_it_covers() {
        let outcomes = Outcomes::default();
        let ((_, first), (_, second)) = (place("a"), place("b"));
        outcomes.not_shared(first, SITE, &[Tag(1), Tag(2)], at(10));
        outcomes.not_shared(second, SITE, &[Tag(3)], at(10));
        outcomes.purge(|_, tags| tags.contains(&Tag(2)));
        assert_eq!(outcomes.recall(first, at(0)), NOTHING);
        assert!(outcomes.recall(second, at(0)).not_shared);
        outcomes.purge(|site, _| site == SITE);
        assert!(outcomes.is_empty());
    }

    #[test]
    fn there_is_a_bound_and_what_goes_for_want_of_room_is_counted() {
        let outcomes = Outcomes::default();
        let hasher = KeyHasher::default();
        let total = KEYS_MAX + KEYS_MAX / 2;
        for number in 0..total {
            let key = hasher.key(&number.to_le_bytes()).to_key();
            outcomes.not_shared(Place::new(&key, false), SITE, &[], at(10));
        }
        assert!(outcomes.len() <= KEYS_MAX);
        let gone = usize::try_from(outcomes.displaced.get()).expect("few");
        assert_eq!(outcomes.len() + gone, total);
    }
}

//! The purges that were made, so that nothing older comes back: not by a flight that was under way,
//! not from a slow tier, and not after a restart.
//!
//! Purges are numbered. For each tag, for each site, and for everything, the latest is remembered; a
//! flight remembers the number that was the latest when it began, and so does what it stores
//! ([`Born`]). Any later purge of its site or its tags covers it. The memory is bounded: when it is
//! full the older half is forgotten, and what was born before that is taken for covered.
//!
//! What another node fetched is compared by time, because its numbers are its own; a few seconds are
//! allowed for clocks that differ.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::io;

use super::Effect;
use super::purge_file::Logged;
use super::purge_log::PurgeLog;
use crate::clock;
use crate::entry::{KeyHasher, SiteId, Tag};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::tier::Selection;
use crate::tier::envelope::{Born, Envelope};

/// Tags that are remembered for each effect. About 64 MiB.
const TAGS_MAX: usize = 1 << 20;

/// Milliseconds by which the clocks of two nodes may differ.
const SKEW: u64 = 5_000;

/// The purges of one node.
#[derive(Debug)]
pub struct Purges {
    latest: Mutex<Latest>,
    /// Where they outlast this process.
    log: Option<PurgeLog>,
    node: u64,
}

/// Numbers are those of purges, counted from 1.
#[derive(Debug, Default)]
struct Latest {
    number: u64,
    /// Between these two no number is that of a purge: earlier processes may have given it out for
    /// one that is missing.
    void: (u64, u64),
    hard: Marks,
    soft: Marks,
    /// The latest by tags that come with responses.
    of_responses: u64,
}

/// When something was purged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The number of the purge.
    pub number: u64,
    /// Milliseconds since the Unix epoch.
    pub at: u64,
}

/// The latest purges of one effect.
#[derive(Debug, Default)]
struct Marks {
    tags: HashMap<Tag, Mark>,
    sites: HashMap<SiteId, Mark>,
    all: Mark,
    /// What came up to this one is not remembered by tag.
    forgotten: Mark,
}

/// What purges say of something that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may be used as it was stored.
    Valid,
    /// It was made stale, at this time in milliseconds since the Unix epoch.
    Softened(u64),
    /// It is gone.
    Purged,
}

impl Marks {
    fn record(&mut self, selection: &Selection, mark: Mark) {
        if selection.all {
            self.all = mark;
        }
        put(&mut self.sites, selection.sites.iter().copied(), mark);
        put(&mut self.tags, selection.tags().iter().copied(), mark);
        if self.tags.len() > TAGS_MAX {
            self.forget();
        }
    }

    /// Forgets the older half of the tags.
    fn forget(&mut self) {
        let mut marks: Vec<Mark> = self.tags.values().copied().collect();
        let middle = marks.len() / 2;
        let (_, middle, _) = marks.select_nth_unstable(middle);
        let forgotten = *middle;
        self.tags.retain(|_, mark| *mark > forgotten);
        self.tags.shrink_to(TAGS_MAX);
        self.forgotten = self.forgotten.max(forgotten);
    }

    /// The latest of each kind that covers what belongs to `site` and carries `tags`.
    fn covering(
        &self,
        site: SiteId,
        tags: impl Iterator<Item = Tag>,
    ) -> impl Iterator<Item = Mark> {
        let of_tags = tags.filter_map(|tag| self.tags.get(&tag)).copied();
        let of_site = self.sites.get(&site).copied();
        let rest = [self.all, self.forgotten, of_site.unwrap_or_default()];
        of_tags.chain(rest)
    }

    /// The latest that covers what belongs to `site` and carries `tags`, zero if none does.
    fn latest(&self, site: SiteId, tags: impl Iterator<Item = Tag>) -> Mark {
        self.covering(site, tags).max().unwrap_or_default()
    }
}

fn put<K: Eq + Hash>(marks: &mut HashMap<K, Mark>, keys: impl Iterator<Item = K>, mark: Mark) {
    marks.extend(keys.map(|key| (key, mark)));
}

/// Purges that end with this process.
impl Default for Purges {
    fn default() -> Self {
        Self {
            latest: Mutex::default(),
            log: None,
            node: RandomState::new().hash_one(clock::unix_millis(clock::wall())),
        }
    }
}

impl Purges {
    /// Purges that outlast this process in `log`, which holds those of earlier ones.
    pub fn open(log: PurgeLog) -> Self {
        let mut latest = Latest::default();
        for logged in log.replay() {
            match logged {
                Logged::Purge(mark, effect, selection) => latest.record(&selection, effect, mark),
                Logged::Forgotten(mark) => {
                    latest.number = latest.number.max(mark.number);
                    latest.hard.forgotten = latest.hard.forgotten.max(mark);
                }
                Logged::Began(mark) => {
                    latest.void = (latest.number, mark.number);
                    latest.number = latest.number.max(mark.number);
                }
            }
        }
        Self {
            latest: Mutex::new(latest),
            node: log.node(),
            log: Some(log),
        }
    }

    /// The number of the latest purge.
    pub fn latest(&self) -> u64 {
        self.lock().number
    }

    /// The number of the latest purge by tags that come with responses.
    pub fn latest_of_responses(&self) -> u64 {
        self.lock().of_responses
    }

    /// What a fetch that began when `purge` was the latest brings, `at` this wall-clock time.
    pub fn born(&self, purge: u64, at: u64) -> Born {
        let node = self.node;
        Born { node, purge, at }
    }

    /// The node whose numbers these are.
    pub fn node(&self) -> u64 {
        self.node
    }

    /// Remembers `selection`, whose keys have tags among its tags, and numbers it. It is in force
    /// at once; whether it outlasts this process [`Self::sync`] says.
    pub fn record(&self, selection: &Selection, effect: Effect) -> Mark {
        let at = clock::unix_millis(clock::wall());
        let mut latest = self.lock();
        let number = latest.number.saturating_add(1);
        let mark = Mark { number, at };
        latest.record(selection, effect, mark);
        // Under the lock, so that the log has them in order.
        if let Some(log) = &self.log {
            log.append(&Logged::Purge(mark, effect, selection.clone()));
        }
        mark
    }

    /// The latest purge, now.
    pub fn mark(&self) -> Mark {
        Mark {
            number: self.latest(),
            at: clock::unix_millis(clock::wall()),
        }
    }

    /// Waits until all purges so far outlast this process and the machine. Blocks.
    ///
    /// # Errors
    /// They could not be written down: after a restart they may be forgotten.
    pub fn sync(&self) -> io::Result<()> {
        self.log.as_ref().map_or(Ok(()), PurgeLog::sync)
    }

    /// Whether a purge later than number `began`, hard or soft, may cover what belongs to `site`
    /// and carries `tags`.
    pub fn cover_since(
        &self,
        began: u64,
        site: SiteId,
        tags: impl Iterator<Item = Tag> + Clone,
    ) -> bool {
        let latest = self.lock();
        latest.number > began
            && (latest.hard.latest(site, tags.clone()).number > began
                || latest.soft.latest(site, tags).number > began)
    }

    /// What purges say of something of `site` with `tags`, which was fetched as `born` says.
    pub fn standing(
        &self,
        born: &Born,
        site: SiteId,
        tags: impl Iterator<Item = Tag> + Clone,
    ) -> Standing {
        let later = |mark| self.is_later(mark, born);
        let latest = self.lock();
        let (before, after) = latest.void;
        let is_missing = born.purge > latest.number || (before < born.purge && born.purge < after);
        if born.node == self.node && is_missing {
            // The purges that it was stored after are missing here, and others may be.
            return Standing::Purged;
        }
        if later(latest.hard.latest(site, tags.clone())) {
            return Standing::Purged;
        }
        let soft = latest.soft.latest(site, tags);
        match later(soft) {
            true => Standing::Softened(soft.at),
            false => Standing::Valid,
        }
    }

    /// Whether the purge `mark` came after the fetch that `born` tells of.
    pub fn is_later(&self, mark: Mark, born: &Born) -> bool {
        match born.node == self.node {
            true => mark.number > born.purge,
            false => mark.number > 0 && mark.at.saturating_add(SKEW) >= born.at,
        }
    }

    /// The first purge that is known to have removed something of `site` with `tags` which was
    /// fetched as `born` says, if any has, and whether any purge since covers it. Of purges by the
    /// same tag only the latest is known.
    pub fn since(
        &self,
        born: &Born,
        site: SiteId,
        tags: impl Iterator<Item = Tag> + Clone,
    ) -> (Option<Mark>, bool) {
        let latest = self.lock();
        let hard = latest.hard.covering(site, tags.clone());
        let hard = hard.filter(|hard| self.is_later(*hard, born)).min();
        let soft = latest.soft.latest(site, tags);
        drop(latest);
        (hard, hard.is_some() || self.is_later(soft, born))
    }

    /// What purges say of what `envelope` holds.
    pub fn of(&self, hasher: &KeyHasher, envelope: &Envelope) -> Standing {
        // What has the primary key does not carry the tag of it.
        let own = hasher.key_tag(envelope.site, hasher.key(&envelope.key));
        let tags = envelope.tags.iter().copied().chain([own]);
        self.standing(&envelope.born, envelope.site, tags)
    }

    /// Tags that are remembered.
    pub fn remembered(&self) -> usize {
        let latest = self.lock();
        latest.hard.tags.len() + latest.soft.tags.len()
    }

    /// Held for some lookups. Everything here is whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Latest {
    fn record(&mut self, selection: &Selection, effect: Effect, mark: Mark) {
        self.number = self.number.max(mark.number);
        if selection.tags().iter().any(|tag| tag.is_of_response()) {
            self.of_responses = self.of_responses.max(mark.number);
        }
        match effect {
            Effect::Hard => self.hard.record(selection, mark),
            Effect::Soft => self.soft.record(selection, mark),
            Effect::None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SITE: SiteId = SiteId(1);

    fn of_tags(tags: impl IntoIterator<Item = u64>) -> Selection {
        Selection::of_tags(tags.into_iter().map(Tag))
    }

    fn record(purges: &Purges, selection: &Selection) -> u64 {
        purges.record(selection, Effect::Hard).number
    }

    fn covered(purges: &Purges, began: u64, tags: &[u64]) -> bool {
        purges.cover_since(began, SITE, tags.iter().copied().map(Tag))
    }

    #[test]
    fn only_later_purges_count() {
        let purges = Purges::default();
        assert!(!covered(&purges, 0, &[1]));
        assert_eq!(record(&purges, &of_tags([1, 2])), 1);
        assert_eq!(purges.record(&of_tags([3]), Effect::Soft).number, 2);
        assert!(covered(&purges, 0, &[9, 2]));
        assert!(!covered(&purges, 1, &[9, 2]));
        assert!(covered(&purges, 1, &[3]));
        record(&purges, &Selection::of_site(SiteId(2)));
        assert!(!covered(&purges, 2, &[3]));
        record(&purges, &Selection::of_site(SITE));
        assert!(covered(&purges, 3, &[]));
        record(&purges, &Selection::everything());
        assert!(covered(&purges, 4, &[]));
        assert!(!covered(&purges, purges.latest(), &[1, 2, 3]));
    }

    #[test]
    fn what_is_stored_stands_as_purges_since_it_was_fetched_say() {
        let purges = Purges::default();
        let born = |purge| purges.born(purge, 0);
        let standing = |born: &Born, tag| purges.standing(born, SITE, std::iter::once(Tag(tag)));
        assert_eq!(standing(&born(0), 1), Standing::Valid);
        purges.record(&of_tags([1]), Effect::Soft);
        assert!(matches!(standing(&born(0), 1), Standing::Softened(at) if at > 0));
        assert_eq!(standing(&born(1), 1), Standing::Valid);
        record(&purges, &of_tags([1]));
        assert_eq!(standing(&born(1), 1), Standing::Purged);
        assert_eq!(standing(&born(0), 2), Standing::Valid);
    }

    #[test]
    fn what_another_node_fetched_is_compared_by_time() {
        let purges = Purges::default();
        let other = |at| Born {
            node: purges.node().wrapping_add(1),
            purge: u64::MAX,
            at,
        };
        let standing = |born: &Born| purges.standing(born, SITE, std::iter::once(Tag(1)));
        assert_eq!(standing(&other(0)), Standing::Valid);
        let before = clock::unix_millis(clock::wall());
        record(&purges, &of_tags([1]));
        for at in [0, before, before + SKEW] {
            assert_eq!(standing(&other(at)), Standing::Purged, "{at}");
        }
        let after = clock::unix_millis(clock::wall()) + SKEW;
        assert_eq!(standing(&other(after + 1)), Standing::Valid);
    }

    #[test]
    fn what_is_forgotten_counts_as_covered() {
        let mut marks = Marks::default();
        let most = u64::try_from(TAGS_MAX).unwrap();
        let mark = |number| Mark { number, at: number };
        for tag in 0..most {
            marks.record(&of_tags([tag]), mark(tag + 1));
        }
        let latest = |marks: &Marks, tag| marks.latest(SITE, std::iter::once(Tag(tag))).number;
        assert_eq!(latest(&marks, most), 0);
        marks.record(&of_tags([most]), mark(most + 1));
        assert!(marks.tags.len() <= TAGS_MAX / 2 + 1);
        assert_eq!(latest(&marks, most), most + 1);
        assert_eq!(latest(&marks, most - 1), most);
        let middle = latest(&marks, u64::MAX);
        assert!(
            (most / 2..=most / 2 + 2).contains(&middle),
            "nobody knows any more: {middle}"
        );
        assert_eq!(latest(&marks, 0), middle);
    }

    proptest! {
        /// Against a list of all purges.
        #[test]
        fn purges_are_remembered_as_a_list_would(
            recorded in prop::collection::vec(prop::collection::vec(0..6_u64, 0..3), 0..8),
            began in 0..8_u64, tags in prop::collection::vec(0..6_u64, 0..3),
        ) {
            let purges = Purges::default();
            for tags in &recorded {
                record(&purges, &of_tags(tags.iter().copied()));
            }
            let missed = recorded.iter().skip(usize::try_from(began).unwrap());
            let expected = missed.flatten().any(|tag| tags.contains(tag));
            prop_assert_eq!(covered(&purges, began, &tags), expected);
        }
    }
}

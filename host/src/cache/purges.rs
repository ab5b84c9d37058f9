//! The purges that a flight under way may have missed, because what it brings was not known yet
//! when they came.
//!
//! Purges are numbered. For each tag, site, and for everything, the latest number is remembered;
//! a flight remembers the number that was the latest when it began. Once its tags are known, any
//! of them with a later number says that the flight is outdated. The memory is bounded: when it is
//! full it starts anew, and flights that began before are taken for outdated.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::entry::{SiteId, Tag};
use crate::tier::Selection;

/// Tags that are remembered. About 2 MiB.
const TAGS_MAX: usize = 65_536;

/// The latest purges.
#[derive(Debug, Default)]
pub struct Purges(Mutex<Latest>);

/// Numbers are those of purges, counted from 1.
#[derive(Debug, Default)]
struct Latest {
    number: u64,
    tags: HashMap<Tag, u64>,
    sites: HashMap<SiteId, u64>,
    all: u64,
    /// The latest by tags that come with responses.
    of_responses: u64,
    /// What came up to this one is not remembered in detail.
    forgotten: u64,
}

impl Purges {
    /// The number of the latest purge.
    pub fn latest(&self) -> u64 {
        self.lock().number
    }

    /// The number of the latest purge by tags that come with responses.
    pub fn latest_of_responses(&self) -> u64 {
        self.lock().of_responses
    }

    /// Remembers `selection`, whose keys have tags among its tags, and numbers it.
    pub fn record(&self, selection: &Selection) -> u64 {
        let mut latest = self.lock();
        latest.number += 1;
        let number = latest.number;
        if latest.tags.len().saturating_add(selection.tags().len()) > TAGS_MAX {
            latest.tags = HashMap::new();
            latest.forgotten = number;
        }
        if selection.tags().iter().any(|tag| tag.is_of_response()) {
            latest.of_responses = number;
        }
        if selection.all {
            latest.all = number;
        }
        for site in &selection.sites {
            latest.sites.insert(*site, number);
        }
        if latest.forgotten < number {
            let tags = selection.tags().iter().map(|tag| (*tag, number));
            latest.tags.extend(tags);
        }
        number
    }

    /// Whether a purge later than number `began` may cover what belongs to `site` and carries
    /// `tags`.
    pub fn cover_since(
        &self,
        began: u64,
        site: SiteId,
        mut tags: impl Iterator<Item = Tag>,
    ) -> bool {
        let latest = self.lock();
        let later = |number: Option<&u64>| number.is_some_and(|number| *number > began);
        latest.number > began
            && (latest.all > began
                || latest.forgotten > began
                || later(latest.sites.get(&site))
                || tags.any(|tag| later(latest.tags.get(&tag))))
    }

    /// Tags that are remembered.
    pub fn remembered(&self) -> usize {
        self.lock().tags.len()
    }

    /// Held for some lookups. Everything here is whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, Latest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn covered(purges: &Purges, began: u64, tags: &[u64]) -> bool {
        purges.cover_since(began, SITE, tags.iter().copied().map(Tag))
    }

    #[test]
    fn only_later_purges_count() {
        let purges = Purges::default();
        assert!(!covered(&purges, 0, &[1]));
        assert_eq!(purges.record(&of_tags([1, 2])), 1);
        assert_eq!(purges.record(&of_tags([3])), 2);
        assert!(covered(&purges, 0, &[9, 2]));
        assert!(!covered(&purges, 1, &[9, 2]));
        assert!(covered(&purges, 1, &[3]));
        purges.record(&Selection::of_site(SiteId(2)));
        assert!(!covered(&purges, 2, &[3]));
        purges.record(&Selection::of_site(SITE));
        assert!(covered(&purges, 3, &[]));
        purges.record(&Selection::everything());
        assert!(covered(&purges, 4, &[]));
        assert!(!covered(&purges, purges.latest(), &[1, 2, 3]));
    }

    #[test]
    fn what_is_forgotten_counts_as_covered() {
        let purges = Purges::default();
        let most = u64::try_from(TAGS_MAX).unwrap();
        purges.record(&of_tags(0..most));
        assert!(!covered(&purges, 0, &[most]));
        purges.record(&of_tags([most]));
        assert!(purges.remembered() <= TAGS_MAX);
        assert!(covered(&purges, 1, &[u64::MAX]), "nobody knows any more");
        assert!(!covered(&purges, 2, &[most]));
        purges.record(&of_tags(0..=most));
        assert!(purges.remembered() <= TAGS_MAX);
        assert!(covered(&purges, 2, &[0]));
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
                purges.record(&of_tags(tags.iter().copied()));
            }
            let missed = recorded.iter().skip(usize::try_from(began).unwrap());
            let expected = missed.flatten().any(|tag| tags.contains(tag));
            prop_assert_eq!(covered(&purges, began, &tags), expected);
        }
    }
}

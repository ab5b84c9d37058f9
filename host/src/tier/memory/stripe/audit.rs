//! Checks everything a stripe must keep true, for tests.

use std::collections::HashMap;

use super::Locked;
use crate::entry::{Entry, SiteId, Tag};
use crate::sync::Arc;
use crate::sync::atomic::Ordering::Relaxed;

impl Locked<'_> {
    /// The residents, least recently used first, after checking that table, slots, tags, sites
    /// and gauges agree.
    pub(in super::super) fn audit(&self) -> Vec<Arc<Entry>> {
        let state = &*self.state;
        let mut tags: HashMap<Tag, Vec<(u64, u32)>> = HashMap::new();
        let mut sites: HashMap<SiteId, (u64, u64)> = HashMap::new();
        let mut bytes = 0;
        let mut slots = 0;
        for (at, resident) in state.residents.checked() {
            slots += 1;
            assert!(at < self.stripe.slots_max, "slot {at} is beyond the limit");
            assert!((1..=state.insertions).contains(&resident.inserted));
            let entry = state.residents.entry(at).unwrap();
            assert_eq!(entry.key.view().hash, resident.hash);
            assert_eq!(entry.site, resident.site);
            bytes += entry.charge();
            let site = sites.entry(resident.site).or_default();
            *site = (site.0 + 1, site.1 + entry.charge());
            for (i, tag) in entry.tags.iter().enumerate() {
                if !entry.tags[..i].contains(tag) {
                    tags.entry(*tag).or_default().push((resident.inserted, at));
                }
            }
        }
        assert_eq!(
            self.stripe.gauges.bytes.load(Relaxed),
            bytes,
            "bytes are not the sum of charges"
        );
        assert_eq!(self.entries(), u64::try_from(slots).unwrap());
        assert_eq!(state.sites.all(), sites);
        assert_eq!(state.tags.tags(), tags.len(), "tags that nobody carries");
        self.audit_tags(tags);
        let order: Vec<u64> = state
            .residents
            .by_use()
            .map(|(_, each)| each.last_access)
            .collect();
        assert!(
            order.is_sorted_by(|newer, older| newer > older),
            "accesses out of order"
        );
        let mut entries: Vec<_> = state
            .residents
            .by_use()
            .map(|(entry, _)| Arc::clone(entry))
            .collect();
        entries.reverse();
        entries
    }

    /// Checks the index of tags against `tags`: insertions and slots that carry each.
    fn audit_tags(&self, tags: HashMap<Tag, Vec<(u64, u32)>>) {
        let state = &*self.state;
        for (tag, mut carriers) in tags {
            carriers.sort_unstable();
            let carriers: Vec<u32> = carriers.into_iter().map(|(_, slot)| slot).collect();
            assert_eq!(
                state.tags.slots(tag),
                carriers,
                "the slots of {tag:?}, oldest first"
            );
            let charge = |slot: &u32| state.residents.entry(*slot).unwrap().charge();
            let bytes: u64 = carriers.iter().map(charge).sum();
            assert_eq!(
                state.tags.count(tag),
                (u64::try_from(carriers.len()).unwrap(), bytes)
            );
        }
    }
}

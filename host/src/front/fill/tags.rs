//! What the response of a fill is purged by.

use super::{Fill, Judged};
use crate::cache::flight::Pilot;
use crate::entry::{CacheKey, Entry, Tag};
use crate::front::tagging;

impl Fill {
    /// The tags of a response: of the request, of its key, those that the origin and the policy
    /// give it, and those of the entry that is kept with it. The fields that tell them are taken out.
    /// A response that has more than can be kept is not stored, since a purge by any of them would
    /// leave it.
    pub(super) fn tag(&self, judged: &mut Judged, kept: Option<&Entry>, pilot: &Pilot) -> Vec<Tag> {
        let (hasher, site) = (&self.worker.edge.cache.hasher, self.site.id);
        let named = tagging::named(&judged.headers);
        tagging::remove(&mut judged.headers);
        // Parts came for several requests, and are purged by any of them.
        let is_partial = kept.is_some_and(|entry| entry.partial().is_some());
        let mut given: Vec<Tag> = kept
            .into_iter()
            .flat_map(|entry| entry.tags.iter().copied())
            .filter(|tag| tag.is_of_response() || is_partial)
            .collect();
        if let Ok(named) = &named {
            given.extend(named.tags.iter().map(|tag| hasher.tag(site, tag)));
            let group = |group: &Vec<u8>| hasher.group_tag(site, &self.uri_origin, group);
            given.extend(named.groups.iter().map(group));
        }
        let added = judged.decision.tags.iter();
        given.extend(added.map(|tag| hasher.tag(site, tag.as_bytes())));
        given.sort_unstable();
        given.dedup();
        // A 304 need not repeat the tags, so they add up.
        if named.is_err() || given.len() > 2 * tagging::TAGS_MAX {
            self.refuse_tags();
            judged.decision.lifetime = None;
            given.clear();
        }
        given.push(hasher.key_tag(site, self.primary.view()));
        let tags: Vec<Tag> = self.tags.iter().copied().chain(given).collect();
        // Before anyone hears of the response and joins for it.
        let flights = &self.worker.edge.cache.flights;
        flights.decide(pilot, tags.clone());
        tags
    }

    /// Counts a response that has more tags than are kept, and says so now and then.
    fn refuse_tags(&self) {
        let refused = &self.worker.edge.metrics.tags_refused;
        refused.increment();
        if refused.get().is_power_of_two() {
            tracing::warn!(
                site = self.site.name,
                target = self.target,
                "responses are not stored because they have too many or too long tags; at most {} \
                 of {} bytes",
                tagging::TAGS_MAX,
                tagging::TAG_BYTES_MAX,
            );
        }
    }

    /// `tags` for an entry under `key`: an entry that has the primary key is found by that.
    pub(super) fn of_key(&self, key: &CacheKey, mut tags: Vec<Tag>) -> Vec<Tag> {
        if *key == self.primary {
            let hasher = &self.worker.edge.cache.hasher;
            let own = hasher.key_tag(self.site.id, self.primary.view());
            tags.retain(|tag| *tag != own);
        }
        tags
    }
}

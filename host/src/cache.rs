//! The cache above the tiers: finds the response that may answer a request, stores what was
//! fetched, joins concurrent fetches, and purges all of it.
//!
//! It knows keys, nominated fields and flights. It knows nothing of policies: what a policy
//! decided arrives as a key, a lifetime and tags.

pub mod backoff;
pub mod chain;
pub mod flight;
pub mod flights;
pub mod outcomes;
pub mod purge_log;
pub mod purges;
pub mod receipts;

use std::sync::Arc;

use http::header::DATE;
use http::{HeaderMap, HeaderName};

use crate::clock;
use crate::entry::{CacheKey, Content, Entry, KeyHasher, KeyView, Nominations, SiteId, Tag};
use crate::rfc9111::{date, vary};
use crate::tier::memory::Domain;
use crate::tier::memory::put::Reservation;
use crate::tier::{Purged, Selection};
use flight::Flight;
use flights::Flights;
use outcomes::Outcomes;
use receipts::Receipts;

/// Different sets of nominated fields that are remembered for one key, at most.
const NOMINATIONS_MAX: usize = 4;

/// What all sites and all workers share.
#[derive(Debug, Default)]
pub struct Cache {
    /// Hashes keys and tags.
    pub hasher: KeyHasher,
    /// The fetches under way.
    pub flights: Flights,
    /// What became of fetches that left nothing to store.
    pub outcomes: Outcomes,
    /// What purges came to.
    pub receipts: Receipts,
}

/// What a purge does to what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Removes it.
    Hard,
    /// Makes it stale: it is validated before it is used again, or used stale as its windows say.
    Soft,
    /// Nothing: it is only counted.
    None,
}

/// What a lookup found.
#[derive(Debug)]
pub enum Lookup {
    /// A stored response for this key whose nominated fields match. It may be stale.
    Found(Arc<Entry>),
    /// Nothing for this key.
    UriMiss,
    /// Responses for this key, none of which matches the request's nominated fields. The one to
    /// come is expected under `key`.
    VaryMiss {
        /// The secondary key by the newest nomination.
        key: CacheKey,
    },
}

impl Cache {
    /// Finds the stored response of `primary` that matches `request` (RFC 9111 4.1).
    #[inline]
    pub fn lookup(&self, domain: &Domain, primary: KeyView<'_>, request: &HeaderMap) -> Lookup {
        self.find(primary, request, |key| domain.get(key))
    }

    /// The same, seen by no count and no eviction policy.
    pub fn peek(&self, domain: &Domain, primary: KeyView<'_>, request: &HeaderMap) -> Lookup {
        self.find(primary, request, |key| domain.peek(key))
    }

    #[inline]
    fn find(
        &self,
        primary: KeyView<'_>,
        request: &HeaderMap,
        get: impl Fn(KeyView<'_>) -> Option<Arc<Entry>>,
    ) -> Lookup {
        let Some(entry) = get(primary) else {
            return Lookup::UriMiss;
        };
        match &entry.content {
            Content::Response(_) | Content::Partial(_) => Lookup::Found(entry),
            Content::Nominations(nominations) => {
                self.find_variant(primary, nominations, request, get)
            }
        }
    }

    fn find_variant(
        &self,
        primary: KeyView<'_>,
        nominations: &Nominations,
        request: &HeaderMap,
        get: impl Fn(KeyView<'_>) -> Option<Arc<Entry>>,
    ) -> Lookup {
        let keys = nominations
            .sets
            .iter()
            .map(|set| self.secondary(primary, set, request));
        let found = keys.filter_map(|key| get(key.view()));
        // Of several that match, the most recent is used, by its `Date` (RFC 9111 4), and of
        // several within one second by its arrival.
        let newest = found.max_by_key(|entry| {
            let date = entry
                .headers()
                .and_then(|headers| date::parse(headers.get(DATE)?.as_bytes()));
            (date, entry.lifetime().map(|lifetime| lifetime.stored_at))
        });
        match (newest, nominations.sets.first()) {
            (Some(entry), _) => Lookup::Found(entry),
            (None, Some(set)) => Lookup::VaryMiss {
                key: self.secondary(primary, set, request),
            },
            (None, None) => Lookup::UriMiss,
        }
    }

    /// The key under which a response that nominates `fields` is stored for `request`.
    pub fn secondary(
        &self,
        primary: KeyView<'_>,
        fields: &[HeaderName],
        request: &HeaderMap,
    ) -> CacheKey {
        if fields.is_empty() {
            return primary.to_key();
        }
        let mut bytes = Vec::with_capacity(primary.bytes.len() + 64);
        vary::secondary(primary.bytes, fields, request, &mut bytes);
        self.hasher.key(&bytes).to_key()
    }

    /// Remembers that responses of `primary` nominate `fields`.
    pub fn nominate(
        &self,
        domain: &Domain,
        primary: KeyView<'_>,
        site: SiteId,
        tags: &[Tag],
        fields: &[HeaderName],
    ) {
        let known = match domain.peek(primary).map(|entry| entry.content.clone()) {
            Some(Content::Nominations(known)) => known,
            _ => Nominations::default(),
        };
        if known.sets.first().is_some_and(|newest| newest == fields) {
            return;
        }
        let older = known.sets.into_iter().filter(|set| set != fields);
        let sets = std::iter::once(fields.to_vec())
            .chain(older)
            .take(NOMINATIONS_MAX)
            .collect();
        let content = Content::Nominations(Nominations { sets });
        let entry = Entry::new(primary.to_key(), site, tags.to_vec(), content);
        // A nomination that finds no room costs the next request a miss, nothing else.
        let put = domain.put(&Arc::new(entry), None, &|| true);
        tracing::trace!(?put, "a nomination");
    }

    /// Stores what `flight` brought, unless a purge has overtaken it. What came of it shows in the
    /// tier's own counts.
    pub fn store(
        &self,
        domain: &Domain,
        flight: &Flight,
        entry: &Arc<Entry>,
        reservation: Option<Reservation>,
    ) {
        // Asked under the lock of the entry's shard: a purge that is recorded later than this finds
        // the entry there.
        let flights = &self.flights;
        let put = domain.put(entry, reservation, &|| !flights.is_outdated(flight));
        tracing::trace!(?put, "a response");
    }

    /// Purges what `selection` covers in `domains`: stored entries and what flights bring. A flight
    /// is outdated by a soft purge as by a hard one.
    pub fn purge<'a>(
        &self,
        domains: impl IntoIterator<Item = &'a Arc<Domain>>,
        selection: &Selection,
        effect: Effect,
    ) -> Purged {
        if effect != Effect::None {
            // Flights first: one that commits before it is marked is found in the tier afterwards.
            self.flights.purge(selection, effect);
            self.outcomes
                .purge(|site, tags| selection.covers(site, tags.iter().copied()));
        }
        let mut purged = Purged::default();
        for domain in domains {
            purged += match effect {
                Effect::Hard => domain.purge(selection),
                // Hits read this clock, which may be behind the other one, and must not find the
                // entry fresh.
                Effect::Soft => domain.soften(selection, clock::coarse()),
                Effect::None => domain.count(selection),
            };
        }
        purged
    }

    /// Purges what `tags` of one site cover: stored entries and what flights bring.
    pub fn purge_tags(&self, domain: &Arc<Domain>, tags: &[Tag]) -> Purged {
        let selection = Selection::of_tags(tags.iter().copied());
        self.purge([domain], &selection, Effect::Hard)
    }

    /// Clears `domain` of `site`, which has left it. What slower tiers hold of it stays.
    pub fn leave(&self, domain: &Arc<Domain>, site: SiteId) {
        let selection = Selection::of_site(site);
        self.flights.outdate(&selection);
        let purged = domain.purge(&selection);
        tracing::debug!(entries = purged.entries, "a site has left a domain");
    }

    /// The tag of an effective request URI. Every entry carries it, whatever its key.
    pub fn uri_tag(&self, site: SiteId, scheme: &str, authority: &str, target: &str) -> Tag {
        let mut text = String::with_capacity(scheme.len() + 3 + authority.len() + target.len());
        text.extend([scheme, "://", authority, target]);
        self.hasher.uri_tag(site, text.as_bytes())
    }
}

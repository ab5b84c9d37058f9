//! The cache above the tiers: finds the response that may answer a request, stores what was
//! fetched, joins concurrent fetches, and purges all of it.
//!
//! It knows keys, nominated fields and flights. It knows nothing of policies: what a policy
//! decided arrives as a key, a lifetime and tags.

pub mod backoff;
pub mod chain;
#[cfg(test)]
mod fakes;
pub mod flight;
pub mod flights;
pub mod hydration;
pub mod lower;
pub mod outcomes;
mod purge_file;
pub mod purge_log;
pub mod purges;
mod recalls;
pub mod receipts;
pub mod scrubs;
mod settling;
pub mod stores;
mod succession;

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::DATE;
use http::{HeaderMap, HeaderName};

use crate::clock::{self, Moment};
use crate::entry::{CacheKey, Content, Entry, KeyHasher, KeyView, Nominations, SiteId, Tag};
use crate::rfc9111::{date, vary};
use crate::tier::memory::Domain;
use crate::tier::memory::put::{Put, Reservation};
use crate::tier::{Purged, Selection};
use flight::Flight;
use flights::Flights;
use lower::{Lower, Member, Recalled};
use outcomes::Outcomes;
use purges::{Mark, Purges};
use receipts::{Below, HELD_MAX, Kind, Receipt, Receipts};
use scrubs::Scrubs;

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
    pub receipts: Arc<Receipts>,
    /// The latest scrub.
    pub scrubs: Scrubs,
    /// The tiers below memory.
    pub lower: Arc<Lower>,
    /// The puts of chains.
    turns: chain::Turns,
}

/// What the tiers below memory came to for one request.
#[derive(Debug)]
pub struct BelowMemory {
    /// What is there.
    pub lookup: Lookup,
    /// The tier that held it.
    pub tier: Option<&'static str>,
    /// The latest purge before they were looked through.
    pub purge: u64,
    /// What faster tiers are still to be given.
    pub to_fill: Vec<Recalled>,
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
    /// A cache of memory and `lower`, whose purges are `purges`.
    pub fn new(lower: Lower, purges: Arc<Purges>) -> Self {
        Self {
            flights: Flights::new(purges),
            lower: Arc::new(lower),
            ..Self::default()
        }
    }

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
        match (
            found.max_by_key(|entry| recency(entry)),
            nominations.sets.first(),
        ) {
            (Some(entry), _) => Lookup::Found(entry),
            (None, Some(set)) => Lookup::VaryMiss {
                key: self.secondary(primary, set, request),
            },
            (None, None) => Lookup::UriMiss,
        }
    }

    /// Finds the stored response of `primary` that matches `request` in the tiers below memory, and
    /// gives it to memory if it fits there. None if they hold nothing that memory does not.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn recall(
        &self,
        domain: &Domain,
        primary: KeyView<'_>,
        request: &HeaderMap,
    ) -> Option<BelowMemory> {
        let purge = self.flights.purges.latest();
        let mut below = BelowMemory {
            lookup: Lookup::UriMiss,
            tier: None,
            purge,
            to_fill: Vec::new(),
        };
        let first = self.hold_or_bring(domain, primary, &mut below).await?;
        let Content::Nominations(nominations) = &first.content else {
            below.lookup = Lookup::Found(first);
            return Some(below);
        };
        let mut found = Vec::new();
        for set in &nominations.sets {
            let key = self.secondary(primary, set, request);
            let before = below.tier;
            if let Some(entry) = self.hold_or_bring(domain, key.view(), &mut below).await {
                found.push((entry, below.tier));
            }
            below.tier = before;
        }
        below.lookup = match found.into_iter().max_by_key(|(entry, _)| recency(entry)) {
            Some((entry, tier)) => {
                below.tier = tier;
                Lookup::Found(entry)
            }
            None => Lookup::VaryMiss {
                key: self.secondary(primary, nominations.sets.first()?, request),
            },
        };
        Some(below)
    }

    /// What a request for `primary` would find, and the tiers that hold it; seen by no count and no
    /// policy, and nothing is given to any tier.
    pub async fn examine(
        &self,
        domain: &Domain,
        primary: KeyView<'_>,
        request: &HeaderMap,
    ) -> (Lookup, Vec<&'static str>) {
        let lookup = self.peek(domain, primary, request);
        let key = match &lookup {
            Lookup::Found(entry) => entry.key.clone(),
            Lookup::VaryMiss { key } => key.clone(),
            Lookup::UriMiss => primary.to_key(),
        };
        let mut below = self.lower.holders(&self.hasher, key.view()).await;
        if let Some((_, entry)) = below.first()
            && let Content::Nominations(nominations) = &entry.content
        {
            let sets = nominations.sets.clone();
            below.clear();
            for set in &sets {
                let key = self.secondary(primary, set, request);
                below.extend(self.lower.holders(&self.hasher, key.view()).await);
            }
        }
        let names = below.iter().map(|(tier, _)| *tier);
        match lookup {
            Lookup::Found(_) => {
                let tiers = std::iter::once(chain::MEMORY).chain(names).collect();
                (lookup, tiers)
            }
            missed => {
                let tiers = names.collect();
                let found = below.into_iter().next();
                (
                    found.map_or(missed, |(_, entry)| Lookup::Found(entry)),
                    tiers,
                )
            }
        }
    }

    /// What memory holds under `key`, or what the tiers below it do.
    async fn hold_or_bring(
        &self,
        domain: &Domain,
        key: KeyView<'_>,
        below: &mut BelowMemory,
    ) -> Option<Arc<Entry>> {
        if let Some(entry) = domain.peek(key) {
            below.tier = None;
            return Some(entry);
        }
        let recalled = self.bring(Some(domain), key).await?;
        let entry = Arc::clone(&recalled.entry);
        below.tier = Some(recalled.tier);
        if self.lower.wants(&recalled) {
            below.to_fill.push(recalled);
        }
        Some(entry)
    }

    /// What the tiers below memory hold under `key`, if it stands. `memory` is given it, if it fits
    /// there.
    async fn bring(&self, memory: Option<&Domain>, key: KeyView<'_>) -> Option<Recalled> {
        let recalled = self.lower.recall(&self.hasher, key).await?;
        let entry = &recalled.entry;
        let stands = || self.lower.stands(&recalled);
        if !stands() {
            return None;
        }
        if let Some(memory) = memory
            && entry.is_in_memory()
            // What was stored meanwhile is newer.
            && memory.put_over(entry, None, None, &stands) == Put::Stored
        {
            self.lower.promoted.increment();
        }
        Some(recalled)
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

    /// Remembers that responses of `primary` nominate `fields`: the entry that says so, if that is
    /// new.
    pub fn nominate(
        &self,
        domain: &Domain,
        primary: KeyView<'_>,
        site: SiteId,
        tags: &[Tag],
        fields: &[HeaderName],
    ) -> Option<Arc<Entry>> {
        let known = match domain.peek(primary).map(|entry| entry.content.clone()) {
            Some(Content::Nominations(known)) => known,
            _ => Nominations::default(),
        };
        if known.sets.first().is_some_and(|newest| newest == fields) {
            return None;
        }
        let older = known.sets.into_iter().filter(|set| set != fields);
        let sets = std::iter::once(fields.to_vec())
            .chain(older)
            .take(NOMINATIONS_MAX)
            .collect();
        let content = Content::Nominations(Nominations { sets });
        let entry = Entry::new(primary.to_key(), site, tags.to_vec(), content);
        let entry = Arc::new(entry);
        // A nomination that finds no room costs the next request a miss, nothing else.
        let put = domain.put(&entry, None, &|| true);
        tracing::trace!(?put, "a nomination");
        Some(entry)
    }

    /// Stores what `flight` brought in memory, unless a purge has overtaken it. What came of that;
    /// none if it is not for memory.
    pub fn store(
        &self,
        domain: &Domain,
        flight: &Flight,
        entry: &Arc<Entry>,
        reservation: Option<Reservation>,
    ) -> Option<Put> {
        let flights = &self.flights;
        if !entry.is_in_memory() {
            // What lies elsewhere stays there; what memory has under the key is older.
            domain.remove_if(entry.key.view(), &|held| held.serial() < entry.serial());
            return None;
        }
        // Asked under the lock of the entry's stripe: a purge that is recorded later than this finds
        // the entry there.
        Some(domain.put(entry, reservation, &|| !flights.is_outdated(flight)))
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
            self.put_in_force(selection, effect);
        }
        Self::purge_memory(domains, selection, effect)
    }

    /// The same, for whoever asked for it by `kinds`, who gets a receipt. It outlasts this process
    /// when it returns. Blocks.
    ///
    /// # Errors
    /// It is in force, and could not be written down: after a restart it may be forgotten.
    pub fn purge_for(
        &self,
        kinds: &[Kind],
        domains: &[Arc<Domain>],
        selection: Selection,
        effect: Effect,
    ) -> io::Result<Receipt> {
        let (counted, uncounted): (Vec<&Member>, Vec<&Member>) = self
            .lower
            .members()
            .iter()
            .partition(|member| settling::can_count(member));
        let countable = !counted.is_empty();
        let held = match countable {
            // Before they are gone.
            true => hashes(domains, &selection),
            false => None,
        };
        let mark = match effect {
            Effect::None => self.flights.purges.mark(),
            Effect::Hard | Effect::Soft => self.put_in_force(&selection, effect),
        };
        let purged = Self::purge_memory(domains, &selection, effect);
        self.flights.purges.sync()?;
        let below = Below {
            mark,
            selection,
            held,
            countable,
            uncounted: uncounted.iter().map(|member| member.tier.name()).collect(),
        };
        let receipt = self.receipts.write(kinds, effect, purged, below);
        self.settle_receipts();
        Ok(receipt)
    }

    /// Sees to it that nothing comes back that `selection` covers.
    fn put_in_force(&self, selection: &Selection, effect: Effect) -> Mark {
        // Flights first: one that commits before it is marked is found in the tier afterwards.
        let mark = self.flights.purge(selection, effect);
        self.outcomes
            .purge(|site, tags| selection.covers(site, tags.iter().copied()));
        mark
    }

    fn purge_memory<'a>(
        domains: impl IntoIterator<Item = &'a Arc<Domain>>,
        selection: &Selection,
        effect: Effect,
    ) -> Purged {
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

/// The hashes of the keys that `domains` hold of `selection`, sorted; none if they are many.
fn hashes(domains: &[Arc<Domain>], selection: &Selection) -> Option<Vec<u64>> {
    let mut hashes = Vec::new();
    for domain in domains {
        hashes.extend(domain.hashes(selection, HELD_MAX)?);
    }
    hashes.sort_unstable();
    hashes.dedup();
    Some(hashes)
}

/// How recent a response is: of several that match, the most recent is used, by its `Date`
/// (RFC 9111 4), and of several within one second by its arrival.
fn recency(entry: &Entry) -> (Option<SystemTime>, Option<Moment>) {
    let date = entry
        .headers()
        .and_then(|headers| date::parse(headers.get(DATE)?.as_bytes()));
    (date, entry.lifetime().map(|lifetime| lifetime.stored_at))
}

//! The tiers below memory, as requests see them: looked through before the origin is asked, and
//! given what was fetched after memory had it.

use std::rc::Rc;
use std::sync::Arc;

use http::Response;
use http::header::AUTHORIZATION;

use super::answer::Asks;
use super::body::ResponseBody;
use super::cache_status::{ForwardReason, Outcome};
use super::exchange::Exchange;
use super::fetch::{self, answers};
use super::miss::Miss;
use super::site::{CacheOutcome, Site};
use super::verdict::Verdict;
use super::worker::Worker;
use crate::cache::Lookup;
use crate::cache::flight::Flight;
use crate::cache::outcomes::Place;
use crate::cache::stores::StoreOutcome;
use crate::clock;
use crate::entry::{Entry, Usable};

/// Looks for what `exchange` asks for in the tiers below memory, which had nothing. The answer, if
/// what they hold is fresh; otherwise `miss` knows of it.
pub async fn recall(exchange: &Exchange, miss: &mut Miss) -> Option<Response<ResponseBody>> {
    let (worker, site, head) = (&exchange.worker, &exchange.site, &exchange.head);
    let cache = &worker.edge.cache;
    // What memory holds is as new as anything below it.
    if cache.lower.is_empty() || miss.stale.is_some() {
        return None;
    }
    // What was not for sharing a moment ago is stored nowhere, and a look may cost a request.
    let place = Place::new(&miss.key, head.headers.contains_key(AUTHORIZATION));
    if cache.outcomes.recall(place, clock::now()).not_shared {
        return None;
    }
    let recall = cache.recall(&site.domain, miss.primary.view(), &head.headers);
    let recalled = recall.await?;
    for one in recalled.to_fill {
        let (edge, pending) = (Arc::clone(&worker.edge), cache.lower.pending());
        worker.tasks.spawn(async move {
            edge.cache.lower.fill(&one).await;
            drop(pending);
        });
    }
    let asks = Asks::of(&head.headers);
    let verdict = Verdict::of(&recalled.lookup, (worker, site), (&head.headers, asks));
    match recalled.lookup {
        Lookup::Found(entry) => {
            let verdict = verdict?;
            miss.key = entry.key.clone();
            miss.reason = verdict.reason();
            miss.recalled = Some(recalled.purge);
            if matches!(verdict.usable, Usable::Fresh { .. }) && answers(exchange, &entry) {
                let hit = |ttl| Outcome::Hit { ttl };
                let told = (None, recalled.tier);
                let outcome = CacheOutcome::Hit;
                return Some(fetch::from_entry(exchange, &entry, outcome, hit, told));
            }
            miss.stale = Some((entry, verdict.usable));
        }
        Lookup::VaryMiss { key } => {
            miss.key = key;
            miss.reason = ForwardReason::VaryMiss;
        }
        Lookup::UriMiss => {}
    }
    None
}

/// Gives `entry`, which `flight` has brought, to the tiers below memory, unless a purge or a newer
/// one has overtaken it by then. Counts what became of it there and, in `outcome`, in memory; what
/// is no response counts for nothing.
pub fn store(
    worker: &Rc<Worker>,
    site: &Arc<Site>,
    flight: &Arc<Flight>,
    (entry, mut outcome): (&Arc<Entry>, StoreOutcome),
) {
    let is_response = entry.lifetime().is_some();
    if worker.edge.cache.lower.is_empty() {
        if is_response {
            site.metrics.count_store(site.write_policy, &outcome);
        }
        return;
    }
    let pending = worker.edge.cache.lower.pending();
    let Some(succeeding) = worker.edge.cache.lower.announce(entry.key.view()) else {
        return;
    };
    let (edge, site) = (Arc::clone(&worker.edge), Arc::clone(site));
    let (flight, entry) = (Arc::clone(flight), Arc::clone(entry));
    worker.tasks.spawn(async move {
        let cache = &edge.cache;
        let resident = site.domain.peek(entry.key.view());
        let newer = resident.is_some_and(|resident| resident.serial() > entry.serial());
        if !newer && !cache.flights.is_outdated(&flight) {
            let born = cache.flights.purges.born(flight.began, flight.at);
            // A client's answer never fails because of a tier; counts tell.
            let lower = &cache.lower;
            lower.store(&entry, born, &mut outcome, succeeding).await;
            if is_response {
                site.metrics.count_store(site.write_policy, &outcome);
            }
        }
        drop(pending);
    });
}

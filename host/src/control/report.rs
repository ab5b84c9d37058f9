//! What a running edge tells about itself: its counts, and the explanation of one URL.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::arrangement::WantedBy;
use super::purge::Url;
use super::{Control, wait};
use crate::cache::Lookup;
use crate::clock;
use crate::entry::{Entry, Usable};
use crate::front::origin::health::Standing;
use crate::front::primary_key::{Effective, compose};
use crate::front::shown::readable;
use crate::front::site::{CacheOutcome, Site};
use crate::policy::hook::Hook;
use crate::policy::keying::{Input, Keyed, Keyer};
use crate::policy::local::Instance;
use crate::policy::refusal::{Refusal, RefusalKind};
use crate::policy::sandbox::FaultKind;

impl Control {
    /// Every count, for scripts.
    pub fn stats(&self) -> Value {
        let table = self.edge.sites.table();
        let sites: Vec<Value> = table
            .sites()
            .iter()
            .map(|site| self.site_stats(site))
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": self.started.elapsed().as_secs(),
            "tiers": self.tiers(),
            "sites": sites,
            "policies": self.policy_stats(),
            "connections": {
                "open": self.open_connections(),
                "accepted": self.edge.metrics.connections.get(),
                "timed_out": self.edge.metrics.connections_timed_out.get(),
            },
            "flights": self.edge.cache.flights.len(),
            "fetches": self.fetch_stats(),
            "waiting_requests": self.edge.cache.flights.waiting(),
            "remembered_keys": self.edge.cache.outcomes.len(),
            "refused_waiters": self.edge.metrics.waiters_refused.get(),
            "refused_requests": self.edge.metrics.refused.get(),
        })
    }

    fn fetch_stats(&self) -> Value {
        let hydration = &self.edge.hydration;
        let (asking, waiting) = hydration.counts();
        json!({
            "places": hydration.places(),
            "asking": asking,
            "waiting": waiting,
            "delayed": hydration.delayed.get(),
            "refused": hydration.refused.get(),
        })
    }

    pub(super) fn open_connections(&self) -> u64 {
        let metrics = &self.edge.metrics;
        metrics
            .connections
            .get()
            .saturating_sub(metrics.connections_closed.get())
    }

    fn site_stats(&self, site: &Site) -> Value {
        let arranged = self.arranged();
        let mut policies = serde_json::Map::new();
        for hook in Hook::ALL {
            let slot = site.hooks.slot(hook);
            let current = slot.current();
            let wanted = arranged.wanted(&site.name, hook);
            let tripped = slot.tripped().map(|tripped| {
                json!({
                    "policy": &*tripped.label,
                    "reason": tripped.trip.as_str(),
                    "faults": tripped.faults,
                })
            });
            policies.insert(
                hook.as_str().to_owned(),
                json!({
                    "active": &*current.label,
                    "params": serde_json::from_str::<Value>(&current.params).unwrap_or(Value::Null),
                    "source": wanted.map_or(WantedBy::File, |wanted| wanted.source).as_str(),
                    "tripped": tripped,
                }),
            );
        }
        drop(arranged);
        let mut counts = serde_json::Map::new();
        let mut requests = 0;
        for outcome in CacheOutcome::ALL {
            let count = site.metrics.outcome(outcome);
            requests += count;
            counts.insert(outcome.as_str().to_owned(), json!(count));
        }
        json!({
            "name": site.name,
            "hosts": site.hosts,
            "origin": site.upstream.origins().to_string(),
            "origin_addresses": addresses(site),
            "origin_standing": site.upstream.outage.standing().as_str(),
            "origin_outages": site.upstream.outage.downs.get(),
            "spared_by_stale": site.metrics.spared.get(),
            "spared_by_refusal": site.metrics.refused.get(),
            "hit_for_miss": site.metrics.beside.get(),
            "requests": requests,
            "hits": site.metrics.outcome(CacheOutcome::Hit),
            "outcomes": counts,
            "origin_requests": site.metrics.origin.requests.get(),
            "origin_failures": site.metrics.origin.failures_sum(),
            "origin_retries": site.metrics.origin.retries.get(),
            "origin_connections": site.metrics.origin.connections_open(),
            "write_policy": site.write_policy.to_string(),
            "stores": site.metrics.stores.get(),
            "store_failures": site.metrics.store_failures.get(),
            "stores_failing": site.metrics.failing(),
            "memory_capacity": site.domain.usage().capacity,
            "policies": policies,
        })
    }

    fn policy_stats(&self) -> Vec<Value> {
        let totals = self.library.ledger().totals();
        totals
            .iter()
            .map(|(label, hook, stats)| {
                let (name, version) = label.split_once('@').unwrap_or((label, ""));
                let faults: serde_json::Map<String, Value> = FaultKind::ALL
                    .iter()
                    .zip(&stats.faults)
                    .map(|(kind, count)| (kind.as_str().to_owned(), json!(count.get())))
                    .collect();
                json!({
                    "name": name,
                    "version": (!version.is_empty()).then_some(version),
                    "hook": hook,
                    "calls": stats.calls.get(),
                    "faults": faults,
                })
            })
            .collect()
    }

    /// Why a GET of `url` with the fields `fields` (`name: value`) would be answered as it would.
    /// Asks the policy without counting the call.
    ///
    /// # Errors
    /// The URL or a field is malformed, or no site answers for it.
    pub fn explain(&self, url: &str, fields: &[String]) -> Result<Value, Refusal> {
        let url = Url::parse(url)?;
        let headers = fields_of(fields)?;
        let table = self.edge.sites.table();
        let site = table
            .find(&url.host)
            .and_then(|position| table.get(position));
        let site = site.ok_or_else(|| {
            let message = format!("no site answers for {}", &url.host);
            let hint = "see the hosts of the sites in the configuration";
            Refusal::new(RefusalKind::NotFound, "unknown_host", message, hint)
        })?;
        let activation = site.hooks.keying.current();
        let input = Input {
            method: "GET",
            authority: &url.authority,
            target: &url.target,
            headers: &headers,
        };
        let (keyed, namespace, fault) = match &activation.policy {
            None => (native_key(), 0, None),
            Some(_) => {
                match Keyer::make(&activation).and_then(|mut keyer| keyer.key(input, &activation)) {
                    Ok(keyed) => (keyed, activation.namespace, None),
                    Err(fault) => (native_key(), 0, Some(fault.to_string())),
                }
            }
        };
        let mut report = json!({
            "url": format!("{}://{}{}", url.scheme.as_str(), url.authority, url.target),
            "site": site.name,
            "keying": { "policy": &*activation.label, "fault": fault },
            "freshness": &*site.hooks.freshness.current().label,
            "eviction": &*site.hooks.eviction.current().label,
        });
        let answer = match keyed {
            Keyed::Pass => json!({
                "verdict": "pass",
                "why": "the keying policy passes this request: neither looked up nor stored",
            }),
            Keyed::Key { target, variant } => {
                let asked = target.as_deref().unwrap_or(&url.target);
                let mut key = Vec::new();
                let effective = Effective {
                    scheme: url.scheme,
                    authority: &url.authority,
                    target: asked,
                };
                compose(&mut key, site, namespace, effective, &variant);
                let key = self.edge.cache.hasher.key(&key);
                let mut answer = json!({
                    "key": String::from_utf8_lossy(&readable(key.bytes)),
                    "asked_of_origin": asked,
                    "variant": variant,
                });
                let cache = &self.edge.cache;
                let examined = wait(cache.examine(&site.domain, key, &headers))?;
                let (lookup, tiers) = examined;
                merge(&mut answer, Self::explain_lookup(&lookup));
                merge(&mut answer, json!({ "tiers": tiers }));
                answer
            }
        };
        merge(&mut report, answer);
        Ok(report)
    }

    fn explain_lookup(lookup: &Lookup) -> Value {
        match lookup {
            Lookup::UriMiss => json!({
                "verdict": "miss", "why": "nothing is stored under this key",
            }),
            Lookup::VaryMiss { .. } => json!({
                "verdict": "miss",
                "why": "responses are stored for this URL, none for these values of the fields in Vary",
            }),
            Lookup::Found(entry) => explain_entry(entry),
        }
    }
}

fn explain_entry(entry: &Entry) -> Value {
    if let Some(partial) = entry.partial() {
        let (lifetime, now) = (&partial.lifetime, clock::now());
        return json!({
            "verdict": "partial",
            "why": "only parts of it are stored: ranges within them are answered while they are \
                    fresh, everything else is fetched",
            "bytes": partial.parts.len(),
            "age_s": lifetime.age(now).as_secs(),
            "lifetime_s": lifetime.fresh_for.as_secs(),
            "remaining_s": lifetime.remaining(now).as_secs(),
            "lifetime_decided_by": &*partial.decided_by,
        });
    }
    let Some(stored) = entry.response() else {
        return Value::Null;
    };
    let lifetime = &stored.lifetime;
    let now = clock::now();
    let (verdict, why) = match lifetime.judge(now) {
        Usable::Fresh { .. } => ("hit", "it is fresh"),
        Usable::StaleWhileRevalidate { .. } => (
            "stale",
            "it is stale, and served while it is validated in the background",
        ),
        Usable::Stale { on_error: true, .. } => (
            "validate",
            "it is stale, and served only after the origin confirms it or fails",
        ),
        Usable::Stale { .. } => (
            "validate",
            "it may be served only after the origin confirms it",
        ),
    };
    json!({
        "verdict": verdict,
        "why": why,
        "status": stored.status.as_u16(),
        "bytes": stored.body.len(),
        "age_s": lifetime.age(now).as_secs(),
        "lifetime_s": lifetime.fresh_for.as_secs(),
        "remaining_s": lifetime.remaining(now).as_secs(),
        "stale_while_revalidate_s": lifetime.stale_while_revalidate.as_secs(),
        "stale_if_error_s": lifetime.stale_if_error.as_secs(),
        "lifetime_decided_by": &*stored.decided_by,
    })
}

/// The addresses of the site's origin, each with how it stands.
fn addresses(site: &Site) -> Vec<String> {
    let standings = site.upstream.standings();
    let shown = standings.iter().map(|(address, standing)| {
        let word = match standing {
            Standing::Up => "up",
            Standing::Due | Standing::Down(_) => "down",
        };
        format!("{address} {word}")
    });
    shown.collect()
}

fn native_key() -> Keyed {
    Keyed::Key {
        target: None,
        variant: String::new(),
    }
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

fn fields_of(lines: &[String]) -> Result<HeaderMap, Refusal> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let parsed = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        let (name, value) = parsed.ok_or_else(|| {
            let message = format!("{line:?} is not a field");
            Refusal::new(
                RefusalKind::Malformed,
                "bad_field",
                message,
                "write it as 'name: value'",
            )
        })?;
        headers.append(name, value);
    }
    Ok(headers)
}

//! What the tiers tell of themselves, in the order of the chain: one list, shown as JSON and as
//! metrics.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Control;
use crate::cache::chain::MEMORY;
use crate::cache::lower::Member;
use crate::metrics::Exposition;
use crate::tier::Usage;
use crate::tier::memory::stats::Stats;
use crate::tier::slow::Figure;

/// How a tier is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierState {
    /// Its name.
    pub name: &'static str,
    /// The word for it.
    pub state: &'static str,
    /// Why it is not online.
    pub reason: Option<String>,
    /// Bytes that it may use; none if nothing bounds them.
    pub capacity: Option<u64>,
}

/// What one tier tells.
struct Told {
    tier: &'static str,
    state: (&'static str, Option<String>),
    usage: Usage,
    /// Names in reports, and help. `lookups` is the sum of `hits`, `misses` and `errors`.
    counts: [(&'static str, &'static str, u64); 7],
    /// By reason; of the memory tier with the bytes.
    evictions: Vec<(&'static str, u64, Option<u64>)>,
    figures: Vec<Figure>,
}

impl Control {
    /// The tiers, in chain order.
    pub(super) fn tiers(&self) -> Value {
        self.told().iter().map(Told::to_json).collect()
    }

    /// The same as metrics.
    pub(super) fn tier_metrics(&self, out: &mut Exposition) {
        let told = self.told();
        for (position, (name, help, _)) in
            told.iter().flat_map(|tier| tier.counts).take(7).enumerate()
        {
            let name = format!("larder_tier_{name}_total");
            out.counters(&name, help);
            for tier in &told {
                let value = tier.counts.get(position).map_or(0, |(.., value)| *value);
                out.sample(&name, &[("tier", tier.tier)], value);
            }
        }
        for (name, help, value) in SIZES {
            out.gauges(name, help);
            for tier in &told {
                out.sample(name, &[("tier", tier.tier)], value(&tier.usage));
            }
        }
        evictions(out, &told);
        let mut figures: BTreeMap<&str, Vec<(&str, Figure)>> = BTreeMap::new();
        for (tier, figure) in told
            .iter()
            .flat_map(|told| told.figures.iter().map(|figure| (told.tier, *figure)))
        {
            figures.entry(figure.name).or_default().push((tier, figure));
        }
        for (name, figures) in figures {
            expose(out, name, &figures);
        }
        self.tier_times(out);
    }

    /// What was waited for below memory; in memory nothing is.
    fn tier_times(&self, out: &mut Exposition) {
        let members = self.edge.cache.lower.members();
        let name = "larder_tier_lookup_duration_seconds";
        out.histograms(name, "Time that a lookup was waited for, by outcome.");
        for member in members {
            let counts = &member.counts;
            for (outcome, times) in [
                ("hit", &counts.hit_time),
                ("miss", &counts.miss_time),
                ("error", &counts.error_time),
            ] {
                let labels = [("tier", member.tier.name()), ("outcome", outcome)];
                out.histogram(name, &labels, times);
            }
        }
        let name = "larder_tier_write_duration_seconds";
        out.histograms(name, "Time that a write to the device or the store took.");
        for member in members {
            let labels = [("tier", member.tier.name())];
            out.histogram(name, &labels, member.tier.write_time());
        }
    }

    /// How each tier is, in chain order.
    pub fn tier_states(&self) -> Vec<TierState> {
        let (usage, _) = self.memory();
        let memory = TierState {
            name: MEMORY,
            state: "online",
            reason: None,
            capacity: Some(usage.capacity),
        };
        let below = self.edge.cache.lower.members().iter().map(|member| {
            let (health, capacity) = (member.tier.health(), member.tier.usage().capacity);
            TierState {
                name: member.tier.name(),
                state: health.as_str(),
                reason: health.reason().map(str::to_owned),
                // What is unbounded has none.
                capacity: (capacity < u64::MAX).then_some(capacity),
            }
        });
        std::iter::once(memory).chain(below).collect()
    }

    /// The sites whose latest store failed by their write policy, each with the tiers that did.
    pub fn failing_stores(&self) -> Vec<(String, Vec<&'static str>)> {
        let table = self.edge.sites.table();
        let failing = table.sites().iter().map(|site| {
            let tiers = site.metrics.failing();
            (site.name.clone(), tiers)
        });
        failing.filter(|(_, tiers)| !tiers.is_empty()).collect()
    }

    fn told(&self) -> Vec<Told> {
        let lower = &self.edge.cache.lower;
        let (usage, stats) = self.memory();
        let memory = Told::memory(usage, &stats, lower.promoted.get());
        std::iter::once(memory)
            .chain(lower.members().iter().map(Told::lower))
            .collect()
    }

    fn memory(&self) -> (Usage, Stats) {
        let (mut usage, mut stats) = (Usage::default(), Stats::default());
        for domain in self.edge.sites.table().domains() {
            usage += domain.usage();
            stats += domain.stats();
        }
        (usage, stats)
    }
}

/// The share of `hits` in those and `misses`, to four places; null without any.
pub(super) fn ratio(hits: u64, misses: u64) -> Value {
    let all = u128::from(hits) + u128::from(misses);
    let share = (u128::from(hits) * 10_000).checked_div(all);
    let share = share.and_then(|share| u32::try_from(share).ok());
    json!(share.map(|share| f64::from(share) / 10_000.0))
}

/// The sizes that every tier has.
const SIZES: [(&str, &str, fn(&Usage) -> u64); 3] = [
    ("larder_tier_bytes", "Bytes in use.", |usage| usage.bytes),
    (
        "larder_tier_capacity_bytes",
        "Bytes that may be used; 0 where nothing bounds them.",
        |usage| usage.capacity,
    ),
    ("larder_tier_entries", "Entries.", |usage| usage.entries),
];

fn counts(values: [u64; 6]) -> [(&'static str, &'static str, u64); 7] {
    let [hits, misses, errors, writes, write_failures, backfills] = values;
    [
        ("lookups", "Lookups.", hits + misses + errors),
        ("hits", "Lookups that found an entry.", hits),
        ("misses", "Lookups that found none.", misses),
        ("errors", "Lookups that failed.", errors),
        ("writes", "Entries stored.", writes),
        (
            "write_failures",
            "Entries not stored although the tier should have.",
            write_failures,
        ),
        ("backfills", "Entries copied from a slower tier.", backfills),
    ]
}

impl Told {
    fn memory(usage: Usage, stats: &Stats, promoted: u64) -> Self {
        let rejected = stats.rejected_too_large + stats.rejected_no_room + stats.rejected_disabled;
        let evictions = stats.evictions();
        Self {
            tier: MEMORY,
            state: ("online", None),
            usage,
            counts: counts([
                stats.hits,
                stats.misses,
                0,
                stats.puts,
                stats.rejected_no_room,
                promoted,
            ]),
            evictions: evictions
                .map(|(reason, evicted)| (reason.as_str(), evicted.entries, Some(evicted.bytes)))
                .collect(),
            figures: vec![
                Figure::size(
                    "reserved_bytes",
                    "Bytes set aside for responses that are arriving.",
                    usage.reserved,
                ),
                Figure::size(
                    "guest_memory_bytes",
                    "Memory of eviction policies.",
                    usage.guest_memory,
                ),
                Figure::count("rejected", "Entries that the tier did not take.", rejected),
                Figure::count(
                    "rejected_too_large",
                    "Entries too large for the tier.",
                    stats.rejected_too_large,
                ),
                Figure::count(
                    "superseded",
                    "Stores that a purge overtook.",
                    stats.superseded,
                ),
                Figure::count(
                    "lost_events",
                    "Hits that no policy was told of.",
                    stats.lost_events,
                ),
                Figure::count(
                    "resyncs",
                    "Policies told of all residents anew.",
                    stats.resyncs,
                ),
                Figure::count(
                    "wrong_answers",
                    "Wrong lists of victims.",
                    stats.wrong_answers,
                ),
                Figure::count(
                    "shard_resets",
                    "Parts of shards emptied after a panic.",
                    stats.shard_resets,
                ),
            ],
        }
    }

    fn lower(member: &Member) -> Self {
        let health = member.tier.health();
        let asked = &member.counts;
        Self {
            tier: member.tier.name(),
            state: (health.as_str(), health.reason().map(str::to_owned)),
            usage: member.tier.usage(),
            counts: counts([
                asked.hits.get(),
                asked.misses.get(),
                asked.errors.get(),
                asked.writes.get(),
                asked.write_failures.get(),
                asked.backfills.get(),
            ]),
            evictions: member
                .tier
                .evictions()
                .into_iter()
                .map(|(reason, entries)| (reason, entries, None))
                .collect(),
            figures: member.tier.figures(),
        }
    }

    fn to_json(&self) -> Value {
        let mut told = Map::new();
        let (state, reason) = &self.state;
        told.insert("name".to_owned(), json!(self.tier));
        told.insert("state".to_owned(), json!(state));
        told.insert("reason".to_owned(), json!(reason));
        told.insert("entries".to_owned(), json!(self.usage.entries));
        told.insert("bytes".to_owned(), json!(self.usage.bytes));
        // What is unbounded has no capacity.
        let capacity = (self.usage.capacity < u64::MAX).then_some(self.usage.capacity);
        told.insert("capacity".to_owned(), json!(capacity));
        for (name, _, value) in self.counts {
            told.insert(name.to_owned(), json!(value));
        }
        let count = |wanted| {
            let found = self.counts.iter().find(|(name, ..)| *name == wanted);
            found.map_or(0, |(.., value)| *value)
        };
        // An error says nothing of what the tier holds.
        told.insert(
            "hit_ratio".to_owned(),
            ratio(count("hits"), count("misses")),
        );
        let evictions: Map<String, Value> = self
            .evictions
            .iter()
            .map(|(reason, entries, _)| ((*reason).to_owned(), json!(entries)))
            .collect();
        told.insert("evictions".to_owned(), Value::Object(evictions));
        for figure in &self.figures {
            told.insert(figure.name.to_owned(), json!(figure.value));
        }
        Value::Object(told)
    }
}

fn evictions(out: &mut Exposition, told: &[Told]) {
    out.counters(
        "larder_evictions_total",
        "Entries that left a tier, by reason.",
    );
    for tier in told {
        for (reason, entries, _) in &tier.evictions {
            let labels = [("tier", tier.tier), ("reason", *reason)];
            out.sample("larder_evictions_total", &labels, *entries);
        }
    }
    out.counters(
        "larder_evicted_bytes_total",
        "Bytes that left a tier, by reason.",
    );
    for tier in told {
        for (reason, _, bytes) in &tier.evictions {
            let labels = [("tier", tier.tier), ("reason", *reason)];
            if let Some(bytes) = bytes {
                out.sample("larder_evicted_bytes_total", &labels, *bytes);
            }
        }
    }
}

fn expose(out: &mut Exposition, name: &str, figures: &[(&str, Figure)]) {
    let Some((_, first)) = figures.first() else {
        return;
    };
    let name = match (name, first.is_count) {
        // Policies of every hook have memory; this is the part of it that a tier knows.
        ("guest_memory_bytes", _) => "larder_policy_memory_bytes".to_owned(),
        (name, true) => format!("larder_tier_{name}_total"),
        (name, false) => format!("larder_tier_{name}"),
    };
    match first.is_count {
        true => out.counters(&name, first.help),
        false => out.gauges(&name, first.help),
    }
    for (tier, figure) in figures {
        out.sample(&name, &[("tier", tier)], figure.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_lookup_there_is_no_ratio() {
        for (hits, misses, expected) in [
            (0, 0, Value::Null),
            (0, 5, json!(0.0)),
            (5, 0, json!(1.0)),
            (1, 2, json!(0.3333)),
            (u64::MAX, u64::MAX, json!(0.5)),
        ] {
            assert_eq!(ratio(hits, misses), expected, "{hits} {misses}");
        }
    }
}

//! Which policy runs where, and which memory each site has: worked out as a plan, then applied.
//!
//! Sites whose eviction policy and parameters are equal share one memory domain. A domain keeps
//! its entries when its policy is swapped; a site that leaves a domain which others stay in starts
//! with an empty share of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::HeaderValue;
use serde_json::{Map, Value, json};

use crate::config::{self, ByteSize, Config, PolicyChoice, Unusable};
use crate::entry::SiteId;
use crate::front::origin::upstream::Upstream;
use crate::front::site::{Site, SiteHooks, SiteMetrics, SiteTable};
use crate::front::worker::Edge;
use crate::policy::activation::{Activation, HookSlot, OnChange};
use crate::policy::evictor::GuestSource;
use crate::policy::hook::Hook;
use crate::policy::library::Library;
use crate::policy::refusal::Refusal;
use crate::policy::state::{Effective, Record, StateError, Table, effective};
use crate::tier::eviction::OrderSource;
use crate::tier::memory::{Domain, DomainSettings, Shards};

/// Bytes of capacity for each entry that a domain may hold: fewer than any entry is charged, so
/// that bytes are what runs out.
const BYTES_PER_ENTRY: u64 = 512;

/// Why a configuration cannot be put in effect.
#[derive(Debug, thiserror::Error)]
pub enum NotArranged {
    /// A policy that the configuration names cannot run.
    #[error(transparent)]
    Configured(Unusable),
    /// What an operator asked for cannot run.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be written down.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<NotArranged> for Refusal {
    fn from(error: NotArranged) -> Self {
        match error {
            NotArranged::Refused(refusal) => refusal,
            other => Self::unacceptable("not_in_effect", other.to_string(), "see the message"),
        }
    }
}

/// What is in effect.
#[derive(Debug, Default)]
pub(super) struct Arranged {
    /// The configuration it came from.
    pub(super) config: Config,
    sites: BTreeMap<String, Arc<Site>>,
    /// What was asked for at each hook; a policy that was taken out of service may not run there.
    wanted: BTreeMap<(String, Hook), Wanted>,
}

/// A policy with parameters, asked for at a hook.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    /// `name@version`, or `native:...`.
    policy: String,
    params: Map<String, Value>,
    /// Who asked.
    pub(super) source: WantedBy,
}

/// Who asked for a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WantedBy {
    /// The configuration.
    File,
    /// An operator, by `use` or `rollback`.
    Operator,
}

impl WantedBy {
    /// The word in reports.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Operator => "use",
        }
    }
}

/// What the configuration says for `hook`, as it is written down beside an activation.
pub fn file_value(site: &config::Site, hook: Hook) -> Value {
    let choice = choice(site, hook);
    json!({ "name": choice.name, "version": choice.version, "params": choice.params })
}

fn choice(site: &config::Site, hook: Hook) -> &PolicyChoice {
    match hook {
        Hook::Keying => &site.policy.keying,
        Hook::Freshness => &site.policy.freshness,
        Hook::Eviction => &site.policy.eviction,
    }
}

/// What will be in effect.
#[derive(Debug, Default)]
pub(super) struct Plan {
    wanted: BTreeMap<(String, Hook), Wanted>,
    /// Activations of what is wanted and did not run before.
    new: BTreeMap<(String, Hook), Arc<Activation>>,
    domains: Vec<PlannedDomain>,
    /// Names that the file leaves to be resolved, with what they stand for from now on.
    pins: Vec<(String, Hook, Record)>,
    /// The servers of each site.
    upstreams: Vec<Arc<Upstream>>,
}

#[derive(Debug)]
struct PlannedDomain {
    /// Positions of its sites in the configuration; never none.
    sites: Vec<usize>,
    capacity: u64,
}

impl Plan {
    /// Writes down what bare names stand for. Whether there were any.
    pub(super) fn pin(&self, table: &mut Table) -> bool {
        for (site, hook, record) in &self.pins {
            table.activate(site, *hook, record.clone());
        }
        !self.pins.is_empty()
    }
}

impl Arranged {
    /// What runs at a hook, by name.
    pub(super) fn label(&self, site: &str, hook: Hook) -> String {
        self.sites.get(site).map_or_else(
            || hook.native().to_owned(),
            |site| site.hooks.slot(hook).current().label.to_string(),
        )
    }

    /// What was asked for at a hook.
    pub(super) fn wanted(&self, site: &str, hook: Hook) -> Option<&Wanted> {
        self.wanted.get(&(site.to_owned(), hook))
    }

    /// Whether `label` runs, or was asked for, anywhere.
    pub(super) fn uses(&self, label: &str) -> bool {
        let runs = |site: &Arc<Site>| {
            Hook::ALL
                .into_iter()
                .any(|hook| *site.hooks.slot(hook).current().label == *label)
        };
        self.wanted.values().any(|wanted| wanted.policy == label) || self.sites.values().any(runs)
    }

    /// Works out what `config` and the operators' activations in `table` come to. `changing` is
    /// the hook that an operator is changing now: it is made anew even if it runs already, and if
    /// it cannot run the plan is refused. Any other activation that cannot run any more gives way
    /// to what the file says, because a policy must not keep the edge from starting.
    pub(super) fn plan(
        &self,
        config: &Config,
        table: &Table,
        library: &Library,
        changing: Option<(&str, Hook)>,
    ) -> Result<Plan, NotArranged> {
        let mut plan = Plan::default();
        for (position, site) in config.sites.iter().enumerate() {
            let before = self.sites.get(&site.name).map(|site| &site.upstream);
            plan.upstreams.push(match (changing, before) {
                // Who changes a policy changes nothing else, whatever files say by now.
                (Some(_), Some(before)) => Arc::clone(before),
                _ => Upstream::new(position, site, before).map_err(NotArranged::Configured)?,
            });
            for hook in Hook::ALL {
                let changes = changing == Some((site.name.as_str(), hook));
                let value = file_value(site, hook);
                let operators = match effective(&value, table.record(&site.name, hook)) {
                    Effective::FromState(record) => Some(Wanted {
                        policy: record.policy.clone(),
                        params: record.params.clone(),
                        source: match is_pin(choice(site, hook), record) {
                            true => WantedBy::File,
                            false => WantedBy::Operator,
                        },
                    }),
                    Effective::FromFile => None,
                };
                let place = (site.name.clone(), hook);
                let made = operators.map(|wanted| {
                    let made = self.make(&place, &wanted, library, changes);
                    made.map(|made| (wanted, made))
                });
                let (wanted, made) = match made {
                    Some(Ok(made)) => made,
                    Some(Err(refusal)) if changes => return Err(refusal.into()),
                    given_up => {
                        if let Some(Err(refusal)) = given_up {
                            tracing::error!(
                                site = %site.name, hook = hook.as_str(), %refusal,
                                "what was in use cannot run any more; the configuration applies"
                            );
                        }
                        let wanted = from_file(library, site, position, hook, &mut plan.pins)?;
                        let made = self.make(&place, &wanted, library, changes);
                        let made = made.map_err(|refusal| unusable(position, hook, &refusal))?;
                        (wanted, made)
                    }
                };
                if let Some(made) = made {
                    plan.new.insert(place.clone(), made);
                }
                plan.wanted.insert(place, wanted);
            }
        }
        plan.domains = domains(config, &plan.wanted);
        Ok(plan)
    }

    /// The activation of `wanted`; none if it runs at `place` already, or was taken out of service
    /// there, and need not be made `anew`.
    fn make(
        &self,
        place: &(String, Hook),
        wanted: &Wanted,
        library: &Library,
        anew: bool,
    ) -> Result<Option<Arc<Activation>>, Refusal> {
        let runs = self
            .wanted
            .get(place)
            .is_some_and(|runs| runs.policy == wanted.policy && runs.params == wanted.params);
        if runs && !anew {
            return Ok(None);
        }
        library
            .activation(place.1, &wanted.policy, &wanted.params)
            .map(Some)
    }

    /// Puts `plan` in effect.
    pub(super) fn apply(
        &mut self,
        mut plan: Plan,
        config: &Config,
        edge: &Arc<Edge>,
        library: &Library,
    ) {
        let mut sites: Vec<Option<Arc<Site>>> = vec![None; config.sites.len()];
        let mut claimed: Vec<Arc<Domain>> = Vec::new();
        for planned in &plan.domains {
            let members: Vec<(usize, &config::Site)> = planned
                .sites
                .iter()
                .filter_map(|position| Some((*position, config.sites.get(*position)?)))
                .collect();
            let (domain, slot) = self.domain(planned, &members, &plan, &claimed, library);
            claimed.push(Arc::clone(&domain));
            for (position, configured) in members {
                let Some(upstream) = plan.upstreams.get(position) else {
                    continue;
                };
                let name = &configured.name;
                let id = SiteId::of(name);
                let before = self.sites.get(name);
                let mut hook = |hook| {
                    let new = plan.new.remove(&(name.clone(), hook));
                    keep_or_activate(before, hook, new, library)
                };
                let hooks = SiteHooks {
                    keying: hook(Hook::Keying),
                    freshness: hook(Hook::Freshness),
                    eviction: Arc::clone(&slot),
                };
                let metrics = before.map_or_else(Arc::default, |site| Arc::clone(&site.metrics));
                let parts = (Arc::clone(&domain), metrics, Arc::clone(upstream));
                let site = site(id, configured, hooks, parts);
                if let Some(place) = sites.get_mut(position) {
                    *place = Some(Arc::new(site));
                }
            }
        }
        let sites: Vec<Arc<Site>> = sites.into_iter().flatten().collect();
        let before = std::mem::take(&mut self.sites);
        self.sites = sites
            .iter()
            .map(|site| (site.name.clone(), Arc::clone(site)))
            .collect();
        edge.sites.publish(SiteTable::new(sites));
        self.leave(before, edge);
        self.wanted = plan.wanted;
        self.config = config.clone();
    }

    /// The domain for `members`: one that none but them is in, or that runs their policy already;
    /// otherwise a new one.
    fn domain(
        &self,
        planned: &PlannedDomain,
        members: &[(usize, &config::Site)],
        plan: &Plan,
        claimed: &[Arc<Domain>],
        library: &Library,
    ) -> (Arc<Domain>, Arc<HookSlot>) {
        let is_member = |name: &str| members.iter().any(|(_, member)| member.name == name);
        let activation = members
            .iter()
            .find_map(|(_, member)| plan.new.get(&(member.name.clone(), Hook::Eviction)));
        let fits = |site: &&Arc<Site>| {
            let free = !claimed
                .iter()
                .any(|domain| Arc::ptr_eq(domain, &site.domain));
            let alone = self
                .sites
                .values()
                .filter(|other| Arc::ptr_eq(&other.domain, &site.domain))
                .all(|other| is_member(&other.name));
            let same = !plan.new.contains_key(&(site.name.clone(), Hook::Eviction));
            free && (alone || same)
        };
        let old = members
            .iter()
            .filter_map(|(_, member)| self.sites.get(&member.name))
            .find(fits);
        if let Some(old) = old {
            let (domain, slot) = (Arc::clone(&old.domain), Arc::clone(&old.hooks.eviction));
            if domain.usage().capacity != planned.capacity {
                domain.set_capacity(planned.capacity);
            }
            if let Some(activation) = plan.new.get(&(old.name.clone(), Hook::Eviction)) {
                slot.activate(activation);
            }
            return (domain, slot);
        }
        let first = match (activation, members.first()) {
            (Some(activation), _) => Arc::clone(activation),
            // A site moved in with others; what it ran goes with it.
            (None, Some((_, member))) => self.sites.get(&member.name).map_or_else(
                || Activation::native(Hook::Eviction),
                |site| site.hooks.eviction.current(),
            ),
            (None, None) => Activation::native(Hook::Eviction),
        };
        let name = members
            .first()
            .map_or_else(String::new, |(_, member)| member.name.clone());
        new_domain(name, planned.capacity, first, library)
    }

    /// Purges sites from the domains that they have left, and ends domains that nobody is in.
    fn leave(&self, before: BTreeMap<String, Arc<Site>>, edge: &Arc<Edge>) {
        let domains = edge.sites.table().domains();
        for site in before.into_values() {
            let stays = self.sites.get(&site.name);
            if stays.is_some_and(|now| Arc::ptr_eq(&now.domain, &site.domain)) {
                continue;
            }
            edge.cache.leave(&site.domain, site.id);
            if !domains
                .iter()
                .any(|domain| Arc::ptr_eq(domain, &site.domain))
            {
                site.domain.stop();
            }
        }
    }
}

/// Whether `record` only notes what a bare name of the file stands for.
fn is_pin(choice: &PolicyChoice, record: &Record) -> bool {
    let name = record.policy.split('@').next().unwrap_or_default();
    choice.version.is_none() && choice.name == name && choice.params == record.params
}

fn from_file(
    library: &Library,
    site: &config::Site,
    position: usize,
    hook: Hook,
    pins: &mut Vec<(String, Hook, Record)>,
) -> Result<Wanted, NotArranged> {
    let choice = choice(site, hook);
    let params = choice.params.clone();
    if choice.is_native() {
        return Ok(Wanted {
            policy: choice.name.clone(),
            params,
            source: WantedBy::File,
        });
    }
    let id = library
        .resolve(&choice.to_string())
        .map_err(|refusal| unusable(position, hook, &refusal))?;
    let policy = id.to_string();
    let uploaded = library.is_uploaded(&id);
    if choice.version.is_none() && uploaded {
        // From now on this version, also after a restart: pushing a newer one activates nothing.
        let file_value = file_value(site, hook);
        let record = Record {
            policy: policy.clone(),
            params: params.clone(),
            file_value,
        };
        pins.push((site.name.clone(), hook, record));
    }
    Ok(Wanted {
        policy,
        params,
        source: WantedBy::File,
    })
}

fn unusable(position: usize, hook: Hook, refusal: &Refusal) -> NotArranged {
    NotArranged::Configured(Unusable {
        key: format!("site[{position}].policy.{hook}"),
        clause: format!("{}; {}", refusal.message, refusal.hint),
    })
}

/// Divides the memory among sites with equal eviction policy and parameters.
fn domains(config: &Config, wanted: &BTreeMap<(String, Hook), Wanted>) -> Vec<PlannedDomain> {
    let asked: Vec<(_, Option<ByteSize>)> = config
        .sites
        .iter()
        .map(|site| {
            let wanted = wanted.get(&(site.name.clone(), Hook::Eviction));
            (
                wanted.map(|wanted| (&wanted.policy, &wanted.params)),
                site.memory,
            )
        })
        .collect();
    config::shares(config.memory.capacity, &asked)
        .into_iter()
        .map(|share| PlannedDomain {
            sites: share.sites,
            capacity: share.capacity.bytes(),
        })
        .collect()
}

fn keep_or_activate(
    before: Option<&Arc<Site>>,
    hook: Hook,
    new: Option<Arc<Activation>>,
    library: &Library,
) -> Arc<HookSlot> {
    match (before, new) {
        (Some(site), None) => Arc::clone(site.hooks.slot(hook)),
        (Some(site), Some(new)) => {
            let slot = Arc::clone(site.hooks.slot(hook));
            slot.activate(&new);
            slot
        }
        (None, new) => {
            let first = new.unwrap_or_else(|| Activation::native(hook));
            let slot = Arc::new(HookSlot::new(first));
            watch(&slot, library, |_| {});
            slot
        }
    }
}

/// Has the counts of every later activation of `slot` kept, and `changed` called.
fn watch(
    slot: &HookSlot,
    library: &Library,
    changed: impl Fn(&Arc<Activation>) + Send + Sync + 'static,
) {
    let ledger = library.ledger();
    slot.notify(OnChange(Box::new(move |activation| {
        ledger.enter(activation);
        changed(activation);
    })));
}

fn new_domain(
    name: String,
    capacity: u64,
    first: Arc<Activation>,
    library: &Library,
) -> (Arc<Domain>, Arc<HookSlot>) {
    let max_entries = u32::try_from(capacity / BYTES_PER_ENTRY).unwrap_or(u32::MAX);
    let settings = DomainSettings {
        name,
        capacity,
        max_entries,
        shards: Shards::Auto,
    };
    let domain = Arc::new(Domain::new(settings));
    let slot = Arc::new(HookSlot::new(first));
    domain.set_order(order_source(&slot));
    let (weak_domain, weak_slot) = (Arc::downgrade(&domain), Arc::downgrade(&slot));
    watch(&slot, library, move |_| {
        if let (Some(domain), Some(slot)) = (weak_domain.upgrade(), Weak::upgrade(&weak_slot)) {
            domain.set_order(order_source(&slot));
        }
    });
    (domain, slot)
}

fn order_source(slot: &Arc<HookSlot>) -> Option<Arc<dyn OrderSource>> {
    let guest = slot.current().policy.is_some();
    guest.then(|| -> Arc<dyn OrderSource> { Arc::new(GuestSource::new(Arc::clone(slot))) })
}

fn site(
    id: SiteId,
    configured: &config::Site,
    hooks: SiteHooks,
    (domain, metrics, upstream): (Arc<Domain>, Arc<SiteMetrics>, Arc<Upstream>),
) -> Site {
    let ttl = |ttl: Option<config::TimeSpan>| ttl.map(config::TimeSpan::duration);
    let longest = Duration::from_millis(crate::policy::freshness::LIFETIME_MAX_MS);
    let ttl_max = ttl(configured.ttl_max).unwrap_or(longest);
    let ttl_min = ttl(configured.ttl_min).unwrap_or_default();
    Site {
        id,
        name: configured.name.clone(),
        hosts: configured.hosts.clone(),
        origin: upstream
            .servers()
            .first()
            .map(config::Origin::authority)
            .unwrap_or_default(),
        host: configured
            .host
            .as_deref()
            .and_then(|host| HeaderValue::from_str(host).ok()),
        forward: configured.forward,
        compress: configured.compress.clone(),
        honour: configured.honour,
        bounds: crate::rfc9111::freshness::Bounds {
            by_status: config::by_status(&configured.status_ttl, ttl_min, ttl_max),
            default_ttl: ttl(configured.default_ttl),
            stale_while_revalidate: ttl(configured.stale_while_revalidate),
            stale_if_error: ttl(configured.stale_if_error),
            ttl_max,
        },
        ttl_min,
        write_policy: configured.write_policy,
        hit_for_miss: configured.hit_for_miss.duration(),
        hooks,
        domain,
        metrics,
        upstream,
    }
}

//! Everything an operator can do to a running edge, whatever carries the request: activate and
//! roll back policies, purge, explain, read the counts, reload.
//!
//! Changes are made one at a time: what is wanted is worked out and tried first, written down,
//! and only then put in effect, so that a refused change leaves everything as it was.

mod arrangement;
mod entries;
mod exposition;
mod purge;
mod report;
mod scrub;
mod storage;
mod tiers;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde_json::{Map, Value};

pub use arrangement::{NotArranged, file_value};
pub use entries::ListRequest;
pub use purge::PurgeRequest;
pub use storage::disk_capacity;
pub use tiers::TierState;

use crate::cache::hydration::Hydration;
use crate::clock;
use crate::config::{Access, Config, Count, Unusable};
use crate::front::access_log::AccessLog;
use crate::front::origin::Deadlines;
use crate::front::recorder::Recorder;
use crate::front::site::{Site, Sites};
use crate::front::worker::{Edge, RequestLimits};
use crate::policy::hook::Hook;
use crate::policy::inspect;
use crate::policy::library::{Library, PolicyLimits, PushReport};
use crate::policy::refusal::{Refusal, RefusalKind};
use crate::policy::registry::{Listed, PolicyId};
use crate::policy::sandbox::Limits;
use crate::policy::state::{Activations, Record, Table};
use arrangement::Arranged;

/// A running edge, as its operator sees it.
#[derive(Debug)]
pub struct Control {
    edge: Arc<Edge>,
    library: Library,
    activations: Activations,
    /// What is in effect. Held for writing only while a change that was worked out is put in.
    arranged: RwLock<Arranged>,
    /// Held by whoever makes a change, from working it out to putting it in effect.
    changing: Mutex<()>,
    started: Instant,
    /// Keeps other processes out of the data directory.
    _lock: Option<File>,
}

/// A change of what runs at a hook.
#[derive(Clone, Debug, Serialize)]
pub struct Changed {
    /// The site.
    pub site: String,
    /// The hook.
    pub hook: Hook,
    /// What runs now.
    pub active: String,
    /// What ran before.
    pub previous: String,
    /// Counts every change of every site.
    pub generation: u64,
}

impl Control {
    /// Opens the policies and builds the sites of `config`. Nothing listens yet.
    ///
    /// # Errors
    /// A directory cannot be used, or a policy that the configuration names cannot run.
    pub fn open(config: &Config) -> anyhow::Result<Arc<Self>> {
        let data_dir = config.data_dir.as_deref();
        let lock = data_dir.map(take).transpose()?;
        let limits = &config.limits;
        let component_bytes = limits.policy_upload.length();
        let library = Library::open(
            data_dir,
            PolicyLimits {
                upload: inspect::Limits {
                    component_bytes,
                    ..inspect::Limits::default()
                },
                instance: Limits {
                    memory: limits.policy_memory.bytes(),
                    deadline: limits.policy_deadline.duration(),
                },
            },
        )?;
        let edge = Edge {
            cache: storage::open(config)?,
            sites: Sites::default(),
            hydration: Hydration::new(limits.fetches.length()),
            limits: RequestLimits {
                target: limits.target.length(),
                body: limits.request_body.bytes(),
                waiters: limits.waiters.map_or(usize::MAX, Count::length),
            },
            deadlines: Deadlines {
                connect: limits.connect.duration(),
                first_byte: limits.first_byte.duration(),
                idle: limits.origin_idle.duration(),
            },
            trusted: config.trusted.clone(),
            purgers: config.purge.allow.clone(),
            access_log: match config.log.access {
                Access::Off => None,
                Access::Json => Some(AccessLog::start()?),
            },
            recorder: recorder(config)?,
            loop_mark: crate::front::worker::loop_mark(),
            metrics: crate::front::worker::EdgeMetrics::default(),
        };
        let control = Arc::new(Self {
            edge: Arc::new(edge),
            library,
            activations: Activations::open(data_dir)?,
            arranged: RwLock::default(),
            changing: Mutex::default(),
            started: clock::instant(),
            _lock: lock,
        });
        control.reload(config)?;
        Ok(control)
    }

    /// What the workers share.
    pub fn edge(&self) -> &Arc<Edge> {
        &self.edge
    }

    /// Takes the sites, policies and memory sizes of `config` over. Addresses, limits and the data
    /// directory are those of the start.
    ///
    /// # Errors
    /// A policy cannot run; nothing was changed.
    pub fn reload(&self, config: &Config) -> Result<(), NotArranged> {
        let _changing = self.changing();
        let mut table = self.activations.table();
        let plan = self.arranged().plan(config, &table, &self.library, None)?;
        if plan.pin(&mut table) {
            self.activations.commit(table)?;
        }
        self.rearrange()
            .apply(plan, config, &self.edge, &self.library);
        let table = self.edge.sites.table();
        storage::follow(config, &self.edge.cache, table.sites());
        Ok(())
    }

    /// Stores a policy. Blocks while it is compiled.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn push(&self, name: &str, wasm: &[u8]) -> Result<PushReport, Refusal> {
        self.library.push(name, wasm)
    }

    /// Every policy.
    pub fn policies(&self) -> Vec<Listed> {
        self.library.list()
    }

    /// Deletes a policy that nothing uses.
    ///
    /// # Errors
    /// It is unknown, shipped or in use.
    pub fn delete(&self, id: &PolicyId) -> Result<(), Refusal> {
        let _changing = self.changing();
        let arranged = self.arranged();
        let table = self.activations.table();
        self.library.delete(id, |id| {
            let label = id.to_string();
            arranged.uses(&label) || table.is_recorded(&label)
        })
    }

    /// Puts `policy` (a name, `name@version` or `native:...`) with `params` in effect at a hook of
    /// `site`; the only hook that the policy offers, if none is named. Blocks while it is compiled.
    ///
    /// # Errors
    /// The site or policy is unknown, or the policy refuses; what ran goes on.
    pub fn activate(
        &self,
        site: &str,
        hook: Option<Hook>,
        policy: &str,
        params: Map<String, Value>,
    ) -> Result<Changed, Refusal> {
        let _changing = self.changing();
        let hook = hook.map_or_else(|| self.only_hook(policy), Ok)?;
        let config = self.arranged().config.clone();
        let position = position(&config, site)?;
        let policy = match policy.starts_with("native:") {
            true => policy.to_owned(),
            false => self.library.resolve(policy)?.to_string(),
        };
        let file_value = config
            .sites
            .get(position)
            .map_or(Value::Null, |site| file_value(site, hook));
        let mut table = self.activations.table();
        let before = self.arranged().label(site, hook);
        let change = table.activate(
            site,
            hook,
            Record {
                policy,
                params,
                file_value,
            },
        );
        let plan = self
            .arranged()
            .plan(&config, &table, &self.library, Some((site, hook)))
            .map_err(Refusal::from)?;
        self.commit(table)?;
        self.rearrange()
            .apply(plan, &config, &self.edge, &self.library);
        let active = self.arranged().label(site, hook);
        let generation = change.generation;
        Ok(Changed {
            site: site.to_owned(),
            hook,
            active,
            previous: before,
            generation,
        })
    }

    /// Takes back the last change of a hook of `site`, or of whichever hook was changed last.
    ///
    /// # Errors
    /// There is none, or what ran before cannot run any more; what runs goes on.
    pub fn roll_back(&self, site: &str, hook: Option<Hook>) -> Result<Changed, Refusal> {
        let _changing = self.changing();
        let config = self.arranged().config.clone();
        let position = position(&config, site)?;
        let configured = config.sites.get(position);
        let mut table = self.activations.table();
        let change = table
            .roll_back(site, hook, |hook| {
                configured.map_or(Value::Null, |site| file_value(site, hook))
            })
            .map_err(|error| {
                let hint = "`larder stat` shows what runs at each hook";
                Refusal::new(
                    RefusalKind::InUse,
                    "nothing_to_roll_back",
                    error.to_string(),
                    hint,
                )
            })?;
        let before = self.arranged().label(site, change.hook);
        let plan = self
            .arranged()
            .plan(&config, &table, &self.library, Some((site, change.hook)))
            .map_err(Refusal::from)?;
        self.commit(table)?;
        self.rearrange()
            .apply(plan, &config, &self.edge, &self.library);
        let active = self.arranged().label(site, change.hook);
        let generation = change.generation;
        Ok(Changed {
            site: site.to_owned(),
            hook: change.hook,
            active,
            previous: before,
            generation,
        })
    }

    /// Waits until what was recorded before has been observed by the eviction policies and the
    /// tiers are as full as they are kept. Blocks.
    pub fn flush(&self) {
        for domain in self.edge.sites.table().domains() {
            domain.settle();
        }
        if let Err(refusal) = wait(self.edge.cache.lower.settle()) {
            tracing::error!(%refusal, "the tiers were not waited for");
        }
    }

    /// Ends the tiers: what they have taken is stored first, within a bounded time.
    pub fn stop(&self) {
        for domain in self.edge.sites.table().domains() {
            domain.stop();
        }
        self.edge.cache.receipts.stop();
        self.edge.cache.lower.stop();
        if let Err(error) = self.edge.cache.flights.purges.sync() {
            tracing::error!(%error, "purges may be forgotten");
        }
    }

    fn commit(&self, table: Table) -> Result<(), Refusal> {
        self.activations.commit(table).map_err(|error| {
            let hint = "free space in the data directory, or check its permissions";
            Refusal::new(RefusalKind::Host, "not_saved", error.to_string(), hint)
        })
    }

    fn only_hook(&self, policy: &str) -> Result<Hook, Refusal> {
        let hooks: Vec<Hook> = if policy.starts_with("native:") {
            Hook::ALL
                .into_iter()
                .filter(|hook| hook.native() == policy)
                .collect()
        } else {
            let id = self.library.resolve(policy)?;
            let known = self
                .library
                .list()
                .into_iter()
                .find(|listed| listed.id == id);
            known.map(|listed| listed.hooks).unwrap_or_default()
        };
        match hooks[..] {
            [hook] => Ok(hook),
            _ => {
                let names: Vec<_> = hooks.iter().map(|hook| hook.as_str()).collect();
                Err(Refusal::new(
                    RefusalKind::Malformed,
                    "hook_needed",
                    format!(
                        "{policy} offers {} hooks: {}",
                        hooks.len(),
                        names.join(", ")
                    ),
                    "name the one to use it at",
                ))
            }
        }
    }

    /// What runs at `hook` of `site`, by name.
    pub fn active(&self, site: &str, hook: Hook) -> String {
        self.arranged().label(site, hook)
    }

    fn site(&self, name: &str) -> Result<Arc<Site>, Refusal> {
        let table = self.edge.sites.table();
        let known = || {
            table
                .sites()
                .iter()
                .map(|site| site.name.clone())
                .collect::<Vec<_>>()
        };
        table
            .named(name)
            .cloned()
            .ok_or_else(|| unknown_site(name, &known()))
    }

    fn arranged(&self) -> RwLockReadGuard<'_, Arranged> {
        self.arranged.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn rearrange(&self) -> RwLockWriteGuard<'_, Arranged> {
        self.arranged
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for tiers. Blocks.
fn wait<T>(tiers: impl Future<Output = T>) -> Result<T, Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = runtime.map_err(|error| {
        let message = format!("no runtime to wait for the tiers: {error}");
        let hint = "see the limits of files and threads of this process";
        Refusal::new(RefusalKind::Host, "no_runtime", message, hint)
    })?;
    Ok(runtime.block_on(tiers))
}

fn recorder(config: &Config) -> Result<Option<Recorder>, Unusable> {
    let start = |dir: &PathBuf| {
        Recorder::start(dir, config.record.size.bytes()).map_err(|error| Unusable {
            key: "record.dir".to_owned(),
            clause: format!("{}: {error}", dir.display()),
        })
    };
    config.record.dir.as_ref().map(start).transpose()
}

/// Takes the data directory for this process, until the file is closed.
fn take(data_dir: &Path) -> Result<File, Unusable> {
    let unusable = |error: &dyn std::fmt::Display| Unusable {
        key: "data_dir".to_owned(),
        clause: format!("{}: {error}", data_dir.display()),
    };
    std::fs::create_dir_all(data_dir).map_err(|error| unusable(&error))?;
    let path = data_dir.join("lock");
    let file = File::create(&path).map_err(|error| unusable(&error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(unusable(
            &"another larder uses this directory; stop it, or give each a directory of its own",
        )),
        Err(error) => Err(unusable(&error)),
    }
}

fn position(config: &Config, site: &str) -> Result<usize, Refusal> {
    let known = || {
        config
            .sites
            .iter()
            .map(|site| site.name.clone())
            .collect::<Vec<_>>()
    };
    let position = config.sites.iter().position(|each| each.name == site);
    position.ok_or_else(|| unknown_site(site, &known()))
}

fn unknown_site(name: &str, known: &[String]) -> Refusal {
    Refusal::new(
        RefusalKind::NotFound,
        "unknown_site",
        format!("there is no site called {name:?}"),
        format!("the sites are: {}", known.join(", ")),
    )
}

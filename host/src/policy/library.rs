//! Every policy this host knows, compiled when it is first needed, and the activations made of
//! them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::{Map, Value};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::activation::Activation;
use super::artefacts::{ArtefactCounts, Artefacts};
use super::compile::{Compiler, compile_here};
use super::component::Policy;
use super::evictor;
use super::freshness::Freshener;
use super::hook::Hook;
use super::inspect;
use super::keying::{Input, Keyer};
use super::ledger::Ledger;
use super::local::Instance;
use super::refusal::Refusal;
use super::registry::{Listed, PolicyFile, PolicyId, Pushed, Registry, Source};
use super::reinserter;
use super::sandbox::{Fault, FaultKind, Limits};
use crate::tier::eviction::ShardLimits;

/// A shard to try an eviction policy on.
const SAMPLE_SHARD: ShardLimits = ShardLimits {
    capacity: 1 << 20,
    max_entries: 1 << 10,
};

/// What policies may use.
#[derive(Clone, Copy, Debug)]
pub struct PolicyLimits {
    /// Of an uploaded file.
    pub upload: inspect::Limits,
    /// Of one instance.
    pub instance: Limits,
}

/// The policies of this host.
#[derive(Debug)]
pub struct Library {
    engine: Engine,
    registry: Registry,
    artefacts: Artefacts,
    compiler: Compiler,
    limits: PolicyLimits,
    /// Policies that something holds on to.
    loaded: Mutex<BTreeMap<PolicyId, Weak<Policy>>>,
    ledger: Arc<Ledger>,
}

/// What a push did, and what the policy showed when it was tried.
#[derive(Debug)]
pub struct PushReport {
    /// The stored policy.
    pub pushed: Pushed,
    /// Calls that failed with sample input and no parameters. Not refused for: a policy may need
    /// parameters, and one that fails at run time is contained.
    pub warnings: Vec<String>,
}

impl Library {
    /// Opens the library kept under `data_dir`, or one in memory.
    ///
    /// # Errors
    /// A directory cannot be used, or the engine cannot be made.
    pub fn open(data_dir: Option<&Path>, limits: PolicyLimits) -> anyhow::Result<Self> {
        let engine = super::engine::engine().map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let registry = Registry::open(
            data_dir.map(|dir| dir.join("policies")),
            crate::embedded::POLICIES,
            limits.upload,
        )?;
        Ok(Self {
            artefacts: Artefacts::open(data_dir, &engine)?,
            registry,
            compiler: Compiler::of_this_program()?,
            engine,
            limits,
            loaded: Mutex::default(),
            ledger: Arc::default(),
        })
    }

    /// Stores `wasm` as the newest version of `name`, after inspecting, compiling and trying it.
    /// Activates nothing. Blocks for as long as the compilation takes.
    ///
    /// # Errors
    /// Why it was refused; nothing is stored then.
    pub fn push(&self, name: &str, wasm: &[u8]) -> Result<PushReport, Refusal> {
        let mut warnings = Vec::new();
        let pushed = self.registry.push(name, wasm, |wasm, _| {
            let compile = || self.compiler.compile(wasm);
            let component = self.artefacts.component(&blake3::hash(wasm), compile)?;
            warnings = vet(&self.engine, &component, self.limits.instance)?;
            Ok(())
        });
        if pushed.is_err()
            && let Err(error) = self.artefacts.remove(&blake3::hash(wasm))
        {
            tracing::warn!(%error, "compiled code of a refused policy was left behind");
        }
        Ok(PushReport {
            pushed: pushed?,
            warnings,
        })
    }

    /// Every policy.
    pub fn list(&self) -> Vec<Listed> {
        self.registry.list()
    }

    /// The version that `name` (or `name@version`) stands for now.
    ///
    /// # Errors
    /// There is none.
    pub fn resolve(&self, name: &str) -> Result<PolicyId, Refusal> {
        self.registry.resolve(name)
    }

    /// Deletes an uploaded policy that is not in use.
    ///
    /// # Errors
    /// It is unknown, shipped or in use.
    pub fn delete(
        &self,
        id: &PolicyId,
        in_use: impl FnOnce(&PolicyId) -> bool,
    ) -> Result<(), Refusal> {
        let digest = self.registry.get(id)?.digest;
        self.registry.delete(id, in_use)?;
        self.artefacts.remove(&digest)?;
        Ok(())
    }

    /// `choice` (`native:...`, a name, or `name@version`) with `params` at `hook`, tried out and
    /// ready to be activated. May block to compile.
    ///
    /// # Errors
    /// It is unknown, does not offer the hook, or refuses the parameters.
    pub fn activation(
        &self,
        hook: Hook,
        choice: &str,
        params: &Map<String, Value>,
    ) -> Result<Arc<Activation>, Refusal> {
        if choice.starts_with("native:") {
            return self.native(hook, choice, params);
        }
        let id = self.registry.resolve(choice)?;
        let file = self.registry.get(&id)?;
        if !file.hooks.contains(&hook) {
            let offered: Vec<_> = file.hooks.iter().map(|hook| hook.as_str()).collect();
            return Err(Refusal::unacceptable(
                "wrong_hook",
                format!(
                    "{id} does not offer {hook}; it offers {}",
                    offered.join(", ")
                ),
                "name one of the hooks it offers with --hook, or another policy",
            ));
        }
        let policy = self.policy(&file)?;
        let params = Value::Object(params.clone()).to_string();
        let activation = Activation::new(
            hook,
            id.to_string().into(),
            params.into(),
            Some(policy),
            self.limits.instance,
        );
        configure(&activation).map_err(|fault| refused(&id, &fault))?;
        self.ledger.enter(&activation);
        Ok(activation)
    }

    fn native(
        &self,
        hook: Hook,
        choice: &str,
        params: &Map<String, Value>,
    ) -> Result<Arc<Activation>, Refusal> {
        if choice != hook.native() {
            return Err(Refusal::unacceptable(
                "unknown_policy",
                format!("{choice} is not a native rule of {hook}"),
                format!("the native rule of {hook} is {}", hook.native()),
            ));
        }
        if !params.is_empty() {
            return Err(Refusal::unacceptable(
                "refused_parameters",
                format!("{choice} takes no parameters"),
                "leave the parameters out",
            ));
        }
        let activation = Activation::native(hook);
        self.ledger.enter(&activation);
        Ok(activation)
    }

    /// Where the counts of activations are kept.
    pub fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&self.ledger)
    }

    /// Whether `id` was uploaded, rather than shipped.
    pub fn is_uploaded(&self, id: &PolicyId) -> bool {
        self.registry
            .get(id)
            .is_ok_and(|file| file.source == Source::Uploaded)
    }

    fn policy(&self, file: &PolicyFile) -> Result<Arc<Policy>, Refusal> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(policy) = loaded.get(&file.id).and_then(Weak::upgrade) {
            return Ok(policy);
        }
        // Shipped policies are built from our own source; what a stranger sent is compiled by a
        // child process with limits.
        let component = self
            .artefacts
            .component(&file.digest, || match file.source {
                Source::Shipped => compile_here(&self.engine, file.bytes()),
                Source::Uploaded => self.compiler.compile(file.bytes()),
            })?;
        let policy = Policy::new(&self.engine, &component).map_err(|error| mistyped(&error))?;
        let policy = Arc::new(policy);
        loaded.retain(|_, policy| policy.strong_count() > 0);
        loaded.insert(file.id.clone(), Arc::downgrade(&policy));
        Ok(policy)
    }

    /// Counts of compiled code.
    pub fn artefact_counts(&self) -> &ArtefactCounts {
        self.artefacts.counts()
    }
}

/// Loads every hook of `component`, which checks its types, and calls it once. Answers what went
/// wrong with the calls.
///
/// # Errors
/// It cannot be instantiated as a policy.
pub(super) fn vet(
    engine: &Engine,
    component: &Component,
    limits: Limits,
) -> Result<Vec<String>, Refusal> {
    let policy = Policy::new(engine, component).map_err(|error| mistyped(&error))?;
    policy.verify(limits).map_err(|fault| {
        Refusal::unacceptable(
            "wrong_signature",
            format!(
                "the component cannot be instantiated as a policy: {}",
                fault.detail
            ),
            "build it against the wit/ directory of this version of larder",
        )
    })?;
    let policy = Arc::new(policy);
    let mut warnings = Vec::new();
    for hook in policy.hooks() {
        let runs = Some(Arc::clone(&policy));
        let activation = Activation::new(hook, "vetted".into(), "{}".into(), runs, limits);
        if let Err(fault) = try_out(&activation) {
            warnings.push(format!(
                "{hook}, called with sample input and no parameters: {fault}"
            ));
        }
    }
    Ok(warnings)
}

fn mistyped(error: &wasmtime::Error) -> Refusal {
    Refusal::unacceptable(
        "wrong_signature",
        format!("the component is not a policy of this version: {error:#}"),
        "build it against the wit/ directory of this version of larder",
    )
}

fn refused(id: &PolicyId, fault: &Fault) -> Refusal {
    if fault.kind == FaultKind::Parameters {
        return Refusal::unacceptable(
            "refused_parameters",
            format!("{id} did not accept its parameters: {}", fault.detail),
            "see the documentation of the policy for the parameters it takes",
        );
    }
    Refusal::unacceptable(
        "cannot_run",
        format!("{id} failed while it was configured: {fault}"),
        "`larder policy check` tries a component file",
    )
}

/// Makes one instance and gives it its parameters.
fn configure(activation: &Activation) -> Result<(), Fault> {
    match activation.hook {
        Hook::Keying => Keyer::make(activation).map(drop),
        Hook::Freshness => Freshener::make(activation).map(drop),
        Hook::Eviction => {
            drop(evictor::configured(activation, SAMPLE_SHARD)?);
            match &activation.policy {
                Some(policy) if policy.reinserts() => reinserter::configured(activation).map(drop),
                _ => Ok(()),
            }
        }
    }
}

/// Configures without parameters and calls once.
fn try_out(activation: &Activation) -> Result<(), Fault> {
    match activation.hook {
        Hook::Keying => {
            let headers = http::HeaderMap::new();
            let input = Input {
                method: "GET",
                authority: "example.com",
                target: "/",
                headers: &headers,
            };
            Keyer::make(activation)?.key(input, activation).map(drop)
        }
        Hook::Freshness | Hook::Eviction => configure(activation),
    }
}

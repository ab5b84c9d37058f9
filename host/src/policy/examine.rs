//! Examines component files and choices of policies without a running edge.

use serde::Serialize;

use super::artefacts::Artefacts;
use super::compile::Compiler;
use super::hook::Hook;
use super::inspect;
use super::library::vet;
use super::refusal::{Refusal, RefusalKind};
use super::registry::{Registry, Version};
use super::sandbox::Limits;
use crate::config::{self, Config, PolicyChoice, Unusable};

/// What is known of a component that would be accepted.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// The first twelve hexadecimal digits of the blake3 hash of the file.
    pub version: String,
    /// Bytes.
    pub bytes: usize,
    /// The hooks it offers.
    pub hooks: Vec<Hook>,
    /// Calls that failed with sample input and no parameters.
    pub warnings: Vec<String>,
}

/// Inspects, compiles and tries `wasm`, with default limits.
///
/// # Errors
/// Why an upload would be refused.
pub fn check_file(wasm: &[u8]) -> Result<CheckReport, Refusal> {
    let hooks = inspect::inspect(wasm, &inspect::Limits::default())?;
    let host = |error: String| {
        Refusal::new(
            RefusalKind::Host,
            "no_engine",
            error,
            "see the limits of this machine",
        )
    };
    let engine = super::engine::engine().map_err(|error| host(format!("{error:#}")))?;
    let compiler = Compiler::of_this_program().map_err(|error| host(error.to_string()))?;
    let artefacts = Artefacts::open(None, &engine)?;
    let component = artefacts.component(&blake3::hash(wasm), || compiler.compile(wasm))?;
    let defaults = config::Limits::default();
    let limits = Limits {
        memory: defaults.policy_memory.bytes(),
        deadline: defaults.policy_deadline.duration(),
    };
    let warnings = vet(&engine, &component, limits)?;
    Ok(CheckReport {
        version: Version::of(wasm).to_string(),
        bytes: wasm.len(),
        hooks,
        warnings,
    })
}

/// The policies that `config` names and that do not exist, or do not offer the hook.
pub fn unknown_choices(config: &Config) -> Vec<Unusable> {
    let uploads = config
        .data_dir
        .as_ref()
        .map(|dir| dir.join("policies"))
        .filter(|dir| dir.is_dir());
    let registry = match Registry::open(
        uploads,
        crate::embedded::POLICIES,
        inspect::Limits::default(),
    ) {
        Ok(registry) => registry,
        Err(refusal) => {
            return vec![Unusable {
                key: "data_dir".to_owned(),
                clause: refusal.message,
            }];
        }
    };
    let mut unknown = Vec::new();
    for (position, site) in config.sites.iter().enumerate() {
        for (hook, choice) in [
            (Hook::Keying, &site.policy.keying),
            (Hook::Freshness, &site.policy.freshness),
            (Hook::Eviction, &site.policy.eviction),
        ] {
            if let Err(clause) = offers(&registry, hook, choice) {
                unknown.push(Unusable {
                    key: format!("site[{position}].policy.{hook}"),
                    clause,
                });
            }
        }
    }
    unknown
}

fn offers(registry: &Registry, hook: Hook, choice: &PolicyChoice) -> Result<(), String> {
    if choice.is_native() {
        let native = hook.native();
        return match choice.name == native {
            true => Ok(()),
            false => Err(format!(
                "{} is not a native rule of {hook}; it has {native}",
                choice.name
            )),
        };
    }
    let file = registry
        .resolve(&choice.to_string())
        .and_then(|id| registry.get(&id));
    let file = file.map_err(|refusal| format!("{}; {}", refusal.message, refusal.hint))?;
    if file.hooks.contains(&hook) {
        return Ok(());
    }
    let offered: Vec<_> = file.hooks.iter().map(|hook| hook.as_str()).collect();
    Err(format!(
        "{} does not offer {hook}; it offers {}",
        file.id,
        offered.join(", ")
    ))
}

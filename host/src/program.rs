//! Components of world `program`: an operator's own work on the tiers, off the request path.
//!
//! A program sees the tiers of one site through interface `tiers` and nothing else. It runs once,
//! in a sandbox like a policy's, within the memory, CPU time and bytes that its [`Grant`] names;
//! what it stores is charged like every other entry. Nothing of a run outlives it but its entries.
//!
//! | file | subject |
//! |---|---|
//! | `surface` | what a component imports, before it is compiled |
//! | `access` | the calls of interface `tiers`, over the chain |
//! | `bindings` | the generated types |

mod access;
mod bindings;
mod surface;

use std::time::Duration;

use serde_json::{Map, Value};
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, Linker, Type};

use crate::cache::chain::Chain;
use crate::policy::inspect;
use crate::policy::refusal::{Refusal, RefusalKind};
use crate::policy::sandbox::{Fault, Limits, Sandbox, State};
use access::Access;

/// Bytes of an answer or an error text.
const ANSWER_MAX: usize = 1 << 20;

const RUN_HINT: &str = "a program exports run: func(params: string) -> result<string, string>";

/// What an operator lets one run of a program do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The name of the site whose tiers it sees.
    pub site: String,
    /// Bytes that its puts may charge, bookkeeping included. Zero: it may only read and remove.
    pub put_bytes: u64,
    /// CPU time.
    pub deadline: Duration,
    /// Bytes of linear memory.
    pub memory: u64,
}

/// Why a run has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The program's own words.
    #[error("the program failed: {0}")]
    Failed(String),
    /// It trapped, exceeded its grant of memory or time, or could not be instantiated.
    #[error("the program on site {site} was ended: {fault}")]
    Ended {
        /// The site of the grant.
        site: String,
        /// How it ended.
        fault: Fault,
    },
}

/// A compiled program.
pub struct Program {
    pre: bindings::ProgramPre<State<Access>>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").finish_non_exhaustive()
    }
}

impl Program {
    /// Compiles the component in `wasm`, in this process: blocks for about as long as a policy of
    /// its size takes to upload.
    ///
    /// # Errors
    /// It is not a component, is too large in some part, imports anything but the tiers, or does
    /// not export `run`.
    pub fn load(engine: &Engine, wasm: &[u8]) -> Result<Self, Refusal> {
        surface::check(wasm, &inspect::Limits::default())?;
        let refuse = |error: &wasmtime::Error| {
            let message = format!("the program is not valid: {error:#}");
            Refusal::unacceptable("invalid_component", message, "build the program again")
        };
        let component = Component::new(engine, wasm).map_err(|error| refuse(&error))?;
        check_run(engine, &component)?;
        let pre = linker(engine)
            .and_then(|linker| linker.instantiate_pre(&component))
            .and_then(bindings::ProgramPre::new)
            .map_err(|error| refuse(&error))?;
        Ok(Self { pre })
    }

    /// Runs the program on `chain`, the tiers of the site that `grant` names. Blocks for up to the
    /// deadline of the grant and longer where the CPU is busy, so no thread that serves requests
    /// may call it.
    ///
    /// # Errors
    /// The program says that it failed, or it was ended. What it stored before stays.
    pub fn run(
        &self,
        grant: &Grant,
        chain: Chain,
        params: &Map<String, Value>,
    ) -> Result<String, RunError> {
        let params = Value::Object(params.clone()).to_string();
        match self.answer(grant, chain, &params) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(message)) => Err(RunError::Failed(message)),
            Err(fault) => Err(RunError::Ended {
                site: grant.site.clone(),
                fault,
            }),
        }
    }

    fn answer(
        &self,
        grant: &Grant,
        chain: Chain,
        params: &str,
    ) -> Result<Result<String, String>, Fault> {
        let limits = Limits {
            memory: grant.memory,
            deadline: grant.deadline,
        };
        let access = Access::new(chain, grant.put_bytes);
        let mut sandbox = Sandbox::with_data(self.pre.engine(), limits, access);
        let made = sandbox.call(|store| Ok(self.pre.instantiate(store)))?;
        let program = made.map_err(|error| Fault::instance(&error))?;
        let answer = sandbox.call(|store| program.call_run(store, params))?;
        let (Ok(text) | Err(text)) = &answer;
        if text.len() > ANSWER_MAX {
            return Err(Fault::answer("an answer of more than 1 MiB"));
        }
        Ok(answer)
    }
}

/// Everything that a program may import.
fn linker(engine: &Engine) -> wasmtime::Result<Linker<State<Access>>> {
    let mut linker = Linker::new(engine);
    bindings::Program::add_to_linker::<State<Access>, HasSelf<Access>>(&mut linker, |state| {
        &mut state.data
    })?;
    Ok(linker)
}

/// Checks that `run` is there and has its type, which instantiating would find out too late.
fn check_run(engine: &Engine, component: &Component) -> Result<(), Refusal> {
    let component = component.component_type();
    let export = component.get_export(engine, "run").map(|export| export.ty);
    let Some(ComponentItem::ComponentFunc(run)) = export else {
        let message = "the program does not export the function run";
        return Err(Refusal::unacceptable("no_run", message, RUN_HINT));
    };
    let takes_text = run.params().map(|(_, ty)| ty).eq([Type::String]);
    let answers_text = run.results().all(|ty| match ty {
        Type::Result(ty) => ty.ok() == Some(Type::String) && ty.err() == Some(Type::String),
        _ => false,
    });
    if takes_text && answers_text && run.results().len() == 1 {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalKind::Unacceptable,
        "no_run",
        "the program exports run with another type",
        RUN_HINT,
    ))
}

#[cfg(test)]
mod tests;

//! The child's side of a compilation: take limits, read, compile, write, end.
//!
//! The limits are taken before the first byte is read, by the process itself: between `fork` and
//! `exec` of a program with threads there is no safe place for it.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit};
use wasmtime::Engine;

use super::read_up_to;
use crate::policy::engine::compile_config;

/// CPU time of one compilation. A policy of 60 KB takes a tenth of a second, a megabyte of the
/// largest functions that pass inspection one to two and a half.
pub(super) const CPU_SECONDS: u64 = 5;

/// Address space of the child. The largest uploads that pass inspection were seen to need less
/// than a quarter of it, a policy of 60 KB a sixteenth.
pub(super) const ADDRESS_SPACE_BYTES: u64 = 1 << 30;

/// Bytes the child reads; the parent has applied the real limit before.
const CHILD_INPUT_BYTES: u64 = 64 << 20;

/// The child's exit code when the component is at fault, as opposed to the host.
pub(super) const EXIT_INVALID: u8 = 1;

/// The child's exit code when it could not do its work.
pub(super) const EXIT_HOST: u8 = 2;

/// The child: compiles the component on standard input to standard output.
///
/// Call it first thing in `main`, before any thread is made and any output written.
pub fn run_child() -> ExitCode {
    let streams = (io::stdin().lock(), io::stdout().lock());
    match serve_parent(streams, CPU_SECONDS, ADDRESS_SPACE_BYTES) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

/// Why there is no artefact: an exit code for the parent and a text for people.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: u8,
    text: String,
}

impl Failure {
    fn host(doing: &str, error: impl Display) -> Self {
        Self {
            code: EXIT_HOST,
            text: format!("cannot {doing}: {error:#}"),
        }
    }

    /// Writes the text to standard error and answers the exit code.
    pub(super) fn tell(&self) -> ExitCode {
        // If this fails, there is nobody else to tell.
        drop(io::stderr().write_all(self.text.as_bytes()));
        ExitCode::from(self.code)
    }
}

/// Compiles what `input` holds into `output`, within limits that hold for the whole process.
pub(super) fn serve_parent(
    (input, mut output): (impl Read, impl Write),
    cpu_seconds: u64,
    address_space_bytes: u64,
) -> Result<(), Failure> {
    confine(cpu_seconds, address_space_bytes)
        .map_err(|error| Failure::host("limit the compiler", error))?;
    let wasm = read_up_to(input, CHILD_INPUT_BYTES)
        .map_err(|error| Failure::host("read the component", error))?;
    let engine =
        Engine::new(&compile_config()).map_err(|error| Failure::host("make an engine", error))?;
    let artefact = engine
        .precompile_component(&wasm)
        .map_err(|error| Failure {
            code: EXIT_INVALID,
            text: format!("{error:#}"),
        })?;
    output
        .write_all(&artefact)
        .and_then(|()| output.flush())
        .map_err(|error| Failure::host("write the artefact", error))
}

/// Takes away from this process what compiling does not need. It cannot be undone.
fn confine(cpu_seconds: u64, address_space_bytes: u64) -> io::Result<()> {
    // The hard limit, a second later, is for a process that ignores the signal of the soft one.
    let limits = [
        (Resource::Core, 0, 0),
        (Resource::Cpu, cpu_seconds, cpu_seconds.saturating_add(1)),
        (Resource::As, address_space_bytes, address_space_bytes),
    ];
    for (resource, current, maximum) in limits {
        // A limit that is lower already stays, and raising it would not be allowed.
        let least = |value: u64| {
            rustix::process::getrlimit(resource)
                .maximum
                .map_or(value, |held| held.min(value))
        };
        let lowered = Rlimit {
            current: Some(least(current)),
            maximum: Some(least(maximum)),
        };
        rustix::process::setrlimit(resource, lowered)?;
    }
    // Serving comes first. Failing to yield is no reason not to compile.
    rustix::process::nice(10).ok();
    Ok(())
}

//! Compiling an uploaded component in a child process that cannot exceed its limits.
//!
//! Compiling is the one step of an upload whose cost an attacker chooses, and wasmtime does not
//! count that as a vulnerability. So it happens in a copy of this program that takes away its own
//! CPU time, memory and priority before it reads the first byte, and the parent ends it when it
//! takes too long by the clock. The child's answer is trusted as far as the compiler is: it comes
//! through a pipe from our own code and never touches a file in between.
//!
//! One component is compiled at a time, a few uploads wait, and more are refused.

mod child;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use wasmtime::Engine;

pub use self::child::run_child;

use self::child::{ADDRESS_SPACE_BYTES, CPU_SECONDS, EXIT_INVALID};
use super::refusal::{Refusal, RefusalKind};

/// The hidden argument that makes this program a compiler, see [`run_child`].
pub const CHILD_ARGUMENT: &str = "compile-policy";

/// Time by the clock; more than the CPU time, because the child yields to everything else.
const WALL: Duration = Duration::from_secs(30);

/// Bytes of an artefact: about four times the code, plus the initial memory image.
const ARTEFACT_BYTES: u64 = 64 << 20;

/// Bytes of the child's error text that are shown.
const ERROR_BYTES: u64 = 2 << 10;

/// KiB of addresses that the child's allocator reserves at a time.
const ARENA_KIB: &str = "32768";

/// Uploads that may wait for their turn, each at most the time limit times its place in the queue.
const WAITING: usize = 8;

const HINT: &str =
    "make the largest functions of the policy smaller, and leave out what it does not use";

/// Compiled code that came from the compiler of this program, and from nowhere else.
///
/// Only this module makes one, so holding it is proof enough to run the code.
#[derive(Clone, PartialEq, Eq)]
pub struct Compiled(Vec<u8>);

impl Compiled {
    /// The serialised component.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Compiled({} bytes)", self.0.len())
    }
}

/// Compiles a component that came with this program, in this process.
///
/// # Errors
/// The component is not valid, which for a shipped one is a fault of the build.
pub fn compile_here(engine: &Engine, wasm: &[u8]) -> Result<Compiled, Refusal> {
    engine
        .precompile_component(wasm)
        .map(Compiled)
        .map_err(|error| invalid(&format!("{error:#}")))
}

/// Compiles uploads, one at a time, each in a child process.
#[derive(Debug)]
pub struct Compiler {
    program: PathBuf,
    arguments: Vec<OsString>,
    wall: Duration,
    waiting: AtomicUsize,
    turn: Mutex<()>,
}

impl Compiler {
    /// A compiler that runs `program` with [`CHILD_ARGUMENT`].
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self::with(program.into(), vec![CHILD_ARGUMENT.into()], WALL)
    }

    /// A compiler that runs this very program.
    ///
    /// # Errors
    /// The path of this program is unknown.
    pub fn of_this_program() -> io::Result<Self> {
        // The link names the running program even when its file was replaced by an upgrade; a
        // newer program's artefacts would not fit this one.
        let link = PathBuf::from("/proc/self/exe");
        if link.exists() {
            Ok(Self::new(link))
        } else {
            std::env::current_exe().map(Self::new)
        }
    }

    fn with(program: PathBuf, arguments: Vec<OsString>, wall: Duration) -> Self {
        Self {
            program,
            arguments,
            wall,
            waiting: AtomicUsize::new(0),
            turn: Mutex::new(()),
        }
    }

    /// Compiles `wasm`. Blocks, for the time limit of every upload that waits already.
    ///
    /// # Errors
    /// The component is not valid, exceeds a limit while it is compiled, or too many wait.
    pub fn compile(&self, wasm: &[u8]) -> Result<Compiled, Refusal> {
        let _place = Place::take(&self.waiting)?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = self.run(wasm).map_err(|error| {
            let message = format!("the policy compiler could not be run: {error}");
            Refusal::new(
                RefusalKind::Host,
                "compiler_unavailable",
                message,
                "see the server's log and limits",
            )
        })?;
        outcome.judge(self.wall)
    }

    fn run(&self, wasm: &[u8]) -> io::Result<Outcome> {
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            // The allocator reserves a gibibyte of addresses at a time otherwise, which would be
            // all that the child may have.
            .env("MIMALLOC_ARENA_RESERVE", ARENA_KIB)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map(Reaped)?;
        let pipes = (
            child.0.stdin.take(),
            child.0.stdout.take(),
            child.0.stderr.take(),
        );
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(io::Error::other("a pipe is missing"));
        };
        let (done, is_done) = mpsc::sync_channel::<()>(0);
        thread::scope(|scope| {
            // Moved in, so that on an early return the child dies before its threads are joined.
            let mut child = child;
            let pid = Pid::from_child(&child.0);
            let spawn = |name: &str| thread::Builder::new().name(format!("larder-compile-{name}"));
            let watch = spawn("watch")
                .spawn_scoped(scope, move || kill_when_late(pid, &is_done, self.wall))?;
            // A child that died has closed the pipe; its status tells why.
            spawn("in").spawn_scoped(scope, move || drop(stdin.write_all(wasm)))?;
            let text = spawn("err").spawn_scoped(scope, move || read_up_to(stderr, ERROR_BYTES))?;
            let artefact = read_up_to(stdout, ARTEFACT_BYTES.saturating_add(1))?;
            await_exit(pid)?;
            drop(done);
            let timing = watch.join().unwrap_or(Timing::Late);
            // Only now is the process id given back, so the watch cannot have hit another process.
            let status = child.0.wait()?;
            let text = text.join().map_or(Ok(Vec::new()), |text| text)?;
            Ok(Outcome {
                status,
                timing,
                artefact,
                text: one_line(&text),
            })
        })
    }
}

/// One of the few places in the queue, given back on drop.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self, Refusal> {
        // One compiles, the others wait.
        if waiting.fetch_add(1, Ordering::Relaxed) <= WAITING {
            return Ok(Self(waiting));
        }
        waiting.fetch_sub(1, Ordering::Relaxed);
        let message = format!("{WAITING} uploads wait for the policy compiler already");
        Err(Refusal::new(
            RefusalKind::Busy,
            "compiler_busy",
            message,
            "try again in a few seconds",
        ))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A child that is killed and waited for at the latest when this is dropped.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both are without effect on a child that was waited for.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Whether the child ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timing {
    InTime,
    Late,
}

/// Kills the child unless the other end of `is_done` is dropped within `wall`. The child must not
/// be waited for before this returns.
fn kill_when_late(pid: Pid, is_done: &Receiver<()>, wall: Duration) -> Timing {
    if is_done.recv_timeout(wall) != Err(RecvTimeoutError::Timeout) {
        return Timing::InTime;
    }
    match rustix::process::kill_process(pid, Signal::KILL) {
        Ok(()) => Timing::Late,
        // It has just ended; whoever waits sees how.
        Err(_) => Timing::InTime,
    }
}

/// Blocks until the child has ended and leaves it to be waited for.
fn await_exit(pid: Pid) -> io::Result<()> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::Pid(pid), options))?;
    Ok(())
}

/// Reads at most `limit` bytes and closes the pipe, so that a child that writes more ends.
fn read_up_to(pipe: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    pipe.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// How a child ended.
#[derive(Debug)]
struct Outcome {
    status: ExitStatus,
    timing: Timing,
    artefact: Vec<u8>,
    text: String,
}

impl Outcome {
    fn judge(self, wall: Duration) -> Result<Compiled, Refusal> {
        let limit = |message: String| Err(Refusal::unacceptable("compile_limit", message, HINT));
        if self.timing == Timing::Late {
            return limit(format!(
                "compiling the policy takes longer than {} s",
                wall.as_secs()
            ));
        }
        if u64::try_from(self.artefact.len()).is_ok_and(|length| length > ARTEFACT_BYTES) {
            return limit(format!(
                "the compiled policy is larger than {} MiB",
                ARTEFACT_BYTES >> 20
            ));
        }
        let signal = self.status.signal().map(Signal::from_named_raw);
        match (self.status.code().map(u8::try_from), signal) {
            (Some(Ok(0)), _) if !self.artefact.is_empty() => Ok(Compiled(self.artefact)),
            (Some(Ok(EXIT_INVALID)), _) => Err(invalid(&self.text)),
            (None, Some(Some(Signal::XCPU))) => limit(format!(
                "compiling the policy takes more than {CPU_SECONDS} s of CPU time"
            )),
            (None, Some(Some(Signal::KILL))) => {
                limit("the compiler was killed for the memory or CPU time it used".to_owned())
            }
            // Running out of memory ends in an abort, running out of stack in either.
            (None, Some(Some(Signal::ABORT | Signal::SEGV))) => limit(format!(
                "compiling the policy takes more than {} MiB of memory, or too much stack: {}",
                ADDRESS_SPACE_BYTES >> 20,
                self.text
            )),
            _ => {
                let message = format!(
                    "the policy compiler failed ({}): {}",
                    self.status, self.text
                );
                Err(Refusal::new(
                    RefusalKind::Host,
                    "compiler_failed",
                    message,
                    "see the server's log",
                ))
            }
        }
    }
}

fn invalid(text: &str) -> Refusal {
    let message = format!("the component is not valid: {text}");
    Refusal::unacceptable(
        "invalid_component",
        message,
        "build the policy again, with `larder policy build`",
    )
}

/// Error text on one line, fit for a log and a JSON answer, without the advice for programmers
/// that the standard library adds on lines of its own.
fn one_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().filter(|line| !line.starts_with("note: "));
    let words = lines.flat_map(|line| line.split(|c: char| c.is_whitespace() || c.is_control()));
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests;

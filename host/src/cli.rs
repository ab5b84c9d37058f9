//! The command line: what can be typed, what it prints, and how it exits.
//!
//! Results go to standard output, errors and logs to standard error. A reader that goes away
//! (`| head`) ends a command in success. Exit codes are part of the contract and listed in
//! `EXIT_CODES`.

mod logging;
mod output;
mod policy;
mod remote;
mod serve;
mod simulate;
mod stored;
mod trace;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::client::ClientError;
use crate::config::ConfigError;
use crate::policy::refusal::Refusal;
use crate::simulate::SimulateError;

const EXIT_CODES: &str = "\
Exit codes: 0 success, 1 failure, 2 wrong usage or configuration, 3 a purge that matched nothing,
130 a simulation that was interrupted, after printing what it had.

Sizes are written 256MiB, 64KB or 1024 (bytes), times 30s, 5ms, 1h or 2d.
The environment overrides the file and flags override the environment: every key of the file
outside [[site]] has a variable, such as LARDER_LIMITS_FIRST_BYTE for limits.first_byte.";

const EXAMPLES: &str = "\
Examples:
  larder demo
  larder serve --origin http://127.0.0.1:3000
  larder serve --config /etc/larder/larder.toml
  larder policy new hello && larder policy build hello
  larder policy push hello/hello.wasm --name hello
  larder stat";

/// A programmable edge cache: sandboxed Wasm policies decide key, lifetime and victim.
#[derive(Debug, Parser)]
#[command(name = "larder", version, after_help = EXAMPLES, after_long_help = [EXAMPLES, EXIT_CODES].join("\n\n"))]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the edge.
    ///
    /// --origin alone is enough: clients connect to 127.0.0.1:8080, operators to 127.0.0.1:9080,
    /// and 256MiB of memory hold what is cached. Prints what it listens on and the tiers. SIGHUP
    /// reads the configuration again (a wrong one changes nothing), SIGTERM lets requests in
    /// flight end within limits.drain (30s), a second one stops at once.
    Serve(serve::Settings),
    /// Shows a minute of everything, on free ports and with an origin of its own.
    Demo,
    /// Checks a configuration and prints the values in effect and where each comes from.
    ///
    /// Takes what `serve` takes. Names of origins are looked up; nothing is started. Exits with 0
    /// if `serve` would start with it, else with 2.
    Check(serve::Settings),
    /// Writes, builds, uploads and activates policies.
    #[command(subcommand)]
    Policy(policy::Command),
    /// Removes stored responses.
    ///
    /// What is named in several ways goes once. Prints the id of the purge and what it removed. It
    /// is in force then; what a disk tier held of it is counted in the background (settled: false),
    /// which --wait waits for, and what an object store held is not counted. Exits with 3 if
    /// everything is counted, within 5 s without --wait, and nothing matched.
    Purge(remote::Purge),
    /// Shows counters.
    Stat(remote::Stat),
    /// Lists what is stored.
    ///
    /// One line an entry and tier: size, age, lifetime left (0: stale), how many tags the origin and
    /// policies gave it, and its key. What comes or goes meanwhile may be missed. An object store is
    /// not listed.
    Ls(stored::List),
    /// Verifies every byte that the disk tier holds, and drops what is damaged.
    Scrub(stored::Scrub),
    /// Tells how a request would be answered: key, policies, tiers that hold it, age, lifetime.
    Explain(remote::Explain),
    /// Replays a trace through eviction policies and tells what each would have missed.
    ///
    /// A policy is native:lru, the name of a shipped one, or a component file; parameters follow as
    /// in 's3-fifo?small=20'. The same components run on the same memory tier as when serving, in
    /// lockstep: one shard, every event told, victims gone before the next request. The capacity is
    /// all for objects, the cache is empty at first, every request counts, nothing expires, and an
    /// object above the capacity is a miss. --overhead, --shards and --ttl change that towards what
    /// happens when serving.
    ///
    /// A trace is a CSV file with the columns time, key, size and perhaps ttl, a log in the common
    /// or combined format, or Larder's own access log; plain, gzip or zstd. Ctrl-C prints what
    /// there is so far.
    Simulate(Box<simulate::Simulate>),
    /// Makes traces.
    #[command(subcommand)]
    Trace(trace::Command),
    /// Compiles a policy; Larder starts this itself, to keep compilation out of its own process.
    #[command(hide = true)]
    CompilePolicy,
}

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Something on this machine: what, and what to do next (may be empty).
    #[error("{message}")]
    Local { message: String, hint: String },
    /// A purge that matched nothing; all is printed already.
    #[error("nothing matched")]
    NothingMatched,
    /// A simulation that was ended from outside; what there was is printed already.
    #[error("interrupted")]
    Interrupted,
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
    #[error("{0:#}")]
    Run(anyhow::Error),
}

impl Failure {
    fn local(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Local {
            message: message.into(),
            hint: hint.into(),
        }
    }

    fn hint(&self) -> &str {
        match self {
            Self::Client(error) => error.hint(),
            Self::Refused(refusal) => &refusal.hint,
            Self::Local { hint, .. } => hint,
            _ => "",
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Usage(_) => 2,
            Self::NothingMatched => 3,
            Self::Interrupted => 130,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            _ => 1,
        }
    }

    /// Writes what went wrong to `err`, one line a problem.
    fn tell(&self, err: &mut impl Write) -> io::Result<()> {
        if self.code() == 0 || matches!(self, Self::NothingMatched | Self::Interrupted) {
            return Ok(());
        }
        for line in self.to_string().lines() {
            writeln!(err, "error: {}", output::printable(line))?;
        }
        if !self.hint().is_empty() {
            writeln!(err, "hint: {}", output::printable(self.hint()))?;
        }
        Ok(())
    }
}

impl From<SimulateError> for Failure {
    fn from(error: SimulateError) -> Self {
        match error {
            SimulateError::Argument(message) => Self::Usage(message),
            SimulateError::Interrupted => Self::Interrupted,
            SimulateError::Host(error) => Self::Run(error),
            SimulateError::Trace(_) | SimulateError::Empty(_) => Self::local(error.to_string(), ""),
        }
    }
}

/// Runs the command that `arguments` (the program's name first) ask for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // A reader that has gone away makes neither help nor a usage error into another one.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let out = &mut io::stdout();
    let result = match cli.command {
        Command::CompilePolicy => return crate::policy::compile::run_child(),
        Command::Serve(settings) => serve::serve(settings),
        Command::Demo => {
            logging::start(crate::config::Level::Warn);
            crate::demo::run().map_err(Failure::Run)
        }
        Command::Check(settings) => serve::check(settings, out),
        Command::Policy(command) => policy::run(command, out),
        Command::Purge(purge) => remote::purge(&purge, out),
        Command::Stat(stat) => remote::stat(&stat, out),
        Command::Ls(list) => stored::list(&list, out),
        Command::Scrub(scrub) => stored::scrub(&scrub, out),
        Command::Explain(explain) => remote::explain(&explain, out),
        Command::Simulate(arguments) => simulate::run(*arguments, out),
        Command::Trace(command) => trace::run(command, out),
    };
    let result = result.and_then(|()| Ok(out.flush()?));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // With standard error gone there is nobody left to tell.
            drop(failure.tell(&mut io::stderr().lock()));
            ExitCode::from(failure.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_documented_form_is_accepted() {
        for line in [
            "larder serve --origin http://127.0.0.1:3000",
            "larder serve -c larder.toml --listen :8080 --admin 127.0.0.1:9080 --memory 1GiB --data-dir /tmp/x --token-file t",
            "larder check --config larder.toml",
            "larder check -c larder.toml",
            "larder demo",
            "larder compile-policy",
            "larder policy new hello",
            "larder policy new hello dir --hook freshness",
            "larder policy build",
            "larder policy build dir",
            "larder policy test dir",
            "larder policy check a.wasm",
            "larder policy push a.wasm --name a",
            "larder policy push a.wasm --name a --admin 127.0.0.1:1 --token-file t",
            "larder policy list --json",
            "larder policy use a@0123456789ab --site s",
            "larder policy use native:lru --site s --hook eviction --params {}",
            "larder policy rollback --site s --hook keying",
            "larder purge --url http://a/b --url http://a/c --dry-run",
            "larder purge --all --site s --wait",
            "larder purge --tag a --tag b --prefix h/a --host h --key http://h/ --soft",
            "larder stat --json",
            "larder ls",
            "larder ls --site s --tag t --tier disk --prefix h/a --json",
            "larder scrub --wait",
            "larder explain http://a/b -H accept:x --header b:c --json",
            "larder simulate --trace t.csv",
            "larder simulate --trace - --capacity 1MiB --format json",
            "larder simulate --trace t --policy native:lru --policy a?b=1 --capacity 1% --capacity 5 --format table,json --plot o.svg --bounds --input clf --strict --ttl --overhead --shards 4 --jobs 2",
            "larder trace generate",
            "larder trace generate --requests 5 --sizes fixed:1KiB --seed 3",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }

    #[test]
    fn wrong_usage_exits_with_2_and_help_with_0() {
        let code = |line: &str| parse(line).unwrap_err().exit_code();
        for line in [
            "larder",
            "larder frobnicate",
            "larder serve --memory 12XB",
            "larder serve --origin ftp://a",
            "larder purge",
            "larder purge --soft",
            "larder policy use a",
            "larder policy use a@1 --site s",
            "larder policy push a.wasm",
            "larder policy push a.wasm --name ../a",
            "larder policy new Hello",
            "larder policy new a --hook key",
            "larder explain",
            "larder explain http://a/ -H nocolon",
            "larder simulate",
            "larder simulate --trace t --capacity 0",
            "larder simulate --trace t --capacity 150%",
            "larder simulate --trace t --format xml",
            "larder simulate --trace t --input tsv",
            "larder simulate --trace t --shards 0",
            "larder trace generate --sizes zipf:1",
        ] {
            assert_eq!(code(line), 2, "{line}");
        }
        for line in ["larder --help", "larder -V", "larder policy new --help"] {
            assert_eq!(code(line), 0, "{line}");
        }
    }

    #[test]
    fn a_wrong_value_is_told_with_what_is_accepted() {
        let text = parse("larder serve --memory 12XB").unwrap_err().to_string();
        assert!(
            text.starts_with(
                "error: invalid value '12XB' for '--memory <SIZE>': \"12XB\" is not a size; write \
                 a number with an optional unit B, KB, MB, GB, TB, KiB, MiB, GiB, TiB\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn failures_are_told_and_coded() {
        let check = |failure: Failure, text: &str, code: u8| {
            let mut told = Vec::new();
            failure.tell(&mut told).unwrap();
            assert_eq!(
                (String::from_utf8(told).unwrap().as_str(), failure.code()),
                (text, code)
            );
        };
        check(
            Failure::local("a\u{1b}[2J", "b"),
            "error: a\\u{1b}[2J\nhint: b\n",
            1,
        );
        check(Failure::Usage("a\nb".to_owned()), "error: a\nerror: b\n", 2);
        check(Failure::NothingMatched, "", 3);
        check(Failure::Output(io::ErrorKind::BrokenPipe.into()), "", 0);
        check(
            Failure::Run(anyhow::anyhow!("in").context("out")),
            "error: out: in\n",
            1,
        );
        let refusal = Refusal::unacceptable("imports", "it imports x", "do not");
        check(
            Failure::Refused(refusal),
            "error: it imports x\nhint: do not\n",
            1,
        );
    }
}

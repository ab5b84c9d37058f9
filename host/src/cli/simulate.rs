//! `simulate`: policies on a trace, in a table, as JSON and as a plot.

mod progress;
mod table;

use std::io::{self, Write};
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, logging, output};
use crate::config::Level;
use crate::simulate::offline::Bounded;
use crate::simulate::trace::{Format, Tolerance, TraceSettings};
use crate::simulate::{Capacity, Manner, NATIVE, Report, Row, Settings, plot};
use progress::Meter;

/// The capacities of a table, when nobody says.
const CAPACITIES: [&str; 3] = ["0.1%", "1%", "10%"];
/// The capacities of a plot, when nobody says.
const CURVE: [&str; 9] = [
    "0.1%", "0.2%", "0.5%", "1%", "2%", "5%", "10%", "20%", "50%",
];

/// What `simulate` takes.
#[derive(Debug, Args)]
pub(super) struct Simulate {
    /// The trace; "-" reads standard input
    #[arg(long, value_name = "FILE")]
    trace: PathBuf,
    /// A policy, as native:lru, NAME or FILE.wasm, with parameters as NAME?PARAMETER=VALUE&...; may
    /// be repeated [default: native:lru and every shipped eviction policy]
    #[arg(long = "policy", value_name = "POLICY")]
    policies: Vec<String>,
    /// A size in bytes, as 256MiB, or in percent of the trace's footprint, as 1%; may be repeated
    /// [default: 0.1%, 1% and 10%, with --plot nine from 0.1% to 50%]
    #[arg(long = "capacity", value_name = "SIZE")]
    capacities: Vec<Capacity>,
    /// How to print the results
    #[arg(long, value_delimiter = ',', default_value = "table")]
    format: Vec<Printed>,
    /// Also draw miss-ratio curves into this file
    #[arg(long, value_name = "OUT.svg")]
    plot: Option<PathBuf>,
    /// Also tell what could be had by knowing the future: belady, belady-size, and the lower bound
    /// pfoo-l. Keeps the trace in memory, in 32 bytes a request and 16 a key
    #[arg(long)]
    bounds: bool,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    serving: Serving,
    /// Threads that replay [default: one a CPU]
    #[arg(long, value_name = "COUNT")]
    jobs: Option<NonZeroUsize>,
}

/// How the trace is read.
#[derive(Debug, Args)]
struct Reading {
    /// The format of the trace [default: known by its first line]
    #[arg(long, value_name = "FORMAT")]
    input: Option<Input>,
    /// Stop at the first bad line, rather than to count it and go on
    #[arg(long)]
    strict: bool,
}

/// What is as when serving.
#[derive(Debug, Args)]
struct Serving {
    /// Honour the column ttl: what has expired is a miss, and policies are told lifetimes
    #[arg(long)]
    ttl: bool,
    /// Charge bookkeeping, keep headroom, and refuse what is larger than a quarter, as when serving
    #[arg(long)]
    overhead: bool,
    /// Split the cache into shards, as when serving; rounded up to a power of two
    #[arg(long, value_name = "COUNT", default_value = "1")]
    shards: NonZeroU32,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Printed {
    /// For people
    Table,
    /// For programs
    Json,
}

/// The format of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Input {
    /// Columns time, key, size and perhaps ttl
    Csv,
    /// Common or combined log format
    Clf,
    /// Larder's access log
    Json,
}

impl From<Input> for Format {
    fn from(input: Input) -> Self {
        match input {
            Input::Csv => Self::Csv,
            Input::Clf => Self::Clf,
            Input::Json => Self::Json,
        }
    }
}

/// Simulates and prints.
pub(super) fn run(arguments: Simulate, out: &mut impl Write) -> Result<(), Failure> {
    logging::start(Level::Error);
    let plot = arguments.plot.clone();
    let formats = arguments.format.clone();
    let settings = arguments.settings()?;
    if let Some(path) = &plot {
        // Said before minutes of work rather than after.
        std::fs::write(path, "").map_err(|error| unwritable(path, &error))?;
    }
    let interrupted = interrupts()?;
    let mut meter = Meter::new();
    let outcome = crate::simulate::run(&settings, &mut |progress| {
        meter.show(progress);
        match interrupted.load(SeqCst) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    meter.clear();
    let report = outcome?;
    let name = settings.trace.path.file_name();
    let name = name.map_or_else(|| "-".into(), |name| name.to_string_lossy());
    for format in formats {
        match format {
            Printed::Table => table::write(out, &name, &report)?,
            Printed::Json => output::json(out, &document(&report))?,
        }
    }
    out.flush()?;
    tell(&report, &mut io::stderr().lock());
    if let Some(path) = &plot {
        let mut drawn = String::new();
        plot::svg(&mut drawn, &name, &report).map_err(|error| Failure::Run(error.into()))?;
        std::fs::write(path, drawn).map_err(|error| unwritable(path, &error))?;
    }
    match report.interrupted {
        true => Err(Failure::Interrupted),
        false => Ok(()),
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::local(format!("--plot {}: {error}", path.display()), "")
}

impl Simulate {
    fn settings(self) -> Result<Settings, Failure> {
        let defaults: &[&str] = if self.plot.is_some() {
            &CURVE
        } else {
            &CAPACITIES
        };
        let mut capacities = self.capacities;
        if capacities.is_empty() {
            let parsed = defaults
                .iter()
                .map(|text| text.parse())
                .collect::<Result<_, _>>();
            capacities = parsed.map_err(Failure::Usage)?;
        }
        let jobs = self
            .jobs
            .or_else(|| std::thread::available_parallelism().ok())
            .map_or(1, NonZeroUsize::get);
        Ok(Settings {
            trace: TraceSettings {
                path: self.trace,
                format: self.reading.input.map(Format::from),
                tolerance: if self.reading.strict {
                    Tolerance::Strict
                } else {
                    Tolerance::Lenient
                },
            },
            policies: self.policies,
            capacities,
            manner: Manner {
                as_served: self.serving.overhead,
                ttl: self.serving.ttl,
                shards: self.serving.shards,
            },
            bounds: self.bounds,
            jobs,
        })
    }
}

/// Set by Ctrl-C. A second one ends the process at once.
fn interrupts() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|error| Failure::Run(error.into()))?;
    let entered = runtime.enter();
    let mut signals =
        signal(SignalKind::interrupt()).map_err(|error| Failure::Run(error.into()))?;
    drop(entered);
    let thread = std::thread::Builder::new().name("larder-signals".to_owned());
    let waits = move || {
        runtime.block_on(async {
            while signals.recv().await.is_some() {
                if set.swap(true, SeqCst) {
                    std::process::exit(i32::from(Failure::Interrupted.code()));
                }
            }
        });
    };
    thread
        .spawn(waits)
        .map_err(|error| Failure::Run(error.into()))?;
    Ok(flag)
}

/// The results for programs.
fn document(report: &Report) -> Value {
    let oddities = &report.oddities;
    json!({
        "results": report.rows.iter().map(row).collect::<Vec<_>>(),
        "bounds": report.bounds.iter().map(bounded).collect::<Vec<_>>(),
        "trace": {
            "requests": report.requests,
            "bytes": report.bytes,
            "keys": report.footprint.map(|footprint| footprint.keys),
            "footprint_bytes": report.footprint.map(|footprint| footprint.bytes),
            "bad_lines": oddities.bad,
            "not_cacheable": oddities.not_cacheable,
            "times_backwards": oddities.backwards,
        },
        "interrupted": report.interrupted,
    })
}

fn row(row: &Row) -> Value {
    let outcome = &row.outcome;
    let faults: serde_json::Map<_, _> = outcome
        .faults
        .iter()
        .map(|(kind, count)| ((*kind).to_owned(), Value::from(*count)))
        .collect();
    json!({
        "policy": row.policy,
        "capacity": row.capacity,
        "capacity_bytes": outcome.capacity_bytes,
        "requests": outcome.requests,
        "misses": outcome.misses,
        "request_miss_ratio": outcome.request_miss_ratio(),
        "byte_miss_ratio": outcome.byte_miss_ratio(),
        "evictions": outcome.evictions,
        "native_evictions": outcome.native_evictions,
        "refusals": outcome.refusals,
        "ns_host": tenths(outcome.ns_host),
        "ns_guest": tenths(outcome.ns_guest),
        "faults": outcome.fault_count(),
        "faults_by_kind": faults,
        "fell_back": outcome.fell_back,
        "peak_bytes": outcome.peak_bytes,
        "peak_entries": outcome.peak_entries,
        "guest_memory_bytes": outcome.guest_memory_bytes,
    })
}

fn tenths(ns: f64) -> f64 {
    (ns * 10.0).round() / 10.0
}

fn bounded(bounded: &Bounded) -> Value {
    json!({
        "bound": bounded.bound.as_str(),
        "capacity_bytes": bounded.capacity_bytes,
        "request_miss_ratio": bounded.request_miss_ratio,
        "byte_miss_ratio": bounded.byte_miss_ratio,
    })
}

/// Writes what should be known beside the results, for people. With standard error gone there is
/// nobody left to tell.
fn tell(report: &Report, err: &mut impl Write) {
    let mut note = |text: String| drop(writeln!(err, "note: {}", output::printable(&text)));
    if report.interrupted {
        note(format!(
            "interrupted: these are the results of the first {} requests",
            plot::grouped(report.requests)
        ));
    }
    let oddities = &report.oddities;
    if oddities.bad > 0 {
        note(format!(
            "{} bad lines were passed over",
            plot::grouped(oddities.bad)
        ));
    }
    if oddities.backwards > 0 {
        note(format!(
            "{} times were before the one before; time stood still for them",
            plot::grouped(oddities.backwards)
        ));
    }
    for named in &oddities.named {
        note(format!("  {named}"));
    }
    if oddities.not_cacheable > 0 {
        note(format!(
            "{} lines of the log were no requests that a cache could answer",
            plot::grouped(oddities.not_cacheable)
        ));
    }
    let footprint = report.footprint.map(|footprint| footprint.bytes);
    for row in &report.rows {
        let outcome = &row.outcome;
        let what = format!("{} at {}", row.policy, row.capacity);
        if outcome.fault_count() > 0 {
            let kinds: Vec<_> = outcome
                .faults
                .iter()
                .map(|(kind, count)| format!("{kind} {count}"))
                .collect();
            let then = match outcome.fell_back {
                true => format!("it was taken out of service, and {NATIVE} went on"),
                false => format!("{NATIVE} answered for it until the next instance was ready"),
            };
            note(format!("{what} faulted ({}); {then}", kinds.join(", ")));
        }
        if footprint.is_some_and(|footprint| outcome.capacity_bytes > footprint) {
            note(format!(
                "{what}: larger than the footprint, so only first requests miss"
            ));
        }
    }
}

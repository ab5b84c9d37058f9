//! Simulation: what a policy would have made of a trace, found by the very components and the very
//! memory tier that serve.
//!
//! ```text
//! trace ── lines ── requests ── batches ──┬──> cell: policy at a capacity ──> outcome
//!                                         ├──> cell ...       (on every core)
//!                                         └──> offline: the future, if bounds are wanted
//! ```
//!
//! What a simulation is: one shard in lockstep, so that every event is told and every victim has
//! left before the next request; the capacity is all for objects, without bookkeeping; nothing
//! expires; the cache is empty at first and every request counts; an object above the capacity is
//! a miss. [`Manner`] changes it towards what happens when serving.
//!
//! The trace is read as it is replayed and not kept. Capacities in percent need its footprint, and so
//! a reading before, from which a short one is kept; bounds keep it whole.

mod capacity;
mod cell;
mod contender;
mod footprint;
pub mod generate;
pub mod number;
pub mod offline;
pub mod plot;
mod reading;
mod request;
mod schedule;
pub mod trace;

use std::ops::ControlFlow;
use std::sync::Arc;

pub use capacity::Capacity;
pub use cell::{Manner, Outcome};
pub use contender::NATIVE;
pub use footprint::Footprint;

use crate::policy::activation::Activation;
use cell::Cell;
use contender::Stable;
use footprint::Survey;
use offline::{Bounded, Future};
use reading::{Keeper, Reading};
use schedule::BATCH_REQUESTS;
use trace::{Oddities, Trace, TraceError, TraceSettings};

/// What is to be simulated.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The trace.
    pub trace: TraceSettings,
    /// The policies, as [`NATIVE`], a name or a file, with parameters; none: all there are.
    pub policies: Vec<String>,
    /// The capacities.
    pub capacities: Vec<Capacity>,
    /// How it differs from the plain one.
    pub manner: Manner,
    /// Whether offline bounds are wanted, for which the trace is kept in memory.
    pub bounds: bool,
    /// Threads that replay, beside the one that reads.
    pub jobs: usize,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// An argument is wrong.
    #[error("{0}")]
    Argument(String),
    /// The trace cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The trace has no request.
    #[error("{0}")]
    Empty(String),
    /// This machine cannot run policies.
    #[error("{0:#}")]
    Host(anyhow::Error),
    /// The observer ended it before there was anything to report.
    #[error("interrupted before the first results")]
    Interrupted,
}

/// What is done at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reading for the footprint.
    Surveying,
    /// Replaying.
    Replaying,
    /// Computing bounds, which nothing interrupts.
    Bounding,
}

/// How far a simulation has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// What is done.
    pub phase: Phase,
    /// Requests read in this phase.
    pub requests: u64,
    /// How much of the trace that is, where its length is known.
    pub part: Option<f64>,
}

/// Hears of the progress, and may end the simulation.
pub type Observer<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// One policy at one capacity.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The policy as it was asked for.
    pub policy: String,
    /// The capacity as it was asked for.
    pub capacity: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a simulation found.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// One row a policy and capacity, by capacity.
    pub rows: Vec<Row>,
    /// The bounds, if they were asked for and the trace was read to its end.
    pub bounds: Vec<Bounded>,
    /// Requests that were replayed.
    pub requests: u64,
    /// Bytes they asked for.
    pub bytes: u64,
    /// The footprint, if a capacity needed it.
    pub footprint: Option<Footprint>,
    /// What was odd about the trace.
    pub oddities: Oddities,
    /// The observer ended it.
    pub interrupted: bool,
}

/// Simulates.
///
/// # Errors
/// An argument is wrong, or the trace cannot be read to its end.
pub fn run(settings: &Settings, observe: Observer<'_>) -> Result<Report, SimulateError> {
    let mut stable = Stable::open()?;
    let policies = match settings.policies.as_slice() {
        [] => stable.everything(),
        policies => policies.to_vec(),
    };
    // Before anything is read: whoever wrote a wrong name need not wait for a survey.
    for policy in &policies {
        stable.activation(policy)?;
    }
    let share = settings.capacities.iter().find(|share| share.is_share());
    let (footprint, kept) = match share {
        Some(share) => {
            let (footprint, kept) = survey(settings, share, observe)?;
            (Some(footprint), kept)
        }
        None => (None, None),
    };
    let mut labels = Vec::new();
    let mut cells = Vec::new();
    for capacity in &settings.capacities {
        for policy in &policies {
            let activation = stable.activation(policy)?;
            cells.push(cell(settings, capacity, policy, activation, footprint));
            labels.push((policy.clone(), capacity.to_string()));
        }
    }
    let reading = match kept {
        Some(reading) => reading,
        None => Reading::open(&settings.trace)?,
    };
    replay(settings, reading, cells, labels, footprint, observe)
}

fn cell(
    settings: &Settings,
    capacity: &Capacity,
    policy: &str,
    activation: Arc<Activation>,
    footprint: Option<Footprint>,
) -> Cell {
    let bytes = capacity.bytes(footprint.unwrap_or_default());
    let keys = footprint.map_or(u64::MAX, |footprint| footprint.keys);
    let name = format!("{policy} {capacity}");
    Cell::new(name, activation, settings.manner, bytes, keys)
}

/// Reads the trace for its footprint, and keeps it if it is short.
fn survey(
    settings: &Settings,
    share: &Capacity,
    observe: Observer<'_>,
) -> Result<(Footprint, Option<Reading>), SimulateError> {
    let path = &settings.trace.path;
    // A file that is not there is told of when it is opened.
    let once = path.as_os_str() == "-"
        || std::fs::metadata(path).is_ok_and(|it| !it.is_file() && !it.is_dir());
    if once {
        return Err(SimulateError::Argument(format!(
            "{share} of the footprint takes two readings, and {} can be read once: write the \
             trace to a file, or give capacities in bytes such as 256MiB",
            path.display()
        )));
    }
    let mut reading = Reading::open(&settings.trace)?;
    let (mut survey, mut keeper) = (Survey::default(), Keeper::new());
    let mut batch = Vec::with_capacity(BATCH_REQUESTS);
    loop {
        let more = reading.read(&mut batch)?;
        survey.add(&batch);
        keeper.add(&mut batch);
        if tell(observe, Phase::Surveying, &reading).is_break() {
            return Err(SimulateError::Interrupted);
        }
        if !more {
            some(reading.trace())?;
            return Ok((survey.footprint(), keeper.again(reading)));
        }
    }
}

fn replay(
    settings: &Settings,
    mut reading: Reading,
    cells: Vec<Cell>,
    labels: Vec<(String, String)>,
    footprint: Option<Footprint>,
    observe: Observer<'_>,
) -> Result<Report, SimulateError> {
    let mut future = settings.bounds.then(Future::default);
    let mut interrupted = false;
    let mut bytes = 0_u64;
    let cells = schedule::run(cells, settings.jobs, |batch| {
        let more = reading.read(batch)?;
        bytes = batch
            .iter()
            .fold(bytes, |sum, request| sum.saturating_add(request.size));
        if let Some(future) = &mut future {
            future.add(batch);
        }
        interrupted = tell(observe, Phase::Replaying, &reading).is_break();
        Ok::<_, SimulateError>(more && !interrupted)
    })?;
    if !interrupted {
        some(reading.trace())?;
    }
    let rows: Vec<_> = labels
        .into_iter()
        .zip(&cells)
        .map(|((policy, capacity), cell)| Row {
            policy,
            capacity,
            outcome: cell.outcome(),
        })
        .collect();
    // What the caches held is not needed beside the bounds.
    drop(cells);
    let bounds = match future {
        Some(future) if !interrupted && tell(observe, Phase::Bounding, &reading).is_continue() => {
            let mut capacities: Vec<_> =
                rows.iter().map(|row| row.outcome.capacity_bytes).collect();
            capacities.dedup();
            future.bounds(&capacities)
        }
        _ => Vec::new(),
    };
    Ok(Report {
        rows,
        bounds,
        requests: reading.requests(),
        bytes,
        footprint,
        oddities: reading.trace().oddities().clone(),
        interrupted,
    })
}

fn tell(observe: Observer<'_>, phase: Phase, reading: &Reading) -> ControlFlow<()> {
    observe(Progress {
        phase,
        requests: reading.requests(),
        part: reading.progress(),
    })
}

/// A trace that was read to its end must have had a request.
fn some(trace: &Trace) -> Result<(), SimulateError> {
    if trace.requests() > 0 {
        return Ok(());
    }
    let mut message = format!("{}: there is no request in it", trace.path().display());
    let oddities = trace.oddities();
    if oddities.bad > 0 {
        let first = oddities
            .named
            .first()
            .map(String::as_str)
            .unwrap_or_default();
        message = format!("{message}, but {} bad lines; {first}", oddities.bad);
    } else if oddities.not_cacheable > 0 {
        message = format!("{message} that a cache could answer");
    }
    Err(SimulateError::Empty(message))
}

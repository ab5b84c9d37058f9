//! One store: the memory, stack and time that a single instance may use, and what ended a call.
//!
//! After any fault the store is unusable and its owner drops it; nothing of a guest outlives it.

use std::time::Duration;

use wasmtime::{Engine, ResourceLimiter, Store, Trap, UpdateDeadline};

use super::engine::TICK;
use crate::clock;

/// What one instance may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory.
    pub memory: u64,
    /// Running time of one call.
    pub deadline: Duration,
}

/// How a call failed. The words are the values of the metric label `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The guest trapped: unreachable code, a panic, an access out of bounds.
    Trap,
    /// The guest ran past its deadline.
    Deadline,
    /// The guest used up its stack.
    Stack,
    /// The guest answered something that the interface forbids.
    Answer,
    /// No instance could be made.
    Instance,
    /// The guest refused its parameters.
    Parameters,
}

impl FaultKind {
    /// Every kind, in the order of the metrics.
    pub const ALL: [Self; 6] = [
        Self::Trap,
        Self::Deadline,
        Self::Stack,
        Self::Answer,
        Self::Instance,
        Self::Parameters,
    ];

    /// The word used in metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Stack => "stack",
            Self::Answer => "answer",
            Self::Instance => "instance",
            Self::Parameters => "parameters",
        }
    }
}

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {detail}", kind.as_str())]
pub struct Fault {
    /// How.
    pub kind: FaultKind,
    /// In words, for the operator and never for a client.
    pub detail: String,
}

impl Fault {
    /// An answer that the interface forbids.
    pub fn answer(detail: impl Into<String>) -> Self {
        Self {
            kind: FaultKind::Answer,
            detail: detail.into(),
        }
    }

    /// No usable instance.
    pub fn instance(error: &wasmtime::Error) -> Self {
        Self {
            detail: format!("{error:#}"),
            ..Self::from_call(error)
        }
        .of_instance()
    }

    fn of_instance(self) -> Self {
        match self.kind {
            FaultKind::Trap => Self {
                kind: FaultKind::Instance,
                ..self
            },
            _ => self,
        }
    }

    fn from_call(error: &wasmtime::Error) -> Self {
        let kind = match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => FaultKind::Deadline,
            Some(Trap::StackOverflow) => FaultKind::Stack,
            _ => FaultKind::Trap,
        };
        Self {
            kind,
            detail: error.root_cause().to_string(),
        }
    }
}

/// The state of a store: its memory limit, its clock, and what the host functions that its guest
/// may call work on. Policies may call none.
#[derive(Debug)]
pub struct State<T = ()> {
    /// What host functions work on.
    pub data: T,
    memory_limit: u64,
    memory: u64,
    ticks: u64,
    /// CPU time of the thread when the running call was first found late.
    late_since: Option<Duration>,
}

impl<T: Send> ResourceLimiter for State<T> {
    fn memory_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let desired = u64::try_from(desired).unwrap_or(u64::MAX);
        let allowed = desired <= self.memory_limit;
        if allowed {
            self.memory = desired;
        }
        Ok(allowed)
    }

    fn table_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= 10_000)
    }

    fn instances(&self) -> usize {
        8
    }

    fn tables(&self) -> usize {
        4
    }

    fn memories(&self) -> usize {
        1
    }
}

/// Ticks after which a call is looked at for the first time.
const FIRST_LOOK: u64 = 2;

impl<T> State<T> {
    /// A late call is ended for the time it ran, not for the time its thread waited for a CPU: on
    /// a busy machine an innocent call of half a microsecond would be hit otherwise. The first
    /// look notes the thread's CPU time; later looks end the call once it has used up the rest.
    fn judge_lateness(&mut self) -> UpdateDeadline {
        let used = clock::cpu_time();
        let allowed =
            TICK * u32::try_from(self.ticks.saturating_sub(FIRST_LOOK)).unwrap_or(u32::MAX);
        match self.late_since {
            None => {
                self.late_since = Some(used);
                UpdateDeadline::Continue(self.ticks.saturating_sub(FIRST_LOOK).max(1))
            }
            // A tick's grace: the first look may come up to a tick early.
            Some(since) if used.saturating_sub(since) + TICK < allowed => {
                UpdateDeadline::Continue(1)
            }
            Some(_) => UpdateDeadline::Interrupt,
        }
    }
}

/// A store and the clock of its calls.
#[derive(Debug)]
pub struct Sandbox<T: 'static = ()> {
    store: Store<State<T>>,
}

impl Sandbox {
    /// An empty store of `engine` for a guest that calls no host function.
    pub fn new(engine: &Engine, limits: Limits) -> Self {
        Self::with_data(engine, limits, ())
    }
}

impl<T: Send + 'static> Sandbox<T> {
    /// An empty store of `engine` whose host functions work on `data`.
    pub fn with_data(engine: &Engine, limits: Limits, data: T) -> Self {
        let ticks = u64::try_from(limits.deadline.as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        let state = State {
            data,
            memory_limit: limits.memory,
            memory: 0,
            ticks,
            late_since: None,
        };
        let mut store = Store::new(engine, state);
        store.limiter(|state| state);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().judge_lateness()));
        // What a guest hands over is copied before anyone looks at it. Lists may name the same
        // bytes many times, so the size of its memory alone does not bound the copy.
        store.set_hostcall_fuel(usize::try_from(limits.memory).unwrap_or(usize::MAX));
        Self { store }
    }

    /// Runs `call` against its deadline.
    ///
    /// # Errors
    /// The guest trapped or overran; the sandbox must be dropped.
    #[inline]
    pub fn call<R>(
        &mut self,
        call: impl FnOnce(&mut Store<State<T>>) -> wasmtime::Result<R>,
    ) -> Result<R, Fault> {
        let state = self.store.data_mut();
        state.late_since = None;
        let ticks = state.ticks;
        self.store.set_epoch_deadline(FIRST_LOOK.min(ticks) + 1);
        call(&mut self.store).map_err(|error| Fault::from_call(&error))
    }

    /// Bytes of linear memory in use.
    pub fn memory(&self) -> u64 {
        self.store.data().memory
    }
}

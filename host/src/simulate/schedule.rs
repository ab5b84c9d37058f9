//! Many cells over one reading of a trace, on as many threads as are wanted.
//!
//! The caller's thread reads batches into a short window. A cell is run by one thread at a time,
//! and sees every batch in order; a batch leaves the window when the last cell has seen it. So the
//! memory is that of the window whatever the length of the trace, and a slow cell holds up the
//! reading rather than its neighbours.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::cell::Cell;
use super::request::Request;

/// Requests of a batch: some milliseconds of work.
pub(super) const BATCH_REQUESTS: usize = 8 << 10;
/// Batches that are read ahead of the slowest cell.
const WINDOW_BATCHES: usize = 16;

type Batch = Arc<Vec<Request>>;

/// What the reader and the workers share.
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    window: VecDeque<Batch>,
    /// Batches that everyone has seen, emptied: memory that is new costs more than what is read
    /// into it.
    spare: Vec<Vec<Request>>,
    /// The number of the first batch in the window.
    first: usize,
    /// No batch follows those in the window.
    ended: bool,
    /// The cells, except those that a worker has.
    cells: Vec<Option<Cell>>,
    /// For each cell, the number of the next batch that it must see.
    next: Vec<usize>,
}

impl State {
    /// The cell that is furthest behind of those that can go on, and its batches.
    fn take(&mut self) -> Option<(usize, Cell, Vec<Batch>)> {
        let end = self.first + self.window.len();
        let ready = self.cells.iter().zip(&self.next).enumerate();
        let (at, next) = ready
            .filter(|(_, (cell, next))| cell.is_some() && **next < end)
            .map(|(at, (_, next))| (at, *next))
            .min_by_key(|(_, next)| *next)?;
        let cell = self.cells.get_mut(at)?.take()?;
        let batches = self.window.iter().skip(next - self.first).cloned();
        Some((at, cell, batches.collect()))
    }

    /// Takes a cell back that has seen `batches`.
    fn put_back(&mut self, at: usize, cell: Cell, batches: Vec<Batch>) {
        let count = batches.len();
        drop(batches);
        if let (Some(place), Some(next)) = (self.cells.get_mut(at), self.next.get_mut(at)) {
            *place = Some(cell);
            *next += count;
        }
        let seen = self.next.iter().min().copied().unwrap_or(usize::MAX);
        while self.first < seen
            && let Some(batch) = self.window.pop_front()
        {
            self.first += 1;
            if let Some(mut batch) = Arc::into_inner(batch) {
                batch.clear();
                self.spare.push(batch);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.ended && self.window.is_empty()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let _leaving = Leaving(self);
        let mut state = self.lock();
        while !state.is_over() {
            let Some((at, mut cell, batches)) = state.take() else {
                state = self.wait(state);
                continue;
            };
            drop(state);
            for batch in &batches {
                cell.replay(batch);
            }
            state = self.lock();
            state.put_back(at, cell, batches);
            self.changed.notify_all();
        }
    }
}

/// Ends the run when a worker leaves: in the end, or by a panic, which must not leave the others
/// waiting for its cell.
struct Leaving<'a>(&'a Shared);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        state.window.clear();
        self.0.changed.notify_all();
    }
}

/// Runs `cells` on `jobs` threads over what `read` appends to a batch, until it answers that there
/// is no more. Answers the cells in their sequence.
///
/// # Errors
/// What `read` failed with.
pub(super) fn run<E>(
    cells: Vec<Cell>,
    jobs: usize,
    mut read: impl FnMut(&mut Vec<Request>) -> Result<bool, E>,
) -> Result<Vec<Cell>, E> {
    if cells.is_empty() {
        while read(&mut Vec::with_capacity(BATCH_REQUESTS))? {}
        return Ok(cells);
    }
    let jobs = jobs.clamp(1, cells.len());
    let shared = Shared {
        state: Mutex::new(State {
            window: VecDeque::new(),
            spare: Vec::new(),
            first: 0,
            ended: false,
            next: vec![0; cells.len()],
            cells: cells.into_iter().map(Some).collect(),
        }),
        changed: Condvar::new(),
    };
    let outcome = std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for _ in 0..jobs {
            workers.push(scope.spawn(|| shared.work()));
        }
        let outcome = feed(&shared, &mut read);
        shared.lock().ended = true;
        shared.changed.notify_all();
        outcome
    });
    outcome?;
    let state = shared
        .state
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    Ok(state.cells.into_iter().flatten().collect())
}

/// Reads into the window until there is no more.
fn feed<E>(
    shared: &Shared,
    read: &mut impl FnMut(&mut Vec<Request>) -> Result<bool, E>,
) -> Result<(), E> {
    loop {
        let spare = shared.lock().spare.pop();
        let mut batch = spare.unwrap_or_else(|| Vec::with_capacity(BATCH_REQUESTS));
        let more = read(&mut batch)?;
        let mut state = shared.lock();
        while state.window.len() >= WINDOW_BATCHES && !state.ended {
            state = shared.wait(state);
        }
        if state.ended {
            // A worker panicked, which the end of the scope passes on.
            return Ok(());
        }
        if !batch.is_empty() {
            state.window.push_back(Arc::new(batch));
            shared.changed.notify_all();
        }
        if !more {
            return Ok(());
        }
    }
}

//! The threads that read: a fixed number, with a bounded queue and a deadline for who waits.
//!
//! A device that hangs keeps its threads, and nobody waits for it longer than the deadline: once
//! every thread is kept, further reads are refused at once until one comes back.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Reads that wait, at most.
const WAITING_MAX: usize = 1_024;

type Job = Box<dyn FnOnce() + Send>;

/// Why something was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotRead {
    /// In time.
    TimedOut,
    /// Too many reads wait, or the device hangs.
    Busy,
    /// The tier stops.
    Stopped,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Threads that read.
    busy: usize,
    /// Threads that wait for a read. Whoever does not wait looks for one before it does.
    idle: usize,
    threads: usize,
    /// Whether all threads read and one of them has done so for longer than the deadline.
    stalled: bool,
    stopping: bool,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    wake: Condvar,
}

/// The reading threads. They end when this is dropped or stopped.
pub(super) struct Readers {
    inner: Arc<Inner>,
    deadline: Duration,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.inner.lock();
        f.debug_struct("Readers")
            .field("threads", &state.threads)
            .field("busy", &state.busy)
            .field("waiting", &state.jobs.len())
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// The state is whole between any two statements of whoever holds it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                state.busy += 1;
                drop(state);
                // A job that panics answers nobody, which its caller sees; the thread goes on.
                drop(catch_unwind(AssertUnwindSafe(job)));
                state = self.lock();
                state.busy -= 1;
                state.stalled = false;
            } else if state.stopping {
                return;
            } else {
                state.idle += 1;
                let woken = self.wake.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}

impl Readers {
    /// Starts `threads` of them.
    pub(super) fn start(threads: usize, deadline: Duration) -> std::io::Result<Self> {
        let readers = Self {
            inner: Arc::default(),
            deadline,
            threads: Mutex::default(),
        };
        for number in 0..threads.max(1) {
            let inner = Arc::clone(&readers.inner);
            let thread = thread::Builder::new()
                .name(format!("disk-read-{number}"))
                .spawn(move || inner.work())?;
            readers.inner.lock().threads += 1;
            let mut all = readers
                .threads
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            all.push(thread);
        }
        Ok(readers)
    }

    /// How long a read may take.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Has a thread do `work`.
    ///
    /// # Cancel safety
    /// May be dropped; work that has not begun is not done then.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotRead> {
        let (answer, answered) = oneshot::channel();
        self.enqueue(Box::new(move || {
            if !answer.is_closed() {
                // Nobody may be waiting any more.
                drop(answer.send(work()));
            }
        }))?;
        match tokio::time::timeout(self.deadline, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(NotRead::Stopped),
            Err(_) => {
                let mut state = self.inner.lock();
                state.stalled = state.busy == state.threads;
                Err(NotRead::TimedOut)
            }
        }
    }

    fn enqueue(&self, job: Job) -> Result<(), NotRead> {
        let mut state = self.inner.lock();
        if state.stopping {
            return Err(NotRead::Stopped);
        }
        if state.stalled || state.jobs.len() >= WAITING_MAX {
            return Err(NotRead::Busy);
        }
        state.jobs.push_back(job);
        let idle = state.idle > 0;
        drop(state);
        if idle {
            self.inner.wake.notify_one();
        }
        Ok(())
    }

    /// Whether reads are refused because the device hangs.
    pub(super) fn is_stalled(&self) -> bool {
        self.inner.lock().stalled
    }

    /// Ends the threads that are not kept by the device. How many are.
    pub(super) fn stop(&self, within: Duration) -> usize {
        let waiting = {
            let mut state = self.inner.lock();
            state.stopping = true;
            std::mem::take(&mut state.jobs)
        };
        // Whoever waits for one is told by its end.
        drop(waiting);
        self.inner.wake.notify_all();
        let mut all = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        super::join_within(std::mem::take(&mut *all), within)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.inner.lock().stopping = true;
        self.inner.wake.notify_all();
    }
}

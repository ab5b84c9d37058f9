//! The thread that waits for the device: for every segment that was sealed, and every few seconds
//! for the open one.
//!
//! A failure to sync is never tried again: nobody knows afterwards what the device has, so what
//! was written to the segment is given up.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Shared;
use super::segment::Segment;

#[derive(Debug, Default)]
struct State {
    sealed: Vec<Arc<Segment>>,
    /// The open segment, if it was written to since it was synced.
    dirty: Option<Arc<Segment>>,
    stopping: bool,
}

/// What is to be synced.
#[derive(Debug, Default)]
pub(super) struct Syncer {
    state: Mutex<State>,
    wake: Condvar,
}

impl Syncer {
    /// The state is whole between any two statements of whoever holds it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open segment was written to.
    pub(super) fn wrote(&self, segment: &Arc<Segment>) {
        let mut state = self.lock();
        let known = state
            .dirty
            .as_ref()
            .is_some_and(|d| Arc::ptr_eq(d, segment));
        if !known {
            state.dirty = Some(Arc::clone(segment));
        }
    }

    /// A segment was sealed.
    pub(super) fn sealed(&self, segment: &Arc<Segment>) {
        let mut state = self.lock();
        state.dirty = None;
        state.sealed.push(Arc::clone(segment));
        drop(state);
        self.wake.notify_one();
    }

    /// Nothing more comes.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.wake.notify_one();
    }

    /// Syncs what comes, and the open segment every `interval`, until nothing more does.
    pub(super) fn run(&self, shared: &Shared, interval: Duration) {
        loop {
            let (segments, stopping) = {
                let idle = |state: &mut State| state.sealed.is_empty() && !state.stopping;
                let woken = self.wake.wait_timeout_while(self.lock(), interval, idle);
                let (mut state, waited) = woken.unwrap_or_else(PoisonError::into_inner);
                let mut segments = std::mem::take(&mut state.sealed);
                if waited.timed_out() || state.stopping {
                    segments.extend(state.dirty.take());
                }
                (segments, state.stopping)
            };
            for segment in &segments {
                // What was overwritten meanwhile is not worth waiting for.
                if segment.is_live()
                    && let Err(error) = shared.io.sync(&segment.file)
                {
                    let segment = Arc::clone(segment);
                    tracing::error!(%error, number = segment.number, "the disk tier failed to sync");
                    shared.queue.unsynced(segment);
                }
            }
            if stopping && segments.is_empty() {
                return;
            }
        }
    }
}

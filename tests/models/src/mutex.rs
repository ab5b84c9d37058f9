//! The checker's mutex, with one more place where others may go on: right after it was released. The
//! checker has none before the next primitive of its own, and what follows may be a wake-up of
//! another kind.

use std::ops::{Deref, DerefMut};
use std::sync::{LockResult, PoisonError};
use std::time::Duration;

use shuttle::sync::{Condvar as Inner, MutexGuard as Held, WaitTimeoutResult};

use crate::atomic::turn;

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T>(Option<Held<'a, T>>);

#[derive(Debug, Default)]
pub(crate) struct Condvar(Inner);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        guarded(self.0.lock())
    }

    pub(crate) fn clear_poison(&self) {
        self.0.clear_poison();
    }
}

fn guarded<T>(held: LockResult<Held<'_, T>>) -> LockResult<MutexGuard<'_, T>> {
    let guard = |held| MutexGuard(Some(held));
    held.map(guard)
        .map_err(|poisoned| PoisonError::new(guard(poisoned.into_inner())))
}

impl<'a, T> MutexGuard<'a, T> {
    fn held(mut self) -> Held<'a, T> {
        self.0.take().expect("it is held until it is dropped")
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().expect("it is held until it is dropped")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        let held = self.0.as_deref_mut();
        held.expect("it is held until it is dropped")
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        let released = self.0.take().is_some();
        if released && !std::thread::panicking() {
            turn();
        }
    }
}

impl Condvar {
    pub(crate) const fn new() -> Self {
        Self(Inner::new())
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        guarded(self.0.wait(guard.held()))
    }

    pub(crate) fn wait_while<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        guarded(self.0.wait_while(guard.held(), condition))
    }

    /// Time does not pass: see `crate::sync`.
    pub(crate) fn wait_timeout_while<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        within: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let woken = self.0.wait_timeout_while(guard.held(), within, condition);
        let guard = |(held, waited)| (MutexGuard(Some(held)), waited);
        woken
            .map(guard)
            .map_err(|poisoned| PoisonError::new(guard(poisoned.into_inner())))
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

//! The primitives that the mirrored modules take from `crate::sync`: those of the checker, and those
//! of the standard library where nothing can come in between.

pub(crate) use crate::atomic;
pub(crate) use crate::mutex::{Condvar, Mutex, MutexGuard};
pub(crate) use shuttle::sync::{Arc, RwLock};
pub(crate) use std::sync::{OnceLock, PoisonError};

/// Threads. Time does not pass here: what waits with a time-out waits until it is woken, so that a
/// wake-up which is lost shows as a deadlock.
pub(crate) mod thread {
    pub(crate) use shuttle::thread::{
        Builder, JoinHandle, Thread, current, park_timeout, yield_now,
    };
}

//! What threads share and wait by: the primitives of the standard library, under one name.
//!
//! Nothing is added to them. What takes them from here, and not from [`std`], can be built over
//! those of a model checker as well, which tries the orders in which threads may run: see
//! `tests/models`.

pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

/// Atomics.
pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
}

/// Threads.
pub(crate) mod thread {
    pub(crate) use std::thread::{Builder, JoinHandle, Thread, current, park_timeout, yield_now};
}

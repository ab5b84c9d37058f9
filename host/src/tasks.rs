//! The only place that spawns tasks.
//!
//! Workers run local runtimes, so their tasks never move between threads. A [`Tasks`] counts its
//! tasks, and whoever stops the worker waits for the count to fall to zero. What must outlive a
//! request, or talks to a slow service, is handed to an [`Offload`]: a thread of its own.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The tasks of one worker.
#[derive(Clone, Debug, Default)]
pub struct Tasks(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    running: Cell<usize>,
    idle: Notify,
}

impl Tasks {
    /// Runs `task` on this thread.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let running = Running::new(&self.0);
        // Detached: its end is seen through `running`.
        drop(tokio::task::spawn_local(async move {
            let _running = running;
            task.await;
        }));
    }

    /// Tasks running.
    pub fn running(&self) -> usize {
        self.0.running.get()
    }

    /// Waits until no task runs.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn idle(&self) {
        loop {
            // Registered before the count is read, so that no wake-up is lost.
            let idle = self.0.idle.notified();
            if self.running() == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// A running task; the count falls when this drops, however the task ended.
struct Running(Rc<Inner>);

impl Running {
    fn new(inner: &Rc<Inner>) -> Self {
        inner.running.set(inner.running.get() + 1);
        Self(Rc::clone(inner))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let left = self.0.running.get().saturating_sub(1);
        self.0.running.set(left);
        if left == 0 {
            self.0.idle.notify_waiters();
        }
    }
}

/// Lets hyper spawn the tasks of its connections on this thread. They end with their connection
/// or with the runtime.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalExecutor;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    fn execute(&self, task: F) {
        drop(tokio::task::spawn_local(task));
    }
}

/// A thread with a runtime of its own, for work that is handed over from any thread.
#[derive(Debug)]
pub struct Offload {
    handle: Handle,
    end: Arc<Notify>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Offload {
    /// Starts the thread `name`, which may use `blocking` more for calls that block. Once it was
    /// told to end, calls that still block are left behind after `grace`.
    ///
    /// # Errors
    /// The system has no thread or no descriptor left.
    pub fn start(name: &str, blocking: usize, grace: Duration) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(blocking)
            .build()?;
        let (handle, end) = (runtime.handle().clone(), Arc::new(Notify::new()));
        let ends = Arc::clone(&end);
        let run = move || {
            runtime.block_on(ends.notified());
            runtime.shutdown_timeout(grace);
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self {
            handle,
            end,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// What hands work over.
    pub fn spawner(&self) -> Spawner {
        Spawner(self.handle.clone())
    }

    /// Ends the thread and all that runs on it, and waits for that. Not to be called from it.
    pub fn end(&self) {
        self.end.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = { thread }.take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a thread for handed over work had panicked");
        }
    }
}

/// Only signals: whoever drops it may be on its thread.
impl Drop for Offload {
    fn drop(&mut self) {
        self.end.notify_one();
    }
}

/// Hands work over to an [`Offload`].
#[derive(Clone, Debug)]
pub struct Spawner(Handle);

impl Spawner {
    /// Runs `work` on that thread. The answer may be awaited on any.
    pub fn run<T, F>(&self, work: F) -> Handed<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        Handed(self.0.spawn(work))
    }

    /// Runs `work` on that thread, until it is done or the thread ends.
    pub fn detach(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.0.spawn(work));
    }

    /// Runs `work`, which blocks, beside that thread.
    pub fn detach_blocking(&self, work: impl FnOnce() + Send + 'static) {
        drop(self.0.spawn_blocking(work));
    }
}

/// Work that was handed over. Dropping it ends the work at its next pause.
#[derive(Debug)]
pub struct Handed<T>(JoinHandle<T>);

impl<T> Future for Handed<T> {
    /// None: the work panicked, or the thread has ended.
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(Result::ok)
    }
}

impl<T> Drop for Handed<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_waits_for_every_task_even_one_that_panics() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build_local(tokio::runtime::LocalOptions::default())
            .expect("a runtime");
        runtime.block_on(async {
            let (tasks, gate) = (Tasks::default(), Rc::new(Notify::new()));
            let waits = Rc::clone(&gate);
            tasks.spawn(async move { waits.notified().await });
            tasks.spawn(async { panic!("on purpose") });
            assert_eq!(tasks.running(), 2);
            tokio::task::yield_now().await;
            gate.notify_one();
            tasks.idle().await;
            assert_eq!(tasks.running(), 0);
        });
    }

    #[test]
    fn handed_over_work_answers_anywhere_and_ends_with_its_thread() {
        let offload = Offload::start("offload", 1, Duration::ZERO).unwrap();
        let spawner = offload.spawner();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(async {
            let name = || thread::current().name().map(str::to_owned);
            let there = spawner.run(async move { name() }).await;
            assert_eq!(there, Some(Some("offload".to_owned())));
            let gate = Arc::new(());
            let held = Arc::clone(&gate);
            let waits = spawner.run(async move {
                std::future::pending::<()>().await;
                drop(held);
            });
            drop(waits);
            let (ended, seen) = tokio::sync::oneshot::channel::<()>();
            spawner.detach(async move {
                std::future::pending::<()>().await;
                drop(ended);
            });
            offload.end();
            assert!(seen.await.is_err());
            assert_eq!(Arc::strong_count(&gate), 1);
            assert_eq!(spawner.run(async {}).await, None);
        });
    }
}

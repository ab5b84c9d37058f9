//! The only place that spawns tasks.
//!
//! Workers run local runtimes, so their tasks never move between threads. A [`Tasks`] counts its
//! tasks, and whoever stops the worker waits for the count to fall to zero.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

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
}

//! Content that no head names any more and someone may still be reading: deleted after a while.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use object_store::path::Path;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::remote::Remote;
use crate::clock::{self, Moment};

/// Objects that are remembered, at most. What comes beyond is left to the sweep.
const MOST: usize = 4096;

/// Objects to delete, each when its time has come.
#[derive(Debug)]
pub(super) struct Retired {
    grace: Duration,
    objects: Mutex<VecDeque<(Moment, Path)>>,
    more: Notify,
}

impl Retired {
    /// None yet. Each stays for `grace`.
    pub(super) fn new(grace: Duration) -> Self {
        Self {
            grace,
            objects: Mutex::default(),
            more: Notify::new(),
        }
    }

    /// Deletes `object` when its time has come.
    pub(super) fn push(&self, object: Path) {
        let mut objects = self.lock();
        if objects.len() < MOST {
            objects.push_back((clock::now().after(self.grace), object));
            drop(objects);
            self.more.notify_one();
        }
    }

    /// Deletes them, for as long as the tier runs.
    pub(super) async fn delete(&self, remote: &Remote) {
        loop {
            let first = self.lock().front().map(|(due, _)| *due);
            let Some(due) = first else {
                self.more.notified().await;
                continue;
            };
            sleep(due.since(clock::now())).await;
            let due = self.lock().pop_front();
            if let Some((_, object)) = due {
                // One that cannot be deleted now is left to the sweep.
                remote.delete(&object).await.unwrap_or_default();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Moment, Path)>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

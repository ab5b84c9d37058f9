//! Content that no head names any more and someone may still be reading: deleted after a while.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::names::{Name, Names, Nonce};
use super::remote::Remote;
use super::sweep;
use crate::clock::{self, Moment};

/// Objects that are remembered, at most. What comes beyond is left to the sweep.
const MOST: usize = 4096;

/// Objects to delete, each when its time has come.
#[derive(Debug)]
pub(super) struct Retired {
    grace: Duration,
    objects: Mutex<VecDeque<(Moment, Name, Nonce)>>,
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

    /// Deletes that content of that entry when its time has come.
    pub(super) fn push(&self, name: Name, nonce: Nonce) {
        let mut objects = self.lock();
        if objects.len() < MOST {
            objects.push_back((clock::now().after(self.grace), name, nonce));
            drop(objects);
            self.more.notify_one();
        }
    }

    /// Deletes them, for as long as the tier runs.
    pub(super) async fn delete(&self, remote: &Remote, names: &Names) {
        loop {
            let first = self.lock().front().map(|(due, ..)| *due);
            let Some(due) = first else {
                self.more.notified().await;
                continue;
            };
            sleep(due.since(clock::now())).await;
            let due = self.lock().pop_front();
            if let Some((_, name, nonce)) = due {
                // Another node may have named it again. One that cannot be deleted now is left to
                // the sweep.
                if sweep::is_named(remote, names, name, nonce).await == Ok(false) {
                    let deleted = remote.delete(&names.body(name, nonce)).await;
                    deleted.unwrap_or_default();
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Moment, Name, Nonce)>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

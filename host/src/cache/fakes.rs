//! A slow tier of a map, for tests: it fails, hangs and refuses as it is told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::entry::{Entry, KeyView};
use crate::tier::Usage;
use crate::tier::envelope::{Born, Envelope};
use crate::tier::eviction::Reinsertion;
use crate::tier::found::{Found, FoundBody};
use crate::tier::slow::{Answer, Figure, Health, SlowTier, Unavailable, Writer, Written};

/// How a [`FakeTier`] behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// As it should.
    Honest,
    /// Lookups fail, and it takes nothing.
    Broken,
    /// Lookups never end.
    Hung,
    /// It takes no writes.
    ReadOnly,
}

#[derive(Debug)]
pub(super) struct FakeTier {
    name: &'static str,
    pub(super) manner: Mutex<Manner>,
    held: Mutex<HashMap<Box<[u8]>, (Arc<Entry>, Born)>>,
    pub(super) lookups: AtomicU64,
}

impl FakeTier {
    pub(super) fn new(name: &'static str, manner: Manner) -> Arc<Self> {
        Arc::new(Self {
            name,
            manner: Mutex::new(manner),
            held: Mutex::default(),
            lookups: AtomicU64::new(0),
        })
    }

    fn manner(&self) -> Manner {
        *self.manner.lock().unwrap()
    }

    pub(super) fn holds(&self, key: KeyView<'_>) -> bool {
        self.held.lock().unwrap().contains_key(key.bytes)
    }

    /// Puts `entry` there whatever the manner.
    pub(super) fn place(&self, entry: &Arc<Entry>, born: Born) {
        let key = entry.key.view().bytes.into();
        let mut held = self.held.lock().unwrap();
        held.insert(key, (Arc::clone(entry), born));
    }

    fn find(&self, key: KeyView<'_>) -> Option<Found> {
        let held = self.held.lock().unwrap();
        let (entry, born) = held.get(key.bytes)?;
        let body = entry.response().map(|stored| stored.body.pieces().concat());
        Some(Found {
            envelope: Envelope::of(entry, *born, [0; 32])?,
            body: FoundBody::Whole(Bytes::from(body.unwrap_or_default())),
        })
    }
}

impl SlowTier for FakeTier {
    fn name(&self) -> &'static str {
        self.name
    }

    fn is_writable(&self) -> bool {
        self.manner() != Manner::ReadOnly
    }

    fn may_hold(&self, key: KeyView<'_>) -> bool {
        self.manner() != Manner::Honest || self.holds(key)
    }

    fn get<'a>(&'a self, key: KeyView<'a>) -> Answer<'a, Result<Option<Found>, Unavailable>> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        let manner = self.manner();
        Box::pin(async move {
            // As a device would.
            tokio::task::yield_now().await;
            match manner {
                Manner::Honest | Manner::ReadOnly => Ok(self.find(key)),
                Manner::Broken => Err(Unavailable::Failed("broken".to_owned())),
                Manner::Hung => std::future::pending().await,
            }
        })
    }

    fn put<'a>(&'a self, entry: &'a Arc<Entry>, born: Born) -> Answer<'a, Written> {
        Box::pin(async move {
            if self.manner() != Manner::Honest {
                return Written::Unavailable;
            }
            self.place(entry, born);
            Written::Accepted
        })
    }

    fn writer(&self, _: Option<u64>) -> Option<Box<dyn Writer>> {
        None
    }

    fn remove(&self, key: KeyView<'_>) {
        self.held.lock().unwrap().remove(key.bytes);
    }

    fn usage(&self) -> Usage {
        Usage {
            entries: u64::try_from(self.held.lock().unwrap().len()).unwrap(),
            ..Usage::default()
        }
    }

    fn resize(&self, _: u64) -> Result<(), String> {
        Ok(())
    }

    fn set_reinsertion(&self, _: Arc<dyn Reinsertion>) {}

    fn health(&self) -> Health {
        Health::Online
    }

    fn figures(&self) -> Vec<Figure> {
        Vec::new()
    }

    fn evictions(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    fn settle(&self) -> Answer<'_, ()> {
        Box::pin(async {})
    }

    fn stop(&self) {}
}

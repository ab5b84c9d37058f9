//! A slow tier of a map, for tests: it fails, hangs and refuses as it is told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use crate::entry::{Entry, KeyView};
use crate::metrics::Histogram;
use crate::tier::Usage;
use crate::tier::envelope::{Born, Envelope};
use crate::tier::eviction::Reinsertion;
use crate::tier::found::{Found, FoundBody};
use crate::tier::slow::{
    Answer, Cursor, Drops, Figure, Health, Page, SlowTier, Unavailable, Writer, Written,
};

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
    /// As it should, but for what it has not found out yet.
    Loading,
    /// Writes never end.
    Stuck,
    /// Writes take a while.
    Slow,
}

#[derive(Debug)]
pub(super) struct FakeTier {
    name: &'static str,
    pub(super) manner: Mutex<Manner>,
    held: Mutex<HashMap<Box<[u8]>, (Arc<Entry>, Born)>>,
    pub(super) lookups: AtomicU64,
    write_time: Histogram,
    /// Where the next put says that it has come, and is told to go on; it does so by itself later.
    pub(super) gate: Mutex<Option<(SyncSender<()>, Receiver<()>)>>,
}

impl FakeTier {
    pub(super) fn new(name: &'static str, manner: Manner) -> Arc<Self> {
        Arc::new(Self {
            name,
            manner: Mutex::new(manner),
            held: Mutex::default(),
            lookups: AtomicU64::new(0),
            write_time: Histogram::default(),
            gate: Mutex::default(),
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

    /// Two entries a page, in the order of their keys.
    fn page(&self, Cursor(from, _): Cursor, limit: usize, drops: &Drops) -> Page {
        let mut held = self.held.lock().unwrap();
        let mut keys: Vec<Box<[u8]>> = held.keys().cloned().collect();
        keys.sort();
        let first = usize::try_from(from).unwrap();
        let mut page = Page {
            entries: Vec::new(),
            next: None,
        };
        let mut at = first;
        for key in keys.iter().skip(first) {
            if page.entries.len() >= limit.min(2) {
                page.next = Some(Cursor(u64::try_from(at).unwrap(), 0));
                break;
            }
            let (entry, born) = &held[key];
            let envelope = Envelope::of(entry, *born, [0; 32]).unwrap();
            if drops(&envelope) {
                held.remove(key);
            } else {
                at += 1;
            }
            page.entries.push(envelope);
        }
        page
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
        !matches!(self.manner(), Manner::Honest | Manner::Stuck | Manner::Slow) || self.holds(key)
    }

    fn get<'a>(&'a self, key: KeyView<'a>) -> Answer<'a, Result<Option<Found>, Unavailable>> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        let manner = self.manner();
        let found = self.find(key);
        Box::pin(async move {
            // As a device would.
            tokio::task::yield_now().await;
            match manner {
                Manner::Honest
                | Manner::ReadOnly
                | Manner::Loading
                | Manner::Stuck
                | Manner::Slow => Ok(found),
                Manner::Broken => Err(Unavailable::Failed("broken".to_owned())),
                Manner::Hung => std::future::pending().await,
            }
        })
    }

    fn put<'a>(&'a self, entry: &'a Arc<Entry>, born: Born) -> Answer<'a, Written> {
        Box::pin(async move {
            let gate = self.gate.lock().unwrap().take();
            if let Some((came, go_on)) = gate {
                came.send(()).unwrap();
                go_on
                    .recv_timeout(Duration::from_millis(200))
                    .unwrap_or_default();
            }
            match self.manner() {
                Manner::Honest | Manner::Loading => {}
                Manner::Stuck => std::future::pending().await,
                Manner::Slow => tokio::task::yield_now().await,
                Manner::Broken | Manner::Hung | Manner::ReadOnly => return Written::Unavailable,
            }
            self.place(entry, born);
            Written::Accepted
        })
    }

    fn writer(&self, _: KeyView<'_>, _: Option<u64>) -> Option<Box<dyn Writer>> {
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
        match self.manner() {
            Manner::Loading => Health::Loading,
            _ => Health::Online,
        }
    }

    fn figures(&self) -> Vec<Figure> {
        Vec::new()
    }

    fn write_time(&self) -> &Histogram {
        &self.write_time
    }

    fn evictions(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    fn settle(&self) -> Answer<'_, ()> {
        Box::pin(async {})
    }

    fn stop(&self) {}

    fn sweep(
        &self,
        cursor: Cursor,
        limit: usize,
        drops: &Drops,
    ) -> Option<Answer<'_, Result<Page, Unavailable>>> {
        let manner = self.manner();
        let drops = Arc::clone(drops);
        // Nobody lists what is only read.
        (manner != Manner::ReadOnly).then(|| -> Answer<'_, _> {
            Box::pin(async move {
                match manner {
                    Manner::Broken => Err(Unavailable::Failed("broken".to_owned())),
                    Manner::Hung => std::future::pending().await,
                    _ => Ok(self.page(cursor, limit, &drops)),
                }
            })
        })
    }
}

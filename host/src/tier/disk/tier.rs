//! The disk tier as one of the slow tiers.

use std::sync::Arc;

use bytes::Bytes;

use super::{DiskTier, Writer};
use crate::entry::{Entry, KeyView};
use crate::metrics::Histogram;
use crate::tier::Usage;
use crate::tier::envelope::{Born, Envelope};
use crate::tier::eviction::Reinsertion;
use crate::tier::found::Found;
use crate::tier::slow::{
    self, Answer, Cursor, Drops, Figure, Health, Page, Scrubbed, SlowTier, Unavailable, Written,
};

impl SlowTier for DiskTier {
    fn name(&self) -> &'static str {
        "disk"
    }

    fn is_writable(&self) -> bool {
        true
    }

    fn may_hold(&self, key: KeyView<'_>) -> bool {
        self.may_hold(key)
    }

    fn get<'a>(&'a self, key: KeyView<'a>) -> Answer<'a, Result<Option<Found>, Unavailable>> {
        Box::pin(self.get(key))
    }

    fn put<'a>(&'a self, entry: &'a Arc<Entry>, born: Born) -> Answer<'a, Written> {
        Box::pin(self.put(entry, born))
    }

    fn writer(&self, key: KeyView<'_>, length: Option<u64>) -> Option<Box<dyn slow::Writer>> {
        let writer = self.writer(key, length)?;
        Some(Box::new(writer))
    }

    fn remove(&self, key: KeyView<'_>) {
        self.remove(key);
    }

    fn usage(&self) -> Usage {
        self.usage()
    }

    fn resize(&self, bytes: u64) -> Result<(), String> {
        self.set_capacity(bytes).map_err(|error| error.to_string())
    }

    fn set_reinsertion(&self, rule: Arc<dyn Reinsertion>) {
        self.set_reinsertion(rule);
    }

    fn health(&self) -> Health {
        let stalled = self.shared.readers.is_stalled();
        self.shared.condition.health(stalled)
    }

    fn figures(&self) -> Vec<Figure> {
        self.figures()
    }

    fn write_time(&self) -> &Histogram {
        &self.shared.stats.write_time
    }

    fn evictions(&self) -> Vec<(&'static str, u64)> {
        self.shared.stats.evictions()
    }

    fn settle(&self) -> Answer<'_, ()> {
        Box::pin(self.settle())
    }

    fn stop(&self) {
        self.stop();
    }

    fn list(&self, cursor: Cursor, limit: usize) -> Option<Answer<'_, Result<Page, Unavailable>>> {
        Some(Box::pin(self.list(cursor, limit)))
    }

    fn sweep(
        &self,
        cursor: Cursor,
        limit: usize,
        drops: &Drops,
    ) -> Option<Answer<'_, Result<Page, Unavailable>>> {
        Some(Box::pin(self.sweep(cursor, limit, Arc::clone(drops))))
    }

    fn scrub(&self, bytes_per_second: u64) -> Option<Answer<'_, Result<Scrubbed, Unavailable>>> {
        Some(Box::pin(self.scrub(bytes_per_second)))
    }
}

impl slow::Writer for Writer {
    fn push(&mut self, piece: Bytes) -> Answer<'_, bool> {
        Box::pin(async { Self::push(self, piece).await.is_ok() })
    }

    fn commit(self: Box<Self>, envelope: Envelope) -> Answer<'static, Written> {
        Box::pin(Self::commit(*self, envelope))
    }
}

//! The object store as one of the slow tiers.

use std::sync::Arc;

use super::{Dropped, Health, Mode, ObjectTier, Outcome, Request, Unavailable};
use crate::entry::{Entry, KeyView};
use crate::metrics::Histogram;
use crate::tier::Usage;
use crate::tier::envelope::Born;
use crate::tier::eviction::Reinsertion;
use crate::tier::found::Found;
use crate::tier::slow::{self, Answer, Figure, SlowTier, Writer, Written};

impl SlowTier for ObjectTier {
    fn name(&self) -> &'static str {
        "object_store"
    }

    fn is_writable(&self) -> bool {
        self.mode() == Mode::ReadWrite
    }

    /// Only the store knows.
    fn may_hold(&self, _: KeyView<'_>) -> bool {
        true
    }

    fn get<'a>(&'a self, key: KeyView<'a>) -> Answer<'a, Result<Option<Found>, slow::Unavailable>> {
        Box::pin(async move {
            let found = Self::get(self, key).await;
            found.map_err(|unavailable| match unavailable {
                Unavailable::Offline | Unavailable::Stopped => slow::Unavailable::Offline,
                Unavailable::TimedOut => slow::Unavailable::TimedOut,
                Unavailable::Throttled
                | Unavailable::Busy
                | Unavailable::Denied
                | Unavailable::Failed => slow::Unavailable::Failed(unavailable.to_string()),
            })
        })
    }

    fn put<'a>(&'a self, entry: &'a Arc<Entry>, born: Born) -> Answer<'a, Written> {
        let written = match Self::put(self, entry, born) {
            Ok(()) => Written::Accepted,
            Err(Dropped::Partial) => Written::Unneeded,
            Err(Dropped::TooLarge) => Written::TooLarge,
            Err(Dropped::QueueFull) => Written::Full,
            Err(Dropped::ReadOnly | Dropped::Stopped) => Written::Unavailable,
        };
        Box::pin(std::future::ready(written))
    }

    fn writer(&self, key: KeyView<'_>, length: Option<u64>) -> Option<Box<dyn Writer>> {
        Some(Box::new(self.stream(key, length)?))
    }

    fn remove(&self, key: KeyView<'_>) {
        Self::remove(self, key);
    }

    /// How much is stored nobody knows without listing all of it.
    fn usage(&self) -> Usage {
        Usage {
            capacity: u64::MAX,
            ..Usage::default()
        }
    }

    fn resize(&self, _: u64) -> Result<(), String> {
        Err("the store is as large as its bucket lets it be".to_owned())
    }

    /// A bucket reclaims by its own rules.
    fn set_reinsertion(&self, _: Arc<dyn Reinsertion>) {}

    fn health(&self) -> slow::Health {
        match Self::health(self) {
            Health::Online => slow::Health::Online,
            Health::Degraded(reason) => slow::Health::Degraded(reason.to_string()),
            Health::Offline(reason) => slow::Health::Offline(reason.to_string()),
        }
    }

    fn figures(&self) -> Vec<Figure> {
        let stats = self.stats();
        let asked = |which: &[Request]| {
            let of = |request: &Request| Outcome::ALL.map(|end| stats.requests(*request, end));
            which.iter().flat_map(of).sum()
        };
        let reads = [Request::Get, Request::GetRange, Request::Head];
        let writes = [
            Request::Put,
            Request::Create,
            Request::Part,
            Request::Complete,
        ];
        let mut figures = vec![
            Figure::count(
                "requests_read",
                "Requests that read an object.",
                asked(&reads),
            ),
            Figure::count("requests_write", "Requests that wrote one.", asked(&writes)),
            Figure::count(
                "requests_list",
                "Requests for a list.",
                asked(&[Request::List]),
            ),
            Figure::count(
                "requests_delete",
                "Requests that deleted an object, or gave up one in parts.",
                asked(&[Request::Delete, Request::Abort]),
            ),
            Figure::count("read_bytes", "Bytes read.", stats.read_bytes.get()),
            Figure::count("written_bytes", "Bytes written.", stats.written_bytes.get()),
        ];
        figures.extend(self.figures_of_work());
        figures
    }

    fn write_time(&self) -> &Histogram {
        &self.stats().write_time
    }

    fn evictions(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    fn settle(&self) -> Answer<'_, ()> {
        Box::pin(async {
            let left = Self::settle(self).await;
            if left.items > 0 {
                tracing::debug!(entries = left.items, "uploads wait for the store");
            }
        })
    }

    fn stop(&self) {
        // It says what it has given up.
        Self::stop(self);
    }
}

impl ObjectTier {
    /// How the work is going.
    fn figures_of_work(&self) -> Vec<Figure> {
        let (stats, waiting) = (self.stats(), self.waiting());
        vec![
            Figure::size(
                "queue_entries",
                "Entries that wait to be written.",
                waiting.items,
            ),
            Figure::size(
                "queue_bytes",
                "Bytes that wait to be written.",
                waiting.bytes,
            ),
            Figure::size(
                "outdated",
                "Entries that the store may go on holding although they have a successor, and that are not used.",
                self.outdated(),
            ),
            Figure::count(
                "dropped",
                "Entries not written because too much waited, or at the end.",
                stats.dropped_full.get() + stats.dropped_large.get() + stats.abandoned.get(),
            ),
            Figure::count("uploads", "Entries that were uploaded.", stats.writes.get()),
            Figure::count(
                "upload_failures",
                "Entries that were taken and could not be uploaded.",
                stats.write_failures.get(),
            ),
            Figure::count(
                "corrupt",
                "Entries that were not what was stored.",
                stats.damaged.get(),
            ),
            Figure::count(
                "retries",
                "Requests that were made again.",
                stats.retries.get(),
            ),
            Figure::count(
                "hedges",
                "Lookups that were asked for twice.",
                stats.hedges.get(),
            ),
            Figure::count(
                "breaker_opened",
                "Times that the breaker opened.",
                stats.opened.get(),
            ),
            Figure::count(
                "withheld",
                "Requests that the breaker or a pause held back.",
                stats.withheld.get(),
            ),
        ]
    }
}

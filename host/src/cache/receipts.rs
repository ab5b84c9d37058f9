//! Receipts of purges, kept for a while so that they can be asked for again, and counts of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::Effect;
use crate::metrics::Counter;
use crate::tier::Purged;

/// Receipts kept.
const KEPT_MAX: usize = 1_024;

/// What a purge came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// Names the purge.
    pub id: String,
    /// Stored entries that it covered.
    pub entries: u64,
    /// Bytes they are charged.
    pub bytes: u64,
    /// Whether the counts are final.
    pub settled: bool,
}

/// What purges can be by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// URLs.
    Url,
    /// Keys.
    Key,
    /// Tags.
    Tag,
    /// Prefixes.
    Prefix,
    /// Hosts.
    Host,
    /// Everything, of a site or of all.
    All,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Url,
        Self::Key,
        Self::Tag,
        Self::Prefix,
        Self::Host,
        Self::All,
    ];

    /// The word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Key => "key",
            Self::Tag => "tag",
            Self::Prefix => "prefix",
            Self::Host => "host",
            Self::All => "all",
        }
    }
}

/// The latest receipts, and counts of all purges that operators asked for.
#[derive(Debug, Default)]
pub struct Receipts {
    last: AtomicU64,
    kept: Mutex<VecDeque<Receipt>>,
    /// In the order of [`Kind::ALL`].
    purges: [Counter; Kind::ALL.len()],
    removed: Counter,
    softened: Counter,
}

impl Receipts {
    /// Writes the receipt of a purge by `kinds` that came to `purged`, and counts it unless
    /// nothing was done.
    pub fn write(&self, kinds: &[Kind], effect: Effect, purged: Purged) -> Receipt {
        match effect {
            Effect::Hard => self.removed.add(purged.entries),
            Effect::Soft => self.softened.add(purged.entries),
            Effect::None => {}
        }
        if effect != Effect::None {
            let counted = Kind::ALL.iter().zip(&self.purges);
            let counted = counted.filter(|(kind, _)| kinds.contains(kind));
            counted.for_each(|(_, counter)| counter.increment());
        }
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let receipt = Receipt {
            id: format!("p{number}"),
            entries: purged.entries,
            bytes: purged.bytes,
            // In memory a purge is in force, and counted, when it returns.
            settled: true,
        };
        let mut kept = self.lock();
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(receipt.clone());
        receipt
    }

    /// The receipt `id`, if it is kept.
    pub fn find(&self, id: &str) -> Option<Receipt> {
        self.lock().iter().find(|receipt| receipt.id == id).cloned()
    }

    /// Purges that were made, by kind. One by several kinds counts for each.
    pub fn purges(&self) -> impl Iterator<Item = (Kind, u64)> {
        let counts = self.purges.iter().map(Counter::get);
        Kind::ALL.into_iter().zip(counts)
    }

    /// Entries that purges removed, and entries that they made stale.
    pub fn entries(&self) -> (u64, u64) {
        (self.removed.get(), self.softened.get())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Receipt>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_receipts_are_kept_and_what_was_done_is_counted() {
        let receipts = Receipts::default();
        let purged = Purged {
            entries: 2,
            bytes: 700,
        };
        let first = receipts.write(&[Kind::Url, Kind::Tag], Effect::Hard, purged);
        assert_eq!((first.entries, first.bytes, first.settled), (2, 700, true));
        assert_eq!(receipts.find(&first.id), Some(first.clone()));
        for _ in 0..KEPT_MAX {
            receipts.write(&[Kind::Host], Effect::None, purged);
        }
        assert_eq!(receipts.find(&first.id), None);
        receipts.write(&[Kind::Tag], Effect::Soft, purged);
        let counts: Vec<u64> = receipts.purges().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 0, 2, 0, 0, 0]);
        assert_eq!(receipts.entries(), (2, 2));
    }
}

//! Receipts of purges, kept for a while so that they can be asked for again, and counts of them.
//!
//! A receipt counts what memory held at once. What lies below is counted by a walk (see
//! `settling`), and until then the receipt has not settled. An entry counts once, however many
//! tiers hold it: memory counts it, and the walk leaves out what memory held. Of a purge that covers
//! more of memory than is remembered key by key, the larger of both counts stands: what is in memory
//! lies below it as well, but for what no tier there took.
//!
//! Receipts end with the process, and no later one gives the same name to another purge.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use serde::Serialize;
use tokio::sync::watch;

use super::Effect;
use super::purges::Mark;
use crate::metrics::Counter;
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use crate::tier::{Purged, Selection};

/// Receipts kept.
const KEPT_MAX: usize = 1_024;
/// Keys that one purge had in memory and that are remembered until it has settled.
pub(super) const HELD_MAX: u64 = 1 << 16;
/// The same of all purges: 8 MiB.
const HELD_SUM_MAX: usize = 1 << 20;

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
    /// Tiers that it covers as well, and whose entries are not counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uncounted: Vec<&'static str>,
}

impl Receipt {
    /// Whether it is certain that nothing was covered.
    pub fn is_of_nothing(&self) -> bool {
        self.settled && self.entries == 0 && self.uncounted.is_empty()
    }
}

/// What a purge covers below memory.
#[derive(Debug)]
pub(super) struct Below {
    /// When it was made.
    pub(super) mark: Mark,
    /// What it covers.
    pub(super) selection: Selection,
    /// Hashes of the keys that memory held of it, sorted; none if they were too many.
    pub(super) held: Option<Vec<u64>>,
    /// Whether anything there can be counted.
    pub(super) countable: bool,
    /// Tiers that cannot be.
    pub(super) uncounted: Vec<&'static str>,
}

/// A purge whose receipt has not settled.
#[derive(Debug)]
pub(super) struct Unsettled {
    id: String,
    pub(super) effect: Effect,
    pub(super) mark: Mark,
    pub(super) selection: Selection,
    held: Option<Vec<u64>>,
}

impl Unsettled {
    /// Whether memory held the key with this hash, and has counted it.
    pub(super) fn was_in_memory(&self, hash: u64) -> bool {
        let held = self.held.as_ref();
        held.is_some_and(|held| held.binary_search(&hash).is_ok())
    }
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
#[derive(Debug)]
pub struct Receipts {
    kept: Mutex<Kept>,
    /// Tells the receipts of this process from those of others.
    process: u32,
    stopped: watch::Sender<bool>,
    /// In the order of [`Kind::ALL`].
    purges: [Counter; Kind::ALL.len()],
    removed: Counter,
    softened: Counter,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    receipts: VecDeque<(Receipt, Option<Arc<Unsettled>>)>,
    /// Whether a walk is under way that asks for more to do when it is done.
    walking: bool,
}

impl Default for Receipts {
    fn default() -> Self {
        let random = RandomState::new().hash_one(0);
        Self {
            kept: Mutex::default(),
            process: u32::try_from(random >> 32).unwrap_or_default(),
            stopped: watch::Sender::default(),
            purges: Default::default(),
            removed: Counter::default(),
            softened: Counter::default(),
        }
    }
}

impl Receipts {
    /// Writes the receipt of a purge by `kinds` that came to `purged` in memory, and counts it
    /// unless nothing was done. It settles once a walk has counted what is `below`.
    pub(super) fn write(
        &self,
        kinds: &[Kind],
        effect: Effect,
        purged: Purged,
        below: Below,
    ) -> Receipt {
        self.count(effect, purged.entries);
        if effect != Effect::None {
            let counted = Kind::ALL.iter().zip(&self.purges);
            let counted = counted.filter(|(kind, _)| kinds.contains(kind));
            counted.for_each(|(_, counter)| counter.increment());
        }
        let mut kept = self.lock();
        kept.last += 1;
        let receipt = Receipt {
            id: format!("p{}-{:08x}", kept.last, self.process),
            entries: purged.entries,
            bytes: purged.bytes,
            // In memory a purge is in force, and counted, when it returns.
            settled: !below.countable,
            uncounted: below.uncounted,
        };
        let remembered: usize = kept.unsettled().map(|each| each.remembered()).sum();
        let fits = |held: &Vec<u64>| remembered + held.len() <= HELD_SUM_MAX;
        let unsettled = below.countable.then(|| {
            Arc::new(Unsettled {
                id: receipt.id.clone(),
                effect,
                mark: below.mark,
                selection: below.selection,
                held: below.held.filter(fits),
            })
        });
        if kept.receipts.len() >= KEPT_MAX {
            kept.receipts.pop_front();
        }
        kept.receipts.push_back((receipt.clone(), unsettled));
        receipt
    }

    fn count(&self, effect: Effect, entries: u64) {
        match effect {
            Effect::Hard => self.removed.add(entries),
            Effect::Soft => self.softened.add(entries),
            Effect::None => {}
        }
    }

    /// Adds what was found `below` memory to the receipt of `unsettled`, whose counts are final
    /// then, but for those of the tiers that `failed`.
    pub(super) fn settle(&self, unsettled: &Unsettled, below: Purged, failed: &[&'static str]) {
        let mut kept = self.lock();
        let mut receipts = kept.receipts.iter_mut();
        // It may be too old to be kept.
        let Some((receipt, waiting)) = receipts.find(|(each, _)| each.id == unsettled.id) else {
            return;
        };
        *waiting = None;
        let before = receipt.entries;
        if unsettled.held.is_some() {
            receipt.entries = receipt.entries.saturating_add(below.entries);
            receipt.bytes = receipt.bytes.saturating_add(below.bytes);
        } else {
            receipt.entries = receipt.entries.max(below.entries);
            receipt.bytes = receipt.bytes.max(below.bytes);
        }
        receipt.settled = true;
        receipt.uncounted.extend(failed);
        self.count(unsettled.effect, receipt.entries - before);
    }

    /// Whether the caller is to begin a walk: some receipt waits for one, and none is under way.
    pub(super) fn begin(&self) -> bool {
        let stopped = *self.stopped.borrow();
        let mut kept = self.lock();
        let begins = !kept.walking && !stopped && kept.unsettled().next().is_some();
        kept.walking |= begins;
        begins
    }

    /// What a walk that begins now counts for, the oldest purge first; none if there is nothing
    /// more to do, and then the walk has ended.
    pub(super) fn next_walk(&self) -> Option<Vec<Arc<Unsettled>>> {
        let mut kept = self.lock();
        let mut waiting: Vec<_> = kept.unsettled().map(Arc::clone).collect();
        waiting.sort_by_key(|unsettled| unsettled.mark.number);
        kept.walking = !waiting.is_empty();
        kept.walking.then_some(waiting)
    }

    /// Says that the walk has ended early. What waits is left to the next one.
    pub(super) fn broke_off(&self) {
        self.lock().walking = false;
    }

    /// Settles what waits without a count of the tiers `uncounted`.
    pub(super) fn give_up(&self, uncounted: &[&'static str]) {
        while let Some(waiting) = self.next_walk() {
            for unsettled in &waiting {
                self.settle(unsettled, Purged::default(), uncounted);
            }
        }
    }

    /// Lets a walk under way end, and none begin.
    pub fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// Waits until nothing is to be counted any more.
    pub(super) async fn stopped(&self) {
        // The sender is held here, so there is an answer.
        drop(self.stopped.subscribe().wait_for(|stopped| *stopped).await);
    }

    /// Purges whose receipts have not settled.
    pub fn unsettled(&self) -> usize {
        self.lock().unsettled().count()
    }

    /// The receipt `id`, if it is kept.
    pub fn find(&self, id: &str) -> Option<Receipt> {
        let kept = self.lock();
        let found = kept.receipts.iter().find(|(receipt, _)| receipt.id == id);
        found.map(|(receipt, _)| receipt.clone())
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

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn unsettled(&self) -> impl Iterator<Item = &Arc<Unsettled>> {
        self.receipts.iter().filter_map(|(_, waits)| waits.as_ref())
    }
}

impl Unsettled {
    fn remembered(&self) -> usize {
        self.held.as_ref().map_or(0, Vec::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purged(entries: u64, bytes: u64) -> Purged {
        Purged { entries, bytes }
    }

    fn below(held: Option<Vec<u64>>) -> Below {
        Below {
            mark: Mark::default(),
            selection: Selection::everything(),
            countable: held.is_some(),
            held,
            uncounted: Vec::new(),
        }
    }

    #[test]
    fn the_latest_receipts_are_kept_and_what_was_done_is_counted() {
        let receipts = Receipts::default();
        let kinds = &[Kind::Url, Kind::Tag];
        let first = receipts.write(kinds, Effect::Hard, purged(2, 700), below(None));
        assert_eq!((first.entries, first.bytes, first.settled), (2, 700, true));
        assert_eq!(receipts.find(&first.id), Some(first.clone()));
        for _ in 0..KEPT_MAX {
            receipts.write(&[Kind::Host], Effect::None, purged(2, 700), below(None));
        }
        assert_eq!(receipts.find(&first.id), None);
        receipts.write(&[Kind::Tag], Effect::Soft, purged(2, 700), below(None));
        let counts: Vec<u64> = receipts.purges().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 0, 2, 0, 0, 0]);
        assert_eq!(receipts.entries(), (2, 2));
        assert!(!receipts.begin(), "nothing waits");
    }

    #[test]
    fn a_receipt_settles_once_what_is_below_was_counted() {
        let receipts = Receipts::default();
        let write = |held| receipts.write(&[Kind::All], Effect::Hard, purged(3, 300), below(held));
        let first = write(Some(vec![7, 9]));
        assert!(!first.settled && receipts.begin() && !receipts.begin());
        let walk = receipts.next_walk().unwrap();
        assert!(walk[0].was_in_memory(7) && !walk[0].was_in_memory(8));
        let second = write(Some(Vec::new()));
        assert_eq!((walk.len(), receipts.unsettled()), (1, 2));
        receipts.settle(&walk[0], purged(4, 40), &[]);
        let found = receipts.find(&first.id).unwrap();
        assert_eq!((found.entries, found.bytes, found.settled), (7, 340, true));
        let walk = receipts.next_walk().expect("the second came meanwhile");
        receipts.settle(&walk[0], purged(0, 0), &["disk"]);
        let found = receipts.find(&second.id).unwrap();
        assert_eq!((found.entries, found.uncounted), (3, vec!["disk"]));
        assert!(receipts.next_walk().is_none() && !receipts.begin());
        assert_eq!(receipts.entries(), (10, 0));
        write(Some(Vec::new()));
        receipts.stop();
        assert!(!receipts.begin(), "it was stopped");
    }

    #[test]
    fn where_keys_are_too_many_to_be_remembered_the_larger_count_stands() {
        let receipts = Receipts::default();
        let most = usize::try_from(HELD_MAX).unwrap();
        let written: Vec<Receipt> = (0..=HELD_SUM_MAX / most)
            .map(|_| {
                let held = below(Some(vec![1; most]));
                receipts.write(&[Kind::All], Effect::Hard, purged(5, 500), held)
            })
            .collect();
        for waiting in receipts.next_walk().unwrap() {
            receipts.settle(&waiting, purged(6, 60), &[]);
        }
        let counts = |receipt: &Receipt| {
            let found = receipts.find(&receipt.id).unwrap();
            (found.entries, found.bytes)
        };
        assert_eq!(written.first().map(counts), Some((11, 560)));
        assert_eq!(written.last().map(counts), Some((6, 500)));
    }

    #[test]
    fn only_what_is_certain_counts_as_nothing() {
        let of = |entries, settled, uncounted: &[&'static str]| Receipt {
            id: String::new(),
            entries,
            bytes: 0,
            settled,
            uncounted: uncounted.to_vec(),
        };
        assert!(of(0, true, &[]).is_of_nothing());
        for receipt in [of(1, true, &[]), of(0, false, &[]), of(0, true, &["disk"])] {
            assert!(!receipt.is_of_nothing(), "{receipt:?}");
        }
    }
}

//! What the tier counts: requests to the store by kind and outcome, which is what its use costs,
//! and what became of lookups and uploads.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::Histogram;

/// A kind of request to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A head, with the content if that is small.
    Get,
    /// A range of large content, or the beginning of a head.
    GetRange,
    /// Whether there is an object.
    Head,
    /// A whole object.
    Put,
    /// To begin an object in parts.
    Create,
    /// A part of one.
    Part,
    /// To complete it.
    Complete,
    /// To give it up.
    Abort,
    /// To delete an object.
    Delete,
    /// A page of a list.
    List,
}

impl Request {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Get,
        Self::GetRange,
        Self::Head,
        Self::Put,
        Self::Create,
        Self::Part,
        Self::Complete,
        Self::Abort,
        Self::Delete,
        Self::List,
    ];

    /// Its name, as a label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::GetRange => "get_range",
            Self::Head => "head",
            Self::Put => "put",
            Self::Create => "create_multipart",
            Self::Part => "put_part",
            Self::Complete => "complete_multipart",
            Self::Abort => "abort_multipart",
            Self::Delete => "delete",
            Self::List => "list",
        }
    }
}

/// How a request to the store ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As wanted.
    Done,
    /// There is no such object.
    Missing,
    /// There is one already, or another one than expected.
    Conflict,
    /// The store wants fewer requests.
    Throttled,
    /// The credentials are missing, wrong, or allow too little.
    Denied,
    /// It took too long.
    TimedOut,
    /// No connection, a broken one, or an error of the store.
    Failed,
    /// Nobody waits for the answer any more: a hedge was faster, or the client left.
    Abandoned,
}

impl Outcome {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::Done,
        Self::Missing,
        Self::Conflict,
        Self::Throttled,
        Self::Denied,
        Self::TimedOut,
        Self::Failed,
        Self::Abandoned,
    ];

    /// Its name, as a label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Missing => "missing",
            Self::Conflict => "conflict",
            Self::Throttled => "throttled",
            Self::Denied => "denied",
            Self::TimedOut => "timed_out",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }
}

/// A number that only rises. The tier is slow enough for one cell.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the tier counts. Every number is exact; together they are not one snapshot.
#[derive(Debug, Default)]
pub struct Stats {
    requests: [[Count; Outcome::ALL.len()]; Request::ALL.len()],
    /// Bytes of objects that were read.
    pub read_bytes: Count,
    /// Bytes of objects that were written.
    pub written_bytes: Count,
    /// Lookups that found the entry.
    pub hits: Count,
    /// Lookups that found none.
    pub misses: Count,
    /// Lookups that could not be answered: an error is no miss.
    pub errors: Count,
    /// Objects, or chunks of content, that were not what was stored.
    pub damaged: Count,
    /// Objects under a name of ours that another version, or something else, wrote.
    pub foreign: Count,
    /// Requests that were not made because the breaker was open, or the store had asked for a
    /// pause.
    pub withheld: Count,
    /// Requests that were made again.
    pub retries: Count,
    /// Lookups that were asked for twice at once, because the answer was slow.
    pub hedges: Count,
    /// Those of them that the second request answered.
    pub hedges_won: Count,
    /// Times that the breaker opened.
    pub opened: Count,
    /// Entries that were uploaded.
    pub writes: Count,
    /// Uploads that failed for good.
    pub write_failures: Count,
    /// Entries that were never queued, because the queue was full.
    pub dropped_full: Count,
    /// Entries that were never queued, because they are too large.
    pub dropped_large: Count,
    /// Entries that were queued, and given up when the tier stopped.
    pub abandoned: Count,
    /// Queued entries that a newer one, or a removal, replaced before they were uploaded.
    pub superseded: Count,
    /// Removals that were done.
    pub removals: Count,
    /// Removals that failed for good, or found no room in the queue: the entry may still be there.
    pub removal_failures: Count,
    /// Objects that no entry had, and were deleted.
    pub swept: Count,
    /// How long uploads took that succeeded, without the time in the queue.
    pub write_time: Histogram,
    /// The latest error of the store.
    latest: Mutex<Option<Arc<str>>>,
}

impl Stats {
    /// Counts a request.
    pub(super) fn count(&self, request: Request, outcome: Outcome) {
        if let Some(count) = self.cell(request, outcome) {
            count.increment();
        }
    }

    /// Requests of that kind that ended so.
    pub fn requests(&self, request: Request, outcome: Outcome) -> u64 {
        self.cell(request, outcome).map_or(0, Count::get)
    }

    fn cell(&self, request: Request, outcome: Outcome) -> Option<&Count> {
        let row = Request::ALL.iter().position(|known| *known == request)?;
        let column = Outcome::ALL.iter().position(|known| *known == outcome)?;
        self.requests.get(row)?.get(column)
    }

    /// Remembers what an operator should know of the store.
    pub(super) fn note(&self, error: &str) {
        let text = in_one_line(error);
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.into());
    }

    /// What the store, or the way to it, answered last that was wrong.
    pub fn latest_error(&self) -> Option<Arc<str>> {
        let latest = self.latest.lock();
        latest.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// At most 500 characters, none of which is a control.
fn in_one_line(error: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    error.chars().map(visible).take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_outcome_has_a_count_of_its_own() {
        let stats = Stats::default();
        for (row, request) in (0_u64..).zip(Request::ALL) {
            for (column, outcome) in (0_u64..).zip(Outcome::ALL) {
                let times = row * 10 + column;
                (0..times).for_each(|_| stats.count(request, outcome));
            }
        }
        for (row, request) in (0_u64..).zip(Request::ALL) {
            for (column, outcome) in (0_u64..).zip(Outcome::ALL) {
                assert_eq!(stats.requests(request, outcome), row * 10 + column);
            }
        }
    }

    #[test]
    fn errors_are_shown_in_one_short_line() {
        let stats = Stats::default();
        stats.note(&format!("a\nb\t{}", "x".repeat(1_000)));
        let latest = stats.latest_error().unwrap();
        assert!(latest.starts_with("a b x"));
        assert_eq!(latest.chars().count(), 500);
    }
}

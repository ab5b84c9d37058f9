//! The reading of a trace that all cells share.
//!
//! To decompress and to parse costs about as much as to replay, and capacities in percent need a
//! reading before. So a short trace is kept from that one, and read no second time.

use std::collections::VecDeque;

use super::number::{count, ratio};
use super::request::Request;
use super::schedule::BATCH_REQUESTS;
use super::trace::{Trace, TraceError, TraceSettings};

/// Requests of a short trace, at most: 64 MiB of them.
const SHORT_MAX: u64 = 2 << 20;

/// A trace that is read, or was kept.
#[derive(Debug)]
pub(super) struct Reading {
    trace: Trace,
    kept: Option<Kept>,
}

/// What is left of a trace that was kept, and how much was handed over.
#[derive(Debug)]
struct Kept {
    batches: VecDeque<Vec<Request>>,
    requests: u64,
}

impl Reading {
    /// The trace from its beginning.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(settings: &TraceSettings) -> Result<Self, TraceError> {
        Ok(Self {
            trace: Trace::open(settings.clone())?,
            kept: None,
        })
    }

    /// Makes `batch` the next requests. Answers whether there may be more.
    ///
    /// # Errors
    /// It cannot be read on, or, where that is not tolerated, a line is bad.
    pub(super) fn read(&mut self, batch: &mut Vec<Request>) -> Result<bool, TraceError> {
        let Some(kept) = &mut self.kept else {
            batch.clear();
            return self.trace.read(batch, BATCH_REQUESTS);
        };
        *batch = kept.batches.pop_front().unwrap_or_default();
        kept.requests += count(batch.len());
        Ok(!kept.batches.is_empty())
    }

    /// Requests handed over so far.
    pub(super) fn requests(&self) -> u64 {
        let kept = self.kept.as_ref();
        kept.map_or(self.trace.requests(), |kept| kept.requests)
    }

    /// How much of the trace that is, between 0 and 1; `None` where its length is not known.
    pub(super) fn progress(&self) -> Option<f64> {
        match &self.kept {
            Some(kept) => Some(ratio(kept.requests, self.trace.requests())),
            None => self.trace.progress(),
        }
    }

    /// The trace, of which a kept one has been read to its end.
    pub(super) fn trace(&self) -> &Trace {
        &self.trace
    }
}

/// Keeps what is read for the first time, as long as it is short.
#[derive(Debug)]
pub(super) struct Keeper {
    batches: Option<VecDeque<Vec<Request>>>,
    requests: u64,
    most: u64,
}

impl Keeper {
    /// Nothing kept yet.
    pub(super) fn new() -> Self {
        Self {
            batches: Some(VecDeque::new()),
            requests: 0,
            most: SHORT_MAX,
        }
    }

    /// Takes what `batch` has, if all so far is short, and leaves it empty in any case.
    pub(super) fn add(&mut self, batch: &mut Vec<Request>) {
        self.requests += count(batch.len());
        self.batches.take_if(|_| self.requests > self.most);
        match &mut self.batches {
            Some(batches) => {
                let next = Vec::with_capacity(batch.len());
                batches.push_back(std::mem::replace(batch, next));
            }
            None => batch.clear(),
        }
    }

    /// The second reading, after a `first` to the end; `None` if the trace is not short, and has to
    /// be opened again.
    pub(super) fn again(self, first: Reading) -> Option<Reading> {
        let kept = Kept {
            batches: self.batches?,
            requests: 0,
        };
        Some(Reading {
            trace: first.trace,
            kept: Some(kept),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::trace::Tolerance;
    use super::*;

    fn all(mut reading: Reading) -> Vec<Request> {
        let (mut requests, mut batch) = (Vec::new(), Vec::new());
        loop {
            let more = reading.read(&mut batch).unwrap();
            requests.append(&mut batch);
            assert_eq!(reading.requests(), count(requests.len()));
            if !more {
                assert_eq!(reading.progress(), Some(1.0));
                return requests;
            }
        }
    }

    #[test]
    fn what_was_kept_is_what_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let requests = 3 * count(BATCH_REQUESTS) + 5;
        let lines: Vec<_> = (0..requests).map(|at| format!("{at},k{at},1\n")).collect();
        std::fs::write(file.path(), lines.concat()).unwrap();
        let settings = TraceSettings {
            path: file.path().to_owned(),
            format: None,
            tolerance: Tolerance::Strict,
        };
        for (most, is_kept) in [(requests, true), (requests - 1, false), (0, false)] {
            let mut keeper = Keeper {
                most,
                ..Keeper::new()
            };
            let mut first = Reading::open(&settings).unwrap();
            let mut batch = Vec::new();
            while {
                let more = first.read(&mut batch).unwrap();
                keeper.add(&mut batch);
                more
            } {}
            let again = keeper.again(first);
            assert_eq!(again.is_some(), is_kept, "{most}");
            if let Some(again) = again {
                assert_eq!(all(again), all(Reading::open(&settings).unwrap()));
            }
        }
    }
}

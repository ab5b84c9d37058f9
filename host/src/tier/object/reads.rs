//! How many reads are under way at once: a bound, and a gauge.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Places for reads.
#[derive(Clone, Debug)]
pub(super) struct Reads {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// A place, taken until it is dropped.
#[must_use = "a place that is dropped is free"]
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Reads {
    /// As many as `most`.
    pub(super) fn new(most: usize) -> Self {
        Self {
            taken: Arc::default(),
            most,
        }
    }

    /// A place, if one is free.
    pub(super) fn enter(&self) -> Option<Place> {
        let more = |taken: usize| (taken < self.most).then(|| taken + 1);
        let relaxed = Ordering::Relaxed;
        let entered = self.taken.fetch_update(relaxed, relaxed, more);
        entered.ok().map(|_| Place(Arc::clone(&self.taken)))
    }

    /// Places that are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_as_many_as_they_are_and_come_back() {
        let reads = Reads::new(2);
        let (one, two) = (reads.enter().unwrap(), reads.enter().unwrap());
        assert!(reads.enter().is_none());
        assert_eq!(reads.taken(), 2);
        drop(one);
        let three = reads.enter();
        assert!(three.is_some() && reads.enter().is_none());
        drop((two, three));
        assert_eq!(reads.taken(), 0);
    }
}

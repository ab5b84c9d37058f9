//! Lookups of slow tiers under way, so that many requests for one key cost one of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;

use tokio::sync::watch;

use crate::entry::{CacheKey, KeyView};
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// The lookups under way whose answer is a `T`. Bounded by the requests being served.
#[derive(Debug)]
pub(super) struct Recalls<T>(Mutex<HashMap<CacheKey, watch::Receiver<Option<T>>>>);

/// What a request does that wants to know.
pub(super) enum Turn<'a, T> {
    /// It looks.
    Look(Looking<'a, T>),
    /// Another one looks already.
    Wait(Waiting<T>),
}

/// The duty to say what was found. Dropping it early has one of those who wait look instead.
#[derive(Debug)]
#[must_use = "dropping it says nothing to those who wait"]
pub(super) struct Looking<'a, T> {
    recalls: &'a Recalls<T>,
    key: CacheKey,
    answer: watch::Sender<Option<T>>,
}

/// Waits for what another one finds.
#[derive(Debug)]
pub(super) struct Waiting<T>(watch::Receiver<Option<T>>);

impl<T> Default for Recalls<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Recalls<T> {
    /// Joins the lookup of `key`, or begins one.
    pub(super) fn take(&self, key: KeyView<'_>) -> Turn<'_, T> {
        match self.lock().entry(key.to_key()) {
            Place::Occupied(place) => Turn::Wait(Waiting(place.get().clone())),
            Place::Vacant(place) => {
                let (answer, waiting) = watch::channel(None);
                let key = place.key().clone();
                place.insert(waiting);
                Turn::Look(Looking {
                    recalls: self,
                    key,
                    answer,
                })
            }
        }
    }

    /// Lookups under way.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}

impl<T> Recalls<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<CacheKey, watch::Receiver<Option<T>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Looking<'_, T> {
    /// Says what was found.
    pub(super) fn found(self, found: T) {
        // Without anyone who waits this says it to nobody.
        self.answer.send_replace(Some(found));
    }
}

impl<T> Drop for Looking<'_, T> {
    fn drop(&mut self) {
        self.recalls.lock().remove(&self.key);
    }
}

impl<T: Clone> Waiting<T> {
    /// What was found; none if nobody looks any more.
    pub(super) async fn answer(mut self) -> Option<T> {
        let found = self.0.wait_for(Option::is_some).await.ok()?;
        (*found).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::KeyHasher;
    use std::task::{Context, Poll, Waker};

    fn poll<T>(future: &mut std::pin::Pin<Box<impl Future<Output = T>>>) -> Poll<T> {
        future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn one_looks_and_all_hear_of_it() {
        let (recalls, hasher) = (Recalls::<u8>::default(), KeyHasher::default());
        let key = hasher.key(b"k");
        let Turn::Look(looking) = recalls.take(key) else {
            panic!("the first looks")
        };
        let wait = || match recalls.take(key) {
            Turn::Wait(waiting) => Box::pin(waiting.answer()),
            Turn::Look(_) => panic!("one looks already"),
        };
        let mut waiting = [wait(), wait()];
        assert!(matches!(recalls.take(hasher.key(b"other")), Turn::Look(_)));
        assert!(waiting.iter_mut().all(|each| poll(each).is_pending()));
        looking.found(7);
        for each in &mut waiting {
            assert_eq!(poll(each), Poll::Ready(Some(7)));
        }
        assert_eq!(recalls.len(), 0);
    }

    #[test]
    fn who_gives_up_leaves_it_to_the_others() {
        let (recalls, hasher) = (Recalls::<u8>::default(), KeyHasher::default());
        let key = hasher.key(b"k");
        let Turn::Look(looking) = recalls.take(key) else {
            panic!("the first looks")
        };
        let Turn::Wait(waiting) = recalls.take(key) else {
            panic!("one looks already")
        };
        drop(looking);
        assert_eq!(poll(&mut Box::pin(waiting.answer())), Poll::Ready(None));
        assert!(matches!(recalls.take(key), Turn::Look(_)));
    }
}

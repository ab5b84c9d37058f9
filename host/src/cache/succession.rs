//! What takes the place of what below memory: so that a tier which answered before something newer
//! was stored, or has not heard of that yet, brings nothing older back.
//!
//! Keys share places, so what is told of one may be due to another: then something that might have
//! been used is not, which costs a fetch. Nothing is ever told too late.

use crate::entry::KeyView;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Places, a power of two: half a MiB of them.
const PLACES: usize = 1 << 15;

/// One place.
#[derive(Debug, Default)]
struct Place {
    /// Successors that were announced so far.
    announced: AtomicU64,
    /// Those that some tier has not heard of yet.
    pending: AtomicU64,
}

/// What is stored anew, by key.
#[derive(Debug)]
pub(super) struct Succession {
    places: Box<[Place]>,
    /// Where a key would be that none of them is for; there is none.
    spare: Place,
}

/// How far the succession of a key has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stage(u64);

/// Something newer is on its way to the tiers under a key. Until this is dropped, some of them may
/// not have heard of it.
#[derive(Debug)]
#[must_use = "dropping it says that every tier has heard of the successor"]
pub struct Succeeding {
    succession: Arc<Succession>,
    hash: u64,
    /// How far the succession of its key came by it.
    own: Stage,
}

impl Default for Succession {
    fn default() -> Self {
        let places = std::iter::repeat_with(Place::default);
        Self {
            places: places.take(PLACES).collect(),
            spare: Place::default(),
        }
    }
}

impl Succession {
    fn place(&self, hash: u64) -> &Place {
        let number = usize::try_from(hash >> 32).unwrap_or_default();
        self.places.get(number % PLACES).unwrap_or(&self.spare)
    }

    /// Says, before anything is stored under `key`, that it will be, or that what is stored goes.
    pub(super) fn announce(self: &Arc<Self>, key: KeyView<'_>) -> Succeeding {
        let place = self.place(key.hash);
        place.pending.fetch_add(1, SeqCst);
        let before = place.announced.fetch_add(1, SeqCst);
        Succeeding {
            succession: Arc::clone(self),
            hash: key.hash,
            own: Stage(before.wrapping_add(1)),
        }
    }

    /// How far it is with `key`. None: a tier may hold what has a successor.
    pub(super) fn stage(&self, key: KeyView<'_>) -> Option<Stage> {
        let place = self.place(key.hash);
        // In this order: what is announced in between is seen by who compares stages.
        let stage = Stage(place.announced.load(SeqCst));
        (place.pending.load(SeqCst) == 0).then_some(stage)
    }

    /// Whether nothing was announced for `key` since `stage`.
    pub(super) fn is_still(&self, stage: Stage, key: KeyView<'_>) -> bool {
        Stage(self.place(key.hash).announced.load(SeqCst)) == stage
    }
}

impl Succeeding {
    /// How far it is with its key, this one included.
    pub(super) fn stage(&self) -> Stage {
        Stage(self.succession.place(self.hash).announced.load(SeqCst))
    }

    /// Whether nothing was announced for its key since it was.
    pub(super) fn is_latest(&self) -> bool {
        self.stage() == self.own
    }
}

impl Drop for Succeeding {
    fn drop(&mut self) {
        let place = self.succession.place(self.hash);
        place.pending.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::KeyHasher;

    #[test]
    fn what_was_looked_up_before_is_outdated_by_any_successor() {
        let (succession, hasher) = (Arc::new(Succession::default()), KeyHasher::default());
        let (one, other) = (hasher.key(b"one"), hasher.key(b"other"));
        let before = succession.stage(one).expect("nothing is on its way");
        assert!(succession.is_still(before, one));
        let first = succession.announce(one);
        assert!(!succession.is_still(before, one));
        assert_eq!(succession.stage(one), None);
        let of_first = first.stage();
        let second = succession.announce(one);
        assert!(!succession.is_still(of_first, one), "the second came later");
        assert!(second.is_latest() && !first.is_latest());
        drop(first);
        assert_eq!(succession.stage(one), None);
        assert!(succession.stage(other).is_some());
        let of_second = second.stage();
        drop(second);
        assert_eq!(succession.stage(one), Some(of_second));
        assert!(succession.is_still(of_second, one));
    }
}

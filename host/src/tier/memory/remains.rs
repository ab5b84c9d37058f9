//! What is left of entries that a guest order named in lockstep: memory for those that come next.
//!
//! Nobody holds an entry without contents once it has left, as a rule, so another can be made in its
//! place, for a part of what it costs to give memory back and to ask for other. Those that left were
//! used the longest time ago. They are read together before they are used: memory answers several
//! that ask at once almost as soon as one.

use super::stripe::{Departed, touch};
use crate::entry::{Content, Entry, KeyView, SiteId};
use crate::sync::Arc;

/// Entries that are read together.
const READ: usize = 32;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Remains {
    /// Those that left since some were read last: fewer than are read together, and a few more.
    unread: Vec<Arc<Entry>>,
    /// Those that were read, as many at most.
    read: Vec<Arc<Entry>>,
}

impl Remains {
    /// Gives the budget of `departed` back, and keeps its entries.
    pub(super) fn keep(&mut self, mut departed: Departed<'_>) {
        self.unread.extend(departed.entries.drain(..));
        if self.unread.len() >= READ {
            touch(&self.unread);
            self.read.clear();
            std::mem::swap(&mut self.read, &mut self.unread);
        }
    }

    /// An entry as [`Entry::weighing`] makes it.
    pub(super) fn weighing(
        &mut self,
        key: KeyView<'_>,
        site: SiteId,
        content: Content,
        charge: u64,
    ) -> Arc<Entry> {
        if let Some(mut entry) = self.read.pop()
            && let Some(there) = Arc::get_mut(&mut entry)
        {
            there.reweigh(key, site, content, charge);
            return entry;
        }
        Arc::new(Entry::weighing(key.to_key(), site, content, charge))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{CacheKey, KeyHasher, Nominations};
    use crate::tier::memory::budget::Budget;

    fn parts(key: u64) -> (CacheKey, SiteId, Content, u64) {
        let content = Content::Nominations(Nominations::default());
        // Some lie in the entry, some beside it.
        let bytes = key.to_le_bytes().repeat(usize::try_from(key % 20).unwrap());
        let key_of = KeyHasher::default().key(&bytes).to_key();
        (key_of, SiteId(key), content, key)
    }

    #[test]
    fn who_comes_takes_the_memory_of_who_left_unless_somebody_holds_it() {
        let budget = Budget::new(0, 0);
        let mut remains = Remains::default();
        let make = |remains: &mut Remains, at| {
            let (key, site, content, charge) = parts(at);
            let entry = remains.weighing(key.view(), site, content, charge);
            assert_eq!((entry.site, entry.charge()), (site, charge));
            assert_eq!((&entry.key, entry.tags.len()), (&key, 0));
            entry
        };
        let there: Vec<_> = (0..64).map(|at| make(&mut remains, at)).collect();
        let places: Vec<_> = there.iter().map(Arc::as_ptr).collect();
        let serials: Vec<_> = there.iter().map(|it| it.serial()).collect();
        let held = Arc::clone(&there[63]);
        let mut there = there.into_iter();
        let mut leave = |remains: &mut Remains| {
            let mut departed = Departed::new(&budget);
            departed.entries.extend(there.next());
            remains.keep(departed);
        };
        (0..READ - 1).for_each(|_| leave(&mut remains));
        assert!(remains.read.is_empty(), "too few left to be read");
        (0..=READ).for_each(|_| leave(&mut remains));
        assert_eq!((remains.read.len(), remains.unread.len()), (READ, 0));
        // The first of them finds the memory of the one that is held, and asks for other.
        let come: Vec<_> = (100..140).map(|at| make(&mut remains, at)).collect();
        assert!(remains.read.is_empty());
        assert!(come.iter().all(|it| !Arc::ptr_eq(it, &held)));
        assert!(come.iter().all(|it| !serials.contains(&it.serial())));
        let taken: Vec<_> = come[1..READ].iter().map(Arc::as_ptr).collect();
        let left: Vec<_> = places[READ..63].iter().rev().copied().collect();
        assert_eq!(taken, left);
        assert_eq!(held.charge(), 63);
    }
}

//! What the store goes on holding although it has a successor, because it could not be told: it
//! refuses what is written, or what is removed, or too much waits to be written already.
//!
//! Known by name and by the time of the successor, up to a bound. Beyond it nothing is believed any
//! more that was fetched before then: what is not found is fetched again, what is outdated would be
//! wrong. Ends with the process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::names::Name;
use crate::tier::envelope::Born;

/// Names that are known: 5 MiB of them.
const NAMES_MAX: usize = 1 << 16;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Outdated(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// When the successor was fetched, in milliseconds since the Unix epoch.
    names: HashMap<Name, u64>,
    /// What was fetched before this time has a successor under any name.
    floor: u64,
}

impl Outdated {
    /// What is stored under `name` has a successor, which was fetched or decided `at` this time.
    pub(super) fn note(&self, name: Name, at: u64) {
        let mut known = self.lock();
        if known.names.len() >= NAMES_MAX && !known.names.contains_key(&name) {
            let latest = known.names.values().copied().max().unwrap_or_default();
            known.floor = known.floor.max(latest);
            known.names.clear();
        }
        let latest = known.names.entry(name).or_default();
        *latest = at.max(*latest);
    }

    /// What is stored under `name` is what it is to be, or nothing is.
    pub(super) fn settled(&self, name: Name) {
        self.lock().names.remove(&name);
    }

    /// Whether what was stored under `name`, and was born so, has a successor.
    pub(super) fn covers(&self, name: Name, born: &Born) -> bool {
        let known = self.lock();
        let of_name = known.names.get(&name).copied().unwrap_or_default();
        born.at < of_name.max(known.floor)
    }

    /// Names that are known.
    pub(super) fn len(&self) -> usize {
        self.lock().names.len()
    }

    /// Everything here is whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn born(at: u64) -> Born {
        Born {
            node: 1,
            purge: 0,
            at,
        }
    }

    #[test]
    fn what_is_older_than_its_successor_is_outdated_until_that_is_stored() {
        let (outdated, name) = (Outdated::default(), Name::of(b"a"));
        assert!(!outdated.covers(name, &born(0)));
        outdated.note(name, 20);
        outdated.note(name, 10);
        assert!(outdated.covers(name, &born(19)) && !outdated.covers(name, &born(20)));
        assert!(!outdated.covers(Name::of(b"b"), &born(0)));
        outdated.settled(name);
        assert!(!outdated.covers(name, &born(19)));
        assert_eq!(outdated.len(), 0);
    }

    #[test]
    fn of_more_than_are_remembered_nothing_older_is_believed() {
        let outdated = Outdated::default();
        for number in 0..=NAMES_MAX {
            let name = Name::of(&number.to_le_bytes());
            outdated.note(name, u64::try_from(number).unwrap());
        }
        assert_eq!(outdated.len(), 1);
        let floor = u64::try_from(NAMES_MAX).unwrap() - 1;
        let other = Name::of(b"never heard of");
        assert!(outdated.covers(other, &born(floor - 1)) && !outdated.covers(other, &born(floor)));
    }
}

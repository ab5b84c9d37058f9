//! First in, first out, as plainly as the interface allows.

use std::cell::RefCell;
use std::collections::VecDeque;

thread_local! {
    /// Slots and sizes of the residents, the oldest first.
    static RESIDENTS: RefCell<VecDeque<(u32, u64)>> = const { RefCell::new(VecDeque::new()) };
}

/// Takes note of a batch of events.
pub(crate) fn observe(events: &[u64]) {
    RESIDENTS.with_borrow_mut(|residents| {
        let mut words = events.iter();
        while let Some(word) = words.next() {
            let slot = u32::try_from(word & u64::from(u32::MAX)).unwrap_or_default();
            if word >> 62 != 0 {
                residents.retain(|(known, _)| *known != slot);
            }
            if word >> 62 == 1 {
                let size = words.nth(1).copied().unwrap_or_default();
                residents.push_back((slot, size));
            }
        }
    });
}

/// Names residents that are worth `need` bytes together.
pub(crate) fn victims(mut need: u64) -> Vec<u32> {
    RESIDENTS.with_borrow_mut(|residents| {
        let mut named = Vec::new();
        while need > 0
            && let Some((slot, size)) = residents.pop_front()
        {
            need = need.saturating_sub(size);
            named.push(slot);
        }
        named
    })
}

//! An eviction policy that exports `eviction` and nothing besides, so that it is told of events and
//! asked for victims by a call each. First in, first out.
//!
//! Test fixture, made from the interface without the library for policies.

mod bindings;

use std::cell::RefCell;
use std::collections::VecDeque;

use bindings::exports::larder::policy::eviction::Guest;

struct Apart;

#[expect(unsafe_code, reason = "the generated exports")]
mod export {
    use super::{Apart, bindings};
    bindings::export!(Apart with_types_in bindings);
}

thread_local! {
    /// Slots and sizes of the residents, the oldest first.
    static RESIDENTS: RefCell<VecDeque<(u32, u64)>> = const { RefCell::new(VecDeque::new()) };
}

impl Guest for Apart {
    fn configure(_: String, _: u64, _: u32) -> Result<(), String> {
        Ok(())
    }

    fn observe(_: u64, events: Vec<u64>) {
        RESIDENTS.with_borrow_mut(|residents| {
            let mut words = events.into_iter();
            while let Some(word) = words.next() {
                let slot = u32::try_from(word & u64::from(u32::MAX)).unwrap_or_default();
                if word >> 62 != 0 {
                    residents.retain(|(known, _)| *known != slot);
                }
                if word >> 62 == 1 {
                    let size = words.nth(1).unwrap_or_default();
                    residents.push_back((slot, size));
                }
            }
        });
    }

    fn victims(mut need: u64) -> Vec<u32> {
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
}

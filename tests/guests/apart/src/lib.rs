//! An eviction policy that exports `eviction` and nothing besides, so that it is told of events and
//! asked for victims by a call each. First in, first out.
//!
//! Test fixture, made from the interface without the library for policies.

mod bindings;
mod fifo;

use bindings::exports::larder::policy::eviction::Guest;

struct Apart;

#[expect(unsafe_code, reason = "the generated exports")]
mod export {
    use super::{Apart, bindings};
    bindings::export!(Apart with_types_in bindings);
}

impl Guest for Apart {
    fn configure(_: String, _: u64, _: u32) -> Result<(), String> {
        Ok(())
    }

    fn observe(_: u64, events: Vec<u64>) {
        fifo::observe(&events);
    }

    fn victims(need: u64) -> Vec<u32> {
        fifo::victims(need)
    }
}

//! What a trace asks for in all: its keys and their sizes, found by reading it once before.

use super::number::count;
use super::request::{KeyMap, Request};

/// The distinct objects of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Distinct keys.
    pub keys: u64,
    /// Sum of their sizes, of each the largest it had.
    pub bytes: u64,
}

/// Gathers a footprint, in 16 bytes a key.
#[derive(Debug, Default)]
pub(super) struct Survey(KeyMap<u64>);

impl Survey {
    /// Takes note of requests.
    pub(super) fn add(&mut self, requests: &[Request]) {
        for request in requests {
            let size = self.0.entry(request.key).or_default();
            *size = request.size.max(*size);
        }
    }

    /// The footprint of all requests so far.
    pub(super) fn footprint(&self) -> Footprint {
        Footprint {
            keys: count(self.0.len()),
            bytes: self
                .0
                .values()
                .fold(0, |sum, size| sum.saturating_add(*size)),
        }
    }
}

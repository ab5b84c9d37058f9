//! The tiers: where stored responses are kept, fastest first.
//!
//! A tier knows entries, keys and tags, never HTTP rules or policies: whether a response may be
//! stored or used is decided above. Every tier keeps to its budget at every instant, and answers
//! an absent, damaged or unreachable entry as a miss.

pub mod disk;
pub mod envelope;
pub mod eviction;
pub mod found;
pub mod memory;
pub mod object;
mod selection;
pub mod slow;
mod usage;

pub use selection::{Purged, Selection};
pub use usage::Usage;

//! What the host's threads share, under the orders in which they may run.
//!
//! [`host`] is a mirror of some of the host's modules: its own sources, which take their mutexes,
//! atomics and threads from `crate::sync`, and here that is a model checker's. A model is a scene of
//! two or three threads and what must hold in it. See [`check`] for how they are tried.

// What the sources have in tests is tested where they are.
#![cfg(not(test))]
#![expect(
    clippy::duplicate_mod,
    reason = "a model that stands in place of a device sees its own purge log from within"
)]
#![expect(
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a model panics to say what it found"
)]

/// The mirror.
#[path = "../../../host/src"]
pub mod host {
    pub mod cache;
    pub mod clock;
    pub mod entry;
    pub(crate) mod little_endian;
    pub mod metrics;
    pub mod rfc9111;

    /// The purge log and the receipts once more, for models that see them from within.
    #[expect(dead_code, unreachable_pub, reason = "a model needs part of it")]
    #[path = "cache"]
    pub mod purging {
        use crate::cache::Effect;

        #[path = "../../../tests/models/src/purge_log.rs"]
        pub mod logs;
        mod purge_file;
        mod purge_log;
        mod purges;
        mod receipts;
        #[path = "../../../tests/models/src/receipts.rs"]
        pub mod receiving;
    }

    /// What the mirrored modules need of it.
    pub mod tier {
        /// What the threads of the disk tier share: its index, its queue, those who read, and the
        /// lives of its segments.
        #[expect(dead_code, reason = "a model needs part of it")]
        pub mod disk {
            #[path = "../../../../tests/models/src/content.rs"]
            mod content;
            mod format;
            mod index;
            #[path = "../../../../tests/models/src/index.rs"]
            pub mod indexing;
            #[path = "../../../../tests/models/src/segments.rs"]
            pub mod lives;
            mod queue;
            #[path = "../../../../tests/models/src/queue.rs"]
            pub mod queueing;
            mod readers;
            #[path = "../../../../tests/models/src/readers.rs"]
            pub mod reading;
            mod segment;

            use content::join_within;
        }
        pub mod envelope;
        pub mod eviction;
        pub mod found;
        pub mod memory;
        mod selection;
        pub mod slow;
        mod usage;

        pub use selection::{Purged, Selection};
        pub use usage::Usage;
    }
}

#[expect(dead_code, reason = "not every one is used in every way")]
mod atomic;
mod config;
mod mutex;
mod sync;

use host::{cache, clock, entry, little_endian, metrics, rfc9111, tier};

pub use host::purging::logs as purge_log;
pub use host::purging::receiving as receipts;
pub use host::tier::disk::indexing as index;
pub use host::tier::disk::lives as segments;
pub use host::tier::disk::queueing as queue;
pub use host::tier::disk::reading as readers;

pub mod check;
pub mod flights;
pub mod memory;
pub mod purges;
mod scene;
pub mod succession;

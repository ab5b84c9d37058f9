//! Larder, a programmable edge cache.
pub mod clock;
pub mod embedded;
pub mod entry;
pub mod metrics;
pub mod policy;
pub mod tasks;
pub mod tier { pub mod eviction; }
pub mod cache { pub mod flight; pub mod flights; }

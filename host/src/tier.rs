//! The tiers: where stored responses are kept, fastest first.
//!
//! A tier knows entries, keys and tags, never HTTP rules or policies: whether a response may be
//! stored or used is decided above. Every tier keeps to its budget at every instant, and answers
//! an absent, damaged or unreachable entry as a miss.

pub mod eviction;
pub mod memory;

use std::ops::AddAssign;

/// What a purge removed, or would remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Entries.
    pub entries: u64,
    /// Bytes they were charged.
    pub bytes: u64,
}

impl AddAssign for Purged {
    fn add_assign(&mut self, other: Self) {
        self.entries = self.entries.saturating_add(other.entries);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// How full a tier is. Each number is exact; together they are not one snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Entries that can be found.
    pub entries: u64,
    /// Bytes in use: what the entries are charged, and `reserved`. Never above `capacity`.
    pub bytes: u64,
    /// Bytes set aside for responses that are still arriving.
    pub reserved: u64,
    /// Bytes the tier may use.
    pub capacity: u64,
    /// Entries the tier may hold.
    pub max_entries: u64,
    /// Bytes that guest eviction orders hold beside the tier's own.
    pub guest_memory: u64,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.entries = self.entries.saturating_add(other.entries);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.reserved = self.reserved.saturating_add(other.reserved);
        self.capacity = self.capacity.saturating_add(other.capacity);
        self.max_entries = self.max_entries.saturating_add(other.max_entries);
        self.guest_memory = self.guest_memory.saturating_add(other.guest_memory);
    }
}

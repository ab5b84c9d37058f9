//! How full a tier is.

use std::ops::AddAssign;

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

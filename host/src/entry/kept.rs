//! Content that a tier keeps outside of memory and that is read as it is wanted.

use std::any::Any;
use std::fmt::Debug;
use std::pin::Pin;

use bytes::Bytes;

/// Bytes that one read answers, at most.
pub const READ_MAX: usize = 256 << 10;

/// Content of a stored response that lies in a slower tier. It stays readable for as long as this
/// is held, whatever is evicted, replaced or purged meanwhile, unless the tier itself fails.
pub trait Kept: Any + Debug + Send + Sync {
    /// Bytes of content.
    fn len(&self) -> u64;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads from byte `at` on: at least one byte and at most [`READ_MAX`], each of which was
    /// verified; none from the end on. Occupies the thread that polls it no longer than it takes
    /// to copy and verify what lies in memory, and answers within the deadline of the tier.
    fn read(&self, at: u64) -> Reading;
}

/// A read under way.
pub type Reading = Pin<Box<dyn Future<Output = Result<Bytes, Unreadable>> + Send>>;

/// Content that was there and cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// What was read is not what was stored.
    #[error("the stored content is damaged")]
    Damaged,
    /// It was evicted or removed although it is held, or its tier is offline.
    #[error("the stored content is gone")]
    Gone,
    /// The device or the service failed.
    #[error("the tier failed to read")]
    Failed,
    /// The tier did not answer in time.
    #[error("the tier took too long")]
    TimedOut,
}

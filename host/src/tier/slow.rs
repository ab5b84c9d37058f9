//! What every tier outside of memory can do, however it does it.
//!
//! A slow tier waits for a device or a service, so its calls are futures; none of them blocks the
//! thread that polls it, and all of them end within the tier's own deadlines. It answers nothing
//! that it has not verified.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use super::Usage;
use super::envelope::{Born, Envelope};
use super::eviction::Reinsertion;
use super::found::Found;
use crate::entry::{Entry, KeyView};
use crate::metrics::Histogram;

/// The answer to a call, once it is there.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A tier outside of memory.
pub trait SlowTier: Debug + Send + Sync {
    /// What it is called in metrics, reports and logs.
    fn name(&self) -> &'static str;

    /// Whether it takes writes.
    fn is_writable(&self) -> bool;

    /// False if it certainly holds nothing under `key`. Answers from memory.
    fn may_hold(&self, key: KeyView<'_>) -> bool;

    /// What it holds under `key`, verified.
    fn get<'a>(&'a self, key: KeyView<'a>) -> Answer<'a, Result<Option<Found>, Unavailable>>;

    /// Takes `entry`, which was fetched as `born` says, to be stored in place of whatever is under
    /// its key. Of two, the one that was put later stays.
    fn put<'a>(&'a self, entry: &'a Arc<Entry>, born: Born) -> Answer<'a, Written>;

    /// Begins to store content under `key` while it arrives, `length` bytes of it if that is known.
    /// None if the tier takes none now.
    fn writer(&self, key: KeyView<'_>, length: Option<u64>) -> Option<Box<dyn Writer>>;

    /// Forgets what is under `key`, also what is on its way there. A crash may undo it.
    fn remove(&self, key: KeyView<'_>);

    /// How full it is.
    fn usage(&self) -> Usage;

    /// Gives it `bytes` from now on. What no longer fits goes, oldest first.
    ///
    /// # Errors
    /// It cannot be given so many, or is not bounded by this host: why.
    fn resize(&self, bytes: u64) -> Result<(), String>;

    /// Asks `rule` from now on what is worth being kept of what is reclaimed, if the tier reclaims.
    fn set_reinsertion(&self, rule: Arc<dyn Reinsertion>);

    /// How it is.
    fn health(&self) -> Health;

    /// Counts and sizes of its own, beside those that every tier has.
    fn figures(&self) -> Vec<Figure>;

    /// How long writes to the device or the service took that succeeded, of one entry or of several
    /// at once, without what they waited for their turn.
    fn write_time(&self) -> &Histogram;

    /// Entries that left it, by reason.
    fn evictions(&self) -> Vec<(&'static str, u64)>;

    /// Waits until what was put before is stored or given up.
    fn settle(&self) -> Answer<'_, ()>;

    /// Finishes what was put, within a bounded time, and lets go of device or service. Blocks.
    fn stop(&self);

    /// At most `limit` of what it holds, from `cursor` on, purged or not; fewer, even none, if
    /// reading takes long. None if it cannot tell without a request for each.
    fn list(
        &self,
        _cursor: Cursor,
        _limit: usize,
    ) -> Option<Answer<'_, Result<Page, Unavailable>>> {
        None
    }

    /// The same, and of what it lists, what `drops` says so of cannot be found any more. What has
    /// moved or was replaced meanwhile is neither listed nor dropped.
    fn sweep(
        &self,
        _cursor: Cursor,
        _limit: usize,
        _drops: &Drops,
    ) -> Option<Answer<'_, Result<Page, Unavailable>>> {
        None
    }

    /// Reads all it holds, at most `bytes_per_second` of it, and drops what is damaged or purged.
    /// None if that is done for it by whoever keeps its bytes.
    fn scrub(&self, _bytes_per_second: u64) -> Option<Answer<'_, Result<Scrubbed, Unavailable>>> {
        None
    }
}

/// Says of what is listed whether it is to go. Asked on a thread of the tier, which waits for it.
pub type Drops = Arc<dyn Fn(&Envelope) -> bool + Send + Sync>;

/// How far a listing of a tier has come; the default is its beginning. Only the tier knows what the
/// numbers mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor(pub u64, pub u32);

/// Part of a listing.
#[derive(Debug)]
pub struct Page {
    /// What is stored.
    pub entries: Vec<Envelope>,
    /// Where to go on; none at the end.
    pub next: Option<Cursor>,
}

/// What a scrub found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Entries that are what was written.
    pub entries: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Entries that were not what was written, and are gone now.
    pub damaged: u64,
    /// Entries that a purge covers, and that are gone now.
    pub purged: u64,
}

/// Content on its way into a tier. Dropping it leaves nothing that anyone finds.
pub trait Writer: Debug + Send {
    /// Takes the next bytes, once the tier has room for them. False: it has given up.
    fn push(&mut self, piece: Bytes) -> Answer<'_, bool>;

    /// Stores all that was pushed as the content of `envelope`, whose length and digest it fills
    /// in; in place of whatever is under its key.
    fn commit(self: Box<Self>, envelope: Envelope) -> Answer<'static, Written>;
}

/// A tier that could not say what it holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// It is offline, or not yet online.
    #[error("the tier is offline")]
    Offline,
    /// It failed to read.
    #[error("the tier failed: {0}")]
    Failed(String),
    /// It did not answer in time.
    #[error("the tier took too long")]
    TimedOut,
}

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It was taken, and will be stored unless the tier fails or something newer comes.
    Accepted,
    /// Something newer is there, or the entry is none for this tier: parts of a response.
    Unneeded,
    /// It is too large for the tier.
    TooLarge,
    /// Too much waits to be written.
    Full,
    /// The tier takes no writes now.
    Unavailable,
}

impl Written {
    /// Whether the tier failed to do what it is there for.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Full | Self::Unavailable)
    }
}

/// A number that a tier tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its name in reports; in metrics `larder_tier_` stands before it, and `_total` behind a count.
    pub name: &'static str,
    /// What it is.
    pub help: &'static str,
    /// Whether it only rises.
    pub is_count: bool,
    /// The number.
    pub value: u64,
}

impl Figure {
    /// A number that only rises.
    pub const fn count(name: &'static str, help: &'static str, value: u64) -> Self {
        Self {
            name,
            help,
            is_count: true,
            value,
        }
    }

    /// A number that rises and falls.
    pub const fn size(name: &'static str, help: &'static str, value: u64) -> Self {
        Self {
            name,
            help,
            is_count: false,
            value,
        }
    }
}

/// How a tier is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does all it should.
    Online,
    /// It finds out what it holds; what it knows already it serves.
    Loading,
    /// It works, but not as it should: why.
    Degraded(String),
    /// It answers nothing: why.
    Offline(String),
}

impl Health {
    /// The word in reports.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Loading => "loading",
            Self::Degraded(_) => "degraded",
            Self::Offline(_) => "offline",
        }
    }

    /// Why it is not online.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Online | Self::Loading => None,
            Self::Degraded(reason) | Self::Offline(reason) => Some(reason),
        }
    }
}

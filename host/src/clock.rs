//! Time, read in one place.
//!
//! Ages are measured on the monotonic clock, so a step of the wall clock neither revives nor
//! expires a stored response; dates that leave or enter through HTTP use the wall clock.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// A point on the monotonic clock, in milliseconds since the process first asked for the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// The moment `ms` milliseconds after the start of the process.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the start of the process.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The moment `time` later, in whole milliseconds.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(ms))
    }

    /// The time that passed since `earlier`, zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Now, on the monotonic clock, at full resolution.
pub fn instant() -> Instant {
    Instant::now()
}

/// Now, on the monotonic clock, as of the last tick of the kernel: a few milliseconds late, at a
/// fifth of the cost of [`now`]. For ages, which HTTP tells in seconds.
#[inline]
pub fn coarse() -> Moment {
    millis_since_start(clock_gettime(ClockId::MonotonicCoarse))
}

/// Now, on the monotonic clock, in milliseconds.
pub fn now() -> Moment {
    millis_since_start(clock_gettime(ClockId::Monotonic))
}

fn millis_since_start(time: Timespec) -> Moment {
    static START: OnceLock<Duration> = OnceLock::new();
    let start = START.get_or_init(|| since_boot(clock_gettime(ClockId::MonotonicCoarse)));
    let passed = since_boot(time).saturating_sub(*start).as_millis();
    Moment(u64::try_from(passed).unwrap_or(u64::MAX))
}

/// What the calling thread has taken of a CPU so far.
pub fn cpu_time() -> Duration {
    since_boot(clock_gettime(ClockId::ThreadCPUTime))
}

fn since_boot(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Now, on the wall clock. For dates in HTTP and in files, never for ages inside the process.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// `time` as milliseconds since the Unix epoch, zero before it.
pub fn unix_millis(time: SystemTime) -> u64 {
    let passed = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    u64::try_from(passed).unwrap_or(u64::MAX)
}

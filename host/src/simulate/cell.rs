//! One policy at one capacity: a memory domain in lockstep, and what came of the requests.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::number::ratio;
use super::request::{NO_END, Request};
use crate::clock::{self, Moment};
use crate::entry::{
    Content, Entry, KeyView, Lifetime, Nominations, Reuse, StoredBody, StoredResponse,
};
use crate::policy::activation::{Activation, HookSlot};
use crate::policy::evictor::GuestSource;
use crate::policy::sandbox::FaultKind;
use crate::tier::eviction::OrderSource;
use crate::tier::memory::lockstep::{Capacity, Lockstep};
use crate::tier::memory::put::Put;
use crate::tier::memory::stats::EvictionReason;
use crate::tier::memory::{DomainSettings, Shards};

/// Entries of one shard, at most: more than this and the memory that a guest order may need for
/// them is more than one instance can have.
const ENTRIES_MAX: u64 = 8 << 20;

/// Requests whose entries are read ahead: more than memory answers at once, and few enough that
/// they are still at hand when their turn comes.
const AHEAD: usize = 16;

/// How a simulation differs from the plain one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Charge bookkeeping, keep headroom and refuse large entries, as when serving.
    pub as_served: bool,
    /// Honour the lifetimes of the trace: what has expired is a miss.
    pub ttl: bool,
    /// Into how many shards the cache is split.
    pub shards: NonZeroU32,
}

/// What came of the requests under one policy at one capacity.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Bytes of the cache.
    pub capacity_bytes: u64,
    /// Requests, and the bytes of their objects.
    pub requests: u64,
    /// Bytes asked for.
    pub bytes: u64,
    /// Requests that were not answered from the cache.
    pub misses: u64,
    /// Bytes of their objects.
    pub missed_bytes: u64,
    /// Entries that left to make room.
    pub evictions: u64,
    /// Of these, those that left in native order although a policy decides.
    pub native_evictions: u64,
    /// Newcomers that the policy did not let in, or that are too large.
    pub refusals: u64,
    /// Mean nanoseconds of a CPU for a request, outside of the policy.
    pub ns_host: f64,
    /// Mean nanoseconds of a CPU for a request, within the policy.
    pub ns_guest: f64,
    /// Faults by kind, those that there were.
    pub faults: Vec<(&'static str, u64)>,
    /// Whether the native order was in charge at the end although a policy was asked for.
    pub fell_back: bool,
    /// The most bytes that entries were charged between two requests.
    pub peak_bytes: u64,
    /// The most entries.
    pub peak_entries: u64,
    /// Bytes of memory that the policy's instances held at the end.
    pub guest_memory_bytes: u64,
}

impl Outcome {
    /// Misses among requests.
    pub fn request_miss_ratio(&self) -> f64 {
        ratio(self.misses, self.requests)
    }

    /// Missed bytes among bytes asked for.
    pub fn byte_miss_ratio(&self) -> f64 {
        ratio(self.missed_bytes, self.bytes)
    }

    /// Faults of every kind.
    pub fn fault_count(&self) -> u64 {
        self.faults.iter().map(|(_, count)| count).sum()
    }
}

/// A simulation that is under way.
pub(super) struct Cell {
    lockstep: Lockstep,
    activation: Arc<Activation>,
    slot: Arc<HookSlot>,
    manner: Manner,
    capacity: u64,
    decided_by: Arc<str>,
    requests: u64,
    bytes: u64,
    misses: u64,
    missed_bytes: u64,
    too_large: u64,
    peak_bytes: u64,
    peak_entries: u64,
    /// Time that passed, and that this took of a CPU.
    time: Duration,
    cpu_time: Duration,
}

impl Cell {
    /// An empty cache of `capacity` bytes whose victims `activation` chooses, for no more than
    /// `keys` distinct keys.
    pub(super) fn new(
        name: String,
        activation: Arc<Activation>,
        manner: Manner,
        capacity: u64,
        keys: u64,
    ) -> Self {
        let entries = capacity.min(keys).clamp(1, ENTRIES_MAX);
        let settings = DomainSettings {
            name,
            capacity,
            max_entries: u32::try_from(entries).unwrap_or(u32::MAX),
            shards: Shards::exactly(manner.shards),
        };
        let meant = if manner.as_served {
            Capacity::AsServed
        } else {
            Capacity::Exact
        };
        let slot = Arc::new(HookSlot::new(Arc::clone(&activation)));
        let source = activation.policy.is_some().then(|| {
            let source: Arc<dyn OrderSource> = Arc::new(GuestSource::new(Arc::clone(&slot)));
            source
        });
        Self {
            lockstep: Lockstep::new(settings, meant, source),
            decided_by: Arc::clone(&activation.label),
            activation,
            slot,
            manner,
            capacity,
            requests: 0,
            bytes: 0,
            misses: 0,
            missed_bytes: 0,
            too_large: 0,
            peak_bytes: 0,
            peak_entries: 0,
            time: Duration::ZERO,
            cpu_time: Duration::ZERO,
        }
    }

    /// Replays `requests`.
    pub(super) fn replay(&mut self, requests: &[Request]) {
        let (start, cpu_start) = (clock::instant(), clock::cpu_time());
        for some in requests.chunks(AHEAD) {
            self.lockstep.prefetch(some.iter().map(|it| it.key));
            for request in some {
                self.request(request);
            }
        }
        self.time += start.elapsed();
        self.cpu_time += clock::cpu_time().saturating_sub(cpu_start);
    }

    fn request(&mut self, request: &Request) {
        self.lockstep.set_time(request.time_ms);
        self.requests += 1;
        self.bytes = self.bytes.saturating_add(request.size);
        // All that is known of a key is its hash. Bytes beside it would tell no two keys apart, and
        // cost every lookup a line of memory.
        let key = KeyView {
            hash: request.key,
            bytes: &[],
        };
        let usable = self.lockstep.get(key, |entry| {
            let left = entry.remaining(Moment::from_millis(request.time_ms));
            left.is_none_or(|left| !left.is_zero())
        });
        if usable != Some(true) {
            self.miss(request, key);
        }
    }

    fn miss(&mut self, request: &Request, key: KeyView<'_>) {
        self.misses += 1;
        self.missed_bytes = self.missed_bytes.saturating_add(request.size);
        let bookkeeping = if self.manner.as_served {
            Entry::bookkeeping(u64::from(request.key_bytes))
        } else {
            0
        };
        // What costs nothing could never leave, so an object without a byte costs one.
        let charge = request.size.saturating_add(bookkeeping).max(1);
        let content = self.content(request);
        match self.lockstep.put(key, content, charge) {
            Put::Stored | Put::Superseded => {}
            Put::Rejected(_) => self.too_large += 1,
        }
        self.peak_bytes = self.peak_bytes.max(self.lockstep.bytes());
        self.peak_entries = self.peak_entries.max(self.lockstep.entries());
    }

    fn content(&self, request: &Request) -> Content {
        if !self.manner.ttl || request.ttl_s == NO_END {
            // The kind of entry that does not expire.
            return Content::Nominations(Nominations::default());
        }
        Content::Response(StoredResponse {
            status: http::StatusCode::OK,
            headers: http::HeaderMap::new(),
            body: StoredBody::default(),
            lifetime: Lifetime {
                stored_at: Moment::from_millis(request.time_ms),
                initial_age: Duration::ZERO,
                fresh_for: Duration::from_secs(u64::from(request.ttl_s)),
                stale_while_revalidate: Duration::ZERO,
                stale_if_error: Duration::ZERO,
                reuse: Reuse::FreshOnly,
            },
            decided_by: Arc::clone(&self.decided_by),
        })
    }

    /// What came of it so far.
    pub(super) fn outcome(&self) -> Outcome {
        let stats = self.lockstep.stats();
        let evicted = |reasons: &[EvictionReason]| -> u64 {
            reasons
                .iter()
                .map(|reason| stats.evicted(*reason).entries)
                .sum()
        };
        let refused = evicted(&[EvictionReason::Refused]);
        let fallen_back = [
            EvictionReason::NativeOverrun,
            EvictionReason::NativeFallback,
        ];
        let guided = self.activation.policy.is_some();
        let native = evicted(&fallen_back) + evicted(&[EvictionReason::Capacity]);
        let counts = &self.activation.stats;
        let faults = FaultKind::ALL.iter().zip(&counts.faults);
        // The part of the policy is known of the time that passed, which on a busy machine has
        // others' work in it. The whole is known of the CPU, and the same part of it is the policy's.
        let passed = self.time.as_secs_f64().max(f64::MIN_POSITIVE);
        let guest_part = (counts.seconds.sum().as_secs_f64() / passed).min(1.0);
        let requests = super::number::real(self.requests.max(1));
        let mean_ns = self.cpu_time.as_secs_f64() * 1e9 / requests;
        Outcome {
            capacity_bytes: self.capacity,
            requests: self.requests,
            bytes: self.bytes,
            misses: self.misses,
            missed_bytes: self.missed_bytes,
            evictions: native + evicted(&[EvictionReason::Policy]),
            native_evictions: if guided { native } else { 0 },
            refusals: refused + self.too_large,
            ns_host: mean_ns * (1.0 - guest_part),
            ns_guest: mean_ns * guest_part,
            faults: faults
                .map(|(kind, count)| (kind.as_str(), count.get()))
                .filter(|(_, count)| *count > 0)
                .collect(),
            fell_back: guided
                && (self.lockstep.is_native() || self.slot.current().policy.is_none()),
            peak_bytes: self.peak_bytes,
            peak_entries: self.peak_entries,
            guest_memory_bytes: self.lockstep.usage().guest_memory,
        }
    }
}

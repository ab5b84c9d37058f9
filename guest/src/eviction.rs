//! Which residents leave a full memory tier: the [`Eviction`] trait and the views of its calls.
//!
//! One instance sees one shard. The host reports what happened in batches of packed words and
//! asks for victims in lots, on a thread of its own; a policy's cost is therefore the cost of one
//! event, and decoding adds a few instructions to it and no path that can panic.

mod buckets;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod event;
mod ghosts;
mod index;
mod queue;
mod slots;

use std::cell::RefCell;
use std::thread::LocalKey;
use std::time::Duration;

pub use buckets::Buckets;
pub use ghosts::Ghosts;
pub use index::Index;
pub use queue::{Link, Links, Queue};
pub use slots::Slots;

use crate::Params;

/// An eviction policy. Export it with [`eviction!`](crate::eviction!).
///
/// Events come one by one, oldest first, and many to a call of the host. Hits may be missing under
/// load; inserts and removals never are.
pub trait Eviction: Sized + 'static {
    /// Makes the policy from the operator's parameters and the limits of the shard.
    ///
    /// Parameters that this did not ask for are refused after it returns. Memory should grow with
    /// use, as [`Slots`] does, and not be taken here for `max_entries`.
    ///
    /// # Errors
    /// The text is shown to the operator, and the policy is not activated.
    fn configure(params: &Params, limits: Limits) -> Result<Self, String>;

    /// It is `unix_ms` now: the time of all events up to the next such call.
    fn now(&mut self, unix_ms: u64) {
        let _ = unix_ms;
    }

    /// A request was answered from the entry in `slot`. Must be ignored if the slot is unknown.
    fn hit(&mut self, slot: u32);

    /// An entry was put into a slot. It replaces what was there, if anything was.
    fn insert(&mut self, insert: Insert);

    /// The entry in `slot` left for a reason other than being named a victim. Must be ignored if
    /// the slot is unknown.
    fn remove(&mut self, slot: u32);

    /// Names residents until `victims` [misses](Victims::missing_bytes) no more bytes, worst first.
    ///
    /// A named slot is free at once; no removal is reported for it. Naming what was just inserted
    /// refuses it. Should this name too little, the host evicts the rest in its own order.
    fn victims(&mut self, victims: &mut Victims);
}

/// What one shard may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, as entries are charged.
    pub capacity_bytes: u64,
    /// Entries. Every slot is below this.
    pub max_entries: u32,
}

/// An entry that was put into a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insert {
    /// Its slot until it leaves; slots are dense and used again.
    pub slot: u32,
    /// Keyed hash of its key: equal for equal keys for the life of the host's process.
    pub hash: u64,
    /// Bytes it is charged, bookkeeping included.
    pub size_bytes: u64,
    /// How long it stays fresh; `None`: without end.
    pub lifetime: Option<Duration>,
}

impl Insert {
    /// 32 bits of the hash, in which all of it has a share: enough to know a key again, and even
    /// in every bit whatever the host's hash is like.
    pub fn half_hash(&self) -> u32 {
        let mixed = (self.hash ^ (self.hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        u32::try_from(mixed >> 32).unwrap_or_default()
    }
}

const SLOT_BITS: u32 = 32;
const KIND_SHIFT: u32 = 62;
const ARGUMENT_MAX: u64 = (1 << (KIND_SHIFT - SLOT_BITS)) - 1;
const KIND_HIT: u64 = 0;
const KIND_INSERT: u64 = 1;
const KIND_REMOVE: u64 = 2;

/// Hands the packed events of one call to `policy`, oldest first.
///
/// Stops at words that are no event, which no host sends.
pub(crate) fn apply<T: Eviction>(policy: &mut T, unix_ms: u64, words: &[u64]) {
    policy.now(unix_ms);
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        let slot = slot_of(word);
        match word >> KIND_SHIFT {
            KIND_HIT => policy.hit(slot),
            KIND_INSERT => {
                let (Some(hash), Some(size_bytes)) = (words.next(), words.next()) else {
                    return;
                };
                let argument = (word >> SLOT_BITS) & ARGUMENT_MAX;
                let lifetime = (argument != ARGUMENT_MAX).then(|| Duration::from_secs(argument));
                policy.insert(Insert {
                    slot,
                    hash,
                    size_bytes,
                    lifetime,
                });
            }
            KIND_REMOVE => policy.remove(slot),
            _ => return,
        }
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "the low half is the slot"
)]
fn slot_of(word: u64) -> u32 {
    word as u32
}

/// The victims of one call: takes slots until enough bytes are named.
#[derive(Debug)]
pub struct Victims {
    missing_bytes: u64,
    slots: Vec<u32>,
}

impl Victims {
    /// A call that needs `need_bytes`.
    pub fn new(need_bytes: u64) -> Self {
        Self::expecting(need_bytes, 64)
    }

    /// A call that needs `need_bytes`, for which it probably takes so many victims.
    fn expecting(need_bytes: u64, victims: usize) -> Self {
        Self {
            missing_bytes: need_bytes,
            slots: Vec::with_capacity(victims),
        }
    }

    /// A call that needs `need_bytes`, and writes its answer where an earlier one was: for a policy
    /// that asks itself, many times over.
    pub fn reusing(mut slots: Vec<u32>, need_bytes: u64) -> Self {
        slots.clear();
        Self {
            missing_bytes: need_bytes,
            slots,
        }
    }

    /// Bytes still to be named; zero: done.
    pub fn missing_bytes(&self) -> u64 {
        self.missing_bytes
    }

    /// Names the entry in `slot`, which is charged `size_bytes`.
    pub fn name(&mut self, slot: u32, size_bytes: u64) {
        self.missing_bytes = self.missing_bytes.saturating_sub(size_bytes);
        self.slots.push(slot);
    }

    /// The slots named so far, first named first.
    pub fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// Takes back each slot that `leaves` answers false for, first named first. What was taken back
    /// must be more than was needed: the missing bytes stay as they are.
    pub fn retain(&mut self, mut leaves: impl FnMut(u32) -> bool) {
        self.slots.retain(|slot| leaves(*slot));
    }

    /// The slots named, first named first.
    pub fn into_slots(self) -> Vec<u32> {
        self.slots
    }
}

/// Parses the parameters and configures the policy.
pub(crate) fn configured<T: Eviction>(params: &str, limits: Limits) -> Result<T, String> {
    let params = Params::parse(params)?;
    let policy = T::configure(&params, limits)?;
    params.finish()?;
    Ok(policy)
}

/// The instance's one policy.
#[doc(hidden)]
pub type Cell<T> = LocalKey<RefCell<Option<T>>>;

/// Answers `configure` of the interface.
#[doc(hidden)]
pub fn configure<T: Eviction>(
    cell: &'static Cell<T>,
    params: &str,
    limits: Limits,
) -> Result<(), String> {
    let policy = configured(params, limits)?;
    cell.set(Some(policy));
    Ok(())
}

/// Answers `observe` of the interface.
///
/// # Panics
/// `configure` has not been called: the host's fault, and a trap tells it so.
#[doc(hidden)]
pub fn observe<T: Eviction>(cell: &'static Cell<T>, unix_ms: u64, words: &[u64]) {
    cell.with_borrow_mut(|policy| {
        let policy = policy.as_mut().expect("configure comes before observe");
        apply(policy, unix_ms, words);
    });
}

/// Answers `victims` of the interface.
///
/// # Panics
/// `configure` has not been called: the host's fault, and a trap tells it so.
#[doc(hidden)]
pub fn victims<T: Eviction>(cell: &'static Cell<T>, need_bytes: u64) -> Vec<u32> {
    cell.with_borrow_mut(|policy| {
        let policy = policy.as_mut().expect("configure comes before victims");
        named(policy, need_bytes)
    })
}

/// Answers `make-room` of the interface `room`.
///
/// # Panics
/// `configure` has not been called: the host's fault, and a trap tells it so.
#[doc(hidden)]
pub fn make_room<T: Eviction>(
    cell: &'static Cell<T>,
    unix_ms: u64,
    words: &[u64],
    need_bytes: u64,
) -> Vec<u32> {
    cell.with_borrow_mut(|policy| {
        let policy = policy.as_mut().expect("configure comes before make-room");
        apply(policy, unix_ms, words);
        named(policy, need_bytes)
    })
}

/// Words of events that are handed over without a list, at most.
#[doc(hidden)]
pub const FEW_WORDS: usize = 12;
/// Slots that are, at most.
#[doc(hidden)]
pub const FEW_SLOTS: usize = 4;

thread_local! {
    /// The latest answer without a list, whole. Its memory is used again.
    static ANSWER: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Answers `make-room-for-one` of the interface `newcomer`: how many slots are named, and the first
/// of them.
///
/// # Panics
/// `configure` has not been called: the host's fault, and a trap tells it so.
#[doc(hidden)]
pub fn make_room_for_one<T: Eviction>(
    cell: &'static Cell<T>,
    unix_ms: u64,
    (count, words): (u32, &[u64; FEW_WORDS]),
    need_bytes: u64,
) -> (u32, [u32; FEW_SLOTS]) {
    let count = usize::try_from(count).unwrap_or(FEW_WORDS);
    let words = words.get(..count).unwrap_or(words);
    let mut victims = Victims::reusing(ANSWER.take(), need_bytes);
    cell.with_borrow_mut(|policy| {
        let policy = policy
            .as_mut()
            .expect("configure comes before make-room-for-one");
        apply(policy, unix_ms, words);
        policy.victims(&mut victims);
    });
    let slots = victims.into_slots();
    let mut few = [0; FEW_SLOTS];
    for (few, slot) in few.iter_mut().zip(&slots) {
        *few = *slot;
    }
    let count = u32::try_from(slots.len()).unwrap_or(u32::MAX);
    ANSWER.set(slots);
    (count, few)
}

/// Answers `rest` of the interface `newcomer`.
#[doc(hidden)]
pub fn rest() -> Vec<u32> {
    let mut slots = ANSWER.take();
    slots.drain(..slots.len().min(FEW_SLOTS));
    slots
}

fn named<T: Eviction>(policy: &mut T, need_bytes: u64) -> Vec<u32> {
    thread_local! {
        /// Victims of the latest call. It mostly takes as many again, and an answer that has just
        /// the memory it needs is handed over as it is.
        static LATEST: std::cell::Cell<usize> = const { std::cell::Cell::new(64) };
    }
    let mut victims = Victims::expecting(need_bytes, LATEST.get());
    policy.victims(&mut victims);
    let slots = victims.into_slots();
    LATEST.set(slots.len());
    slots
}

/// Exports a type that implements [`Eviction`](crate::Eviction) as this component's eviction
/// policy.
///
/// Outside Wasm it only checks the type, so that the policy is an ordinary library natively.
#[macro_export]
macro_rules! eviction {
    ($policy:ty) => {
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(
            &$crate::Params,
            $crate::eviction::Limits,
        ) -> ::std::result::Result<$policy, ::std::string::String> =
            <$policy as $crate::Eviction>::configure;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::eviction as generated;

            thread_local! {
                static POLICY: ::std::cell::RefCell<::std::option::Option<$policy>> =
                    const { ::std::cell::RefCell::new(::std::option::Option::None) };
            }

            struct Component;

            impl generated::exports::larder::policy::eviction::Guest for Component {
                fn configure(
                    params: ::std::string::String,
                    capacity: u64,
                    max_entries: u32,
                ) -> ::std::result::Result<(), ::std::string::String> {
                    let limits = $crate::eviction::Limits {
                        capacity_bytes: capacity,
                        max_entries,
                    };
                    $crate::eviction::configure(&POLICY, &params, limits)
                }

                fn observe(now: u64, events: ::std::vec::Vec<u64>) {
                    $crate::eviction::observe(&POLICY, now, &events);
                }

                fn victims(need: u64) -> ::std::vec::Vec<u32> {
                    $crate::eviction::victims(&POLICY, need)
                }
            }

            impl generated::exports::larder::policy::room::Guest for Component {
                fn make_room(
                    now: u64,
                    events: ::std::vec::Vec<u64>,
                    need: u64,
                ) -> ::std::vec::Vec<u32> {
                    $crate::eviction::make_room(&POLICY, now, &events, need)
                }
            }

            impl generated::exports::larder::policy::newcomer::Guest for Component {
                fn make_room_for_one(
                    now: u64,
                    events: generated::exports::larder::policy::newcomer::FewWords,
                    need: u64,
                ) -> generated::exports::larder::policy::newcomer::FewSlots {
                    let e = events;
                    let words = [
                        e.w1, e.w2, e.w3, e.w4, e.w5, e.w6, e.w7, e.w8, e.w9, e.w10, e.w11, e.w12,
                    ];
                    let told = (e.count, &words);
                    let (count, [s1, s2, s3, s4]) =
                        $crate::eviction::make_room_for_one(&POLICY, now, told, need);
                    generated::exports::larder::policy::newcomer::FewSlots {
                        count,
                        s1,
                        s2,
                        s3,
                        s4,
                    }
                }

                fn rest() -> ::std::vec::Vec<u32> {
                    $crate::eviction::rest()
                }
            }

    generated::export_eviction!(Component with_types_in $crate::bindings::eviction);
        };
    };
}

#[cfg(test)]
mod tests;

//! Any sequence of calls, made of random numbers: to compare an eviction policy with a plain model.
//!
//! The model is an [`Eviction`] too, written for plainness and not for speed. A property test draws
//! numbers, and the two must name the same victims:
//!
//! ```text
//! proptest! {
//!     #[test]
//!     fn names_the_same_victims_as_the_model(draws in vec(any::<u64>(), 0..3_000)) {
//!         let operations: Vec<_> = draws.into_iter().map(Operation::drawn).collect();
//!         let named = victims_of::<Policy>("{}", LIMITS, &operations);
//!         prop_assert_eq!(named, victims_of::<Model>("{}", LIMITS, &operations));
//!     }
//! }
//! ```

use crate::Eviction;
use crate::eviction::{self, Insert, Limits, Victims};

/// Slots that operations are about. A shard of fewer has unknown ones among them.
const SLOTS: u64 = 96;
/// Keys: few enough that ghosts return.
const KEYS: u64 = 300;

/// A call of an eviction policy.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// See [`Eviction::hit`].
    Hit(u32),
    /// See [`Eviction::insert`].
    Insert(Insert),
    /// See [`Eviction::remove`].
    Remove(u32),
    /// See [`Eviction::victims`], with the bytes that are needed.
    Victims(u64),
}

impl Operation {
    /// One that `draw`, a random number, stands for. Slots are below 96 and sizes from 0 to 700
    /// bytes, most of them below 20.
    pub fn drawn(draw: u64) -> Self {
        let mut rest = draw;
        let mut part = |below: u64| {
            let part = rest % below;
            rest /= below;
            part
        };
        let kind = part(32);
        let slot = u32::try_from(part(SLOTS)).unwrap_or_default();
        match kind {
            0..14 => Self::Hit(slot),
            14..25 => {
                let key = part(KEYS);
                let size_bytes = match part(12) {
                    0 => 100 + part(600),
                    1 => 0,
                    _ => 1 + part(19),
                };
                Self::Insert(Insert {
                    slot,
                    hash: (key + 1)
                        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                        .rotate_left(29),
                    size_bytes,
                    lifetime: None,
                })
            }
            25..27 => Self::Remove(slot),
            _ => Self::Victims(part(160)),
        }
    }
}

impl Operation {
    /// One at the limits of what a host may say, that `draw`, a random number, stands for: unknown
    /// slots, sizes and needs of nothing and of 2^64 - 1 bytes, hashes that collide.
    pub fn extreme(draw: u64) -> Self {
        let mut rest = draw;
        let mut one_of = |values: &[u64]| {
            let count = u64::try_from(values.len()).unwrap_or(1);
            let value =
                usize::try_from(rest % count).map_or(0, |at| values.get(at).copied().unwrap_or(0));
            rest /= count;
            value
        };
        let kind = one_of(&[0, 0, 1, 1, 1, 2, 3]);
        let slot = one_of(&[
            0,
            1,
            2,
            3,
            4,
            5,
            6,
            7,
            511,
            512,
            79,
            80,
            5_000,
            0xffff_fffe,
            0xffff_ffff,
        ]);
        let slot = u32::try_from(slot).unwrap_or_default();
        match kind {
            0 => Self::Hit(slot),
            1 => Self::Insert(Insert {
                slot,
                hash: one_of(&[0, 1, 1 << 20, 2 << 20, 3 << 20, u64::MAX]),
                size_bytes: one_of(&[0, 1, 1_000, u64::MAX / 2, u64::MAX - 1, u64::MAX]),
                lifetime: None,
            }),
            2 => Self::Remove(slot),
            _ => Self::Victims(one_of(&[0, 1, 1 << 32, u64::MAX])),
        }
    }
}

/// What a policy, configured with `params`, names at each [`Operation::Victims`], and at last when
/// it is asked for everything.
///
/// # Panics
/// The policy refuses `params`.
pub fn victims_of<T: Eviction>(
    params: &str,
    limits: Limits,
    operations: &[Operation],
) -> Vec<Vec<u32>> {
    let mut policy: T = eviction::configured(params, limits).expect("accepted parameters");
    let everything = [Operation::Victims(u64::MAX)];
    let mut named = Vec::new();
    for operation in operations.iter().chain(&everything) {
        match *operation {
            Operation::Hit(slot) => policy.hit(slot),
            Operation::Insert(insert) => policy.insert(insert),
            Operation::Remove(slot) => policy.remove(slot),
            Operation::Victims(need_bytes) => {
                let mut victims = Victims::new(need_bytes);
                policy.victims(&mut victims);
                named.push(victims.into_slots());
            }
        }
    }
    named
}

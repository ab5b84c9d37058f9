//! What a disk tier keeps of a segment that it reclaims, by the policy at an eviction hook.
//!
//! The interface is optional and stateless. Where a policy does not offer it, and on a fault, the
//! tier's own rule answers. Faults count as those of the eviction hook.

use std::sync::{Arc, Mutex, PoisonError};

use super::activation::{Activation, HookSlot};
use super::bindings::reinsertion::Guest;
use super::sandbox::{Fault, Limits, Sandbox};
use crate::clock;
use crate::tier::eviction::{HitSinceWritten, Reinsertion, Stored, pack};

/// Entries asked about in one call.
const LOT: usize = 1024;
/// Bytes of memory that an instance may use.
const MEMORY: u64 = 4 << 20;

/// Asks whatever is active at the eviction hook of a domain.
#[derive(Debug)]
pub struct GuestReinsertion {
    slot: Arc<HookSlot>,
    /// Made when it is first needed, and again after a fault or a swap.
    warm: Mutex<Option<Warm>>,
}

struct Warm {
    serial: u64,
    sandbox: Sandbox,
    guest: Guest,
}

impl std::fmt::Debug for Warm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Warm")
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

impl GuestReinsertion {
    /// Asks `slot`.
    pub fn new(slot: Arc<HookSlot>) -> Self {
        Self {
            slot,
            warm: Mutex::new(None),
        }
    }

    fn ask(
        activation: &Activation,
        warm: &mut Option<Warm>,
        entries: &[Stored],
    ) -> Result<Vec<bool>, Fault> {
        let mut instance = match warm.take() {
            Some(instance) if instance.serial == activation.serial => instance,
            _ => {
                let (sandbox, guest) = configured(activation)?;
                Warm {
                    serial: activation.serial,
                    sandbox,
                    guest,
                }
            }
        };
        let words: Vec<u64> = entries.iter().flat_map(pack::stored).collect();
        activation.stats.calls.increment();
        activation.decided();
        let start = clock::instant();
        let Warm { sandbox, guest, .. } = &mut instance;
        let answer = sandbox.call(|store| guest.call_reinsert(store, &words));
        activation.stats.seconds.observe(start.elapsed());
        let keep = unpacked(&answer?, entries.len())?;
        activation.succeeded();
        // Only an instance that answered well is used again.
        *warm = Some(instance);
        Ok(keep)
    }
}

impl Reinsertion for GuestReinsertion {
    fn keep(&self, entries: &[Stored]) -> Vec<bool> {
        let mut warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keep = Vec::with_capacity(entries.len());
        for lot in entries.chunks(LOT) {
            let activation = self.slot.current();
            let offers = activation
                .policy
                .as_ref()
                .is_some_and(|policy| policy.reinserts());
            if !offers {
                *warm = None;
                keep.extend(HitSinceWritten.keep(lot));
                continue;
            }
            match Self::ask(&activation, &mut warm, lot) {
                Ok(answers) => keep.extend(answers),
                Err(fault) => {
                    if let Some(trip) = activation.failed_to_decide(&fault) {
                        self.slot.trip(&activation, trip);
                    }
                    keep.extend(HitSinceWritten.keep(lot));
                }
            }
        }
        keep
    }
}

/// Makes an instance and configures it.
pub(super) fn configured(activation: &Activation) -> Result<(Sandbox, Guest), Fault> {
    let policy = activation
        .policy
        .as_ref()
        .ok_or_else(|| Fault::answer("no policy"))?;
    let (mut sandbox, guest) = policy.reinsertion(Limits {
        memory: MEMORY,
        ..activation.limits
    })?;
    sandbox
        .call(|store| guest.call_configure(store, &activation.params))?
        .map_err(|message| super::refused(&message))?;
    Ok((sandbox, guest))
}

/// One answer for each of `count` bits.
fn unpacked(words: &[u64], count: usize) -> Result<Vec<bool>, Fault> {
    if words.len() != count.div_ceil(64) {
        return Err(Fault::answer(format!(
            "{} words for {count} entries",
            words.len()
        )));
    }
    let bits = |word: &u64| {
        let word = *word;
        (0..64).map(move |bit| word >> bit & 1 == 1)
    };
    Ok(words.iter().flat_map(bits).take(count).collect())
}

#[cfg(test)]
mod tests;

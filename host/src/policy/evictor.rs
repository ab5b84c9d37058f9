//! The eviction hook as the order of a memory shard.
//!
//! Orders live on eviction threads. Which policy they run is read from the hook's slot each time
//! an order is made, so a swap and a trip take effect at the next one.

use std::sync::Arc;

use super::activation::{Activation, HookSlot};
use super::bindings::newcomer::{self, FewSlots, FewWords};
use super::component::Evictor;
use super::sandbox::{Fault, Limits, Sandbox};
use crate::clock;
use crate::tier::eviction::{EvictionOrder, OrderFault, OrderSource, ShardLimits};

/// Bytes of memory an instance may use, whatever the size of its shard.
const MEMORY_MIN: u64 = 4 << 20;
/// Bytes of memory an instance may use for each entry of its shard.
const MEMORY_PER_ENTRY: u64 = 128;

/// Words that are handed over without a list, at most.
const FEW_WORDS: usize = 12;
/// Slots that an answer without a list has itself.
const FEW_SLOTS: usize = 4;

/// A call that hands over fewer words than these costs little more than reading the clock twice.
const SMALL_WORDS: usize = 64;
/// Of such calls one in so many is timed, and counted so many times. Odd, as calls of two kinds
/// often take turns.
const TIMED_SMALL: u64 = 15;

/// Makes orders that run whatever is active at the eviction hook of a domain.
#[derive(Debug)]
pub struct GuestSource {
    slot: Arc<HookSlot>,
}

impl GuestSource {
    /// Orders for `slot`.
    pub fn new(slot: Arc<HookSlot>) -> Self {
        Self { slot }
    }
}

impl OrderSource for GuestSource {
    fn order(&self, shard: ShardLimits) -> Result<Box<dyn EvictionOrder>, OrderFault> {
        let activation = self.slot.current();
        if activation.policy.is_none() {
            return Err(OrderFault(format!(
                "{} needs no instance",
                activation.label
            )));
        }
        match GuestOrder::make(&self.slot, activation, shard) {
            Ok(order) => Ok(Box::new(order)),
            Err((activation, fault)) => Err(failed(&self.slot, &activation, &fault)),
        }
    }

    fn name(&self) -> String {
        self.slot.current().label.to_string()
    }
}

/// One configured eviction instance.
struct GuestOrder {
    slot: Arc<HookSlot>,
    activation: Arc<Activation>,
    sandbox: Sandbox,
    guest: Evictor,
    /// The last victims were named, and nothing was found wrong with them so far.
    named_well: bool,
    /// Calls so far.
    calls: u64,
    /// For how many calls one that is timed stands.
    timed_for: u64,
}

impl GuestOrder {
    fn make(
        slot: &Arc<HookSlot>,
        activation: Arc<Activation>,
        shard: ShardLimits,
    ) -> Result<Self, (Arc<Activation>, Fault)> {
        match configured(&activation, shard) {
            Ok((sandbox, guest)) => Ok(Self {
                slot: Arc::clone(slot),
                activation,
                sandbox,
                guest,
                named_well: false,
                calls: 0,
                timed_for: 1,
            }),
            Err(fault) => Err((activation, fault)),
        }
    }

    /// Notes that a call is going to hand over `events`.
    fn hands_over(&mut self, events: &[u64]) {
        self.timed_for = if events.len() < SMALL_WORDS {
            TIMED_SMALL
        } else {
            1
        };
    }

    /// Notes that victims are going to be named.
    fn decides(&mut self) {
        if std::mem::replace(&mut self.named_well, true) {
            self.activation.succeeded();
        }
        self.activation.decided();
    }

    fn call<R>(
        &mut self,
        call: impl FnOnce(&mut Sandbox, &Evictor) -> Result<R, Fault>,
    ) -> Result<R, OrderFault> {
        self.activation.stats.calls.increment();
        self.calls = self.calls.wrapping_add(1);
        let times = self.timed_for;
        let start = self.calls.is_multiple_of(times).then(clock::instant);
        let outcome = call(&mut self.sandbox, &self.guest);
        if let Some(start) = start {
            let seconds = &self.activation.stats.seconds;
            seconds.observe_for(start.elapsed(), times);
        }
        outcome.map_err(|fault| failed(&self.slot, &self.activation, &fault))
    }
}

/// Makes an instance for a shard and configures it.
pub(super) fn configured(
    activation: &Activation,
    shard: ShardLimits,
) -> Result<(Sandbox, Evictor), Fault> {
    let policy = activation
        .policy
        .as_ref()
        .ok_or_else(|| Fault::answer("no policy"))?;
    let memory = MEMORY_MIN.max(u64::from(shard.max_entries) * MEMORY_PER_ENTRY);
    let (mut sandbox, guest) = policy.eviction(Limits {
        memory,
        ..activation.limits
    })?;
    sandbox
        .call(|store| {
            let (capacity, max_entries) = (shard.capacity, shard.max_entries);
            let eviction = &guest.eviction;
            eviction.call_configure(store, &activation.params, capacity, max_entries)
        })?
        .map_err(|message| super::refused(&message))?;
    Ok((sandbox, guest))
}

fn failed(slot: &HookSlot, activation: &Activation, fault: &Fault) -> OrderFault {
    if let Some(trip) = activation.failed_to_decide(fault) {
        slot.trip(activation, trip);
    }
    OrderFault(fault.to_string())
}

/// These words without a list, if they are few.
fn few_words(words: &[u64]) -> Option<FewWords> {
    let mut few = [0; FEW_WORDS];
    few.get_mut(..words.len())?.copy_from_slice(words);
    let [w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12] = few;
    Some(FewWords {
        count: u32::try_from(words.len()).ok()?,
        w1,
        w2,
        w3,
        w4,
        w5,
        w6,
        w7,
        w8,
        w9,
        w10,
        w11,
        w12,
    })
}

/// Tells and asks without lists: when it is, what happened, and bytes.
fn make_room_for_one(
    sandbox: &mut Sandbox,
    newcomer: &newcomer::Guest,
    (now_ms, events, need): (u64, FewWords, u64),
) -> Result<Vec<u32>, Fault> {
    let named =
        sandbox.call(|store| newcomer.call_make_room_for_one(&mut *store, now_ms, events, need))?;
    let (mut slots, more) = first_slots(named);
    if more > 0 {
        let rest = sandbox.call(|store| newcomer.call_rest(store))?;
        if u32::try_from(rest.len()) != Ok(more) {
            return Err(Fault::answer("a rest of other length than was counted"));
        }
        slots.extend(rest);
    }
    Ok(slots)
}

/// The slots that an answer without a list has itself, and how many more there are.
fn first_slots(named: FewSlots) -> (Vec<u32>, u32) {
    let FewSlots {
        count,
        s1,
        s2,
        s3,
        s4,
    } = named;
    let few: [u32; FEW_SLOTS] = [s1, s2, s3, s4];
    let here = usize::try_from(count).unwrap_or(FEW_SLOTS).min(FEW_SLOTS);
    let more = count.saturating_sub(u32::try_from(here).unwrap_or(count));
    (few.into_iter().take(here).collect(), more)
}

impl EvictionOrder for GuestOrder {
    fn observe(&mut self, now_ms: u64, events: &[u64]) -> Result<(), OrderFault> {
        self.hands_over(events);
        self.call(|sandbox, guest| {
            sandbox.call(|store| guest.eviction.call_observe(store, now_ms, events))
        })
    }

    fn victims(&mut self, need: u64) -> Result<Vec<u32>, OrderFault> {
        self.decides();
        self.call(|sandbox, guest| sandbox.call(|store| guest.eviction.call_victims(store, need)))
    }

    fn make_room(
        &mut self,
        now_ms: u64,
        events: &[u64],
        need: u64,
    ) -> Result<Vec<u32>, OrderFault> {
        if events.is_empty() {
            return self.victims(need);
        }
        self.hands_over(events);
        self.decides();
        self.call(|sandbox, guest| {
            if let Some((newcomer, few)) = guest.newcomer.as_ref().zip(few_words(events)) {
                return make_room_for_one(sandbox, newcomer, (now_ms, few, need));
            }
            match &guest.room {
                Some(room) => {
                    sandbox.call(|store| room.call_make_room(store, now_ms, events, need))
                }
                None => {
                    sandbox.call(|store| guest.eviction.call_observe(store, now_ms, events))?;
                    sandbox.call(|store| guest.eviction.call_victims(store, need))
                }
            }
        })
    }

    fn wrong_answer(&mut self) {
        // Counted, and enough of them trip the breaker; the tier has completed natively already.
        self.named_well = false;
        let fault = Fault::answer("victims that are free, unknown or repeated");
        if let Some(trip) = self.activation.failed_to_decide(&fault) {
            self.slot.trip(&self.activation, trip);
        }
    }

    fn memory(&self) -> u64 {
        self.sandbox.memory()
    }
}

#[cfg(test)]
mod tests;

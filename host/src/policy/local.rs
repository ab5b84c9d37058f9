//! The warm instances of one worker thread, for the hooks that are called on requests.
//!
//! Nothing here is shared between threads and nothing waits: a swap is noticed by comparing two
//! numbers, and a fault costs the request a native answer.

use std::sync::Arc;

use super::activation::{Activation, HookSlot};
use super::sandbox::Fault;

/// A configured instance of one hook.
pub trait Instance: Sized {
    /// Makes and configures one.
    ///
    /// # Errors
    /// The policy cannot be instantiated or refuses its parameters.
    fn make(activation: &Activation) -> Result<Self, Fault>;
}

/// The instance of one hook of one site on this worker.
#[derive(Debug)]
pub struct Warm<I> {
    activation: Arc<Activation>,
    instance: Option<I>,
}

impl<I: Instance> Warm<I> {
    /// Nothing is instantiated before the first call.
    pub fn new(slot: &HookSlot) -> Self {
        Self { activation: slot.current(), instance: None }
    }

    /// Follows `slot` if its activation changed.
    #[inline]
    pub fn follow(&mut self, slot: &HookSlot) -> &Arc<Activation> {
        if self.activation.serial != slot.serial() {
            self.activation = slot.current();
            self.instance = None;
        }
        &self.activation
    }

    /// Calls the hook of `wanted`, which is the current activation or one that a request in flight
    /// began with. `None` stands for the native rule: the hook is native, or the call failed.
    #[inline]
    pub fn call<R>(
        &mut self,
        slot: &HookSlot,
        wanted: &Arc<Activation>,
        call: impl FnOnce(&mut I) -> Result<R, Fault>,
    ) -> Option<R> {
        wanted.stats.calls.increment();
        wanted.policy.as_ref()?;
        let outcome = if wanted.serial == self.activation.serial {
            Self::call_instance(&mut self.instance, wanted, call)
        } else {
            Self::call_instance(&mut None, wanted, call)
        };
        match outcome {
            Ok(answer) => {
                wanted.succeeded();
                Some(answer)
            }
            Err(fault) => {
                if let Some(trip) = wanted.failed(&fault) {
                    slot.trip(wanted, trip);
                }
                None
            }
        }
    }

    #[inline]
    fn call_instance<R>(
        place: &mut Option<I>,
        wanted: &Activation,
        call: impl FnOnce(&mut I) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        // Taken out, and put back only after success: an instance never survives a fault.
        let mut instance = match place.take() {
            Some(instance) => instance,
            None => I::make(wanted)?,
        };
        let answer = call(&mut instance)?;
        *place = Some(instance);
        Ok(answer)
    }
}

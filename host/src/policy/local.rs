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
        Self {
            activation: slot.current(),
            instance: None,
        }
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

    /// The instance, if one is warm.
    pub fn instance(&self) -> Option<&I> {
        self.instance.as_ref()
    }

    /// Calls the hook as it is now. `None` stands for the native rule: the hook is native, or the
    /// call failed.
    #[inline]
    pub fn call<R>(
        &mut self,
        slot: &HookSlot,
        call: impl FnOnce(&mut I, &Activation) -> Result<R, Fault>,
    ) -> Option<R> {
        self.follow(slot);
        Self::call_on(&mut self.instance, slot, &self.activation, call)
    }

    /// Calls the hook as it was when a request in flight began.
    pub fn call_as_of<R>(
        &mut self,
        slot: &HookSlot,
        wanted: &Activation,
        call: impl FnOnce(&mut I, &Activation) -> Result<R, Fault>,
    ) -> Option<R> {
        if wanted.serial == self.activation.serial {
            Self::call_on(&mut self.instance, slot, wanted, call)
        } else {
            Self::call_on(&mut None, slot, wanted, call)
        }
    }

    #[inline]
    fn call_on<R>(
        place: &mut Option<I>,
        slot: &HookSlot,
        activation: &Activation,
        call: impl FnOnce(&mut I, &Activation) -> Result<R, Fault>,
    ) -> Option<R> {
        activation.stats.calls.increment();
        activation.policy.as_ref()?;
        match Self::call_instance(place, activation, call) {
            Ok(answer) => {
                activation.succeeded();
                Some(answer)
            }
            Err(fault) => {
                if let Some(trip) = activation.failed(&fault) {
                    slot.trip(activation, trip);
                }
                None
            }
        }
    }

    #[inline]
    fn call_instance<R>(
        place: &mut Option<I>,
        activation: &Activation,
        call: impl FnOnce(&mut I, &Activation) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        // Taken out, and put back only after success: an instance never survives a fault.
        let mut instance = match place.take() {
            Some(instance) => instance,
            None => I::make(activation)?,
        };
        let answer = call(&mut instance, activation)?;
        *place = Some(instance);
        Ok(answer)
    }
}

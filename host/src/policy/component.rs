//! A compiled policy and the hooks it offers, ready to be instantiated.

use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Store};

use super::bindings::{eviction, freshness, keying, newcomer, reinsertion, room};
use super::hook::{Hook, NEWCOMER, REINSERTION, ROOM};
use super::sandbox::{Fault, Limits, Sandbox, State};

/// A compiled component with its hooks looked up. Function types are checked when a hook is first
/// loaded into a store, which [`Policy::verify`] does for all of them.
pub struct Policy {
    pre: InstancePre<State>,
    keying: Option<keying::GuestIndices>,
    freshness: Option<freshness::GuestIndices>,
    eviction: Option<eviction::GuestIndices>,
    reinsertion: Option<reinsertion::GuestIndices>,
    room: Option<room::GuestIndices>,
    newcomer: Option<newcomer::GuestIndices>,
}

/// The functions of an eviction instance.
pub struct Evictor {
    /// Those that every eviction policy has.
    pub eviction: eviction::Guest,
    /// Those that tell and ask at once, if it has them.
    pub room: Option<room::Guest>,
    /// Those that do so without lists, if it has them.
    pub newcomer: Option<newcomer::Guest>,
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy")
            .field("hooks", &self.hooks())
            .finish_non_exhaustive()
    }
}

impl Policy {
    /// Prepares `component`. It may import nothing.
    ///
    /// # Errors
    /// The component imports something, or offers a hook without all of its functions.
    pub fn new(engine: &Engine, component: &Component) -> wasmtime::Result<Self> {
        let pre = Linker::new(engine).instantiate_pre(component)?;
        let offers = |hook: Hook| component.get_export_index(None, hook.interface()).is_some();
        Ok(Self {
            keying: offers(Hook::Keying)
                .then(|| keying::GuestIndices::new(&pre))
                .transpose()?,
            freshness: offers(Hook::Freshness)
                .then(|| freshness::GuestIndices::new(&pre))
                .transpose()?,
            eviction: offers(Hook::Eviction)
                .then(|| eviction::GuestIndices::new(&pre))
                .transpose()?,
            reinsertion: component
                .get_export_index(None, REINSERTION)
                .map(|_| reinsertion::GuestIndices::new(&pre))
                .transpose()?,
            room: component
                .get_export_index(None, ROOM)
                .map(|_| room::GuestIndices::new(&pre))
                .transpose()?,
            newcomer: component
                .get_export_index(None, NEWCOMER)
                .map(|_| newcomer::GuestIndices::new(&pre))
                .transpose()?,
            pre,
        })
    }

    /// The hooks this policy offers.
    pub fn hooks(&self) -> Vec<Hook> {
        let offered = [
            (Hook::Keying, self.keying.is_some()),
            (Hook::Freshness, self.freshness.is_some()),
            (Hook::Eviction, self.eviction.is_some()),
        ];
        offered
            .into_iter()
            .filter_map(|(hook, offered)| offered.then_some(hook))
            .collect()
    }

    /// Instantiates once and loads every hook, which checks the types of their functions.
    ///
    /// # Errors
    /// The component cannot be instantiated, or a function has another type than the interface.
    pub fn verify(&self, limits: Limits) -> Result<(), Fault> {
        for hook in self.hooks() {
            match hook {
                Hook::Keying => drop(self.keying(limits)?),
                Hook::Freshness => drop(self.freshness(limits)?),
                Hook::Eviction => drop(self.eviction(limits)?),
            }
        }
        if self.reinserts() {
            drop(self.reinsertion(limits)?);
        }
        Ok(())
    }

    /// A new, unconfigured keying instance.
    ///
    /// # Errors
    /// See [`Policy::verify`].
    pub fn keying(&self, limits: Limits) -> Result<(Sandbox, keying::Guest), Fault> {
        self.load(limits, self.keying.as_ref(), |hook, store, at| {
            hook.load(store, at)
        })
    }

    /// A new, unconfigured freshness instance.
    ///
    /// # Errors
    /// See [`Policy::verify`].
    pub fn freshness(&self, limits: Limits) -> Result<(Sandbox, freshness::Guest), Fault> {
        self.load(limits, self.freshness.as_ref(), |hook, store, at| {
            hook.load(store, at)
        })
    }

    /// A new, unconfigured eviction instance.
    ///
    /// # Errors
    /// See [`Policy::verify`].
    pub fn eviction(&self, limits: Limits) -> Result<(Sandbox, Evictor), Fault> {
        self.load(limits, self.eviction.as_ref(), |hook, store, at| {
            let room = self.room.as_ref().map(|room| room.load(&mut *store, at));
            let newcomer = self.newcomer.as_ref();
            let newcomer = newcomer.map(|newcomer| newcomer.load(&mut *store, at));
            Ok(Evictor {
                eviction: hook.load(store, at)?,
                room: room.transpose()?,
                newcomer: newcomer.transpose()?,
            })
        })
    }

    /// Whether it decides for a disk tier too.
    pub fn reinserts(&self) -> bool {
        self.reinsertion.is_some()
    }

    /// A new, unconfigured reinsertion instance.
    ///
    /// # Errors
    /// See [`Policy::verify`].
    pub fn reinsertion(&self, limits: Limits) -> Result<(Sandbox, reinsertion::Guest), Fault> {
        self.load(limits, self.reinsertion.as_ref(), |hook, store, at| {
            hook.load(store, at)
        })
    }

    fn load<I, G>(
        &self,
        limits: Limits,
        indices: Option<&I>,
        load: impl FnOnce(&I, &mut Store<State>, &wasmtime::component::Instance) -> wasmtime::Result<G>,
    ) -> Result<(Sandbox, G), Fault> {
        let missing =
            || Fault::instance(&wasmtime::Error::msg("the policy does not offer this hook"));
        let indices = indices.ok_or_else(missing)?;
        let mut sandbox = Sandbox::new(self.pre.engine(), limits);
        let mut made = Err(wasmtime::Error::msg("not instantiated"));
        sandbox.call(|store| {
            made = self
                .pre
                .instantiate(&mut *store)
                .and_then(|instance| load(indices, store, &instance));
            Ok(())
        })?;
        let guest = made.map_err(|error| Fault::instance(&error))?;
        Ok((sandbox, guest))
    }
}

//! Storing an entry, and setting bytes aside for one that is still arriving.

use super::budget::Hold;
use super::room::Wanted;
use super::stats::EvictionReason;
use super::stripe::{Departed, Locked};
use super::{Domain, Inner};
use crate::entry::Entry;
use crate::sync::{Arc, thread};

/// What came of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Put {
    /// The entry is resident.
    Stored,
    /// It is not, and neither is an older entry of its key: it would be out of date.
    Rejected(Rejected),
    /// It is not: a purge or a newer response overtook it. What is resident was left alone.
    Superseded,
}

/// Why an entry was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// It is charged more than a quarter of the capacity.
    TooLarge,
    /// The rest of the capacity is reserved for responses that are still arriving.
    NoRoom,
    /// The domain keeps nothing.
    Disabled,
}

/// Bytes set aside in a domain for a response that is still arriving. Dropping it gives them back.
#[derive(Debug)]
#[must_use = "dropping a reservation gives its bytes back"]
pub struct Reservation {
    domain: Arc<Inner>,
    bytes: u64,
}

impl Reservation {
    /// Bytes set aside.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sets aside `more` bytes, evicting for them if need be. Answers whether it did: not if the
    /// rest of the capacity is reserved, or if so large an entry would be rejected anyway.
    pub fn grow(&mut self, more: u64) -> bool {
        let Some(bytes) = self.bytes.checked_add(more) else {
            return false;
        };
        let acquired = self.domain.acquire(bytes, more);
        if acquired {
            self.bytes = bytes;
        }
        acquired
    }

    /// Takes the bytes over into `hold`.
    fn surrender(mut self, hold: &mut Hold<'_>) {
        hold.take_reserved(std::mem::take(&mut self.bytes));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        Hold::new(&self.domain.budget).take_reserved(self.bytes);
    }
}

/// Asked under the lock of the stripe that an entry is to be put in.
type Condition<'a> = dyn Fn(&Locked<'_>) -> bool + 'a;

enum Placed {
    Stored,
    NoRoom,
    Superseded,
}

impl Domain {
    /// Sets `bytes` aside. `None` if [`Reservation::grow`] would not.
    pub fn reserve(&self, bytes: u64) -> Option<Reservation> {
        let mut reservation = Reservation {
            domain: Arc::clone(&self.inner),
            bytes: 0,
        };
        reservation.grow(bytes).then_some(reservation)
    }

    /// Stores `entry` in place of an older one of its key, with the bytes of `reservation` if
    /// there is one. `may_store` is asked under the lock of the entry's stripe, right before the
    /// entry becomes resident: a purge that first makes it answer no and then removes leaves
    /// nothing behind. It must not touch this tier.
    pub fn put(
        &self,
        entry: &Arc<Entry>,
        reservation: Option<Reservation>,
        may_store: &dyn Fn() -> bool,
    ) -> Put {
        self.put_if(entry, reservation, &|_| may_store())
    }

    /// The same, and only if nothing but `over` is resident under the key of `entry`: what was
    /// made of an older entry must not take the place of another one, nor of one that was purged.
    pub fn put_over(
        &self,
        entry: &Arc<Entry>,
        reservation: Option<Reservation>,
        over: Option<&Arc<Entry>>,
        may_store: &dyn Fn() -> bool,
    ) -> Put {
        let key = entry.key.view();
        self.put_if(entry, reservation, &|stripe| {
            let same = match (stripe.peek(key), over) {
                (Some(resident), Some(over)) => Arc::ptr_eq(resident, over),
                (None, None) => true,
                _ => false,
            };
            same && may_store()
        })
    }

    fn put_if(
        &self,
        entry: &Arc<Entry>,
        reservation: Option<Reservation>,
        may_store: &Condition<'_>,
    ) -> Put {
        let inner = &*self.inner;
        let mut departed = Departed::new(&inner.budget);
        if let Some(reservation) = reservation
            && Arc::ptr_eq(&reservation.domain, &self.inner)
        {
            reservation.surrender(&mut departed.hold);
        }
        let rejected = match inner.refusal(entry.charge()) {
            Some(rejected) => rejected,
            None => match inner.place(entry, may_store, &mut departed) {
                Placed::Stored => {
                    inner.counters.puts.increment();
                    if inner.signals.is_pressed(&inner.budget) {
                        drop(departed);
                        // The eviction thread is awake and has no CPU: it gets this one for a
                        // moment. Only a store waits for it, and only so long.
                        thread::yield_now();
                    }
                    return Put::Stored;
                }
                Placed::Superseded => {
                    inner.counters.superseded.increment();
                    return Put::Superseded;
                }
                Placed::NoRoom => Rejected::NoRoom,
            },
        };
        inner.reject(entry, rejected, may_store, &mut departed)
    }
}

impl Inner {
    fn refusal(&self, charge: u64) -> Option<Rejected> {
        if self.budget.is_disabled() {
            Some(Rejected::Disabled)
        } else if charge > self.pace.largest(&self.budget) {
            Some(Rejected::TooLarge)
        } else {
            None
        }
    }

    /// Drops the older entry of the key, which must not outlive a newer response.
    fn reject(
        &self,
        entry: &Entry,
        rejected: Rejected,
        may_store: &Condition<'_>,
        departed: &mut Departed<'_>,
    ) -> Put {
        let key = entry.key.view();
        let mut stripe = self.lock_of(key.hash);
        if !may_store(&stripe) {
            self.counters.superseded.increment();
            return Put::Superseded;
        }
        if let Some(charge) = stripe.remove(key, departed) {
            self.counters
                .evicted(EvictionReason::RejectedPut, 1, charge);
        }
        self.unlock(stripe);
        match rejected {
            Rejected::TooLarge => &self.counters.rejected_too_large,
            Rejected::NoRoom => &self.counters.rejected_no_room,
            Rejected::Disabled => &self.counters.rejected_disabled,
        }
        .increment();
        Put::Rejected(rejected)
    }

    fn place(
        &self,
        entry: &Arc<Entry>,
        may_store: &Condition<'_>,
        departed: &mut Departed<'_>,
    ) -> Placed {
        let hash = entry.key.view().hash;
        let index = self.index(hash);
        // The clock is read only for what an order is told.
        let lifetime = entry.lifetime().filter(|_| self.signals.is_guided());
        let lifetime = lifetime.map(|it| it.remaining(self.pace.now()).as_secs());
        loop {
            let mut stripe = self.lock_of(hash);
            if !may_store(&stripe) {
                return Placed::Superseded;
            }
            let wanted = match self.claim(&mut stripe, index, entry, departed) {
                Ok(old) => {
                    stripe.insert(Arc::clone(entry), old, lifetime, departed);
                    self.unlock(stripe);
                    self.signals.wake_if_above(&self.budget);
                    return Placed::Stored;
                }
                Err(wanted) => wanted,
            };
            self.unlock(stripe);
            if !self.evict_elsewhere(wanted, departed) {
                return Placed::NoRoom;
            }
        }
    }

    /// Makes `departed` hold what `entry` needs beyond what it replaces, evicting from this stripe
    /// only. Answers the slot of what it replaces; `Err` says what is missing still.
    fn claim(
        &self,
        stripe: &mut Locked<'_>,
        index: usize,
        entry: &Entry,
        departed: &mut Departed<'_>,
    ) -> Result<Option<u32>, Wanted> {
        let hash = entry.key.view().hash;
        let mut old = stripe.slot_of(hash);
        loop {
            let (bytes, entries) = stripe.frees(old);
            let bytes = entry.charge().saturating_sub(bytes);
            let entries = 1_u64.saturating_sub(entries);
            let pays = match departed.hold.top_up(bytes, entries) {
                Ok(()) if stripe.has_slot(old) => return Ok(old),
                // The budget has room and the stripe has no slot: nobody else can help.
                Ok(()) => true,
                Err(_) => self.pays_itself(index, hash),
            };
            match if pays {
                stripe.evict_oldest(departed)
            } else {
                None
            } {
                Some(charge) => {
                    self.counters.evicted(self.native_reason(), 1, charge);
                    // That may have been the one.
                    old = stripe.slot_of(hash);
                }
                None => {
                    return Err(Wanted { bytes, entries });
                }
            }
        }
    }
}

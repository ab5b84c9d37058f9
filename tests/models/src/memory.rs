//! The memory tier: its budget under puts, reservations and a new capacity, and how its eviction
//! thread is woken, asked and ended.

use std::collections::VecDeque;

use crate::check::many;
use crate::entry::{CacheKey, KeyHasher};
use crate::scene::{CHARGE, domain, join, spawn, weighing};
use crate::sync::{Arc, Condvar, Mutex, PoisonError};
use crate::tier::eviction::{EvictionOrder, OrderFault, OrderSource, ShardLimits};
use crate::tier::memory::Domain;
use crate::tier::memory::put::Put;

fn keys<const N: usize>() -> [CacheKey; N] {
    let hasher = KeyHasher::default();
    std::array::from_fn(|number| hasher.key(&number.to_le_bytes()).to_key())
}

fn within_the_budget(domain: &Domain) {
    let usage = domain.usage();
    assert!(usage.bytes <= usage.capacity, "{usage:?}");
    assert!(usage.entries <= usage.max_entries, "{usage:?}");
}

/// Nothing is used that nobody has.
fn nothing_is_lost(domain: &Domain) {
    domain.purge_all();
    let usage = domain.usage();
    assert_eq!((usage.bytes, usage.entries, usage.reserved), (0, 0, 0));
}

/// Puts, replacements, removals and reservations beside each other never use more than there is, and
/// leave nothing charged that is not there.
pub fn a_budget_is_kept_and_nothing_of_it_is_lost() {
    many(10_000, || {
        let (domain, keys) = (domain(5, (2, 1)), keys::<6>());
        let put = |names: [usize; 4]| {
            let (domain, keys) = (Arc::clone(&domain), keys.clone());
            spawn(move || {
                for name in names {
                    let put = domain.put(&weighing(&keys[name]), None, &|| true);
                    assert!(matches!(put, Put::Stored | Put::Rejected(_)), "{put:?}");
                    within_the_budget(&domain);
                }
                domain.remove(keys[names[0]].view());
            })
        };
        let (one, other) = (put([0, 1, 2, 3]), put([3, 2, 4, 5]));
        let reserving = {
            let (domain, key) = (Arc::clone(&domain), keys[1].clone());
            spawn(move || {
                let Some(mut reservation) = domain.reserve(CHARGE / 2) else {
                    return;
                };
                within_the_budget(&domain);
                if reservation.grow(CHARGE / 2) {
                    let put = domain.put(&weighing(&key), Some(reservation), &|| true);
                    assert_eq!(put, Put::Stored, "there is room that is its own");
                }
                within_the_budget(&domain);
            })
        };
        join([one, other, reserving]);
        within_the_budget(&domain);
        nothing_is_lost(&domain);
    });
}

/// A new capacity is kept to once it is set, by puts that had begun before as well, and the capacity
/// that is shown is never less than what is used, nor another one in the end.
pub fn a_new_capacity_is_kept_to() {
    for capacities in [&[4_u64][..], &[4, 8], &[4, 6]] {
        many(10_000, move || {
            let (domain, keys) = (domain(8, (1, 2)), keys::<8>());
            for key in &keys[..5] {
                assert_eq!(domain.put(&weighing(key), None, &|| true), Put::Stored);
            }
            let putting = {
                let domain = Arc::clone(&domain);
                spawn(move || {
                    for key in &keys[5..] {
                        let put = domain.put(&weighing(key), None, &|| true);
                        assert!(matches!(put, Put::Stored | Put::Rejected(_)), "{put:?}");
                        within_the_budget(&domain);
                    }
                })
            };
            let sizing = {
                let domain = Arc::clone(&domain);
                spawn(move || {
                    for entries in capacities {
                        domain.set_capacity(entries * CHARGE);
                        within_the_budget(&domain);
                    }
                })
            };
            join([putting, sizing]);
            within_the_budget(&domain);
            let last = capacities.last().map(|entries| entries * CHARGE);
            assert_eq!(Some(domain.usage().capacity), last);
            nothing_is_lost(&domain);
        });
    }
}

/// What the orders of a [`Queue`] know, and how often they were asked.
#[derive(Debug, Default)]
struct Seen {
    state: Mutex<(VecDeque<u32>, usize)>,
    asked: Condvar,
}

impl Seen {
    fn wait_until_asked(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = self.asked.wait_while(state, |(_, asked)| *asked == 0);
        drop(asked);
    }

    fn known(&self) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0.len()
    }
}

/// First in, first out, of one shard.
struct Queue(Arc<Seen>);

impl OrderSource for Queue {
    fn order(&self, _: ShardLimits) -> Result<Box<dyn EvictionOrder>, OrderFault> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0.clear();
        Ok(Box::new(Self(Arc::clone(&self.0))))
    }

    fn name(&self) -> String {
        "queue".to_owned()
    }
}

impl EvictionOrder for Queue {
    fn observe(&mut self, _: u64, events: &[u64]) -> Result<(), OrderFault> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = events.iter();
        while let Some(event) = rest.next() {
            let slot = u32::try_from(event & u64::from(u32::MAX)).expect("32 bits");
            let known = state.0.iter().position(|known| *known == slot);
            match event >> 62 {
                0 => assert!(known.is_some(), "a hit on what is not there"),
                1 => {
                    // Its other two words.
                    rest.nth(1);
                    if let Some(at) = known {
                        state.0.remove(at);
                    }
                    state.0.push_back(slot);
                }
                _ => {
                    let at = known.expect("what is removed was there");
                    state.0.remove(at);
                }
            }
        }
        Ok(())
    }

    fn victims(&mut self, need: u64) -> Result<Vec<u32>, OrderFault> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 += 1;
        self.0.asked.notify_all();
        let count = usize::try_from(need.div_ceil(CHARGE)).expect("few");
        let count = count.min(state.0.len());
        Ok(state.0.drain(..count).collect())
    }

    fn wrong_answer(&mut self) {}

    fn memory(&self) -> u64 {
        0
    }
}

/// A domain that holds `entries` of 16 and is to be ordered by a queue.
fn ordered(entries: usize) -> (Arc<Domain>, Arc<Seen>, [CacheKey; 16]) {
    let (domain, seen, keys) = (domain(16, (1, 2)), Arc::<Seen>::default(), keys::<16>());
    for key in &keys[..entries] {
        assert_eq!(domain.put(&weighing(key), None, &|| true), Put::Stored);
    }
    (domain, seen, keys)
}

fn let_order(domain: &Domain, seen: &Arc<Seen>) {
    domain.set_order(Some(Arc::new(Queue(Arc::clone(seen)))));
}

fn no_fault(domain: &Domain) {
    assert_eq!(domain.stats().order_faults, 0);
}

/// The eviction thread is woken by the put that makes use too high, whether or not it has begun to
/// work by then; nobody waits for its next round.
pub fn what_is_too_much_is_heard_of() {
    many(10_000, || {
        let (domain, seen, keys) = ordered(15);
        let putting = {
            let (domain, key) = (Arc::clone(&domain), keys[15].clone());
            spawn(move || {
                assert_eq!(domain.put(&weighing(&key), None, &|| true), Put::Stored);
            })
        };
        let_order(&domain, &seen);
        seen.wait_until_asked();
        join([putting]);
        domain.stop();
        no_fault(&domain);
        within_the_budget(&domain);
        nothing_is_lost(&domain);
    });
}

/// Who settles is answered, after the orders know of all that is there.
pub fn who_settles_is_answered_by_a_later_round() {
    many(10_000, || {
        let (domain, seen, keys) = ordered(2);
        let_order(&domain, &seen);
        let settling = |name: usize| {
            let (domain, key) = (Arc::clone(&domain), keys[name].clone());
            spawn(move || {
                assert_eq!(domain.put(&weighing(&key), None, &|| true), Put::Stored);
                assert!(domain.get(key.view()).is_some());
                domain.settle();
            })
        };
        join([settling(2), settling(3)]);
        assert_eq!(seen.known(), 4);
        domain.stop();
        no_fault(&domain);
        nothing_is_lost(&domain);
    });
}

/// An eviction thread that has just been started hears of what is wanted of it.
pub fn who_is_wanted_while_it_starts_hears_of_it() {
    many(60_000, || {
        let (domain, seen, _) = ordered(1);
        let renewing = {
            let domain = Arc::clone(&domain);
            spawn(move || domain.set_capacity(16 * CHARGE))
        };
        let_order(&domain, &seen);
        domain.settle();
        join([renewing]);
        domain.stop();
        no_fault(&domain);
    });
}

/// A domain stops at once, whatever its eviction thread does, and who settles meanwhile goes on.
pub fn a_domain_stops_whatever_goes_on() {
    many(60_000, || {
        let (domain, seen, _) = ordered(1);
        let_order(&domain, &seen);
        let settling = {
            let domain = Arc::clone(&domain);
            spawn(move || domain.settle())
        };
        domain.stop();
        join([settling]);
        no_fault(&domain);
        nothing_is_lost(&domain);
    });
}

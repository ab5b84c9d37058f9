//! Guest orders for tests: an honest one that checks what it is told, and ones that misbehave.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use crate::tier::eviction::{EvictionOrder, OrderFault, OrderSource, ShardLimits};
use crate::tier::memory::events::{Event, split_first};

/// What an order does when it is asked for victims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Names the least recently used.
    Honest,
    /// Names the most recently used: newcomers are refused.
    Refuses,
    /// Names what it knows, each slot twice.
    Repeats,
    /// Names slots that hold nothing, and some that do.
    Guesses,
    /// Names everything, again and again.
    Endless,
    /// Names everything once.
    Everything,
    /// Names nothing.
    Silent,
    /// Faults when asked.
    FaultsOnVictims,
    /// Faults when told.
    FaultsOnEvents,
    /// Panics when asked.
    Panics,
    /// There is no such order to be had.
    Unavailable,
}

pub(super) const MANNERS: [Manner; 10] = [
    Manner::Honest,
    Manner::Refuses,
    Manner::Repeats,
    Manner::Guesses,
    Manner::Endless,
    Manner::Everything,
    Manner::Silent,
    Manner::FaultsOnVictims,
    Manner::FaultsOnEvents,
    Manner::Unavailable,
];

/// What the orders of a source saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Inserts in the sequence they were told, as (the order's number, hash).
    pub(super) inserts: Mutex<Vec<(usize, u64)>>,
    /// Events, and words of the largest batch.
    pub(super) hits: AtomicUsize,
    pub(super) removes: AtomicUsize,
    pub(super) largest_batch: AtomicUsize,
    pub(super) wrong_answers: AtomicUsize,
    /// Orders made.
    pub(super) orders: AtomicUsize,
}

/// Makes orders of one manner.
#[derive(Debug)]
pub(super) struct Fakes {
    pub(super) manner: Manner,
    pub(super) seen: Arc<Seen>,
}

impl Fakes {
    pub(super) fn new(manner: Manner) -> Arc<Self> {
        Arc::new(Self {
            manner,
            seen: Arc::default(),
        })
    }

    pub(super) fn source(self: &Arc<Self>) -> Arc<dyn OrderSource> {
        let source: Arc<Self> = Arc::clone(self);
        source
    }
}

impl OrderSource for Fakes {
    fn order(&self, limits: ShardLimits) -> Result<Box<dyn EvictionOrder>, OrderFault> {
        if self.manner == Manner::Unavailable {
            return Err(OrderFault("retired".to_owned()));
        }
        let number = self.seen.orders.fetch_add(1, SeqCst);
        let seen = Arc::clone(&self.seen);
        let known = HashMap::new();
        Ok(Box::new(Fake {
            manner: self.manner,
            number,
            seen,
            limits,
            known,
            clock: 0,
        }))
    }

    fn name(&self) -> String {
        format!("{:?}", self.manner)
    }
}

struct Fake {
    manner: Manner,
    number: usize,
    seen: Arc<Seen>,
    limits: ShardLimits,
    /// Slot to (last event, size).
    known: HashMap<u32, (u64, u64)>,
    clock: u64,
}

impl Fake {
    /// Whether what it names is what it forgets.
    fn keeps_books(&self) -> bool {
        !matches!(
            self.manner,
            Manner::Guesses | Manner::Endless | Manner::Everything
        )
    }

    fn by_age(&self) -> Vec<(u32, u64)> {
        let mut known: Vec<_> = self
            .known
            .iter()
            .map(|(slot, (at, size))| (*at, *slot, *size))
            .collect();
        known.sort_unstable();
        known
            .into_iter()
            .map(|(_, slot, size)| (slot, size))
            .collect()
    }

    fn enough(&mut self, from: Vec<(u32, u64)>, need: u64) -> Vec<u32> {
        let mut sum = 0;
        let mut named = Vec::new();
        for (slot, size) in from {
            if sum >= need {
                break;
            }
            sum += size;
            self.known.remove(&slot);
            named.push(slot);
        }
        named
    }
}

impl EvictionOrder for Fake {
    fn observe(&mut self, now_ms: u64, events: &[u64]) -> Result<(), OrderFault> {
        assert!(now_ms > 1_000_000_000_000, "Unix time in milliseconds");
        assert!(!events.is_empty());
        self.seen.largest_batch.fetch_max(events.len(), SeqCst);
        if self.manner == Manner::FaultsOnEvents {
            return Err(OrderFault("told".to_owned()));
        }
        let mut rest = events;
        while let Some((event, after)) = split_first(rest) {
            rest = after;
            self.clock += 1;
            match event {
                Event::Hit(slot, _) => {
                    self.seen.hits.fetch_add(1, SeqCst);
                    match self.known.get_mut(&slot) {
                        Some(known) => known.0 = self.clock,
                        None => assert!(!self.keeps_books(), "a hit on an unknown slot"),
                    }
                }
                Event::Insert(slot, words) => {
                    assert!(slot < self.limits.max_entries);
                    self.known.insert(slot, (self.clock, words[2]));
                    self.seen
                        .inserts
                        .lock()
                        .unwrap()
                        .push((self.number, words[1]));
                }
                Event::Remove(slot, _) => {
                    self.seen.removes.fetch_add(1, SeqCst);
                    let known = self.known.remove(&slot).is_some();
                    assert!(known || !self.keeps_books(), "a remove of an unknown slot");
                }
            }
        }
        assert!(rest.is_empty(), "an event was split");
        Ok(())
    }

    fn victims(&mut self, need: u64) -> Result<Vec<u32>, OrderFault> {
        assert!(need > 0);
        let by_age = self.by_age();
        Ok(match self.manner {
            Manner::Honest | Manner::FaultsOnEvents | Manner::Unavailable => {
                self.enough(by_age, need)
            }
            Manner::Refuses => self.enough(by_age.into_iter().rev().collect(), need),
            Manner::Repeats => {
                let once = self.enough(by_age, need);
                once.iter().chain(&once).copied().collect()
            }
            Manner::Guesses => {
                let guesses: Vec<u32> = (0..20).map(|i| i * 7 % 23).collect();
                self.known.retain(|slot, _| !guesses.contains(slot));
                guesses
            }
            Manner::Endless => (0..100_000).map(|i| i % 64).collect(),
            Manner::Everything => self.enough(by_age, u64::MAX),
            Manner::Silent => Vec::new(),
            Manner::FaultsOnVictims => return Err(OrderFault("asked".to_owned())),
            Manner::Panics => panic!("a test order panics when asked"),
        })
    }

    fn wrong_answer(&mut self) {
        self.seen.wrong_answers.fetch_add(1, SeqCst);
        // What it named and the tier kept it may be told of again.
        if matches!(self.manner, Manner::Endless) {
            self.known.clear();
        }
    }

    fn memory(&self) -> u64 {
        1000
    }
}

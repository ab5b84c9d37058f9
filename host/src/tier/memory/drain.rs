//! The eviction thread: tells the guest orders what happened, and evicts what they name.
//!
//! It works in rounds. A round adopts the wanted orders, tells each shard's order of the events
//! recorded since, and, if use is above the high mark, asks for victims in lots until it is at
//! the low one. Whatever an order does, a round ends: what the order leaves undone is done in
//! native order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::Inner;
use super::budget::Short;
use super::layout::Numbering;
use super::ordered::{Answer, Ordered, Told};
use super::remains::Remains;
use super::signals::{Desired, Marks, Signals};
use super::stats::EvictionReason;
use super::stripe::walk::Listed;
use super::stripe::{CHUNK, Departed, Named};
use crate::sync::Arc;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::thread::{self, JoinHandle};
use crate::tier::eviction::{OrderFault, OrderSource};

/// Entries worth of bytes that victims are asked for at once.
pub(super) const LOT_ENTRIES: u64 = 64;
/// The longest that recorded events wait for an order.
const TICK: Duration = Duration::from_millis(100);

/// The work of the eviction thread of one domain.
pub(super) struct Worker {
    inner: Arc<Inner>,
    source: Option<Arc<dyn OrderSource>>,
    generation: u64,
    orders: Vec<Option<Ordered>>,
    /// Swapped with the log of the stripe that is drained.
    spare: Vec<u64>,
    /// Slots of one stripe that were named.
    named: Vec<u32>,
    /// Of those that orders named in lockstep.
    pub(super) remains: Remains,
}

/// Tells those who wait that the thread has ended, however it did.
struct Ending<'a>(&'a Signals);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// What left.
#[derive(Clone, Copy, Debug, Default)]
struct Freed {
    bytes: u64,
    entries: u64,
}

/// What is to be evicted.
#[derive(Clone, Copy, Debug)]
struct Owed {
    bytes: u64,
    entries: u64,
}

impl Owed {
    /// Which of the two comes first.
    fn short(self) -> Short {
        if self.bytes > 0 {
            Short::Bytes
        } else {
            Short::Entries
        }
    }
}

impl Worker {
    /// A worker that has done nothing yet.
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        let orders = (0..inner.layout.shards()).map(|_| None).collect();
        Self {
            inner,
            source: None,
            generation: 0,
            orders,
            spare: Vec::new(),
            named: Vec::new(),
            remains: Remains::default(),
        }
    }

    /// Starts the thread. `None`, and the native order, if there is none to be had.
    pub(super) fn spawn(inner: &Arc<Inner>) -> Option<JoinHandle<()>> {
        let worker = Self::new(Arc::clone(inner));
        let thread = thread::Builder::new().name("larder-evict".to_owned());
        match thread.spawn(move || worker.run()) {
            Ok(handle) => Some(handle),
            Err(error) => {
                tracing::error!(domain = inner.name, %error, "no eviction thread: native order");
                None
            }
        }
    }

    fn run(mut self) {
        let inner = Arc::clone(&self.inner);
        let signals = &inner.signals;
        let _ending = Ending(signals);
        // By the thread itself: who finds nobody to wake yet has left word before it looks.
        signals.set_thread(thread::current());
        loop {
            // In this order: who stops it and finds that it was woken already is heard.
            signals.take_wake();
            if signals.is_stopped() {
                break;
            }
            let ticket = signals.asked();
            self.guarded_round();
            signals.answer(ticket);
            if !signals.take_wake() {
                thread::park_timeout(TICK);
            }
        }
        self.become_native();
    }

    /// One round; a panic in an order ends the orders, not the thread.
    pub(super) fn guarded_round(&mut self) {
        if catch_unwind(AssertUnwindSafe(|| self.round())).is_err() {
            let domain = &self.inner.name;
            tracing::error!(domain, "an eviction order panicked: native order");
            self.inner.counters.order_faults.increment();
            self.inner.signals.give_up(self.generation);
            self.source = None;
            self.spare.clear();
            self.become_native();
        }
    }

    /// Adopts the wanted orders, tells them what happened, and evicts what is too much.
    pub(super) fn round(&mut self) {
        if self.inner.signals.generation() != self.generation {
            let Desired { source, generation } = self.inner.signals.desired();
            self.generation = generation;
            self.become_native();
            self.source = source;
        }
        let mut memory = 0_u64;
        for shard in 0..self.orders.len() {
            if self.source.is_some() {
                self.guide(shard);
            }
        }
        if self.source.is_some() {
            let owed = self.owed();
            let first = owed.and_then(|owed| self.inner.fullest_shard(owed.short()));
            for shard in 0..self.orders.len() {
                // It is told when it is asked.
                if Some(shard) != first {
                    self.drain(shard);
                }
            }
            if let Some(owed) = owed {
                self.shrink(owed);
            }
        }
        for ordered in self.orders.iter().flatten() {
            memory = memory.saturating_add(ordered.memory());
        }
        self.inner.guest_memory.store(memory, Relaxed);
    }

    /// Whether the native order is in charge, and stays so until another source is wanted.
    pub(super) fn is_native(&self) -> bool {
        self.source.is_none()
    }

    /// Drops every order.
    fn become_native(&mut self) {
        self.inner.signals.unguide();
        for shard in 0..self.orders.len() {
            self.drop_order(shard);
        }
        self.inner.guest_memory.store(0, Relaxed);
    }

    fn drop_order(&mut self, shard: usize) {
        if self.orders.get_mut(shard).and_then(Option::take).is_some() {
            for index in self.inner.layout.stripes_of(shard) {
                self.inner.lock(index).stop_recording();
            }
        }
    }

    fn fault(&mut self, shard: usize, fault: &OrderFault) {
        let domain = &self.inner.name;
        tracing::warn!(domain, shard, %fault, "an eviction order faulted");
        self.inner.counters.order_faults.increment();
        self.drop_order(shard);
    }

    /// Makes an order for a shard that has none, and tells it of the residents.
    fn guide(&mut self, shard: usize) {
        let Some(source) = &self.source else { return };
        let Some(place @ None) = self.orders.get_mut(shard) else {
            return;
        };
        match source.order(self.inner.shard_limits()) {
            Ok(order) => {
                let layout = self.inner.layout;
                let numbering = Numbering::new(layout.stripes_of_each());
                // What is inserted from here on is in the log.
                let begin = |index| {
                    let mut stripe = self.inner.lock(index);
                    stripe.start_recording();
                    Told {
                        horizon: stripe.horizon(),
                        asked: None,
                        accesses: stripe.accesses(),
                    }
                };
                let told = layout.stripes_of(shard).map(begin).collect();
                *place = Some(Ordered::new(order, numbering, told));
                self.inner.signals.guide(self.marks());
                if let Err(fault) = self.tell_residents(shard) {
                    self.fault(shard, &fault);
                }
            }
            Err(fault) => {
                let domain = &self.inner.name;
                tracing::warn!(domain, %fault, "no eviction order to be had: native order");
                self.inner.signals.give_up(self.generation);
                self.source = None;
                self.become_native();
            }
        }
    }

    fn tell_residents(&mut self, shard: usize) -> Result<(), OrderFault> {
        let Some(Some(ordered)) = self.orders.get_mut(shard) else {
            return Ok(());
        };
        let (now, now_ms) = (self.inner.pace.now(), self.inner.pace.unix_ms());
        let mut residents = Vec::new();
        let mut listed = Vec::new();
        let stripes = self.inner.layout.stripes_of(shard);
        let most = ordered.told.iter().map(|it| it.accesses).max();
        for ((number, index), told) in (0_u32..).zip(stripes).zip(&ordered.told) {
            let mut from = 0;
            loop {
                let stripe = self.inner.lock(index);
                if from >= stripe.slots_end() {
                    break;
                }
                from = stripe.list(from, told.horizon, now, &mut listed);
            }
            // As if all had been accessed as often as the one that was most often.
            let behind = most.unwrap_or_default().saturating_sub(told.accesses);
            residents.extend(listed.drain(..).map(|mut it: Listed| {
                it.last_access = it.last_access.saturating_add(behind);
                (it, number)
            }));
        }
        residents.sort_unstable();
        ordered.tell(now_ms, &residents)
    }

    /// Tells a shard's order of what was recorded.
    fn drain(&mut self, shard: usize) {
        let noted = self.note(shard);
        let Some(Some(ordered)) = self.orders.get_mut(shard) else {
            return;
        };
        let now_ms = self.inner.pace.unix_ms();
        if let Err(fault) = noted.and_then(|()| ordered.send(now_ms)) {
            self.fault(shard, &fault);
        }
    }

    /// Has a shard's order, if it has one, take note of what was recorded in its stripes. One that is
    /// behind is made anew, and told of all there is.
    fn note(&mut self, shard: usize) -> Result<(), OrderFault> {
        let now_ms = self.inner.pace.unix_ms();
        for (number, index) in (0_u32..).zip(self.inner.layout.stripes_of(shard)) {
            let Some(Some(ordered)) = self.orders.get_mut(shard) else {
                return Ok(());
            };
            let taken = self.inner.lock(index).take_events(&mut self.spare);
            let Some(horizon) = taken else {
                self.inner.counters.resyncs.increment();
                self.drop_order(shard);
                self.guide(shard);
                continue;
            };
            if let Some(told) = usize::try_from(number)
                .ok()
                .and_then(|at| ordered.told.get_mut(at))
            {
                told.horizon = horizon;
            }
            let noted = ordered.note(now_ms, number, &self.spare);
            self.spare.clear();
            noted?;
        }
        Ok(())
    }

    fn marks(&self) -> Marks {
        let (bytes, entries) = self.inner.held_by(0..self.inner.stripes.len());
        let mean = bytes / entries.max(1);
        self.inner.pace.marks(&self.inner.budget, mean)
    }

    /// What is to be evicted down to the low marks, if use is above the high ones.
    fn owed(&self) -> Option<Owed> {
        let marks = self.marks();
        self.inner.signals.guide(marks);
        let (bytes, entries) = (self.inner.budget.bytes(), self.inner.budget.entries());
        (bytes > marks.high_bytes || entries > marks.high_entries).then(|| Owed {
            bytes: bytes.saturating_sub(marks.low_bytes),
            entries: entries.saturating_sub(marks.low_entries),
        })
    }

    /// Evicts what is `owed`, and not what comes meanwhile: so the round ends.
    fn shrink(&mut self, mut owed: Owed) {
        while self.source.is_some() && (owed.bytes > 0 || owed.entries > 0) {
            let Some(shard) = self.inner.fullest_shard(owed.short()) else {
                return;
            };
            let freed = self.evict_lot(shard, owed);
            if freed.entries == 0 {
                return;
            }
            owed.bytes = owed.bytes.saturating_sub(freed.bytes);
            owed.entries = owed.entries.saturating_sub(freed.entries);
        }
    }

    /// Evicts one lot from a shard: what its order names, and the rest in native order.
    fn evict_lot(&mut self, shard: usize, owed: Owed) -> Freed {
        let (bytes, entries) = self.inner.held_by(self.inner.layout.stripes_of(shard));
        let mean = (bytes / entries.max(1)).max(1);
        let owed = match owed.short() {
            Short::Bytes => owed.bytes,
            Short::Entries => owed.entries.saturating_mul(mean),
        };
        let need = mean.saturating_mul(LOT_ENTRIES).min(owed).min(bytes);
        let (mut freed, changed) = match self.evict_named(shard, need, mean) {
            Ok(done) => done,
            Err(fault) => {
                self.fault(shard, &fault);
                (Freed::default(), 0)
            }
        };
        // An answer that was overtaken is asked for again, as long as that gets anywhere.
        if freed.bytes < need && (changed == 0 || freed.entries == 0) {
            let rest = self.evict_native(shard, need - freed.bytes);
            freed.bytes = freed.bytes.saturating_add(rest.bytes);
            freed.entries = freed.entries.saturating_add(rest.entries);
        }
        freed
    }

    /// Tells a shard's order of what was recorded, and evicts what it names. Also answers how many
    /// slots had changed hands.
    fn evict_named(
        &mut self,
        shard: usize,
        need: u64,
        mean: u64,
    ) -> Result<(Freed, u64), OrderFault> {
        self.note(shard)?;
        let Some(Some(ordered)) = self.orders.get_mut(shard) else {
            return Ok((Freed::default(), 0));
        };
        let (victims, mut answer) = ordered.make_room(self.inner.pace.unix_ms(), need)?;
        // An order may name whole groups, so somewhat more than asked for is no mistake. Nor is one
        // large entry, which any order may come to before it has named enough.
        let most = need.saturating_mul(4).max(mean.saturating_mul(LOT_ENTRIES));
        let mut largest_bytes = 0_u64;
        let (mut freed, mut changed) = (Freed::default(), 0_u64);
        let mut refused = Freed::default();
        let stripes = (0_u32..).zip(self.inner.layout.stripes_of(shard));
        for ((number, index), told) in stripes.zip(&mut ordered.told) {
            self.named.clear();
            self.named.extend(ordered.numbering.of(number, &victims));
            let told_before = self.inner.pace.told_before(told.asked, told.horizon);
            for chunk in self.named.chunks(CHUNK) {
                if freed.bytes - largest_bytes >= most {
                    answer = Answer::Wrong;
                    break;
                }
                let mut departed = Departed::new(&self.inner.budget);
                let mut stripe = self.inner.lock(index);
                stripe.touch_slots(chunk);
                for slot in chunk {
                    match stripe.evict_named(*slot, told.horizon, &mut departed) {
                        Named::Changed => changed = changed.saturating_add(1),
                        Named::Left(bytes, inserted) => {
                            largest_bytes = largest_bytes.max(bytes);
                            let new = told_before.is_some_and(|before| inserted > before);
                            for sum in [Some(&mut freed), new.then_some(&mut refused)] {
                                let Some(sum) = sum else { continue };
                                sum.bytes = sum.bytes.saturating_add(bytes);
                                sum.entries = sum.entries.saturating_add(1);
                            }
                        }
                    }
                }
                self.inner.unlock(stripe);
                if !self.inner.pace.frees_at_once() {
                    self.remains.keep(departed);
                }
            }
            told.asked = Some(told.horizon);
        }
        let overflowed = freed.bytes - largest_bytes >= most && answer == Answer::Wrong;
        if answer == Answer::Wrong {
            ordered.wrong_answer();
            self.inner.counters.wrong_answers.increment();
        }
        let counters = &self.inner.counters;
        counters.evicted(EvictionReason::Refused, refused.entries, refused.bytes);
        let (entries, bytes) = (freed.entries - refused.entries, freed.bytes - refused.bytes);
        counters.evicted(EvictionReason::Policy, entries, bytes);
        if overflowed {
            // It forgot residents that stay, so it is made anew at the next round.
            counters.resyncs.increment();
            self.drop_order(shard);
        }
        Ok((freed, changed))
    }

    /// Evicts `need` bytes from a shard in native order.
    fn evict_native(&self, shard: usize, need: u64) -> Freed {
        let mut freed = Freed::default();
        while freed.bytes < need {
            let stripes = self.inner.layout.stripes_of(shard);
            let Some(index) = self.inner.fullest(stripes) else {
                break;
            };
            let mut departed = Departed::new(&self.inner.budget);
            let mut stripe = self.inner.lock(index);
            let before = freed.entries;
            for _ in 0..CHUNK {
                if freed.bytes >= need {
                    break;
                }
                let Some(bytes) = stripe.evict_oldest(&mut departed) else {
                    break;
                };
                freed.bytes = freed.bytes.saturating_add(bytes);
                freed.entries = freed.entries.saturating_add(1);
            }
            self.inner.unlock(stripe);
            if freed.entries == before {
                break;
            }
        }
        let reason = EvictionReason::NativeFallback;
        self.inner
            .counters
            .evicted(reason, freed.entries, freed.bytes);
        freed
    }
}

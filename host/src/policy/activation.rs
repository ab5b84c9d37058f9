//! What runs at one hook of one site: the activation, its statistics, and the slot it sits in.
//!
//! A slot is swapped while traffic runs. Workers notice by the serial number; a request keeps the
//! activation it began with. A breaker that trips puts the last good activation back, or the
//! native rule.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::breaker::{Breaker, Trip};
use super::component::Policy;
use super::hook::Hook;
use super::sandbox::{Fault, FaultKind, Limits};
use crate::metrics::{Counter, Histogram};

/// Calls without a trip after which an activation is good enough to fall back to.
const GOOD_CALLS: u64 = 10_000;

/// One policy, with its parameters, at one hook of one site.
#[derive(Debug)]
pub struct Activation {
    /// Unique in this process.
    pub serial: u64,
    /// The hook it serves.
    pub hook: Hook,
    /// `name@version`, or `native:...`.
    pub label: Arc<str>,
    /// The operator's parameters, a JSON object.
    pub params: Arc<str>,
    /// Keeps the keys of this policy, version and parameters apart from all others; zero is native.
    pub namespace: u64,
    /// What an instance may use.
    pub limits: Limits,
    /// The policy; none for the native rule.
    pub policy: Option<Arc<Policy>>,
    /// What it did so far.
    pub stats: Arc<HookStats>,
    /// Calls that the breaker looks at, where those are not all calls.
    decisions: AtomicU64,
    in_a_row: AtomicU32,
    breaker: Mutex<Breaker>,
}

/// Counts of one activation.
#[derive(Debug, Default)]
pub struct HookStats {
    /// Calls, the failed ones among them.
    pub calls: Counter,
    /// Running time of calls; of keying one call in [`TIMED_CALLS`] is timed.
    pub seconds: Histogram,
    /// Faults by kind, in the order of [`FaultKind::ALL`].
    pub faults: [Counter; FaultKind::ALL.len()],
}

/// Reading the clock twice costs a sixth of a keying call, so one in this many is timed.
pub const TIMED_CALLS: u64 = 16;

impl HookStats {
    fn count_fault(&self, kind: FaultKind) {
        let position = FaultKind::ALL.iter().position(|known| *known == kind);
        if let Some(counter) = position.and_then(|position| self.faults.get(position)) {
            counter.increment();
        }
    }

    /// Adds the counts of `other`.
    pub fn absorb(&self, other: &Self) {
        self.calls.add(other.calls.get());
        self.seconds.absorb(&other.seconds);
        for (mine, theirs) in self.faults.iter().zip(&other.faults) {
            mine.add(theirs.get());
        }
    }

    /// All faults.
    pub fn fault_count(&self) -> u64 {
        self.faults.iter().map(Counter::get).sum()
    }
}

impl Activation {
    /// The native rule of `hook`.
    pub fn native(hook: Hook) -> Arc<Self> {
        Self::new(
            hook,
            hook.native().into(),
            "{}".into(),
            None,
            Limits {
                memory: 0,
                deadline: std::time::Duration::ZERO,
            },
        )
    }

    /// `policy` under `label` with `params`. Nothing runs yet.
    pub fn new(
        hook: Hook,
        label: Arc<str>,
        params: Arc<str>,
        policy: Option<Arc<Policy>>,
        limits: Limits,
    ) -> Arc<Self> {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let namespace = if policy.is_some() {
            namespace(&label, &params)
        } else {
            0
        };
        Arc::new(Self {
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            hook,
            label,
            params,
            namespace,
            limits,
            policy,
            stats: Arc::default(),
            decisions: AtomicU64::new(0),
            in_a_row: AtomicU32::new(0),
            breaker: Mutex::default(),
        })
    }

    /// Notes a call that ended well.
    #[inline]
    pub fn succeeded(&self) {
        // Read first: a store would make every worker fight for the line.
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Notes a call that failed.
    pub fn failed(&self, fault: &Fault) -> Option<Trip> {
        self.fault(fault, self.stats.calls.get())
    }

    /// Notes a decision: of a hook that mostly listens, only these count towards its share of
    /// faults, and only good ones end a row of them.
    pub fn decided(&self) {
        self.decisions.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes a call that failed, in a hook whose decisions are counted.
    pub fn failed_to_decide(&self, fault: &Fault) -> Option<Trip> {
        self.fault(fault, self.decisions.load(Ordering::Relaxed))
    }

    fn fault(&self, fault: &Fault, calls: u64) -> Option<Trip> {
        self.stats.count_fault(fault.kind);
        let in_a_row = self
            .in_a_row
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1);
        tracing::debug!(policy = %self.label, hook = self.hook.as_str(), %fault, "a policy call failed");
        self.breaker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fault(calls, in_a_row)
    }
}

/// Never zero, which is the native namespace.
fn namespace(label: &str, params: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(label.as_bytes())
        .update(&[0])
        .update(params.as_bytes());
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    u64::from_le_bytes(first) | 1
}

/// The hook of a site, and what runs there now.
#[derive(Debug)]
pub struct HookSlot {
    serial: AtomicU64,
    state: Mutex<SlotState>,
    on_change: std::sync::OnceLock<OnChange>,
    /// Held by whoever tells of a change.
    telling: Mutex<()>,
}

/// Called after the activation of a slot changed.
pub struct OnChange(pub Listener);

/// Hears of an activation that was put in.
pub type Listener = Box<dyn Fn(&Arc<Activation>) + Send + Sync>;

impl std::fmt::Debug for OnChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnChange")
    }
}

#[derive(Debug)]
struct SlotState {
    current: Arc<Activation>,
    /// The last activation that proved itself, other than the current one.
    good: Option<Arc<Activation>>,
    tripped: Option<Tripped>,
}

/// An activation that was taken out of service.
#[derive(Clone, Debug)]
pub struct Tripped {
    /// Its label.
    pub label: Arc<str>,
    /// Why.
    pub trip: Trip,
    /// Its faults at that time.
    pub faults: u64,
}

impl HookSlot {
    /// A slot in which `first` runs.
    pub fn new(first: Arc<Activation>) -> Self {
        Self {
            serial: AtomicU64::new(first.serial),
            state: Mutex::new(SlotState {
                current: first,
                good: None,
                tripped: None,
            }),
            on_change: std::sync::OnceLock::new(),
            telling: Mutex::new(()),
        }
    }

    /// Has `notify` called after every later change. At most once a slot.
    pub fn notify(&self, notify: OnChange) {
        if self.on_change.set(notify).is_err() {
            tracing::error!("a hook slot was given a second listener; the first one stays");
        }
    }

    /// The serial number of the current activation.
    #[inline]
    pub fn serial(&self) -> u64 {
        self.serial.load(Ordering::Acquire)
    }

    /// What runs now.
    pub fn current(&self) -> Arc<Activation> {
        Arc::clone(&self.lock().current)
    }

    /// The activation that was last taken out of service, if none was put in since.
    pub fn tripped(&self) -> Option<Tripped> {
        self.lock().tripped.clone()
    }

    /// Puts `next` in. What ran before becomes the one to fall back to if it proved itself.
    pub fn activate(&self, next: &Arc<Activation>) {
        {
            let mut state = self.lock();
            if state.current.stats.calls.get() >= GOOD_CALLS && state.current.policy.is_some() {
                state.good = Some(Arc::clone(&state.current));
            }
            state.tripped = None;
            self.set(&mut state, Arc::clone(next));
        }
        self.changed(next);
    }

    /// Takes `failed` out of service, if it is still the one that runs.
    pub fn trip(&self, failed: &Activation, trip: Trip) {
        let next = {
            let mut state = self.lock();
            if state.current.serial != failed.serial {
                return;
            }
            let next = state
                .good
                .take()
                .unwrap_or_else(|| Activation::native(failed.hook));
            let faults = failed.stats.fault_count();
            state.tripped = Some(Tripped {
                label: Arc::clone(&failed.label),
                trip,
                faults,
            });
            self.set(&mut state, Arc::clone(&next));
            tracing::error!(
                policy = %failed.label, hook = failed.hook.as_str(), reason = trip.as_str(), faults,
                now = %next.label, "a policy was taken out of service"
            );
            next
        };
        self.changed(&next);
    }

    fn set(&self, state: &mut SlotState, next: Arc<Activation>) {
        self.serial.store(next.serial, Ordering::Release);
        state.current = next;
    }

    fn changed(&self, next: &Arc<Activation>) {
        if let Some(OnChange(notify)) = self.on_change.get() {
            // One after the other: a trip and an operator may change it at once, and who is told last
            // must find what runs in the end.
            let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
            notify(next);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activation(label: &str) -> Arc<Activation> {
        Activation::new(
            Hook::Keying,
            label.into(),
            "{}".into(),
            None,
            Limits {
                memory: 0,
                deadline: std::time::Duration::ZERO,
            },
        )
    }

    fn fault() -> Fault {
        Fault::answer("wrong")
    }

    #[test]
    fn a_trip_falls_back_to_native_when_nothing_proved_itself() {
        let first = activation("a@1");
        let slot = HookSlot::new(Arc::clone(&first));
        slot.trip(&first, Trip::InARow);
        assert_eq!(&*slot.current().label, "native:default");
        assert_eq!(&*slot.tripped().expect("noted").label, "a@1");
        assert_eq!(slot.serial(), slot.current().serial);
    }

    #[test]
    fn a_late_trip_of_a_replaced_activation_changes_nothing() {
        let (first, second) = (activation("a@1"), activation("a@2"));
        let slot = HookSlot::new(Arc::clone(&first));
        slot.activate(&second);
        slot.trip(&first, Trip::InARow);
        assert_eq!(slot.serial(), second.serial);
    }

    #[test]
    fn of_two_changes_beside_each_other_the_last_one_told_finds_what_runs() {
        use std::sync::mpsc;
        let slot = Arc::new(HookSlot::new(activation("a@1")));
        let told = Arc::new(Mutex::new((0, None)));
        let (came, has_come) = mpsc::sync_channel(1);
        let (go_on, goes_on) = mpsc::sync_channel::<()>(1);
        let first = Mutex::new(Some((came, goes_on)));
        let (weak, hears) = (Arc::downgrade(&slot), Arc::clone(&told));
        slot.notify(OnChange(Box::new(move |_| {
            let runs = weak.upgrade().expect("it is there").serial();
            let gate = first.lock().unwrap().take();
            if let Some((came, goes_on)) = gate {
                came.send(()).unwrap();
                // Until the other one has been told, which must not be before.
                let patience = std::time::Duration::from_millis(200);
                goes_on.recv_timeout(patience).unwrap_or_default();
            }
            let mut told = hears.lock().unwrap();
            *told = (told.0 + 1, Some(runs));
        })));
        let late = {
            let slot = Arc::clone(&slot);
            std::thread::spawn(move || slot.activate(&activation("a@2")))
        };
        has_come.recv().unwrap();
        slot.activate(&activation("a@3"));
        drop(go_on);
        late.join().unwrap();
        assert_eq!(*told.lock().unwrap(), (2, Some(slot.serial())));
    }

    #[test]
    fn five_faults_trip_unless_a_success_comes_between() {
        let activation = activation("a@1");
        for round in 0..3 {
            for _ in 0..4 {
                activation.stats.calls.increment();
                assert_eq!(activation.failed(&fault()), None, "round {round}");
            }
            for _ in 0..2_000 {
                activation.stats.calls.increment();
                activation.succeeded();
            }
        }
        let trips: Vec<_> = (0..5).map(|_| activation.failed(&fault())).collect();
        assert_eq!(trips.last(), Some(&Some(Trip::InARow)));
    }
}

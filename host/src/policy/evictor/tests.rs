//! A shipped policy asked for room in every way that the interfaces have.

use std::sync::OnceLock;
use std::time::Duration;

use wasmtime::component::Component;

use super::*;
use crate::policy::component::Policy;
use crate::policy::engine::engine;
use crate::policy::hook::Hook;
use crate::tier::eviction::pack;

const ENTRY: u64 = 100;

/// The policy `lru`, compiled once.
fn lru() -> Arc<Policy> {
    static LRU: OnceLock<Arc<Policy>> = OnceLock::new();
    let compiled = || {
        let engine = engine().unwrap();
        let shipped = crate::embedded::POLICIES;
        let wasm = shipped.iter().find(|policy| policy.name == "lru").unwrap();
        let component = Component::new(&engine, wasm.wasm).unwrap();
        Arc::new(Policy::new(&engine, &component).unwrap())
    };
    Arc::clone(LRU.get_or_init(compiled))
}

/// The calls that an instance is asked by where there is little to hand over.
#[derive(Clone, Copy, Debug)]
enum Calls {
    WithoutLists,
    WithLists,
    Apart,
}

/// An instance of `lru` that was told of so many entries, each used once they were all there, the
/// first one first.
fn told_of(entries: u32, calls: Calls) -> GuestOrder {
    let limits = Limits {
        memory: 4 << 20,
        deadline: Duration::from_secs(5),
    };
    let hook = Hook::Eviction;
    let activation = Activation::new(hook, "lru".into(), "{}".into(), Some(lru()), limits);
    let slot = Arc::new(HookSlot::new(activation));
    let shard = ShardLimits {
        capacity: 1 << 20,
        max_entries: 1_000,
    };
    let made = GuestOrder::make(&slot, slot.current(), shard);
    let mut order = made.map_err(|(_, fault)| fault).unwrap();
    let guest = &mut order.guest;
    assert!(guest.room.is_some() && guest.newcomer.is_some());
    match calls {
        Calls::WithoutLists => guest.room = None,
        Calls::WithLists => guest.newcomer = None,
        Calls::Apart => (guest.room, guest.newcomer) = (None, None),
    }
    let mut words = Vec::new();
    (0..entries).for_each(|at| words.extend(pack::insert(at, u64::from(at), ENTRY, None)));
    words.extend((0..entries).map(pack::hit));
    order.observe(0, &words).unwrap();
    order
}

#[test]
fn room_is_made_alike_however_a_policy_is_asked() {
    const ENTRIES: u32 = 40;
    let ways = [Calls::WithoutLists, Calls::WithLists, Calls::Apart];
    // Hits on the first ones, so that others are the oldest, in as many words.
    for (words, calls) in [0, 1, 3, FEW_WORDS, FEW_WORDS + 1]
        .into_iter()
        .flat_map(|words| ways.map(|calls| (words, calls)))
    {
        for victims in [0, 1, 3, FEW_SLOTS, FEW_SLOTS + 1, 20] {
            let used = u32::try_from(words).unwrap();
            let events: Vec<u64> = (0..used).map(pack::hit).collect();
            let need = ENTRY * u64::try_from(victims).unwrap();
            let mut order = told_of(ENTRIES, calls);
            let mut all: Vec<u32> = (used..ENTRIES).chain(0..used).collect();
            let named = order.make_room(0, &events, need).unwrap();
            let rest = all.split_off(victims);
            assert_eq!(named, all, "{words} words, {victims} victims, {calls:?}");
            // Nothing of it is left for the next answers.
            let (next, later) = rest.split_at(rest.len() / 2);
            for (next, events) in [(next, vec![pack::hit(ENTRIES)]), (later, Vec::new())] {
                let need = ENTRY * u64::try_from(next.len()).unwrap();
                assert_eq!(order.make_room(0, &events, need).unwrap(), next);
            }
        }
    }
}

#[test]
fn an_answer_without_a_list_has_the_first_slots() {
    let named = |count| FewSlots {
        count,
        s1: 7,
        s2: 8,
        s3: 9,
        s4: 10,
    };
    assert_eq!(first_slots(named(0)), (vec![], 0));
    assert_eq!(first_slots(named(2)), (vec![7, 8], 0));
    assert_eq!(first_slots(named(4)), (vec![7, 8, 9, 10], 0));
    assert_eq!(first_slots(named(5)), (vec![7, 8, 9, 10], 1));
    assert_eq!(
        first_slots(named(u32::MAX)),
        (vec![7, 8, 9, 10], u32::MAX - 4)
    );
}

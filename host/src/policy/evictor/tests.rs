//! A shipped policy asked for room in every way that the interfaces have.

use std::time::Duration;

use wasmtime::component::Component;

use super::*;
use crate::policy::component::Policy;
use crate::policy::engine::engine;
use crate::policy::hook::Hook;
use crate::tier::eviction::pack;

const ENTRY: u64 = 100;

/// An instance of `lru` that was told of so many entries, each used once they were all there, the
/// first one first.
fn told_of(entries: u32) -> GuestOrder {
    let engine = engine().unwrap();
    let shipped = crate::embedded::POLICIES;
    let wasm = shipped.iter().find(|policy| policy.name == "lru").unwrap();
    let component = Component::new(&engine, wasm.wasm).unwrap();
    let policy = Arc::new(Policy::new(&engine, &component).unwrap());
    let limits = Limits {
        memory: 4 << 20,
        deadline: Duration::from_secs(5),
    };
    let hook = Hook::Eviction;
    let activation = Activation::new(hook, "lru".into(), "{}".into(), Some(policy), limits);
    let slot = Arc::new(HookSlot::new(activation));
    let shard = ShardLimits {
        capacity: 1 << 20,
        max_entries: 1_000,
    };
    let made = GuestOrder::make(&slot, slot.current(), shard);
    let mut order = made.map_err(|(_, fault)| fault).unwrap();
    let mut words = Vec::new();
    (0..entries).for_each(|at| words.extend(pack::insert(at, u64::from(at), ENTRY, None)));
    words.extend((0..entries).map(pack::hit));
    order.observe(0, &words).unwrap();
    order
}

#[test]
fn room_is_made_alike_with_and_without_lists() {
    const ENTRIES: u32 = 40;
    // Hits on the first ones, so that others are the oldest, in as many words.
    for words in [0, 1, 3, FEW_WORDS, FEW_WORDS + 1] {
        for victims in [0, 1, 3, FEW_SLOTS, FEW_SLOTS + 1, 20] {
            let used = u32::try_from(words).unwrap();
            let events: Vec<u64> = (0..used).map(pack::hit).collect();
            let need = ENTRY * u64::try_from(victims).unwrap();
            let mut order = told_of(ENTRIES);
            let mut all: Vec<u32> = (used..ENTRIES).chain(0..used).collect();
            let named = order.make_room(0, &events, need).unwrap();
            let rest = all.split_off(victims);
            assert_eq!(named, all, "{words} words, {victims} victims");
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
    assert_eq!(first_slots(named(0)), (vec![], true));
    assert_eq!(first_slots(named(2)), (vec![7, 8], true));
    assert_eq!(first_slots(named(4)), (vec![7, 8, 9, 10], true));
    assert_eq!(first_slots(named(5)), (vec![7, 8, 9, 10], false));
    assert_eq!(first_slots(named(u32::MAX)), (vec![7, 8, 9, 10], false));
}

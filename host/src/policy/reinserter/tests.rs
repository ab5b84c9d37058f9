//! Shipped policies asked about a segment, and what happens when one cannot answer.

use std::time::Duration;

use wasmtime::component::Component;

use super::*;
use crate::policy::component::Policy;
use crate::policy::engine::engine;
use crate::policy::hook::Hook;

fn slot(name: &str, params: &str) -> Arc<HookSlot> {
    let engine = engine().unwrap();
    let shipped = crate::embedded::POLICIES;
    let wasm = shipped.iter().find(|policy| policy.name == name).unwrap();
    let component = Component::new(&engine, wasm.wasm).unwrap();
    let policy = Arc::new(Policy::new(&engine, &component).unwrap());
    let limits = Limits {
        memory: 4 << 20,
        deadline: Duration::from_secs(5),
    };
    let activation = Activation::new(
        Hook::Eviction,
        name.into(),
        params.into(),
        Some(policy),
        limits,
    );
    Arc::new(HookSlot::new(activation))
}

fn stored(hash: u64, size: u64, hits: u32) -> Stored {
    Stored {
        hash,
        size,
        hits,
        age_s: 60,
        lifetime_s: Some(60),
    }
}

/// A large entry with many hits, a small one with few, one in between, and what nobody asked for.
/// The first takes the quarter that is kept almost by itself.
fn segment() -> Vec<Stored> {
    vec![
        stored(1, 2_370, 9),
        stored(2, 200, 3),
        stored(3, 1_500, 4),
        stored(4, 6_000, 0),
    ]
}

#[test]
fn a_policy_says_what_is_worth_being_kept() {
    let (by_hits, by_density) = ([true, false, false, false], [false, true, true, false]);
    for (name, params, expected) in [
        ("s3-fifo", "{\"small\": 20}", by_hits),
        ("w-tinylfu", "{}", by_hits),
        ("gdsf", "{}", by_density),
        ("adaptive", "{\"objective\": \"bytes\"}", by_hits),
        ("adaptive", "{\"objective\": \"requests\"}", by_density),
    ] {
        let slot = slot(name, params);
        let reinsertion = GuestReinsertion::new(Arc::clone(&slot));
        assert_eq!(reinsertion.keep(&segment()), expected, "{name} {params}");
        assert_eq!(reinsertion.keep(&[]), [false; 0]);
        let stats = &slot.current().stats;
        assert_eq!((stats.calls.get(), stats.fault_count()), (1, 0), "{name}");
    }
}

#[test]
fn a_long_segment_takes_several_calls_of_one_instance() {
    let slot = slot("gdsf", "{}");
    let reinsertion = GuestReinsertion::new(Arc::clone(&slot));
    let entries: Vec<_> = (0..2_500_u32)
        .map(|number| stored(number.into(), 10, number % 4))
        .collect();
    let keep = reinsertion.keep(&entries);
    assert_eq!(keep.len(), entries.len());
    let kept = keep.iter().filter(|keep| **keep).count();
    assert!((620..=625).contains(&kept), "{kept}");
    let hits = |(entry, _): (&Stored, &bool)| entry.hits;
    let lists = entries.iter().zip(&keep);
    assert!(lists.filter(|(_, keep)| **keep).all(|pair| hits(pair) == 3));
    assert_eq!(slot.current().stats.calls.get(), 3);
}

#[test]
fn where_no_policy_can_answer_what_was_hit_is_kept() {
    let hit = [true, true, true, false];
    let native = HookSlot::new(Activation::native(Hook::Eviction));
    assert_eq!(
        GuestReinsertion::new(Arc::new(native)).keep(&segment()),
        hit
    );
    // It does not offer the interface, which is no fault.
    let without = slot("lru", "{}");
    let reinsertion = GuestReinsertion::new(Arc::clone(&without));
    assert_eq!(reinsertion.keep(&segment()), hit);
    assert_eq!(without.current().stats.fault_count(), 0);
    let faulty = slot("adaptive", "{\"objective\": \"fame\"}");
    let reinsertion = GuestReinsertion::new(Arc::clone(&faulty));
    assert_eq!(reinsertion.keep(&segment()), hit);
    assert_eq!(faulty.current().stats.fault_count(), 1);
}

#[test]
fn an_answer_of_another_length_is_a_fault() {
    assert_eq!(unpacked(&[0b101], 3).unwrap(), [true, false, true]);
    assert_eq!(unpacked(&[], 0).unwrap(), [false; 0]);
    for (words, count) in [
        (&[][..], 1),
        (&[1, 2][..], 64),
        (&[1][..], 65),
        (&[1][..], 0),
    ] {
        assert!(unpacked(words, count).is_err(), "{words:?} for {count}");
    }
}

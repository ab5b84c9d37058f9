//! An eviction policy that misuses the interface `newcomer` in the way its parameters name, and
//! nothing else. First in, first out.
//!
//! Test fixture, made from the interface without the library for policies, which counts well.

mod bindings;
#[path = "../../apart/src/fifo.rs"]
mod fifo;

use std::cell::{Cell, RefCell};

use bindings::exports::larder::policy::newcomer::{FewSlots, FewWords};
use bindings::exports::larder::policy::{eviction, newcomer, room};

struct Miscounts;

#[expect(unsafe_code, reason = "the generated exports")]
mod export {
    use super::{Miscounts, bindings};
    bindings::export!(Miscounts with_types_in bindings);
}

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Behave,
    /// Counts one more than there are.
    OneMore,
    /// Counts as many as can be counted.
    Most,
    /// Names one slot four times.
    Repeat,
    TrapRest,
    LoopRest,
    /// Answers a rest longer than any shard.
    LongRest,
}

thread_local! {
    static MODE: Cell<Mode> = const { Cell::new(Mode::Behave) };
    /// What the latest answer had no place for.
    static REST: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

impl eviction::Guest for Miscounts {
    fn configure(params: String, _: u64, _: u32) -> Result<(), String> {
        let modes = [
            ("one-more", Mode::OneMore),
            ("most", Mode::Most),
            ("repeat", Mode::Repeat),
            ("trap-rest", Mode::TrapRest),
            ("loop-rest", Mode::LoopRest),
            ("long-rest", Mode::LongRest),
        ];
        let mode = modes.iter().find(|(name, _)| params.contains(name));
        MODE.set(mode.map_or(Mode::Behave, |(_, mode)| *mode));
        Ok(())
    }

    fn observe(_: u64, events: Vec<u64>) {
        fifo::observe(&events);
    }

    fn victims(need: u64) -> Vec<u32> {
        fifo::victims(need)
    }
}

impl room::Guest for Miscounts {
    fn make_room(_: u64, events: Vec<u64>, need: u64) -> Vec<u32> {
        fifo::observe(&events);
        fifo::victims(need)
    }
}

impl newcomer::Guest for Miscounts {
    fn make_room_for_one(_: u64, few: FewWords, need: u64) -> FewSlots {
        let words = [
            few.w1, few.w2, few.w3, few.w4, few.w5, few.w6, few.w7, few.w8, few.w9, few.w10,
            few.w11, few.w12,
        ];
        let (told, unused) = words.split_at(usize::try_from(few.count).expect("few"));
        assert!(unused.iter().all(|word| *word == 0), "words that are none");
        fifo::observe(told);
        let mut slots = fifo::victims(need);
        if MODE.get() == Mode::Repeat {
            let first = slots.first().copied().unwrap_or_default();
            slots = vec![first; 4];
        }
        let count = u32::try_from(slots.len()).expect("few");
        let count = match MODE.get() {
            Mode::OneMore => count + 1,
            Mode::Most => u32::MAX,
            _ => count,
        };
        // What lies beyond those that are counted is nobody's.
        let slot = |at: usize| slots.get(at).copied().unwrap_or(u32::MAX);
        let few = FewSlots {
            count,
            s1: slot(0),
            s2: slot(1),
            s3: slot(2),
            s4: slot(3),
        };
        REST.set(slots.split_off(slots.len().min(4)));
        few
    }

    fn rest() -> Vec<u32> {
        match MODE.get() {
            Mode::TrapRest => panic!("as the parameters ask"),
            Mode::LoopRest => {
                let mut turns = 0_u64;
                loop {
                    turns = std::hint::black_box(turns.wrapping_add(1));
                }
            }
            Mode::LongRest => (0..500_000).collect(),
            _ => REST.take(),
        }
    }
}

//! The eviction hook: first in first out without parameters, and wrong in many ways with them.

use std::collections::VecDeque;

use larder_guest::eviction::{Insert, Limits, Victims};
use larder_guest::{Eviction, Params};

use crate::{Fatal, misbehave, mode};

/// See the crate's documentation.
#[derive(Debug)]
pub(crate) struct Rogue {
    mode: Mode,
    /// What it was told of and was not told that it left, oldest first.
    residents: VecDeque<(u32, u64)>,
    /// Inserts it was told of since it was made.
    told: u64,
    at_least: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Behave,
    Observe(Fatal),
    Victims(Fatal),
    /// Names slots that no shard has.
    Unknown,
    /// Names its oldest resident again and again.
    Duplicate,
    /// Names everything there is.
    Everything,
    /// Names very many slots, most of which are not there.
    Endless,
    /// Names nothing.
    Nothing,
    /// Names the newest first, that is, lets nobody in.
    Newest,
    /// Traps unless it was told of `at_least` inserts before it is first asked.
    Told,
}

impl Eviction for Rogue {
    fn configure(params: &Params, _: Limits) -> Result<Self, String> {
        let mode = match mode(params)? {
            "behave" => Mode::Behave,
            "unknown" => Mode::Unknown,
            "duplicate" => Mode::Duplicate,
            "everything" => Mode::Everything,
            "endless" => Mode::Endless,
            "nothing" => Mode::Nothing,
            "newest" => Mode::Newest,
            "told" => Mode::Told,
            other => {
                let call = other.split_once('-').and_then(|(fatal, call)| {
                    let fatal = Fatal::parse(fatal)?;
                    match call {
                        "observe" => Some(Mode::Observe(fatal)),
                        "victims" => Some(Mode::Victims(fatal)),
                        _ => None,
                    }
                });
                call.ok_or_else(|| format!("mode: there is no mode {other:?}"))?
            }
        };
        let at_least = params.u64("at_least")?.unwrap_or_default();
        Ok(Self {
            mode,
            residents: VecDeque::new(),
            told: 0,
            at_least,
        })
    }

    fn now(&mut self, _: u64) {
        if let Mode::Observe(fatal) = self.mode {
            misbehave(fatal);
        }
    }

    fn hit(&mut self, _: u32) {}

    fn insert(&mut self, insert: Insert) {
        self.told += 1;
        self.remove(insert.slot);
        self.residents.push_back((insert.slot, insert.size_bytes));
    }

    fn remove(&mut self, slot: u32) {
        if let Some(at) = self
            .residents
            .iter()
            .position(|(resident, _)| *resident == slot)
        {
            self.residents.remove(at);
        }
    }

    fn victims(&mut self, victims: &mut Victims) {
        match self.mode {
            Mode::Victims(fatal) => misbehave(fatal),
            Mode::Unknown => (0..64).for_each(|each| victims.name(u32::MAX - each, 1)),
            Mode::Duplicate => {
                if let Some((slot, _)) = self.residents.front() {
                    (0..64).for_each(|_| victims.name(*slot, 1));
                }
                self.residents.pop_front();
            }
            Mode::Everything => {
                self.residents
                    .drain(..)
                    .for_each(|(slot, size)| victims.name(slot, size));
            }
            Mode::Endless => (0..100_000).for_each(|slot| victims.name(slot, 1)),
            Mode::Nothing => {}
            Mode::Newest => self.name(victims, VecDeque::pop_back),
            Mode::Told if self.told < self.at_least => misbehave(Fatal::Trap),
            Mode::Behave | Mode::Observe(_) | Mode::Told => {
                self.name(victims, VecDeque::pop_front);
            }
        }
    }
}

impl Rogue {
    fn name(
        &mut self,
        victims: &mut Victims,
        mut next: impl FnMut(&mut VecDeque<(u32, u64)>) -> Option<(u32, u64)>,
    ) {
        while victims.missing_bytes() > 0 {
            let Some((slot, size)) = next(&mut self.residents) else {
                break;
            };
            victims.name(slot, size);
        }
    }
}

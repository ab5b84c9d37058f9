//! A policy for every hook that misbehaves in the way its parameter `mode` names.
//!
//! Test fixture. One component serves all cases, so that the tests compile it once. Without
//! parameters every hook behaves; what is common to the hooks is in [`misbehave`].

mod eviction;
mod freshness;
mod keying;

use larder_guest::Params;

larder_guest::keying!(keying::Rogue);
larder_guest::freshness!(freshness::Rogue);
larder_guest::eviction!(eviction::Rogue);

/// Ways not to return that every hook knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fatal {
    Trap,
    Loop,
    Recurse,
    Allocate,
}

impl Fatal {
    fn parse(mode: &str) -> Option<Self> {
        Some(match mode {
            "trap" => Self::Trap,
            "loop" => Self::Loop,
            "recurse" => Self::Recurse,
            "allocate" => Self::Allocate,
            _ => return None,
        })
    }
}

/// The parameter `mode`; `behave` without one.
pub(crate) fn mode(params: &Params) -> Result<&str, String> {
    Ok(params.string("mode")?.unwrap_or("behave"))
}

/// Does what `fatal` says; in Wasm it does not come back.
pub(crate) fn misbehave(fatal: Fatal) {
    match fatal {
        Fatal::Trap => panic!("as the parameters ask"),
        Fatal::Loop => spin(),
        Fatal::Recurse => drop(std::hint::black_box(descend(1))),
        Fatal::Allocate => hoard(),
    }
}

fn spin() {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

/// Needs stack at every level, and cannot become a loop.
fn descend(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 16]);
    if frame.contains(&0) {
        return 0;
    }
    let deeper = descend(std::hint::black_box(depth.wrapping_add(1)));
    frame.iter().fold(deeper, |sum, each| sum ^ each)
}

/// Keeps taking memory until there is none, which ends the instance.
fn hoard() {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    loop {
        kept.push(std::hint::black_box(vec![1; 64 << 10]));
    }
}

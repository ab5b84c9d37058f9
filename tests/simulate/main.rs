//! Simulation, black box: the program replays traces that the tests made, and its results are
//! compared with what a plain cache written here does.

#![expect(
    clippy::indexing_slicing,
    reason = "an answer without what is looked for fails the test"
)]

#[path = "../policies/fixtures.rs"]
#[expect(dead_code, reason = "simulations need one of them")]
mod fixtures;
#[path = "../support.rs"]
mod support;
#[path = "../policies/text.rs"]
#[expect(dead_code, reason = "the fixtures need it")]
mod text;

mod arguments;
mod footprint;
mod formats;
mod interrupt;
mod outcome;
mod plain;
mod published;
mod recording;
mod reference;
mod rig;
mod rogue;

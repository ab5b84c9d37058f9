//! Black-box tests of policies: the real program, real components, real sockets.
//!
//! Most cases run the fixture `tests/guests/rogue`, which misbehaves as its parameters say, so
//! that one component, compiled once, serves them all.

#![expect(
    clippy::indexing_slicing,
    reason = "an answer without what is looked for fails the test"
)]

#[path = "../support.rs"]
mod support;

mod admin;
mod bombs;
mod eviction;
mod faults;
mod fixtures;
mod floor;
mod life;
mod load;
mod site;
mod swap;
mod text;
mod tools;
mod upload;

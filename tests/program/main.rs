//! Programs: a component compiled to Wasm drives every call of interface `tiers` over the memory
//! tier, and the limits of a run hold.
//!
//! The fixture `tiers-driver` does what a script says and answers with a transcript; every line of
//! it is checked here against what the interface promises.

mod driver;
mod limits;
mod rig;
mod tiers;

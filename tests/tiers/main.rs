//! The tiers below memory as clients and operators meet them: what outlasts a restart, what a purge
//! reaches, what fails and what then still works.

#![expect(
    clippy::indexing_slicing,
    reason = "a test that is wrong about its own data is to fail"
)]

#[path = "../support.rs"]
mod support;

mod below;
mod crash;
mod damage;
mod fill;
mod inject;
mod large;
mod outlast;
mod purge;
mod receipts;
mod stored;
mod told;
mod world;
mod write_policy;

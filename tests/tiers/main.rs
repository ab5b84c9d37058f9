//! The tiers below memory as clients and operators meet them: what outlasts a restart, what a purge
//! reaches, what fails and what then still works.

#![expect(
    clippy::indexing_slicing,
    reason = "a test that is wrong about its own data is to fail"
)]

#[path = "../support.rs"]
mod support;

mod below;
mod chain_model;
mod crash;
mod damage;
mod device;
mod fill;
mod inject;
mod large;
mod outlast;
mod power;
mod purge;
mod receipts;
mod replay;
mod scenarios;
mod stored;
mod times;
mod told;
mod truth;
mod world;
mod write_policy;

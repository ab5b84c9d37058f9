//! The tiers below memory as clients and operators meet them: what outlasts a restart, what a purge
//! reaches, what fails and what then still works.

#[path = "../support.rs"]
mod support;

mod below;
mod fill;
mod large;
mod outlast;
mod purge;
mod receipts;
mod stored;
mod told;
mod write_policy;

//! Tests of the object-store tier against stores that really run: memory, a directory, and an S3
//! service behind a proxy that can misbehave.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that is wrong about its own data is to fail"
)]

#[path = "../support.rs"]
mod support;

#[path = "../tiers/truth.rs"]
mod truth;
#[path = "../tiers/world.rs"]
mod world;

mod directory;
mod edge;
mod faults;
mod kinds;
mod moto;
mod prefix;
mod proxy;
mod requests;
mod served;
mod times;

//! Tests of the object-store tier against stores that really run: memory, a directory, and an S3
//! service behind a proxy that can misbehave.

#[path = "../support.rs"]
mod support;

mod edge;
mod kinds;
mod moto;

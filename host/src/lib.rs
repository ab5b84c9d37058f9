//! Larder, a programmable edge cache.
pub mod admin;
pub mod cache;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod control;
pub mod demo;
pub mod embedded;
pub mod entry;
pub mod front;
pub mod metrics;
pub mod policy;
pub mod rfc9111;
pub mod server;
pub mod tasks;
pub mod tier;

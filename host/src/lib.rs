//! Larder, a programmable edge cache: an HTTP reverse proxy whose users decide, in sandboxed
//! WebAssembly, what requests share, how long responses live, and what leaves a full tier.
//!
//! # One request
//!
//! ```text
//! client ──> front::protocol      TLS, then front::h1 or front::h2: bytes watched, deadlines kept
//!            front::exchange     whose request it is
//!              policy::keying    the guest names what it shares       (every request)
//!              cache::lookup     memory tier; variants by Vary
//!                fresh  ──>      front::answer: 200, 206, 304          no wait, no copy of content
//!                else   ──>      front::below: disk, object store; a hit there fills memory
//!                else   ──>      front::fetch: join or start the one flight for the key
//!                                  front::ask       the whole, or a range by itself
//!                                  cache::hydration  wait for its turn
//!                                  front::fill      ask the origin, decide, carry, store
//!                                    policy::freshness  the guest amends RFC 9111  (every store)
//!                                  cache::flight    bytes to every waiter as they arrive
//!                pass   ──>      front::pass: to the origin and back, nothing stored
//!            tier::memory        events ──> eviction thread ──> policy::evictor names victims
//!            tier::disk          queue ──> log of segments; index ──> reader threads
//!            tier::object        queue ──> uploads; lookups with deadline, breaker, hedge
//! ```
//!
//! # Floors
//!
//! A module imports from floors below its own, and a test reads every `use` to see to it.
//!
//! | floor | modules |
//! |---|---|
//! | 7 | `main` |
//! | 6 | [`cli`] |
//! | 5 | [`server`] owns every part and every thread; [`demo`] runs one |
//! | 4 | [`front`] answers clients; [`control`] is what an operator can do, [`admin`] that over HTTP; [`program`] runs components off the request path; [`simulate`] replays traces |
//! | 3 | [`policy`] keeps, loads and calls guests; [`cache`] finds, stores, joins and purges; [`client`] calls an admin API |
//! | 2 | [`tier`] holds entries within a budget; [`config`] is what an operator can set |
//! | 1 | [`rfc9111`] the rules of HTTP caching, pure; [`entry`], [`metrics`], [`tasks`], [`clock`], [`embedded`], `little_endian`, `sync` |
//!
//! # What holds everywhere
//!
//! - [`cache`] never imports [`policy`]: guests order a tier through a trait the tier owns.
//! - A policy cannot fail a request. Every call answers within its limits or is a counted fault,
//!   and the native rule answers.
//! - A policy cannot cross the floor: `front::storing` amends the native verdict, never what it
//!   forbids; keys are composed by the host.
//! - What runs for a hit takes no lock but its stripe's, waits for nothing, and copies no content.
//! - Budgets are acquired before anything becomes resident.
//! - What lies below memory is verified before it is used, and asked against every purge since it
//!   was fetched (`cache::purges`), which are on disk before they are acknowledged.
//! - Only `clock` reads the time and only `tasks` spawns.

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
mod little_endian;
pub mod metrics;
pub mod policy;
pub mod program;
pub mod rfc9111;
pub mod server;
pub mod simulate;
mod sync;
pub mod tasks;
pub mod tier;

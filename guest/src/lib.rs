//! Write Larder policies in Rust.
//!
//! A policy is a type that implements a hook's trait, and a macro that exports it. This one keeps
//! a stored response for each language and ignores the query:
//!
//! ```
//! use larder_guest::keying::{Request, Verdict};
//! use larder_guest::{Keying, Params};
//!
//! pub struct ByLanguage { default: String }
//!
//! impl Keying for ByLanguage {
//!     fn configure(params: &Params) -> Result<Self, String> {
//!         Ok(Self { default: params.string("default")?.unwrap_or("en").to_owned() })
//!     }
//!     fn fields(&self) -> Vec<&str> {
//!         vec!["accept-language"]
//!     }
//!     fn key(&self, request: Request<'_>) -> Verdict {
//!         let language = request.field(0).and_then(|field| field.get(..2)).unwrap_or(&self.default);
//!         Verdict::Key { target: Some(request.path().to_owned()), variant: language.to_lowercase() }
//!     }
//! }
//!
//! larder_guest::keying!(ByLanguage);
//!
//! let policy = larder_guest::testing::KeyingPolicy::<ByLanguage>::new("{}").unwrap();
//! let verdict = policy.key("GET /news?page=2\naccept-language: fr-CH, en;q=0.5");
//! assert_eq!(verdict, Verdict::Key { target: Some("/news".to_owned()), variant: "fr".to_owned() });
//! ```
//!
//! The last three lines belong in a unit test; see [`testing`]. The crate is a library with
//! `crate-type = ["cdylib", "rlib"]`. Built for `wasm32-unknown-unknown` with the linker
//! `wasm-component-ld`, which `rustup` installs with the compiler, it is a component ready to be
//! pushed:
//!
//! ```text
//! CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-component-ld \
//!     cargo build --release --target wasm32-unknown-unknown
//! ```
//!
//! # The hooks
//!
//! | trait | macro | decides |
//! |---|---|---|
//! | [`Keying`] | [`keying!`] | which requests share a stored response |
//! | [`Freshness`] | [`freshness!`] | how long a response may be answered from the cache |
//! | [`Eviction`] | [`eviction!`] | which entries leave a full memory tier |
//!
//! An eviction policy may implement [`Reinsertion`] too, and export it with [`reinsertion!`]: it then
//! decides which entries a disk tier keeps when it reclaims a segment.
//!
//! One crate may export several hooks, each once. What the host promises and expects is written in
//! the WIT files of the package `larder:policy`; this crate adds types to it and nothing else.
//!
//! The feature `allocator`, on by default, makes its allocator the one of the component: small calls
//! take four tenths fewer instructions with it. A crate that brings its own turns it off.
//!
//! A panic is a trap: the host answers by its own rule, counts a fault and makes a new instance.
//! A policy has no clock, no randomness and no way out; the time is an argument where it matters.

extern crate self as larder_guest;

#[cfg(any(
    test,
    all(
        target_arch = "wasm32",
        feature = "allocator",
        not(target_feature = "atomics")
    )
))]
mod allocator;
pub mod bindings;
pub mod eviction;
pub mod freshness;
pub mod keying;
pub mod params;
pub mod reinsertion;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[doc(hidden)]
pub use wit_bindgen;

pub use eviction::Eviction;
pub use freshness::Freshness;
pub use keying::Keying;
pub use params::Params;
pub use reinsertion::Reinsertion;

#[cfg(all(
    target_arch = "wasm32",
    feature = "allocator",
    not(target_feature = "atomics")
))]
#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator::new();

//! Write Larder policies in Rust.

extern crate self as larder_guest;

pub mod bindings;
pub mod eviction;
pub mod freshness;
pub mod keying;
pub mod params;

#[doc(hidden)]
pub use wit_bindgen;

pub use eviction::Eviction;
pub use freshness::Freshness;
pub use keying::Keying;
pub use params::Params;

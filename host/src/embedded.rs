//! What the binary carries: the shipped policies as components, and the sources for new ones.

/// A policy built into the binary.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// Its name.
    pub name: &'static str,
    /// The component.
    pub wasm: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

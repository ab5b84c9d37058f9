//! The Rust side of the world of eviction alone.
#![expect(
    missing_docs,
    clippy::pedantic,
    reason = "generated; the prose is in the WIT files"
)]

wit_bindgen::generate!({
    path: "../../../wit/policy",
    world: "eviction-policy",
    pub_export_macro: true,
});

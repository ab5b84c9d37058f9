//! The Rust side of the interfaces in `wit/policy`, one generated module a hook, and nothing else.
//!
//! Policies do not use these types: the traits of this crate hand out typed views of them. They
//! are public because the export macros expand in the policy's own crate. There is one module a
//! hook, not one for all, because a component exports every interface of the world it was made
//! from; with a world each, a policy exports exactly the hooks whose macro it uses.

#![expect(
    missing_docs,
    clippy::pedantic,
    reason = "generated; the prose is in the WIT files"
)]

/// `larder:policy/keying`.
pub mod keying {
    wit_bindgen::generate!({
        path: "../wit/policy",
        world: "keying-policy",
        pub_export_macro: true,
        export_macro_name: "export_keying",
        default_bindings_module: "larder_guest::bindings::keying",
        runtime_path: "larder_guest::wit_bindgen::rt",
    });
}

/// `larder:policy/eviction`, `larder:policy/room` and `larder:policy/newcomer`.
pub mod eviction {
    wit_bindgen::generate!({
        path: "../wit/policy",
        world: "eviction-in-few-calls-policy",
        pub_export_macro: true,
        export_macro_name: "export_eviction",
        default_bindings_module: "larder_guest::bindings::eviction",
        runtime_path: "larder_guest::wit_bindgen::rt",
    });
}

/// `larder:policy/freshness`.
pub mod freshness {
    wit_bindgen::generate!({
        path: "../wit/policy",
        world: "freshness-policy",
        pub_export_macro: true,
        export_macro_name: "export_freshness",
        default_bindings_module: "larder_guest::bindings::freshness",
        runtime_path: "larder_guest::wit_bindgen::rt",
    });
}

/// `larder:policy/reinsertion`.
pub mod reinsertion {
    wit_bindgen::generate!({
        path: "../wit/policy",
        world: "reinsertion-policy",
        pub_export_macro: true,
        export_macro_name: "export_reinsertion",
        default_bindings_module: "larder_guest::bindings::reinsertion",
        runtime_path: "larder_guest::wit_bindgen::rt",
    });
}

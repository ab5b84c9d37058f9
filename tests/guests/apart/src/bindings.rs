//! The world of eviction alone, generated from `wit/policy`, and nothing else.

#![expect(clippy::pedantic, reason = "generated; the prose is in the WIT files")]

wit_bindgen::generate!({
    path: "../../../wit/policy",
    world: "eviction-policy",
});

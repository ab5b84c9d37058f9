//! The world of eviction in few calls, generated from `wit/policy`, and nothing else.

#![expect(clippy::pedantic, reason = "generated; the prose is in the WIT files")]

wit_bindgen::generate!({
    path: "../../../wit/policy",
    world: "eviction-in-few-calls-policy",
});

//! The world of programs, generated from `wit/cache`, and nothing else.

#![expect(clippy::pedantic, reason = "generated; the prose is in the WIT files")]

wit_bindgen::generate!({
    path: "../../../wit/cache",
    world: "program",
});

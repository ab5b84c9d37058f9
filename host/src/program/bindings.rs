//! The world of programs as Rust types, generated from `wit/cache`, and nothing else.

wasmtime::component::bindgen!({
    path: "../wit/cache",
    world: "program",
});

pub(super) use self::larder::cache::tiers;

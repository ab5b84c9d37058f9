//! The one wasmtime engine: compile settings, the instance pool and the epoch ticker.
//!
//! Every limit that a guest could abuse is set here or in the store of its instance. An engine
//! with the same [`compile_config`] in another process makes artefacts this one can load.

use std::time::Duration;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

/// How often the epoch advances. Deadlines are counted in these.
pub const TICK: Duration = Duration::from_millis(1);

/// Bytes of stack a guest may use. Deep recursion traps in well under a millisecond.
const STACK_BYTES: usize = 256 << 10;

/// Instances of all policies, hooks, workers and shards together.
const INSTANCES: u32 = 1_000;

/// Upper bound of one instance's memory; the limit that counts is in its store.
const MEMORY_BYTES: usize = 1 << 30;

/// The settings that decide what compiled code looks like, with instances allocated on demand.
pub fn compile_config() -> Config {
    let mut config = Config::new();
    config.cranelift_opt_level(OptLevel::Speed);
    config.epoch_interruption(true);
    config.max_wasm_stack(STACK_BYTES);
    // What no policy needs is off: most escapes found in past years needed one of these.
    config.wasm_relaxed_simd(false);
    config.wasm_simd(false);
    config.wasm_memory64(false);
    config.wasm_multi_memory(false);
    config.wasm_tail_call(false);
    config
}

/// Makes the engine that runs policies, and its ticker, which ends when the engine is dropped.
///
/// # Errors
/// The address space for the instance pool could not be reserved, or no thread could be made.
pub fn engine() -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES)
        .total_core_instances(INSTANCES * 2)
        .total_memories(INSTANCES)
        .total_tables(INSTANCES * 2)
        .max_core_instances_per_component(8)
        .max_memories_per_component(1)
        .max_tables_per_component(4)
        .max_memory_size(MEMORY_BYTES)
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(4 << 10);
    let mut config = compile_config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&config)?;
    tick(&engine)?;
    Ok(engine)
}

fn tick(engine: &Engine) -> wasmtime::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new()
        .name("larder-epoch".to_owned())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    /// With concurrency support compiled in, every call costs three times as much. It comes back
    /// by feature unification as soon as any dependency asks for wasmtime's default features.
    #[test]
    fn component_model_async_is_not_compiled_in() {
        let tree = std::process::Command::new(env!("CARGO"))
            .args([
                "tree",
                "--offline",
                "--locked",
                "-p",
                "wasmtime",
                "-e",
                "features",
                "-i",
                "wasmtime",
            ])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .output()
            .expect("cargo runs");
        let text = String::from_utf8_lossy(&tree.stdout);
        assert!(
            tree.status.success(),
            "{}",
            String::from_utf8_lossy(&tree.stderr)
        );
        assert!(
            text.contains("wasmtime feature \"component-model\""),
            "{text}"
        );
        assert!(!text.contains("component-model-async"), "{text}");
        assert!(!text.contains("wasmtime feature \"async\""), "{text}");
    }
}

//! How a model is tried.
//!
//! A small one is run in every order there is ([`every`]), a larger one in so many ([`many`]): at
//! random, and with few changes of thread at the worst places (PCT). The seed is fixed, so that a run
//! finds what the one before did; `LARDER_MODEL_ROUNDS` multiplies the orders and draws another.
//! A failure is printed with its order, for `shuttle::replay`.

use std::hash::{BuildHasher, RandomState};

use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};

/// Where the orders begin.
const SEED: u64 = 0x1a2d_e21a;
/// Changes of thread that it takes to find something, with PCT.
const DEPTHS: [usize; 2] = [2, 3];

fn run(scheduler: impl Scheduler + 'static, model: impl Fn() + Send + Sync + 'static) {
    // Deadlines are set, and never pass.
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    let mut config = Config::new();
    // What is built without optimising needs more than a model commonly does.
    config.stack_size = 512 << 10;
    // Of orderings: see `crate::sync`.
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(model);
}

/// Tries `model` in every order.
pub fn every(model: impl Fn() + Send + Sync + 'static) {
    run(DfsScheduler::new(None, false), model);
}

/// Tries `model` in so many `orders`.
pub fn many(orders: usize, model: impl Fn() + Clone + Send + Sync + 'static) {
    let rounds = std::env::var("LARDER_MODEL_ROUNDS").ok();
    let rounds: Option<usize> = rounds.and_then(|rounds| rounds.parse().ok());
    let third = (orders / 3).saturating_mul(rounds.unwrap_or(1)).max(1);
    let seed = rounds.map_or(SEED, |_| RandomState::new().hash_one(SEED));
    run(RandomScheduler::new_from_seed(seed, third), model.clone());
    for depth in DEPTHS {
        run(
            PctScheduler::new_from_seed(seed, depth, third),
            model.clone(),
        );
    }
}

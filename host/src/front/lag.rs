//! How late the timers of a worker are. What holds a worker up holds up all of its connections, and
//! shows here whatever it is: a call that blocks, a policy, a machine with too little time.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::metrics::Histogram;

/// How often it is measured.
const EVERY: Duration = Duration::from_millis(100);

/// Measures on this thread, for as long as it is polled. Timers go by the millisecond, so up to one
/// is no lag.
pub async fn watch(lag: &Histogram) {
    loop {
        let due = clock::instant() + EVERY;
        tokio::time::sleep_until(Instant::from_std(due)).await;
        lag.observe(clock::instant().saturating_duration_since(due));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_the_thread_up_is_seen() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().expect("a runtime");
        let lag = Histogram::default();
        let held_up = Duration::from_millis(300);
        runtime.block_on(async {
            let blocks = async {
                tokio::task::yield_now().await;
                let until = clock::instant() + EVERY + held_up;
                while clock::instant() < until {
                    std::hint::spin_loop();
                }
                // Lets the timer be looked at.
                tokio::task::yield_now().await;
            };
            tokio::select! {
                biased;
                () = watch(&lag) => {}
                () = blocks => {}
            }
        });
        assert_eq!(lag.count(), 1);
        assert!(lag.sum() >= held_up, "{:?}", lag.sum());
    }
}

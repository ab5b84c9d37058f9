//! Many at once: everything found is whole and right, and the budget holds at every moment.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::*;

/// Watches the directory while `work` runs. How often it looked.
fn watched(dir: &std::path::Path, tier: &DiskTier, most: u64, work: impl FnOnce()) -> u64 {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(SeqCst) {
                let (occupied, usage) = (occupied(dir), tier.usage());
                assert!(occupied <= most, "{occupied} of {most}");
                assert!(usage.bytes <= usage.capacity, "{usage:?}");
                looks += 1;
            }
            looks
        });
        work();
        done.store(true, SeqCst);
        looking.join().unwrap()
    })
}

#[test]
fn gets_puts_and_removals_from_everywhere_find_what_was_put_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let capacity = 10 * MIB;
    let tier = open(dir.path(), capacity);
    let looks = watched(dir.path(), &tier, capacity, || {
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let tier = &tier;
                scope.spawn(move || run(storm(tier, thread)));
            }
        });
    });
    assert!(looks > 5);
    assert_eq!(tier.stats().corrupt.get(), 0, "nothing was ever torn");
    assert!(tier.stats().reclaimed.get() > 3);
    tier.stop();
}

/// Each number is put under one key only: what is found tells whether it belongs there.
async fn storm(tier: &DiskTier, thread: u64) {
    let mut random = Random(thread);
    for round in 0..250 {
        let which = random.below(30);
        let key = format!("key {which}");
        let number = (thread * 1_000 + round) * 100 + which;
        match random.below(10) {
            0..4 => {
                let length = match random.below(8) {
                    0 => 500_000,
                    _ => short(random.below(40_000)),
                };
                tier.put(&large(&key, number, length), BORN).await;
            }
            4 => tier.remove(view(&key)),
            5 => tier.settle().await,
            _ => {
                if let Ok(Some((found, _))) = tier.read(&key).await {
                    assert_eq!(found % 100, which);
                }
            }
        }
    }
}

#[test]
fn far_more_than_fits_never_takes_more_than_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let capacity = 10 * MIB;
    let tier = open(dir.path(), capacity);
    watched(dir.path(), &tier, capacity, || {
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let tier = &tier;
                scope.spawn(move || {
                    run(async {
                        for number in thread * 64..thread * 64 + 64 {
                            let key = format!("{number}");
                            tier.put(&large(&key, number, 1 << 20), BORN).await;
                        }
                    });
                });
            }
        });
        run(tier.settle());
    });
    let entries = tier.usage().entries;
    assert!((4..10).contains(&entries), "{entries}");
    tier.stop();
}
